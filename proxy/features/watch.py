"""The keys that a client watches.

A ``Watch`` keeps its lease from WATCH on. If that is lost, or its slot moves, nobody can say any more whether a key was
changed: then it is ``broken``, and EXEC answers null as if one had been. So it is when it is as old as it may be
(``backend.watch_timeout``): others need the connection.
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
"""Seconds until it is looked again whether it can be ended."""
Watched = Callable[["Watch | None", bytes], None]
"""Gets what is watched from now on, and the reply to WATCH."""


class WatchState(Enum):
    """How far the server is with the keys that a client watches."""

    NEW = "new"
    """No server has been told of them."""
    ASKED = "asked"
    """The first WATCH is on its way."""
    STANDING = "standing"
    """The server watches them."""
    ADDING = "adding"
    """The server watches them, and a WATCH of more keys is on its way."""
    BROKEN = "broken"
    """Nobody watches them any more, and EXEC answers null."""
    ENDED = "ended"
    """The client watches nothing any more, or EXEC is on its way."""


class WatchEvent(Enum):
    """What happens to the keys that a client watches."""

    BEGIN = "begin"
    """The first WATCH is sent."""
    ADD = "add"
    """A WATCH of more keys is sent."""
    CONFIRM = "confirm"
    """The server watches all of them."""
    DENY = "deny"
    """The server refuses to, or what was sent is lost."""
    LOSE = "lose"
    """The connection is lost, or given back as it was kept for too long."""
    EXECUTE = "execute"
    """EXEC is sent."""
    RELEASE = "release"
    """The client does not want to watch them any more, or is gone."""


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
"""The next state. What is not here can not happen."""


class Watch:
    """The keys that a client watches, all in one slot; see the module's text."""

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
        """What was known when the keys were watched: a redirection may have known better."""
        self._odd = False
        """The lease is not in the state any more in which it was made."""
        self.slots: frozenset[int] = frozenset()
        self._request: ExecRequest | None = None
        """What is under way."""
        self._timer: asyncio.TimerHandle | None = None
        """Until it is too old."""

    def __repr__(self) -> str:
        return f"Watch({self.state.value} {self._lease})"

    def _happened(self, event: WatchEvent) -> None:
        """Change the state. Raises ``RuntimeError`` for what can not happen in it."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise RuntimeError(f"{event.name} comes for a watch that is {self.state.name}")
        self.state = state

    @property
    def broken(self) -> bool:
        """Whether nobody can say any more if a key was changed."""
        lease = self._lease
        if lease is None or not lease.standing:
            return True
        service = self._client.service
        if service.upstream.holds(lease.place.shard):
            return True  # what is written there now would be lost
        topology = service.topology
        if self._asking or topology is self._topology:
            return False
        shard = serving(topology, self.slots)
        return shard is None or shard.primary != lease.place.node

    def begin(self, slots: frozenset[int], frame: bytes, then: Watched) -> None:
        """Watch the first keys: those in ``slots``, by the request in ``frame``."""

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
        """Watch more keys of its slot."""
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
        """Send a transaction's block where the keys are watched, which they are not any more; ``moves``: it leaves the
        connection in another state. ``fenced``: see ``ExecRequest``."""
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
        """Watch no more."""
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
        """It is too old: as if a key had been changed."""
        service = self._client.service
        self._timer = None
        if self._request is not None:  # more keys are on their way to be watched
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
        """The client may have chosen another database or protocol since."""
        session = self._client.session
        now = self._client.service.turn.now()
        if session.protocol != self._protocol:
            lease.send(DISCARD, 0, encode.request(("HELLO", session.protocol)), now)
        if session.db != self._db:
            lease.send(DISCARD, 0, encode.request(("SELECT", session.db)), now)
        self._odd = self._odd or (session.protocol, session.db) != (self._protocol, self._db)
        self._protocol, self._db = session.protocol, session.db


def give_back(leases: Leases, lease: Lease, odd: bool) -> None:
    """Let go of a lease, whatever it watches; ``odd``: it is not in the state any more that it was made in."""
    if odd:
        lease.drop()
    else:
        leases.give_back(lease)
