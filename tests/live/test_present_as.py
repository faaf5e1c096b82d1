"""``present_as = "cluster"``: the clients that insist on a Redis Cluster, through the proxy, on every topology."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import redis
import redis.asyncio

from proxy.devservers.cluster import start_cluster
from proxy.devservers.sentinel import start_watched
from proxy.devservers.servers import LOOPBACK, free_port, start_many
from proxy.sharding.slots import key_slot
from tests.live.nodejs import node
from tests.live.test_node import RUN_TIMEOUT
from tests.support.binaries import FULL
from tests.support.fixtures import Serve, find
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire, decode

pytestmark = [pytest.mark.live, pytest.mark.clients]

CONFIG = 'present_as = "cluster"\n'


@pytest.fixture(scope="module", params=["static", "cluster", "sentinel"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """Before two shards; those of the static one have a replica each."""
    binary = find(FULL[0])
    with ExitStack() as stack:
        match request.param:
            case "static":
                where = ["--static", stack.enter_context(start_many(2, 1, binary=binary)).static]
            case "cluster":
                where = ["--cluster", stack.enter_context(start_cluster(2, 0, binary=binary)).seeds]
            case _:
                site = stack.enter_context(start_watched(2, 0, 1, binary=binary))
                where = ["--sentinel", site.sentinel_addresses, "--masters", site.masters]
        proxy = ProxyProcess(tmp_path_factory.mktemp("presented"), *where, config=CONFIG)
        with proxy.serving():
            yield proxy


@pytest.fixture
def port(proxy: ProxyProcess) -> int:
    """The proxy's; nothing is behind it."""
    with Wire(proxy.address) as wire:
        assert wire.ask("FLUSHALL") == b"+OK\r\n"
    return proxy.port


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(port: int, protocol: int) -> None:
    with redis.RedisCluster(host=LOOPBACK, port=port, protocol=protocol, decode_responses=True) as client:
        assert [(node.host, node.port) for node in client.get_primaries()] == [(LOOPBACK, port)]
        for number in range(30):
            assert client.set(f"k{number}", number)
        assert client.mget_nonatomic("k1", "k2", "none") == ["1", "2", None]
        assert client.delete("k1", "k2", "k3") == 3
        assert client.dbsize() == 27
        pipeline = client.pipeline()
        for number in range(100):
            pipeline.incr(f"n{number}")
        assert pipeline.execute() == [1] * 100
        assert set(client.scan_iter("n*")) == {f"n{number}" for number in range(100)}
        assert client.eval("return redis.call('incrby', KEYS[1], ARGV[1])", 1, "n1", 5) == 6
        assert client.cluster_keyslot("k1") == key_slot(b"k1")
        assert client.info("cluster")["cluster_enabled"] == 1


def test_transactions_and_channels_of_redis_py(port: int) -> None:
    with redis.RedisCluster(host=LOOPBACK, port=port, decode_responses=True) as client:
        transaction = client.pipeline(transaction=True)
        transaction.set("{t}a", 1)
        transaction.incr("{t}a")
        transaction.get("{t}a")
        assert transaction.execute()[1:] == [2, "2"]
        with client.pubsub() as pubsub:
            for begin, publish, kind in (
                (pubsub.subscribe, client.publish, "message"),
                (pubsub.ssubscribe, client.spublish, "smessage"),
            ):
                listen = pubsub.get_message if kind == "message" else pubsub.get_sharded_message
                begin(f"news of {kind}")
                assert eventually(partial(heard, listen, kind.replace("message", "subscribe")))
                publish(f"news of {kind}", "hello")
                assert eventually(partial(heard, listen, kind))


def heard(listen: Callable[[], Mapping[str, object] | None], kind: str) -> bool:
    """Whether what comes next is of this kind."""
    return (listen() or {}).get("type") == kind


async def test_redis_py_asyncio(port: int) -> None:
    async with redis.asyncio.RedisCluster(host=LOOPBACK, port=port, decode_responses=True) as client:

        async def work(number: int) -> None:
            assert await client.set(f"k{number}", number)
            assert await client.get(f"k{number}") == str(number)

        await asyncio.gather(*(work(number) for number in range(50)))
        pipeline = client.pipeline()
        for number in range(50):
            pipeline.get(f"k{number}")
        assert await pipeline.execute() == [str(number) for number in range(50)]
        assert await client.dbsize() == 50


def test_ioredis(port: int, installed: Path) -> None:
    command = [node(), "ioredis_cluster.js", LOOPBACK, str(port)]
    ended = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stdout + ended.stderr


def test_keys_of_a_slot_are_asked_of_a_cluster(proxy: ProxyProcess, port: int) -> None:
    slot = key_slot(b"tag")
    with Wire(proxy.address) as wire:
        for number in range(3):
            wire.ask("SET", f"{{tag}}{number}", number)
        count, keys = wire.ask("CLUSTER", "COUNTKEYSINSLOT", slot), wire.ask("CLUSTER", "GETKEYSINSLOT", slot, 10)
        if "--cluster" in repr(proxy):
            assert count == b":3\r\n"
            found = decode(keys)
            assert isinstance(found, list)
            assert set(found) == {b"{tag}0", b"{tag}1", b"{tag}2"}
        else:
            assert count.startswith(
                b"-ERR 'cluster|countkeysinslot' can not be answered: the shards are no Redis Cluster"
            )
            assert keys.startswith(b"-ERR 'cluster|getkeysinslot' can not be answered")
        assert wire.ask("CLUSTER", "RESET").startswith(b"-ERR 'cluster|reset' is refused by the proxy")


