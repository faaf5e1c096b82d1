"""A real cluster behind the proxy: its shards are found and followed, and said to be what they are."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.devservers import cluster as localcluster
from proxy.devservers.cluster import ClusterNode, LocalCluster, start_cluster
from proxy.devservers.servers import LocalServer, ServerBinary, free_port
from proxy.sharding.slots import key_slot
from tests.support.certificates import Authority, speaks_tls
from tests.support.clusters import move_slot, restored
from tests.support.drilled import drilled
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
QUICK = '[topology]\nkind = "cluster"\nrefresh = "1s"\n'


@pytest.fixture(scope="module")
def standing(binary: ServerBinary) -> Iterator[LocalCluster]:
    """Three primaries with a replica each."""
    with start_cluster(3, 1, binary=binary, node_timeout=1.0) as cluster:
        yield cluster


@pytest.fixture
def cluster(standing: LocalCluster) -> LocalCluster:
    """The same, all nodes running and in agreement, whoever is a primary now."""
    return restored(standing)


def until(happened: Callable[[], bool], timeout: float = 10.0) -> None:
    assert eventually(happened, timeout)


def primaries(proxy: ProxyProcess) -> dict[str, str]:
    """The address of each shard's primary by its name."""
    return {
        shard["name"]: node["address"]
        for shard in proxy.topology()
        for node in shard["nodes"]
        if node["role"] == "primary"
    }


def replicas(proxy: ProxyProcess, name: str) -> set[str]:
    (shard,) = [shard for shard in proxy.topology() if shard["name"] == name]
    return {node["address"] for node in shard["nodes"] if node["role"] == "replica"}


def slots(proxy: ProxyProcess) -> dict[str, list[list[int]]]:
    return {shard["name"]: shard["slots"] for shard in proxy.topology()}


def test_the_shards_are_found(cluster: LocalCluster, serve: Serve) -> None:
    proxy = serve("--cluster", cluster.nodes[-1].address)
    nodes = cluster.primaries()
    assert primaries(proxy) == {f"shard-{number}": node.address for number, node in enumerate(nodes, 1)}
    assert slots(proxy) == {
        "shard-1": [[0, 5460]],
        "shard-2": [[5461, 10922]],
        "shard-3": [[10923, 16383]],
    }
    for number, node in enumerate(nodes, 1):
        assert replicas(proxy, f"shard-{number}") == {replica.address for replica in cluster.replicas_of(node)}
    with Wire(proxy.address) as client:
        for number in range(50):
            assert client.ask("SET", f"key:{number}", number) == OK
        assert client.value("MGET", *(f"key:{number}" for number in range(50))) == [
            str(number).encode() for number in range(50)
        ]
        assert client.value("DBSIZE") == 50
        client.ask("FLUSHALL")
    metrics = proxy.http("/metrics")[1]
    assert 'slotgate_topology_refreshes_total{outcome="changed"} 1.0' in metrics
    assert "slotgate_shards 3.0" in metrics


def test_a_planned_failover_is_followed(cluster: LocalCluster, serve: Serve) -> None:
    proxy = serve("--cluster", cluster.seeds)
    before = primaries(proxy)
    first = cluster.primaries()[0]
    replica = cluster.replicas_of(first)[0]
    cluster.failover(replica)
    with Wire(proxy.address) as client:
        # A redirection makes the proxy look; it is one of the first shard's keys.
        until(lambda: client.ask("SET", "{06S}", "x") == OK and primaries(proxy)["shard-1"] == replica.address)
    assert primaries(proxy) == {**before, "shard-1": replica.address}
    assert f"failover shard=shard-1 primary={replica.address} was={first.address}" in proxy.log


def test_a_primary_that_dies_is_replaced(cluster: LocalCluster, serve: Serve) -> None:
    proxy = serve("--cluster", cluster.seeds)
    dying = cluster.primaries()[1]
    replica = cluster.replicas_of(dying)[0]
    dying.kill()
    until(lambda: primaries(proxy)["shard-2"] == replica.address, 15.0)
    until(lambda: proxy.http("/readyz?all")[0] == 200)
    assert set(primaries(proxy)) == {"shard-1", "shard-2", "shard-3"}
    assert replicas(proxy, "shard-2") == set()


