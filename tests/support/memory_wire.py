"""A TCP connection in memory: one end is an asyncio transport for the proxy, the other a simulated peer."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

_LONGEST_SLICE = 64 * 1024


class Peer(Protocol):
    """The far end of a wire."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the proxy."""

    def lost(self) -> None:
        """Take notice that the connection is closed or cut."""


class Pace:
    """Decides how bytes travel: their delays in seconds, and the sizes of the pieces. All randomness comes from
    ``rng``."""

    def __init__(
        self,
        rng: Random,
        delay: float = 0.001,
        kernel: int = 64 * 1024,
        buffer: int = 64 * 1024,
        *,
        smooth: bool = False,
    ) -> None:
        self._rng = rng
        self._delay = delay
        self._smooth = smooth
        self.kernel = kernel
        """The bytes that a connection takes while its reader does not read, before the writer's buffer fills."""
        self.buffer = buffer
        """The bytes in the writer's buffer at which the writer is told to pause, if it sets no limit of its own."""

    def delay(self) -> float:
        """The seconds until the next bytes arrive."""
        return 0.0 if self._smooth else self._delay * self._rng.random() ** 3

    def slice(self, size: int) -> int:
        """The number of bytes, of ``size``, that arrive in one piece."""
        if self._smooth or self._rng.random() < 0.5:
            return min(size, _LONGEST_SLICE)
        return min(size, _LONGEST_SLICE, max(self._rng.randint(1, 40), int(size * self._rng.random())))

    def part(self, size: int) -> int:
        """The number of bytes, of ``size``, that arrive before a cut."""
        return self._rng.randint(0, size)


