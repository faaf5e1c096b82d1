"""What tests do to real clusters: all nodes run again, a slot moves, a slot is on its way."""

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.devservers.cluster import ClusterNode, LocalCluster
from proxy.sharding.slots import key_slot
from tests.support.wire import Wire, pipeline

HALF_MOVED = key_slot(b"t")
"""The slot that ``half_moved`` moves."""


def restored(cluster: LocalCluster) -> LocalCluster:
    """The same cluster, all nodes running and in agreement, whoever is a primary now."""
    for node in cluster.nodes:
        if not node.running:
            node.start()
    cluster.wait_ok()
    return cluster


def move_slot(slot: int, source: ClusterNode, target: ClusterNode, *credentials: str) -> None:
    """A slot changes its owner with its keys, one after the other, as redis-cli does it.

    ``credentials`` are MIGRATE's: ``"AUTH", password``.
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
    """The slot of {t} is on its way, and the keys ``gone`` are there; behind it all of its keys are away."""
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
