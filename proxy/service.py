"""What all clients of a worker share: the facts, the routes, the limits, and the parts that do the work."""

import asyncio
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, replace

from proxy import __version__, errors, transaction
from proxy.backend import Backend
from proxy.backlog import Backlog
from proxy.census import Census
from proxy.clients import Clients, Siblings
from proxy.colocation import build_colocation, slot_of
from proxy.commands.facts import Fact
from proxy.commands.keys import KeysError, key_indexes
from proxy.commands.table import CommandTable, UnknownSubcommand
from proxy.config import Config
from proxy.detour import Detours
from proxy.discovery.choose import source_of
from proxy.discovery.functions import Missing
from proxy.discovery.monitor import Monitor
from proxy.dispatch import Dispatcher
from proxy.engine.entry import Entry
from proxy.engine.sink import Sink
from proxy.fastlane import MOST_ARGUMENTS, Lane
from proxy.flow import Stop
from proxy.greeting import Credentials
from proxy.leases import Leases
from proxy.lostscripts import LostScripts
from proxy.merge import Context, Overlay
from proxy.metrics import Counters
from proxy.owncalls import OwnLane
from proxy.planner import Planner
from proxy.pool import Pool
from proxy.presented import Presented
from proxy.pubsub import Hub
from proxy.refusals import Refusal, refusal
from proxy.resp import encode
from proxy.resp.limits import RequestLimits
from proxy.resp.requests import ProtocolError, split_request
from proxy.retries import Look, together
from proxy.routes import RouteBook, Routes
from proxy.scripts import NOT_FOUND, Scripts, calls_by_digest
from proxy.session import DEFAULT_USER, Account, World
from proxy.spectators import Spectators
from proxy.surroundings import Place, Surroundings, Timing
from proxy.tls import backend_tls, connecting
from proxy.topology import NOBODY, Node, Topology
from proxy.tracking import Trackers
from proxy.turn import Turn
from proxy.wires import LoopWires, Wires

_CHUNK = 256 * 1024
"""The most bytes that uvloop reads at once."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds of one client's connection; sizes in bytes, times in seconds."""

    max_in_flight: int
    output_soft: int
    output_hard: int
    write_timeout: float
    pubsub_soft: int
    pubsub_patience: float
    """How long a subscriber may have more than ``pubsub_soft`` waiting for it."""
    pubsub_hard: int


