"""CLUSTER's reads as a proxy answers them that passes for a cluster, in the shape of Redis 7.0.15's answers."""

import pytest

from proxy.session.listener import Listener
from proxy.session.virtual_cluster import AdvertisedNode, Presented
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import NOBODY, Node, Shard, Topology
from tests.support.sessions import Room, say

OWN = AdvertisedNode("127.0.0.1", 6380, [(0, 16383)])
TOPOLOGY = Topology.static([Shard("a", Node("a", 1)), Shard("b", Node("b", 1))])


def room(*advertised: tuple[str, int], topology: Topology = TOPOLOGY) -> Room:
    return Room(listener=Listener(presented=Presented(advertised, [("10.0.0.9", 6380)], lambda: topology)))


def test_one_address_owns_all_slots() -> None:
    session = room().enter()
    ident = OWN.id.encode()
    assert say(session, "CLUSTER", "SLOTS") == (
        b"*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$9\r\n127.0.0.1\r\n:6380\r\n$40\r\n%b\r\n*0\r\n" % ident
    )
    assert say(session, "CLUSTER", "SHARDS") == (
        b"*1\r\n*4\r\n$5\r\nslots\r\n*2\r\n:0\r\n:16383\r\n$5\r\nnodes\r\n*1\r\n*14\r\n$2\r\nid\r\n$40\r\n%b\r\n"
        b"$4\r\nport\r\n:6380\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$8\r\nendpoint\r\n$9\r\n127.0.0.1\r\n"
        b"$4\r\nrole\r\n$6\r\nmaster\r\n$18\r\nreplication-offset\r\n:0\r\n$6\r\nhealth\r\n$6\r\nonline\r\n" % ident
    )
    line = b"%b 127.0.0.1:6380@16380 myself,master - 0 0 1 connected 0-16383\n" % ident
    assert say(session, "CLUSTER", "NODES") == b"$%d\r\n%b\r\n" % (len(line), line)
    assert say(session, "CLUSTER", "MYID") == b"$40\r\n%b\r\n" % ident
    assert say(session, "CLUSTER", "LINKS") == b"*0\r\n"
    assert say(session, "CLUSTER", "REPLICAS", OWN.id) == b"*0\r\n"
    assert say(session, "CLUSTER", "COUNT-FAILURE-REPORTS", OWN.id) == b":0\r\n"
    assert say(session, "CLUSTER", "REPLICAS", "abc") == b"-ERR Unknown node abc\r\n"
    assert say(session, "CLUSTER", "COUNT-FAILURE-REPORTS", "abc") == b"-ERR Unknown node abc\r\n"
    assert say(session, "CLUSTER", "KEYSLOT", "foo") == b":12182\r\n"
    assert say(session, "CLUSTER", "SLOT-STATS", "SLOTSRANGE", "0", "1").startswith(
        b"-ERR 'cluster|slot-stats' is refused"
    )


def test_in_resp3_maps_are_maps() -> None:
    session = room().enter()
    say(session, "HELLO", "3")
    assert say(session, "CLUSTER", "SLOTS").endswith(b"%0\r\n")
    assert say(session, "CLUSTER", "SHARDS").startswith(b"*1\r\n%2\r\n$5\r\nslots\r\n*2\r\n")
    assert say(session, "CLUSTER", "INFO").startswith(
        b"=316\r\ntxt:cluster_state:ok\r\ncluster_slots_assigned:16384\r\n"
    )
    assert say(session, "CLUSTER", "NODES").startswith(b"=106\r\ntxt:")


ADVERTISED = [("a.example", 7000), ("127.0.0.1", 6380), ("c.example", 7002)]


def shown(*advertised: tuple[str, int]) -> Presented:
    return Presented(advertised, [("0.0.0.0", 6380)], lambda: TOPOLOGY)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_several_addresses_divide_the_slots(order: tuple[int, ...]) -> None:
    """In an order of their own, whatever the order in which they are written."""
    session = room(*(ADVERTISED[at] for at in order)).enter()
    text = say(session, "CLUSTER", "NODES").decode()
    lines = text.splitlines()[1:-1]
    assert [line.split()[1:3] for line in lines] == [
        ["a.example:7000@17000", "master"],
        ["c.example:7002@17002", "master"],
        ["127.0.0.1:6380@16380", "myself,master"],
    ]
    assert [line.split()[-1] for line in lines] == ["0-5460", "5461-10922", "10923-16383"]
    assert b"cluster_known_nodes:3\r\ncluster_size:3\r\n" in say(session, "CLUSTER", "INFO")


