"""Closes clients that leave the proxy waiting: for their login, for the rest of a request, or for any request.

::

    tick ──▶ who connected since the last tick and must log in is noted; of those noted before, who has not in time is
         │   closed
         └─▶ now and then: a look at every client, in slices, for idle ones and for requests of which no more comes

One timer is for all clients, and requests cost nothing: a look compares what it finds with what the last one found. So
a client is closed late, by up to an eighth of the timeout (5 seconds at most) and a tick.

Source of ``idle_timeout``: Redis 7.0's timeout.c, ``clientsCronHandleTimeout``.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, cast

from proxy.client.client import Client
from proxy.client.connection import ClientConnection
from proxy.client.registry import Clients
from proxy.config.client_limits import ConnectionLimits
from proxy.engine.jobs import MORE, Job
from proxy.metrics import Counters
from proxy.transport.clock import Clock
from proxy.transport.job_runner import Slices

log = logging.getLogger(__name__)

_PART = 8
"""How often a client is looked at within a timeout."""
_SHORTEST, _TICK, _LOOK = 0.05, 1.0, 5.0
"""Seconds: the shortest between two ticks, the longest, and the longest between two looks at every client."""
_AT_ONCE = 100
"""How many clients are looked at before others get their turn."""

LOGIN = "auth timeout"
IDLE = "idle timeout"
REQUEST = "request read timeout"


class TimedWorker(Protocol):
    """What the timeouts use of the worker."""

    @property
    def clients(self) -> Clients:
        """Its clients."""

    @property
    def slices(self) -> Slices:
        """Its long jobs."""

    @property
    def counters(self) -> Counters:
        """What it counts."""


class ClientTimeouts:
    """The timeouts of a worker's clients; ``open_to_all`` says whether who connects need not log in."""

    def __init__(
        self, worker: TimedWorker, clock: Clock, limits: ConnectionLimits, open_to_all: Callable[[], bool]
    ) -> None:
        self._worker = worker
        self._clock = clock
        self._login = limits.auth_timeout
        self._idle = limits.idle_timeout
        self._request = limits.request_read_timeout
        self._open_to_all = open_to_all
        self._newest = 0
        """The id of the latest client that was looked at."""
        self._strangers: deque[tuple[float, int]] = deque()
        """Who had not logged in when it was first looked at: since when it may not, with its id; the oldest first."""
        self._active: dict[int, float] = {}
        """When clients were last seen at something that ``last_active`` does not tell of, by their ids."""
        self._begun: dict[int, tuple[int, float, float]] = {}
        """Clients in the middle of a request: what ``arriving`` said, when the request before was carried out, and
        since when both are the same."""
        self._looking = False
        set_ones = [seconds for seconds in (self._idle, self._request) if seconds]
        self._every = min(_LOOK, *(seconds / _PART for seconds in set_ones)) if set_ones else 0.0
        ticks = [seconds / _PART for seconds in (self._login, *set_ones) if seconds]
        self._tick_every = max(min(_TICK, *ticks), _SHORTEST) if ticks else 0.0
        self._next_look = clock.now() + self._every
        if self._tick_every:
            self._timer = clock.call_later(self._tick_every, self._tick)

    def __repr__(self) -> str:
        return f"ClientTimeouts({len(self._strangers)} to log in, {len(self._begun)} in a request)"

    def close(self) -> None:
        """Close no more clients."""
        if self._tick_every:
            self._timer.cancel()

    def _tick(self) -> None:
        now = self._clock.settled
        if self._login:
            self._note_strangers(now)
            self._close_strangers(now)
        if self._every and now >= self._next_look and not self._looking:
            self._next_look = now + self._every
            self._looking = True
            self._worker.slices.run(self._look_once(now))
        self._timer = self._clock.call_later(self._tick_every, self._tick)

    # ---- who has not logged in

    def _note_strangers(self, now: float) -> None:
        """Note who has connected since the last tick, and must log in."""
        known, found = self._newest, []
        for client in self._worker.clients.newest_first():
            if client.number <= known:
                break
            self._newest = max(self._newest, client.number)
            if self._open_to_all():
                break  # who connects is logged in
            if not client.session.authenticated:
                found.append((client.created, client.number))
        self._strangers.extend(reversed(found))

    def _close_strangers(self, now: float) -> None:
        closed: list[tuple[Client, str]] = []
        while self._strangers and self._strangers[0][0] + self._login <= now:
            _, number = self._strangers.popleft()
            client = self._worker.clients.get(number)
            if client is None or client.gone or client.closing or client.session.authenticated:
                continue
            if client.held:
                # CLIENT PAUSE holds its login.
                self._strangers.append((now, number))
                continue
            closed.append((client, LOGIN))
        self._close(closed)

    # ---- every client

    def _look_once(self, now: float) -> Job[None]:
        try:
            yield from self._look(now)
        finally:
            self._looking = False

    def _look(self, now: float) -> Job[None]:
        """Close who is idle, and who has begun a request and sends no more of it."""
        active: dict[int, float] = {}
        begun: dict[int, tuple[int, float, float]] = {}
        overdue: list[tuple[Client, str]] = []
        for at, client in enumerate(cast(Iterator[ClientConnection], iter(self._worker.clients)), 1):
            if not at % _AT_ONCE:
                yield MORE
            if client.gone or client.closing:
                continue
            got = client.arriving()
            since = now
            if got:
                since = self._same_since(client, got, now)
                begun[client.number] = got, client.last_active, since
                if self._request and since + self._request <= now:
                    overdue.append((client, REQUEST))
            if not self._idle:
                continue
            last = self._active.get(client.number, 0.0)
            if self._busy(client):
                last = now
            elif got:
                last = max(last, since)
            if last:
                active[client.number] = last
            if max(client.last_active, last) + self._idle <= now:
                overdue.append((client, IDLE))
        self._active, self._begun = active, begun
        self._close(overdue)

    def _same_since(self, client: Client, got: int, now: float) -> float:
        before = self._begun.get(client.number)
        return before[2] if before is not None and before[:2] == (got, client.last_active) else now

    def _busy(self, client: Client) -> bool:
        """Whether it is not for the client to send something now, or it is there to listen."""
        if client.held or client.window.pending or client.flow.unread():
            return True
        modes = client.modes
        if modes is None:
            return False
        return modes.blocked or any(client.session.listening) or client in self._worker.clients.monitoring

    def _close(self, overdue: Sequence[tuple[Client, str]]) -> None:
        """Close clients, with one line in the log for all that are closed for the same reason."""
        counts: Counter[str] = Counter()
        first: dict[str, str] = {}
        for client, reason in overdue:
            if client.gone or client.closing:
                continue
            counts[reason] += 1
            first.setdefault(reason, client.session.address)
            self._worker.counters.reject(reason)
            client.close()
        for reason, count in counts.items():
            log.info("clients closed reason=%r clients=%d address=%s", reason, count, first[reason])
