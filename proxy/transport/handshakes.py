"""TLS handshakes of a worker's clients: carried out one after the other in a thread, each with a deadline.

A signature with an RSA key of 2048 bits takes about a millisecond, one of 4096 bits five. OpenSSL computes it without
the interpreter's lock, so the loop serves its clients meanwhile. The handshakes wait in a queue: if they come faster
than one thread can carry them out, they take longer, and those beyond the bound are refused.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from proxy.transport.clock import Clock, Deadline

log = logging.getLogger(__name__)

WAITING_MOST = 1000
"""The most steps that wait for the thread: a second of handshakes with RSA keys."""
_REFUSED_MOST = 64
"""The most clients whose handshake goes on only so that they can be told why they are refused."""
_TICK = 0.25
"""Seconds between two looks for handshakes that take too long."""
_AT_ONCE = 32
"""The most steps whose results are taken in one turn of the loop."""

Step = tuple[bool, Sequence[str] | None, Exception | None, bytes]
"""Whether the handshake is complete, the names of the client's certificate, the error if it failed, and the bytes for
the client."""


class Shaking(Protocol):
    """A connection in its handshake."""

    def step(self) -> Step:
        """Carry out the next step. Called in the thread."""

    def stepped(self, done: bool, names: Sequence[str] | None, error: Exception | None, output: bytes) -> None:
        """Take the results of the step."""

    def timed_out(self, seconds: float) -> None:
        """End the handshake."""


class Handshakes:
    """The handshakes of a worker. One may take ``patience`` seconds, from the connection on."""

    def __init__(self, clock: Clock, patience: float) -> None:
        self.loop: asyncio.AbstractEventLoop = clock.loop
        self._clock = clock
        self._patience = patience
        self._open: dict[Shaking, float] = {}
        """The connections in their handshake, and when their time is over; the oldest first."""
        self._refused: set[Shaking] = set()
        self._timer: Deadline | None = None
        self._queue: SimpleQueue[Shaking | None] = SimpleQueue()
        self._results: deque[tuple[Shaking, Step]] = deque()
        self._told = False
        """Whether the loop is told already that there are results."""
        self._thread: Thread | None = None

    def __repr__(self) -> str:
        return f"Handshakes({len(self._open)} open, {self.waiting} waiting)"

    @property
    def open(self) -> int:
        """How many connections are in their handshake."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """How many steps wait for the thread."""
        return self._queue.qsize()

    def begin(self, connection: Shaking) -> None:
        """Begin the handshake of a new connection."""
        self._open[connection] = self._clock.now() + self._patience
        if self._timer is None:
            self._timer = self._clock.call_later(_TICK, self._look)

    def end(self, connection: Shaking) -> None:
        """Take note that the handshake is over."""
        self._open.pop(connection, None)
        self._refused.discard(connection)

    def wait_to_refuse(self, connection: Shaking) -> bool:
        """Whether the handshake of a refused client may go on, so that the client can be told why."""
        if len(self._refused) >= _REFUSED_MOST:
            return False
        self._refused.add(connection)
        return True

    def submit(self, connection: Shaking) -> bool:
        """Have the next step of a handshake carried out; return False if too many wait already."""
        if self.waiting >= WAITING_MOST:
            return False
        if self._thread is None:
            self._thread = Thread(target=self._work, name="TLS handshakes", daemon=True)
            self._thread.start()
        self._queue.put(connection)
        return True

    def close(self) -> None:
        """Stop the thread and the timer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._queue.put(None)

    def _look(self) -> None:
        now = self._clock.now()
        late = []
        for connection, deadline in self._open.items():
            if deadline > now:
                break
            late.append(connection)
        for connection in late:
            self.end(connection)
            connection.timed_out(self._patience)
        self._timer = self._clock.call_later(_TICK, self._look) if self._open else None

    # ---- the thread

    def _work(self) -> None:
        while (connection := self._queue.get()) is not None:
            if connection not in self._open:
                continue
            try:
                result: Step = connection.step()
            except Exception as error:
                log.exception("a TLS handshake failed")
                result = False, None, error, b""
            self._results.append((connection, result))
            if not self._told:
                self._told = True
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for the result
                    self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        """Pass results to their connections, a bounded number in each turn."""
        self._told = False
        for _ in range(_AT_ONCE):
            if not self._results:
                return
            connection, result = self._results.popleft()
            try:
                connection.stepped(*result)
            except Exception as error:
                log.exception("a TLS connection failed")
                connection.stepped(False, None, error, b"")
        if not self._told:
            self._told = True
            self.loop.call_soon(self._deliver)
