"""What waits in this process for clients that do not read, and who may have no more of it.

A client that writes all its requests before it reads a reply (pipelines of most libraries do) is read from and answered
on, as with Redis: what it does not read yet waits here. So that this stays bounded, each client may have
``output_hard`` bytes waiting, and all of them together ``output_memory``; who would have more is not read from until it
has read. Who is at its own limit and still reads nothing for ``_GRACE`` seconds is closed, as if it were past it.

That stops requests, but no reply that is on its way: a long one that others' requests wait behind is read and kept for
its reader. Where such replies fill ``output_memory`` and ``1 / _OVER`` more, the client that most waits for is closed,
of those whose replies are large; what is still to come for it is read and dropped, and the others' replies come.
"""

import asyncio
import logging
from collections.abc import Hashable
from typing import Protocol

from proxy.metrics import Counters
from proxy.session.session import Session
from proxy.transport.flow_control import Flow, Stop

log = logging.getLogger(__name__)

_GRACE = 2.0
_OVER = 4
"""Pipelines that are stopped at the limit pass it by what they have in flight: that closes nobody."""
_LOOK_EVERY = 0.1
"""Seconds after which it is looked again whether those who were stopped may go on: nobody tells when they read."""


class Reader(Hashable, Protocol):
    """A client that is behind with reading."""

    output_hard: int
    """How many bytes may wait for it."""

    @property
    def flow(self) -> Flow:
        """Whether it is read from."""

    @property
    def session(self) -> Session:
        """Who it is."""

    def waiting(self) -> int:
        """Bytes that wait in this process until it reads its replies."""

    def coming(self) -> int:
        """Bytes of replies to what it may send before it is looked at again, on top of what waits."""

    def over_limit(self) -> None:
        """More waits for it than may."""

    def abort(self, reason: str) -> None:
        """Close at once, for a reason that is logged and counted."""


class Backlog:
    """The clients of this process that are behind with reading, with the bytes that wait for each."""

    __slots__ = ("_counters", "_limit", "_loop", "_sizes", "_stopped", "_timer", "total")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int, counters: Counters) -> None:
        self._loop = loop
        self._limit = limit
        self._counters = counters
        self._sizes: dict[Reader, int] = {}
        self._stopped: dict[Reader, tuple[float, int] | None] = {}
        """Those that are not read from; with the time until which one at its own limit has to read something, and
        where it was then."""
        self._timer: asyncio.TimerHandle | None = None
        self.total = 0
        """Bytes that wait for all of them."""

    def __repr__(self) -> str:
        return f"Backlog({self.total} of {self._limit} bytes, {len(self._sizes)} clients, {len(self._stopped)} stopped)"

    def weigh(self, client: Reader) -> None:
        """Look how much waits for ``client``, which is behind, and read no more from it if that is too much."""
        size = self._count(client)
        if self.total - self._limit > self._limit // _OVER:
            self._make_room()
        if client in self._stopped or client not in self._sizes:
            return
        if size + client.coming() > client.output_hard:
            key = "output_hard"
        elif self.total > self._limit:
            key = "output_memory"
        else:
            return
        self._stopped[client] = self._until(client) if key == "output_hard" else None
        self._counters.hold(key)
        client.flow.stop(Stop.SLOW)
        session = client.session
        log.warning(
            "client not read from until it reads its replies address=%s name=%r waiting=%d all=%d: "
            "limits.%s allows no more; raise it if clients should have more",
            *(session.address, session.name, size, self.total, key),
        )
        self._watch()

    def forget(self, client: Reader) -> None:
        """``client`` has caught up, or is gone."""
        self.total -= self._sizes.pop(client, 0)
        self._stopped.pop(client, None)

    def _count(self, client: Reader) -> int:
        size = client.waiting()
        self.total += size - self._sizes.get(client, 0)
        self._sizes[client] = size
        return size

    def _make_room(self) -> None:
        """Close the client for which most waits, of those whose replies are large."""
        large = [client for client in self._sizes if client.flow.reasons & Stop.PACED]
        if not large:
            return
        client = max(large, key=self._sizes.__getitem__)
        log.warning(
            "too much waits for clients that do not read their replies all=%d: limits.output_memory allows no more, "
            "and the one with the most is closed address=%s waiting=%d",
            *(self.total, client.session.address, self._sizes[client]),
        )
        self.forget(client)
        client.abort("output memory")

    def _until(self, client: Reader) -> tuple[float, int]:
        return self._loop.time() + _GRACE, client.flow.left_to_read()

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Let those go on for whom there is room again: a quarter of it, or they would stop and go all the time."""
        self._timer = None
        for client in self._sizes:
            self._count(client)
        room = self.total * 4 <= self._limit * 3
        now = self._loop.time()
        for client, until in list(self._stopped.items()):
            if room and self._sizes[client] * 4 <= client.output_hard * 3:
                del self._stopped[client]
                client.flow.go(Stop.SLOW)
            elif until is not None:
                if client.flow.left_to_read() < until[1]:
                    self._stopped[client] = self._until(client)
                elif now >= until[0]:
                    client.over_limit()
        if self._stopped:
            self._watch()
