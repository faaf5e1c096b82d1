"""The servers of ``slotgate demo``: static shards, a cluster, or shards under Sentinel; and commands to change them."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.devservers.cluster import LocalCluster, start_cluster
from proxy.devservers.sentinel import WatchedShards, start_watched
from proxy.devservers.servers import LocalServer, ServerBinary, start_many
from proxy.sharding.topology import Node, Shard, Topology, format_ranges

Try = tuple[str, str]
"""A command to copy, and its meaning."""

# The prefix of the command-line tools: Valkey's if only these are installed.
BRAND: Final = "valkey" if shutil.which("valkey-cli") and not shutil.which("redis-cli") else "redis"
_START_TIMEOUT: Final = 30.0
# An election needs the votes of a majority of the primaries: one of two is no majority.
_VOTERS: Final = 3
_MOVED: Final = 1000


@dataclass(frozen=True, slots=True)
class DemoServers:
    """Running servers, and the texts about them."""

    binary: ServerBinary
    directory: Path
    flags: tuple[str, ...]
    """The flags of ``slotgate serve`` that name the servers."""
    lines: tuple[str, ...]
    """One line for each shard, for people."""
    changes: tuple[Try, ...] = ()
    """Commands that change the servers while the proxy serves."""


@contextlib.contextmanager
def start(topology: str, shards: int, replicas: int) -> Iterator[DemoServers]:
    """Start the servers of a ``topology``: "static", "cluster" or "sentinel". Raises SlotgateError if that fails."""
    with _STARTS[topology](shards, replicas) as servers:
        yield servers


@contextlib.contextmanager
def _static(shards: int, replicas: int) -> Iterator[DemoServers]:
    with start_many(shards, replicas) as running:
        names = [f"shard-{number + 1}" for number in range(shards)]
        groups = [(primary, *group) for primary, group in zip(running.primaries, running.replicas, strict=True)]
        yield DemoServers(running.binary, running.directory, ("--static", running.static), _lines(names, groups))


@contextlib.contextmanager
def _cluster(shards: int, replicas: int) -> Iterator[DemoServers]:
    with start_cluster(shards, replicas, timeout=_START_TIMEOUT) as running:
        names = [f"shard-{number + 1}" for number in range(shards)]
        primaries = running.nodes[:shards]
        groups = [(primary, *running.replicas_of(primary)) for primary in primaries]
        yield DemoServers(
            running.binary,
            running.directory,
            ("--cluster", running.seeds),
            _lines(names, groups),
            tuple(_cluster_changes(running, groups)),
        )


def _cluster_changes(cluster: LocalCluster, groups: Sequence[Sequence[LocalServer]]) -> Iterator[Try]:
    (primary, *replicas), *others = groups
    ids = {seen.address: seen.id for seen in cluster.nodes[0].known()}
    yield f"{BRAND}-cli --cluster check {primary.address}", "the owners of the slots"
    if others:
        to = others[0][0].address
        move = f"--cluster-from {ids[primary.address]} --cluster-to {ids[to]} --cluster-slots {_MOVED} --cluster-yes"
        yield f"{BRAND}-cli --cluster reshard {primary.address} {move}", f"{_MOVED} slots move from shard-1 to shard-2"
        yield f"{BRAND}-cli --cluster rebalance {primary.address}", "the slots are divided evenly again"
    if replicas:
        yield f"{BRAND}-cli -p {replicas[0].port} cluster failover", "shard-1: the replica takes over"
    if len(groups) >= _VOTERS and replicas:
        crashing = others[-1]
        yield f"kill -9 {crashing[0].pid}", f"shard-{len(groups)}: a crash; its replica is elected after some seconds"


@contextlib.contextmanager
def _sentinel(shards: int, replicas: int) -> Iterator[DemoServers]:
    with start_watched(shards, replicas, timeout=_START_TIMEOUT) as running:
        yield DemoServers(
            running.binary,
            running.directory,
            ("--sentinel", running.sentinel_addresses, "--masters", running.masters),
            (*_lines(running.names, running.groups), f"  {'sentinels':10} {running.sentinel_addresses}"),
            tuple(_sentinel_changes(running, replicas)),
        )


def _sentinel_changes(watched: WatchedShards, replicas: int) -> Iterator[Try]:
    port = watched.sentinels[0].port
    first, last = watched.names[0], watched.names[-1]
    yield f"{BRAND}-cli -p {port} sentinel get-master-addr-by-name {first}", "the primary that the sentinels name"
    if replicas:
        yield f"{BRAND}-cli -p {port} sentinel failover {first}", f"{first}: a replica takes over"
        yield f"kill -9 {watched.primary(last).pid}", f"{last}: a crash; a replica is promoted after some seconds"
    yield f"kill -9 {watched.sentinels[-1].pid}", "a sentinel dies: two are enough"


def _lines(names: Sequence[str], groups: Sequence[Sequence[LocalServer]]) -> tuple[str, ...]:
    """The name, slots, primary and replicas of each shard, with the slots divided evenly."""
    topology = Topology.static(
        Shard(name, Node(primary.host, primary.port), tuple(Node(replica.host, replica.port) for replica in replicas))
        for name, (primary, *replicas) in zip(names, groups, strict=True)
    )
    return tuple(
        f"  {shard.name:10} slots {format_ranges(topology.ranges(index)):12} primary {shard.primary.address:15}"
        + "".join(f"  replica {replica.address}" for replica in shard.replicas)
        for index, shard in enumerate(topology.shards)
    )


_STARTS: Final = {"static": _static, "cluster": _cluster, "sentinel": _sentinel}
