"""Limits the attempts to connect to a server to one at a time while the server is not known to be reachable.

Each client that tracks has connections of its own, and each connection reconnects by itself: without a limit, all of
them would try a server that is down, again and again. So there is a gate for each server, role and user of the server;
that the server refuses one user says nothing about the others. The gate is open as long as the last attempt succeeded.
Once an attempt failed or a connection was lost, one attempt is made at a time, and a growing pause follows each
failure. All others wait for the outcome of that attempt, and share it: if it succeeds, they connect at once. A caller
whose request may belong to another server by now does not wait for the next attempt, but gets the error of the last
one.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from proxy.errors import BackendError, PlaceRefused
from proxy.sharding.topology import Node

T = TypeVar("T")
_STEP = 0.001
"""Seconds; the loop's clock may be behind the other clock by less."""


class Backoff:
    """Pauses between attempts: each is twice as long as the one before, and is shortened by up to half at random.

    ``shortest`` and ``longest`` bound the pauses in seconds, before they are shortened.
    """

    __slots__ = ("_longest", "_next", "_shortest")

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = self._next = shortest
        self._longest = longest

    def pause(self) -> float:
        """The seconds until the next attempt."""
        seconds = self._next * random.uniform(0.5, 1.0)
        self._next = min(self._next * 2, self._longest)
        return seconds

    def reset(self) -> None:
        """Begin with the shortest pause again, as an attempt has succeeded."""
        self._next = self._shortest


class Gate:
    """The gate to one server in one role, as one user. ``backoff``: the shortest and the longest pause after a
    failure, in seconds."""

    def __init__(self, now: Callable[[], float], backoff: tuple[float, float]) -> None:
        self._now = now
        self._backoff = Backoff(*backoff)
        self._open = True
        self._due = 0.0
        """The time at which the next attempt may be made while the gate is closed."""
        self._outcome: asyncio.Future[Exception | None] | None = None
        """The outcome of the attempt that is being made alone: its error; None if the attempt succeeded or was
        cancelled."""
        self._failure: Exception | None = None
        """The error of the last attempt while the gate is closed; None if a connection was lost since."""
        self._reason = ""

    def doubt(self) -> None:
        """Close the gate: a connection was lost, so the server may be down."""
        if self._open:
            self._open = False
            self._due = 0.0
            self._failure = None

    def is_news(self, reason: str) -> bool:
        """Whether ``reason`` differs from the last known reason for which the server is unreachable."""
        news, self._reason = reason != self._reason, reason
        return news

    async def attempt(self, connect: Callable[[], Awaitable[T]], *, patient: bool = True) -> T:
        """Return the result of ``connect``, which is called when an attempt may be made. Raises the error of
        ``connect``, or of the attempt that this call waited for; if the caller is not ``patient`` and no attempt may be
        made yet, the last error."""
        while not self._open:
            if self._outcome is not None:
                if (error := await asyncio.shield(self._outcome)) is not None:
                    raise error.with_traceback(None)
            elif (left := self._due - self._now()) > 0:
                if not patient and self._failure is not None:
                    raise self._failure.with_traceback(None)
                await asyncio.sleep(max(left, _STEP))
            else:
                return await self._alone(connect)
        return await self._judged(connect)

    async def _alone(self, connect: Callable[[], Awaitable[T]]) -> T:
        outcome = self._outcome = asyncio.get_running_loop().create_future()
        failure: Exception | None = None
        try:
            return await self._judged(connect)
        except PlaceRefused:
            raise
        except Exception as error:
            failure = error
            raise
        finally:
            self._outcome = None
            outcome.set_result(failure)

    async def _judged(self, connect: Callable[[], Awaitable[T]]) -> T:
        alone = not self._open
        try:
            result = await connect()
        except PlaceRefused:
            self._opened()
            raise
        except (OSError, TimeoutError, ValueError, BackendError) as error:
            # Of several attempts that were under way when the server failed, only the first one counts.
            if alone or self._open:
                self._open = False
                self._failure = error
                self._due = self._now() + self._backoff.pause()
            raise
        self._opened()
        return result

    def _opened(self) -> None:
        self._open = True
        self._failure = None
        self._reason = ""
        self._backoff.reset()


class Gates:
    """The gates of a worker; each exists as long as an object uses it."""

    def __init__(self, now: Callable[[], float], backoff: tuple[float, float]) -> None:
        self._now = now
        self._backoff = backoff
        self._gates: WeakValueDictionary[tuple[Node, bool, str], Gate] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._gates)

    def to(self, node: Node, primary: bool, user: str = "") -> Gate:
        """The gate to ``node`` as a primary, or as a replica, for the server's user ``user`` (``Place.user``)."""
        gate = self._gates.get((node, primary, user))
        if gate is None:
            gate = self._gates[node, primary, user] = Gate(self._now, self._backoff)
        return gate
