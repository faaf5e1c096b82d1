"""The process that serves clients: signals, start and end. The process is alone, or one worker of several."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import uvloop

from proxy.backends.upstream import reads_replicas
from proxy.client.connection import ClientConnection
from proxy.compiled import WARNING, engine
from proxy.config import Config
from proxy.discovery.functions import keep_comparing
from proxy.discovery.learn import (
    cluster_at_static_shards,
    cluster_nodes,
)
from proxy.errors import SlotgateError
from proxy.session.acl_users import Users
from proxy.session.virtual_cluster import Address, Presented
from proxy.sharding.topology import Topology, build_topology
from proxy.transport import descriptors
from proxy.transport.listeners import BACKLOG, listen, refuse_taken
from proxy.transport.proxy_protocol import ProxyProtocol, TrustedProxies
from proxy.transport.transports import best_transports
from proxy.worker import logs, memory
from proxy.worker.admin_port import AdminPort
from proxy.worker.audit_log import audit_rules_of
from proxy.worker.configured_users import users_of
from proxy.worker.draining import End, drain
from proxy.worker.identity import Identity
from proxy.worker.learning import keep_learning
from proxy.worker.made_from_config import credentials_of
from proxy.worker.memory_watch import MemoryWatch
from proxy.worker.metric_snapshot import Overview
from proxy.worker.reloading import Load, Reloading
from proxy.worker.report import take, together
from proxy.worker.service import Service
from proxy.worker.supervisor import log_serving, supervise
from proxy.worker.systemd import inherited, managed

log = logging.getLogger(__name__)

_COLLECT_AFTER = (10_000, 5, 1_000_000)
"""The thresholds of the garbage collector. Each collection of the two young generations takes milliseconds. The oldest
generation is collected by ``memory.tend`` only: with many clients a collection takes tenths of a second."""
_FEWEST_HEADERS = 16
"""The connections that may wait for their header when there are as many clients as may be: those are told so."""
_SWEEPS = 12
"""The number of sweeps during the time after which an unused connection is closed."""
_PING = b"PING\r\n"
_MOST_OF_ANSWER = 64
"""The largest number of bytes to read from an advertised proxy. Only whether it answers matters."""


def run(config: Config, load: Load, config_file: str = "") -> int:
    """Serve until SIGTERM or SIGINT, then drain, and return the exit code. ``config_file``: the origin of ``config``;
    ``load`` reads it again.

    Raises ``SlotgateError`` if an address can not be listened on, far too few files can be opened, or static shards are
    nodes of a Redis Cluster.
    """
    logs.configure(config.log.level, config.log.format)
    identity = Identity(config_file)
    if engine() == "python":
        log.warning(WARNING)
    topology = build_topology(config)
    # These raise an error for invalid users and rules before anything is started.
    users_of(config)
    audit_rules_of(config)
    # Workers inherit the limit.
    descriptors.check(descriptors.raise_limit(), config, topology)
    admin = () if config.admin.address is None else (config.admin.address,)
    given = inherited()
    refuse_taken([*(each.address for each in config.listening), *admin], given)
    if config.topology.kind == "static":
        uvloop.run(_refuse_clusters(config, topology))
    if config.worker_count > 1:
        uvloop.run(supervise(config, load, identity, given))
    else:
        settle()
        uvloop.run(serve(config, load, identity, given))
    return 0


async def _refuse_clusters(config: Config, topology: Topology) -> None:
    """Raise ``SlotgateError`` if primaries of static shards are nodes of a cluster, as far as they can be asked."""
    primaries = [shard.primary for shard in topology.shards]
    found = await cluster_nodes(primaries, credentials_of(config), config.backend.connect_timeout)
    if found:
        raise SlotgateError(cluster_at_static_shards({node.address: slots for node, slots in found.items()}))


def settle() -> None:
    """Exempt the objects that exist at the start from garbage collection, and set the collector's thresholds."""
    memory.keep_pages()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


async def serve(config: Config, load: Load, identity: Identity, given: Sequence[socket.socket]) -> None:
    """Serve ``config`` in the running loop, as the only worker, until a signal asks for the end. ``given``: sockets
    that listen already."""
    loop = asyncio.get_running_loop()
    service = Service(
        config,
        build_topology(config),
        transports=best_transports(loop),
        files=descriptors.raise_limit(),
        identity=identity,
    )

    def configure(changed: Config, users: Users | None) -> None:
        logs.configure(changed.log.level, changed.log.format)
        service.reconfigure(changed, users)

    reloading = Reloading(config, load, configure, identity.config_file)
    service.world.reload = reloading.said

    async def look() -> Overview:
        overview = together([take(service)])
        reloading.count(overview.tally)
        return overview

    admin = AdminPort(config, look)
    end = End()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.signalled)
    loop.add_signal_handler(signal.SIGHUP, _hung_up, service, reloading)
    async with at_work(service):
        addresses = [each.address for each in config.listening]
        listeners = listen(addresses, idle=config.limits.tcp_keepalive_seconds, given=given)
        try:
            headers = await accept(service, listeners.of(0))
            async with admin.listening():
                log_serving(config, listeners)
                async with managed(f"serves {len(service.topology.shards)} shards"):
                    await end.asked.wait()
                admin.drain()
                await end.delay(config.shutdown_delay)
                await drain(service, headers, end)
        finally:
            listeners.close()
    log.info("stopped")


def _hung_up(service: Service, reloading: Reloading) -> None:
    """Act on SIGHUP: the configuration is read again, and the audit log is opened again."""
    audit = service.world.denials.audit
    if audit is not None:
        audit.reopen()
    reloading.hung_up()


