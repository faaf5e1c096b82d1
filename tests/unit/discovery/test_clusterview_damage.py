"""One odd part in what a node says of its cluster: it is passed over, and what is whole comes out as it was."""

from bisect import bisect_left
from collections.abc import Iterator
from random import Random

import hiredis
import pytest

from proxy.discovery.clustermap import ClusterMap, judge
from proxy.discovery.clusterview import UNREAD, SlotOwners, View, read
from proxy.sharding.topology import Node
from tests.unit.discovery.cluster_views import RECORDED, decoded, recorded
from tests.unit.discovery.damage import damaged, damaged_line

ROUNDS = 100
SCENES = ("redis_6", "redis_7", "redis_7_new", "redis_7_hostname", "redis_8", "valkey_9", "valkey_9_unknown")
WIPED = ("redis_6_wiped", "redis_7_wiped", "redis_8_wiped", "valkey_9_wiped")
ME = "{a} 10.0.0.1:7000@17000 myself,master - 0 0 5 connected"
ASKED = Node("seed", 7000)
IDS = {letter: letter * 40 for letter in "abc"}


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\n" for text in texts).format(**IDS).encode()


def owners(chart: SlotOwners, other: SlotOwners) -> list[str]:
    """Who has the first slot of each range of either."""
    ends = [last for _, last, _, _ in chart]
    return [chart[bisect_left(ends, slot)][2] for slot in sorted({first for first, *_ in (*chart, *other)})]


def me_of(name: str) -> bytes:
    return recorded(name).me.encode()


def nodes_of(name: str) -> list[str]:
    text = decoded(RECORDED[name]["nodes"])
    assert isinstance(text, bytes)
    return text.decode().splitlines()


def views(name: str) -> Iterator[tuple[View, set[str]]]:
    """Views with one odd line, and the ids of the lines that are whole."""
    whole = nodes_of(name)
    for seed in range(ROUNDS):
        rng = Random(f"{name} {seed}")
        text = [*whole]
        at = rng.randrange(len(text))
        text[at] = damaged_line(rng, text[at])
        scene = RECORDED[name]
        shards = decoded(scene[rng.choice(("shards", "slots"))])
        view = read(Node("seed", scene["asked"]), shards, "\n".join(text).encode(), {}, myid=me_of(name))
        yield view, {line.split()[0] for number, line in enumerate(whole) if number != at}


@pytest.mark.parametrize("name", SCENES + WIPED)
def test_a_line_of_cluster_nodes(name: str) -> None:
    reference = recorded(name)
    known = judge(ClusterMap(), [reference]).map
    noted = 0
    for view, whole in views(name):
        noted += bool(view.odd)
        assert view.me == reference.me
        for identity in whole:
            member = reference.members[identity]
            # CLUSTER SLOTS says otherwise than SHARDS who is ready.
            assert view.members[identity].node == member.node
            assert view.members[identity].primary == member.primary
            assert view.members[identity].epoch == member.epoch
        pairs = zip(owners(view.chart, reference.chart), owners(reference.chart, view.chart), strict=True)
        for told, before in pairs:
            assert told in (before, UNREAD) if before in whole else told not in whole
        after = judge(known, [view]).map
        assert owners(after.chart, known.chart) == owners(known.chart, after.chart)
        assert whole | known.names.keys() <= after.members.keys()
    assert noted > ROUNDS / 10


@pytest.mark.parametrize("places", ["shards", "slots"])
@pytest.mark.parametrize("name", SCENES + WIPED)
def test_an_entry_of_cluster_shards_or_slots(name: str, places: str) -> None:
    scene = RECORDED[name]
    reference = recorded(name, places)
    reply = decoded(scene[places])
    if isinstance(reply, Exception):
        pytest.skip("it does not know CLUSTER SHARDS")
    assert isinstance(reply, list)
    for seed in range(ROUNDS):
        rng = Random(f"{name} {places} {seed}")
        at = rng.randrange(len(reply))
        broken = [*reply]
        broken[at] = damaged(rng, broken[at])
        view = read(Node("seed", scene["asked"]), broken, decoded(scene["nodes"]), {}, myid=me_of(name))
        assert view.chart == reference.chart
        assert view.members.keys() == reference.members.keys()
        for identity, member in reference.members.items():
            if identity not in str(reply[at]):
                assert view.members[identity].node == member.node
                assert view.members[identity].online or not member.online
    for nothing in (5, [], [5], b"x", None, [[b"slots"]], [[b"slots", [], b"nodes", [[b"id"]]]], [[0, 1, [b"x"]]]):
        view = read(Node("seed", scene["asked"]), nothing, decoded(scene["nodes"]), {})
        assert view.chart == reference.chart


