"""What becomes of the commands of modules, by what COMMAND tells of them and by the table of overrides."""

import pytest

from proxy import errors
from proxy.commands.facts import Handling
from proxy.commands.keys import key_indexes
from proxy.commands.table import CommandTable
from proxy.engine.jobs import at_once
from proxy.planning.merge_keys import merging_series
from proxy.planning.planner import Forward, Plan, Planner, Reject
from proxy.planning.scatter import Part, Scatter, Way
from proxy.resp import encode
from proxy.resp.replies import elements
from proxy.sharding.slots import key_slot
from proxy.sharding.topology import Node, Shard, Topology, even_ranges
from tests.support.plans import ONE, THREE

TABLE = CommandTable.with_modules()
CROSSSLOT = Reject(errors.CROSSSLOT)
CLUSTER = Topology.found(
    [Shard(f"s{number}", Node("127.0.0.1", 7000 + number)) for number in range(3)], even_ranges(3), cluster=True
)


def entry(name: str, *flags: str, first: int = 0) -> list[object]:
    """As a module registers a command: a first key, a last one, a step."""
    return [name.encode(), -1, [flag.encode() for flag in (*flags, "module")], first, first, int(first > 0), []]


TOGETHER = CommandTable.builtin().learn(
    [
        *(entry(name, "readonly") for name in ("FT.SEARCH", "FT.AGGREGATE", "FT.CURSOR", "FT._LIST", "FT.HYBRID")),
        *(entry(name, "write") for name in ("FT.CREATE", "FT.ALIASADD", "FT.DICTADD")),
        entry("FT.SUGADD", "write", first=1),
        entry("_FT.SEARCH", "readonly"),
    ]
)
"""Redis 8, whose search module coordinates itself: only suggestions have a key."""


def plan(line: str, on: Topology = THREE, table: CommandTable = TABLE, reject: bool = False) -> Plan:
    args = line.encode().split()
    fact = table.resolve(args)
    assert fact is not None
    return Planner(on, "reject" if reject else "split").plan(fact, args, encode.request(args))


def test_json_is_read_from_all_its_shards() -> None:
    """`b` lives on the first shard, `c` on the second, `a` on the third."""
    made = plan("JSON.MGET a b c a $.n")
    parts = [("a a", 2, [0, 3]), ("b", 0, [1]), ("c", 1, [2])]
    assert made == Scatter(
        Way("json.mget", "mget", 3, read=True, tail=1),
        [
            Part(shard, encode.request(["JSON.MGET", *keys.split(), "$.n"]), positions)
            for keys, shard, positions in parts
        ],
    )
    assert plan("JSON.MGET a b c $.n", ONE) == Forward(0, read=True)
    assert plan("JSON.MGET a {a}1 $.n") == Forward(2, read=True)
    assert plan("JSON.MGET a b $.n", reject=True) == CROSSSLOT
    assert plan("JSON.MGET a {a}b c", reject=True) == Forward(2, read=True)  # the last one is the path
    assert plan("JSON.MGET a") == Forward(0, read=False)  # the server words what is missing


def test_json_in_a_cluster_is_split_by_slot() -> None:
    made = plan("JSON.MGET foo{1} bar{2} x{1} $", CLUSTER)
    assert isinstance(made, Scatter)
    assert [part.positions for part in made.parts] == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("JSON.MGET {x}a {x}b $.n", ["JSON.MGET {x}a $.n", "JSON.MGET {x}b $.n"]),
        ("JSON.MSET {x}a $ 1 {x}b $ 2", ["JSON.MSET {x}a $ 1", "JSON.MSET {x}b $ 2"]),
        ("TS.MADD {x}a 1 1 {x}b 1 2", ["TS.MADD {x}a 1 1", "TS.MADD {x}b 1 2"]),
        ("JSON.MGET {x}a $.n", []),
    ],
)
def test_keys_of_a_slot_on_its_way(line: str, wanted: list[str]) -> None:
    """Where a server has only some of a slot's keys, each is asked for by itself."""
    args = line.encode().split()
    fact = TABLE.resolve(args)
    assert fact is not None
    made = Planner(CLUSTER, "split").by_key(fact, args, encode.request(args))
    parts = made.parts if made is not None else []
    assert [part.frame for part in parts] == [encode.request(each.split()) for each in wanted]


@pytest.mark.parametrize(("line", "step"), [("JSON.MSET a $ 1 b $ 2", 3), ("TS.MADD a 1 1 b 1 2", 3)])
def test_what_writes_many_keys(line: str, step: int) -> None:
    made = plan(line)
    assert isinstance(made, Scatter)
    assert made.way.changes
    assert [elements(part.frame)[1::step] for part in made.parts] == [[encode.bulk("a")], [encode.bulk("b")]]
    assert plan(f"{line} c") == Forward(0, read=False)
    assert plan(line, reject=True) == CROSSSLOT


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("TS.CREATERULE a b AGGREGATION sum 10", "a b"),
        ("TS.DELETERULE a b", "a b"),
        ("CMS.MERGE a 2 b c WEIGHTS 1 1", "a b c"),
        ("CMS.MERGE a 9 b", "a"),
        ("CMS.MERGE a x b", "a"),
        ("CMS.MERGE a", "a"),
        ("TDIGEST.MERGE a 1 b OVERRIDE", "a b"),
        ("TDIGEST.MERGE a 0 b", "a"),
        ("TDIGEST.MERGE a 99999999999999999999 b", "a"),
        ("GRAPH.COPY a b", "a b"),
        ("GRAPH.MEMORY USAGE a", "a"),
        ("GRAPH.CONSTRAINT CREATE a UNIQUE", "a"),
        ("JSON.DEBUG MEMORY a", "a"),
        ("TFCALL lib.f 2 a b c", "a b"),
    ],
)
def test_two_keys(line: str, keys: str) -> None:
    args = line.encode().split()
    fact = TABLE.resolve(args)
    assert fact is not None
    assert [args[position] for position in key_indexes(fact, args)] == keys.encode().split()
    made = plan(line)
    assert made == CROSSSLOT if " " in keys else isinstance(made, Forward) and made.shard == 2
    assert isinstance(plan(line, ONE), Forward)


