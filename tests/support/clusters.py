"""Operations of tests on real clusters: restart all nodes, move a slot, move a slot half-way."""

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.devservers.cluster import ClusterNode, LocalCluster
from proxy.sharding.slots import key_slot
from tests.support.wire import Wire, pipeline

HALF_MOVED = key_slot(b"t")
"""The slot that ``half_moved`` moves, that of {t}."""


def restored(cluster: LocalCluster) -> LocalCluster:
    """Return the same cluster with all nodes running and in agreement, whichever are primaries now."""
    for node in cluster.nodes:
        if not node.running:
            node.start()
    cluster.wait_ok()
    return cluster


def move_slot(slot: int, source: ClusterNode, target: ClusterNode, *credentials: str) -> None:
    """Move a slot with its keys, one key after the other, as redis-cli does.

    ``credentials`` are arguments of MIGRATE: ``"AUTH", password``.
    """
    here, there = source.id, target.id
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
        assert isinstance(keys, list)
        source.ask("MIGRATE", target.host, target.port, keys[0], 0, 5000, *credentials)
    target.ask("CLUSTER", "SETSLOT", slot, "NODE", there)
    source.ask("CLUSTER", "SETSLOT", slot, "NODE", there)


@contextmanager
def half_moved(cluster: LocalCluster, *gone: str) -> Iterator[None]:
    """Start to move the slot of {t}, with the keys ``gone`` at the target; at the end of the block all keys of the slot
    are deleted."""
    source, target = cluster.primaries()
    if not source.ask("CLUSTER", "COUNTKEYSINSLOT", HALF_MOVED):
        source, target = target, source
    target.ask("CLUSTER", "SETSLOT", HALF_MOVED, "IMPORTING", source.id)
    source.ask("CLUSTER", "SETSLOT", HALF_MOVED, "MIGRATING", target.id)
    try:
        for key in gone:
            assert source.ask("MIGRATE", target.host, target.port, key, 0, 5000) == b"OK"
        yield
    finally:
        for node in (source, target):
            keys = node.ask("CLUSTER", "GETKEYSINSLOT", HALF_MOVED, 100)
            assert isinstance(keys, list)
            for key in keys:
                with Wire(node.address) as wire:
                    wire.send(pipeline(("ASKING",), ("DEL", key)))
                    wire.replies(2)
            node.ask("CLUSTER", "SETSLOT", HALF_MOVED, "STABLE")
