"""Requests that get no reply over the connection that took them: sent on, or answered with an error that says whether
they can have run."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from proxy import errors
from proxy.engine.entry import Entry
from proxy.engine.sink import UNASKED
from proxy.proof import Proof
from proxy.resp import encode
from proxy.retries import judge
from proxy.surroundings import Surroundings

if TYPE_CHECKING:
    from proxy.backend import Backend


class Leftovers:
    """What becomes of the requests of one connection."""

    def __init__(self, backend: "Backend", around: Surroundings) -> None:
        self._backend = backend
        self._around = around

    def settle(self, written: Iterable[Entry], unwritten: Iterable[Entry]) -> None:
        """The connection is lost: answer what was written and may have run; send the rest again."""
        verdict = judge(self._real(written), self._around.look)
        self._around.counters.retries += len(verdict.again)
        place = self._backend.place
        for entry in verdict.stale:
            self._answer(entry, errors.read_lost(place.shard, place.node.address))
        self._uncertain(verdict.uncertain, "closed the connection before it answered")
        self.send_on((*verdict.again, *unwritten))

    def send_on(self, entries: Iterable[Entry]) -> None:
        """Send again what may be sent again, where it belongs now: perhaps over the same connection."""
        around = self._around
        backend = self._backend
        # What a replica may answer, another server of the shard can answer as well.
        reader = around.elsewhere(backend)
        for entry in self._real(entries):
            look = around.look(entry.frame)
            if look.replica_ok and (reader is not backend or not (backend.place.primary or backend.retired)):
                target: Backend | None = reader
            else:
                target = around.where(backend.place, look)
            if target is None:
                around.wait(entry, backend.place)
            else:
                around.prepare(entry.frame, target, entry.since)
                target.send(entry.sink, entry.token, entry.frame, entry.since, None)

    def expire(self, written: Iterable[Entry], unwritten: Iterable[Entry]) -> None:
        """They have waited too long."""
        around = self._around
        place = self._backend.place
        seconds = around.timing.request_timeout
        for entry in self._real(written):
            around.counters.timeouts += 1
            if around.look(entry.frame).readonly:
                self._answer(entry, errors.timed_out(place.shard, place.node.address, seconds))
            else:
                self._uncertain((entry,), f"did not answer within {seconds:g} s")
        if self._backend.ready:
            refusal = encode.error(errors.stalled(place.shard, place.node.address, seconds))
        else:
            refusal = self._backend.down_error()
        for entry in self._real(unwritten):
            around.counters.timeouts += 1
            self._deliver(entry, refusal)

    def refuse(self, written: Iterable[Entry], unwritten: Iterable[Entry], reason: str) -> None:
        """The server is given up, for ``reason``."""
        self._uncertain(self._real(written), f"was let go of: {reason}")
        for entry in self._real(unwritten):
            self._deliver(entry, self._backend.down_error())

    def _uncertain(self, entries: Iterable[Entry], reason: str) -> None:
        place = self._backend.place
        for entry in entries:
            self._around.counters.uncertain += 1
            self._answer(entry, errors.uncertain(place.shard, place.node.address, reason))

    def _answer(self, entry: Entry, text: str) -> None:
        self._deliver(entry, encode.error(text))

    def _deliver(self, entry: Entry, error: bytes) -> None:
        self._around.on_error(entry.sink, entry.frame)
        entry.sink.deliver(entry.token, error, 0, len(error))

    def _real(self, entries: Iterable[Entry]) -> list[Entry]:
        """Without what the proxy itself asked, which is asked again where it is needed."""
        kept = list(entries)
        twins = [entry for entry in kept if isinstance(entry.sink, Proof)]
        real = [entry for entry in kept if entry.sink not in UNASKED and not isinstance(entry.sink, Proof)]
        if len(real) + len(twins) < len(kept):
            self._around.unprepared(self._backend)
        for twin in twins:
            assert isinstance(twin.sink, Proof)
            twin.sink.lost()
        return real
