"""How many attempts are made at once to connect to a server: one, while it is not known to be there.

Each client that tracks has connections of its own, and each connection reconnects by itself: a server that is down
would be tried by all of them, for ever. So there is a gate for each server and role. It is open as long as the last
attempt succeeded. Once an attempt failed or a connection was lost, one attempt is made at a time, and after a failure
none for a while that grows; all others wait for its outcome, which is theirs too: if it succeeds they connect at once.
Who has a request that may belong elsewhere by now does not wait for the next one: it is told why the last one failed.
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
"""Seconds: the loop's clock may be behind the other by less."""


class Backoff:
    """Pauses between attempts, each twice as long as the one before, and shortened by up to half at random.

    ``shortest`` and ``longest`` bound them before that, in seconds.
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
        """An attempt has succeeded: begin with the shortest pause again."""
        self._next = self._shortest


class Gate:
    """The gate to one server in one role. ``backoff``: the shortest and the longest pause behind a failure, seconds."""

    def __init__(self, now: Callable[[], float], backoff: tuple[float, float]) -> None:
        self._now = now
        self._backoff = Backoff(*backoff)
        self._open = True
        self._due = 0.0
        """When the next attempt may be made, while the gate is closed."""
        self._outcome: asyncio.Future[Exception | None] | None = None
        """What will have come of the attempt that is being made alone; None as its result: it succeeded, or was
        cancelled."""
        self._failure: Exception | None = None
        """What came of the last attempt, while the gate is closed; None: a connection was lost since."""
        self._reason = ""

    def doubt(self) -> None:
        """A connection was lost: the server may be gone."""
        if self._open:
            self._open = False
            self._due = 0.0
            self._failure = None

    def is_news(self, reason: str) -> bool:
        """Whether the server was not known to be out of reach for ``reason``."""
        news, self._reason = reason != self._reason, reason
        return news

    async def attempt(self, connect: Callable[[], Awaitable[T]], *, patient: bool = True) -> T:
        """The result of ``connect``, called when it may be. Raises what it raises, or what an attempt raised that this
        one waited for; if it is not ``patient`` and none may be made yet, what the last one raised."""
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
            # Of several that were under way when the server went, the first is the failure.
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
    """The gates of a worker; each lasts as long as somebody uses it."""

    def __init__(self, now: Callable[[], float], backoff: tuple[float, float]) -> None:
        self._now = now
        self._backoff = backoff
        self._gates: WeakValueDictionary[tuple[Node, bool], Gate] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._gates)

    def to(self, node: Node, primary: bool) -> Gate:
        """The gate to ``node`` as a primary, or as a replica."""
        gate = self._gates.get((node, primary))
        if gate is None:
            gate = self._gates[node, primary] = Gate(self._now, self._backoff)
        return gate
