"""Refused requests and the requests of the same client in flight behind them: the state and the outcome of each."""

from collections.abc import Callable

from proxy.backends.settings import Place
from proxy.engine.entry import Entry
from proxy.engine.sink import ForwardingSink, Sink
from proxy.planning.refusals import NOSCRIPT, READONLY, UNSENT, Refusal
from proxy.planning.retry_rules import Look, Outcome


class RefusedRequest:
    """One request that was refused, or that may be."""

    __slots__ = ("due", "entry", "first", "hops", "in_vain", "look", "outcome", "place", "refusal", "whole")

    def __init__(self, entry: Entry, place: Place) -> None:
        self.entry = entry
        self.place = place
        self.look: Look | None = None
        self.outcome = Outcome.OPEN
        self.refusal: Refusal | None = None
        self.hops = 0
        self.in_vain = False
        """Whether a retry cannot succeed (the script was already loaded and is still missing)."""
        self.first = 0.0
        """The time of the first refusal."""
        self.due = 0.0
        """The time from which the request may be sent again."""
        self.whole: object = self
        """The request that this one is a part of: the parts of one request may be carried out in any order."""

    def refuse(self, refusal: Refusal, now: float) -> None:
        """Note that the request was refused at ``now``."""
        if not self.hops:
            self.first = now
        self.outcome = Outcome.REFUSED
        # A script that is missing after it was loaded can not be loaded.
        self.in_vain = refusal.kind == NOSCRIPT and self.refusal == refusal and not refusal.pause
        self.refusal = refusal
        self.due = now + refusal.wait(self.hops)
        self.hops += 1


class WatchingSink(ForwardingSink):
    """Wraps a client's sink while its requests are watched, and records the outcome of each."""

    __slots__ = ("_party", "_tickets")

    def __init__(self, party: "RequestGroup", sink: Sink) -> None:
        self._party = party
        super().__init__(sink)
        self._tickets: dict[int, RefusedRequest] = {}

    def add(self, ticket: RefusedRequest) -> None:
        """Watch one more request."""
        self._tickets[ticket.entry.token] = ticket

    def ticket(self, token: int) -> RefusedRequest:
        """The request with this token."""
        return self._tickets[token]

    def refuse(self, token: int, place: Place, refusal: Refusal, now: float) -> None:
        """Note that the server at ``place`` refused the request."""
        ticket = self._tickets.pop(token)
        ticket.place = place
        ticket.refuse(refusal, now)
        self._party.refused = True
        if refusal.kind == READONLY:
            self._party.demoted = refusal
        self._party.settle()

    def recall(self, token: int, place: Place, error: bytes, now: float) -> bool:
        """Whether the request, which has not run at ``place``, joins the refused requests of its group, to be sent
        again in order. ``error`` is its answer if the deadline passes before."""
        if not self._party.refused:
            return False
        self.refuse(token, place, Refusal(UNSENT, error), now)
        return True

    def _is_stale(self, token: int) -> bool:
        """Whether the request is a read that was answered by a server that has just refused a write as a replica: the
        read is then refused too, as it may have to see that write."""
        refusal, ticket = self._party.demoted, self._tickets.get(token)
        if refusal is None or ticket is None or not self._party.look(ticket).readonly:
            return False
        self.refuse(token, ticket.place, refusal, ticket.entry.since)
        return True

    def _ran(self, token: int) -> None:
        ticket = self._tickets.pop(token, None)
        if ticket is not None:
            ticket.outcome = Outcome.RAN
            self._party.settle()

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Pass the reply on; the request ran, or may have."""
        if self._is_stale(token):
            return
        self.sink.deliver(token, data, start, end)
        self._ran(token)

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        """Pass the pieces on; the request ran."""
        self.sink.deliver_pieces(token, pieces)
        self._ran(token)

    def accepts_stream(self, token: int) -> bool:
        """Whether the sink accepts a stream; a read that may have to be sent again needs its whole reply."""
        return self._party.demoted is None and self.sink.accepts_stream(token)

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Pass the piece on; the request ran."""
        self.sink.stream(token, data, last)
        self._ran(token)

    def abort_stream(self, token: int) -> None:
        """Pass the end of the stream on; the request ran."""
        self.sink.abort_stream(token)
        self._ran(token)


class RequestGroup:
    """Requests of one client that are in flight together, in order. ``then`` is called when each has its outcome."""

    __slots__ = ("_look", "_open", "_then", "_watches", "demoted", "refused", "tickets")

    def __init__(self, then: Callable[["RequestGroup"], None], look: Callable[[bytes], Look]) -> None:
        self._then = then
        self._look = look
        self.demoted: Refusal | None = None
        """The READONLY refusal, if the server refused one of the requests so."""
        self.refused = False
        """Whether one of the requests was refused."""
        self._open = 0
        self._watches: dict[Sink, WatchingSink] = {}
        self.tickets: list[RefusedRequest] = []

    def add(self, ticket: RefusedRequest) -> WatchingSink:
        """Add a request that is sent behind the others. Returns the sink to send it with."""
        ticket.outcome = Outcome.OPEN
        self.tickets.append(ticket)
        self._open += 1
        sink = ticket.entry.sink
        watch = self._watches.get(sink)
        if watch is None:
            watch = self._watches[sink] = WatchingSink(self, sink)
        watch.add(ticket)
        return watch

    def look(self, ticket: RefusedRequest) -> Look:
        """The flags and slots of the request."""
        if ticket.look is None:
            ticket.look = self._look(ticket.entry.frame)
        return ticket.look

    def settle(self) -> None:
        """Count one more request that has its outcome."""
        self._open -= 1
        if not self._open:
            self._then(self)
