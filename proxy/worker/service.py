"""What all clients of a worker share: the facts, the routes, the limits, and the parts that do the work."""

import asyncio
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import replace
from functools import partial

from proxy import errors
from proxy.backends.connect_gate import Gates
from proxy.backends.dispatch import Dispatcher
from proxy.backends.pool import Pool
from proxy.backends.settings import BackendSettings, Owner, Place, State
from proxy.backends.shared import Backend
from proxy.backends.upstream import Upstream, reads_replicas, share
from proxy.client.backlog import Backlog
from proxy.client.fast_commands import MOST_ARGUMENTS, CommandLookup, Lookups
from proxy.client.own_answers import OwnAnswers
from proxy.client.registry import Clients
from proxy.client.shared_counts import SharedCounts
from proxy.commands.table import CommandTable
from proxy.config import Config
from proxy.discovery.choose import source_of
from proxy.discovery.functions import Missing
from proxy.discovery.monitor import Monitor
from proxy.discovery.role_watch import RoleWatch
from proxy.discovery.source import Source
from proxy.engine.entry import Entry
from proxy.features.host import Siblings
from proxy.features.monitor import MonitoringClients
from proxy.features.pause import Pausing
from proxy.features.slow_scripts import SlowScripts
from proxy.features.tracking import Trackers
from proxy.metrics import Counters
from proxy.planning.inspector import Inspector
from proxy.planning.key_slots import Examined
from proxy.planning.merge_context import Context, Overlay
from proxy.planning.planner import Planner
from proxy.planning.proof import runs_code
from proxy.planning.query_limit import DEFAULT, FAST_FROM, QueryLimit
from proxy.planning.refusals import Refusal
from proxy.planning.scan_cursor import Cursors
from proxy.planning.scatter import Scatter
from proxy.planning.server_facts import ServerFacts
from proxy.pubsub.hub import Hub
from proxy.session.script_cache import Scripts
from proxy.session.session import DEFAULT_USER, World
from proxy.sharding.colocation import build_colocation, slot_of
from proxy.sharding.topology import Node, Topology
from proxy.transport import descriptors
from proxy.transport.clock import Clock
from proxy.transport.flow_control import ClientLimits, Stop
from proxy.transport.job_runner import Slices
from proxy.transport.tls import connecting
from proxy.transport.transports import LoopTransports, Transports
from proxy.transport.write_batch import Turn
from proxy.worker.identity import Identity
from proxy.worker.loop_lag import LoopLag
from proxy.worker.made_from_config import (
    accounts_of,
    client_limits_of,
    credentials_of,
    overlay,
    presented_by,
    request_limits_of,
    role_checks_of,
    timing_of,
)
from proxy.worker.script_lookup import LostScripts

_CHUNK = 256 * 1024
"""The most bytes that uvloop reads at once."""


