"""Keeps the memory of a worker within its share of ``limits.memory``.

::

    tick, 10 to 50 times a second   reads the process's memory
      └─ much, or some seconds ago ──▶ look: what each client holds, in slices of the loop
                                        └─▶ MemoryBudget.judge: clients are not read from, read from again, or closed

Requests cost nothing for this. Looking at all clients takes at most ``_SHARE`` of the worker's time.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import cast

from proxy.client.connection import ClientConnection
from proxy.client.memory_budget import SMALL, Holding, MemoryBudget, MemoryHolder, MemoryVerdict
from proxy.client.timeouts import WatchedWorker
from proxy.engine.jobs import MORE, Job
from proxy.transport.clock import Clock, Deadline
from proxy.worker.memory import give_back, resident

log = logging.getLogger(__name__)

_TICK, _TICK_FAST = 0.1, 0.02
"""Seconds between two readings of the process's memory: usually, and while much of the budget is in use."""
_LOOK_EVERY = 5.0
"""Seconds between two looks at all clients for the metrics."""
_SHARE = 0.05
_AT_ONCE = 100
"""How many clients are looked at before other jobs get their turn."""
_LEAST = 4
"""At least a fourth (1 / 4) of the share is for the clients, however much the process itself takes."""
_SAY_EVERY = 10.0
_MOST_LINES = 10
"""The most log lines about closed clients for one look."""
_RETURN_EVERY = 5.0
"""Seconds between two attempts to return free memory to the system."""

MEMORY = "memory"
"""The reason, and the key of the limit, under which clients are counted."""


class MemoryWatch:
    """Watches the memory of ``worker``, which may use ``share`` bytes, from ``start`` on."""

    def __init__(self, worker: WatchedWorker, clock: Clock, share: int, measure: Callable[[], int] = resident) -> None:
        self._worker = worker
        self._clock = clock
        self._share = share
        self._measure = measure
        self._base = 0
        """The bytes of the process without clients."""
        self._timer: Deadline | None = None
        self._looking = False
        self._next_look = 0.0
        self._may_look = 0.0
        """The time from which a look would take no more than ``_SHARE`` of all time."""
        self._said = self._returned = -_SAY_EVERY
        self._withheld: dict[int, ClientConnection] = {}

    def __repr__(self) -> str:
        return f"MemoryWatch({self._worker.clients.memory!r}, {len(self._withheld)} not read from)"

    def start(self) -> None:
        """Begin to watch."""
        self._base = self._measure()
        self._worker.clients.memory = MemoryBudget(max(self._share - self._base, self._share // _LEAST))
        log.info("memory share=%d base=%d clients=%d", self._share, self._base, self._worker.clients.memory.limit)
        self._tick()

    def stop(self) -> None:
        """End the watch."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        now = self._clock.now()
        budget = self._worker.clients.memory
        used = self._measure()
        pressed = budget.short or not used or used - self._base > budget.soft // 2
        if not self._looking and now >= (self._may_look if pressed else self._next_look):
            self._looking = True
            self._worker.slices.run(self._look_once())
        if used - self._base > budget.hard and budget.total < budget.soft // 2 and not self._looking:
            self._return_memory(now)
        self._timer = self._clock.call_later(_TICK_FAST if pressed else _TICK, self._tick)

    def _return_memory(self, now: float) -> None:
        """Return the memory that clients do not hold any more, in a thread, as that takes milliseconds."""
        if now >= self._returned + _RETURN_EVERY:
            self._returned = now
            self._clock.loop.run_in_executor(None, give_back)

    def _look_once(self) -> Job[None]:
        try:
            yield from self._look()
        finally:
            self._looking = False

    def _look(self) -> Job[None]:
        """Count what all clients hold, and act on the verdict."""
        budget = self._worker.clients.memory
        holdings: list[Holding] = []
        holders: list[MemoryHolder[ClientConnection]] = []
        spent, began = 0.0, time.perf_counter()
        for at, client in enumerate(cast(Iterator[ClientConnection], iter(self._worker.clients)), 1):
            if not at % _AT_ONCE:
                spent += time.perf_counter() - began
                yield MORE
                began = time.perf_counter()
            if client.gone:
                continue
            holding = client.holding()
            total = sum(holding)
            if total:
                holdings.append(holding)
            if total > SMALL or budget.short:
                holders.append(MemoryHolder(client, holding, total, client.missing()))
        budget.count(holdings)
        now = self._clock.now()
        self._apply(budget.judge(holders, now), now)
        spent += time.perf_counter() - began
        self._may_look = now + spent / _SHARE
        self._next_look = max(self._may_look, now + _LOOK_EVERY)

    def _apply(self, verdict: MemoryVerdict[ClientConnection], now: float) -> None:
        """Close clients, stop reading from clients, and read from others again."""
        counters = self._worker.counters
        for at, holder in enumerate(verdict.closed):
            client, session = holder.client, holder.client.session
            if client.gone or client.closing:
                continue
            counters.reject(MEMORY)
            if at < _MOST_LINES:
                log.warning(
                    "client closed, as it holds the most of the memory for clients (limits.memory) address=%s user=%s "
                    "name=%r reason=%r bytes=%d %s",
                    *(session.address, session.user, session.name, MEMORY, holder.total, holder.holding.words()),
                )
            client.close()
        if len(verdict.closed) > _MOST_LINES:
            log.warning("clients closed reason=%r clients=%d", MEMORY, len(verdict.closed))
        withheld = {holder.client.number: holder.client for holder in verdict.withheld}
        for number, client in self._withheld.items():
            if number not in withheld:
                client.flow.withhold(False)
        for number, client in withheld.items():
            if number not in self._withheld:
                counters.hold(MEMORY)
                client.flow.withhold(True)
        self._withheld = withheld
        if verdict.withheld and now >= self._said + _SAY_EVERY:
            self._said = now
            first, budget = verdict.withheld[0], self._worker.clients.memory
            log.warning(
                "memory is short: the clients that hold the most are not read from clients=%d all=%d limit=%d "
                "(limits.memory) greediest address=%s user=%s bytes=%d %s",
                *(len(withheld), budget.total, budget.limit, first.client.session.address),
                *(first.client.session.user, first.total, first.holding.words()),
            )
