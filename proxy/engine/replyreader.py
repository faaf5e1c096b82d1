"""A backend's bytes, cut into replies, each given to the sink that waits for it."""

from collections.abc import Callable

from proxy.engine.entry import Entry
from proxy.engine.inflight import InFlight
from proxy.metrics import Counters
from proxy.resp.replies import BadReply, ReplyFramer, short_end

_ERROR = 45
_BULK = 36
_PUSH = 62

STREAM_FROM = 64 * 1024
"""A bulk reply of which more bytes than this are still to come is passed on in pieces, if its sink takes pieces."""


class ReplyReader:
    """Reads what one backend connection sends: ``feed`` delivers every whole reply to the oldest written request.

    What is cut is kept and completed without looking at a byte twice. ``on_error`` is called with each error that
    answers a written request; if it returns True it has taken the oldest request, and the error with it. ``on_push``
    gets what the server says unasked (RESP3); None drops it.
    """

    __slots__ = ("_counters", "_framer", "_inflight", "_kept", "_on_error", "_on_push", "_stream", "_stream_left")

    def __init__(
        self,
        inflight: InFlight,
        counters: Counters,
        on_error: Callable[[bytes], bool],
        on_push: Callable[[bytes], None] | None = None,
    ) -> None:
        self._inflight = inflight
        self._counters = counters
        self._on_error = on_error
        self._on_push = on_push
        self._framer = ReplyFramer()
        self._kept: bytearray | None = None
        self._stream: Entry | None = None
        self._stream_left = 0

    @property
    def streaming(self) -> bool:
        """Whether a reply has been passed on in part."""
        return self._stream is not None

    @property
    def owner(self) -> object | None:
        """Whose reply is being passed on in pieces."""
        return None if self._stream is None else self._stream.sink.owner

    def holds_back(self, resume: Callable[[], object]) -> bool:
        """Whether a reply is passed on in pieces to a reader that is behind; then ``resume`` is called some time."""
        return self._stream is not None and self._stream.sink.holds_back(resume)

    def reset(self) -> None:
        """The connection is gone: forget what is cut; a reply that was passed on in part is broken off."""
        stream, self._stream = self._stream, None
        self._kept = None
        self._framer.reset()
        if stream is not None:
            stream.sink.abort_stream(stream.token)

    def feed(self, data: bytes, now: float) -> None:
        """Take the next bytes, which came at ``now``. Raises ``BadReply`` if they are no replies to what was sent."""
        if self._stream is not None:
            data = self._pass_on(self._stream, data, now)
        elif self._kept is not None:
            data = self._complete(self._kept, data, now)
        inflight = self._inflight
        view = data
        size = len(data)
        pos = 0
        since = 0.0
        run = 0
        measure = self._counters.measure
        while pos < size:
            end = short_end(data, pos)
            if end < 0:
                end = self._framer.frame(data, pos)
                if end < 0:
                    self._keep(data, pos)
                    break
                kind = view[pos]
                if kind == _PUSH:
                    if self._on_push is not None:
                        self._on_push(view[pos:end])
                    pos = end
                    continue
                if kind == _ERROR and inflight.written and self._on_error(view[pos:end]):
                    pos = end
                    continue
            if not inflight.written:
                raise BadReply("a reply that nothing was asked for")
            came = inflight.answer(data, pos, end)
            if came == since:
                run += 1
            elif measure:
                if run:
                    self._counters.observe(now - since, run)
                since = came
                run = 1
            pos = end
        if run:
            self._counters.observe(now - since, run)

    def _keep(self, data: bytes, pos: int) -> None:
        """Keep the beginning of a reply, or pass it on at once if it is long and in its turn."""
        if self._may_stream(data[pos], len(data) - pos):
            self._begin_stream(data[pos:])
        else:
            self._kept = bytearray(memoryview(data)[pos:])

    def _may_stream(self, kind: int, got: int) -> bool:
        """Whether a reply of which ``got`` bytes are there is long, and its reader takes pieces now."""
        if kind != _BULK or self._framer.need - got <= STREAM_FROM or not self._inflight.written:
            return False
        entry = self._inflight.peek()
        return entry.sink.accepts_stream(entry.token)

    def _begin_stream(self, begun: bytes) -> None:
        entry = self._inflight.pop()
        self._stream = entry
        self._stream_left = self._framer.need - len(begun)
        self._framer.reset()
        entry.sink.stream(entry.token, begun, last=False)

    def _complete(self, kept: bytearray, data: bytes, now: float) -> bytes:
        """Add ``data`` to the reply that was begun; what is to be read on (nothing while it is not whole)."""
        kept += data
        end = self._framer.frame(kept, 0) if len(kept) >= self._framer.need else -1
        if end < 0:
            # Its header may be whole only now, or its turn may have come.
            if self._may_stream(kept[0], len(kept)):
                self._kept = None
                self._begin_stream(bytes(kept))
            return b""
        self._kept = None
        with memoryview(kept) as view:
            reply = bytes(view[:end])
            rest = bytes(view[end:])
        if reply[0] == _PUSH:
            if self._on_push is not None:
                self._on_push(reply)
        else:
            if not self._inflight.written:
                raise BadReply("a reply that nothing was asked for")
            if reply[0] == _ERROR and self._on_error(reply):
                return rest
            self._counters.observe(now - self._inflight.answer(reply, 0, end), 1)
        return rest

    def _pass_on(self, entry: Entry, data: bytes, now: float) -> bytes:
        """Pass the next piece of a long reply on; what is behind its end."""
        left = self._stream_left - len(data)
        if left > 0:
            self._stream_left = left
            entry.sink.stream(entry.token, data, last=False)
            return b""
        self._stream = None
        self._counters.observe(now - entry.since, 1)
        entry.sink.stream(entry.token, data[: self._stream_left], last=True)
        return data[self._stream_left :]