@pytest.mark.drill
def test_a_replica_that_dies_and_comes_back(cluster: LocalCluster, serve: Serve) -> None:
    proxy = serve(config=QUICK + f'[cluster]\nseeds = ["{cluster.nodes[0].address}"]\n')
    third = cluster.primaries()[2]
    replica = cluster.replicas_of(third)[0]
    until(lambda: replicas(proxy, "shard-3") == {replica.address}, 15.0)
    replica.kill()
    until(lambda: replicas(proxy, "shard-3") == set(), 15.0)
    replica.start()
    until(lambda: replicas(proxy, "shard-3") == {replica.address}, 15.0)


def test_slots_that_move_and_a_node_that_comes_and_goes(binary: ServerBinary, serve: Serve) -> None:
    # Else a node that gives its last slot away follows who got it.
    options = ["cluster-allow-replica-migration no"]
    with start_cluster(2, 0, binary=binary, options=options) as cluster:
        first, second = cluster.nodes
        proxy = serve(config=QUICK + f'[cluster]\nseeds = ["{first.address}"]\n')
        added = cluster.add_node()
        for slot in range(20):
            move_slot(slot, first, added)
        for slot in range(16380, 16384):
            move_slot(slot, second, added)
        until(lambda: slots(proxy).get("shard-3") == [[0, 19], [16380, 16383]])
        assert slots(proxy)["shard-1"] == [[20, 8191]]
        assert primaries(proxy)["shard-3"] == added.address
        for slot in range(20):
            move_slot(slot, added, second)
        for slot in range(16380, 16384):
            move_slot(slot, added, second)
        until(lambda: len(slots(proxy)) == 2)
        assert slots(proxy)["shard-2"] == [[0, 19], [8192, 16383]]
        identity = added.id
        for node in (first, second):
            node.ask("CLUSTER", "FORGET", identity)
        added.kill()
        with Wire(proxy.address) as client:
            for number in range(50):
                assert client.ask("SET", f"key:{number}", number) == OK
        assert "shard removed shard=shard-3" in proxy.log
        assert "slots moved" in proxy.log


@pytest.mark.drill
def test_the_proxy_starts_before_the_cluster(binary: ServerBinary, serve: Serve) -> None:
    with start_cluster(2, 0, binary=binary, node_timeout=1.0) as cluster:
        for node in cluster.nodes:
            node.kill()
        proxy = serve("--cluster", cluster.seeds, ready=False)
        status, words = proxy.http("/readyz?all")
        assert (status, "no shard serves the slots 0-16383" in words) == (503, True)
        until(lambda: "no node of the cluster can be asked" in proxy.log)
        for node in cluster.nodes:
            node.start()
        until(lambda: proxy.http("/readyz?all")[0] == 200)
        assert len(re.findall("no node of the cluster can be asked", proxy.log)) == 1
        with Wire(proxy.address) as client:
            assert client.ask("SET", "key", "value") == OK


def test_an_incomplete_cluster(binary: ServerBinary, serve: Serve) -> None:
    with start_cluster(2, 0, binary=binary, options=["cluster-require-full-coverage no"]) as cluster:
        first = cluster.nodes[0]
        for node in cluster.nodes:
            node.ask("CLUSTER", "DELSLOTS", *range(100))
        proxy = serve("--cluster", cluster.seeds, ready=False, config='[backend]\nretry_deadline = "10ms"\n')
        until(lambda: "no shard serves the slots 0-99" in proxy.http("/readyz?all")[1])
        assert "the cluster is incomplete: no node that can be reached serves the slots 0-99" in proxy.log
        key = next(key for key in map(str, range(10000)) if key_slot(key.encode()) < 100)
        with Wire(proxy.address) as client:
            assert client.ask("SET", key, 1).startswith(b"-CLUSTERDOWN")
            assert client.ask("WAIT", 0, 100) == b":0\r\n"  # though it wrote to no shard that there is
        first.ask("CLUSTER", "ADDSLOTS", *range(100))
        until(lambda: proxy.http("/readyz?all")[0] == 200)
        assert slots(proxy) == {"shard-1": [[0, 8191]], "shard-2": [[8192, 16383]]}


@pytest.mark.drill
def test_passwords(binary: ServerBinary, serve: Serve) -> None:
    config = '[topology]\nkind = "cluster"\n[cluster]\nseeds = "{}"\n[backend]\npassword = "{}"\n'
    with start_cluster(2, 0, binary=binary, password="secret") as cluster:
        seed = cluster.nodes[0].address
        proxy = serve(config=config.format(seed, "secret"))
        assert len(proxy.topology()) == 2
        refused = serve(config=config.format(seed, "wrong"), ready=False)
        until(lambda: "the server refuses the proxy's AUTH" in refused.log)
        silent = serve("--cluster", seed, ready=False)
        until(lambda: "it asks for a password: set backend.password" in silent.log)


