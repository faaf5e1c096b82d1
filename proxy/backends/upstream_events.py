"""Handles the events of the connections to the servers, and decides about the requests on them.

A request that was refused, or whose connection was lost, is sent where it belongs now. Events that concern more than
the servers are passed on (``UpstreamOwner``).
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from typing import Protocol

from proxy import server_errors
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
    """The owner of the servers: it takes the events that concern clients, and knows facts about the servers from other
    packages."""

    def hint(self, node: Node | None) -> None:
        """Look at the topology, as ``node`` reports a change."""

    def demoted(self, place: Place) -> None:
        """Take notice that the server of ``place``, which is used as a primary, says that it is a replica."""

    def unknown_node(self, node: Node, identity: str) -> str:
        """Why the server of a cluster at ``node`` with the id ``identity`` may not be used; "" if it may."""

    def member(self, node: Node) -> Node | None:
        """The known node that a redirection calls ``node``; None if no trusted server knows it."""

    def client(self, number: int) -> ConnectionOwner[Backend] | None:
        """The client with this number, if it has connections of its own."""

    def halt(self, owners: Set[object]) -> None:
        """Take no more requests from these clients until all that they sent are answered."""

    def on_state(self, backend: Backend) -> None:
        """Take notice that ``backend`` became usable or unusable."""

    def by_key(self, entry: Entry) -> Scatter | None:
        """The plan that splits a request by its keys; None if it can not be split."""

    def missing_script(self, error: bytes, frame: bytes) -> Refusal | None:
        """The refusal of a request whose script the server does not have; None if nobody else has the script."""

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept by this worker, or may be by another."""

    def watch_commands(self, names: frozenset[str]) -> None:
        """Inspect each request of these commands, as some of them had very long replies."""

    def on_unsettled(self, on: bool) -> None:
        """Take notice that requests are being refused now, or are not any more."""


class UpstreamServers(Protocol):
    """The part of the servers that the events need."""

    @property
    def topology(self) -> Topology:
        """The snapshot in use."""

    @property
    def turn(self) -> Turn:
        """The turns of the loop."""

    @property
    def timing(self) -> Timing:
        """The time limits of servers."""

    @property
    def counters(self) -> Counters:
        """The worker's counters."""

    @property
    def pool(self) -> Pool:
        """The shared connections."""

    @property
    def book(self) -> RouteBook:
        """The routes to the servers."""

    @property
    def redirections(self) -> Redirections:
        """The requests that were refused."""

    @property
    def longs(self) -> LongReplies:
        """The requests that had very long replies lately."""

    @property
    def gaps_since(self) -> float:
        """The time since which there are slots that no shard serves, if there are any."""

    def holds(self, name: str) -> bool:
        """Whether nothing is sent to the primary of the shard ``name``."""


