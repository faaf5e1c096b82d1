"""Puts the replies of one client back into the order of its requests."""

from collections.abc import Callable

from proxy.engine.inflight import Transport
from proxy.engine.sink import Sink

LARGE = 4096
"""The size in bytes above which a reply is not copied, and counts in ``parked_bytes``. Smaller parked replies are not
counted, since the number of requests in flight is bounded."""


def _nobody() -> None:
    """Stand in for ``wake`` in a closed window."""


class ReplyWindow(Sink):
    """Writes the replies of one client in the order of its requests, whatever order they arrive in.

    Each request takes the next sequence number (``reserve``), the token of its reply. The reply in turn is appended to
    the output; an early one is parked until its turn. ``write_to`` writes the output. ``wake`` is called when the
    output is no longer empty, and when more than ``limit`` bytes are parked (``overflowing``).

    While ``direct`` is set, it writes a reply at once if no other request waits: for most clients, which send a
    request and wait, that is every reply. While ``gathers`` is set, more requests are about to be carried out, and
    their replies share a write.

    This version keeps parked replies in a dict; the twin in window.pyx keeps them in a ring and joins the output in C
    memory. The methods are the same.
    """

    __slots__ = (
        "_closed",
        "_keeping",
        "_late",
        "_late_bytes",
        "_limit",
        "_out",
        "_parked",
        "_resume",
        "_slow",
        "_streaming",
        "_wake",
        "direct",
        "gathers",
        "head",
        "issued",
        "on_halt",
        "parked_bytes",
        "pushed",
        "written",
    )

    def __init__(self, wake: Callable[[], object], limit: int) -> None:
        self._limit = limit
        self.head = 0
        self._out: list[bytes] = []
        self._parked: dict[int, bytes | list[bytes]] = {}
        self._wake = wake
        self._closed = False
        self._streaming = False
        self._keeping: dict[int, int] | None = None
        """The bytes that servers' connections keep of replies that are still arriving, by the token."""
        self._late: list[bytes] = []
        self._late_bytes = 0
        self._slow = False
        self._resume: Callable[[], object] | None = None
        self.parked_bytes = 0
        """Bytes of the large parked replies, and of the push messages that wait for the end of a stream."""
        self.direct: Callable[[bytes], None] | None = None
        self.gathers = False
        self.on_halt: Callable[[], object] | None = None
        """Called when no more requests are to be taken from the client until all that it has sent are answered."""
        self.written = 0
        """How many bytes were written."""
        self.pushed = 0
        """How many bytes of push messages were put into the output."""
        self.issued = 0
        """The sequence number of the next request; ``head`` is that of the reply in turn."""

    def __repr__(self) -> str:
        return f"ReplyWindow(next {self.head} of {self.issued}, {len(self._parked)} parked)"

    @property
    def overflowing(self) -> bool:
        """Whether more bytes are parked than the limit: no more requests should be taken until some are written."""
        return self.parked_bytes > self._limit

    @property
    def pending(self) -> int:
        """How many requests have no reply in the output yet."""
        return self.issued - self.head

    @property
    def idle(self) -> bool:
        """Whether every request has its reply, and every reply has been written."""
        return self.head == self.issued and not self._out

    def reserve(self) -> int:
        """Take the next sequence number, for a new request."""
        token = self.issued
        self.issued = token + 1
        return token

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take the reply at ``data[start:end]`` of request ``token``; an empty reply writes nothing."""
        if token == self.head:
            out = self._out
            if not out:
                if self.issued == token + 1 and self.direct is not None and not self.gathers:
                    self.head = token + 1
                    self.written += end - start
                    self.direct(data[start:end])
                    return
                self._wake()
            out.append(data[start:end])
            self.head = token + 1
            if self._parked:
                self._unpark()
        elif not self._closed:
            self._parked[token] = data[start:end]
            if end - start > LARGE:
                self.parked_bytes += end - start
                if self.overflowing:
                    self._wake()

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        """Take the reply of request ``token``, which came in pieces."""
        if token == self.head:
            if not self._out:
                self._wake()
            self._out += pieces
            self.head = token + 1
            if self._parked:
                self._unpark()
        elif not self._closed:
            if self._keeping is not None:
                self._keeping.pop(token, None)
            self._parked[token] = pieces
            self.parked_bytes += sum(map(len, pieces))
            if self.overflowing:
                self._wake()

    def answer(self, frame: bytes) -> None:
        """Take a sequence number for a request whose reply, ``frame``, is known already."""
        self.deliver(self.reserve(), frame, 0, len(frame))

    def push(self, frame: bytes) -> None:
        """Send the push message ``frame``, behind the replies in the output and in front of those still to come."""
        if self._closed:
            return
        if self._streaming:
            self._late.append(frame)
            self._late_bytes += len(frame)
            self.parked_bytes += len(frame)
            if self.overflowing:
                self._wake()
            return
        if not self._out:
            self._wake()
        self.pushed += len(frame)
        self._out.append(frame)

    def halt(self) -> None:
        """Take no more requests from the client until all that it has sent are answered."""
        if self.on_halt is not None:
            self.on_halt()

    def kept(self, token: int, size: int) -> int:
        """Record that ``size`` bytes of the reply for ``token`` are kept until all of it has come."""
        if not self._closed:
            if self._keeping is None:
                self._keeping = {}
            self._keeping[token] = size
        return size

    def keeping(self) -> int:
        """The bytes that are kept of replies that are still arriving."""
        if self._keeping is None:
            return 0
        for token in [token for token in self._keeping if token < self.head]:
            del self._keeping[token]
        return sum(self._keeping.values())

    def accepts_stream(self, token: int) -> bool:
        """Whether the reply of ``token`` is in turn, so that it can be passed on piece by piece."""
        return token == self.head or self._closed

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Pass on the next piece of the reply in turn."""
        if self._closed:
            return
        self._streaming = not last
        if not self._out and self.direct is not None and not (last and self._parked):
            self.written += len(data)
            self.direct(data)
        else:
            if not self._out:
                self._wake()
            self._out.append(data)
        if last:
            self._say_late()
            self.head = token + 1
            if self._parked:
                self._unpark()

    @property
    def ready(self) -> bool:
        """Whether replies wait to be written."""
        return bool(self._out)

    @property
    def streaming(self) -> bool:
        """Whether a reply is being passed on piece by piece."""
        return self._streaming

    def holds_back(self, resume: Callable[[], object]) -> bool:
        """Whether the client reads slowly; then ``resume`` is called when it has caught up or disconnected."""
        if self._slow:
            self._resume = resume
        return self._slow

    def set_slow(self, slow: bool) -> None:
        """Record that the client reads slowly, or that it has caught up."""
        self._slow = slow
        if not slow and self._resume is not None:
            resume, self._resume = self._resume, None
            resume()

    def abort_stream(self, token: int) -> None:
        """Abort the streamed reply in turn: the client could read nothing that follows, so it must be closed."""
        self._streaming = True
        wake = self._wake
        self.close()
        wake()

    @property
    def broken(self) -> bool:
        """Whether a streamed reply was aborted in the middle."""
        return self._closed and self._streaming

    def unwritten(self) -> int:
        """Return how many bytes wait to be written."""
        return sum(map(len, self._out))

    def write_to(self, transport: Transport) -> int:
        """Write the output to ``transport``; return how many bytes that were."""
        out = self._out
        if len(out) > 1:
            if max(map(len, out)) > LARGE:
                self._out = []
                size = sum(map(len, out))
                self.written += size
                transport.writelines(out)
                return size
            out[:] = [b"".join(out)]
        if not out:
            return 0
        piece = out.pop()
        if not piece:
            return 0
        self.written += len(piece)
        transport.write(piece)
        return len(piece)

    def close(self) -> None:
        """Drop the replies that are kept, and those that will still come."""
        self._closed = True
        self._wake = _nobody
        self.direct = None
        self.on_halt = None
        self.head = -1
        self._keeping = None
        self._parked.clear()
        self._late.clear()
        self._late_bytes = 0
        self.parked_bytes = 0
        self._out.clear()
        self.set_slow(False)

    def _say_late(self) -> None:
        """Send the push messages that waited for the end of a stream."""
        late, self._late = self._late, []
        self.parked_bytes -= self._late_bytes
        self._late_bytes = 0
        for frame in late:
            self.push(frame)

    def _unpark(self) -> None:
        head = self.head
        parked = self._parked
        out = self._out
        large = self.parked_bytes
        while (reply := parked.pop(head, None)) is not None:
            head += 1
            if isinstance(reply, list):
                out += reply
                self.parked_bytes -= sum(map(len, reply))
                continue
            out.append(reply)
            if large and len(reply) > LARGE:
                self.parked_bytes -= len(reply)
        self.head = head
        if not parked:
            self._parked = {}  # an emptied dict would keep its memory
