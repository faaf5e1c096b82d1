"""What happens on the connections to the servers, and what becomes of the requests on them.

A request that was refused, or whose connection was lost, goes where it belongs now. What concerns more than servers is
passed on (``UpstreamOwner``).
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from typing import Protocol

from proxy import errors
from proxy.backends.dispatch import Dispatcher
from proxy.backends.long_replies import LongReplies
from proxy.backends.pool import Pool
from proxy.backends.redirections import Redirections
from proxy.backends.routes import RouteBook
from proxy.backends.script_errors import ErrorJudge
from proxy.backends.settings import ConnectionOwner, Place, Timing
from proxy.backends.shared import Backend
from proxy.commands.facts import Fact, Handling
from proxy.engine.entry import Entry
from proxy.engine.sink import Sink
from proxy.metrics import Counters
from proxy.planning.inspector import Inspector
from proxy.planning.proof import Doubt
from proxy.planning.refusals import Refusal
from proxy.planning.retry_rules import Look
from proxy.planning.scatter import Scatter
from proxy.resp import encode
from proxy.session.script_cache import Scripts, calls_by_digest
from proxy.sharding.topology import NOBODY, Node, Topology
from proxy.transport.write_batch import Turn


class UpstreamOwner(Protocol):
    """Whoever has the servers: what happens there that concerns clients, and what the other floors know of servers."""

    def hint(self, node: Node | None) -> None:
        """Something has changed, as ``node`` says: the topology should be looked at."""

    def demoted(self, place: Place) -> None:
        """The server of ``place`` is used as a primary, and says that it is a replica."""

    def unknown_node(self, node: Node, identity: str) -> str:
        """Why the server of a cluster at ``node`` with this id is not to be used; "" if it is."""

    def member(self, node: Node) -> Node | None:
        """Where the server is reached that a redirection calls ``node``; None if nobody who is believed knows it."""

    def client(self, number: int) -> ConnectionOwner[Backend] | None:
        """The client of this number, if it has connections of its own."""

    def halt(self, owners: Set[object]) -> None:
        """Take no more requests from these clients until all they sent are answered."""

    def on_state(self, backend: Backend) -> None:
        """``backend`` has become usable, or is so no more."""

    def by_key(self, entry: Entry) -> Scatter | None:
        """What becomes of a request when it is split by its keys; None if it can not be."""

    def missing_script(self, error: bytes, frame: bytes) -> Refusal | None:
        """What the error refuses that a server sent for want of a script; None if nobody else has it."""

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept here, or may be by another worker."""

    def watch_commands(self, names: frozenset[str]) -> None:
        """Look at each request of these commands whole: some have had very long replies."""

    def on_unsettled(self, on: bool) -> None:
        """Requests are refused now, or are so no more."""


class UpstreamServers(Protocol):
    """The servers, as far as what happens on their connections concerns them."""

    @property
    def topology(self) -> Topology:
        """The snapshot in use."""

    @property
    def turn(self) -> Turn:
        """The turns of the loop."""

    @property
    def timing(self) -> Timing:
        """How long servers may take."""

    @property
    def counters(self) -> Counters:
        """What is counted."""

    @property
    def pool(self) -> Pool:
        """The shared connections."""

    @property
    def book(self) -> RouteBook:
        """The routes to them."""

    @property
    def redirections(self) -> Redirections:
        """The requests that were refused."""

    @property
    def longs(self) -> LongReplies:
        """The requests that have had very long replies lately."""

    @property
    def gaps_since(self) -> float:
        """Since when there have been slots that nobody serves, if there are."""

    def holds(self, name: str) -> bool:
        """Whether nothing is sent to the primary of the shard called so."""


