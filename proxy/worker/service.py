"""What all clients of a worker share: the facts, the routes, the limits, and the parts that do the work."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Set
from dataclasses import replace

from proxy import __version__, errors
from proxy.backends.connect_gate import Gates
from proxy.backends.dedicated_pool import Leases
from proxy.backends.dispatch import Dispatcher
from proxy.backends.handshake import STAY, Credentials
from proxy.backends.long_replies import LongReplies
from proxy.backends.pool import Pool
from proxy.backends.redirections import Detours
from proxy.backends.routes import RouteBook, Routes
from proxy.backends.script_errors import Evidence
from proxy.backends.settings import Place, State, Surroundings, Timing
from proxy.backends.shared import Backend
from proxy.client.backlog import Backlog
from proxy.client.fast_commands import MOST_ARGUMENTS, Lane, Lanes
from proxy.client.own_answers import OwnLane
from proxy.client.registry import Clients
from proxy.client.shared_counts import Census
from proxy.commands.facts import Fact, Handling
from proxy.commands.keys import KeysError, key_indexes
from proxy.commands.table import CommandTable, UnknownSubcommand
from proxy.config import Config
from proxy.discovery.choose import source_of
from proxy.discovery.functions import Missing
from proxy.discovery.learn import FEWER_ARGUMENTS
from proxy.discovery.monitor import Monitor
from proxy.discovery.role_watch import RoleWatch
from proxy.discovery.source import Source
from proxy.engine.entry import Entry
from proxy.engine.sink import DISCARD, Sink
from proxy.features.host import Siblings
from proxy.features.monitor import Spectators
from proxy.features.pause import Pausing
from proxy.features.slow_scripts import SlowScripts
from proxy.features.tracking import Trackers
from proxy.metrics import Counters
from proxy.planning import exec_block
from proxy.planning.key_slots import Examined
from proxy.planning.merge_context import Context, Overlay
from proxy.planning.planner import Planner
from proxy.planning.proof import Doubt, runs_code
from proxy.planning.query_limit import DEFAULT, FAST_FROM, QueryLimit
from proxy.planning.refusals import Refusal
from proxy.planning.retry_rules import Look, together
from proxy.planning.scan_cursor import Cursors
from proxy.planning.server_facts import ServerFacts
from proxy.pubsub.hub import Hub
from proxy.resp import encode
from proxy.resp.limits import RequestLimits
from proxy.resp.requests import ProtocolError, split_request
from proxy.session.script_cache import Scripts, calls_by_digest
from proxy.session.session import DEFAULT_USER, Account, World
from proxy.session.virtual_cluster import Presented
from proxy.sharding.colocation import build_colocation, slot_of
from proxy.sharding.topology import NOBODY, Node, Topology
from proxy.transport import descriptors
from proxy.transport.clock import Clock
from proxy.transport.flow_control import ClientLimits, Stop
from proxy.transport.job_runner import Slices
from proxy.transport.tls import backend_tls, connecting
from proxy.transport.transports import LoopWires, Wires
from proxy.transport.write_batch import Turn
from proxy.worker.identity import Identity
from proxy.worker.loop_lag import LoopLag
from proxy.worker.script_lookup import LostScripts

_STAY = encode.request(STAY)
_EVICTING = 7
"""The first version of Redis that closes connections to save memory; Valkey says that it is 7.2.4."""
_CHUNK = 256 * 1024
"""The most bytes that uvloop reads at once."""


class Service:
    """One worker's shared parts, made from a configuration and a topology inside a running loop."""

    def __init__(
        self,
        config: Config,
        topology: Topology,
        clock: Callable[[], float] = time.monotonic,
        census: Census | None = None,
        wires: Wires | None = None,
        files: int = descriptors.PLENTY,
        identity: Identity | None = None,
    ) -> None:
        self.config = config
        self.topology = topology
        self.loop = asyncio.get_running_loop()
        self.wires = LoopWires(self.loop) if wires is None else wires
        self.identity = identity or Identity()
        self.facts = ServerFacts(lambda: self.topology)
        """What the servers have said of themselves."""
        self.counters = Counters(config.measure)
        self.turn = Turn(self.loop, Clock(self.loop, clock))
        self.slices = Slices(self.loop, clock)
        self.examined = Examined()
        self.credentials = credentials_of(config)
        self.table = CommandTable.builtin()
        self.absent: frozenset[str] = frozenset()
        """Names of commands that the table knows and no backend has: to clients they are unknown."""
        self.rules = build_colocation(config.colocate)
        self.slot_of = slot_of(self.rules)
        """The slot of a key, or of a shard channel."""
        self._lanes = self._make_lanes()
        self.lanes = Lanes(self._lanes[0])
        self.query = QueryLimit()
        """How much the servers keep of what one connection sends."""
        self.own_lane = OwnLane(self.counters, self._most_queued())
        self.own_lane.learn(self.table, self.absent)
        self.presents_cluster = config.present_as == "cluster"
        self.longs = LongReplies()
        self.planner = self._planner(None)
        self.census = census or Census()
        self.clients = Clients(self.loop, self.slices, self.counters, config.limits.max_clients, self.census)
        self.loop_lag = LoopLag(self.clients.latest, clock)
        self._files = files
        """How many descriptors this process may have."""
        self._division: descriptors.Division | None = None
        self.budget = descriptors.Budget()
        self._divide()
        self.spectators = Spectators(self.clients.tell_plain)
        self.pausing = Pausing(self)
        self.clients.on_pause = self.pausing.begin
        self.trackers = Trackers(self, config.backend.dedicated_connections, _share(config), self.budget)
        self.siblings: Siblings | None = None
        self.scripts = Scripts(config.limits.max_scripts, config.limits.script_memory)
        self._evidence = Evidence(self, LostScripts(self.scripts, self.turn.now, lambda: self.siblings).refusal)
        self._slow_scripts = SlowScripts(self)
        self.scripts.on_call = self._slow_scripts.called
        self.world = World(_accounts(config), self.clients, scripts=self.scripts, slot_of=self.slot_of)
        if self.presents_cluster:
            self.world.presented = _presented(config, lambda: self.topology)
        if topology.cluster:
            # Until its nodes have said what they have.
            self.world.databases, self.world.selects = 1, False
        default = self.world.accounts.get(DEFAULT_USER)
        self.open = default is not None and default.nopass
        """Whether clients need not authenticate."""
        self.dispatcher = Dispatcher(
            self.counters,
            Context(self._overlay, lambda: self.hub, self.facts, lambda: self.world.server_version, self._unserved),
            self._count_error,
            self._wait,
            self.slices,
            config.limits.max_reply,
        )
        limits = config.limits
        self.limits: ClientLimits = ClientLimits(
            limits.max_in_flight,
            limits.output_soft,
            limits.output_hard,
            limits.write_timeout,
            limits.pubsub_output_soft,
            limits.pubsub_output_patience,
            limits.pubsub_output_hard,
        )
        self.raises = False
        """Whether a primary is known to pass on what scripts raise with its line breaks."""
        self.unasked: frozenset[Node] = frozenset()
        """The primaries that may do so, as they have not been asked yet."""
        self.replicas_raise = False
        """Whether a replica that is read from does so, or may, as it has not been asked yet."""
        self.backlog: Backlog = Backlog(self.loop, limits.output_memory, self.counters)
        self.request_limits = RequestLimits(
            # What every server takes, until they have said what they are.
            min(limits.max_arguments, FEWER_ARGUMENTS),
            limits.max_bulk,
            limits.max_inline,
            limits.max_request_size,
        )
        self.fast_lane = (
            min(limits.max_bulk, limits.max_request_size) >= _CHUNK and limits.max_arguments >= MOST_ARGUMENTS
        )
        """The fast lane sees short requests that lie in one chunk, so larger limits need not be looked at there."""
        backend = config.backend
        timing = Timing(
            backend.connect_timeout,
            backend.request_timeout,
            backend.retry_deadline,
            backend.backoff_min,
            backend.backoff_max,
        )
        self._evicts = False
        """Whether servers may close connections to save memory, and can be told not to."""
        self.missing: Missing = {}
        """The function libraries that shards lack."""
        self.restarted: set[Backend] = set()
        """Connections that were lost since their server's facts were asked for."""
        self.changed = asyncio.Event()
        """A backend connection changed its state."""
        self.learned = asyncio.Event()
        """Every primary has been asked for its facts."""
        self.roles = RoleWatch(self, config.topology.kind != "static" or config.topology.check_roles)
        around = Surroundings(
            self.turn,
            self.counters,
            timing,
            self.credentials,
            Gates(self.turn.now, (timing.backoff_min, timing.backoff_max)),
            connecting(self.wires.connect, self.credentials.tls),
            self._look,
            self._count_error,
            self.refusal,
            self._evidence.doubt,
            self._prepare,
            self.scripts.forget,
            lambda backend, entry, refused: self.detours.refused(backend, entry, refused),
            self._wait,
            self.hint,
            self._on_state,
            self._on_long,
            lambda lost: self._book.elsewhere(lost),
            self._where,
            self.roles.demoted,
            config.topology.kind == "sentinel" or config.topology.discover_replicas,
            config.topology.kind == "static" and config.topology.check_roles,
            config.topology.kind == "cluster",
            lambda node, identity: self.source.stranger(node, identity),
            lambda number: self.trackers.get(number),
            self.slices,
            self.query,
            lambda: self._evicts,
            limits.max_reply,
            backend.long_reply_connections,
        )
        self.source: Source = source_of(config, self.credentials, self.counters, self.hold_shard)
        self._held: dict[str, asyncio.TimerHandle] = {}
        """The shards to whose primaries nothing is sent, until then."""
        self._gaps_since = self.turn.now()
        """Since when there have been slots that nobody serves, if there are."""
        self.stranger = around.stranger if around.cluster else None
        """See ``proxy.backends.handshake.Stranger``, by the node; None where servers have no ids."""
        self.detours: Detours = Detours(around, self._at, self._split, self._on_unsettled)
        self.pool = Pool(around)
        self.leases = Leases(around, backend.dedicated_connections, _share(config), backend.dedicated_wait, self.budget)
        self.hub: Hub = Hub(around, topology)
        self.monitor = Monitor(
            lambda: self.topology,
            self.credentials,
            backend.connect_timeout,
            config.max_replica_lag,
            clock,
            self._on_fitness,
            self.source.hint,
            self.stranger,
        )
        self.reads_replicas = config.read_from != "primary" or self.presents_cluster
        """Whether replicas are read from, and so are watched."""
        self.read_your_writes = config.read_your_writes if self.reads_replicas else 0.0
        """For how many seconds a client's reads of a shard go to the primary after a write there."""
        self._book: RouteBook = RouteBook(
            topology,
            self.pool,
            backend.connections_per_node,
            self.monitor,
            keep_to_primary=self.read_your_writes > 0,
        )
        self.plain_routes = self._book.plain(config.read_from)
        """The routes of clients that have chosen nothing yet, dealt out to them in turn."""

    def routes(
        self, protocol: int, db: int, number: int, reads_replicas: bool = False, calls_scripts: bool = False
    ) -> Routes:
        """The routes of client ``number``, in the protocol and database it uses; ``reads_replicas``: it said so."""
        read_from = self.config.read_from
        if reads_replicas and read_from == "primary":
            read_from = "prefer_replica"
        return self._book.routes(protocol, db, read_from, self.census.rank(number), calls_scripts)

    def own_routes(self, number: int) -> Routes:
        """The routes of client ``number`` over connections of its own."""
        return self._book.own(number)

    def large_routes(self, frame: bytes, routes: Routes, protocol: int, db: int) -> Routes | None:
        """The routes of the request in ``frame``, in place of ``routes``, if it is so large that it needs a connection
        that is not everybody's; None if it is not."""
        if len(frame) < self.query.large or routes.manner.owner:
            return None
        return self._book.large(protocol, db)

    def long_routes(self, frames: Iterable[bytes], routes: Routes) -> Routes | None:
        """The same for a request that is sent as ``frames``, if one of these has had very long replies."""
        if not self.longs.names or routes.manner.owner or not self.longs.any(frames):
            return None
        return self._book.long(routes)

    def forget_long_replies(self) -> None:
        """Requests that have had very long replies, but not lately, are like others again."""
        if self.longs.forget(self.turn.now()):
            self._watch()

    def _remember_long(self, frame: bytes) -> None:
        """A very long reply comes to the request ``frame``."""
        now = self.turn.now()
        if self.longs.again(frame, now):
            return
        fact, _ = self.resolve(frame)
        if fact is None or not fact.readonly or fact.handling not in (Handling.KEYED, Handling.MULTI_SHARD):
            return
        if self.longs.add(frame, fact.name, now):
            self._watch()

    def _watch(self) -> None:
        for lane in self._lanes:
            lane.watch(self.longs.names)

    def release(self, number: int) -> None:
        """Client ``number`` needs no connections of its own any more."""
        self._book.release(number)
        self.pool.release(number)

    def renew(self, number: int, node: Node) -> None:
        """Connect client ``number`` anew to ``node``, over each connection of its own."""
        for backend in self.pool.owned(number):
            if backend.place.node == node:
                backend.renew()

    def at_primaries(self, routes: Routes) -> Routes:
        """The same connections to primaries as those of ``routes``, for reads too."""
        return self._book.at_primaries(routes)

    def keep_routes(self, used: Collection[Routes]) -> set[Backend]:
        """Forget the routes that are not ``used``: the connections that the others need."""
        return self._book.keep(used)

    def _on_long(self, backend: Backend) -> bool:
        """A long reply is coming: who has nothing in flight behind it goes on over another connection, now or soon;
        whether there is one."""
        place = backend.place
        if not place.owner and (frame := backend.very_long):
            self._remember_long(frame)
        if place.owner:
            backend.leave()  # nobody else uses it
        elif (other := self.pool.make_way(backend)) is not None:
            other.withhold(place.primary and self.holds(place.shard))
            self._halt(backend.owners())
            self._book.refresh()
        return backend.left or self.pool.makes_way(place)

    def replace(self, backends: Collection[Backend]) -> None:
        """Use fresh connections in place of these, over which nothing more is sent; who has something in flight on one
        goes on when that is answered."""
        self._halt({owner for backend in backends for owner in backend.owners()})
        for backend in backends:
            self.pool.replace(backend)
        for owner in {backend.place.owner for backend in backends}:
            self._book.refresh(owner)
        for backend in backends:
            backend.retire(keeps=True)

    def adopt(self, topology: Topology) -> None:
        """Use another snapshot from now on. What follows of a client that has something in flight on slots that moved
        waits for that."""
        before, self.topology = self.topology, topology
        if before.whole:
            self._gaps_since = self.turn.now()
        self.planner = self._planner(self.planner.cursors)
        self._divide()
        if (before.cluster, len(before.shards)) != (topology.cluster, len(topology.shards)):
            self._renew_lanes()
        self._book.adopt(topology)
        left = topology.left_by(before)
        owners: set[object] = set()
        for backend in self.pool:
            if backend.place.primary and backend.place.node in left:
                owners |= backend.owners()
        self._halt(owners)
        for name in [name for name in self._held if before.primary(name) != topology.primary(name)]:
            self._held.pop(name).cancel()
        self.pool.adopt(topology)
        self.hub.adopt(topology)
        self.leases.adopt(topology)
        self.roles.known({node for shard in topology.shards for node in shard.nodes})
        if left:
            self.trackers.moved()
        if before.slot_shard != topology.slot_shard:
            for client in self.clients:
                client.forget_shards()
        self.changed.set()

    def _divide(self) -> None:
        """Divide the descriptors anew: there may be more servers or fewer."""
        workers = self.census.workers
        division = descriptors.divide(self._files, self.config, self.topology, workers)
        self.clients.maximum = division.all_clients
        self.clients.own_maximum = division.clients
        self.budget.most = division.dedicated
        if division != self._division and self.topology.shards and self.census.index == 0:
            descriptors.report(division, self.config, workers)
        self._division = division

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

    def _halt(self, owners: Set[object]) -> None:
        """Take no more requests from these clients until all they sent are answered."""
        if owners:
            for client in self.clients:
                if client.window in owners:
                    client.flow.stop(Stop.ORDER)

    def primary(self, shard: int, protocol: int, db: int) -> Place | None:
        """Where the primary of ``shard`` is; None if it is nobody's, or nothing may be sent there now."""
        if not 0 <= shard < len(self.topology.shards) or self.topology.shards[shard].name in self._held:
            return None
        found = self.topology.shards[shard]
        return Place(found.name, found.primary, True, protocol, db, 0)

    def shared(self, place: Place) -> Backend:
        """The shared connection to the server of ``place``."""
        backend = self.pool.at(replace(place, index=0) if place.index else place)
        backend.start()
        return backend

    def _prepare(self, frame: bytes, backend: Backend, now: float) -> None:
        if calls := calls_by_digest(frame):
            self.scripts.prepare_all(calls, backend, now)

    def refusal(self, error: bytes, asked: Node, frame: bytes) -> Refusal | Doubt | None:
        """What an error frame refuses that ``asked`` sent to the request in ``frame``; None if it is the client's
        business."""
        return self._evidence.refusal(error, asked, frame)

    def may_raise(self, shard: int | None = None, read: bool = False) -> bool:
        """Whether the primary of ``shard``, or of any, may pass on what scripts raise with its line breaks; ``read``:
        or a replica that is read from."""
        if read and self.replicas_raise:
            return True
        if self.raises or not self.unasked:
            return self.raises
        return shard is None or (shard != NOBODY and self.topology.shards[shard].primary in self.unasked)

    def hint(self, node: Node | None) -> None:
        """Something has changed, as ``node`` says: the topology should be looked at."""
        self.source.hint(node)

    def demoted(self, place: Place) -> None:
        """The server of ``place`` is used as a primary, and says that it is a replica."""
        self.roles.demoted(place)

    def leave_primary(self, node: Node) -> None:
        """``node`` is no primary: have the topology looked at, and go over fresh connections."""
        self.source.hint(None)
        self.trackers.leave(node)
        self.leases.renew(node)
        self.replace([backend for backend in self.pool if backend.place.node == node and backend.place.primary])

    def renew_subscriptions(self, node: Node) -> None:
        """Subscribe at ``node`` over a fresh connection."""
        self.hub.renew(node)

    def member(self, node: Node) -> Node | None:
        """Where the server is reached that a redirection calls ``node``; None if nobody who is believed knows it."""
        return self.source.member(node)

    def doubt(self, frame: bytes) -> Doubt | None:
        """What shows whether a server refuses the request in ``frame``, if that request's own words do not."""
        return self._evidence.doubt(frame)

    def forestall(self, frame: bytes, backend: Backend | None, sink: Sink, token: int, now: float) -> None:
        """A request is about to be sent to ``backend`` while others are refused: have its twin go ahead of it."""
        doubt = self._evidence.doubt(frame)
        if doubt is not None and backend is not None:
            self.detours.forestall(backend, doubt, sink, token, now)

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept here, or may be by another worker."""
        return self.siblings is not None or any(self.scripts.body(digest) is not None for digest in digests)

    def _where(self, place: Place, look: Look) -> Backend | None:
        """The primary's connection where a request belongs that was sent as ``place`` says; None if there is none."""
        topology = self.topology
        index = topology.slot_shard[next(iter(look.slots))] if look.slots else topology.index(place.shard)
        if index == NOBODY:
            return None
        return self._at(place, topology.shards[index].primary)

    def _at(self, place: Place, primary: Node) -> Backend:
        """The connection to ``primary``, for the rest as ``place``."""
        owner = place.owner if self.trackers.get(place.owner) else 0
        backend = self.pool.at(
            replace(place, shard=self.topology.called(primary), node=primary, primary=True, owner=owner)
        )
        backend.start()
        return backend

    def _split(self, entry: Entry) -> list[Entry]:
        """A request for each key of ``entry``, whose keys no server has together; none if it can not be split."""
        fact, args = self.resolve(entry.frame)
        plan = None if fact is None else self.planner.by_key(fact, args, entry.frame)
        if plan is None:
            return []
        self.counters.splits += 1
        gather = self.dispatcher.gather(plan, entry.sink, entry.token)
        return [Entry(gather, index, part.frame, entry.since) for index, part in enumerate(plan.parts)]

    def _wait(self, entry: Entry, place: Place) -> None:
        """Nobody serves the slot of ``entry``: keep it until somebody does, if that has not been so for long."""
        error = encode.error(errors.nobody(self.topology.cluster))
        if self.turn.now() - self._gaps_since > self.config.backend.retry_deadline:
            self.source.hint(None)
            self._count_error(entry.sink, entry.frame)
            entry.sink.deliver(entry.token, error, 0, len(error))
        else:
            self.detours.wait(entry, place, Refusal("CLUSTERDOWN", error))

    async def close(self) -> None:
        """Close every connection to a server; what is in flight is answered with an error."""
        self.detours.close()
        self._slow_scripts.close()
        await self.hub.close()
        await self.leases.close()
        await self.pool.close()
        self.turn.clock.close()

    def learn(self, table: CommandTable) -> None:
        """Use a table that was completed by what the backends know."""
        self.table = table
        self._renew_lanes()
        self.own_lane.learn(self.table, self.absent)

    def lack(self, absent: frozenset[str]) -> None:
        """The table knows these commands, and no backend has them."""
        self.absent = absent
        self.own_lane.learn(self.table, self.absent)

    def _planner(self, before: Cursors | None) -> Planner:
        topology, rules = self.topology, self.rules
        return Planner(topology, self.config.cross_slot, rules, self.presents_cluster, before, self.examined)

    def _make_lanes(self) -> tuple[Lane, Lane]:
        """The fast lane, and the one for while requests are refused: a module's own words prove no refusal."""
        common = self.counters, self.topology, self.config.cross_slot, self.rules
        lane = Lane(self.table, *common)
        others = Lane(filter(runs_code, self.table), *common)
        if not others.heads and not others.splits:
            return lane, lane
        return lane, Lane((fact for fact in self.table if not runs_code(fact)), *common)

    def _renew_lanes(self) -> None:
        self._lanes = self._make_lanes()
        self._watch()
        self._on_unsettled()

    def _on_unsettled(self) -> None:
        self.lanes.current = self._lanes[self.detours.unsettled]

    def _most_queued(self) -> int:
        """The bytes that a transaction may take, as the proxy and its servers have room for it."""
        return min(self.config.limits.max_request_size, self.query.limit)

    def limit_requests(self, bulk: int | None, query: int | None, arguments: int) -> None:
        """Take no larger arguments than ``bulk`` bytes from clients that connect from now on (None: as configured), and
        no more of them than ``arguments``, and send servers no more than they keep of one connection, ``query`` bytes
        (None: they do not say)."""
        limits = self.config.limits
        bulk = min(bulk or limits.max_bulk, limits.max_bulk)
        arguments = min(arguments, limits.max_arguments)
        self.request_limits = replace(self.request_limits, bulk=bulk, arguments=arguments)
        self.query.set(query or DEFAULT)
        self.own_lane.most = self._most_queued()
        self.scripts.limit(self.query.limit)
        self.fast_lane = self.fast_lane and bulk >= _CHUNK and self.query.large >= FAST_FROM
        if not self.fast_lane:
            self.clients.tell_plain()

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

    def unreachable(self) -> list[str]:
        """The names of the shards whose primary is not connected, or is none."""
        up = {backend.place.node for backend in self.pool if backend.place.primary and backend.ready}
        up.difference_update(self.roles.misfits)
        return [shard.name for shard in self.topology.shards if shard.primary not in up]

    def unfit(self) -> dict[str, str]:
        """Why the primaries of shards are none, by the shard's name, where they can be asked."""
        found = {backend.place.node: backend.unfit for backend in self.pool if backend.place.primary and backend.unfit}
        found |= self.roles.misfits
        return {shard.name: found[shard.primary] for shard in self.topology.shards if shard.primary in found}

    def _on_state(self, backend: Backend) -> None:
        if backend.ready and backend.place.primary and backend.place.shard in self._held:
            backend.withhold(True)
        if backend.ready and (left := self.pool.stood(backend)) is not None:
            self._halt(left.owners())
        self._book.refresh(backend.place.owner)
        self._keep_connection(backend)
        if not backend.ready:
            self.scripts.forget(backend)
            self.scripts.forget(backend.place.node)
            self.restarted.discard(backend)
            if not backend.retired and backend.state is not State.CLOSED:
                self.restarted.add(backend)
        else:
            self.roles.stood(backend)
            if tracker := self.trackers.get(backend.place.owner):
                tracker.stood(backend)
        self.changed.set()

    def _on_fitness(self, silent: list[Node]) -> None:
        """Other servers are fit for reads, or nearer; what waits for replicas that are ``silent`` waits elsewhere."""
        self._book.refresh()
        for backend in [backend for backend in self.pool if backend.place.node in silent]:
            if not backend.place.primary:
                backend.give_up_reads()

    def _look(self, frame: bytes) -> Look:
        """What the request in ``frame`` is. Of what is not known it is supposed that it writes, anywhere."""
        if exec_block.is_block(frame):
            return together([self._look(request) for request in exec_block.queued(frame)])
        fact, args = self.resolve(frame)
        if fact is None:
            return Look(False, None)
        try:
            slots = frozenset(self.slot_of(args[index]) for index in key_indexes(fact, args))
        except KeysError:
            slots = frozenset()
        # A read of no key reads no slot; a write without one may write anywhere.
        return Look(fact.readonly, slots if fact.readonly else slots or None, fact.replica_ok)

    def _count_error(self, sink: Sink, frame: bytes) -> None:
        if not sink.counted:
            return
        fact, _ = self.resolve(frame)
        if fact is not None:
            self.counters.command(fact.name).failed += 1

    def resolve(self, frame: bytes) -> tuple[Fact | None, list[bytes]]:
        """The fact of a request that was sent, of a block EXEC's; None if it is not known or can not be read."""
        if exec_block.is_block(frame):
            frame = exec_block.EXEC
        try:
            args = split_request(frame)
            return self.table.resolve(args), args
        except (ProtocolError, UnknownSubcommand):
            return None, []

    def _unserved(self) -> str:
        """Why not all shards can be asked."""
        topology = self.topology
        return "" if topology.whole else errors.incomplete(topology.shards, topology.cluster)

    def _overlay(self) -> Overlay:
        """What INFO says about the proxy: its own clients, and a section of its own."""
        identity = self.identity
        seconds = int(time.time() - identity.started)
        return {
            "Server": {
                # Valkey calls it server_mode; libraries look at this one.
                "redis_mode": "cluster" if self.presents_cluster else "standalone",
                "process_id": str(identity.pid),
                "run_id": identity.run_id,
                "tcp_port": str(next((address.port for address in self.config.listen if not address.unix), 0)),
                "uptime_in_seconds": str(seconds),
                "uptime_in_days": str(seconds // 86400),
                "executable": "slotgate",
                "config_file": identity.config_file,
            },
            "Clients": {
                "connected_clients": str(self.census.total()),
                "blocked_clients": str(self.census.total_blocked()),
                "maxclients": str(self.clients.maximum),
            },
            "Cluster": {"cluster_enabled": str(int(self.presents_cluster))},
            "Slotgate": {
                "slotgate_version": __version__,
                "slotgate_workers": str(self.census.workers),
                "slotgate_worker": str(self.census.index),
                "slotgate_shards": str(len(self.topology.shards)),
                "slotgate_backend_connections": str(sum(backend.ready for backend in self.pool)),
                "slotgate_clients_accepted": str(self.counters.accepted),
                "slotgate_splits": str(self.counters.splits),
            },
        }


def credentials_of(config: Config) -> Credentials:
    """How to log in to the servers."""
    password = config.backend.password
    return Credentials(
        config.backend.username or "", password.get_secret_value() if password else "", backend_tls(config)
    )


def _share(config: Config) -> int:
    """How many dedicated connections to one server one user at one address may have."""
    return max(int(config.backend.dedicated_connections * config.backend.dedicated_share), 1)


def _accounts(config: Config) -> dict[str, Account]:
    return {user.name: Account(user.name, user.passwords, user.nopass, user.admin) for user in config.users}


def _presented(config: Config, topology: Callable[[], Topology]) -> Presented:
    told = [(address.host, address.port) for address in config.advertise]
    listening = [(address.host, address.port) for address in config.listen if not address.unix]
    return Presented(told, listening, topology)