@contextlib.asynccontextmanager
async def at_work(service: Service) -> AsyncIterator[None]:
    """Start the tasks of a worker, enter when the backends have been asked, and close all connections at the end."""
    discovery = service.discovery
    tasks = [
        service.loop.create_task(discovery.source.run(service.adopt), name="discover"),
        service.loop.create_task(keep_learning(service), name="learn"),
        service.loop.create_task(memory.tend(service), name="tend memory"),
        service.loop.create_task(Upkeep(service).run(), name="close what is not used"),
    ]
    if service.config.topology.kind == "static" and service.config.topology.check_roles:
        tasks.append(service.loop.create_task(discovery.roles.run(), name="watch roles"))
    shown = next((each.presented for each in service.listeners if each.presented is not None), None)
    if shown is not None and len(shown.advertised) > 1:
        looking = watch_advertised(shown, service.config.topology.refresh, service.config.backend.connect_timeout)
        tasks.append(service.loop.create_task(looking, name="look after what is advertised"))
    if service.shared_counts.index == 0:
        # One worker that compares is enough.
        comparing = keep_comparing(discovery, service.config.topology.refresh)
        tasks.append(service.loop.create_task(comparing, name="compare functions"))
    if reads_replicas(service.config):
        tasks.append(service.loop.create_task(discovery.monitor.run(), name="watch replicas"))
    if service.tls:
        tasks.append(service.loop.create_task(service.tls.watch(), name="watch certificates"))
    memory_watch = MemoryWatch(service, service.turn.clock, service.config.memory_share)
    service.loop_lag.start()
    try:
        # The first answers say which commands exist. A backend that is down must not keep the proxy from starting.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(discovery.learned.wait()), service.config.backend.connect_timeout)
        memory_watch.start()
        yield
    finally:
        service.loop_lag.stop()
        memory_watch.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in service.clients:
            client.close()
        await service.close()


async def accept(service: Service, sockets: Sequence[tuple[int, socket.socket]]) -> ProxyProtocol:
    """Accept clients from listening sockets, each given with the position of its listener. Returns the connections that
    wait for the header of a balancer."""
    config, clients = service.config, service.clients
    headers = ProxyProtocol(
        TrustedProxies(config.trusted_proxies),
        service.counters,
        service.turn.clock,
        config.limits.auth_timeout,
        lambda: max(clients.own_maximum - len(clients), _FEWEST_HEADERS),
    )
    for position, each in sockets:
        client: Callable[[], object] = partial(ClientConnection, service, service.listeners[position])
        turn_away = clients.turn_away
        if (tls := service.tls.at(position)) is not None:
            client, turn_away = tls.over(client), tls.without_words(turn_away)
        section = config.listening[position]
        if section.proxy_protocol:
            client = headers.ahead_of(client, section.proxy_auth == "certificate")
        await service.transports.listen(each, client, BACKLOG, turn_away)
    return headers


class Upkeep:
    """Closes connections of ``service`` that are not used any more: those of databases that clients have left, and
    those to servers that only a redirection named.

    The routes in use are computed from the clients, so that a request has no cost for counting. An idle client keeps
    its routes.
    """

    unused = 60.0
    """The seconds that a connection is kept for clients that may use it again."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def run(self) -> None:
        """Sweep at regular intervals. Never returns."""
        while True:
            await asyncio.sleep(self.unused / _SWEEPS)
            self.sweep()

    def sweep(self) -> None:
        """Forget the routes that no client has, and close the connections that are not needed or used any more."""
        service = self._service
        service.upstream.forget_long_replies()
        used = {routes for client in service.clients for routes in client.used_routes}
        for plain in service.upstream.plain_routes.values():
            used.update(plain)
        for place in service.upstream.pool.close_unused(service.upstream.keep_routes(used), self.unused):
            if tracker := service.trackers.get(place.owner):
                tracker.leave(place.node)


async def watch_advertised(shown: Presented, refresh: float, connect_timeout: float) -> None:
    """Ask each of the advertised proxies twice in ``refresh`` seconds, so that a change is known within that time.

    A proxy that does not answer is shown to cluster clients as the owner of no slots. Never returns.
    """
    patience = min(connect_timeout, refresh / 2)
    while True:
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(_found_at(address, patience) for address in shown.advertised))
        for address, found in zip(shown.advertised, answers, strict=True):
            _note_answer(shown, address, found)
        await asyncio.sleep(max(began + refresh / 2 - asyncio.get_running_loop().time(), 0.01))


def _note_answer(shown: Presented, address: Address, found: Address | None) -> None:
    if found is None:
        if address not in shown.silent:
            log.warning("advertised proxy does not answer address=%s:%d", *address)
            shown.silent.add(address)
        return
    if address in shown.silent:
        log.info("advertised proxy answers again address=%s:%d", *address)
    shown.silent.discard(address)
    shown.found[address] = found


async def _found_at(address: Address, patience: float) -> Address | None:
    """Return the resolved address of the server at ``address`` if it answers within ``patience`` seconds; else None.

    A listener that expects TLS or a PROXY header closes the connection, or sends an alert: both count as an answer. A
    hanging process sends nothing, though its system accepts the connection.
    """
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(*address)
            try:
                host, port = writer.get_extra_info("peername")[:2]
                writer.write(_PING)
                with contextlib.suppress(ConnectionError):
                    await reader.read(_MOST_OF_ANSWER)
                return str(host), int(port)
            finally:
                writer.transport.abort()
    return None