class Service:
    """One worker's shared parts, made from a configuration and a topology inside a running loop."""

    def __init__(
        self,
        config: Config,
        topology: Topology,
        clock: Callable[[], float] = time.monotonic,
        census: Census | None = None,
        wires: Wires | None = None,
    ) -> None:
        self.config = config
        self.topology = topology
        self.loop = asyncio.get_running_loop()
        self.wires = LoopWires(self.loop) if wires is None else wires
        self.started = time.time()
        self.counters = Counters(config.measure)
        self.turn = Turn(self.loop, clock)
        self.credentials = _credentials(config)
        self.table = CommandTable.builtin()
        self.absent: frozenset[str] = frozenset()
        """Names of commands that the table knows and no backend has: to clients they are unknown."""
        self.rules = build_colocation(config.colocate)
        self.slot_of = slot_of(self.rules)
        """The slot of a key, or of a shard channel."""
        self.lane = self._lane()
        self.own_lane = OwnLane(self.counters, config.limits.max_request_size)
        self.own_lane.learn(self.table, self.absent)
        self.presents_cluster = config.present_as == "cluster"
        self.planner = self._planner()
        self.census = census or Census()
        self.clients = Clients(self.loop, self.counters, config.limits.max_clients, self.census)
        self.spectators = Spectators(self.clients.tell_plain)
        self.trackers = Trackers(self, config.backend.dedicated_connections)
        self.siblings: Siblings | None = None
        self.scripts = Scripts(config.limits.max_scripts, config.limits.script_memory)
        self._lost_scripts = LostScripts(self)
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
            self.counters, Context(self._overlay, lambda: self.hub), self._count_error, self._wait
        )
        limits = config.limits
        self.limits = ClientLimits(
            limits.max_in_flight,
            limits.output_soft,
            limits.output_hard,
            limits.write_timeout,
            limits.pubsub_output_soft,
            limits.pubsub_output_patience,
            limits.pubsub_output_hard,
        )
        self.backlog = Backlog(self.loop, limits.output_memory, self.counters)
        self.request_limits = RequestLimits(
            limits.max_arguments, limits.max_bulk, limits.max_inline, limits.max_request_size
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
        self.missing: Missing = {}
        """The function libraries that shards lack."""
        self.restarted: set[Backend] = set()
        """Primaries' connections that were lost since their server's facts were asked for."""
        self.changed = asyncio.Event()
        """A backend connection changed its state."""
        self.learned = asyncio.Event()
        """Every primary has been asked for its facts."""
        around = Surroundings(
            self.turn,
            self.counters,
            timing,
            self.credentials,
            connecting(self.wires.connect, self.credentials.tls),
            self._look,
            self._count_error,
            self.refusal,
            self._prepare,
            self.scripts.forget,
            lambda backend, entry, refused: self.detours.refused(backend, entry, refused),
            self._wait,
            lambda node: self.source.hint(node),
            self._on_state,
            self._on_blocked,
            lambda lost: self._book.elsewhere(lost),
            self._where,
            config.topology.kind == "sentinel" or config.topology.discover_replicas,
            config.topology.kind == "cluster",
            lambda number: self.trackers.get(number),
        )
        self.source = source_of(config, self.credentials, self.counters, self.hold_shard)
        self._held: dict[str, asyncio.TimerHandle] = {}
        """The shards to whose primaries nothing is sent, until then."""
        self._gaps_since = self.turn.now()
        """Since when there have been slots that nobody serves, if there are."""
        self.detours = Detours(around, self._at)
        self.pool = Pool(around)
        self.leases = Leases(around, backend.dedicated_connections, backend.dedicated_wait)
        self.hub = Hub(around, topology)
        self.monitor = Monitor(
            lambda: self.topology,
            self.credentials,
            backend.connect_timeout,
            config.max_replica_lag,
            clock,
            self._on_fitness,
            self.source.hint,
        )
        self.reads_replicas = config.read_from != "primary" or self.presents_cluster
        """Whether replicas are read from, and so are watched."""
        self.read_your_writes = config.read_your_writes if self.reads_replicas else 0.0
        """For how many seconds a client's reads of a shard go to the primary after a write there."""
        self._book = RouteBook(
            topology,
            self.pool,
            backend.connections_per_node,
            self.monitor,
            keep_to_primary=self.read_your_writes > 0,
        )
        self.plain_routes = self._book.plain(config.read_from)
        """The routes of clients that have chosen nothing yet, dealt out to them in turn."""

    def routes(self, protocol: int, db: int, number: int, reads_replicas: bool = False) -> Routes:
        """The routes of client ``number``, in the protocol and database it uses; ``reads_replicas``: it said so."""
        read_from = self.config.read_from
        if reads_replicas and read_from == "primary":
            read_from = "prefer_replica"
        return self._book.routes(protocol, db, read_from, self.census.rank(number))

    def own_routes(self, protocol: int, db: int, number: int) -> Routes:
        """The routes of client ``number`` over connections of its own."""
        return self._book.own(protocol, db, number)

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

    def _on_blocked(self, backend: Backend) -> None:
        """A reply streams to a slow reader: who has nothing in flight behind it goes on over a fresh connection."""
        self._halt(backend.owners())
        self.pool.replace(backend)
        self._book.refresh(backend.place.owner)

    def adopt(self, topology: Topology) -> None:
        """Use another snapshot from now on. What follows of a client that has something in flight on slots that moved
        waits for that."""
        before, self.topology = self.topology, topology
        if before.whole:
            self._gaps_since = self.turn.now()
        self.planner = self._planner()
        if (before.cluster, len(before.shards)) != (topology.cluster, len(topology.shards)):
            self.lane = self._lane()
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
        if left:
            self.trackers.moved()
        if before.slot_shard != topology.slot_shard:
            for client in self.clients:
                client.forget_shards()
        self.changed.set()

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
        backend = self.pool.at(replace(place, index=0))
        backend.start()
        return backend

    def _prepare(self, frame: bytes, backend: Backend, now: float) -> None:
        if calls := calls_by_digest(frame):
            self.scripts.prepare_all(calls, backend, now)

    def refusal(self, error: bytes, asked: Node, frame: bytes = b"") -> Refusal | None:
        """What an error frame refuses that ``asked`` sent to the request in ``frame``; None if it is the client's
        business."""
        if error in NOT_FOUND:
            there = [backend for backend in self.pool if backend.place.node == asked]
            return self.scripts.refusal(error, frame, there) or self._lost_scripts.refusal(error, frame)
        return refusal(error, asked, self.topology.cluster, self.config.topology.remap)

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
        await self.hub.close()
        await self.leases.close()
        await self.pool.close()

    def learn(self, table: CommandTable) -> None:
        """Use a table that was completed by what the backends know."""
        self.table = table
        self.lane = self._lane()
        self.own_lane.learn(self.table, self.absent)

    def lack(self, absent: frozenset[str]) -> None:
        """The table knows these commands, and no backend has them."""
        self.absent = absent
        self.own_lane.learn(self.table, self.absent)

    def _planner(self) -> Planner:
        return Planner(self.topology, self.config.cross_slot, self.rules, self.presents_cluster)

    def _lane(self) -> Lane:
        return Lane(self.table, self.counters, self.topology, self.config.cross_slot, self.rules)

    def limit_bulk(self, size: int | None) -> None:
        """Take no larger arguments than ``size`` bytes from clients that connect from now on; None: as configured."""
        bulk = min(size or self.config.limits.max_bulk, self.config.limits.max_bulk)
        self.request_limits = replace(self.request_limits, bulk=bulk)
        self.fast_lane = self.fast_lane and bulk >= _CHUNK

    def unreachable(self) -> list[str]:
        """The names of the shards whose primary is not connected."""
        up = {backend.place.shard for backend in self.pool if backend.place.primary and backend.ready}
        return [shard.name for shard in self.topology.shards if shard.name not in up]

    def _on_state(self, backend: Backend) -> None:
        if backend.ready and backend.place.primary and backend.place.shard in self._held:
            backend.withhold(True)
        self._book.refresh(backend.place.owner)
        if not backend.ready:
            self.scripts.forget(backend)
            if backend.place.primary:
                self.restarted.add(backend)
        elif tracker := self.trackers.get(backend.place.owner):
            tracker.stood()
        self.changed.set()

    def _on_fitness(self, silent: list[Node]) -> None:
        """Other servers are fit for reads, or nearer; what waits for replicas that are ``silent`` waits elsewhere."""
        self._book.refresh()
        for backend in [backend for backend in self.pool if backend.place.node in silent]:
            if not backend.place.primary:
                backend.give_up_reads()

    def _look(self, frame: bytes) -> Look:
        """What the request in ``frame`` is. Of what is not known it is supposed that it writes, anywhere."""
        if transaction.is_block(frame):
            return together([self._look(request) for request in transaction.queued(frame)])
        fact, args = self._resolve(frame)
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
        fact, _ = self._resolve(frame)
        if fact is not None:
            self.counters.command(fact.name).failed += 1

    def _resolve(self, frame: bytes) -> tuple[Fact | None, list[bytes]]:
        """The fact of a request that was sent, of a block EXEC's; None if it is not known or can not be read."""
        if transaction.is_block(frame):
            frame = transaction.EXEC
        try:
            args = split_request(frame)
            return self.table.resolve(args), args
        except (ProtocolError, UnknownSubcommand):
            return None, []

    def _overlay(self) -> Overlay:
        """What INFO says about the proxy: its own clients, and a section of its own."""
        seconds = int(time.time() - self.started)
        return {
            "Server": {
                # Valkey calls it server_mode; libraries look at this one.
                "redis_mode": "cluster" if self.presents_cluster else "standalone",
                "uptime_in_seconds": str(seconds),
                "uptime_in_days": str(seconds // 86400),
                "executable": "slotgate",
                "config_file": "",
            },
            "Clients": {
                "connected_clients": str(self.census.total()),
                "blocked_clients": str(self.census.total_blocked()),
                "maxclients": str(self.config.limits.max_clients),
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


def _credentials(config: Config) -> Credentials:
    password = config.backend.password
    return Credentials(
        config.backend.username or "", password.get_secret_value() if password else "", backend_tls(config)
    )


def _accounts(config: Config) -> dict[str, Account]:
    return {user.name: Account(user.name, user.passwords, user.nopass, user.admin) for user in config.users}


def _presented(config: Config, topology: Callable[[], Topology]) -> Presented:
    told = [(address.host, address.port) for address in config.advertise]
    elsewhere = [(address.host, address.port) for address in config.listen if not address.unix]
    return Presented(told, (told or elsewhere)[0], topology)
