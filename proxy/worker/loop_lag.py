"""Measures how late the loop of a worker is, by a timer in the loop; a thread finds the cause.

::

    loop     ──every 40 ms──▶ _beat: the delay, and the CPU time that the loop took since the last beat
    thread   ──every 80 ms──▶ _watch: if the beat is overdue by 100 ms, note the stack of the loop's thread
    a turn of more than 100 ms ends ──▶ counted and logged
    a turn of more than 5 s goes on ──▶ the thread logs what the loop does: it may never end

Compiled modules have no frames in a stack, and the thread can not run while they hold the interpreter's lock; so the
log line also names the clients whose requests came last.
"""

import asyncio
import logging
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from proxy.metrics import BUCKETS

log = logging.getLogger(__name__)

_EVERY = 0.04
"""Seconds between two beats: the beats and the thread take 0.05 % of an idle processor, and far less of a busy one."""
_LONG = 0.1
"""A turn that delays a beat by more than so many seconds is counted and logged."""
_LOOK_EVERY = 0.08
_STUCK_AFTER = 63
"""How many times in a row the thread, which does not run while the process is stopped, has to miss a beat: 5 s."""
_SAY_EVERY = 10.0
"""Seconds between two log lines, however many turns are long."""
_WINDOW = 30.0
"""Seconds of a window; the maximum is that of the last one to two windows."""
_MOST_FRAMES = 6
_OWN = str(Path(__file__).parents[1])

Suspects = Callable[[float], str]
"""Names the clients whose requests have come since a moment of the clock, in words."""


class LoopLag:
    """Measures the running loop between ``start`` and ``stop``.

    ``buckets`` (as ``metrics.BUCKETS``, and one above) and ``total`` are of the delays of all beats. ``long`` has the
    number of turns over 100 ms by cause: ``work`` (the turn took the CPU for so long) or ``stall`` (the process did not
    run: it was stopped or swapped out, or the machine was overloaded).
    """

    def __init__(self, suspects: Suspects = lambda since: "", clock: Callable[[], float] = time.monotonic) -> None:
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.total = 0.0
        self.long = {"work": 0, "stall": 0}
        self._suspects = suspects
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._watch, name="loop lag", daemon=True)
        self._watched = 0
        self._over = threading.Event()
        self._due = 0.0
        self._busy = 0.0
        """The CPU seconds of the loop's thread at the last beat."""
        self._seen: tuple[float, str] = (0.0, "")
        """The time at which the missed beat was due, and the stack of the loop's thread then."""
        self._worst = (0.0, 0.0)
        self._worst_before = (0.0, 0.0)
        self._window_ends = 0.0
        self._silent_until = 0.0
        self._unsaid = 0

    def __repr__(self) -> str:
        return f"LoopLag({sum(self.buckets)} beats, {self.long})"

    def start(self) -> None:
        """Start to measure the running loop."""
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._busy = time.thread_time()
        self._window_ends = self._clock() + _WINDOW
        self._set()
        self._thread.start()

    def stop(self) -> None:
        """Stop for good."""
        if self._timer is not None:
            self._timer.cancel()
        self._over.set()
        self._thread.join()

    def worst(self) -> tuple[float, float]:
        """The maxima of the last 30 to 60 seconds: the delay of a beat, and the loop's CPU time of such a delay."""
        (late, work), (late_before, work_before) = self._worst, self._worst_before
        return max(late, late_before), max(work, work_before)

    # ---- in the loop

    def _set(self) -> None:
        self._due = self._clock() + _EVERY
        self._timer = self._loop.call_later(_EVERY, self._beat)

    def _beat(self) -> None:
        now, busy = self._clock(), time.thread_time()
        late = max(now - self._due, 0.0)
        self.note(now, late, min(late, busy - self._busy))
        self._busy = busy
        self._set()

    def note(self, now: float, late: float, work: float) -> None:
        """Count a beat that is ``late`` by so many seconds, ``work`` of which were CPU time."""
        self.buckets[bisect_left(BUCKETS, late)] += 1
        self.total += late
        if now >= self._window_ends:
            self._window_ends = now + _WINDOW
            self._worst_before, self._worst = self._worst, (0.0, 0.0)
        self._worst = max(self._worst[0], late), max(self._worst[1], work)
        if late > _LONG:
            self.long["work" if work > _LONG else "stall"] += 1
            self._say(now, late, work)

    def _say(self, now: float, late: float, work: float) -> None:
        if now < self._silent_until:
            self._unsaid += 1
            return
        due, doing = self._seen
        log.warning(
            "the loop was held up seconds=%.3f cpu=%.3f at=%r clients=%r unsaid=%d",
            late,
            work,
            doing if due == self._due else "",
            self._suspects(now - late - _EVERY),
            self._unsaid,
        )
        self._unsaid = 0
        self._silent_until = now + _SAY_EVERY

    # ---- in a thread

    def _watch(self) -> None:
        missed = 0
        while not self._over.wait(_LOOK_EVERY):
            due = self._due
            if self._clock() - due <= _LONG:
                continue
            if self._seen[0] != due:
                self._seen, missed = (due, stack(sys._current_frames().get(self._watched))), 0
            missed += 1
            if missed == _STUCK_AFTER:
                doing = stack(sys._current_frames().get(self._watched))
                log.error("the loop is stuck seconds=%.1f at=%r before=%r", self._clock() - due, doing, self._seen[1])


def stack(frame: FrameType | None) -> str:
    """The stack of a thread in words, the innermost function first: the proxy's own functions, and the one that they
    called last."""
    found: list[str] = []
    while frame is not None and len(found) < _MOST_FRAMES:
        code = frame.f_code
        if not found or code.co_filename.startswith(_OWN):
            found.append(f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return " < ".join(found)
