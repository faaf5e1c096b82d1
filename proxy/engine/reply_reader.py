"""Cuts a backend's bytes into replies, and delivers each to the sink that waits for it."""

import sys
from collections.abc import Callable

from proxy.engine.entry import Entry
from proxy.engine.inflight import InFlight
from proxy.engine.sink import DISCARD
from proxy.metrics import Counters
from proxy.resp.replies import BadReply, ReplyFramer, short_end

_ERROR = 45
_PUSH = 62
_LONG = frozenset(b"$=*~%+:,#_(")
"""The types of replies that are taken in pieces when they are long: all but errors, push messages and attributes."""

STREAM_FROM = 64 * 1024
"""The size in bytes above which a reply is taken in pieces, counting what has come and what is known to follow."""
ERROR_MOST = 1024 * 1024
"""The size in bytes above which an error is taken in pieces too, without being inspected: servers make none so long,
only scripts do."""
PUSH_MOST = 1024 * 1024 * 1024
"""The most bytes of a push message, which is kept whole: a server's limit is 512 MB (``proto-max-bulk-len``)."""


class ReplyReader:
    """Reads the bytes of one backend connection: ``feed`` delivers every whole reply to the oldest written request.

    A cut reply is kept and completed without reading a byte twice. A long reply is never joined in memory: its pieces
    are passed on to a sink that accepts a stream, else kept as they came until the sink does, or until the reply ends.
    ``on_error`` is called with each error that answers a written request; if it returns True it has popped the oldest
    request and dealt with the error. ``on_push`` gets the server's push messages (RESP3); None drops them.

    At most ``most`` bytes are kept for one client's request. ``on_large`` returns the answer to a request whose reply
    is larger; the rest of that reply is dropped.
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
        """The request whose long reply is being passed on."""
        self._pieces: list[bytes] = []
        """The kept pieces of a long reply, whose request is the oldest in flight."""
        self._size = 0
        """How many bytes of the long reply have come."""
        self._tail = b""
        """The beginning of a value whose header is cut: the next piece is read behind it."""

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
        """How many bytes the long reply that is being taken has at least, as far as is known; 0 if there is none.

        These are the bytes that have come, the rest of the value that is cut, and the least of the values behind it.
        """
        return self._size + self._framer.ahead if self._long else 0

    @property
    def owner(self) -> object | None:
        """The owner of the reply that is being passed on in pieces, or None."""
        return None if self._stream is None or self._stream.sink is DISCARD else self._stream.sink.owner

    @property
    def request(self) -> bytes:
        """The frame of the request whose long reply is being taken."""
        return (self._inflight.peek() if self._stream is None else self._stream).frame

    def holds_back(self, resume: Callable[[], object]) -> bool:
        """Whether a reply is passed on in pieces to a reader that is slow; then ``resume`` is called later, once."""
        return self._stream is not None and self._stream.sink.holds_back(resume)

    def reset(self) -> None:
        """Forget the cut reply of a closed connection, and abort the stream of one that was passed on in part."""
        stream, self._stream = self._stream, None
        self._kept = None
        self._long = False
        self._pieces = []
        self._tail = b""
        self._framer.reset()
        if stream is not None:
            stream.sink.abort_stream(stream.token)

    def feed(self, data: bytes, now: float) -> None:
        """Take the bytes that came at ``now``. Raises ``BadReply`` if they are not replies to written requests."""
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
        """Keep the beginning of a cut reply."""
        if self._is_long(data[pos], len(data) - pos):
            self._size = 0
            self._go_on(data[pos:], now)
        else:
            self._kept = bytearray(memoryview(data)[pos:])

    def _is_long(self, kind: int, got: int) -> bool:
        """Whether a cut reply of type ``kind``, of which ``got`` bytes have come, is taken in pieces."""
        return (
            (got > STREAM_FROM or self._framer.need - got > STREAM_FROM)
            and (kind in _LONG or (kind == _ERROR and got > min(ERROR_MOST, self._most)))
            and self._inflight.written > 0
        )

    def _complete(self, kept: bytearray, data: bytes, now: float) -> bytes:
        """Add ``data`` to the cut reply; return the bytes to read next: none while the reply is still cut."""
        kept += data
        end = self._framer.frame(kept, 0) if len(kept) >= self._framer.need else -1
        if end < 0:
            if self._is_long(kept[0], len(kept)):
                self._kept = None
                self._size = 0
                self._go_on(bytes(kept), now)
            elif len(kept) > PUSH_MOST:
                raise BadReply(f"a message of more than {PUSH_MOST} bytes")
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
        """Take the next piece of a long reply; return the bytes behind the reply's end."""
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
        """Pass on the kept pieces, if the sink accepts a stream now."""
        entry = self._inflight.peek()
        if not entry.sink.accepts_stream(entry.token):
            return
        self._inflight.pop()
        self._stream = entry
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            entry.sink.stream(entry.token, piece, last=False)

    def _look_at_kept(self, whole: bool, now: float) -> None:
        """Drop the kept pieces if they are too large; deliver them if the reply is ``whole``."""
        entry = self._inflight.peek()
        if entry.sink.kept(entry.token, self._size) > self._most:
            self._drop(entry, whole)
        elif whole:
            pieces, self._pieces = self._pieces, []
            self._inflight.pop()
            self._counters.observe(now - entry.since, 1)
            entry.sink.deliver_pieces(entry.token, pieces)

    def _drop(self, entry: Entry, whole: bool) -> None:
        """Answer ``entry`` with the error of ``on_large``; the rest of its reply, which is too large, is dropped."""
        self._pieces = []
        self._inflight.pop()
        if not whole:
            self._stream = Entry(DISCARD, 0, b"", entry.since)
        error = self._on_large(entry)
        entry.sink.deliver(entry.token, error, 0, len(error))
