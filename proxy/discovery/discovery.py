"""What a worker learns about its servers while it runs: the topology, which servers are primaries, and the facts that
servers report about themselves."""

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
    """A worker that acts on the findings of discovery."""

    @property
    def topology(self) -> Topology:
        """The topology snapshot in use."""

    def hold_shard(self, name: str, seconds: float | None) -> None:
        """Send nothing to the primary of the shard ``name`` for ``seconds``, because a failover is about to begin."""

    def give_up_reads(self, silent: Collection[Node]) -> None:
        """Choose the servers for reads again. Requests waiting for ``silent`` replicas are sent elsewhere."""


class Discovery:
    """Finds the topology, watches the servers, and keeps the facts that the servers have reported.

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
        """The user and password for the servers."""
        self.source: Source = source_of(config, credentials, counters, worker.hold_shard)
        self.stranger = self.source.stranger if kind == "cluster" else None
        """The check of a node's id (``proxy.backends.handshake.Stranger``); None where servers have no ids."""
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
        """The facts that the primaries have reported."""
        self.missing: Missing = {}
        """The function libraries that shards lack."""
        self.restarted: set[Backend] = set()
        """The connections that were lost since their server was asked for its facts."""
        self.changed = asyncio.Event()
        """Set when the topology has changed, or a backend connection has changed its state."""
        self.learned = asyncio.Event()
        """Set when every primary has been asked for its facts."""

    @property
    def topology(self) -> Topology:
        """The topology snapshot in use."""
        return self._worker.topology

    def lags(self) -> Iterator[tuple[str, Node, float]]:
        """Yield each replica that has answered: its shard, the replica, and how far the replica is behind."""
        return self.monitor.lags()

    # ---- reports about the servers

    def hint(self, node: Node | None) -> None:
        """Look at the topology, because ``node`` reports a change; None if no server is named."""
        self.source.hint(node)

    def demoted(self, place: Place) -> None:
        """Take note that the server of ``place`` is used as a primary, and says that it is a replica."""
        self.roles.demoted(place)

    def unknown_node(self, node: Node, identity: str) -> str:
        """Return why the server of a cluster at ``node`` with the id ``identity`` may not be used; "" if it may."""
        return self.source.stranger(node, identity)

    def member(self, node: Node) -> Node | None:
        """Return the known node that a redirection calls ``node``; None if no trusted server knows it."""
        return self.source.member(node)

    def on_state(self, backend: Backend) -> None:
        """Take note that ``backend`` has become usable or unusable."""
        if backend.ready:
            self.roles.stood(backend)
        else:
            self.restarted.discard(backend)
            if not backend.retired and backend.state is not ConnectionState.CLOSED:
                self.restarted.add(backend)
        self.changed.set()

    def adopt(self, topology: Topology) -> None:
        """Use the snapshot ``topology`` from now on."""
        self.roles.known({node for shard in topology.shards for node in shard.nodes})
        self.changed.set()


def source_of(config: Config, credentials: Credentials, counters: Counters, hold: Hold) -> Source:
    """Return the source for ``config``. ``credentials`` are for the servers; ``hold`` delays a shard's requests."""
    if config.topology.kind == "cluster":
        return ClusterSource(config, credentials, counters)
    if config.topology.kind == "sentinel":
        return SentinelSource(config, counters, hold, credentials)
    if config.topology.discover_replicas:
        return RolesSource(config, credentials, counters)
    return Fixed()
