"""Closes clients that leave the proxy waiting: for their login, for the rest of a request, or for any request.

::

    tick ──▶ new clients that must log in are noted; a noted client that has not logged in within the timeout is closed
         └─▶ less often, in slices: clients that are idle, or that send no more of a request, are closed

One timer serves all clients, and requests cost nothing extra: a check compares the state of each client with its state
at the last check. So a client is closed late, by up to an eighth of the timeout (5 seconds at most) and a tick.

Source of ``idle_timeout``: Redis 7.0's timeout.c, ``clientsCronHandleTimeout``.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol, cast

from proxy.client.client import Client
from proxy.client.connection import ClientConnection
from proxy.client.registry import Clients
from proxy.config.client_limits import ConnectionLimits
from proxy.engine.jobs import MORE, Job
from proxy.metrics import Counters
from proxy.session.acl_users import Users
from proxy.transport.clock import Clock, Deadline
from proxy.transport.flow_control import Stop
from proxy.transport.job_runner import Slices

log = logging.getLogger(__name__)

_PART = 8
"""How often a client is checked within a timeout."""
_SHORTEST, _TICK, _LOOK = 0.05, 1.0, 5.0
"""Seconds: the shortest and the longest time between two ticks, and the longest between two checks of all clients."""
_WAITS = Stop.HELD | Stop.ORDER | Stop.QUOTA | Stop.LOGIN
"""The reasons for which the proxy makes a client wait that has no request in flight: the client is not idle."""
_AT_ONCE = 100
"""How many clients are checked before other jobs get their turn."""

LOGIN = "auth timeout"
IDLE = "idle timeout"
REQUEST = "request read timeout"


class WatchedWorker(Protocol):
    """The part of a worker that those use who look at its clients from time to time."""

    @property
    def clients(self) -> Clients:
        """The worker's clients."""

    @property
    def slices(self) -> Slices:
        """The runner of the worker's long jobs."""

    @property
    def counters(self) -> Counters:
        """The worker's counters."""


class ClientTimeouts:
    """The timeouts of a worker's clients. ``users`` say whether clients have to log in."""

    def __init__(self, worker: WatchedWorker, clock: Clock, limits: ConnectionLimits, users: Users) -> None:
        self._worker = worker
        self._clock = clock
        self._users = users
        self._newest = 0
        """The id of the latest client that was checked for its login."""
        self._strangers: dict[int, float] = {}
        """The clients that were not logged in when first checked or are not any more, the oldest first: when the
        timeout of each began, by the id."""
        self._active: dict[int, float] = {}
        """When clients were last active in ways that ``last_active`` does not record, by their ids."""
        self._begun: dict[int, tuple[int, float, float]] = {}
        """Clients that have sent a part of a request, by id: the result of ``arriving``, the time of the previous
        request, and the time since which both are unchanged."""
        self._looking = False
        self._timer: Deadline | None = None
        self.renew(limits)

    def renew(self, limits: ConnectionLimits) -> None:
        """Use other timeouts from now on, for all clients."""
        self._login = limits.auth_timeout
        self._idle = limits.idle_timeout
        self._request = limits.request_read_timeout
        set_ones = [seconds for seconds in (self._idle, self._request) if seconds]
        self._every = min(_LOOK, *(seconds / _PART for seconds in set_ones)) if set_ones else 0.0
        ticks = [seconds / _PART for seconds in (self._login, *set_ones) if seconds]
        self._tick_every = max(min(_TICK, *ticks), _SHORTEST) if ticks else 0.0
        self._next_look = self._clock.now() + self._every
        self.close()
        if self._tick_every:
            self._timer = self._clock.call_later(self._tick_every, self._tick)

    def __repr__(self) -> str:
        return f"ClientTimeouts({len(self._strangers)} to log in, {len(self._begun)} in a request)"

    def close(self) -> None:
        """Stop the timer, so that no more clients are closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

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

    # ---- clients that have not logged in

    def _note_strangers(self, now: float) -> None:
        """Note the clients that connected since the last tick and must log in, and those that must log in again."""
        known, found = self._newest, []
        user_limits = self._worker.clients.user_limits
        limited, again = user_limits.limited, user_limits.new_strangers
        for number in again:
            if number <= known:
                self._strangers.pop(number, None)  # it comes last now
                self._strangers[number] = now
        again.clear()
        for client in self._worker.clients.newest_first():
            if client.number <= known:
                break
            self._newest = max(self._newest, client.number)
            # A client that is logged in at once needs no session for this.
            open_to_all = not limited and client.listener.open_to_all(self._users)
            if not open_to_all and not client.session.authenticated:
                found.append((client.number, client.created))
        self._strangers.update(reversed(found))

    def _close_strangers(self, now: float) -> None:
        closed: list[tuple[Client, str]] = []
        strangers, delays, spared = self._strangers, self._worker.clients.delays, None
        while strangers and strangers[number := next(iter(strangers))] + self._login <= now:
            del strangers[number]
            client = self._worker.clients.get(number)
            if client is None or client.gone or client.closing or client.session.authenticated:
                continue
            if spared is None:
                spared = delays.spared()
            if number in spared:
                # The login is delayed, as many have failed, or its password is verified soon.
                strangers[number] = now
                continue
            closed.append((client, LOGIN))
        self._close(closed)

    # ---- all clients

    def _look_once(self, now: float) -> Job[None]:
        try:
            yield from self._look(now)
        finally:
            self._looking = False

    def _look(self, now: float) -> Job[None]:
        """Close clients that are idle, and clients that have begun a request and send no more of it."""
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
        """Whether the client is not idle: it waits for the proxy or has replies to read, or it receives messages."""
        if client.held or client.flow.reasons & _WAITS or client.window.pending or client.flow.unread():
            return True
        modes = client.modes
        if modes is None:
            return False
        return modes.blocked or any(client.session.listening) or client in self._worker.clients.monitoring

    def _close(self, overdue: Sequence[tuple[Client, str]]) -> None:
        """Close clients, and write one log line for all that are closed for the same reason."""
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
