"""The clusters and sentinels that other tests stand on: they come about, fail over, take nodes, and leave nothing."""

import pytest

from proxy.devservers.cluster import SeenNode, start_cluster
from proxy.devservers.sentinel import start_watched
from proxy.devservers.servers import ServerBinary, start_many
from proxy.errors import SlotgateError
from tests.support.processes import runs

pytestmark = pytest.mark.live


@pytest.mark.drill
def test_a_cluster_fails_over_grows_and_leaves_nothing(binary: ServerBinary) -> None:
    with start_cluster(3, 1, binary=binary, password='a "b', node_timeout=1.0) as cluster:
        first, second, third, replica, *_ = cluster.nodes
        assert cluster.primaries() == [first, second, third]
        assert cluster.replicas_of(first) == [replica]
        assert [seen.slots for seen in first.known() if seen.id == first.id] == [("0-5460",)]
        assert cluster.seeds.count(",") == 5
        cluster.failover(replica)
        cluster.wait_ok()
        assert cluster.primaries() == [replica, second, third]
        added = cluster.add_node(replica)
        assert set(cluster.replicas_of(replica)) == {first, added}
        replica.kill()
        with pytest.raises(SlotgateError, match="not complete"):
            cluster.wait_ok(0.2)
        cluster.wait_ok()
        assert cluster.primaries()[0] in (first, added)
        pids = [node.pid for node in cluster.running]
        assert len(pids) == 6
    assert not cluster.directory.exists()
    assert not any(runs(pid) for pid in pids)


def test_a_restarted_node_finds_its_cluster(binary: ServerBinary) -> None:
    with start_cluster(1, 1, binary=binary) as cluster:
        primary, replica = cluster.nodes
        primary.ask("SET", "key", "value")
        replica.kill()
        replica.start()
        cluster.wait_ok()
        assert cluster.replicas_of(primary) == [replica]
        assert replica.info("keyspace")["db0"].startswith("keys=1,")


def test_a_cluster_that_can_not_come_about_says_why(binary: ServerBinary) -> None:
    with pytest.raises(SlotgateError, match="not complete after 0 s"), start_cluster(3, 0, binary=binary, timeout=0):
        pass


@pytest.mark.parametrize(
    ("line", "sound"),
    [
        ("aa 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5 7 [93->-bb]", True),
        ("aa 127.0.0.1:1@2,host.name slave bb 0 0 1 connected", True),
        ("aa 127.0.0.1:1@2 master,fail - 0 0 1 disconnected 0-5", False),
        ("aa 127.0.0.1:1@2 master,fail? - 0 0 1 connected 0-5", False),
        ("aa 127.0.0.1:1@2 handshake - 0 0 0 connected", False),
        ("aa :1@2 myself,master - 0 0 0 connected 0-16383", True),
    ],
)
def test_a_line_of_cluster_nodes(line: str, sound: bool) -> None:
    seen = SeenNode.parse(line, "127.0.0.1")
    assert (seen.id, seen.address, seen.sound) == ("aa", "127.0.0.1:1", sound)
    assert seen.slots == tuple(line.split()[8:])
    assert seen.primary == ("bb" if "slave" in seen.flags else "")


@pytest.mark.drill
def test_sentinels_fail_over_and_leave_nothing(binary: ServerBinary) -> None:
    with start_watched(
        2, 1, binary=binary, names=("a", "b"), password="x", sentinel_password='y "z', down_after=1.0
    ) as watched:
        assert watched.masters == "a,b"
        assert watched.sentinel_addresses.count(",") == 2
        (a, a_replica), (b, b_replica) = watched.groups
        assert watched.primary("a") is a
        assert watched.replicas("a") == [a_replica]
        assert watched.failover("a") is a_replica
        a.wait_link_up()
        b.kill()
        assert watched.wait_switched("b", b) is b_replica
        watched.sentinels[0].kill()
        assert watched.primary("b") is b_replica
        pids = [server.pid for server in (a, a_replica, b_replica, *watched.sentinels[1:])]
    assert not watched.directory.exists()
    assert not any(runs(pid) for pid in pids)


@pytest.mark.drill
def test_servers_and_sentinels_keep_what_they_learned_over_a_restart(binary: ServerBinary) -> None:
    with start_watched(1, 1, binary=binary) as watched:
        old, new = watched.groups[0]
        watched.failover("shard-1")
        old.wait_link_up()
        old.stop()
        old.start()
        old.wait_link_up()
        assert old.info("replication")["master_port"] == str(new.port)
        sentinel = watched.sentinels[0]
        sentinel.stop()
        sentinel.start()
        assert sentinel.primary_of("shard-1") == new.address
        assert sentinel.primary_of("nobody") is None


def test_a_plain_server_starts_as_it_was_told(binary: ServerBinary) -> None:
    with start_many(1, 1, binary=binary) as shards:
        replica = shards.replicas[0][0]
        replica.ask("REPLICAOF", "NO", "ONE")
        replica.ask("CONFIG", "REWRITE")
        replica.stop()
        replica.start()
        replica.wait_link_up()
