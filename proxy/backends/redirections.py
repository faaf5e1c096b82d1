"""Sends requests that a server refused to a server that takes them: redirections and retries, in order.

A refused request may be sent again only if no later request of its client on its slot has run. So at the first refusal
all requests of the client in flight on that connection are watched (once for any number of refusals), and nothing is
read from the client until all that it sent is answered::

    refused ──▶ RequestGroup: its client's requests in flight there, in order ──▶ each answered, or refused too
                                                                             │
             a later one ran ──▶ the refusal is the answer        the others ▼
                                            RetryChain, one for each slot: as many as go to one server, then the next
                                                                             │
                                                              again a RequestGroup, until all are answered

An error that a client's script may have worded must be proven to be a refusal: its twin (``proxy.planning.proof``) is
sent over the same connection, and meanwhile the request counts as unanswered. That does not suffice where a server's
state changes from one moment to the next: as long as any request was refused lately (``unsettled``), the twin goes
ahead of each request, in the same write.
"""

import asyncio
from collections.abc import Callable, Iterable

from proxy import server_errors
from proxy.backends.refused_requests import RefusedRequest, RequestGroup, WatchingSink
from proxy.backends.settings import BackendSettings, Place
from proxy.backends.shared import Backend
from proxy.engine.entry import Entry
from proxy.engine.sink import ASKED, Sink
from proxy.planning.proof import Doubt, Proof
from proxy.planning.refusals import ASKING, HOPS, NOSCRIPT, READONLY, TRYAGAIN, Refusal
from proxy.planning.retry_rules import Look, Outcome, repeatable
from proxy.resp import encode
from proxy.sharding.topology import Node

_SETTLING = 2.0
"""Seconds after the last refusal until its cause counts as over."""
At = Callable[[Place, Node], Backend]
"""Returns the connection to a primary: the node is given, the rest is as in the place."""
Split = Callable[[Entry], list[Entry]]
"""Returns the smaller requests that replace one; none if it can not be split."""


