"""Requests that get no reply over the connection that took them: sent on, or answered with an error that says whether
they can have run."""

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from proxy import errors
from proxy.backends.refused_requests import WatchingSink
from proxy.backends.settings import BackendSettings, Place
from proxy.engine.entry import Entry
from proxy.engine.jobs import MORE, Job, at_once
from proxy.engine.sink import UNASKED, Sink
from proxy.planning.proof import Proof
from proxy.planning.retry_rules import judge
from proxy.resp import encode

_FEW = 200
"""So many requests are dealt with at once: a millisecond or two."""


class Losing(Protocol):
    """A connection whose requests may get no reply over it."""

    @property
    def place(self) -> Place:
        """What it is for."""

    @property
    def ready(self) -> bool:
        """Whether it stands."""

    @property
    def retired(self) -> bool:
        """Whether nobody sends over it any more."""

    def down_error(self) -> bytes:
        """The error reply for a request that is not sent."""

    def send(self, sink: Sink, token: int, frame: bytes, since: float, holder: None) -> None:
        """Send a request."""


_Connection = TypeVar("_Connection", bound=Losing)


class LostRequests(Generic[_Connection]):
    """What becomes of the requests of one connection."""

    def __init__(self, backend: _Connection, settings: BackendSettings[_Connection]) -> None:
        self._backend = backend
        self._settings = settings

    def settle(self, written: Sequence[Entry], unwritten: Sequence[Entry]) -> None:
        """The connection is lost: answer what was written and may have run; send the rest again."""
        self._run(self._settling(written, unwritten), (*written, *unwritten))

    def _settling(self, written: Sequence[Entry], unwritten: Sequence[Entry]) -> Job[None]:
        place = self._backend.place
        verdict = yield from judge(self._real(written), self._settings.events.look)
        self._settings.counters.retries += len(verdict.again)
        for entry in verdict.stale:
            self._answer(entry, errors.read_lost(place.shard, place.node.address))
            yield MORE
        yield from self._uncertain(verdict.uncertain, place, "closed the connection before it answered")
        yield from self._sending_on((*verdict.again, *unwritten))

    def send_on(self, entries: Sequence[Entry]) -> None:
        """Send again what may be sent again, where it belongs now: perhaps over the same connection."""
        self._run(self._sending_on(entries), entries)

    def _sending_on(self, entries: Sequence[Entry]) -> Job[None]:
        settings = self._settings
        backend = self._backend
        # What a replica may answer, another server of the shard can answer as well.
        reader = settings.events.elsewhere(backend)
        for entry in self._real(entries):
            yield MORE
            # Behind one that was refused it would overtake that.
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
        """Do ``job``, which is about ``entries``. Where they are many, what their clients send next waits for that."""
        if len(entries) <= _FEW:
            at_once(job)
            return
        for entry in entries:
            entry.sink.halt()
        self._settings.slices.run(job)

    def expire(self, written: Sequence[Entry], unwritten: Sequence[Entry]) -> None:
        """They have waited too long."""
        self._settings.slices.run(self._expiring(written, unwritten))

    def _expiring(self, written: Sequence[Entry], unwritten: Sequence[Entry]) -> Job[None]:
        settings = self._settings
        place = self._backend.place
        seconds = settings.timing.request_timeout
        for entry in self._real(written):
            settings.counters.timeouts += 1
            if settings.events.look(entry.frame).readonly:
                self._answer(entry, errors.timed_out(place.shard, place.node.address, seconds))
            else:
                yield from self._uncertain((entry,), place, f"did not answer within {seconds:g} s")
            yield MORE
        if self._backend.ready:
            refusal = encode.error(errors.stalled(place.shard, place.node.address, seconds))
        else:
            refusal = self._backend.down_error()
        for entry in self._real(unwritten):
            settings.counters.timeouts += 1
            self._deliver(entry, refusal)
            yield MORE

    def refuse(self, written: Sequence[Entry], unwritten: Sequence[Entry], reason: str) -> None:
        """The server is given up, for ``reason``."""
        self._settings.slices.run(self._refusing(written, unwritten, self._backend.down_error(), reason))

    def _refusing(self, written: Sequence[Entry], unwritten: Sequence[Entry], refusal: bytes, reason: str) -> Job[None]:
        yield from self._uncertain(self._real(written), self._backend.place, f"was let go of: {reason}")
        for entry in self._real(unwritten):
            self._deliver(entry, refusal)
            yield MORE

    def turn_away(self, unwritten: Sequence[Entry], refusal: bytes) -> None:
        """The server takes nothing now, and says so by ``refusal``."""
        self._settings.slices.run(self._turning_away(unwritten, refusal))

    def _turning_away(self, unwritten: Sequence[Entry], refusal: bytes) -> Job[None]:
        for entry in self._real(unwritten):
            self._deliver(entry, refusal)
            yield MORE

    def _uncertain(self, entries: Iterable[Entry], place: Place, reason: str) -> Job[None]:
        for entry in entries:
            self._settings.counters.uncertain += 1
            self._answer(entry, errors.uncertain(place.shard, place.node.address, reason))
            yield MORE

    def _answer(self, entry: Entry, text: str) -> None:
        self._deliver(entry, encode.error(text))

    def _deliver(self, entry: Entry, error: bytes) -> None:
        self._settings.events.count_error(entry.sink, entry.frame)
        entry.sink.deliver(entry.token, error, 0, len(error))

    def _real(self, entries: Iterable[Entry]) -> list[Entry]:
        """Without what the proxy itself asked, which is asked again where it is needed."""
        kept = list(entries)
        twins = [entry for entry in kept if isinstance(entry.sink, Proof)]
        real = [entry for entry in kept if entry.sink not in UNASKED and not isinstance(entry.sink, Proof)]
        if len(real) + len(twins) < len(kept):
            self._settings.events.unprepared(self._backend)
        for twin in twins:
            assert isinstance(twin.sink, Proof)
            twin.sink.lost()
        return real
