"""A TCP connection in memory: one end is an asyncio transport for the proxy's object, the other a simulated peer."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

_LONGEST_SLICE = 64 * 1024


class Peer(Protocol):
    """The far end of a wire."""

    def receive(self, data: bytes) -> None:
        """Bytes from the proxy have arrived."""

    def lost(self) -> None:
        """The connection is closed or cut."""


class Pace:
    """How bytes travel: delays in seconds, and how they are cut on the way. All chance comes from ``rng``."""

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
        """Bytes that a connection takes in without its reader, before the writer's buffer fills."""
        self.buffer = buffer
        """Bytes in the writer's buffer at which it is told to pause, if it sets no mark of its own."""

    def delay(self) -> float:
        """Until the next bytes arrive."""
        return 0.0 if self._smooth else self._delay * self._rng.random() ** 3

    def slice(self, size: int) -> int:
        """How many of ``size`` bytes arrive in one piece."""
        if self._smooth or self._rng.random() < 0.5:
            return min(size, _LONGEST_SLICE)
        return min(size, _LONGEST_SLICE, max(self._rng.randint(1, 40), int(size * self._rng.random())))

    def part(self, size: int) -> int:
        """How many of ``size`` bytes got through before a cut."""
        return self._rng.randint(0, size)


class Flow:
    """The bytes of one direction that are on their way to ``taker``; ``moved`` is called after each piece."""

    def __init__(self, pace: Pace, taker: Callable[[bytes], None], moved: Callable[[], None]) -> None:
        self._pace = pace
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
        """Whether its taker does not read."""
        return bool(self._blocked)

    def send(self, data: bytes) -> None:
        """Put ``data`` on the way."""
        self._bytes += data
        self._arm()

    def block(self, why: str) -> None:
        """Nothing arrives until this reason is gone."""
        self._blocked.add(why)
        self.stop()

    def unblock(self, why: str) -> None:
        """A reason not to read is gone."""
        self._blocked.discard(why)
        self._arm()

    def stop(self) -> None:
        """Let nothing more arrive."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def lose(self) -> None:
        """A part of what is on the way arrives, the rest never will."""
        self.stop()
        got = bytes(self._bytes[: self._pace.part(len(self._bytes))])
        self._bytes.clear()
        if got and not self._blocked:
            self._taker(got)

    def _arm(self) -> None:
        if self._timer is None and self._bytes and not self._blocked:
            self._timer = self._loop.call_later(self._pace.delay(), self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        size = self._pace.slice(len(self._bytes))
        piece = bytes(self._bytes[:size])
        del self._bytes[:size]
        self._taker(piece)
        self._moved()
        self._arm()


class Wire(asyncio.Transport):
    """The transport of ``protocol``, and by ``send``, ``cut``, ``end`` and the two flows what its peer can do to it."""

    def __init__(self, protocol: asyncio.Protocol, pace: Pace, peername: tuple[str, int] = ("10.0.0.1", 1)) -> None:
        super().__init__({"peername": peername, "sockname": ("10.0.0.2", 2)})
        self.peer: Peer
        self._protocol = protocol
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._gone = False
        self._paused = False
        self._high = pace.buffer
        self.outgoing = Flow(pace, lambda data: self.peer.receive(data), self._drained)
        self.incoming = Flow(pace, protocol.data_received, self._end_reached)
        self._ended = False

    # ---- for the protocol

    def write(self, data: Any) -> None:
        """Send bytes, unless the connection is closing."""
        if self._closing or not data:
            return
        self.outgoing.send(bytes(data))
        if not self._paused and self.get_write_buffer_size() > self._high:
            self._paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """What the peer's kernel does not take."""
        return max(0, len(self.outgoing) - self._pace.kernel)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the high mark; the low one is a quarter of it."""
        self._high = self._pace.buffer if high is None else high

    def pause_reading(self) -> None:
        """Read no more for now."""
        self.incoming.block("paused")

    def resume_reading(self) -> None:
        """Read on."""
        self.incoming.unblock("paused")
        self._loop.call_soon(self._end_reached)

    def is_closing(self) -> bool:
        """Whether the protocol closes it, or has lost it."""
        return self._closing

    def close(self) -> None:
        """Close when what was written has arrived."""
        if not self._closing:
            self._closing = True
            self.incoming.block("closed")
            self._drained()

    def abort(self) -> None:
        """Close at once; of what was written a part arrives."""
        if not self._gone:
            self.incoming.block("closed")
            self._go(None)

    # ---- for the peer

    @property
    def open(self) -> bool:
        """Whether bytes still travel."""
        return not self._gone

    def send(self, data: bytes) -> None:
        """Send bytes to the protocol."""
        if not self._gone:
            self.incoming.send(data)

    def end(self) -> None:
        """Say that no more bytes will be sent to the protocol (FIN)."""
        self._ended = True
        self._end_reached()

    def cut(self) -> None:
        """Lose the connection; of what is on the way a part arrives."""
        if not self._gone:
            self.incoming.lose()
            self._go(ConnectionResetError(104, "Connection reset by peer"))

    # ---- inside

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
            if not self._protocol.eof_received():
                self.close()
