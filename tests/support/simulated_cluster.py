"""A simulated Redis Cluster: slots move key by key, primaries fail over, and nodes learn of changes after a while.

Replication is synchronous, so no acknowledged write is ever lost: if one is missing in the end, the proxy lost it.
"""

import asyncio
from collections.abc import Callable
from random import Random

from proxy.sharding.slots import SLOTS, key_slot
from proxy.sharding.topology import even_ranges
from tests.support.memory_wire import Pace
from tests.support.simulated_node import ClusterNode, Group, View

Change = Callable[[View], None]

_REST = 1.0
"""Seconds before a slot may return to a shard."""


class SimulatedCluster:
    """``shards`` shards of one primary and ``replicas`` replicas. ``lag``: the seconds that news take at most."""

    def __init__(self, rng: Random, shards: int, replicas: int, lag: float, paces: Callable[[], Pace]) -> None:
        self.groups: list[Group] = []
        self.nodes: list[ClusterNode] = []
        self.moves = 0
        """The number of slots that have moved."""
        self.failovers = 0
        self._rng = rng
        self._lag = lag
        self._epoch = 0
        self._loop = asyncio.get_running_loop()
        self._moving: set[int] = set()
        self._came: dict[tuple[int, Group], float] = {}
        """The time at which a shard last got a slot."""
        self._missed: dict[ClusterNode, list[Change]] = {}
        for number in range(shards):
            group = Group(number)
            pace = paces()
            for index in range(1 + replicas):
                node = ClusterNode(f"10.3.{number}.{index}", 6379, rng, pace, group)
                group.nodes.append(node)
                if index:
                    node.replicate(group.nodes[0])
            group.primary = group.nodes[0]
            self.groups.append(group)
            self.nodes += group.nodes
        owners: list[Group | None] = [None] * SLOTS
        for group, ranges in zip(self.groups, even_ranges(shards), strict=True):
            for first, last in ranges:
                owners[first : last + 1] = [group] * (last + 1 - first)
        self.truth = View(owners, {group: group.primary for group in self.groups})
        for node in self.nodes:
            node.view = View(owners, self.truth.primaries)

    def add(self, pace: Pace) -> Group:
        """Add a shard without slots, which all nodes know at once."""
        group = Group(len(self.groups))
        node = ClusterNode(f"10.3.{group.number}.0", 6379, self._rng, pace, group)
        group.nodes.append(node)
        group.primary = node
        self.groups.append(group)
        self.nodes.append(node)
        node.view = View(self.truth.owners, self.truth.primaries)
        for view in (self.truth, *(node.view for node in self.nodes)):
            view.primaries[group] = node
            view.primary_epochs[group] = view.epochs[group] = 0
        return group

    # ---- nodes learn of changes

    def _spread(self, change: Change, *, but: ClusterNode | None = None) -> None:
        """Have all nodes learn of ``change`` after a while, except ``but``, which knows of it."""
        for node in self.nodes:
            if node is not but:
                self._loop.call_later(self._lag * self._rng.random() ** 2, self._hear, node, change)

    def _hear(self, node: ClusterNode, change: Change) -> None:
        if not node.well:
            # The node learns of the change when it is reachable again.
            self._missed.setdefault(node, []).append(change)
            return
        change(node.view)
        if node.group.primary is not node:
            node.demote()

    def catch_up(self, node: ClusterNode) -> None:
        """Have a node that is reachable again learn what it missed; then it trusts the cluster again."""

        def learn() -> None:
            if node.well:
                for change in self._missed.pop(node, []):
                    change(node.view)
                self._know_thyself(node)
                node.unsure = False

        self._loop.call_later(self._lag * self._rng.random(), learn)

    def _know_thyself(self, node: ClusterNode) -> None:
        """Have a node that was demoted while it was unreachable learn of that first."""
        primary, epoch = self.truth.primaries[node.group], self.truth.primary_epochs[node.group]
        node.view.promote(primary, epoch)
        if primary is not node:
            node.demote()

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    # ---- slots move

    def keys(self, slot: int, group: Group) -> list[bytes]:
        """The keys of ``slot`` in the data of ``group``."""
        return [key for key in group.data if key_slot(key) == slot]

    async def move(self, slot: int, target: Group, patience: float, *, clumsy: bool) -> None:
        """Move ``slot`` to ``target`` as ``redis-cli --cluster reshard`` does, with up to ``patience`` seconds for each
        step.

        Nothing is done if the target had the slot within the last second: an ASK in flight would be taken for one of
        this move, and a key would exist twice. Redis does not notice that either.

        ``clumsy``: the source is told first that the slot has moved, so that for a while each of the two names the
        other.
        """
        source = self.truth.owners[slot]
        assert source is not None
        latest = self._came.get((slot, target))
        if source is target or slot in self._moving or (latest is not None and self._loop.time() - latest < _REST):
            return
        self._moving.add(slot)
        target.coming[slot] = source
        await self._step(patience)
        await self._both(source, target)
        source.leaving[slot] = target
        await self._step(patience)
        await self._both(source, target)
        while keys := self.keys(slot, source):
            for key in self._rng.sample(keys, min(len(keys), self._rng.randint(1, 3))):
                target.data[key] = source.data.pop(key)
            await self._step(patience)
            await self._both(source, target)
        epoch = self._next_epoch()
        self.truth.give(slot, target, epoch)
        self._came[slot, target] = self._loop.time()
        self.moves += 1

        def change(view: View) -> None:
            view.give(slot, target, epoch)

        def at_target() -> None:
            change(target.primary.view)
            target.coming.pop(slot)

        def at_source() -> None:
            change(source.primary.view)
            source.leaving.pop(slot)

        for end in (at_source, at_target) if clumsy else (at_target, at_source):
            end()
            await self._step(patience)
        self._moving.remove(slot)
        self._spread(change)

    async def _both(self, source: Group, target: Group) -> None:
        """Wait until both primaries answer."""
        while not all(group.primary.well and not group.primary.paused for group in (source, target)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _step(self, patience: float) -> None:
        await asyncio.sleep(patience * self._rng.random())

    # ---- primaries change

    async def fail_over(self, group: Group, patience: float) -> None:
        """Fail over like ``CLUSTER FAILOVER`` at a replica: the primary pauses, the replica takes over, the primary
        follows."""
        old = group.primary
        heirs = [node for node in group.nodes if node is not old and node.well]
        if not heirs or not old.well or old.paused:
            return
        old.paused = True
        await self._step(patience)
        heir = self._rng.choice(heirs)
        if old.well and heir.well:
            self._promote(heir)
            self._hear(old, self._news(group))
        old.unpause()

    async def lose(self, group: Group, node_timeout: float, *, hang: bool) -> None:
        """Crash the primary, or make it hang; after about ``node_timeout`` seconds a replica is elected."""
        old = group.primary
        if not old.well or old.paused:
            return
        if hang:
            old.stall()
        else:
            old.crash()
        await asyncio.sleep(node_timeout * (0.5 + self._rng.random()))
        others = [node for node in self.nodes if node.group is not group and node.well]
        for node in others:
            # All slots must be served, or no node serves any (cluster-require-full-coverage).
            self._loop.call_later(self._lag * self._rng.random(), self._doubt, node, old)
        await self._step(node_timeout)
        heirs = [node for node in group.nodes if node is not old and node.well]
        if heirs and group.primary is old and not old.well:
            self._promote(self._rng.choice(heirs))
            old.unsure = True
        for node in others:
            self._loop.call_later(self._lag * (1.0 + self._rng.random()), self._trust, node)

    def _doubt(self, node: ClusterNode, lost: ClusterNode) -> None:
        if node.well and lost.group.primary is lost and not lost.well:
            node.unsure = True

    def _trust(self, node: ClusterNode) -> None:
        if node.well:
            node.unsure = False

    def _promote(self, heir: ClusterNode) -> None:
        group = heir.group
        epoch = self._next_epoch()
        group.primary = heir
        self.failovers += 1
        self.truth.promote(heir, epoch)
        news = self._news(group)
        news(heir.view)
        # The replica knows everything about slots that its primary knew.
        for slot, (owner, since) in enumerate(zip(self.truth.owners, self.truth.slot_epochs, strict=True)):
            if owner is not None:
                heir.view.give(slot, owner, since)
        heir.unsure = False
        self._spread(news, but=heir)

    def _news(self, group: Group) -> Change:
        heir, epoch = self.truth.primaries[group], self.truth.primary_epochs[group]
        return lambda view: view.promote(heir, epoch)

    # ---- invariants

    def lost_slots(self) -> list[str]:
        """Keys at a shard that does not own their slot: a fault of the simulation, not of the proxy."""
        found = []
        for group in self.groups:
            for key in group.data:
                owner = self.truth.owners[key_slot(key)]
                other = group.leaving.get(key_slot(key))
                came_from = group.coming.get(key_slot(key))
                if owner is not group and other is None and came_from is None:
                    found.append(f"{key!r} is in {group}, which does not own its slot")
        return found

    def value(self, key: bytes) -> bytes | None:
        """The value of ``key``, or None."""
        owner = self.truth.owners[key_slot(key)]
        assert owner is not None
        value = owner.data.get(key)
        target = owner.leaving.get(key_slot(key))
        return target.data.get(key) if value is None and target is not None else value
