"""Runs long jobs for a few milliseconds in each turn of the loop, so that other clients' requests come in between.

::

    run(job)   runs the job for the time left in this turn, and the rest in the next turns, in rotation with others
    a turn     the clients' requests and replies ──▶ jobs; while clients send, for as long as they took, within bounds

All jobs of a worker share the time of a turn. The client that a job is for is stopped (``Stop.ORDER``) until the job
has answered; a job ends with its client.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from proxy.engine.jobs import Job

log = logging.getLogger(__name__)

_A_TURN = 0.005
"""The most seconds of a turn for jobs; while clients send, as many as the rest of the turn took."""
_LEAST = 0.0002
"""The fewest seconds of a turn for jobs: a request that comes during them waits, and takes about as long itself."""
_ACTIVE = 0.05
"""Seconds for which clients count as sending after each piece that came from one."""
_AT_A_TIME = 0.001
"""Seconds after which another job gets its turn."""

T = TypeVar("T")
P = ParamSpec("P")


class JobOwner(Protocol):
    """The client that a job is for."""

    @property
    def gone(self) -> bool:
        """Whether the connection is closed."""

    def abort(self, reason: str) -> None:
        """Close the connection at once."""


class Slices:
    """Runs the jobs of a worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.perf_counter,
        received: Callable[[], int] = int,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._received = received
        """A number that grows with each piece that a client sends."""
        self._received_before = received()
        self._active_until = 0.0
        self._left_at = 0.0
        """The clock's time at which the jobs of the last turn ended."""
        self._ends = 0.0
        """The clock's time at which this turn's time for jobs ends; 0 while no job has run in this turn."""
        self._jobs: deque[tuple[Job[None], JobOwner | None]] = deque()

    def __repr__(self) -> str:
        return f"Slices({len(self._jobs)} jobs)"

    @property
    def busy(self) -> bool:
        """Whether unfinished jobs are left for the next turns."""
        return bool(self._jobs)

    @property
    def over(self) -> bool:
        """Whether this turn's time for jobs is used up."""
        now = self._clock()
        if not self._ends:
            self._ends = now + (_AT_A_TIME if self._active(now) else _A_TURN)
            self._loop.call_soon(self._go_on)
        return now > self._ends

    def run(self, job: Job[None], owner: JobOwner | None = None) -> bool:
        """Run ``job`` for ``owner``; return whether it is finished already."""
        if not self.over and self._do(job, owner) is None:
            return True
        self._jobs.append((job, owner))
        return False

    def wait(self, job: Job[T]) -> asyncio.Future[T]:
        """Run ``job``; the future gets its result."""
        done: asyncio.Future[T] = self._loop.create_future()

        def whole() -> Job[None]:
            found = yield from job
            if not done.done():
                done.set_result(found)

        self.run(whole())
        return done

    def _active(self, now: float) -> bool:
        """Whether clients send, so that the jobs of a turn must be short."""
        received = self._received()
        if received != self._received_before:
            self._received_before = received
            self._active_until = now + _ACTIVE
        return now < self._active_until

    def _do(self, job: Job[None], owner: JobOwner | None) -> bool | None:
        """Run a slice of ``job``: None if it is finished, True if it has done enough for this turn, else False."""
        if owner is not None and owner.gone:
            job.close()
            return None
        clock = self._clock
        until = min(clock() + _AT_A_TIME, self._ends)
        try:
            for enough in job:
                if enough:
                    return True
                if clock() > until:
                    return False
        except Exception:
            # A bug in one job must not end the others.
            log.exception("a job failed job=%r", job)
            if owner is not None:
                owner.abort("internal error")
        return None

    def _go_on(self) -> None:
        """Run the jobs that are left, in a new turn."""
        self._ends = 0.0
        if not self._jobs:
            return
        now = self._clock()
        others = now - self._left_at if self._active(now) else _A_TURN
        self._ends = now + min(max(others, _LEAST), _A_TURN)
        jobs, self._jobs = self._jobs, deque()
        later: list[tuple[Job[None], JobOwner | None]] = []
        while jobs and self._clock() <= self._ends:
            job, owner = jobs.popleft()
            enough = self._do(job, owner)
            if enough is not None:
                (later if enough else jobs).append((job, owner))
        self._jobs.extendleft(reversed((*jobs, *later)))
        self._left_at = self._clock()
        self._loop.call_soon(self._go_on)


async def apart(much: bool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of ``function``, which must not touch shared state: it runs in a thread if it has ``much`` to do. The
    loop gets the interpreter back every 5 ms then, so the loop is late by so much at most."""
    return await asyncio.to_thread(function, *args, **kwargs) if much else function(*args, **kwargs)
