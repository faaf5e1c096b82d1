"""The worker's clock, which counts only the time in which the process ran, and the deadlines that use it.

A process that is stopped, or gets no CPU time, reads nothing: the answers that come meanwhile wait in its sockets. So
the clock does not count such a stall, and a deadline ends only after the loop has read from its sockets::

    beat ──── beat ──── stall ─────────────────── beat ──── beat
     │  20 ms  │     counts as 40 ms at most       │  20 ms  │
     └─ settled: the time of the previous beat; a deadline before it has passed, and the loop has read since
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

BEAT = 0.02
"""Seconds between two readings of the time; a shorter stall does not differ from a busy moment."""
_STEP = 2 * BEAT
"""The most seconds that the clock advances from one beat to the next."""


class Clock:
    """Counts the seconds in which the process ran; ``source`` is a monotonic clock, which counts stalls too."""

    __slots__ = ("_most", "_new", "_skipped", "_timer", "loop", "read", "settled", "source")

    def __init__(self, loop: asyncio.AbstractEventLoop, source: Callable[[], float]) -> None:
        self.loop = loop
        self.source = source
        self._skipped = 0.0
        """The seconds of ``source`` that are not counted."""
        self._new = self.read = source()
        """The time of the latest beat; ``read`` is the latest reading of ``source``."""
        self.settled = self._new
        """The time of the previous beat: the loop has read its sockets since, so deadlines before it have ended."""
        self._most = self._new + _STEP
        self._timer = loop.call_later(BEAT, self._beat)
        _Current.clock = self

    def __repr__(self) -> str:
        return f"Clock({self.now():.3f}, {self._skipped:.3f} s not counted)"

    def now(self) -> float:
        """The time in seconds, without stalls."""
        self.read = self.source()
        now = self.read - self._skipped
        return now if now < self._most else self._most

    def call_later(self, seconds: float, callback: Callable[..., object], *args: object) -> "Deadline":
        """Call ``callback`` when ``seconds`` have been counted and the loop has read from its sockets since."""
        return Deadline(self, seconds, callback, args)

    def close(self) -> None:
        """Stop the beat."""
        self._timer.cancel()
        if _Current.clock is self:
            _Current.clock = None

    def _beat(self) -> None:
        source = self.source()
        now = min(source - self._skipped, self._most)
        self._skipped = source - now
        self.settled, self._new = self._new, now
        self._most = now + _STEP
        self._timer = self.loop.call_later(BEAT, self._beat)


class Deadline:
    """A call that a ``Clock`` will make, unless it is cancelled."""

    __slots__ = ("_args", "_callback", "_clock", "_due", "_handle")

    def __init__(self, clock: Clock, seconds: float, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self._clock = clock
        self._due = clock.now() + seconds
        self._callback = callback
        self._args = args
        self._handle = clock.loop.call_later(seconds + BEAT, self._look)

    def cancel(self) -> None:
        """Cancel the call."""
        self._handle.cancel()

    def _look(self) -> None:
        left = self._due - self._clock.settled
        if left > 0:
            self._handle = self._clock.loop.call_later(max(left, BEAT / 2), self._look)
        else:
            self._callback(*self._args)


class _Current:
    """Holds the clock of this process, which runs one loop."""

    clock: Clock | None = None


def running_clock() -> Clock:
    """The clock of the running loop; it is created if there is none yet."""
    loop = asyncio.get_running_loop()
    clock = _Current.clock
    return clock if clock is not None and clock.loop is loop else Clock(loop, loop.time)


@asynccontextmanager
async def timeout(seconds: float) -> AsyncIterator[None]:
    """``asyncio.timeout`` by the running loop's clock."""
    clock = running_clock()
    async with asyncio.timeout(None) as limit:
        deadline = clock.call_later(seconds, lambda: limit.reschedule(clock.loop.time()))
        try:
            yield
        finally:
            deadline.cancel()
