"""CLIENT TRACKING: a client that tracks has connections to the servers of its own, which tell what it has read::

    its requests ──▶ its own Backend ──▶ server          (CLIENT TRACKING ON is part of the greeting)
    it, or whom it redirects to ◀── "invalidate" ◀──┘

On shared connections NOLOOP would be about others' writes, and every client would hear of every key. What may have been
missed, as a connection was lost or slots moved, is made good by the invalidation of everything.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy import errors
from proxy.clock import Deadline
from proxy.commands.facts import Fact, Handling
from proxy.descriptors import Budget
from proxy.engine.sink import Sink
from proxy.flow import Stop
from proxy.greeting import Step
from proxy.lease import Lease
from proxy.resp import encode
from proxy.surroundings import Place
from proxy.topology import Node
from proxy.trackoptions import Tracking, parse

if TYPE_CHECKING:
    from proxy.conversation import Conversation
    from proxy.modes import Modes
    from proxy.service import Service

_INVALIDATE = b">2\r\n$10\r\ninvalidate\r\n"
_MESSAGE = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
_BROKEN = b">2\r\n$21\r\ntracking-redir-broken\r\n"
_NULL = b"_\r\n"
_NULL2 = b"$-1\r\n"
_ON = ("CLIENT", "TRACKING", "ON")
_MOST_WAITING = 1000
"""So many replies and invalidations may wait for an earlier reply before what follows becomes one for everything."""
_AGAIN = 1
"""The token of what servers are told again; that of CLIENT CACHING is 0."""
_CACHING = {word: encode.request(("CLIENT", "CACHING", word)) for word in ("yes", "no")}


class Trackers:
    """The tracking clients of a worker: at most ``most``, as each has a connection to each primary, and at most
    ``share`` of one user at one address."""

    def __init__(self, service: "Service", most: int, share: int, budget: Budget) -> None:
        self._service = service
        self._budget = budget
        self.most = most
        self.share = share
        self._trackers: dict[int, Tracker] = {}

    def __iter__(self) -> Iterator["Tracker"]:
        return iter(list(self._trackers.values()))

    def __len__(self) -> int:
        return len(self._trackers)

    def get(self, owner: int) -> "Tracker | None":
        """That of the client of this number."""
        return self._trackers.get(owner)

    def of(self, holder: str) -> int:
        """How many are of one user at one address."""
        return sum(tracker.holder == holder for tracker in self._trackers.values())

    def begin(self, client: "Conversation", wanted: Tracking) -> "Tracker":
        """``client`` tracks from now on."""
        tracker = self._trackers[client.number] = Tracker(client, wanted)
        tracker.holder = client.holder
        tracker.cost = len(self._service.topology.shards)
        self._budget.taken += tracker.cost
        return tracker

    def end(self, tracker: "Tracker") -> None:
        """It does not any more: its connections are closed."""
        if self._trackers.get(tracker.number) is tracker:
            del self._trackers[tracker.number]
            self._budget.taken -= tracker.cost
            tracker.close()
            self._service.release(tracker.number)

    def leave(self, node: Node) -> None:
        """Let go of what listens at ``node``."""
        for tracker in self:
            tracker.leave(node)

    def moved(self) -> None:
        """Slots have other servers now: what was read from the old ones nobody tells about."""
        for tracker in self:
            tracker.missed()


class Tracker(Sink):
    """One client's tracking; what Backends call is ``surroundings.Owner``. Also takes the answers to CLIENT CACHING."""

    __slots__ = (
        "_all_behind",
        "_anew",
        "_begun",
        "_client",
        "_closed",
        "_companions",
        "_left",
        "_reply",
        "_service",
        "_timer",
        "_token",
        "cost",
        "holder",
        "number",
        "tracking",
    )

    def __init__(self, client: "Conversation", tracking: Tracking) -> None:
        self._client = client
        self._service = client.service
        self._companions: dict[Node, Lease] = {}
        self._timer: Deadline | None = None
        self._token = 0
        self._reply = b""
        self._anew = False
        self._begun = False
        self._closed = False
        self._all_behind = -1
        """Which request would come next when everything was said to have changed, last of all."""
        self._left = 0
        """Answers to come to what servers were told again."""
        self.number = client.number
        self.holder = ""
        """The user and the address that it is of."""
        self.cost = 0
        """How many connections to servers it has, or had when it began."""
        self.tracking = tracking

    def begin(self, token: int, reply: bytes, *, again: bool) -> None:
        """Answer ``reply`` under ``token`` when the servers track, or would by now if they could be reached.

        ``again``: it had other connections before, whose servers do not tell it any more.
        """
        self._token, self._reply, self._anew = token, reply, again
        self._timer = self._service.turn.clock.call_later(self._service.config.backend.connect_timeout, self._ready)
        self._look()

    def change(self, tracking: Tracking, token: int, reply: bytes, now: float) -> None:
        """Other options from now on, over the same connections: ``reply`` under ``token`` when servers have them."""
        # A prefix that a server knows must not be named again.
        more = replace(tracking, prefixes=tuple(sorted({*tracking.prefixes} - {*self.tracking.prefixes})))
        self.tracking = tracking
        self._token, self._reply = token, reply
        backends = self._service.pool.owned(self.number)
        for backend in backends:
            for options in more.options():
                frame = encode.request((*_ON, *self._redirection(backend.place), *options))
                self._left += 1
                backend.send(self, _AGAIN, frame, now, None)
        if not self._left:
            self._answer()

    def close(self) -> None:
        """It is over."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for lease in self._companions.values():
            lease.drop()
        self._companions.clear()

    # ---- as the owner of connections

    async def steps(self, place: Place) -> list[Step]:
        """What a new connection to ``place`` is told. Raises BackendError."""
        if self.tracking.redirect and place.protocol < 3:
            await self._accompany(place)
        return [(*_ON, *self._redirection(place), *options) for options in self.tracking.options()]

    def _redirection(self, place: Place) -> tuple[str | int, ...]:
        """What a connection in RESP2 can not hear its companion does."""
        lease = self._companions.get(place.node)
        return ("REDIRECT", lease.client_id) if lease is not None and place.protocol < 3 else ()

    def pushed(self, frame: bytes) -> None:
        """A server says something unasked."""
        if frame.startswith(_INVALIDATE):
            self._tell(frame[len(_INVALIDATE) :])

    def stood(self) -> None:
        """A connection has become usable."""
        if self._begun and self.tracking.bcast:
            self.missed()
        self._look()

    def leave(self, node: Node) -> None:
        """Let go of what listens at ``node`` for a connection in RESP2."""
        lease = self._companions.pop(node, None)
        if lease is not None:
            lease.drop()

    def missed(self) -> None:
        """Something may have been changed that no server told."""
        self._tell(_NULL)

    def redirected(self) -> None:
        """A request was refused and is sent elsewhere, but CLIENT CACHING before it is not."""
        if self.tracking.optin:
            self.missed()

    # ---- CLIENT CACHING

    @property
    def counted(self) -> bool:
        """The proxy's own requests are not counted."""
        return False

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """CLIENT CACHING is answered; if it failed, what was read behind it is not tracked."""
        if token == _AGAIN:
            self._left -= 1
            if not self._left and not self._closed:
                self._answer()
        elif data[start : start + 1] == b"-":
            self.redirected()

    def before(self, shards: Sequence[int], now: float) -> None:
        """The next request of the client goes to these shards."""
        word = self.tracking.caching
        if not word:
            return
        self.tracking.caching = ""
        client = self._client
        for shard in shards:
            backend = client.routes.writers[shard]
            if backend is not None:
                backend.send(self, 0, _CACHING[word], now, None)
        client.adopt_session()

    def taken(self, fact: Fact) -> None:
        """The client runs a command outside of a transaction: CLIENT CACHING was for it, also if no server sees it."""
        if fact.handling is Handling.SESSION and not fact.name.startswith("client|"):
            self.passed()

    def passed(self) -> None:
        """A command is carried out that goes over none of these connections: CLIENT CACHING was for it all the same."""
        if self.tracking.caching:
            self.tracking.caching = ""
            self._client.adopt_session()

    # ---- what it hears

    def _tell(self, value: bytes) -> None:
        if self._closed:
            return
        client, redirect = self._client, self.tracking.redirect
        if value == _NULL and client.session.protocol < 3:
            value = _NULL2
        if not redirect or redirect == client.number:
            if client.session.protocol < 3:
                return
            modes = client.modes
            if client.window.pending and not (modes is not None and modes.blocked):
                # It must not overtake the reply to a read that came before it and waits for its turn.
                self._line_up(value)
            else:
                client.window.push(_INVALIDATE + value)
            return
        target = self._service.clients.get(redirect)
        if target is None:
            self.tracking.broken = True
            if client.session.protocol >= 3:
                client.window.push(_BROKEN + encode.integer(redirect))
        elif target.session.protocol >= 3:
            target.window.push(_INVALIDATE + value)
        elif any(target.session.listening):
            target.window.push(_MESSAGE + value)

    def _line_up(self, value: bytes) -> None:
        """Say it behind what the client waits for: in the end that everything has changed, as the line is bounded."""
        window = self._client.window
        if window.pending > _MOST_WAITING:
            if window.issued == self._all_behind:
                return  # that is the last word already, and no read has come since
            self._all_behind = window.issued + 1
            value = _NULL
        window.answer(_INVALIDATE + value)

    async def _accompany(self, place: Place) -> None:
        """Have a connection that hears what one in RESP2 can not. Raises BackendError."""
        lease = self._companions.get(place.node)
        if lease is not None and lease.standing:
            return
        found: asyncio.Future[Lease | str] = self._service.loop.create_future()

        def came(lease: Lease | str) -> None:
            if not found.done():
                found.set_result(lease)
            elif isinstance(lease, Lease):
                lease.drop()

        claim = self._service.leases.ask(
            Place(place.shard, place.node, place.primary, 3, 0, 0), came, self._client.holder
        )
        try:
            lease_or_why = await found
        except asyncio.CancelledError:
            claim.cancel()
            if not found.cancelled() and isinstance(late := found.result(), Lease):
                late.drop()
            raise
        if isinstance(lease_or_why, str):
            raise errors.BackendError(lease_or_why)
        lease = lease_or_why
        if self._closed:
            lease.drop()
            raise errors.BackendError("the client does not track any more")
        lease.on_push = self.pushed
        lease.on_lost = lambda reason, sent: self._lost_companion(place.node)
        self._companions[place.node] = lease

    def _lost_companion(self, node: Node) -> None:
        self._companions.pop(node, None)
        self._service.renew(self.number, node)

    # ---- the beginning

    def _look(self) -> None:
        if not self._begun and all(backend.ready for backend in self._client.routes.primaries):
            self._ready()

    def _ready(self) -> None:
        if self._begun:
            return
        self._begun = True
        if self._timer is not None:
            self._timer.cancel()
        self._answer()

    def _answer(self) -> None:
        self._client.window.deliver(self._token, self._reply, 0, len(self._reply))
        if self._anew:
            self._anew = False
            self.missed()


