"""What a node says of its cluster: replies of real servers, and what could be in them."""

import hiredis
import pytest

from proxy.discovery.clusterview import NOTHING, NoView, read
from proxy.sharding.topology import Node
from tests.unit.discovery.cluster_views import RECORDED, recorded

ASKED = Node("seed", 7000)
IDS = {letter: letter * 40 for letter in "abcd"}


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\n" for text in texts).format(**IDS).encode()


ME = "{a} 10.0.0.1:7000@17000 myself,master - 0 0 5 connected"


@pytest.mark.parametrize("name", ["redis_7", "valkey_9", "redis_7_new", "valkey_9_new"])
@pytest.mark.parametrize("places", ["shards", "slots"])
def test_a_healthy_cluster(name: str, places: str) -> None:
    view = recorded(name, places)
    assert [segment[:2] for segment in view.chart] == [(0, 5460), (5461, 10922), (10923, 16383)]
    assert [segment[3] for segment in view.chart] == [1, 2, 3]
    assert view.members[view.me].node == Node("127.0.0.1", RECORDED[name]["asked"])
    owners = [segment[2] for segment in view.chart]
    assert view.me == owners[0 if name.endswith("new") else 1]
    followers = {member.primary: member for member in view.members.values() if member.primary}
    assert sorted(followers) == sorted(owners)
    assert len({member.node for member in view.members.values()}) == 6
    assert [followers[owner].epoch for owner in owners] == [1, 2, 3]
    assert not any(member.failed or member.suspect for member in view.members.values())
    # Redis 7.0 leaves a replica of a primary that was never written to out of CLUSTER SLOTS.
    assert all(member.online for member in followers.values()) == ((name, places) != ("redis_7_new", "slots"))


def test_the_order_of_epochs_and_of_slots_differ_in_nothing_else() -> None:
    assert recorded("redis_7").chart == recorded("redis_7", "slots").chart


@pytest.mark.parametrize("server", ["redis_7", "valkey_9"])
@pytest.mark.parametrize("places", ["shards", "slots"])
@pytest.mark.parametrize(
    ("scene", "named", "unnamed"),
    [("", "127.0.0.1", "127.0.0.1"), ("_hostname", "host-a", "127.0.0.1"), ("_unknown", "seed", "seed")],
)
def test_preferred_endpoints(server: str, places: str, scene: str, named: str, unnamed: str) -> None:
    view = recorded(f"{server}{scene}", places)
    first, second, _ = (view.members[segment[2]] for segment in view.chart)
    assert first.node is not None
    assert second.node is not None
    assert (first.node.host, second.node.host) == (named, unnamed)
    assert first.announced == ("127.0.0.1", "host-a", first.node.port)
    assert second.announced == ("127.0.0.1", "", second.node.port)


def test_a_server_without_cluster_shards() -> None:
    view = recorded("redis_6", "slots")
    assert [segment[:2] for segment in view.chart] == [(0, 5460), (5461, 10922), (10923, 16383)]
    assert all(member.node is not None and member.node.host == "127.0.0.1" for member in view.members.values())
    assert recorded("redis_6", "shards").chart == view.chart


def test_a_failover_as_a_node_sees_it_that_a_slot_was_on_the_way_to() -> None:
    """A node does not take notice of who has a slot that it imports itself, here 9000."""
    view = recorded("redis_7_failed_over")
    assert [segment[:2] for segment in view.chart] == [
        (0, 5460),
        (5461, 8999),
        (9000, 9000),
        (9001, 10922),
        (10923, 16383),
    ]
    promoted, dead = view.members[view.chart[1][2]], view.members[view.chart[2][2]]
    assert (promoted.epoch, dead.epoch) == (4, 2)
    assert (promoted.failed, dead.failed, dead.suspect) == (False, True, True)
    assert recorded("valkey_9_failed_over").chart[1][:2] == (5461, 10922)


@pytest.mark.parametrize("name", ["redis_7_lone", "valkey_9_lone"])
@pytest.mark.parametrize("places", ["shards", "slots"])
def test_a_node_that_has_met_nobody(name: str, places: str) -> None:
    view = recorded(name, places)
    assert view.chart == NOTHING
    assert view.members[view.me].node == Node("seed", RECORDED[name]["asked"])


def test_addresses_are_mapped() -> None:
    port = RECORDED["redis_7"]["asked"]
    view = recorded("redis_7", remap={f"127.0.0.1:{port}": "[::1]:7000", "127.0.0.1": "outside"})
    nodes = [member.node for member in view.members.values()]
    assert view.members[view.me].node == Node("::1", 7000)
    assert [other.host for other in nodes if other is not None].count("outside") == 5