class Service:
    """One worker's shared parts, made from a configuration and a topology inside a running loop."""

    def __init__(
        self,
        config: Config,
        topology: Topology,
        clock: Callable[[], float] = time.monotonic,
        shared_counts: SharedCounts | None = None,
        transports: Transports | None = None,
        files: int = descriptors.PLENTY,
        identity: Identity | None = None,
    ) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.transports = LoopTransports(self.loop) if transports is None else transports
        self.identity = identity or Identity()
        self.facts = ServerFacts(lambda: self.topology)
        """What the servers have said of themselves."""
        self.counters = Counters(config.measure)
        self.turn = Turn(self.loop, Clock(self.loop, clock))
        self.slices = Slices(self.loop, clock)
        self.examined = Examined()
        self.credentials = credentials_of(config)
        self.absent: frozenset[str] = frozenset()
        """Names of commands that the table knows and no backend has: to clients they are unknown."""
        self.rules = build_colocation(config.colocate)
        self.slot_of = slot_of(self.rules)
        """The slot of a key, or of a shard channel."""
        self.inspector = Inspector(CommandTable.builtin(), self.slot_of, self.counters)
        self._lookups = self._make_lookups(topology)
        self.lookups = Lookups(self._lookups[0])
        self.query = QueryLimit()
        """How much the servers keep of what one connection sends."""
        self.own_answers = OwnAnswers(self.counters, self._most_queued())
        self.own_answers.learn(self.inspector.table, self.absent)
        self.presents_cluster = config.present_as == "cluster"
        self.planner = self._planner(topology, None)
        self.shared_counts = shared_counts or SharedCounts()
        self.clients = Clients(self.loop, self.slices, self.counters, config.limits.max_clients, self.shared_counts)
        self.loop_lag = LoopLag(self.clients.latest, clock)
        self._files = files
        """How many descriptors this process may have."""
        self._division: descriptors.Division | None = None
        self.monitoring = MonitoringClients(self.clients.tell_plain)
        self.siblings: Siblings | None = None
        self.scripts = Scripts(config.limits.max_scripts, config.limits.script_memory)
        self._lost_scripts = LostScripts(self.scripts, self.turn.now, lambda: self.siblings)
        self.world = World(accounts_of(config), self.clients, scripts=self.scripts, slot_of=self.slot_of)
        if self.presents_cluster:
            self.world.presented = presented_by(config, lambda: self.topology)
        if topology.cluster:
            # Until its nodes have said what they have.
            self.world.databases, self.world.selects = 1, False
        default = self.world.accounts.get(DEFAULT_USER)
        self.open = default is not None and default.nopass
        """Whether clients need not authenticate."""
        self.dispatcher = Dispatcher(
            self.counters,
            Context(self._overlay, lambda: self.hub, self.facts, lambda: self.world.server_version, self._unserved),
            self.inspector.count_error,
            lambda entry, place: self.upstream.events.wait(entry, place),
            self.slices,
            config.limits.max_reply,
        )
        limits = config.limits
        self.limits: ClientLimits = client_limits_of(config)
        self.backlog: Backlog = Backlog(self.loop, limits.output_memory, self.counters)
        self.request_limits = request_limits_of(config)
        self.fast_path_allowed = (
            min(limits.max_bulk, limits.max_request_size) >= _CHUNK and limits.max_arguments >= MOST_ARGUMENTS
        )
        """The fast path sees short requests that lie in one chunk, so larger limits need not be looked at there."""
        backend = config.backend
        timing = timing_of(config)
        self.missing: Missing = {}
        """The function libraries that shards lack."""
        self.restarted: set[Backend] = set()
        """Connections that were lost since their server's facts were asked for."""
        self.changed = asyncio.Event()
        """A backend connection changed its state."""
        self.learned = asyncio.Event()
        """Every primary has been asked for its facts."""
        self.roles = RoleWatch(self, config.topology.kind != "static" or config.topology.check_roles)
        self.source: Source = source_of(
            config, self.credentials, self.counters, lambda name, seconds: self.upstream.hold_shard(name, seconds)
        )
        kind = config.topology.kind
        self.stranger = self.source.stranger if kind == "cluster" else None
        """See ``proxy.backends.handshake.Stranger``, by the node; None where servers have no ids."""
        self.reads_replicas = reads_replicas(config)
        self.read_your_writes = config.read_your_writes if self.reads_replicas else 0.0
        """For how many seconds a client's reads of a shard go to the primary after a write there."""
        self.monitor = Monitor(
            lambda: self.topology,
            self.credentials,
            backend.connect_timeout,
            config.max_replica_lag,
            clock,
            lambda silent: self.upstream.give_up_reads(silent),
            self.source.hint,
            self.stranger,
        )
        settings = partial(
            BackendSettings,
            self.turn,
            self.counters,
            self.slices,
            timing,
            self.credentials,
            Gates(self.turn.now, (timing.backoff_min, timing.backoff_max)),
            connecting(self.transports.connect, self.credentials.tls),
            role_checks_of(config),
            self.query,
            limits.max_reply,
            backend.long_reply_connections,
        )
        self.upstream: Upstream = Upstream(
            config, topology, settings, self.inspector, self.scripts, self.dispatcher, self.monitor, self
        )
        self._divide()
        self.hub: Hub = Hub(self.upstream.settings, topology, self.shared_counts)
        self.pausing = Pausing(self)
        self.clients.on_pause = self.pausing.begin
        self.trackers = Trackers(self, backend.dedicated_connections, share(config), self.upstream.budget)
        self._slow_scripts = SlowScripts(self)
        self.scripts.on_call = self._slow_scripts.called

    # ---- what the servers' upstream is told (UpstreamOwner)

    def hint(self, node: Node | None) -> None:
        """Something has changed, as ``node`` says: the topology should be looked at."""
        self.source.hint(node)

    def demoted(self, place: Place) -> None:
        """The server of ``place`` is used as a primary, and says that it is a replica."""
        self.roles.demoted(place)

    def unknown_node(self, node: Node, identity: str) -> str:
        """Why the server of a cluster at ``node`` with this id is not to be used; "" if it is."""
        return self.source.stranger(node, identity)

    def member(self, node: Node) -> Node | None:
        """Where the server is reached that a redirection calls ``node``; None if nobody who is believed knows it."""
        return self.source.member(node)

    def client(self, number: int) -> Owner[Backend] | None:
        """The client of this number, if it has connections of its own."""
        return self.trackers.get(number)

    def halt(self, owners: Set[object]) -> None:
        """Take no more requests from these clients until all they sent are answered."""
        if owners:
            for client in self.clients:
                if client.window in owners:
                    client.flow.stop(Stop.ORDER)

    def on_state(self, backend: Backend) -> None:
        """``backend`` has become usable, or is so no more."""
        if backend.ready:
            self.roles.stood(backend)
            if tracker := self.trackers.get(backend.place.owner):
                tracker.stood(backend)
        else:
            self.restarted.discard(backend)
            if not backend.retired and backend.state is not State.CLOSED:
                self.restarted.add(backend)
        self.changed.set()

    def by_key(self, entry: Entry) -> Scatter | None:
        """What becomes of a request when it is split by its keys; None if it can not be."""
        fact, args = self.inspector.resolve(entry.frame)
        return None if fact is None else self.planner.by_key(fact, args, entry.frame)

    def missing_script(self, error: bytes, frame: bytes) -> Refusal | None:
        """What the error refuses that a server sent for want of a script; None if nobody else has it."""
        return self._lost_scripts.refusal(error, frame)

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept here, or may be by another worker."""
        return self.siblings is not None or any(self.scripts.body(digest) is not None for digest in digests)

    def watch_commands(self, names: frozenset[str]) -> None:
        """Look at each request of these commands whole: some have had very long replies."""
        for lookup in self._lookups:
            lookup.watch(names)

    def on_unsettled(self, on: bool) -> None:
        """Requests are refused now, or are so no more."""
        self.lookups.current = self._lookups[on]

    # ---- what the primaries' watch is told (role_watch.Watched)

    @property
    def pool(self) -> Pool:
        """The shared connections."""
        return self.upstream.pool

    def leave_primary(self, node: Node) -> None:
        """``node`` is no primary: have the topology looked at, and go over fresh connections."""
        self.source.hint(None)
        self.trackers.leave(node)
        self.upstream.leave_primary(node)

    def renew_subscriptions(self, node: Node) -> None:
        """Subscribe at ``node`` over a fresh connection."""
        self.hub.renew(node)

    # ---- the topology

    @property
    def topology(self) -> Topology:
        """The snapshot in use."""
        return self.upstream.topology

    def adopt(self, topology: Topology) -> None:
        """Use another snapshot from now on. What follows of a client that has something in flight on slots that moved
        waits for that."""
        before = self.topology
        self.planner = self._planner(topology, self.planner.cursors)
        self.upstream.adopt(topology)
        self._divide()
        if (before.cluster, len(before.shards)) != (topology.cluster, len(topology.shards)):
            self._renew_lookups()
        self.hub.adopt(topology)
        self.roles.known({node for shard in topology.shards for node in shard.nodes})
        if topology.left_by(before):
            self.trackers.moved()
        if before.slot_shard != topology.slot_shard:
            for client in self.clients:
                client.forget_shards()
        self.changed.set()

    def _divide(self) -> None:
        """Divide the descriptors anew: there may be more servers or fewer."""
        workers = self.shared_counts.workers
        division = descriptors.divide(self._files, self.config, self.topology, workers)
        self.clients.maximum = division.all_clients
        self.clients.own_maximum = division.clients
        self.upstream.budget.most = division.dedicated
        if division != self._division and self.topology.shards and self.shared_counts.index == 0:
            descriptors.report(division, self.config, workers)
        self._division = division

    async def close(self) -> None:
        """Close every connection to a server; what is in flight is answered with an error."""
        self.upstream.redirections.close()
        self._slow_scripts.close()
        await self.hub.close()
        await self.upstream.close()
        self.turn.clock.close()

    def learn(self, table: CommandTable) -> None:
        """Use a table that was completed by what the backends know."""
        self.inspector.table = table
        self._renew_lookups()
        self.own_answers.learn(table, self.absent)

    def lack(self, absent: frozenset[str]) -> None:
        """The table knows these commands, and no backend has them."""
        self.absent = absent
        self.own_answers.learn(self.inspector.table, self.absent)

    def _planner(self, topology: Topology, before: Cursors | None) -> Planner:
        rules = self.rules
        return Planner(topology, self.config.cross_slot, rules, self.presents_cluster, before, self.examined)

    def _make_lookups(self, topology: Topology) -> tuple[CommandLookup, CommandLookup]:
        """The fast path, and the one for while requests are refused: a module's own words prove no refusal."""
        common = self.counters, topology, self.config.cross_slot, self.rules
        lookup = CommandLookup(self.inspector.table, *common)
        others = CommandLookup(filter(runs_code, self.inspector.table), *common)
        if not others.heads and not others.splits:
            return lookup, lookup
        return lookup, CommandLookup((fact for fact in self.inspector.table if not runs_code(fact)), *common)

    def _renew_lookups(self) -> None:
        self._lookups = self._make_lookups(self.topology)
        self.watch_commands(self.upstream.longs.names)
        self.on_unsettled(self.upstream.redirections.unsettled)

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
        self.own_answers.most = self._most_queued()
        self.scripts.limit(self.query.limit)
        self.fast_path_allowed = self.fast_path_allowed and bulk >= _CHUNK and self.query.large >= FAST_FROM
        if not self.fast_path_allowed:
            self.clients.tell_plain()

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

    def _overlay(self) -> Overlay:
        """What INFO says about the proxy."""
        shared_counts, maximum = self.shared_counts, self.clients.maximum
        standing = sum(backend.ready for backend in self.pool)
        return overlay(self.config, self.identity, shared_counts, maximum, self.topology, standing, self.counters)

    def _unserved(self) -> str:
        """Why not all shards can be asked."""
        topology = self.topology
        return "" if topology.whole else errors.incomplete(topology.shards, topology.cluster)
