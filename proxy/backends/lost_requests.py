"""Requests that get no reply over the connection that took them are sent again, or answered with an error that says
whether the request may have been carried out."""

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from proxy import server_errors
from proxy.backends.refused_requests import WatchingSink
from proxy.backends.settings import BackendSettings, Place
from proxy.engine.entry import Entry
from proxy.engine.jobs import MORE, Job, at_once
from proxy.engine.sink import UNASKED, Sink
from proxy.planning.proof import Proof
from proxy.planning.retry_rules import judge
from proxy.resp import encode

_FEW = 200
"""The number of requests that are settled at once, which takes a millisecond or two."""


class Losing(Protocol):
    """A connection whose requests may get no reply."""

    @property
    def place(self) -> Place:
        """The place of the server."""

    @property
    def ready(self) -> bool:
        """Whether the connection is open and greeted."""

    @property
    def retired(self) -> bool:
        """Whether the connection gets no new requests."""

    def down_error(self) -> bytes:
        """The error reply for a request that is not sent."""

    def send(self, sink: Sink, token: int, frame: bytes, since: float, holder: None) -> None:
        """Send a request."""


_Connection = TypeVar("_Connection", bound=Losing)


class LostRequests(Generic[_Connection]):
    """Settles the requests of one connection."""

    def __init__(self, backend: _Connection, settings: BackendSettings[_Connection]) -> None:
        self._backend = backend
        self._settings = settings

    def settle(self, written: Sequence[Entry], unwritten: Sequence[Entry]) -> None:
        """Settle the requests of a lost connection: written ones that may have run are answered, the rest is sent
        again."""
        self._run(self._settling(written, unwritten), (*written, *unwritten))

    def _settling(self, written: Sequence[Entry], unwritten: Sequence[Entry]) -> Job[None]:
        place = self._backend.place
        verdict = yield from judge(self._real(written), self._settings.events.look)
        self._settings.counters.retries += len(verdict.again)
        for entry in verdict.stale:
            self._answer(entry, server_errors.read_lost(place.shard, place.node.address))
            yield MORE
        yield from self._uncertain(verdict.uncertain, place, "closed the connection before it answered")
        yield from self._sending_on((*verdict.again, *unwritten))

    def send_on(self, entries: Sequence[Entry]) -> None:
        """Send requests that may be sent again where they belong now, which may be the same connection."""
        self._run(self._sending_on(entries), entries)

    def _sending_on(self, entries: Sequence[Entry]) -> Job[None]:
        settings = self._settings
        backend = self._backend
        # Any server of the shard can answer a read that a replica may answer.
        reader = settings.events.elsewhere(backend)
        for entry in self._real(entries):
            yield MORE
            # A request behind a refused one must not overtake it.
            if isinstance(entry.sink, WatchingSink) and entry.sink.recall(
                entry.token, backend.place, backend.down_error(), settings.turn.now()
            ):
                continue
            look = settings.events.look(entry.frame)
            if look.replica_ok and (reader is not backend or not (backend.place.primary or backend.retired)):
                target: _Connection | None = reader
            else:
                target = settings.events.where(backend.place, look)
            if target is None:
                settings.events.wait(entry, backend.place)
            else:
                settings.events.prepare(entry.frame, target, entry.since)
                target.send(entry.sink, entry.token, entry.frame, entry.since, None)

    def _run(self, job: Job[None], entries: Sequence[Entry]) -> None:
        """Run ``job``, which handles ``entries``. If there are many, their clients send nothing further until it is
        done."""
        if len(entries) <= _FEW:
            at_once(job)
            return
        for entry in entries:
            entry.sink.halt()
        self._settings.slices.run(job)

    def expire(self, written: Sequence[Entry], unwritten: Sequence[Entry]) -> None:
        """Answer requests that have waited too long."""
        self._settings.slices.run(self._expiring(written, unwritten))

    def _expiring(self, written: Sequence[Entry], unwritten: Sequence[Entry]) -> Job[None]:
        settings = self._settings
        place = self._backend.place
        seconds = settings.timing.request_timeout
        for entry in self._real(written):
            settings.counters.timeouts += 1
            if settings.events.look(entry.frame).readonly:
                self._answer(entry, server_errors.timed_out(place.shard, place.node.address, seconds))
            else:
                yield from self._uncertain((entry,), place, f"did not answer within {seconds:g} s")
            yield MORE
        if self._backend.ready:
            refusal = encode.error(server_errors.stalled(place.shard, place.node.address, seconds))
        else:
            refusal = self._backend.down_error()
        for entry in self._real(unwritten):
            settings.counters.timeouts += 1
            self._deliver(entry, refusal)
            yield MORE

    def refuse(self, written: Sequence[Entry], unwritten: Sequence[Entry], reason: str) -> None:
        """Answer all requests with an error, as the server is given up for ``reason``."""
        self._settings.slices.run(self._refusing(written, unwritten, self._backend.down_error(), reason))

    def _refusing(self, written: Sequence[Entry], unwritten: Sequence[Entry], refusal: bytes, reason: str) -> Job[None]:
        yield from self._uncertain(self._real(written), self._backend.place, f"was let go of: {reason}")
        for entry in self._real(unwritten):
            self._deliver(entry, refusal)
            yield MORE

    def turn_away(self, unwritten: Sequence[Entry], refusal: bytes) -> None:
        """Answer requests with ``refusal``, the error of a server that takes no requests now."""
        self._settings.slices.run(self._turning_away(unwritten, refusal))

    def _turning_away(self, unwritten: Sequence[Entry], refusal: bytes) -> Job[None]:
        for entry in self._real(unwritten):
            self._deliver(entry, refusal)
            yield MORE

    def _uncertain(self, entries: Iterable[Entry], place: Place, reason: str) -> Job[None]:
        for entry in entries:
            self._settings.counters.uncertain += 1
            self._answer(entry, server_errors.uncertain(place.shard, place.node.address, reason))
            yield MORE

    def _answer(self, entry: Entry, text: str) -> None:
        self._deliver(entry, encode.error(text))

    def _deliver(self, entry: Entry, error: bytes) -> None:
        self._settings.events.count_error(entry.sink, entry.frame)
        entry.sink.deliver(entry.token, error, 0, len(error))

    def _real(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries without those of the proxy itself, which are sent again where they are needed."""
        kept = list(entries)
        twins = [entry for entry in kept if isinstance(entry.sink, Proof)]
        real = [entry for entry in kept if entry.sink not in UNASKED and not isinstance(entry.sink, Proof)]
        if len(real) + len(twins) < len(kept):
            self._settings.events.unprepared(self._backend)
        for twin in twins:
            assert isinstance(twin.sink, Proof)
            twin.sink.lost()
        return real
