"""Pages of SCAN whose cursor does not fit into a client's: the shard is scanned further until one fits.

A client's cursor has 63 bits, some of which carry the shard's index (``proxy.planning.scan_cursor``). A server's cursor
may need more than the rest. A page may have any number of keys, so such a page is made longer instead of refused.
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
    """One page of SCAN for ``plan``; ``sink`` gets it under ``token``."""

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
        """The keys that arrived with cursors that did not fit, as frames."""
        self._size = 0
        self._node = self._asked()
        self._send(plan.parts[0].frame, now)

    def accepts_stream(self, token: int) -> bool:
        """The whole page is needed, as its cursor is changed."""
        return False

    def kept(self, token: int, size: int) -> int:
        """Report the bytes of this page together with those of the pages before."""
        return self.sink.kept(self._token, self._size + size)

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take a page of the shard."""
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
            # A cursor is valid on one server only: the scan of this shard begins again.
            reply = self._page(encode.bulk(self._plan.options[1]))
            self.forward(self._token, reply)
            return
        name, _, *options = split_request(self._plan.parts[0].frame)
        self._send(encode.request((name, b"%d" % inner, *options)), self._client.service.turn.now())

    def _add(self, keys: bytes, count: int, at: int) -> None:
        """Add ``count`` keys, whose frames begin at ``keys[at]``."""
        self._keys += count
        self._size += len(keys)
        self._frames.append(keys[at:])

    def _page(self, cursor: bytes) -> bytes:
        """The page with all keys that arrived, and the cursor of the next one."""
        return encode.array((cursor, b"*%d\r\n%b" % (self._keys, b"".join(self._frames))))

    def _goes_on(self, size: int) -> bool:
        """Whether the time and the size allow another page."""
        service = self._client.service
        late = service.turn.now() - self._began > service.config.backend.request_timeout
        return not late and self._size + size <= service.config.limits.max_reply

    def _asked(self) -> Node | None:
        """The server that is being scanned."""
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
