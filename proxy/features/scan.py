"""SCAN's pages whose cursor does not fit into a client's: the shard is scanned on until one does.

A client's cursor has room for 63 bits, and carries the shard's index in some of them (``proxy.planning.scan_cursor``).
What a server says may need more than is left. A page may have any number of keys, so such a page is made longer instead
of refused.
"""

from proxy.backends.routes import Routes
from proxy.engine.sink import ForwardingSink, Sink
from proxy.features.host import Host
from proxy.planning.scan_cursor import page
from proxy.planning.scatter import Scatter
from proxy.resp import encode
from proxy.resp.replies import BadReply, header
from proxy.resp.requests import split_request
from proxy.sharding.topology import Node

_LARGEST = 2**63 - 1


class Page(ForwardingSink):
    """One page of SCAN, as ``plan`` says; ``sink`` gets it under ``token``."""

    __slots__ = ("_began", "_client", "_frames", "_keys", "_node", "_plan", "_routes", "_size", "_token")

    def __init__(self, client: Host, plan: Scatter, routes: Routes, sink: Sink, token: int, now: float) -> None:
        super().__init__(sink)
        self._client = client
        self._plan = plan
        self._routes = routes
        self._token = token
        self._began = now
        self._keys = 0
        self._frames: list[bytes] = []
        """Of the keys that came with cursors that did not fit."""
        self._size = 0
        self._node = self._asked()
        self._send(plan.parts[0].frame, now)

    def accepts_stream(self, token: int) -> bool:
        """No: its cursor is changed."""
        return False

    def kept(self, token: int, size: int) -> int:
        """With what came before."""
        return self.sink.kept(self._token, self._size + size)

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take a page of the shard's."""
        reply = data[start:end]
        if reply[:1] == b"-":
            self.forward(self._token, reply)
            return
        try:
            cursor, keys = page(reply)
            inner = int(cursor[cursor.index(b"\n") + 1 : -2])
            _, count, at = header(keys)
        except (BadReply, ValueError):
            self._answer(reply)
            return
        if inner << int(self._plan.options[0]) <= _LARGEST or not self._goes_on(len(keys)):
            if self._frames:
                self._add(keys, count, at)
                reply = self._page(cursor)
            self._answer(reply)
            return
        self._add(keys, count, at)
        if self._asked() != self._node:
            # A cursor is good on one server only: this shard starts again.
            reply = self._page(encode.bulk(self._plan.options[1]))
            self.forward(self._token, reply)
            return
        name, _, *options = split_request(self._plan.parts[0].frame)
        self._send(encode.request((name, b"%d" % inner, *options)), self._client.service.turn.now())

    def _add(self, keys: bytes, count: int, at: int) -> None:
        """``count`` more keys, whose frames begin at ``keys[at]``."""
        self._keys += count
        self._size += len(keys)
        self._frames.append(keys[at:])

    def _page(self, cursor: bytes) -> bytes:
        """All keys that came, and where it goes on."""
        return encode.array((cursor, b"*%d\r\n%b" % (self._keys, b"".join(self._frames))))

    def _goes_on(self, size: int) -> bool:
        """Whether there is time and room for more."""
        service = self._client.service
        late = service.turn.now() - self._began > service.config.backend.request_timeout
        return not late and self._size + size <= service.config.limits.max_reply

    def _asked(self) -> Node | None:
        """The server that the shard is scanned at now."""
        backend = self._routes.writers[self._plan.parts[0].shard]
        return None if backend is None else backend.place.node

    def _send(self, frame: bytes, now: float) -> None:
        client = self._client
        shard = self._plan.parts[0].shard
        client.service.dispatcher.send(shard, False, frame, self._routes, client.flow, self, 0, now)

    def _answer(self, reply: bytes) -> None:
        merged = self._client.service.dispatcher.merged(self._plan, reply)
        if merged[:1] == b"-":
            self._client.service.counters.command(self._plan.way.name).failed += self.sink.counted
        self.forward(self._token, merged)