# ---- as commands


def track(modes: "Modes", fact: Fact, args: list[bytes], frame: bytes, now: float) -> bool:
    """CLIENT TRACKING: what was sent before is answered first, as what follows goes over other connections."""
    client = modes.client
    if not client.alone():
        return False
    service, session = client.service, client.session
    asked = parse(args, session.tracking, lambda number: _why_not(service, number))
    if isinstance(asked, str):
        client.say(fact, encode.error(asked))
        return True
    if asked is None:
        stop(modes)
        client.say(fact, encode.OK)
        return True
    before = session.tracking
    if before is None and len(service.trackers) >= service.trackers.most:
        client.refuse(fact, errors.too_many_trackers(service.trackers.most))
        return True
    if before is None and service.trackers.of(client.holder) >= service.trackers.share:
        client.refuse(fact, errors.trackers_share(client.holder, service.trackers.share))
        return True
    if before is None and not service.budget.has(len(service.topology.shards)):
        client.refuse(fact, errors.no_descriptors(service.budget.most))
        return True
    service.counters.command(fact.name).calls += 1
    reply = b"" if session.muted() else encode.OK
    session.tracking = asked
    tracker = modes.tracker
    if tracker is not None and before is not None and bool(before.redirect) == bool(asked.redirect):
        tracker.change(asked, client.window.reserve(), reply, now)
    else:
        if tracker is not None:
            service.trackers.end(tracker)
        modes.tracker = service.trackers.begin(client, asked)
        client.adopt_session()
        modes.tracker.begin(client.window.reserve(), reply, again=tracker is not None)
    client.flow.stop(Stop.ORDER)
    return True


def stop(modes: "Modes") -> None:
    """Track no more."""
    tracker, modes.tracker = modes.tracker, None
    if tracker is not None:
        client = modes.client
        client.session.tracking = None
        client.service.trackers.end(tracker)


def choose(modes: "Modes", fact: Fact, args: list[bytes], frame: bytes, now: float) -> bool:
    """CLIENT CACHING YES | NO."""
    client = modes.client
    tracking = client.session.tracking
    wrong = errors.NO_CACHING if tracking is None else tracking.choose(args[2])
    client.say(fact, encode.error(wrong) if wrong else encode.OK)
    return True


def _why_not(service: "Service", number: int) -> str | None:
    """Why nothing can be redirected to the client of this number."""
    if service.clients.get(number) is not None:
        return None
    workers = service.census.workers
    if workers > 1 and (number - 1) % workers != service.census.index and number > 0:
        return errors.other_worker(number)
    return "ERR The client ID you want redirect to does not exist"


COMMANDS = {"client|tracking": track, "client|caching": choose}
"""By the fact's name."""
