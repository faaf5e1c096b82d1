"""The servers of a worker behind one face: routes to them, shared and dedicated connections, refused and held requests.

What happens on the connections is told to it (``BackendEvents``), and it decides where a request goes that was refused,
or whose connection was lost. What concerns more than servers it passes on to its owner (``UpstreamOwner``).
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Set
from dataclasses import replace
from typing import Protocol

from proxy import errors
from proxy.backends.dedicated_pool import Leases
from proxy.backends.dispatch import Dispatcher
from proxy.backends.handshake import STAY
from proxy.backends.long_replies import LongReplies
from proxy.backends.pool import Pool
from proxy.backends.redirections import Redirections
from proxy.backends.replica_lag import Fitness
from proxy.backends.routes import RouteBook, Routes
from proxy.backends.script_errors import ErrorJudge
from proxy.backends.settings import BackendEvents, BackendSettings, Owner, Place
from proxy.backends.shared import Backend
from proxy.commands.facts import Fact, Handling
from proxy.config import Config
from proxy.engine.entry import Entry
from proxy.engine.sink import DISCARD, Sink
from proxy.planning.inspector import Inspector
from proxy.planning.proof import Doubt
from proxy.planning.refusals import Refusal
from proxy.planning.retry_rules import Look
from proxy.planning.scatter import Scatter
from proxy.planning.server_facts import LineBreaks
from proxy.resp import encode
from proxy.session.script_cache import Scripts, calls_by_digest
from proxy.sharding.topology import NOBODY, Node, Topology
from proxy.transport.descriptors import Budget

_STAY = encode.request(STAY)
_EVICTING = 7
"""The first version of Redis that closes connections to save memory; Valkey says that it is 7.2.4."""


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

    def client(self, number: int) -> Owner[Backend] | None:
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


class Upstream:
    """The servers of a worker, in the snapshot ``topology``."""

    def __init__(
        self,
        config: Config,
        topology: Topology,
        settings: Callable[[BackendEvents[Backend]], BackendSettings[Backend]],
        inspector: Inspector,
        scripts: Scripts,
        dispatcher: Dispatcher,
        fitness: Fitness,
        owner: UpstreamOwner,
    ) -> None:
        self.config = config
        self.topology = topology
        self.settings = common = settings(self)
        self.inspector = inspector
        self.scripts = scripts
        self.turn = common.turn
        self.counters = common.counters
        self.timing = common.timing
        self.loop = asyncio.get_running_loop()
        self._dispatcher = dispatcher
        self._owner = owner
        self._judge = ErrorJudge(self, config.topology.remap)
        self._evicts = False
        """Whether servers may close connections to save memory, and can be told not to."""
        self._held: dict[str, asyncio.TimerHandle] = {}
        """The shards to whose primaries nothing is sent, until then."""
        self._gaps_since = self.turn.now()
        """Since when there have been slots that nobody serves, if there are."""
        self.line_breaks = LineBreaks()
        self.longs = LongReplies()
        self.redirections = Redirections(common, self.at, self._split, self._on_unsettled)
        self.pool = Pool(common)
        self.budget = Budget()
        """How many connections there may be that are for one client alone."""
        backend = config.backend
        self.leases = Leases(common, backend.dedicated_connections, share(config), backend.dedicated_wait, self.budget)
        self._book = RouteBook(
            topology,
            self.pool,
            backend.connections_per_node,
            fitness,
            keep_to_primary=config.read_your_writes > 0 and reads_replicas(config),
        )
        self.plain_routes = self._book.plain(config.read_from)
        """The routes of clients that have chosen nothing yet, dealt out to them in turn."""

    # ---- which connections a client's requests go over

    def routes(
        self, protocol: int, db: int, rank: int, reads_replicas: bool = False, calls_scripts: bool = False
    ) -> Routes:
        """The routes of the client of this ``rank``, in the protocol and database it uses; ``reads_replicas``: it said
        so."""
        read_from = self.config.read_from
        if reads_replicas and read_from == "primary":
            read_from = "prefer_replica"
        return self._book.routes(protocol, db, read_from, rank, calls_scripts)

    def own_routes(self, number: int) -> Routes:
        """The routes of client ``number`` over connections of its own."""
        return self._book.own(number)

    def large_routes(self, frame: bytes, routes: Routes, protocol: int, db: int) -> Routes | None:
        """The routes of the request in ``frame``, in place of ``routes``, if it is so large that it needs a connection
        that is not everybody's; None if it is not."""
        if len(frame) < self.settings.query.large or routes.manner.owner:
            return None
        return self._book.large(protocol, db)

    def long_routes(self, frames: Iterable[bytes], routes: Routes) -> Routes | None:
        """The same for a request that is sent as ``frames``, if one of these has had very long replies."""
        if not self.longs.names or routes.manner.owner or not self.longs.any(frames):
            return None
        return self._book.long(routes)

    def at_primaries(self, routes: Routes) -> Routes:
        """The same connections to primaries as those of ``routes``, for reads too."""
        return self._book.at_primaries(routes)

    def keep_routes(self, used: Collection[Routes]) -> set[Backend]:
        """Forget the routes that are not ``used``: the connections that the others need."""
        return self._book.keep(used)

    def forget_long_replies(self) -> None:
        """Requests that have had very long replies, but not lately, are like others again."""
        if self.longs.forget(self.turn.now()):
            self._owner.watch_commands(self.longs.names)

    # ---- connections

    def shared(self, place: Place) -> Backend:
        """The shared connection to the server of ``place``."""
        backend = self.pool.at(replace(place, index=0) if place.index else place)
        backend.start()
        return backend

    def primary(self, shard: int, protocol: int, db: int) -> Place | None:
        """Where the primary of ``shard`` is; None if it is nobody's, or nothing may be sent there now."""
        if not 0 <= shard < len(self.topology.shards) or self.topology.shards[shard].name in self._held:
            return None
        found = self.topology.shards[shard]
        return Place(found.name, found.primary, True, protocol, db, 0)

    def replace(self, backends: Collection[Backend]) -> None:
        """Use fresh connections in place of these, over which nothing more is sent; who has something in flight on one
        goes on when that is answered."""
        self._owner.halt({owner for backend in backends for owner in backend.owners()})
        for backend in backends:
            self.pool.replace(backend)
        for owner in {backend.place.owner for backend in backends}:
            self._book.refresh(owner)
        for backend in backends:
            backend.retire(keeps=True)

    def renew(self, number: int, node: Node) -> None:
        """Connect client ``number`` anew to ``node``, over each connection of its own."""
        for backend in self.pool.owned(number):
            if backend.place.node == node:
                backend.renew()

    def release(self, number: int) -> None:
        """Client ``number`` needs no connections of its own any more."""
        self._book.release(number)
        self.pool.release(number)

    def leave_primary(self, node: Node) -> None:
        """``node`` is no primary any more: go over fresh connections."""
        self.leases.renew(node)
        self.replace([backend for backend in self.pool if backend.place.node == node and backend.place.primary])

    def give_up_reads(self, silent: Collection[Node]) -> None:
        """Other servers are fit for reads, or nearer; what waits for replicas that are ``silent`` waits elsewhere."""
        self._book.refresh()
        for backend in [backend for backend in self.pool if backend.place.node in silent]:
            if not backend.place.primary:
                backend.give_up_reads()

    def keep_connections(self, versions: Iterable[str | None]) -> None:
        """Have servers of these versions close no connection that clients share to save memory (``maxmemory-clients``,
        from Redis 7 on). One that does not know how says so to nobody."""
        if any(version and int(version.partition(".")[0]) >= _EVICTING for version in versions) and not self._evicts:
            self._evicts = True
            for backend in self.pool:
                self._keep_connection(backend)

    def _keep_connection(self, backend: Backend) -> None:
        if self._evicts and backend.ready and not backend.place.owner:
            backend.send(DISCARD, 0, _STAY, self.turn.now(), None)

    async def close(self) -> None:
        """Close every connection; what is in flight is answered with an error."""
        await self.leases.close()
        await self.pool.close()

    # ---- the topology

    def adopt(self, topology: Topology) -> None:
        """Use another snapshot from now on. What follows of a client that has something in flight on slots that moved
        waits for that."""
        before, self.topology = self.topology, topology
        if before.whole:
            self._gaps_since = self.turn.now()
        self._book.adopt(topology)
        left = topology.left_by(before)
        owners: set[object] = set()
        for backend in self.pool:
            if backend.place.primary and backend.place.node in left:
                owners |= backend.owners()
        self._owner.halt(owners)
        for name in [name for name in self._held if before.primary(name) != topology.primary(name)]:
            self._held.pop(name).cancel()
        self.pool.adopt(topology)
        self.leases.adopt(topology)

    def hold_shard(self, name: str, seconds: float | None) -> None:
        """Send nothing to the primary of the shard called so for ``seconds``, or until another is its primary: a
        failover is about to begin. None: go on."""
        timer = self._held.pop(name, None)
        if timer is not None:
            timer.cancel()
        if seconds is not None:
            self._held[name] = self.loop.call_later(seconds, self.hold_shard, name, None)
        for backend in self.pool:
            if backend.place.primary and backend.place.shard == name:
                backend.withhold(seconds is not None)

    def holds(self, name: str) -> bool:
        """Whether nothing is sent to the primary of the shard called so, as a failover is about to begin."""
        return name in self._held

    def may_raise(self, shard: int | None = None, read: bool = False) -> bool:
        """Whether the primary of ``shard``, or of any, may pass on what scripts raise with its line breaks; ``read``:
        or a replica that is read from."""
        return self.line_breaks.may_come(self.topology, shard, read)

    # ---- what happens on the connections (BackendEvents)

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

    def forestall(self, frame: bytes, backend: Backend | None, sink: Sink, token: int, now: float) -> None:
        """A request is about to be sent to ``backend`` while others are refused: have its twin go ahead of it."""
        doubt = self._judge.doubt(frame)
        if doubt is not None and backend is not None:
            self.redirections.forestall(backend, doubt, sink, token, now)

    def refused(self, backend: Backend, entry: Entry, refusal: Refusal | Doubt) -> None:
        """``entry`` was refused, or may have been."""
        self.redirections.refused(backend, entry, refusal)

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
        if self.turn.now() - self._gaps_since > self.timing.retry_deadline:
            self._owner.hint(None)
            self.inspector.count_error(entry.sink, entry.frame)
            entry.sink.deliver(entry.token, error, 0, len(error))
        else:
            self.redirections.wait(entry, place, Refusal("CLUSTERDOWN", error))

    def elsewhere(self, backend: Backend) -> Backend:
        """Where reads go now that went over ``backend``."""
        return self._book.elsewhere(backend)

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
        if backend.ready and place.primary and place.shard in self._held:
            backend.withhold(True)
        if backend.ready and (left := self.pool.stood(backend)) is not None:
            self._owner.halt(left.owners())
        self._book.refresh(place.owner)
        self._keep_connection(backend)
        if not backend.ready:
            self.scripts.forget(backend)
            self.scripts.forget(place.node)
        self._owner.on_state(backend)

    def on_long(self, backend: Backend) -> bool:
        """A long reply is coming: who has nothing in flight behind it goes on over another connection, now or soon;
        whether there is one."""
        place = backend.place
        if not place.owner and (frame := backend.very_long):
            self._remember_long(frame)
        if place.owner:
            backend.leave()  # nobody else uses it
        elif (other := self.pool.make_way(backend)) is not None:
            other.withhold(place.primary and self.holds(place.shard))
            self._owner.halt(backend.owners())
            self._book.refresh()
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

    def client(self, number: int) -> Owner[Backend] | None:
        """The client of this number, if it has connections of its own."""
        return self._owner.client(number)

    def keeps_connections(self) -> bool:
        """Whether servers may close connections to save memory, and can be told not to."""
        return self._evicts

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

    def _remember_long(self, frame: bytes) -> None:
        """A very long reply comes to the request ``frame``."""
        now = self.turn.now()
        if self.longs.again(frame, now):
            return
        fact: Fact | None = self.inspector.resolve(frame)[0]
        if fact is None or not fact.readonly or fact.handling not in (Handling.KEYED, Handling.MULTI_SHARD):
            return
        if self.longs.add(frame, fact.name, now):
            self._owner.watch_commands(self.longs.names)

    def _split(self, entry: Entry) -> list[Entry]:
        """A request for each key of ``entry``, whose keys no server has together; none if it can not be split."""
        plan = self._owner.by_key(entry)
        if plan is None:
            return []
        self.counters.splits += 1
        gather = self._dispatcher.gather(plan, entry.sink, entry.token)
        return [Entry(gather, index, part.frame, entry.since) for index, part in enumerate(plan.parts)]

    def _on_unsettled(self) -> None:
        self._owner.on_unsettled(self.redirections.unsettled)


def share(config: Config) -> int:
    """How many dedicated connections to one server one user at one address may have."""
    return max(int(config.backend.dedicated_connections * config.backend.dedicated_share), 1)


def reads_replicas(config: Config) -> bool:
    """Whether replicas are read from, and so are watched."""
    return config.read_from != "primary" or config.present_as == "cluster"