def test_a_server_without_cluster_mode(binary: ServerBinary, serve: Serve, tmp_path: Path) -> None:
    server = LocalServer(binary, tmp_path)
    try:
        server.start()
        proxy = serve("--cluster", server.address, ready=False)
        until(lambda: "is not a node of a cluster: it is not in cluster mode" in proxy.log)
    finally:
        server.kill()


@pytest.mark.parametrize("kind", [drilled("hostname"), "unknown-endpoint"])
def test_preferred_endpoints(binary: ServerBinary, serve: Serve, kind: str) -> None:
    options = [f"cluster-preferred-endpoint-type {kind}", "cluster-announce-hostname localhost"]
    with start_cluster(2, 0, binary=binary, options=options) as cluster:
        seed = cluster.nodes[0].address.replace("127.0.0.1", "localhost" if kind == "unknown-endpoint" else "127.0.0.1")
        proxy = serve("--cluster", seed)
        assert set(primaries(proxy).values()) == {f"localhost:{node.port}" for node in cluster.nodes}
        with Wire(proxy.address) as client:
            for number in range(50):
                assert client.ask("SET", f"key:{number}", number) == OK


def test_addresses_are_mapped(cluster: LocalCluster, serve: Serve) -> None:
    mapped = QUICK + 'remap = { "127.0.0.1" = "localhost" }\n'
    proxy = serve(config=mapped + f'[cluster]\nseeds = ["{cluster.nodes[0].address}"]\n')
    assert set(primaries(proxy).values()) == {f"localhost:{node.port}" for node in cluster.primaries()}


@pytest.mark.parametrize("databases", [1, 4])
def test_select_is_answered_as_by_a_node(binary: ServerBinary, serve: Serve, databases: int) -> None:
    if databases > 1 and binary.kind == "redis":
        pytest.skip("Redis has one database in cluster mode")
    options = [f"cluster-databases {databases}"] if databases > 1 else []
    with start_cluster(2, 0, binary=binary, options=options) as cluster:
        proxy = serve("--cluster", cluster.seeds)
        with Wire(proxy.address) as client, Wire(cluster.nodes[0].address) as node:
            for db in "0", "1", "3", "4", "16", "-1", "x", "99999999999":
                assert client.ask("SELECT", db) == node.ask("SELECT", db)
            if databases > 1:
                assert client.ask("SELECT", "3") == OK
                assert client.ask("SET", "key", "of 3") == OK
                assert client.ask("SELECT", "0") == OK
                assert client.value("GET", "key") is None


class TlsNode(ClusterNode):
    """A node that speaks TLS to clients, at a port of its own, and to the other nodes."""

    def _configuration(self) -> Iterator[str]:
        yield from super()._configuration()
        self.tls_port = free_port()
        yield f"tls-port {self.tls_port}"


def test_tls(binary: ServerBinary, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speaks_tls(binary)
    authority = Authority(tmp_path / "papers")
    server = authority.sign("server")
    options = [
        f"tls-cert-file {server.certificate}",
        f"tls-key-file {server.key}",
        f"tls-ca-cert-file {authority.pair.certificate}",
        "tls-auth-clients no",
        "tls-cluster yes",
        "tls-replication yes",
    ]
    monkeypatch.setattr(localcluster, "ClusterNode", TlsNode)
    with start_cluster(2, 1, binary=binary, options=options) as cluster:
        ports = [node.tls_port for node in cluster.nodes if isinstance(node, TlsNode)]
        config = f"""
            [topology]
            kind = "cluster"
            [cluster]
            seeds = "127.0.0.1:{ports[0]}"
            [backend]
            tls = true
            tls_ca_file = "{authority.pair.certificate}"
        """
        proxy = serve(config=config)
        assert set(primaries(proxy).values()) == {f"127.0.0.1:{port}" for port in ports[:2]}
        until(lambda: replicas(proxy, "shard-2") == {f"127.0.0.1:{ports[3]}"}, 15.0)
        with Wire(proxy.address) as client:
            for number in range(50):
                assert client.ask("SET", f"key:{number}", number) == OK