@pytest.mark.parametrize("places", ["shards", "slots"])
@pytest.mark.parametrize("name", WIPED)
def test_a_member_without_an_address(name: str, places: str) -> None:
    """As recorded: a replica that came back under another id."""
    view = recorded(name, places)
    assert [segment[:2] for segment in view.chart] == [(0, 5460), (5461, 10922), (10923, 16383)]
    assert [member.node for member in view.members.values()].count(None) == 1
    assert view.odd == ()


@pytest.mark.parametrize(
    ("line", "slots"),
    [
        (ME + " 0-9 word", (0, 9)),
        (ME + " word 0-9", (0, 9)),
        (ME + " 0-9 16384", (0, 9)),
        (ME + " 0-9 12-11", (0, 9)),
        (ME + " 0-9 7 [11->-{b}] [x", (0, 9)),
        (ME.replace("@17000", "@17000,host,aux=1,more=2,,") + " 0-9", (0, 9)),
        (ME.replace("myself", "myself,unheard-of") + " 0-9", (0, 9)),
        (ME.replace(":7000@17000", ":x") + " 0-9", (0, 9)),
    ],
)
def test_an_unknown_word(line: str, slots: tuple[int, int]) -> None:
    view = read(ASKED, [], lines(line, "{b} 10.0.0.2:7000@1 slave {a} 0 0 5 connected word"), {})
    assert view.chart[0] == (*slots, IDS["a"], 5)
    assert view.members[IDS["b"]].primary == IDS["a"]


def test_slots_of_nobody_are_left_open_where_a_line_is_passed_over() -> None:
    whole = lines(ME + " 0-9", "{b} 10.0.0.2:7000@1 master - 0 0 3 connected 10-19")
    known = judge(ClusterMap(), [read(ASKED, [], whole, {})]).map
    view = read(ASKED, [], lines(ME + " 0-9", "{b} 10.0.0.2:7000@1 master - 0 0 three connected 10-19"), {})
    assert view.chart == ((0, 9, IDS["a"], 5), (10, 16383, UNREAD, -1))
    assert view.unread == {IDS["b"]}
    found = judge(known, [view])
    assert found.map == known
    assert (found.doubted, found.witnesses) == ((), ())


@pytest.mark.parametrize("epochs", [(5, 3), (3, 5), (4, 4)])
def test_a_slot_that_two_nodes_have_is_left_open(epochs: tuple[int, int]) -> None:
    """A node has one owner of each slot: an answer with two is broken, and says nothing of that slot."""
    one, other = epochs
    view = read(
        ASKED,
        [],
        lines(
            f"{{a}} 10.0.0.1:7000@1 myself,master - 0 0 {one} connected 0-9",
            f"{{b}} 10.0.0.2:7000@1 master - 0 0 {other} connected 8-16383",
        ),
        {},
    )
    assert view.chart == ((0, 7, IDS["a"], one), (8, 9, UNREAD, -1), (10, 16383, IDS["b"], other))
    assert view.odd == ("CLUSTER NODES: two nodes have slot 8",)


def test_who_says_it_is_told_by_its_id_where_its_line_is_odd() -> None:
    other = "{b} 10.0.0.2:7000@1 master - 0 0 3 connected 10-19"
    assert read(ASKED, [], lines("{a} 10.0.0.1:7000@1 myself,master", other), {}).me == IDS["a"]
    garbled = lines("{a} 10.0.0.1:7000@1 mys,master - 0 0 5 connected", other)
    assert read(ASKED, [], garbled, {}, myid=IDS["a"].encode()).me == IDS["a"]
    refused = hiredis.ReplyError("NOPERM")
    assert read(ASKED, [], lines(ME, other), {}, myid=refused).me == IDS["a"]


def test_a_shard_entry_without_health() -> None:
    fields = [b"id", IDS["a"].encode(), b"port", 7000, b"ip", b"10.0.0.1", b"endpoint", b"10.0.0.1"]
    view = read(ASKED, [[b"slots", [0, 9], b"nodes", [fields]]], lines(ME), {})
    assert view.members[IDS["a"]].online
    assert view.odd == ()


def test_notes_do_not_change_from_look_to_look_nor_grow_without_bound() -> None:
    odd = [f"{number:040x} 10.0.0.3:7000@1 slave {{a}} %d %d x connected" for number in range(1000)]
    found = [read(ASKED, [], lines(ME, *(line % (now, now) for line in odd)), {}).odd for now in (1, 2)]
    assert found[0] == found[1]
    assert len(found[0]) < 50
