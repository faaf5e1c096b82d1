"""The changes between two maps of a Redis Cluster in an operator's words: one log line for each event. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy.discovery.clustermap import ClusterShard, gaps
from proxy.sharding.topology import format_ranges

_MOST_RANGES = 20
"""The most ranges that are written out: a cluster that was resharded often has thousands."""

_Ranges = list[tuple[int, int]]


def news(before: Sequence[ClusterShard], after: Sequence[ClusterShard]) -> Iterator[str]:
    """The log lines for the changes from ``before``, which may be empty, to ``after``."""
    old = {seat.shard.name: seat for seat in before}
    new = {seat.shard.name: seat for seat in after}
    for name, seat in new.items():
        if name in old:
            yield from _changes(old[name], seat)
        else:
            yield (
                f"shard found shard={name} primary={seat.shard.primary} replicas={_replicas(seat)} "
                f"slots={shown(seat.ranges)}"
            )
    for name, seat in old.items():
        if name not in new:
            yield f"shard removed shard={name} primary={seat.shard.primary}: none of its nodes has slots any more"
    for (giver, taker), ranges in _moved(before, after).items():
        if taker in old:
            yield f"slots moved slots={shown(ranges)} from={giver} to={taker}"


def _changes(old: ClusterShard, new: ClusterShard) -> Iterator[str]:
    name, replicas = new.shard.name, _replicas(new)
    if old.owner != new.owner:
        yield f"failover shard={name} primary={new.shard.primary} was={old.shard.primary} replicas={replicas}"
    elif old.shard.primary != new.shard.primary:
        yield f"primary has another address shard={name} primary={new.shard.primary} was={old.shard.primary}"
    elif old.shard.replicas != new.shard.replicas:
        yield f"replicas changed shard={name} replicas={replicas}"


def _replicas(seat: ClusterShard) -> str:
    return ",".join(map(str, seat.shard.replicas)) or "none"


def _moved(before: Sequence[ClusterShard], after: Sequence[ClusterShard]) -> dict[tuple[str, str], _Ranges]:
    """The slots that moved from one shard to another, by the names of both."""
    old = sorted((*span, seat.shard.name) for seat in before for span in seat.ranges)
    new = sorted((*span, seat.shard.name) for seat in after for span in seat.ranges)
    moved: dict[tuple[str, str], _Ranges] = {}
    at = 0
    for first, last, taker in new:
        while at < len(old) and old[at][1] < first:
            at += 1
        here = at
        while here < len(old) and old[here][0] <= last:
            start, end, giver = old[here]
            if giver != taker:
                moved.setdefault((giver, taker), []).append((max(first, start), min(last, end)))
            here += 1
    return moved


def missing(seated: Sequence[ClusterShard]) -> str:
    """The slots that no shard serves, as text; "" if there are none."""
    return shown(gaps(seated))


def shown(ranges: Sequence[tuple[int, int]]) -> str:
    """The first ranges as text, such as ``0-5460,7000``, and the number of further ones."""
    rest = len(ranges) - _MOST_RANGES
    return format_ranges(ranges[:_MOST_RANGES]) + (f",... ({rest} ranges more)" if rest > 0 else "")