def test_lines_of_every_kind() -> None:
    text = lines(
        "{a} ::1:7000@17000,host-a,shard-id=x myself,master - 0 0 5 connected 0 2-4 [9-<-{b}] 6",
        "{b} 10.0.0.2:7000@17000 master,fail? - 0 0 3 disconnected 7-16383 [9->-{a}]",
        "{c} 10.0.0.3:7000@17000 slave,fail {a} 0 0 5 disconnected",
        "{d} 10.0.0.4:7000@17000 handshake - 0 0 0 connected",
        "eeee :0@0 master,noaddr - 0 0 1 disconnected",
        "ffff 10.0.0.6:7000 slave {b} 0 0 3 connected",
    )
    view = read(ASKED, hiredis.ReplyError("NOPERM"), text, {})
    a, b, c = IDS["a"], IDS["b"], IDS["c"]
    assert view.chart == (
        (0, 0, a, 5),
        (1, 1, "", -1),
        (2, 4, a, 5),
        (5, 5, "", -1),
        (6, 6, a, 5),
        (7, 16383, b, 3),
    )
    assert list(view.members) == [a, b, c, "eeee", "ffff"]
    assert view.members[a].node == Node("::1", 7000)
    assert view.members[a].announced == ("::1", "host-a", 7000)
    assert (view.members[b].suspect, view.members[b].failed) == (True, False)
    assert (view.members[c].suspect, view.members[c].failed, view.members[c].primary) == (True, True, a)
    assert view.members["eeee"].node is None
    assert view.members["ffff"].node == Node("10.0.0.6", 7000)


def shards(*, ports: dict[bytes, int], endpoint: bytes | None = b"", health: bytes = b"online") -> list[object]:
    about = [item for pair in ports.items() for item in pair]
    fields = [b"id", IDS["a"].encode(), *about, b"ip", b"10.0.0.1", b"endpoint", endpoint, b"role", b"master"]
    return [[b"slots", [0, 16383], b"nodes", [[*fields, b"replication-offset", 7, b"health", health]]]]


@pytest.mark.parametrize(
    ("ports", "tls", "port"),
    [
        ({b"port": 1, b"tls-port": 2}, False, 1),
        ({b"port": 1, b"tls-port": 2}, True, 2),
        ({b"tls-port": 2}, True, 2),
        ({b"tls-port": 2}, False, 2),
        ({b"port": 1}, True, 1),
    ],
)
def test_ports(ports: dict[bytes, int], tls: bool, port: int) -> None:
    assert read(ASKED, shards(ports=ports), lines(ME), {}, tls).members[IDS["a"]].node == Node("seed", port)


@pytest.mark.parametrize(
    ("endpoint", "host"), [(None, "seed"), (b"", "seed"), (b"?", "10.0.0.1"), (b"x", "x"), (b"::1", "::1")]
)
def test_endpoints(endpoint: bytes | None, host: str) -> None:
    view = read(ASKED, shards(ports={b"port": 7000}, endpoint=endpoint), lines(ME), {})
    assert view.members[IDS["a"]].node == Node(host, 7000)


@pytest.mark.parametrize("health", [b"loading", b"fail"])
def test_who_is_not_online(health: bytes) -> None:
    view = read(ASKED, shards(ports={b"port": 7000}, health=health), lines(ME), {})
    assert not view.members[IDS["a"]].online


@pytest.mark.parametrize(
    ("reply", "words", "lone"),
    [
        (hiredis.ReplyError("ERR This instance has cluster support disabled"), "it is not in cluster mode", True),
        (hiredis.ReplyError("NOAUTH Authentication required."), "it asks for a password: set backend.password", False),
        (
            hiredis.ReplyError("NOPERM x"),
            r"grant \+cluster\|nodes, \+cluster\|shards, \+cluster\|slots: NOPERM x",
            False,
        ),
        (hiredis.ReplyError("LOADING x"), "it answers CLUSTER NODES with: LOADING x", False),
        (lines("{a} x"), "in an unknown form: CLUSTER NODES, node 'a{40}': its line has 2 fields", False),
        (
            lines("{b} 10.0.0.2:7000@1 master - 0 0 3 connected"),
            "in an unknown form: it does not tell which of the nodes it is",
            False,
        ),
        (b"", "in an unknown form", False),
        (5, "in an unknown form", False),
    ],
)
def test_what_is_no_view(reply: object, words: str, lone: bool) -> None:
    with pytest.raises(NoView, match=words) as caught:
        read(ASKED, [], reply, {})
    assert caught.value.lone == lone
