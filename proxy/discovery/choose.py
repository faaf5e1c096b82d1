"""The source of the topology that a configuration asks for."""

from proxy.backends.handshake import Credentials
from proxy.config import Config
from proxy.discovery.cluster import ClusterSource
from proxy.discovery.roles import RolesSource
from proxy.discovery.sentinel import Hold, SentinelSource
from proxy.discovery.source import Fixed, Source
from proxy.metrics import Counters


def source_of(config: Config, credentials: Credentials, counters: Counters, hold: Hold) -> Source:
    """The source for ``config``; ``credentials`` are for the servers, ``hold`` can hold a shard's requests."""
    if config.topology.kind == "cluster":
        return ClusterSource(config, credentials, counters)
    if config.topology.kind == "sentinel":
        return SentinelSource(config, counters, hold, credentials)
    if config.topology.discover_replicas:
        return RolesSource(config, credentials, counters)
    return Fixed()
