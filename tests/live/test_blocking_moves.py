"""Who blocks while the servers change their roles, slots move, and servers die."""

import re
import time
from collections.abc import Callable, Iterator

import pytest

from proxy.devservers.cluster import LocalCluster, start_cluster
from proxy.devservers.servers import LocalServer, LocalShards, find_server, start_many
from proxy.sharding.slots import key_slot
from tests.support.binaries import FULL
from tests.support.clusters import move_slot
from tests.support.fixtures import Serve, find
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire, decode, pack

pytestmark = pytest.mark.live

QUICK = '[topology]\nkind = "cluster"\nrefresh = "500ms"\n'


def blocked(*servers: LocalServer) -> int:
    """How many clients block there."""
    return sum(int(server.info("clients")["blocked_clients"]) for server in servers)


def until(happened: Callable[[], bool]) -> None:
    assert eventually(happened, 20.0)


@pytest.fixture
def shards() -> Iterator[LocalShards]:
    """One shard with a replica."""
    with start_many(1, 1, binary=find_server()) as running:
        yield running


def test_a_switchover_is_not_noticed(shards: LocalShards, serve: Serve) -> None:
    """The old primary tells those who block there that it is none any more (-UNBLOCKED): they block at the new one."""
    (old,), ((new,),) = shards.primaries, shards.replicas
    proxy = serve(
        config=f"""
        [topology]
        discover_replicas = true
        refresh = "200ms"
        [[shards]]
        primary = "{old.address}"
        replicas = ["{new.address}"]
        """
    )
    requests = [
        pack("BLPOP", "list", 0),
        pack("BZPOPMIN", "zset", 60),
        pack("BLMPOP", 60, 1, "other", "LEFT"),
        pack("XREAD", "BLOCK", 60000, "STREAMS", "stream", "$"),
        pack("BLPOP", "nothing", "1.5"),
    ]
    clients = [Wire(proxy.address) for _ in requests]
    began = time.monotonic()
    for client, request in zip(clients, requests, strict=True):
        client.send(request)
    until(lambda: blocked(old) == len(requests))
    new.ask("REPLICAOF", "NO", "ONE")
    # Before anybody has seen the switch: XREAD must not begin behind this.
    new.ask("XADD", "stream", "7-1", "f", "v")
    old.ask("REPLICAOF", new.host, new.port)
    with Wire(proxy.address) as other:
        until(lambda: other.ask("RPUSH", "list", "a") == b":1\r\n")
        other.ask("ZADD", "zset", 1, "b")
        other.ask("RPUSH", "other", "c")
    assert [decode(client.reply()) for client in clients] == [
        [b"list", b"a"],
        [b"zset", b"b", b"1"],
        [b"other", [b"c"]],
        [[b"stream", [[b"7-1", [b"f", b"v"]]]]],
        None,
    ]
    assert time.monotonic() - began > 1.4
    assert 'slotgate_redirections_total{error="UNBLOCKED"} 5.0' in proxy.http("/metrics")[1]
    for client in clients:
        client.close()


def test_a_server_that_dies(serve: Serve) -> None:
    """Whether something was popped for who blocked there nobody can say; what only reads is asked again."""
    with start_many(1, 0, binary=find_server()) as shards:
        (server,) = shards.primaries
        proxy = serve("--static", shards.static)
        pops, reads, later = Wire(proxy.address), Wire(proxy.address), Wire(proxy.address)
        pops.send(pack("BLPOP", "list", 0) + pack("PING"))
        reads.send(pack("XREAD", "BLOCK", 0, "STREAMS", "stream", "$"))
        until(lambda: blocked(server) == 2)
        server.kill()
        assert re.match(rb"-UNCERTAIN shard 'shard-1' .*may or may not have been executed", pops.reply())
        assert pops.reply() == b"+PONG\r\n"
        later.send(pack("BLPOP", "list", 0))
        assert later.silent()
        server.start()
        until(lambda: blocked(server) == 2)
        assert pops.ask("RPUSH", "list", "x") == b":1\r\n"
        assert later.reply().endswith(b"x\r\n")
        pops.ask("XADD", "stream", "1-1", "f", "v")
        assert b"1-1" in reads.reply()
        for wire in (pops, reads, later):
            wire.close()


def test_a_server_that_does_not_come_back(serve: Serve) -> None:
    with start_many(1, 0, binary=find_server()) as shards:
        (server,) = shards.primaries
        proxy = serve("--static", shards.static, config='[backend]\nretry_deadline = "300ms"\n')
        with Wire(proxy.address) as client, Wire(proxy.address) as other:
            client.send(pack("XREAD", "BLOCK", 0, "STREAMS", "stream", "$"))
            until(lambda: blocked(server) == 1)
            server.kill()
            assert re.match(rb"-SHARDDOWN shard 'shard-1' ", client.reply())
            assert re.match(rb"-SHARDDOWN shard 'shard-1' ", other.ask("BLPOP", "list", 0))


