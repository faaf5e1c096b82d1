"""A client's replies, put back into the order of its requests."""

from collections.abc import Callable

from proxy.engine.inflight import Transport
from proxy.engine.sink import Sink

LARGE = 4096
"""Smaller parked replies are not counted in bytes: how many there may be is bounded. Larger ones are not copied."""


def _nobody() -> None:
    """Nobody is to be woken any more."""


class ReplyWindow(Sink):
    """Replies of one client, written in the order in which their requests came, whatever order they arrive in.

    Each request takes the next sequence number (``reserve``). The reply in turn goes straight to the output; one that
    is early is parked until its turn. ``write_to`` writes what is ready. ``wake`` is called when output
    appears where there was none, and when more than ``limit`` bytes are parked (``overflowing``).

    While ``direct`` is set, a reply that nothing else waits beside is written by it at once: to most clients, which
    send a request and wait, that is every reply. While ``gathers`` is set, more requests are at hand: their replies
    share a write.

    Here parked replies lie in a dict; the twin in window.pyx has them in a ring and joins the output in C memory. The
    methods are the same.
    """

    __slots__ = (
        "_closed",
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
        self._late: list[bytes] = []
        self._late_bytes = 0
        self._slow = False
        self._resume: Callable[[], object] | None = None
        self.parked_bytes = 0
        """Bytes of the large parked replies, and of what is to be said once a reply has streamed."""
        self.direct: Callable[[bytes], None] | None = None
        self.gathers = False
        self.on_halt: Callable[[], object] | None = None
        """Called when its client should send no more until all it has sent are answered."""
        self.written = 0
        """Bytes that were written."""
        self.issued = 0
        """The sequence number of the next request; that of the reply in turn is ``head``."""

    def __repr__(self) -> str:
        return f"ReplyWindow(next {self.head} of {self.issued}, {len(self._parked)} parked)"

    @property
    def overflowing(self) -> bool:
        """Whether more is parked than the limit: the client should send no more until some of it is written."""
        return self.parked_bytes > self._limit

    @property
    def pending(self) -> int:
        """Requests that have no reply in the output yet."""
        return self.issued - self.head

    @property
    def idle(self) -> bool:
        """Whether every request has its reply, and every reply has been written."""
        return self.head == self.issued and not self._out

    def reserve(self) -> int:
        """The sequence number of the next request."""
        token = self.issued
        self.issued = token + 1
        return token

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take the reply at ``data[start:end]`` of request ``token``; an empty one means that nothing is answered."""
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
            self._parked[token] = pieces
            self.parked_bytes += sum(map(len, pieces))
            if self.overflowing:
                self._wake()

    def answer(self, frame: bytes) -> None:
        """Reply ``frame`` to a request that is answered at once."""
        self.deliver(self.reserve(), frame, 0, len(frame))

    def push(self, frame: bytes) -> None:
        """Say ``frame`` to the client unasked: behind the replies that are ready, whatever is still to come."""
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
        self._out.append(frame)

    def halt(self) -> None:
        """Have its client send no more until all it has sent are answered."""
        if self.on_halt is not None:
            self.on_halt()

    def accepts_stream(self, token: int) -> bool:
        """Whether ``token`` is in its turn, so that its reply can be passed on piece by piece."""
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
        """Whether the client is behind with reading; ``resume`` is called when it has caught up, or is gone."""
        if self._slow:
            self._resume = resume
        return self._slow

    def set_slow(self, slow: bool) -> None:
        """The client is behind with reading, or has caught up."""
        self._slow = slow
        if not slow and self._resume is not None:
            resume, self._resume = self._resume, None
            resume()

    def abort_stream(self, token: int) -> None:
        """The reply in turn breaks off: nothing that follows could be read, so the client must be closed."""
        self._streaming = True
        wake = self._wake
        self.close()
        wake()

    @property
    def broken(self) -> bool:
        """A streamed reply broke off in the middle."""
        return self._closed and self._streaming

    def write_to(self, transport: Transport) -> int:
        """Write what is ready; how many bytes."""
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
        """Drop what is kept and what will still come."""
        self._closed = True
        self._wake = _nobody
        self.direct = None
        self.on_halt = None
        self.head = -1
        self._parked.clear()
        self._late.clear()
        self._late_bytes = 0
        self.parked_bytes = 0
        self._out.clear()
        self.set_slow(False)

    def _say_late(self) -> None:
        """What was to be said while a reply streamed."""
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
            self._parked = {}  # an emptied one keeps its size