class UpstreamEvents:
    """What is told to the connections' ``BackendEvents``, and to whoever judges their errors (``Judged``)."""

    def __init__(
        self,
        servers: UpstreamServers,
        inspector: Inspector,
        scripts: Scripts,
        dispatcher: Dispatcher,
        owner: UpstreamOwner,
        remap: Mapping[str, str],
    ) -> None:
        self._servers = servers
        self.inspector = inspector
        self.scripts = scripts
        self._dispatcher = dispatcher
        self._owner = owner
        self._judge = ErrorJudge(self, remap)

    @property
    def topology(self) -> Topology:
        """The snapshot in use."""
        return self._servers.topology

    @property
    def pool(self) -> Pool:
        """The shared connections."""
        return self._servers.pool

    def look(self, frame: bytes) -> Look:
        """What the request in ``frame`` is."""
        return self.inspector.look(frame)

    def count_error(self, sink: Sink, frame: bytes) -> None:
        """The request in ``frame`` was answered with an error."""
        self.inspector.count_error(sink, frame)

    def refusal(self, error: bytes, asked: Node, frame: bytes) -> Refusal | Doubt | None:
        """What an error frame refuses that ``asked`` sent to the request in ``frame``; None if it is the client's
        business."""
        return self._judge.refusal(error, asked, frame)

    def doubt(self, frame: bytes) -> Doubt | None:
        """What shows whether a server refuses the request in ``frame``, if that request's own words do not."""
        return self._judge.doubt(frame)

    def refused(self, backend: Backend, entry: Entry, refusal: Refusal | Doubt) -> None:
        """``entry`` was refused, or may have been."""
        self._servers.redirections.refused(backend, entry, refusal)

    def prepare(self, frame: bytes, backend: Backend, now: float) -> None:
        """Have the scripts that the request in ``frame`` calls loaded ahead of it."""
        if calls := calls_by_digest(frame):
            self.scripts.prepare_all(calls, backend, now)

    def unprepared(self, backend: Backend) -> None:
        """Some of the scripts that were loaded ahead over ``backend`` may not be there."""
        self.scripts.forget(backend)

    def wait(self, entry: Entry, place: Place) -> None:
        """Nobody serves the slot of ``entry``: keep it until somebody does, if that has not been so for long."""
        error = encode.error(errors.nobody(self.topology.cluster))
        if self._servers.turn.now() - self._servers.gaps_since > self._servers.timing.retry_deadline:
            self._owner.hint(None)
            self.inspector.count_error(entry.sink, entry.frame)
            entry.sink.deliver(entry.token, error, 0, len(error))
        else:
            self._servers.redirections.wait(entry, place, Refusal("CLUSTERDOWN", error))

    def elsewhere(self, backend: Backend) -> Backend:
        """Where reads go now that went over ``backend``."""
        return self._servers.book.elsewhere(backend)

    def where(self, place: Place, look: Look) -> Backend | None:
        """The primary's connection where a request belongs that was sent as ``place`` says; None if there is none."""
        topology = self.topology
        index = topology.slot_shard[next(iter(look.slots))] if look.slots else topology.index(place.shard)
        return None if index == NOBODY else self.at(place, topology.shards[index].primary)

    def at(self, place: Place, primary: Node) -> Backend:
        """The connection to ``primary``, for the rest as ``place``."""
        owner = place.owner if self._owner.client(place.owner) else 0
        shard = self.topology.called(primary)
        backend = self.pool.at(replace(place, shard=shard, node=primary, primary=True, owner=owner))
        backend.start()
        return backend

    def on_state(self, backend: Backend) -> None:
        """``backend`` has become usable, or is so no more."""
        place = backend.place
        if backend.ready and place.primary and self._servers.holds(place.shard):
            backend.withhold(True)
        if backend.ready and (left := self.pool.stood(backend)) is not None:
            self._owner.halt(left.owners())
        self._servers.book.refresh(place.owner)
        self.pool.keep(backend)
        if not backend.ready:
            self.scripts.forget(backend)
            self.scripts.forget(place.node)
        self._owner.on_state(backend)

    def on_long(self, backend: Backend) -> bool:
        """A long reply is coming: who has nothing in flight behind it goes on over another connection, now or soon;
        whether there is one."""
        place = backend.place
        if not place.owner and (frame := backend.very_long):
            self.remember_long(frame)
        if place.owner:
            backend.leave()  # nobody else uses it
        elif (other := self.pool.make_way(backend)) is not None:
            other.withhold(place.primary and self._servers.holds(place.shard))
            self._owner.halt(backend.owners())
            self._servers.book.refresh()
        return backend.left or self.pool.makes_way(place)

    def hint(self, node: Node | None) -> None:
        """Something has changed, as ``node`` says: the topology should be looked at."""
        self._owner.hint(node)

    def demoted(self, place: Place) -> None:
        """The server of ``place`` is used as a primary, and says that it is a replica."""
        self._owner.demoted(place)

    def stranger(self, node: Node, identity: str) -> str:
        """Why the server of a cluster at ``node`` with this id is not to be used; "" if it is."""
        return self._owner.unknown_node(node, identity)

    def client(self, number: int) -> ConnectionOwner[Backend] | None:
        """The client of this number, if it has connections of its own."""
        return self._owner.client(number)

    def keeps_connections(self) -> bool:
        """Whether servers may close connections to save memory, and can be told not to."""
        return self.pool.keeps

    # ---- what a server's errors mean (script_errors.Judged)

    def member(self, node: Node) -> Node | None:
        """Where the server is reached that a redirection calls ``node``; None if nobody who is believed knows it."""
        return self._owner.member(node)

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept here, or may be by another worker."""
        return self._owner.may_have(digests)

    def missing_script(self, error: bytes, frame: bytes) -> Refusal | None:
        """What the error refuses that a server sent for want of a script; None if nobody else has it."""
        return self._owner.missing_script(error, frame)

    def remember_long(self, frame: bytes) -> None:
        """A very long reply comes to the request ``frame``."""
        now = self._servers.turn.now()
        if self._servers.longs.again(frame, now):
            return
        fact: Fact | None = self.inspector.resolve(frame)[0]
        if fact is None or not fact.readonly or fact.handling not in (Handling.KEYED, Handling.MULTI_SHARD):
            return
        if self._servers.longs.add(frame, fact.name, now):
            self._owner.watch_commands(self._servers.longs.names)

    def split(self, entry: Entry) -> list[Entry]:
        """A request for each key of ``entry``, whose keys no server has together; none if it can not be split."""
        plan = self._owner.by_key(entry)
        if plan is None:
            return []
        self._servers.counters.splits += 1
        gather = self._dispatcher.gather(plan, entry.sink, entry.token)
        return [Entry(gather, index, part.frame, entry.since) for index, part in enumerate(plan.parts)]

    def on_unsettled(self) -> None:
        self._owner.on_unsettled(self._servers.redirections.unsettled)
