"""The keys that a client watches.

A ``Watch`` keeps its lease from WATCH on. If the lease is lost, or its slot moves, nobody can know whether a key was
changed: then the watch is ``broken``, and EXEC answers null as if one had been. The same happens when the watch reaches
its age limit (``backend.watch_timeout``), since other clients need the connection.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from enum import Enum

from proxy.backends.dedicated_pool import Lease, Leases
from proxy.backends.dedicated_request import Fate
from proxy.backends.exec_request import ExecRequest, Then, serving
from proxy.engine.sink import DISCARD
from proxy.features.host import Host
from proxy.resp import encode
from proxy.sharding.topology import Topology

log = logging.getLogger(__name__)

_SOON = 1.0
"""Seconds until the next attempt to end a watch that has reached its age limit."""
Watched = Callable[["Watch | None", bytes], None]
"""Gets the watch from now on, or None, and the reply to WATCH."""


class WatchState(Enum):
    """The states of a watch."""

    NEW = "new"
    """No WATCH has been sent."""
    ASKED = "asked"
    """The first WATCH is in flight."""
    STANDING = "standing"
    """The server watches the keys."""
    ADDING = "adding"
    """The server watches the keys, and a WATCH of more keys is in flight."""
    BROKEN = "broken"
    """No server watches the keys any more, and EXEC answers null."""
    ENDED = "ended"
    """The client watches no keys any more, or EXEC is in flight."""


class WatchEvent(Enum):
    """The events of a watch."""

    BEGIN = "begin"
    """The first WATCH is sent."""
    ADD = "add"
    """A WATCH of more keys is sent."""
    CONFIRM = "confirm"
    """The server watches all keys."""
    DENY = "deny"
    """The server refuses the WATCH, or the request is lost."""
    LOSE = "lose"
    """The connection is lost, or was given back at the age limit."""
    EXECUTE = "execute"
    """EXEC is sent."""
    RELEASE = "release"
    """The client does not watch the keys any more, or is gone."""


TRANSITIONS: Mapping[tuple[WatchState, WatchEvent], WatchState] = {
    (WatchState.NEW, WatchEvent.BEGIN): WatchState.ASKED,
    (WatchState.ASKED, WatchEvent.CONFIRM): WatchState.STANDING,
    (WatchState.ASKED, WatchEvent.DENY): WatchState.ENDED,
    (WatchState.STANDING, WatchEvent.ADD): WatchState.ADDING,
    (WatchState.ADDING, WatchEvent.CONFIRM): WatchState.STANDING,
    (WatchState.ADDING, WatchEvent.DENY): WatchState.BROKEN,
    (WatchState.STANDING, WatchEvent.LOSE): WatchState.BROKEN,
    (WatchState.STANDING, WatchEvent.EXECUTE): WatchState.ENDED,
    (WatchState.ASKED, WatchEvent.RELEASE): WatchState.ENDED,
    (WatchState.STANDING, WatchEvent.RELEASE): WatchState.ENDED,
    (WatchState.ADDING, WatchEvent.RELEASE): WatchState.ENDED,
    (WatchState.BROKEN, WatchEvent.RELEASE): WatchState.ENDED,
}
"""The next state by state and event. A pair that is missing can not occur."""


class Watch:
    """The keys that a client watches, all in one slot, as described at the beginning of this module."""

    __slots__ = (
        "_asking",
        "_client",
        "_db",
        "_lease",
        "_odd",
        "_protocol",
        "_request",
        "_timer",
        "_topology",
        "_upstream",
        "slots",
        "state",
    )

    def __init__(self, client: Host) -> None:
        self._client = client
        self._upstream = client.service.upstream
        self.state = WatchState.NEW
        self._lease: Lease | None = None
        self._asking = False
        self._db = client.session.db
        self._protocol = client.session.protocol
        self._topology: Topology | None = None
        """The topology when the keys were watched; a redirection may have been newer."""
        self._odd = False
        """Whether the connection's state differs from the one in which it was made."""
        self.slots: frozenset[int] = frozenset()
        self._request: ExecRequest | None = None
        """The request in flight."""
        self._timer: asyncio.TimerHandle | None = None
        """Runs until the watch reaches its age limit."""

    def __repr__(self) -> str:
        return f"Watch({self.state.value} {self._lease})"

    def _happened(self, event: WatchEvent) -> None:
        """Change the state. Raises ``RuntimeError`` for an event that the state does not allow."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise RuntimeError(f"{event.name} comes for a watch that is {self.state.name}")
        self.state = state

    @property
    def broken(self) -> bool:
        """Whether nobody can know any more if a key was changed."""
        lease = self._lease
        if lease is None or not lease.standing:
            return True
        service = self._client.service
        if service.upstream.holds(lease.place.shard):
            return True  # writes to that primary would be lost now
        if lease.place.user != self._client.session.route.server_user:
            return True  # the client has logged in as another user since
        topology = service.topology
        if self._asking or topology is self._topology:
            return False
        shard = serving(topology, self.slots)
        return shard is None or shard.primary != lease.place.node

    def begin(self, slots: frozenset[int], frame: bytes, then: Watched) -> None:
        """Watch the first keys, which are in ``slots``, by the request in ``frame``."""

        def done(lease: Lease | None, fate: Fate, reply: bytes) -> None:
            self._request = None
            if lease is not None and not reply.startswith(b"-"):
                self._happened(WatchEvent.CONFIRM)
                self._keep(lease, request.asking)
                service = self._client.service
                if age := service.config.backend.watch_timeout:
                    self._timer = service.loop.call_later(age, self._expire, age)
                then(self, reply)
                return
            self._happened(WatchEvent.DENY)
            if lease is not None:
                self._client.service.upstream.leases.give_back(lease)
            then(None, reply)

        self._happened(WatchEvent.BEGIN)
        self.slots = slots
        request = self._request = ExecRequest(self._upstream, self._client, slots, frame, done, repeat=True)
        request.start()

    def add(self, frame: bytes, then: Watched) -> None:
        """Watch more keys of the same slot."""
        lease = self._lease
        if lease is None or self.broken:
            then(self, encode.OK)
            return

        def done(lease: Lease | None, fate: Fate, reply: bytes) -> None:
            self._request = None
            if fate is Fate.ANSWERED and lease is not None:
                self._happened(WatchEvent.CONFIRM)
                self._keep(lease, self._asking)
                then(self, reply)
                return
            self._happened(WatchEvent.DENY)
            if lease is not None:
                lease.drop()
            self._lease = None
            then(self, encode.OK)

        self._happened(WatchEvent.ADD)
        self._follow_session(lease)
        self._request = ExecRequest(
            self._client.service.upstream, self._client, self.slots, frame, done, lease=lease, asking=self._asking
        )
        self._request.start()

    def execute(self, frame: bytes, moves: bool, then: Then, *, fenced: bool) -> None:
        """Send a transaction's block over the connection that watches the keys, which ends the watch. ``moves``: the
        block changes the connection's state. ``fenced``: see ``ExecRequest``."""
        self._happened(WatchEvent.EXECUTE)
        lease, self._lease = self._lease, None
        assert lease is not None
        self._end_timer()

        def done(lease: Lease | None, fate: Fate, reply: bytes) -> None:
            if lease is not None:
                give_back(self._client.service.upstream.leases, lease, self._odd or moves)
            then(None, fate, reply)

        self._follow_session(lease)
        ExecRequest(
            self._client.service.upstream,
            self._client,
            self.slots,
            frame,
            done,
            lease=lease,
            asking=self._asking,
            fenced=fenced,
        ).start()

    def release(self) -> None:
        """End the watch."""
        self._happened(WatchEvent.RELEASE)
        lease, self._lease = self._lease, None
        self._end_timer()
        if self._request is not None:
            self._request.cancel()
            return
        if lease is None:
            return
        give_back(self._client.service.upstream.leases, lease, self._odd)

    def _keep(self, lease: Lease, asking: bool) -> None:
        self._lease = lease
        self._asking = asking
        self._topology = self._client.service.topology
        lease.on_lost = self._lost

    def _lost(self, reason: str, sent: bool) -> None:
        self._happened(WatchEvent.LOSE)
        self._lease = None
        self._end_timer()

    def _expire(self, age: float) -> None:
        """End the watch at its age limit ``age``, as if a key had been changed."""
        service = self._client.service
        self._timer = None
        if self._request is not None:  # a WATCH of more keys is in flight
            self._timer = service.loop.call_later(_SOON, self._expire, age)
            return
        lease, self._lease = self._lease, None
        if lease is not None:
            self._happened(WatchEvent.LOSE)
            log.warning("watch ended as it is too old address=%s seconds=%g", self._client.session.address, age)
            give_back(service.upstream.leases, lease, self._odd)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _follow_session(self, lease: Lease) -> None:
        """Adopt the client's database and protocol, which may have changed since."""
        session = self._client.session
        now = self._client.service.turn.now()
        if session.protocol != self._protocol:
            lease.send(DISCARD, 0, encode.request(("HELLO", session.protocol)), now)
        if session.db != self._db:
            lease.send(DISCARD, 0, encode.request(("SELECT", session.db)), now)
        self._odd = self._odd or (session.protocol, session.db) != (self._protocol, self._db)
        self._protocol, self._db = session.protocol, session.db


def give_back(leases: Leases, lease: Lease, odd: bool) -> None:
    """Give a lease back, whatever it watches. ``odd``: its state differs from the one in which it was made."""
    if odd:
        lease.drop()
    else:
        leases.give_back(lease)