def test_a_server_that_hangs(serve: Serve) -> None:
    """One that says nothing though the time is over is given up."""
    with start_many(1, 0, binary=find_server()) as shards:
        (server,) = shards.primaries
        proxy = serve("--static", shards.static, config='[backend]\nrequest_timeout = "300ms"\n')
        pops, reads = Wire(proxy.address), Wire(proxy.address)
        pops.send(pack("BLPOP", "list", "0.5"))
        reads.send(pack("XREAD", "BLOCK", 500, "STREAMS", "stream", "$"))
        until(lambda: blocked(server) == 2)
        server.pause()
        try:
            assert pops.reply().startswith(b"-UNCERTAIN shard 'shard-1' ")
            assert reads.reply().startswith(b"-TIMEOUT shard 'shard-1' ")
        finally:
            server.resume()
        pops.close()
        reads.close()


@pytest.fixture(scope="module", params=FULL, ids=lambda source: source.name)
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Two primaries with a replica each."""
    with start_cluster(2, 1, binary=find(request.param), node_timeout=1.0) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """The cluster's proxy."""
    with ProxyProcess(tmp_path_factory.mktemp("moves"), "--cluster", cluster.seeds, config=QUICK).serving() as running:
        yield running


def test_a_slot_moves_away(cluster: LocalCluster, proxy: ProxyProcess) -> None:
    first, second = cluster.primaries()
    slot = key_slot(b"a")
    source, target = (first, second) if slot < 8192 else (second, first)
    with Wire(proxy.address) as client, Wire(proxy.address) as other:
        client.send(pack("BLPOP", "a", 0))
        until(lambda: blocked(source) == 1)
        move_slot(slot, source, target)
        try:
            until(lambda: blocked(target) == 1)
            other.ask("RPUSH", "a", "x")
            assert client.reply().endswith(b"x\r\n")
        finally:
            other.ask("DEL", "a")
            move_slot(slot, target, source)


def test_blocked_on_a_slot_that_is_on_its_way(cluster: LocalCluster, proxy: ProxyProcess) -> None:
    """A key that is not there yet is waited for where the slot goes (ASK)."""
    first, second = cluster.primaries()
    slot = key_slot(b"a")
    source, target = (first, second) if slot < 8192 else (second, first)
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    clients = [Wire(proxy.address) for _ in range(2)]
    try:
        clients[0].send(pack("BLPOP", "a", 0))
        clients[1].send(pack("XREAD", "BLOCK", 0, "STREAMS", "{a}stream", "$"))
        until(lambda: blocked(target) == 2)
        with Wire(proxy.address) as other:
            other.ask("RPUSH", "a", "x")
            other.ask("XADD", "{a}stream", "1-1", "f", "v")
            assert clients[0].reply().endswith(b"x\r\n")
            assert b"1-1" in clients[1].reply()
            other.ask("DEL", "{a}stream")
    finally:
        for node in (source, target):
            node.ask("CLUSTER", "SETSLOT", slot, "STABLE")
        for client in clients:
            client.close()


def test_a_planned_failover(cluster: LocalCluster, proxy: ProxyProcess) -> None:
    cluster.wait_ok()
    first, _ = cluster.primaries()
    key = next(f"k{number}" for number in range(100) if key_slot(b"k%d" % number) < 8192)
    replica = cluster.replicas_of(first)[0]
    with Wire(proxy.address) as client, Wire(proxy.address) as other:
        client.send(pack("BRPOP", key, 60))
        until(lambda: blocked(first) == 1)
        cluster.failover(replica)
        until(lambda: blocked(replica) == 1)
        assert other.ask("RPUSH", key, "x") == b":1\r\n"
        assert client.reply().endswith(b"x\r\n")
    cluster.wait_ok()


def test_wait_in_a_cluster(cluster: LocalCluster, proxy: ProxyProcess) -> None:
    cluster.wait_ok()
    with Wire(proxy.address) as client:
        for number in range(20):
            assert client.ask("SET", f"key:{number}", number) == b"+OK\r\n"
        assert client.ask("WAIT", 1, 10000) == b":1\r\n"
        stopped = cluster.replicas_of(cluster.primaries()[1])[0]
        stopped.pause()
        try:
            client.ask("MSET", *(part for number in range(20) for part in (f"key:{number}", number)))
            assert client.ask("WAIT", 1, 100) == b":0\r\n"
        finally:
            stopped.resume()
        assert client.ask("WAIT", 1, 10000) == b":1\r\n"
        client.ask("FLUSHALL")
