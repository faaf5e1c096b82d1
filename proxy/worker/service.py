"""The composition root: makes the parts that all clients of a worker share, and applies a new topology to them."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from proxy import server_errors
from proxy.backends.connect_gate import Gates
from proxy.backends.dispatch import Dispatcher
from proxy.backends.settings import BackendSettings
from proxy.backends.upstream import Upstream, share
from proxy.client.admission import Admission, source_of
from proxy.client.fast_paths import FastPaths
from proxy.client.registry import Clients
from proxy.client.shared_counts import SharedCounts
from proxy.client.timeouts import ClientTimeouts
from proxy.client.user_limits import UserLimits
from proxy.commands.table import CommandTable
from proxy.config import Config
from proxy.discovery.discovery import Discovery
from proxy.engine.jobs import MORE, Job
from proxy.features.host import Siblings
from proxy.features.pause import Pausing
from proxy.features.slow_scripts import SlowScripts
from proxy.features.tracking import TrackingClients
from proxy.metrics import Counters
from proxy.planning.inspector import Inspector
from proxy.planning.merge_context import Context, Overlay
from proxy.planning.planner import Planner
from proxy.planning.query_limit import DEFAULT, QueryLimit
from proxy.planning.undeclared_keys import UndeclaredKeys
from proxy.pubsub.hub import Hub
from proxy.session.acl_commands import replace_users
from proxy.session.acl_log import Denials
from proxy.session.acl_rules import AclUser
from proxy.session.client_line import line
from proxy.session.login_delays import LoginDelays
from proxy.session.script_cache import Scripts
from proxy.session.session import World
from proxy.sharding.colocation import build_colocation, slot_of
from proxy.sharding.topology import Topology
from proxy.transport import descriptors
from proxy.transport.clock import Clock
from proxy.transport.flow_control import ClientLimits
from proxy.transport.job_runner import Slices
from proxy.transport.tls import connecting
from proxy.transport.tls_listener import TlsListeners
from proxy.transport.transports import LoopTransports, Transports
from proxy.transport.write_batch import Turn
from proxy.worker.audit_log import audit_of
from proxy.worker.configured_users import logging_logins, users_file_of, users_of
from proxy.worker.identity import Identity
from proxy.worker.loop_lag import LoopLag
from proxy.worker.made_from_config import (
    client_limits_of,
    credentials_of,
    credentials_of_users,
    listeners_of,
    overlay,
    presented_by,
    role_checks_of,
    routes_of_users,
    timing_of,
)
from proxy.worker.server_events import ServerEvents


class Service:
    """The shared parts of one worker, made from a configuration and a topology inside a running loop."""

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
        limits, backend = config.limits, config.backend
        # the worker
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.transports = LoopTransports(self.loop) if transports is None else transports
        self.counters = Counters(config.measure)
        self.turn = Turn(self.loop, Clock(self.loop, clock))
        self.slices = Slices(self.loop, clock, lambda: self.counters.bytes_in)
        self.shared_counts = shared_counts or SharedCounts(listeners=len(config.listening))
        self.siblings: Siblings | None = None
        """The other workers, if there are any."""
        self._descriptors = descriptors.WorkerDescriptors(
            files, config, self.shared_counts.workers, self.shared_counts.index
        )
        # the requests, and their limits
        rules = build_colocation(config.colocate)
        self.inspector = Inspector(CommandTable.builtin(), slot_of(rules), self.counters)
        scripts = Scripts(limits.max_scripts, limits.script_memory)
        undeclared = UndeclaredKeys(config.keyless_shard or "", scripts.touches)
        self.planner = Planner(topology, config.cross_slot, rules, undeclared=undeclared)
        self.query = QueryLimit()
        """The number of bytes of one connection's requests that the servers keep."""
        self.limits: ClientLimits = client_limits_of(config)
        self.fast_paths = FastPaths(config, topology, self.inspector, self.counters, rules, self.query)
        # the clients
        self.listeners = listeners_of(config, presented_by(config, lambda: self.topology))
        self.tls = TlsListeners(self.turn.clock, limits.auth_timeout)
        for position, each in enumerate(config.listening):
            if each.tls is not None:
                self.tls.add(position, str(each.address), each.tls)
        self.clients = Clients(self.loop, self.slices, self.counters, limits, self.shared_counts)
        self.loop_lag = LoopLag(self.clients.latest, clock)
        self.world = World(
            users_of(config),
            self.clients,
            scripts=scripts,
            slot_of=self.inspector.slot_of,
            users_file=users_file_of(config),
            denials=Denials(time.time, lambda session: line(session, self.turn.now())),
            delays=LoginDelays(self.turn.now, limits.auth_delay_max, source_of),
        )
        self.world.routes = routes_of_users(config)
        self.clients.delays = self.world.delays
        self.world.denials.on_login = logging_logins(self.turn.now)
        self.world.denials.audit = audit_of(config, self.world, lambda: self.topology, self.shared_counts.index)
        users = self.world.users
        self.clients.admission = Admission(config.protected_mode, users, limits, self.counters, self.turn.now)
        self.clients.user_limits = UserLimits(limits, config.users, self.clients.get, self.counters, self.turn.now)
        self.world.enter_user = self.clients.user_limits.enter_user
        self.world.full = self.clients.user_limits.full
        timeouts = ClientTimeouts(self, self.turn.clock, limits, users)
        if topology.cluster:
            # These values hold until the cluster's nodes have been asked.
            self.world.databases, self.world.selects = 1, False
        # the servers
        events = ServerEvents(self)
        credentials = credentials_of(config)
        self.discovery = Discovery(config, credentials, self.counters, clock, events)
        self.dispatcher = Dispatcher(
            self.counters,
            Context(
                partial(self._overlay, identity or Identity()),
                lambda: self.hub,
                self.discovery.facts,
                lambda: self.world.server_version,
                self._unserved,
            ),
            self.inspector.count_error,
            lambda entry, place: self.upstream.events.wait(entry, place),
            self.slices,
            limits.max_reply,
        )
        timing = timing_of(config)
        settings = partial(
            BackendSettings,
            self.turn,
            self.counters,
            self.slices,
            timing,
            credentials,
            credentials_of_users(config),
            Gates(self.turn.now, (timing.backoff_min, timing.backoff_max)),
            connecting(self.transports.connect, credentials.tls, credentials.header),
            role_checks_of(config),
            self.query,
            limits.max_reply,
            backend.long_reply_connections,
        )
        self.upstream: Upstream = Upstream(
            config, topology, settings, self.inspector, self.scripts, self.dispatcher, self.discovery.monitor, events
        )
        self._divide()
        # subscriptions, pauses, tracking and slow scripts
        self.hub: Hub = Hub(self.upstream.settings, topology, self.shared_counts)
        self.clients.pausing = Pausing(self)
        self.trackers = TrackingClients(self, backend.dedicated_connections, share(config), self.upstream.budget)
        slow_scripts = SlowScripts(self)
        self.scripts.on_call = slow_scripts.called
        self._timed = timeouts, slow_scripts
        """The parts that have timers of their own."""

    @property
    def scripts(self) -> Scripts:
        """The scripts that clients have sent."""
        return self.world.scripts

    # ---- the topology

    @property
    def topology(self) -> Topology:
        """The topology snapshot in use."""
        return self.upstream.topology

    def adopt(self, topology: Topology) -> None:
        """Use another snapshot from now on. Later requests of a client wait if the client has requests in flight on
        slots that moved."""
        before = self.topology
        self.planner = self.planner.renewed(topology)
        self.upstream.adopt(topology)
        self._divide()
        self.fast_paths.adopt(topology)
        self.hub.adopt(topology)
        if topology.left_by(before):
            self.trackers.moved()
        if before.slot_shard != topology.slot_shard:
            for client in self.clients:
                client.forget_shards()
        self.discovery.adopt(topology)

    def _divide(self) -> None:
        """Divide the file descriptors again, because the number of servers may have changed."""
        division = self._descriptors.divide(self.topology)
        self.clients.maximum = division.all_clients
        self.clients.own_maximum = division.clients
        self.upstream.budget.most = division.dedicated

    async def close(self) -> None:
        """Close every connection to a server. Requests in flight are answered with an error."""
        self.upstream.redirections.close()
        for part in self._timed:
            part.close()
        self.tls.close()
        if self.world.denials.audit is not None:
            await self.world.denials.audit.close()
        await self.hub.close()
        await self.upstream.close()
        self.turn.clock.close()

    def reconfigure(self, config: Config, users: Iterable[AclUser] | None) -> None:
        """Use another configuration from now on, as far as that needs no restart (``proxy.config.reload``), and other
        ``users`` unless they are None."""
        self.config = config
        settings = self.upstream.settings
        settings.credentials.renew(credentials_of(config))
        # Those of users that are gone stay: their connections reconnect until they have not been used for a while.
        settings.others.update(credentials_of_users(config))
        self.clients.admission.renew(config.limits)
        timeouts, _ = self._timed
        timeouts.renew(config.limits)
        self.slices.run(self._reconfiguring(config, None if users is None else list(users)))

    def _reconfiguring(self, config: Config, users: list[AclUser] | None) -> Job[None]:
        before, self.world.routes = self.world.routes, routes_of_users(config)
        after = self.world.routes
        if users is not None:
            yield from replace_users(self.world, users)
        yield from self.clients.user_limits.renew(config.limits, config.users, list(self.clients))
        for client in list(self.clients):
            user = client.known_session().user
            if before.get(user) != after.get(user):
                client.changed(False)
            yield MORE

    # ---- facts that the servers have reported

    def learn(self, table: CommandTable) -> None:
        """Use a command table that was completed by the commands of the backends."""
        self.inspector.table = table
        self.fast_paths.learn()
        if self.world.denials.audit is not None:
            self.world.denials.audit.forget()

    def lack(self, absent: frozenset[str]) -> None:
        """Refuse the commands ``absent``, which are in the table but known to no backend."""
        self.inspector.absent = absent
        self.fast_paths.lack()

    def limit_requests(self, bulk: int | None, query: int | None, arguments: int) -> None:
        """Set the limits of clients that connect from now on, and of what servers are sent.

        ``bulk``: the largest argument in bytes, None as configured. ``arguments``: the most arguments of a request.
        ``query``: the bytes that servers keep of one connection, None if they do not say.
        """
        limits = self.config.limits
        bulk = min(bulk or limits.max_bulk, limits.max_bulk)
        arguments = min(arguments, limits.max_arguments)
        self.limits = replace(self.limits, requests=replace(self.limits.requests, bulk=bulk, arguments=arguments))
        self.query.set(query or DEFAULT)
        self.scripts.limit(self.query.limit)
        if not self.fast_paths.limit(bulk):
            self.clients.tell_plain()

    # ---- replies about the proxy

    def _overlay(self, identity: Identity, cluster: bool) -> Overlay:
        """Return INFO's fields about the proxy."""
        shared_counts, maximum = self.shared_counts, self.clients.maximum
        standing = sum(backend.ready for backend in self.upstream.pool)
        return overlay(
            *(self.config, cluster, identity, shared_counts, maximum, self.topology, standing),
            self.counters,
            self.clients.memory,
        )

    def _unserved(self) -> str:
        """Return why not all shards can be asked; empty if all can be asked."""
        topology = self.topology
        return "" if topology.whole else server_errors.incomplete(topology.shards, topology.cluster)
