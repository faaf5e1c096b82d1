"""The parts of a worker that follow from the configuration alone, and INFO's fields about the proxy."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from proxy import __version__
from proxy.backends.handshake import Credentials
from proxy.backends.settings import RoleChecks, Timing
from proxy.client.memory_budget import MemoryBudget
from proxy.client.shared_counts import SharedCounts
from proxy.config import Config
from proxy.discovery.learn import FEWER_ARGUMENTS
from proxy.metrics import Counters
from proxy.resp.limits import RequestLimits
from proxy.session.listener import Listener, UserRoute
from proxy.session.virtual_cluster import Presented
from proxy.sharding.topology import Topology
from proxy.transport.flow_control import ClientLimits
from proxy.transport.proxy_header import own_header
from proxy.transport.tls import backend_tls
from proxy.worker.identity import Identity


def credentials_of(config: Config) -> Credentials:
    """Return the user and password for the servers."""
    password = config.backend.password
    return Credentials(
        config.backend.username or "",
        password.get_secret_value() if password else "",
        backend_tls(config),
        own_header(config.backend.proxy_protocol),
    )


def credentials_of_users(config: Config) -> dict[str, Credentials]:
    """Return the credentials of the servers' users that users of the proxy have, by name."""
    own = credentials_of(config)
    return {
        user.backend_user: replace(own, username=user.backend_user, password=user.backend_password.get_secret_value())
        for user in config.users
        if user.backend_user and user.backend_password
    }


def routes_of_users(config: Config) -> dict[str, UserRoute]:
    """Return how the commands of those users reach the servers who have settings of their own."""
    found = {user.name: UserRoute(user.read_from or "", user.backend_user or "") for user in config.users}
    return {name: route for name, route in found.items() if route != UserRoute()}


def presented_by(config: Config, topology: Callable[[], Topology]) -> Presented:
    """Return the cluster that the proxy presents."""
    told = [(address.host, address.port) for address in config.advertise]
    listening = [(each.address.host, each.address.port) for each in config.listening if not each.address.unix]
    return Presented(told, listening, topology)


def listeners_of(config: Config, presented: Presented) -> list[Listener]:
    """Return the listeners; those that present a cluster present ``presented``."""
    return [
        Listener(
            index,
            str(each.address),
            each.read_from or config.read_from,
            presented if (each.present_as or config.present_as) == "cluster" else None,
            each.users,
            each.max_clients,
            each.wants_certificates,
        )
        for index, each in enumerate(config.listening)
    ]


def client_limits_of(config: Config) -> ClientLimits:
    """Return the limits of each client."""
    limits = config.limits
    return ClientLimits(
        limits.max_in_flight,
        limits.output_soft,
        limits.output_hard,
        limits.write_timeout,
        limits.pubsub_output_soft,
        limits.pubsub_output_patience,
        limits.pubsub_output_hard,
        request_limits_of(config),
    )


def request_limits_of(config: Config) -> RequestLimits:
    """Return the limits of a request, before the limits of the servers are known."""
    limits = config.limits
    return RequestLimits(
        min(limits.max_arguments, FEWER_ARGUMENTS), limits.max_bulk, limits.max_inline, limits.max_request_size
    )


def timing_of(config: Config) -> Timing:
    """Return the times that servers may take."""
    backend = config.backend
    return Timing(
        backend.connect_timeout,
        backend.request_timeout,
        backend.retry_deadline,
        backend.backoff_min,
        backend.backoff_max,
    )


def role_checks_of(config: Config) -> RoleChecks:
    """Return the checks of the roles that servers report."""
    kind = config.topology.kind
    return RoleChecks(
        kind == "sentinel" or config.topology.discover_replicas,
        kind == "static" and config.topology.check_roles,
        kind == "cluster",
    )


def overlay(
    config: Config,
    cluster: bool,
    identity: Identity,
    shared_counts: SharedCounts,
    maximum: int,
    topology: Topology,
    connections: int,
    counters: Counters,
    memory: MemoryBudget,
) -> Mapping[str, Mapping[str, str]]:
    """Return INFO's fields about the proxy by section: its clients, of which there may be ``maximum``, and a section of
    its own with the number of ready ``connections`` to servers. ``cluster``: the proxy presents itself as a cluster."""
    seconds = int(time.time() - identity.started)
    ports = (each.address.port for each in config.listening if not each.address.unix)
    return {
        "Server": {
            # Valkey names the field server_mode, but client libraries read this one.
            "redis_mode": "cluster" if cluster else "standalone",
            "process_id": str(identity.pid),
            "run_id": identity.run_id,
            "tcp_port": str(next(ports, 0)),
            "uptime_in_seconds": str(seconds),
            "uptime_in_days": str(seconds // 86400),
            "executable": "slotgate",
            "config_file": identity.config_file,
        },
        "Clients": {
            "connected_clients": str(shared_counts.total()),
            "blocked_clients": str(shared_counts.total_blocked()),
            "maxclients": str(maximum),
        },
        "Cluster": {"cluster_enabled": str(int(cluster))},
        "Slotgate": {
            "slotgate_version": __version__,
            "slotgate_workers": str(shared_counts.workers),
            "slotgate_worker": str(shared_counts.index),
            "slotgate_shards": str(len(topology.shards)),
            "slotgate_backend_connections": str(connections),
            "slotgate_clients_accepted": str(counters.accepted),
            "slotgate_splits": str(counters.splits),
            "slotgate_client_memory": str(memory.total),
            "slotgate_client_memory_limit": str(memory.limit),
        },
    }
