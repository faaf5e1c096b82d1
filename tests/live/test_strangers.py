"""Before a real cluster: who is not one of it is not believed, not followed, not read from and not written to, whatever
address it has; and a member that is listed without an address, or comes back under another id, blinds nobody."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.devservers.cluster import ClusterNode, LocalCluster, start_cluster
from proxy.devservers.servers import LocalServer, ServerBinary
from tests.live.strangers import ClusterStranger, Stranger
from tests.support.clusters import restored
from tests.support.drilled import drilled
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire, pack, pipeline

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

OK = b"+OK\r\n"
KEYS = [f"key:{number}" for number in range(60)]
"""Of slots of all shards."""
QUICK = '[topology]\nkind = "cluster"\nrefresh = "1s"\n[cluster]\nseeds = [{}]\n[backend]\nretry_deadline = "2s"\n'
A_WHILE = 4.0
"""Seconds: several looks at the cluster, and longer than it takes to believe seeds when all members are gone."""


def until(happened: Callable[[], bool], timeout: float = 30.0) -> None:
    assert eventually(happened, timeout)


@pytest.fixture(scope="module")
def standing(binary: ServerBinary) -> Iterator[LocalCluster]:
    """Three primaries with a replica each."""
    with start_cluster(3, 1, binary=binary, node_timeout=1.0) as running:
        yield running


@pytest.fixture
def cluster(standing: LocalCluster) -> LocalCluster:
    """The same, all nodes running and in agreement; only replicas were gone."""
    return restored(standing)


@pytest.fixture
def own(binary: ServerBinary) -> Iterator[LocalCluster]:
    """One that is another afterwards."""
    with start_cluster(3, 1, binary=binary, node_timeout=1.0) as running:
        yield running


def quick(*seeds: ClusterNode, read_from: str = "prefer_replica") -> str:
    named = ", ".join(f'"{seed.address}"' for seed in seeds)
    return f'read_from = "{read_from}"\n' + QUICK.format(named)


def roles(proxy: ProxyProcess) -> dict[str, tuple[str, set[str]]]:
    """By the primary of each shard: the address of the primary, and those of its replicas."""
    found = {}
    for shard in proxy.topology():
        by_role: dict[str, set[str]] = {"primary": set(), "replica": set()}
        for node in shard["nodes"]:
            by_role[node["role"]].add(node["address"])
        found[shard["name"]] = (by_role["primary"].pop(), by_role["replica"])
    return found


def use(proxy: ProxyProcess, seconds: float) -> tuple[int, list[bytes]]:
    """Write and read for a while: how often that went well, and what else was answered."""
    rounds, wrong = 0, []
    deadline = time.monotonic() + seconds
    with Wire(proxy.address) as client:
        while time.monotonic() < deadline:
            rounds += 1
            for key in KEYS:
                written = client.ask("SET", key, "ours")
                read = client.ask("GET", key)
                wrong += [] if written == OK else [written]
                wrong += [] if read in (b"$4\r\nours\r\n", b"$-1\r\n") else [read]
            time.sleep(0.1)
    return rounds, wrong


def assert_untouched(stranger: LocalServer) -> None:
    """No key was written to it, and none was read from it."""
    assert stranger.ask("DBSIZE") == 0
    stats = stranger.info("commandstats")
    assert not [name for name in stats if name in ("cmdstat_get", "cmdstat_set", "cmdstat_mget")], stats


@pytest.mark.parametrize(("epoch", "same_bus"), [drilled(3, False), drilled(50, False), (50, True)])
def test_a_stranger_at_a_replica_s_address(
    cluster: LocalCluster, serve: Serve, tmp_path: Path, epoch: int, same_bus: bool
) -> None:
    proxy = serve(config=quick(cluster.nodes[0], cluster.nodes[3]))
    until(lambda: all(len(replicas) == 1 for _, replicas in roles(proxy).values()))
    before = {name: primary for name, (primary, _) in roles(proxy).items()}
    victim = cluster.nodes[3]
    victim.kill()
    stranger = ClusterStranger(cluster.binary, tmp_path, victim, same_bus=same_bus)
    try:
        stranger.start()
        stranger.own_all(epoch)
        rounds, wrong = use(proxy, A_WHILE)
        assert rounds > 3
        assert wrong == []
        assert {name: primary for name, (primary, _) in roles(proxy).items()} == before
        assert_untouched(stranger)
        assert "unknown to the cluster" in proxy.log
    finally:
        stranger.kill()


@pytest.mark.parametrize("epoch", [drilled(3), 50])
def test_a_stranger_at_a_primary_s_address(own: LocalCluster, serve: Serve, tmp_path: Path, epoch: int) -> None:
    """Its replica takes over, and that alone counts."""
    proxy = serve(config=quick(*own.nodes[:3]))
    victim, heir = own.nodes[1], own.nodes[4]
    until(lambda: heir.address in roles(proxy)["shard-2"][1])
    victim.kill()
    stranger = ClusterStranger(own.binary, tmp_path, victim)
    try:
        stranger.start()
        stranger.own_all(epoch)
        until(lambda: roles(proxy)["shard-2"][0] == heir.address)
        _, wrong = use(proxy, A_WHILE)
        assert wrong == []
        assert roles(proxy)["shard-2"] == (heir.address, set())
        assert_untouched(stranger)
    finally:
        stranger.kill()


def test_a_member_that_was_reset_and_is_a_cluster_of_its_own(
    binary: ServerBinary, serve: Serve, tmp_path: Path
) -> None:
    """It keeps its id, which the others list; nothing but its own epoch says that it has all slots. Nobody has noticed
    yet that it is gone, so the proxy goes on asking it."""
    with start_cluster(2, 1, binary=binary, node_timeout=60.0) as cluster:
        config = quick(cluster.nodes[0], cluster.nodes[3], read_from="primary").replace('"1s"', '"100ms"')
        proxy = serve(config=config)
        victim = cluster.nodes[3]
        identity = victim.id
        until(lambda: all(len(replicas) == 1 for _, replicas in roles(proxy).values()))
        before = {name: primary for name, (primary, _) in roles(proxy).items()}
        victim.kill()
        stranger = ClusterStranger(cluster.binary, tmp_path, victim)
        try:
            stranger.take_id(identity)
            stranger.start()
            assert stranger.id == identity
            stranger.own_all(50)
            rounds, wrong = use(proxy, A_WHILE)
            assert rounds > 3
            assert wrong == []
            assert {name: primary for name, (primary, _) in roles(proxy).items()} == before
            assert_untouched(stranger)
        finally:
            stranger.kill()


@pytest.mark.drill
def test_a_stranger_that_is_too_busy_to_say_who_it_is(binary: ServerBinary, serve: Serve, tmp_path: Path) -> None:
    """It answers BUSY to whatever it is asked, also to who it is. It gets no request when its script is over."""
    busy = "local over = redis.call('TIME')[1] + 2 while redis.call('TIME')[1] + 0 < over do end return 1"
    with start_cluster(2, 0, binary=binary, node_timeout=1.0) as cluster:
        proxy = serve(config=quick(cluster.nodes[0], read_from="primary"))
        victim = cluster.nodes[1]
        victim.kill()
        stranger = ClusterStranger(cluster.binary, tmp_path, victim)
        try:
            stranger.start()
            stranger.own_all(3)
            stranger.ask("CONFIG", "SET", "lua-time-limit", 50)
            with Wire(stranger.address) as script, Wire(proxy.address) as client:
                script.send(pack("EVAL", busy, 0))
                client.send(pipeline(*[("SET", key, "ours") for key in KEYS]))
                assert script.reply() == b":1\r\n"
                written = client.replies(len(KEYS))
            assert OK in written
            assert {reply[:9] for reply in written if reply != OK} <= {
                b"-SHARDDOW",
                b"-CLUSTERD",
                b"-UNCERTAI",
                b"-BUSY Red",
            }
            assert_untouched(stranger)
        finally:
            stranger.kill()


def test_a_plain_server_at_a_replica_s_address(cluster: LocalCluster, serve: Serve, tmp_path: Path) -> None:
    proxy = serve(config=quick(cluster.nodes[0]))
    victim = cluster.nodes[3]
    until(lambda: victim.address in roles(proxy)["shard-1"][1])
    victim.kill()
    stranger = Stranger(cluster.binary, tmp_path, victim)
    try:
        stranger.start()
        _, wrong = use(proxy, A_WHILE)
        assert wrong == []
        assert_untouched(stranger)
        assert "is not in cluster mode" in proxy.log
    finally:
        stranger.kill()


@pytest.mark.parametrize("seeds", [drilled((3, 0, 1)), drilled((0, 3, 1)), (3, 0)])
def test_a_stranger_at_a_seed_s_address(
    cluster: LocalCluster, serve: Serve, tmp_path: Path, seeds: tuple[int, ...]
) -> None:
    """Also for a proxy that starts only now: the seeds that name each other count, and of as many on either side those
    whose cluster is the larger one."""
    victim = cluster.nodes[3]
    victim.kill()
    stranger = ClusterStranger(cluster.binary, tmp_path, victim)
    try:
        stranger.start()
        stranger.own_all(50)
        proxy = serve(config=quick(*(cluster.nodes[number] for number in seeds)))
        _, wrong = use(proxy, A_WHILE)
        assert wrong == []
        assert {primary for primary, _ in roles(proxy).values()} == {node.address for node in cluster.nodes[:3]}
        assert_untouched(stranger)
        assert proxy.log.count("the seeds do not belong to one cluster") == 1
    finally:
        stranger.kill()


@pytest.mark.drill
def test_a_cluster_that_is_set_up_anew_is_found_by_its_seeds(
    binary: ServerBinary, serve: Serve, tmp_path: Path
) -> None:
    with start_cluster(2, 0, binary=binary, node_timeout=1.0) as cluster:
        proxy = serve(config=quick(cluster.nodes[0]))
        for node in cluster.nodes:
            node.kill()
        stranger = ClusterStranger(binary, tmp_path, cluster.nodes[0])
        try:
            stranger.start()
            stranger.own_all(1)
            until(lambda: [primary for primary, _ in roles(proxy).values()] == [stranger.address])
            until(lambda: use(proxy, 0.3)[1] == [])
            assert stranger.ask("DBSIZE") == len(KEYS)
            assert proxy.log.count("no member of the cluster answers any more") == 1
        finally:
            stranger.kill()


@pytest.mark.drill
def test_a_replica_that_was_wiped_and_joined_again(own: LocalCluster, serve: Serve, tmp_path: Path) -> None:
    """Others list what it was as ``:0@0 slave,fail,noaddr`` until that is forgotten."""
    proxy = serve(config=quick(own.nodes[0]))
    primary, victim = own.nodes[0], own.nodes[3]
    until(lambda: victim.address in roles(proxy)["shard-1"][1])
    victim.kill()
    again = ClusterStranger(own.binary, tmp_path, victim, same_bus=True)
    try:
        again.start()
        until(lambda: any("noaddr" in seen.flags for seen in primary.known()))
        late = serve(config=quick(own.nodes[0]))
        for running in proxy, late:
            _, wrong = use(running, 3.0)
            assert wrong == []
            assert "can not be asked" not in running.log.replace(f"address={victim.address}", "")
        own.meet(again)
        own.replicate(again, primary)
        until(lambda: all(again.address in roles(running)["shard-1"][1] for running in (proxy, late)))
        until(lambda: use(proxy, 0.5)[1] == [] and "cmdstat_get" in again.info("commandstats"))
        # Slots still move, and the map with them.
        own.failover(again)
        until(lambda: roles(proxy)["shard-1"][0] == again.address)
        assert use(proxy, 1.0)[1] == []
    finally:
        again.kill()