def test_who_does_not_answer_owns_nothing() -> None:
    session = room(*ADVERTISED).enter()
    presented = session.listener.presented
    assert presented is not None
    presented.silent.update(ADVERTISED[:2])  # it itself answers, whatever it thinks of itself
    lines = say(session, "CLUSTER", "NODES").decode().splitlines()[1:-1]
    assert [line.split()[2:] for line in lines] == [
        ["master,fail", "-", "0", "0", "1", "disconnected"],
        ["master", "-", "0", "0", "1", "connected", "0-8191"],
        ["myself,master", "-", "0", "0", "1", "connected", "8192-16383"],
    ]
    assert say(session, "CLUSTER", "SLOTS").count(b"example") == 1
    assert say(session, "CLUSTER", "SHARDS").count(b"$6\r\nhealth\r\n$4\r\nfail\r\n") == 1
    assert b"cluster_known_nodes:3\r\ncluster_size:2\r\n" in say(session, "CLUSTER", "INFO")
    # Who is none of them, and finds nobody, has no reason to name only some.
    presented.silent.update(ADVERTISED)
    assert [bool(member.slots) for member in presented.members("127.0.0.1:6380")] == [False, False, True]
    elsewhere = Presented(ADVERTISED, [("10.9.9.9", 1)], lambda: TOPOLOGY, set(ADVERTISED))
    assert [bool(member.slots) for member in elsewhere.members("10.9.9.9:1")] == [True] * 3


def test_each_counts_the_keys_of_some_shards() -> None:
    """Together all, each once."""
    for count in (2, 3):
        advertised = [(f"10.0.0.{number}", 6380) for number in range(count)]
        shares = [shown(*advertised).share(f"{host}:{port}") for host, port in advertised]
        assert sorted(shard for share in shares for shard in share or ()) == [0, 1]
        assert None not in shares
    named = shown(("a", 6380), ("b", 6380))
    assert named.share("10.0.0.1:6380") is None  # it may be either
    named.found["b", 6380] = ("10.0.0.1", 6380)
    assert named.share("10.0.0.1:6380") is not None
    assert named.myself("10.0.0.1:6380").host == "b"
    assert shown(("10.0.0.1", 6380)).share("10.0.0.1:6380") is None


@pytest.mark.parametrize(("listening", "host"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.9", "10.0.0.9")])
def test_over_a_unix_socket_a_host_is_shown_that_can_be_reached(listening: str, host: str) -> None:
    presented = Presented([], [(listening, 6380)], lambda: TOPOLOGY)
    (member,) = presented.members("/run/slotgate.sock:0")
    assert member.address == (host, 6380)


@pytest.mark.parametrize(
    ("local", "shown"),
    [
        ("10.1.2.3:6380", ("10.1.2.3", 6380)),
        ("[::1]:6380", ("::1", 6380)),
        ("[::ffff:10.1.2.3]:6380", ("10.1.2.3", 6380)),
        ("/run/slotgate.sock:0", ("10.0.0.9", 6380)),
    ],
)
def test_a_client_sees_the_address_that_it_connected_to(local: str, shown: tuple[str, int]) -> None:
    presented = Presented([], [("10.0.0.9", 6380)], lambda: TOPOLOGY)
    (member,) = presented.members(local)
    assert (member.host, member.port) == shown
    assert presented.myself(local) == member


def test_who_is_none_of_the_advertised_is_the_first() -> None:
    presented = Presented([("a", 1), ("b", 2)], [("c", 3)], lambda: TOPOLOGY)
    assert presented.myself("10.0.0.1:6380") == presented.members("10.0.0.1:6380")[0]


def test_ids_are_stable_and_differ() -> None:
    assert OWN.id == AdvertisedNode("127.0.0.1", 6380, []).id
    assert len({OWN.id, OWN.shard_id, AdvertisedNode("127.0.0.1", 6381, []).id}) == 3


def test_slots_that_nobody_serves() -> None:
    owners = (NOBODY,) * 10 + TOPOLOGY.slot_shard[10:]
    session = room(topology=Topology(2, TOPOLOGY.shards, owners, cluster=True, fixed=False)).enter()
    info = say(session, "CLUSTER", "INFO")
    assert b"cluster_state:fail\r\ncluster_slots_assigned:%d\r\n" % (SLOTS - 10) in info


def test_what_else_a_cluster_says() -> None:
    session = room().enter()
    assert b"$4\r\nmode\r\n$7\r\ncluster\r\n" in say(session, "HELLO")
    assert say(session, "READONLY") == b"+OK\r\n"
    assert session.reads_replicas
    assert say(session, "READWRITE") == b"+OK\r\n"
    assert not session.reads_replicas
    assert say(session, "READONLY") == b"+OK\r\n"
    say(session, "RESET")
    assert not session.reads_replicas
    assert say(session, "ASKING") == b"+OK\r\n"
