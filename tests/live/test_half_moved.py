"""A slot of a cluster that is on its way, some of whose keys are at its old owner and some at its new one."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from proxy.devservers.cluster import LocalCluster, start_cluster
from proxy.sharding.slots import key_slot
from tests.support.binaries import FULL
from tests.support.clusters import half_moved, move_slot
from tests.support.fixtures import Serve, find
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Argument, Wire, decode, pack, pipeline
from tests.support.worker_clients import one_of_each

pytestmark = pytest.mark.live

PATIENT = 8.0
"""Seconds within which a request that is held until ``retry_deadline`` (10 s) is surely not answered."""


@pytest.fixture(scope="module", params=FULL, ids=lambda source: source.name)
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Two primaries."""
    with start_cluster(2, 0, binary=find(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """The cluster's proxy."""
    with ProxyProcess(tmp_path_factory.mktemp("halves"), "--cluster", cluster.seeds).serving() as running:
        yield running


@pytest.mark.parametrize("protocol", [2, 3])
def test_keys_that_are_all_in_that_slot(cluster: LocalCluster, proxy: ProxyProcess, protocol: int) -> None:
    """Commands that are split between servers are split between these two."""
    with Wire(proxy.address, protocol=protocol, timeout=PATIENT) as client:
        client.ask("MSET", "{t}a", 1, "{t}b", 2, "{t}c", 3)
        client.ask("HSET", "{t}hash", "f", "v")
        with half_moved(cluster, "{t}a", "{t}hash"):
            null = b"_\r\n" if protocol == 3 else b"$-1\r\n"
            wanted = b"*5\r\n$1\r\n3\r\n$1\r\n1\r\n" + null + b"$1\r\n2\r\n" + null
            assert client.ask("MGET", "{t}c", "{t}a", "{t}nobody", "{t}b", "{t}hash") == wanted
            assert client.ask("EXISTS", "{t}a", "{t}b", "{t}a", "{t}nobody") == b":3\r\n"
            assert client.ask("TOUCH", "{t}a", "{t}b", "{t}c") == b":3\r\n"
            assert client.ask("MSET", "{t}a", 4, "{t}b", 5, "{t}new", 6) == b"+OK\r\n"
            assert client.value("MGET", "{t}new", "{t}b", "{t}a") == [b"6", b"5", b"4"]
            assert client.ask("UNLINK", "{t}a", "{t}b", "{t}nobody") == b":2\r\n"
            client.ask("MSET", "{t}a", 7, "{t}c", 8)
            assert client.ask("DEL", "{t}c", "{t}a", "{t}hash", "{t}new", "{t}b") == b":4\r\n"


def test_they_keep_their_turn(cluster: LocalCluster, proxy: ProxyProcess) -> None:
    """Behind one another, and between other commands, also where replies are not wanted."""
    with Wire(proxy.address, timeout=PATIENT) as client:
        client.ask("MSET", "{t}a", 1, "{t}b", 2)
        with half_moved(cluster, "{t}b"):
            client.send(
                pipeline(
                    ("MGET", "{t}a", "{t}b"),
                    ("PING",),
                    ("GET", "elsewhere"),
                    ("MGET", "{t}b", "other", "{t}a"),
                    ("ECHO", "x"),
                )
            )
            assert [decode(reply) for reply in client.replies(5)] == [
                [b"1", b"2"],
                b"PONG",
                None,
                [b"2", None, b"1"],
                b"x",
            ]
            client.send(pipeline(("CLIENT", "REPLY", "OFF"), ("MSET", "{t}a", 3, "{t}b", 4), ("CLIENT", "REPLY", "ON")))
            assert client.reply() == b"+OK\r\n"
            assert client.value("MGET", "{t}a", "{t}b") == [b"3", b"4"]


BLOCKING: list[tuple[Argument, ...]] = [
    ("BLPOP", "{t}a", "{t}b", "0.5"),
    ("BRPOP", "{t}b", "{t}a", "0.5"),
    ("BZPOPMIN", "{t}a", "{t}b", "0.5"),
    ("BLMPOP", "0.5", 2, "{t}a", "{t}b", "LEFT"),
    ("BLMOVE", "{t}a", "{t}b", "LEFT", "LEFT", "0.5"),
    ("XREAD", "BLOCK", 500, "STREAMS", "{t}a", "{t}b", 0, 0),
]


def test_the_time_of_what_blocks_is_its_own(cluster: LocalCluster, proxy: ProxyProcess) -> None:
    """Where its keys are never together it is answered as one that waited for nothing, when the time is over."""
    clients = [Wire(proxy.address, timeout=PATIENT, protocol=2 + number % 2) for number in range(len(BLOCKING))]
    with Wire(proxy.address) as other:
        other.ask("MSET", "{t}a", 1, "{t}b", 2)
    try:
        with half_moved(cluster, "{t}b"):
            began = time.monotonic()
            for client, command in zip(clients, BLOCKING, strict=True):
                client.send(pack(*command))
            for number, client in enumerate(clients):
                assert client.reply() == (b"_\r\n" if number % 2 else b"*-1\r\n")
            assert time.monotonic() - began >= 0.4
    finally:
        for client in clients:
            client.close()


def test_what_blocks_goes_on_when_its_keys_are_together(cluster: LocalCluster, proxy: ProxyProcess) -> None:
    with Wire(proxy.address, timeout=PATIENT) as client:
        with Wire(proxy.address) as other:
            other.ask("RPUSH", "{t}b", "x")
            other.ask("SET", "{t}a", 1)
        with half_moved(cluster, "{t}b"):
            client.send(pack("BLPOP", "{t}b", "{t}a", 60))
            assert client.silent()
            with Wire(proxy.address) as other:
                # What is left is on neither server, and the slot whole again.
                other.ask("DEL", "{t}a", "{t}b")
        with Wire(proxy.address) as other:
            other.ask("RPUSH", "{t}a", "y")
        assert client.reply().endswith(b"y\r\n")


ADMIN = '[topology]\nkind = "cluster"\nrefresh = "300s"\n[[users]]\nname = "default"\nnopass = true\nadmin = true\n'


def test_a_scan_over_workers_that_do_not_agree_on_the_map(cluster: LocalCluster, serve: Serve) -> None:
    """One of them has met a slot's new owner, the other has not: the scan comes to its end, and misses nothing."""
    proxy = serve("--cluster", cluster.seeds, "--workers", "2", config=ADMIN)
    target, source = cluster.primaries()
    slot = key_slot(b"foo")
    keys = {b"key:%d" % number for number in range(300)} | {b"{foo}a", b"{foo}b"}
    with ExitStack() as stack:
        clients = first, second = one_of_each(proxy.address, stack, timeout=PATIENT)
        try:
            first.ask("MSET", *(part for key in keys for part in (key, "x")))
            move_slot(slot, source, target)
            moved = b"%d-" % (slot + 1)
            assert eventually(lambda: first.ask("GET", "{foo}a") != b"" and moved in first.ask("SLOTGATE", "NODES"))
            assert moved not in second.ask("SLOTGATE", "NODES")
            found: set[bytes] = set()
            cursor, pages = b"0", 0
            while not pages or cursor != b"0":
                page = clients[pages % 2].value("SCAN", cursor, "COUNT", 10)
                assert isinstance(page, list)
                cursor = page[0]
                found.update(page[1])
                pages += 1
                assert pages < 1000
            assert found == keys
        finally:
            move_slot(slot, target, source)
            first.ask("FLUSHALL")