class UpstreamEvents:
    """Implements the connections' ``BackendEvents``, and ``Judged`` for the judge of their errors."""

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
        """The flags and slots of the request in ``frame``."""
        return self.inspector.look(frame)

    def count_error(self, sink: Sink, frame: bytes) -> None:
        """Count an error that answered the request in ``frame``."""
        self.inspector.count_error(sink, frame)

    def refusal(self, error: bytes, asked: Node, frame: bytes) -> Refusal | Doubt | None:
        """The refusal in an error frame with which ``asked`` answered the request in ``frame``; None if the error is
        for the client."""
        return self._judge.refusal(error, asked, frame)

    def doubt(self, frame: bytes) -> Doubt | None:
        """The doubt about the request in ``frame`` whose twin shows whether a server refuses it; None if the error
        alone shows that."""
        return self._judge.doubt(frame)

    def refused(self, backend: Backend, entry: Entry, refusal: Refusal | Doubt) -> None:
        """Handle the refusal of ``entry``, which may have to be proven."""
        self._servers.redirections.refused(backend, entry, refusal)

    def prepare(self, frame: bytes, backend: Backend, now: float) -> None:
        """Load the scripts that the request in ``frame`` calls ahead of it."""
        if calls := calls_by_digest(frame):
            self.scripts.prepare_all(calls, backend, now)

    def unprepared(self, backend: Backend) -> None:
        """Forget which scripts the server of ``backend`` has, as some that were sent ahead may not have arrived."""
        self.scripts.forget(backend)

    def wait(self, entry: Entry, place: Place) -> None:
        """Keep ``entry``, whose slot no shard serves, until one does; answer it with an error if that has lasted for
        long."""
        error = encode.error(server_errors.nobody(self.topology.cluster))
        if self._servers.turn.now() - self._servers.gaps_since > self._servers.timing.retry_deadline:
            self._owner.hint(None)
            self.inspector.count_error(entry.sink, entry.frame)
            entry.sink.deliver(entry.token, error, 0, len(error))
        else:
            self._servers.redirections.wait(entry, place, Refusal("CLUSTERDOWN", error))

    def elsewhere(self, backend: Backend) -> Backend:
        """The connection for reads that were sent over ``backend``."""
        return self._servers.book.elsewhere(backend)

    def where(self, place: Place, look: Look) -> Backend | None:
        """The connection to the primary to which a request belongs that was sent to ``place``; None if there is
        none."""
        topology = self.topology
        index = topology.slot_shard[next(iter(look.slots))] if look.slots else topology.index(place.shard)
        return None if index == NOBODY else self.at(place, topology.shards[index].primary)

    def at(self, place: Place, primary: Node) -> Backend:
        """The connection to ``primary``; the rest is as in ``place``."""
        owner = place.owner if self._owner.client(place.owner) else 0
        shard = self.topology.called(primary)
        backend = self.pool.at(replace(place, shard=shard, node=primary, primary=True, owner=owner))
        backend.start()
        return backend

    def on_state(self, backend: Backend) -> None:
        """Take notice that ``backend`` became usable or unusable."""
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
        """Have the clients without requests in flight behind the long reply of ``backend`` use another connection, now
        or soon. Returns whether there is one."""
        place = backend.place
        if not place.owner and (frame := backend.very_long):
            self.remember_long(frame)
        if place.owner:
            backend.leave()  # no other client uses the connection
        elif (other := self.pool.make_way(backend)) is not None:
            other.withhold(place.primary and self._servers.holds(place.shard))
            self._owner.halt(backend.owners())
            self._servers.book.refresh()
        return backend.left or self.pool.makes_way(place)

    def hint(self, node: Node | None) -> None:
        """Look at the topology, as ``node`` reports a change."""
        self._owner.hint(node)

    def demoted(self, place: Place) -> None:
        """Take notice that the server of ``place``, which is used as a primary, says that it is a replica."""
        self._owner.demoted(place)

    def stranger(self, node: Node, identity: str) -> str:
        """Why the server of a cluster at ``node`` with the id ``identity`` may not be used; "" if it may."""
        return self._owner.unknown_node(node, identity)

    def client(self, number: int) -> ConnectionOwner[Backend] | None:
        """The client with this number, if it has connections of its own."""
        return self._owner.client(number)

    def keeps_connections(self) -> bool:
        """Whether servers may close connections to save memory, and can be told not to."""
        return self.pool.keeps

    # ---- the meaning of a server's errors (script_errors.Judged)

    def member(self, node: Node) -> Node | None:
        """The known node that a redirection calls ``node``; None if no trusted server knows it."""
        return self._owner.member(node)

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept by this worker, or may be by another."""
        return self._owner.may_have(digests)

    def missing_script(self, error: bytes, frame: bytes) -> Refusal | None:
        """The refusal of a request whose script the server does not have; None if nobody else has the script."""
        return self._owner.missing_script(error, frame)

    def remember_long(self, frame: bytes) -> None:
        """Remember the request ``frame``, as its very long reply is arriving."""
        now = self._servers.turn.now()
        if self._servers.longs.again(frame, now):
            return
        fact: Fact | None = self.inspector.resolve(frame)[0]
        if fact is None or not fact.readonly or fact.handling not in (Handling.KEYED, Handling.MULTI_SHARD):
            return
        if self._servers.longs.add(frame, fact.name, now):
            self._owner.watch_commands(self._servers.longs.names)

    def split(self, entry: Entry) -> list[Entry]:
        """A request for each key of ``entry``, whose keys are on several servers; empty if it can not be split."""
        plan = self._owner.by_key(entry)
        if plan is None:
            return []
        self._servers.counters.splits += 1
        gather = self._dispatcher.gather(plan, entry.sink, entry.token)
        return [Entry(gather, index, part.frame, entry.since) for index, part in enumerate(plan.parts)]

    def on_unsettled(self) -> None:
        self._owner.on_unsettled(self._servers.redirections.unsettled)