OF_AN_INDEX = "FT.CREATE i SCHEMA t TEXT|FT.SEARCH i *|FT._LIST|FT.DICTADD d x|FT.ALIASADD x i|FT.CURSOR READ i 1"


@pytest.mark.parametrize("line", OF_AN_INDEX.split("|"))
def test_an_index(line: str) -> None:
    """Refused where the keys are on several servers, and a node cannot answer for them all."""
    for topology in (THREE, CLUSTER):
        made = plan(line, topology)
        assert isinstance(made, Reject)
        assert "search needs one shard, or a Redis Cluster of Redis 8" in made.text
    assert isinstance(plan(line, ONE), Forward)
    assert isinstance(plan(line, THREE, TOGETHER), Reject)
    assert isinstance(plan(line, CLUSTER, TOGETHER), Forward)


def test_nodes_that_search_together_are_asked_by_the_name_of_the_index() -> None:
    """So that a cursor is read where it was opened, and not all searches are one node's work."""
    for name in ("a", "b", "c"):
        place = Forward(CLUSTER.slot_shard[key_slot(name.encode())], read=False)
        for line in (f"FT.SEARCH {name} *", f"FT.AGGREGATE {name} *", f"FT.CURSOR READ {name} 1", f"FT.HYBRID {name}"):
            assert plan(line, CLUSTER, TOGETHER) == place
    assert plan("FT.SUGADD a x 1", CLUSTER, TOGETHER) == Forward(2, read=False)
    assert isinstance(plan("_FT.SEARCH a *", CLUSTER, TOGETHER), Reject)


@pytest.mark.parametrize("first", ["older", "newer"])
def test_one_older_server_is_enough_to_search_apart(first: str) -> None:
    """In whichever order they are asked."""
    older, newer = [entry("FT.SEARCH", "readonly", first=1)], [entry("FT.SEARCH", "readonly")]
    both = (older, newer) if first == "older" else (newer, older)
    table = CommandTable.builtin().learn(both[0]).learn(both[1])
    assert isinstance(plan("FT.SEARCH i *", CLUSTER, table), Reject)


def test_a_command_of_a_newer_search_module_is_about_an_index_too() -> None:
    table = TABLE.learn([entry("FT.NEWER", "readonly", first=1), entry("FT.CURSOR", "readonly")])
    for line in ("FT.NEWER i", "FT.CURSOR READ i 1"):
        assert isinstance(plan(line, THREE, table), Reject)
        assert isinstance(plan(line, ONE, table), Forward)


@pytest.mark.parametrize("name", ["_FT.NEWER", "TIMESERIES.NEWER", "SEARCH.CLUSTERSET", "redisgears_2.newer"])
def test_what_modules_say_among_themselves(name: str) -> None:
    fact = TABLE.learn([entry(name, "readonly", first=1)]).get(name.encode())
    assert fact is not None
    assert fact.handling is Handling.REFUSED
    assert fact.reason


@pytest.mark.parametrize("line", ["TS.MGET FILTER a=1", "TS.MRANGE - + FILTER a=1", "TS.QUERYINDEX a=1"])
def test_series_are_asked_of_all(line: str) -> None:
    for topology in (THREE, CLUSTER):
        made = plan(line, topology)
        assert isinstance(made, Scatter)
        assert (made.way.merge, len(made.parts), made.way.changes) == ("series", 3, False)
    assert plan(line, ONE) == Forward(0, read=False)


def test_series_that_are_put_together() -> None:
    line = "TS.MRANGE - + WITHLABELS FILTER a=1 GroupBy a REDUCE sum"
    assert plan(line) == plan(line, CLUSTER) == Reject(errors.GROUPED_SERIES)
    assert plan(line, ONE) == Forward(0, read=False)
    assert isinstance(plan("TS.MRANGE - + SELECTED_LABELS groupby FILTER a=1"), Scatter)


def test_very_many_series_are_merged_in_slices() -> None:
    names = [encode.bulk(f"s{number:05}") for number in range(2000)]
    job = merging_series("ts.queryindex", [encode.array(names[1::2]), encode.array(names[::2]), encode.array(names)])
    assert sum(1 for _ in job) > 200
    whole = merging_series("ts.queryindex", [encode.array(names[1::2]), encode.array(names[::2]), encode.array(names)])
    assert at_once(whole) == encode.array(names)
