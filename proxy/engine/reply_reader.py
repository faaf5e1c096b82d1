"""A backend's bytes, cut into replies, each given to the sink that waits for it."""

import sys
from collections.abc import Callable

from proxy.engine.entry import Entry
from proxy.engine.inflight import InFlight
from proxy.engine.sink import DISCARD
from proxy.metrics import Counters
from proxy.resp.replies import BadReply, ReplyFramer, short_end

_ERROR = 45
_PUSH = 62
_LONG = frozenset(b"$=*~%")
"""What may be long: bulk and verbatim strings, arrays, sets and maps. An error is looked at whole."""

STREAM_FROM = 64 * 1024
"""A reply of which more bytes than this have come, or are known to be still to come, is taken in pieces."""


class ReplyReader:
    """Reads what one backend connection sends: ``feed`` delivers every whole reply to the oldest written request.

    What is cut is kept and completed without looking at a byte twice. A long reply is never one piece of memory: its
    pieces are passed on to a sink that takes them, else kept as they came until the sink does, or until all are there.
    ``on_error`` is called with each error that answers a written request; if it returns True it has taken the oldest
    request, and the error with it. ``on_push`` gets what the server says unasked (RESP3); None drops it.

    At most ``most`` bytes are kept of what somebody waits for. ``on_large`` says what to answer to the request in whose
    reply there is more; the rest of that reply is dropped.
    """

    __slots__ = (
        "_counters",
        "_framer",
        "_inflight",
        "_kept",
        "_long",
        "_most",
        "_on_error",
        "_on_large",
        "_on_push",
        "_pieces",
        "_size",
        "_stream",
        "_tail",
    )

    def __init__(
        self,
        inflight: InFlight,
        counters: Counters,
        on_error: Callable[[bytes], bool],
        on_push: Callable[[bytes], None] | None = None,
        most: int = sys.maxsize,
        on_large: Callable[[Entry], bytes] = lambda entry: b"",
    ) -> None:
        self._inflight = inflight
        self._counters = counters
        self._on_error = on_error
        self._on_push = on_push
        self._most = most
        self._on_large = on_large
        self._framer = ReplyFramer()
        self._kept: bytearray | None = None
        self._long = False
        """Whether a long reply has begun."""
        self._stream: Entry | None = None
        """The request whose long reply is passed on."""
        self._pieces: list[bytes] = []
        """Those of a long reply that are kept; its request is the oldest that is in flight."""
        self._size = 0
        """Bytes of the long reply that have come."""
        self._tail = b""
        """The beginning of a value that is not understood yet: it comes before the next piece."""

    @property
    def streaming(self) -> bool:
        """Whether a reply has been passed on in part."""
        return self._stream is not None

    @property
    def taken(self) -> int:
        """How many bytes have come of the long reply that is being taken; 0 if there is none."""
        return self._size if self._long else 0

    @property
    def known(self) -> int:
        """The same with those that are known to be still to come: all of the value that is cut, and the least that
        those behind it can have."""
        return self._size + self._framer.ahead if self._long else 0

    @property
    def owner(self) -> object | None:
        """Whose reply is being passed on in pieces."""
        return None if self._stream is None or self._stream.sink is DISCARD else self._stream.sink.owner

    @property
    def request(self) -> bytes:
        """The request whose long reply is being taken."""
        return (self._inflight.peek() if self._stream is None else self._stream).frame

    def holds_back(self, resume: Callable[[], object]) -> bool:
        """Whether a reply is passed on in pieces to a reader that is behind; then ``resume`` is called some time."""
        return self._stream is not None and self._stream.sink.holds_back(resume)

    def reset(self) -> None:
        """The connection is gone: forget what is cut; a reply that was passed on in part is broken off."""
        stream, self._stream = self._stream, None
        self._kept = None
        self._long = False
        self._pieces = []
        self._tail = b""
        self._framer.reset()
        if stream is not None:
            stream.sink.abort_stream(stream.token)

    def feed(self, data: bytes, now: float) -> None:
        """Take the next bytes, which came at ``now``. Raises ``BadReply`` if they are no replies to what was sent."""
        if self._long:
            data = self._go_on(self._tail + data if self._tail else data, now)
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
                    self._keep(data, pos, now)
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

    def _keep(self, data: bytes, pos: int, now: float) -> None:
        """Take the beginning of a reply."""
        if self._is_long(data[pos], len(data) - pos):
            self._size = 0
            self._go_on(data[pos:], now)
        else:
            self._kept = bytearray(memoryview(data)[pos:])

    def _is_long(self, kind: int, got: int) -> bool:
        """Whether a reply of which ``got`` bytes are there, and that is not whole, is taken in pieces."""
        return (
            (got > STREAM_FROM or self._framer.need - got > STREAM_FROM)
            and kind in _LONG
            and self._inflight.written > 0
        )

    def _complete(self, kept: bytearray, data: bytes, now: float) -> bytes:
        """Add ``data`` to the reply that was begun; what is to be read on (nothing while it is not whole)."""
        kept += data
        end = self._framer.frame(kept, 0) if len(kept) >= self._framer.need else -1
        if end < 0:
            if self._is_long(kept[0], len(kept)):
                self._kept = None
                self._size = 0
                self._go_on(bytes(kept), now)
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

    def _go_on(self, data: bytes, now: float) -> bytes:
        """Take the next piece of a long reply; what is behind its end."""
        framer = self._framer
        end = framer.through(data, 0)
        whole = framer.whole
        piece = data if end == len(data) else data[:end]
        self._tail = b"" if whole else data[end:]
        self._long = not whole
        self._size += end
        if self._stream is None:
            self._pass_on_kept()
        if self._stream is None:
            if piece:
                self._pieces.append(piece)
            self._look_at_kept(whole, now)
        elif whole:
            entry, self._stream = self._stream, None
            self._counters.observe(now - entry.since, 1)
            entry.sink.stream(entry.token, piece, last=True)
        elif piece:
            self._stream.sink.stream(self._stream.token, piece, last=False)
        return data[end:] if whole else b""

    def _pass_on_kept(self) -> None:
        """Pass on what is kept, if its turn has come."""
        entry = self._inflight.peek()
        if not entry.sink.accepts_stream(entry.token):
            return
        self._inflight.pop()
        self._stream = entry
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            entry.sink.stream(entry.token, piece, last=False)

    def _look_at_kept(self, whole: bool, now: float) -> None:
        """See that what is kept is not too much; deliver it if it is ``whole``."""
        entry = self._inflight.peek()
        if entry.sink.kept(entry.token, self._size) > self._most:
            self._drop(entry, whole)
        elif whole:
            pieces, self._pieces = self._pieces, []
            self._inflight.pop()
            self._counters.observe(now - entry.since, 1)
            entry.sink.deliver_pieces(entry.token, pieces)

    def _drop(self, entry: Entry, whole: bool) -> None:
        """Answer ``entry`` without its reply, which is too large; what is still to come of that is dropped."""
        self._pieces = []
        self._inflight.pop()
        if not whole:
            self._stream = Entry(DISCARD, 0, b"", entry.since)
        error = self._on_large(entry)
        entry.sink.deliver(entry.token, error, 0, len(error))