class Redirections:
    """All refused requests of a worker. ``on_change`` is called when ``unsettled`` changes."""

    def __init__(
        self, settings: BackendSettings[Backend], at: At, split: Split, on_change: Callable[[], object]
    ) -> None:
        self.settings = settings
        self.at = at
        self.split = split
        self.loop = asyncio.get_running_loop()
        self.chains: set[RetryChain] = set()
        self.unsettled = False
        """Whether a request was refused lately, so that further requests may be."""
        self._on_change = on_change
        self._settles = 0.0
        """The time at which ``unsettled`` ends, if nothing is refused until then."""
        self._timer: asyncio.TimerHandle | None = None
        self._forestalled: dict[tuple[Sink, int], Refusal] = {}
        """The refusals of twins that were sent ahead of requests, by the sink and token of the request."""
        self._other_twins: dict[str, bytes] = {}
        """The replies of servers to users that may not send the usual twin, by user."""

    def __repr__(self) -> str:
        return f"Redirections({len(self.chains)} chains)"

    def refused(self, backend: Backend, entry: Entry, refusal: Refusal | Doubt) -> None:
        """Handle the refusal of ``entry``, the oldest request in flight on ``backend``; a ``Doubt`` has yet to be
        proven."""
        watch = entry.sink if isinstance(entry.sink, WatchingSink) else self._watch(backend, entry)
        if isinstance(refusal, Doubt):
            self._prove(backend, watch, entry, refusal)
        else:
            self._refuse(backend, watch, entry.token, refusal)

    def _refuse(self, backend: Backend, watch: WatchingSink, token: int, refusal: Refusal) -> None:
        settings = self.settings
        settings.counters.redirect(refusal.kind)
        if refusal.kind != NOSCRIPT:
            settings.events.hint(refusal.hint)
            self._stir()
        if refusal.kind == READONLY and not backend.retired:
            settings.events.demoted(backend.place)
        watch.refuse(token, backend.place, refusal, settings.turn.now())

    def _prove(self, backend: Backend, watch: WatchingSink, entry: Entry, doubt: Doubt) -> None:
        """Ask ``backend`` for the twin of ``entry``. The request has no outcome until the twin is answered."""
        ticket = watch.ticket(entry.token)

        def told(reply: bytes) -> None:
            if (other := doubt.denied(reply)) is not None:
                self._prove(backend, watch, entry, other)
                return
            found = doubt.judge(reply, backend.place.node)
            if found is not None:
                self._refuse(backend, watch, entry.token, found)
                return
            self.settings.events.count_error(watch, entry.frame)
            watch.deliver(entry.token, doubt.error, 0, len(doubt.error))

        forestalled = self._forestalled.pop((watch.sink, entry.token), None)
        if doubt.kind != NOSCRIPT and forestalled is not None:
            self._refuse(backend, watch, entry.token, forestalled)
            return
        asking = ticket.refusal is not None and ticket.refusal.asks
        self._ask(backend, doubt, told, entry.since, asking=asking)

    def forestall(
        self, backend: Backend, doubt: Doubt, sink: Sink, token: int, since: float, *, asking: bool = False
    ) -> None:
        """Send the twin of a request to ``backend`` ahead of the request."""
        node, user = backend.place.node, backend.place.user
        other = self._other_twins.get(user, b"")
        doubt = doubt.denied(other) or doubt

        def told(reply: bytes) -> None:
            if doubt.denied(reply) is not None:
                self._other_twins[user] = reply
            found = doubt.judge(reply, node)
            if found is not None:
                self._forestalled[sink, token] = found

        self._ask(backend, doubt, told, since, asking=asking)

    def _ask(
        self, backend: Backend, doubt: Doubt, told: Callable[[bytes], None], since: float, *, asking: bool
    ) -> None:
        """Send a twin to ``backend``; ``asking``: with ASKING ahead of it, like the request."""
        if asking:
            backend.send(ASKED, 0, ASKING, since, None)
        backend.send(Proof(told), 0, doubt.twin, since, None)

    def _stir(self) -> None:
        self._settles = self.settings.turn.now() + _SETTLING
        if not self.unsettled:
            self.unsettled = True
            self._timer = self.loop.call_later(_SETTLING, self._settle)
            self._on_change()

    def _settle(self) -> None:
        left = self._settles - self.settings.turn.now()
        if left > 0:
            self._timer = self.loop.call_later(left, self._settle)
            return
        self.unsettled = False
        # The remaining requests were carried out although their twins were refused.
        self._forestalled.clear()
        self._on_change()

    def wait(self, entry: Entry, place: Place, refusal: Refusal) -> None:
        """Keep ``entry``, which no server can take now, until one can. ``place`` is where it would have been sent."""
        entry.sink.halt()
        ticket = RefusedRequest(entry, place)
        ticket.refuse(refusal, self.settings.turn.now())
        self.settings.events.hint(None)
        self._resume((ticket,))

    def close(self) -> None:
        """Answer all requests with their refusals."""
        if self._timer is not None:
            self._timer.cancel()
        for chain in list(self.chains):
            chain.close()

    def _watch(self, backend: Backend, refused: Entry) -> WatchingSink:
        """Watch all requests in flight on ``backend`` of the client whose request was ``refused``. Returns the watch of
        that request."""
        # From here on the client sends nothing behind the watched requests. Other clients are not halted, so their
        # requests are not watched.
        refused.sink.halt()
        owner = refused.sink.owner
        party = RequestGroup(self._settled, self.settings.events.look)
        first = party.add(RefusedRequest(refused, backend.place))
        sinks: dict[int, Sink] = {}
        for at, entry in backend.inflight.of(owner):
            if not isinstance(entry.sink, WatchingSink):
                sinks[at] = party.add(RefusedRequest(entry, backend.place))
        backend.inflight.rewire(sinks)
        return first

    def _settled(self, party: RequestGroup) -> None:
        self._resume(self.again(party))

    def again(self, party: RequestGroup) -> list[RefusedRequest]:
        """The refused requests of a settled group that may be sent again, in order; the other refused ones are
        answered."""
        tickets = party.tickets
        for ticket in tickets:
            if ticket.look is None:
                ticket.look = self.settings.events.look(ticket.entry.frame)
        may = repeatable([(ticket.outcome, ticket.look or Look(False, None), ticket.whole) for ticket in tickets])
        for ticket, yes in zip(tickets, may, strict=True):
            if ticket.outcome is Outcome.REFUSED and not yes:
                self.give_up(ticket, server_errors.overtaken)
        return [ticket for ticket, yes in zip(tickets, may, strict=True) if yes]

    def _resume(self, tickets: Iterable[RefusedRequest]) -> None:
        """Send the requests again; those on one slot are sent in order."""
        by_slot: dict[frozenset[int] | None, list[RefusedRequest]] = {}
        for ticket in tickets:
            if ticket.look is None:
                ticket.look = self.settings.events.look(ticket.entry.frame)
            by_slot.setdefault(ticket.look.slots, []).append(ticket)
        if any(slots is None or len(slots) > 1 for slots in by_slot):
            by_slot = {None: [ticket for group in by_slot.values() for ticket in group]}
        for group in by_slot.values():
            RetryChain(self, group).step()

    def give_up(self, ticket: RefusedRequest, words: Callable[[str, str, str], str] | None = None) -> None:
        """Answer a request with its refusal; ``words`` makes the text for a redirection, unless there were too many."""
        refusal = ticket.refusal
        assert refusal is not None
        error = refusal.error
        if refusal.kind in ("MOVED", "ASK"):
            said = (ticket.place.shard, ticket.place.node.address, refusal.error[1:-2].decode("latin-1"))
            error = encode.error(words(*said) if words else server_errors.redirected(*said, ticket.hops))
        self.answer(ticket, error)

    def answer(self, ticket: RefusedRequest, error: bytes) -> None:
        """Answer a request that was not carried out with an error."""
        entry = ticket.entry
        self.settings.events.count_error(entry.sink, entry.frame)
        entry.sink.deliver(entry.token, error, 0, len(error))


