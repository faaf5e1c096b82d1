"""Pages of SCAN whose cursor does not fit into a client's: the shard is scanned further until one fits.

A client's cursor has 63 bits, some of which carry the shard's index (``proxy.planning.scan_cursor``). A server's cursor
may need more than the rest. A page may have any number of keys, so such a page is made longer instead of refused.
"""

from proxy import errors
from proxy.backends.routes import Routes
from proxy.engine.sink import ForwardingSink, Sink
from proxy.features.host import Host
from proxy.planning.scan_cursor import cursor_of
from proxy.planning.scatter import Scatter
from proxy.resp import encode
from proxy.resp.replies import BadReply, header
from proxy.resp.requests import split_request
from proxy.sharding.topology import Node

_LARGEST = 2**63 - 1
_HEADER = 32
"""The header of the array of keys has fewer bytes."""


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
        """The keys that arrived, as frames, of which one may go on in the next."""
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
        self.deliver_pieces(token, [data[start:end]])

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        """Take a long page of the shard. Its keys, of which there may be millions, are passed on as they came."""
        if pieces[0][:1] == b"-":
            self.forward(self._token, b"".join(pieces))
            return
        size = sum(map(len, pieces))
        try:
            cursor, at = cursor_of(pieces[0])
            inner = int(cursor[cursor.index(b"\n") + 1 : -2])
            _, count, begin = header(pieces[0][at : at + _HEADER])
        except (BadReply, ValueError):
            self._fail(encode.error(errors.NO_MERGE))
            return
        pieces[0] = pieces[0][at + begin :]
        self._add(pieces, count, size)
        if inner << int(self._plan.options[0]) <= _LARGEST or not self._goes_on():
            self._answer_with(self._client.service.dispatcher.merged(self._plan, _page_without_keys(cursor)))
            return
        if self._asked() != self._node:
            # A cursor is valid on one server only: the scan of this shard begins again.
            self._answer_with(_page_without_keys(encode.bulk(self._plan.options[1])))
            return
        name, _, *options = split_request(self._plan.parts[0].frame)
        self._send(encode.request((name, b"%d" % inner, *options)), self._client.service.turn.now())

    def _add(self, pieces: list[bytes], count: int, size: int) -> None:
        """Add ``count`` keys, whose frames are in ``pieces``; the page has ``size`` bytes."""
        self._keys += count
        self._size += size
        self._frames += pieces

    def _answer_with(self, page: bytes) -> None:
        """Answer with all keys that arrived, behind the cursor of ``page``, which has no keys; or with an error."""
        if page[:1] == b"-":
            self._fail(page)
            return
        frames, self._frames = self._frames, []
        frames[0] = b"%b*%d\r\n%b" % (page.removesuffix(encode.EMPTY_ARRAY), self._keys, frames[0])
        if len(frames) == 1:
            self.forward(self._token, frames[0])
        else:
            self.sink.deliver_pieces(self._token, frames)

    def _goes_on(self) -> bool:
        """Whether the time and the size allow another page."""
        service = self._client.service
        late = service.turn.now() - self._began > service.config.backend.request_timeout
        return not late and self._size <= service.config.limits.max_reply

    def _asked(self) -> Node | None:
        """The server that is being scanned."""
        backend = self._routes.writers[self._plan.parts[0].shard]
        return None if backend is None else backend.place.node

    def _send(self, frame: bytes, now: float) -> None:
        client = self._client
        shard = self._plan.parts[0].shard
        client.service.dispatcher.send(shard, False, frame, self._routes, client.flow, self, 0, now)

    def _fail(self, error: bytes) -> None:
        self._client.service.counters.command(self._plan.way.name).failed += self.sink.counted
        self.forward(self._token, error)


def _page_without_keys(cursor: bytes) -> bytes:
    return encode.array((cursor, encode.EMPTY_ARRAY))
