"""Limits the bytes that wait in this process for clients that do not read their replies.

Some clients write all their requests before they read a reply, as the pipelines of most libraries do. They are read
from and answered further, as by Redis, and the replies that they have not read yet wait here. To bound these, each
client may have ``output_hard`` bytes waiting, and all clients together ``output_memory``; a client that exceeds a limit
is not read from until it has read replies. A client at its own limit that reads nothing for ``_GRACE`` seconds is
closed, as if it had exceeded the limit.

This stops requests, but not replies that are arriving: a long reply that other clients' requests wait behind is read
and kept for its reader. When such replies exceed ``output_memory`` by ``1 / _OVER``, the client with the most waiting
bytes is closed, of those whose replies are large; the rest of its replies is read and dropped, so that those of others
arrive.
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
"""The total may exceed ``output_memory`` by this fraction of it (1 / 4): pipelines that are stopped at the limit exceed
it by their requests in flight, for which no client is closed."""
_LOOK_EVERY = 0.1
"""Seconds between checks whether stopped clients may go on, as no event tells that they have read."""


class Reader(Hashable, Protocol):
    """A client that reads its replies too slowly."""

    output_hard: int
    """The limit in bytes of the replies that may wait for the client."""

    @property
    def flow(self) -> Flow:
        """Decides whether the client is read from."""

    @property
    def session(self) -> Session:
        """The client's session."""

    def waiting(self) -> int:
        """The bytes that wait in this process until the client reads its replies."""

    def coming(self) -> int:
        """The bytes of replies to the requests that the client may send before the next check, in addition to those
        that wait."""

    def over_limit(self) -> None:
        """Take notice that more bytes wait for the client than may."""

    def abort(self, reason: str) -> None:
        """Close at once, for a ``reason`` that is logged and counted."""


class Backlog:
    """The clients of this process that read too slowly, with the bytes that wait for each."""

    __slots__ = ("_counters", "_limit", "_loop", "_sizes", "_stopped", "_timer", "total")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int, counters: Counters) -> None:
        self._loop = loop
        self._limit = limit
        self._counters = counters
        self._sizes: dict[Reader, int] = {}
        self._stopped: dict[Reader, tuple[float, int] | None] = {}
        """The clients that are not read from. For a client at its own limit: the time until which it has to read
        something, and the bytes that it had left to read when that was set."""
        self._timer: asyncio.TimerHandle | None = None
        self.total = 0
        """The bytes that wait for all clients."""

    def __repr__(self) -> str:
        return f"Backlog({self.total} of {self._limit} bytes, {len(self._sizes)} clients, {len(self._stopped)} stopped)"

    def weigh(self, client: Reader) -> None:
        """Count the bytes that wait for ``client``, and stop reading from it if they are too many."""
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
        """Forget ``client``, which has caught up or is gone."""
        self.total -= self._sizes.pop(client, 0)
        self._stopped.pop(client, None)

    def _count(self, client: Reader) -> int:
        size = client.waiting()
        self.total += size - self._sizes.get(client, 0)
        self._sizes[client] = size
        return size

    def _make_room(self) -> None:
        """Close the client with the most waiting bytes, of those whose replies are large."""
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
        """Let clients go on when a quarter of the limit is free: with less they would stop and go on all the time."""
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