class RetryChain:
    """Refused requests of one client that must be carried out in order."""

    __slots__ = ("_redirections", "_tickets", "_timer")

    def __init__(self, redirections: Redirections, tickets: list[RefusedRequest]) -> None:
        self._redirections = redirections
        self._tickets = tickets
        self._timer: asyncio.TimerHandle | None = None
        redirections.chains.add(self)

    def step(self) -> None:
        """Send the requests that may be sent now: from the first on, as many as go to the same server."""
        redirections = self._redirections
        self._timer = None
        while self._tickets:
            first = self._tickets[0]
            now = redirections.settings.turn.now()
            if self._is_late(first, now):
                redirections.give_up(self._tickets.pop(0))
                continue
            if now < first.due:
                break
            parts = self._parts(first)
            if parts:
                self._tickets[:1] = parts
                first = parts[0]
            target = self._target(first)
            if target is None:
                assert first.refusal is not None
                first.due = now + first.refusal.wait(first.hops)
                first.hops += 1
            elif not target.usable:
                redirections.answer(self._tickets.pop(0), target.down_error())
            else:
                self._send(target)
                return
        if self._tickets:
            self._timer = redirections.loop.call_later(max(self._tickets[0].due - now, 0.001), self.step)
        else:
            redirections.chains.discard(self)

    def close(self) -> None:
        """Answer all requests with their refusals."""
        if self._timer is not None:
            self._timer.cancel()
        tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            self._redirections.give_up(ticket)
        self._redirections.chains.discard(self)

    def _is_late(self, ticket: RefusedRequest, now: float) -> bool:
        timing = self._redirections.settings.timing
        return (
            ticket.in_vain
            or now - ticket.first >= timing.retry_deadline
            or now - ticket.entry.since >= timing.request_timeout
            or ticket.hops >= HOPS
        )

    def _parts(self, ticket: RefusedRequest) -> list[RefusedRequest]:
        """The parts of a request whose server has only some of its keys, one for each key; empty if it can not be
        split."""
        if ticket.refusal is None or ticket.refusal.kind != TRYAGAIN:
            return []
        parts = []
        for entry in self._redirections.split(ticket.entry):
            part = RefusedRequest(entry, ticket.place)
            part.look = ticket.look
            part.refusal = ticket.refusal
            part.first, part.hops = ticket.first, ticket.hops
            part.whole = ticket.whole
            parts.append(part)
        return parts

    def _target(self, ticket: RefusedRequest) -> Backend | None:
        refusal, look = ticket.refusal, ticket.look
        assert refusal is not None
        assert look is not None
        if refusal.node is not None:
            return self._redirections.at(ticket.place, refusal.node)
        return self._redirections.settings.events.where(ticket.place, look)

    def _send(self, target: Backend) -> None:
        party = RequestGroup(self._settled, self._redirections.settings.events.look)
        count = 0
        for ticket in self._tickets:
            if count and self._target(ticket) is not target:
                break
            count += 1
        group, self._tickets = self._tickets[:count], self._tickets[count:]
        for ticket in group:
            entry = ticket.entry
            self._redirections.settings.events.prepare(entry.frame, target, entry.since)
            asking = ticket.refusal is not None and ticket.refusal.asks
            doubt = self._redirections.settings.events.doubt(entry.frame) if self._redirections.unsettled else None
            if doubt is not None:
                self._redirections.forestall(target, doubt, entry.sink, entry.token, entry.since, asking=asking)
            if asking:
                target.send(ASKED, 0, ASKING, entry.since, None)
            target.send(party.add(ticket), entry.token, entry.frame, entry.since, None)

    def _settled(self, party: RequestGroup) -> None:
        self._tickets[:0] = self._redirections.again(party)
        self.step()
