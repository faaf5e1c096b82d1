"""Decides from several sentinels' reports which server is the primary of each master. No I/O.

A failover gives a master a higher epoch, which spreads from sentinel to sentinel: the highest epoch is the newest. A
lower one comes from a sentinel that lags or was partitioned, unless more than half of all sentinels agree on it for a
while: then the operator has set up the master anew (SENTINEL REMOVE and MONITOR).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from proxy.discovery.sentinelview import Master, SentinelReport
from proxy.sharding.topology import Node, Shard, Topology, even_ranges

AGREED = 3.0
"""Seconds for which sentinels must agree on a lower epoch: longer than a new epoch takes to reach all of them."""


@dataclass(frozen=True, slots=True)
class WatchedMaster:
    """The primary of a master since the failover with number ``epoch``, and its usable replicas."""

    node: Node
    epoch: int
    replicas: tuple[Node, ...] = ()


class Chart:
    """The primaries of the masters ``names`` over time."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self.seats: dict[str, WatchedMaster] = {}
        self.unsettled = False
        """Whether the sentinels do not know yet if some replicas are usable."""
        self._doubts: dict[str, tuple[tuple[int, Node], float]] = {}
        """The epoch and primary that sentinels agree on against the present one, and since when, by master."""

    def take(self, reports: Collection[SentinelReport], now: float) -> None:
        """Decide anew, from the latest report of each sentinel that answers; ``now`` is in seconds."""
        self.unsettled = False
        for name in self._names:
            views = [report.masters[name] for report in reports if name in report.masters]
            if views:
                self._reconsider(name, views, now)

    def unknown(self, reports: Collection[SentinelReport]) -> list[str]:
        """The masters that no answering sentinel knows."""
        return [name for name in self._names if not any(name in report.masters for report in reports)]

    def _reconsider(self, name: str, views: Sequence[Master], now: float) -> None:
        seat = self.seats.get(name)
        claims = Counter((view.epoch, view.node) for view in views)
        (epoch, node), _ = max(claims.items(), key=lambda item: (item[0][0], item[1], item[0][1].address))
        if seat is not None and epoch <= seat.epoch:
            epoch, node = self._agreed(name, seat, claims, 1 + max(len(view.peers) for view in views), now)
        else:
            self._doubts.pop(name, None)
        agreeing = [view for view in views if (view.epoch, view.node) == (epoch, node)]
        replicas = self._replicas(node, agreeing) if agreeing or seat is None else seat.replicas
        self.seats[name] = WatchedMaster(node, epoch, replicas)

    def _agreed(
        self, name: str, seat: WatchedMaster, claims: Mapping[tuple[int, Node], int], sentinels: int, now: float
    ) -> tuple[int, Node]:
        """The epoch and node of the present primary, or those that replace them."""
        held = (seat.epoch, seat.node)
        other = next((claim for claim, count in claims.items() if count * 2 > sentinels), held)
        if held in claims or other == held:
            self._doubts.pop(name, None)
            return held
        doubted, since = self._doubts.setdefault(name, (other, now))
        if doubted != other:
            self._doubts[name] = (other, now)
        elif now - since >= AGREED:
            del self._doubts[name]
            return other
        return held

    @property
    def doubtful(self) -> bool:
        """Whether sentinels agree on a lower epoch than the known one, so that they should be asked again soon."""
        return bool(self._doubts)

    def _replicas(self, primary: Node, views: Sequence[Master]) -> tuple[Node, ...]:
        """The replicas that at least half of the sentinels that list them call usable."""
        listed: Counter[Node] = Counter()
        usable: Counter[Node] = Counter()
        for view in views:
            for follower in view.followers:
                listed[follower.node] += 1
                usable[follower.node] += follower.known and not follower.down
                self.unsettled = self.unsettled or not (follower.known or follower.down)
        found = [node for node in listed if node != primary and usable[node] * 2 >= listed[node] and usable[node]]
        return tuple(sorted(found, key=lambda node: (node.host, node.port)))

    def topology(self, epoch: int) -> tuple[Topology, list[str]]:
        """The shards with known primaries, and the names of masters left out because another has their primary.

        The slots are divided evenly over all masters. A replica that two masters list belongs to the first one.
        """
        primaries: dict[Node, str] = {}
        doubled = []
        for name in self._names:
            seat = self.seats.get(name)
            if seat is not None and primaries.setdefault(seat.node, name) != name:
                doubled.append(name)
        taken = set(primaries)
        shards = []
        slots = []
        for name, ranges in zip(self._names, even_ranges(len(self._names)), strict=True):
            seat = self.seats.get(name)
            if seat is None or name in doubled:
                continue
            replicas = tuple(node for node in seat.replicas if node not in taken)
            taken.update(replicas)
            shards.append(Shard(name, seat.node, replicas))
            slots.append(ranges)
        return Topology.found(shards, slots, epoch=epoch), doubled