def test_readonly_reads_from_replicas(proxy: ProxyProcess, port: int) -> None:
    """Only the static one has replicas."""
    if "--static" not in repr(proxy):
        pytest.skip("no replicas here")
    with Wire(proxy.address) as wire, Wire(proxy.address) as other:

        def stale() -> bool:
            """Whether the replica that is read from has what was written."""
            return wire.ask("GET", "k") == b"$1\r\n1\r\n"

        assert wire.ask("SET", "k", 1) == b"+OK\r\n"
        assert wire.ask("READONLY") == b"+OK\r\n"
        assert eventually(stale)
        served = replica_reads(proxy)
        for _ in range(20):
            assert wire.ask("GET", "k") == b"$1\r\n1\r\n"
        assert replica_reads(proxy) >= served + 20
        assert wire.ask("READWRITE") == b"+OK\r\n"
        served = replica_reads(proxy)
        for _ in range(20):
            assert wire.ask("GET", "k") == other.ask("GET", "k") == b"$1\r\n1\r\n"
        assert replica_reads(proxy) == served


def replica_reads(proxy: ProxyProcess) -> int:
    """GETs that the replicas carried out."""
    found = 0
    for server in proxy.nodes():
        if server["role"] == "replica":
            with Wire(server["address"]) as wire:
                stats = wire.ask("INFO", "commandstats").decode()
            lines = [line for line in stats.splitlines() if line.startswith("cmdstat_get:")]
            found += sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines)
    return found


def of_static(proxy: ProxyProcess) -> str:
    """The shards of a static topology."""
    if "--static" not in repr(proxy):
        pytest.skip("one topology is enough")
    return ",".join(node["address"] for node in proxy.nodes() if node["role"] == "primary")


def owners(wire: Wire) -> list[tuple[int, int, int]]:
    """The ranges of slots and the ports of their owners, as CLUSTER SLOTS has them."""
    slots = decode(wire.ask("CLUSTER", "SLOTS"))
    assert isinstance(slots, list)
    return [(row[0], row[1], row[2][1]) for row in slots]


def test_advertised_addresses_share_the_slots(serve: Serve, proxy: ProxyProcess) -> None:
    """Also where this one finds none of them: they may be for others to reach."""
    names = [f"{LOOPBACK}:{free_port()}", f"{LOOPBACK}:{free_port()}"]
    shown = []
    for advertised in (names, names[::-1]):
        config = f'present_as = "cluster"\nadvertise = {advertised}\n'
        with Wire(serve("--static", of_static(proxy), config=config).address) as wire:
            shown.append(owners(wire))
    assert shown[0] == shown[1]
    assert [span[:2] for span in shown[0]] == [(0, 8191), (8192, 16383)]
    assert {f"{LOOPBACK}:{port}" for _, _, port in shown[0]} == set(names)


@pytest.fixture
def pair(serve: Serve, proxy: ProxyProcess, port: int) -> list[ProxyProcess]:
    """Two proxies that advertise each other, each in its own order."""
    shards = of_static(proxy)
    addresses = [f"{LOOPBACK}:{free_port()}", f"{LOOPBACK}:{free_port()}"]
    config = 'present_as = "cluster"\nadvertise = {}\n[topology]\nrefresh = "1s"\n'
    both = [
        serve("--static", shards, listen=address, config=config.format(addresses[::order]))
        for address, order in zip(addresses, (1, -1), strict=True)
    ]
    with Wire(both[0].address) as wire:
        assert eventually(lambda: len(owners(wire)) == 2)  # until the second was there it had none
    return both


def test_two_advertised_proxies_count_each_key_once(pair: list[ProxyProcess]) -> None:
    with redis.RedisCluster(host=LOOPBACK, port=pair[0].port, decode_responses=True) as client:
        assert {node.port for node in client.get_primaries()} == {proxy.port for proxy in pair}
        keys = {f"k{number}" for number in range(100)}
        for key in keys:
            client.set(key, "x")
        assert client.dbsize(target_nodes="primaries") == 100
        assert sorted(client.keys("*", target_nodes="primaries")) == sorted(keys)
        assert sorted(client.scan_iter(count=7)) == sorted(keys)
        found = client.info("keyspace", target_nodes="primaries")
        assert sum(info["db0"]["keys"] for info in found.values() if "db0" in info) == 100
    seen = []
    for proxy in pair:
        with Wire(proxy.address) as wire:
            seen.append(wire.value("DBSIZE"))
            assert wire.ask("SCAN", 0, "COUNT", "x").startswith(b"-ERR value is not an integer")
            assert wire.value("EXISTS", *keys) == 100
    assert sum(seen) == 100  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["stops", "hangs"])
def test_an_advertised_proxy_that_does_not_answer_owns_nothing(pair: list[ProxyProcess], how: str) -> None:
    first, second = pair
    with Wire(first.address) as wire:
        wire.ask("MSET", *(part for number in range(50) for part in (f"k{number}", "x")))
        if how == "stops":
            second.stop()
        else:
            os.kill(second.pid, signal.SIGSTOP)
        try:
            assert eventually(lambda: owners(wire) == [(0, 16383, first.port)])
            assert wire.ask("CLUSTER", "NODES").count(b"master,fail - 0 0 1 disconnected\n") == 1
            assert wire.value("DBSIZE") == 50
        finally:
            if how == "hangs":
                os.kill(second.pid, signal.SIGCONT)
        if how == "hangs":
            assert eventually(lambda: len(owners(wire)) == 2)
