"""A source of the topology that believes whatever node it asks: late, and now and then what was so before."""

import asyncio
from random import Random

from proxy.discovery.source import Adopt, Unlisted
from proxy.sharding.topology import Node, Shard, Topology
from tests.support.simulated_cluster import SimulatedCluster
from tests.support.simulated_node import ClusterNode

_SHORTEST = 0.05


class StaleSource(Unlisted):
    """Looks at any node's view every ``period`` seconds, and up to ``delay`` seconds after a hint."""

    def __init__(self, cluster: SimulatedCluster, rng: Random, period: float, delay: float) -> None:
        self._cluster = cluster
        self._rng = rng
        self._period = period
        self._delay = delay
        self._hinted = asyncio.Event()
        self.adopted = 0

    async def run(self, adopt: Adopt) -> None:
        """Never returns."""
        known: tuple[object, object] | None = None
        while True:
            well = [node for node in self._cluster.nodes if node.well]
            if well:
                node = self._rng.choice(well)
                if (node.view.owners, node.view.primaries) != known:
                    known = ([*node.view.owners], {**node.view.primaries})
                    self.adopted += 1
                    adopt(seen_by(node, self.adopted))
            try:
                await asyncio.wait_for(self._hinted.wait(), self._period * self._rng.random())
            except TimeoutError:
                continue
            await asyncio.sleep(_SHORTEST + self._delay * self._rng.random())
            self._hinted.clear()

    def hint(self, node: Node | None = None) -> None:
        """Look soon."""
        self._hinted.set()


def seen_by(node: ClusterNode, epoch: int) -> Topology:
    """The topology as ``node`` believes it to be; shards without slots are left out."""
    view = node.view
    shards, slots = [], []
    for group in node.groups():
        ranges = view.ranges(group)
        if ranges:
            primary = view.primaries[group]
            replicas = tuple(Node(*other.address) for other in group.nodes if other is not primary)
            shards.append(Shard(f"shard-{group.number}", Node(*primary.address), replicas))
            slots.append(ranges)
    return Topology.found(shards, slots, cluster=True, epoch=epoch)