class Flow:
    """The bytes of one direction that are in flight to ``taker``; ``moved`` is called after each piece.

    ``room`` returns the largest size of a piece.
    """

    def __init__(
        self,
        pace: Pace,
        taker: Callable[[bytes], None],
        moved: Callable[[], None],
        room: Callable[[], int] = lambda: _LONGEST_SLICE,
    ) -> None:
        self._pace = pace
        self._room = room
        self._taker = taker
        self._moved = moved
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._bytes = bytearray()
        self._blocked: set[str] = set()

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def blocked(self) -> bool:
        """Whether the receiver does not read."""
        return bool(self._blocked)

    def send(self, data: bytes) -> None:
        """Send ``data``."""
        self._bytes += data
        self._arm()

    def blocks(self, why: str) -> bool:
        """Whether ``why`` is a reason for which nothing arrives."""
        return why in self._blocked

    def block(self, why: str) -> None:
        """Let nothing arrive until the reason ``why`` is removed."""
        self._blocked.add(why)
        self.stop()

    def unblock(self, why: str) -> None:
        """Remove the reason ``why``."""
        self._blocked.discard(why)
        self._arm()

    def stop(self) -> None:
        """Let no further bytes arrive for now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def lose(self) -> None:
        """Deliver a part of the bytes in flight, and drop the rest."""
        self.stop()
        got = bytes(self._bytes[: min(self._pace.part(len(self._bytes)), self._room())])
        self._bytes.clear()
        if got and not self._blocked:
            self._taker(got)

    def _arm(self) -> None:
        if self._timer is None and self._bytes and not self._blocked:
            self._timer = self._loop.call_later(self._pace.delay(), self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        size = min(self._pace.slice(len(self._bytes)), self._room())
        piece = bytes(self._bytes[:size])
        del self._bytes[:size]
        self._taker(piece)
        self._moved()
        self._arm()


class Served(Protocol):
    """The calls of the proxy's end of a wire: the methods of an ``asyncio.Protocol`` that are the same for all ways to
    read."""

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...


class Reads(Served, Protocol):
    """A protocol that is given the bytes that arrived."""

    def data_received(self, data: bytes) -> None: ...


class MemoryWire(asyncio.Transport):
    """The transport of ``protocol``. The peer acts on it by ``send``, ``cut``, ``end`` and the two flows.

    Like uvloop's transports, it decides how to read (``data_received`` or ``get_buffer``) when it begins to read.
    """

    def __init__(self, protocol: Reads, pace: Pace, peername: tuple[str, int] = ("10.0.0.1", 1)) -> None:
        super().__init__({"peername": peername, "sockname": ("10.0.0.2", 2)})
        self.peer: Peer
        self._protocol: Served = protocol
        self._reads: Reads | asyncio.BufferedProtocol = protocol
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._gone = False
        self._paused = False
        self._high = pace.buffer
        self.outgoing = Flow(pace, lambda data: self.peer.receive(data), self._drained)
        self.incoming = Flow(pace, self._arrived, self._end_reached, self._room)
        self._ended = False

    # ---- methods for the protocol

    def write(self, data: Any) -> None:
        """Send bytes, unless the connection is closing."""
        if self._closing or not data:
            return
        self.outgoing.send(bytes(data))
        if not self._paused and self.get_write_buffer_size() > self._high:
            self._paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """The bytes that the peer's kernel does not take."""
        return max(0, len(self.outgoing) - self._pace.kernel)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the upper limit; the lower one is a quarter of it."""
        self._high = self._pace.buffer if high is None else high

    def set_protocol(self, protocol: Any) -> None:
        """Call ``protocol`` from now on; received bytes go there from the next ``resume_reading`` on."""
        self._protocol = protocol

    def get_protocol(self) -> Any:
        """The protocol that is called."""
        return self._protocol

    def pause_reading(self) -> None:
        """Stop reading."""
        self.incoming.block("paused")

    def resume_reading(self) -> None:
        """Read again."""
        if self.incoming.blocks("paused"):
            self._reads = self.get_protocol()
        self.incoming.unblock("paused")
        self._loop.call_soon(self._end_reached)

    def is_closing(self) -> bool:
        """Whether the protocol has closed the connection, or it is lost."""
        return self._closing

    def close(self) -> None:
        """Close the connection when the written bytes have arrived."""
        if not self._closing:
            self._closing = True
            self.incoming.block("closed")
            self._drained()

    def abort(self) -> None:
        """Close the connection at once; a part of the written bytes arrives."""
        if not self._gone:
            self.incoming.block("closed")
            self._go(None)

    # ---- methods for the peer

    @property
    def open(self) -> bool:
        """Whether the connection exists."""
        return not self._gone

    def send(self, data: bytes) -> None:
        """Send bytes to the protocol."""
        if not self._gone:
            self.incoming.send(data)

    def end(self) -> None:
        """Tell the protocol that no more bytes will be sent (FIN)."""
        self._ended = True
        self._end_reached()

    def cut(self) -> None:
        """Lose the connection; a part of the bytes in flight arrives."""
        if not self._gone:
            self.incoming.lose()
            self._go(ConnectionResetError(104, "Connection reset by peer"))

    # ---- internals

    def _room(self) -> int:
        """The number of bytes that the protocol can take at once."""
        if isinstance(self._reads, asyncio.BufferedProtocol):
            return min(len(memoryview(self._reads.get_buffer(-1))), _LONGEST_SLICE)
        return _LONGEST_SLICE

    def _arrived(self, data: bytes) -> None:
        """Give the protocol the bytes that arrived."""
        if isinstance(self._reads, asyncio.BufferedProtocol):
            with memoryview(self._reads.get_buffer(len(data))) as view:
                view[: len(data)] = data
            self._reads.buffer_updated(len(data))
        else:
            self._reads.data_received(data)

    def _go(self, error: Exception | None) -> None:
        if self._gone:
            return
        self._closing = self._gone = True
        self.incoming.stop()
        self.outgoing.lose()
        self._loop.call_soon(self._protocol.connection_lost, error)
        self._loop.call_soon(self.peer.lost)

    def _drained(self) -> None:
        if self._closing and not self.outgoing:
            self._go(None)
        elif self._paused and self.get_write_buffer_size() <= self._high // 4:
            self._paused = False
            self._protocol.resume_writing()

    def _end_reached(self) -> None:
        if self._ended and not self.incoming and not self.incoming.blocked:
            self._ended = False
            if not self.get_protocol().eof_received():
                self.close()
