"""What a worker finds out about its servers while it runs: the topology, who is a primary, and what they say of
themselves."""

import asyncio
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from proxy.backends.handshake import Credentials
from proxy.backends.settings import ConnectionState, Place
from proxy.backends.shared import Backend
from proxy.config import Config
from proxy.discovery.cluster import ClusterSource
from proxy.discovery.functions import Missing
from proxy.discovery.monitor import Monitor
from proxy.discovery.role_watch import RoleWatch, Watched
from proxy.discovery.roles import RolesSource
from proxy.discovery.sentinel import Hold, SentinelSource
from proxy.discovery.source import Fixed, Source
from proxy.metrics import Counters
from proxy.planning.server_facts import ServerFacts
from proxy.sharding.topology import Node, Topology


class Discovering(Watched, Protocol):
    """A worker that acts on what is found out."""

    @property
    def topology(self) -> Topology:
        """The snapshot in use."""

    def hold_shard(self, name: str, seconds: float | None) -> None:
        """Send nothing to the primary of the shard called so for ``seconds``: a failover is about to begin."""

    def give_up_reads(self, silent: Collection[Node]) -> None:
        """Other servers are fit for reads, or nearer; what waits for replicas that are ``silent`` waits elsewhere."""


class Discovery:
    """Finds the topology, watches the servers, and keeps what they have said of themselves.

    ``source`` finds the topology, ``roles`` watches whether the primaries are still primaries, and ``monitor`` watches
    how far the replicas are behind.
    """

    def __init__(
        self,
        config: Config,
        credentials: Credentials,
        counters: Counters,
        clock: Callable[[], float],
        worker: Discovering,
    ) -> None:
        self._worker = worker
        kind = config.topology.kind
        self.credentials = credentials
        """How to log in to the servers."""
        self.source: Source = source_of(config, credentials, counters, worker.hold_shard)
        self.stranger = self.source.stranger if kind == "cluster" else None
        """See ``proxy.backends.handshake.Stranger``, by the node; None where servers have no ids."""
        self.roles = RoleWatch(worker, kind != "static" or config.topology.check_roles)
        self.monitor = Monitor(
            lambda: worker.topology,
            credentials,
            config.backend.connect_timeout,
            config.max_replica_lag,
            clock,
            worker.give_up_reads,
            self.source.hint,
            self.stranger,
        )
        self.facts = ServerFacts(lambda: worker.topology)
        """What the primaries have said of themselves."""
        self.missing: Missing = {}
        """The function libraries that shards lack."""
        self.restarted: set[Backend] = set()
        """Connections that were lost since their server's facts were asked for."""
        self.changed = asyncio.Event()
        """The topology is another, or a backend connection changed its state."""
        self.learned = asyncio.Event()
        """Every primary has been asked for its facts."""

    @property
    def topology(self) -> Topology:
        """The snapshot in use."""
        return self._worker.topology

    def lags(self) -> Iterator[tuple[str, Node, float]]:
        """Each replica that has answered: its shard, itself, and how far it is behind."""
        return self.monitor.lags()

    # ---- what is told of the servers

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

    def on_state(self, backend: Backend) -> None:
        """``backend`` has become usable, or is so no more."""
        if backend.ready:
            self.roles.stood(backend)
        else:
            self.restarted.discard(backend)
            if not backend.retired and backend.state is not ConnectionState.CLOSED:
                self.restarted.add(backend)
        self.changed.set()

    def adopt(self, topology: Topology) -> None:
        """Another snapshot is in use from now on."""
        self.roles.known({node for shard in topology.shards for node in shard.nodes})
        self.changed.set()


def source_of(config: Config, credentials: Credentials, counters: Counters, hold: Hold) -> Source:
    """The source for ``config``; ``credentials`` are for the servers, ``hold`` can keep a shard's requests back."""
    if config.topology.kind == "cluster":
        return ClusterSource(config, credentials, counters)
    if config.topology.kind == "sentinel":
        return SentinelSource(config, counters, hold, credentials)
    if config.topology.discover_replicas:
        return RolesSource(config, credentials, counters)
    return Fixed()
