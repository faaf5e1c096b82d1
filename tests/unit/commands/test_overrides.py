"""The overrides: each one is needed, and each one's reason is shown."""

from collections.abc import Iterator
from importlib.resources import files

import pytest

from proxy.commands import datafile
from proxy.commands.derive import decide
from proxy.commands.facts import Fact, Handling
from proxy.commands.keys import blocks, key_indexes
from proxy.commands.overrides import OVERRIDES, PRIMARY_ONLY, WRITES
from proxy.commands.table import MODULES, CommandTable
from proxy.planning.merge import MERGERS

TABLE = CommandTable.builtin()
FACTS = {fact.name: fact for top in TABLE for fact in (top, *top.subcommands.values())}
OF_MODULES = {
    fact.name: fact
    for top in CommandTable.with_modules()
    if "module" in top.flags
    for fact in (top, *top.subcommands.values())
}

# Known to other servers only; the flags are those that they are learned with.
ELSEWHERE = {
    "rreplay": Fact("rreplay", -3, frozenset({"readonly", "fast", "stale"})),
    "post": Fact("post", -1, frozenset({"readonly", "loading", "stale"})),
    "host:": Fact("host:", -1, frozenset({"readonly", "loading", "stale"})),
}


def handled(*handlings: Handling) -> Iterator[Fact]:
    return (fact for fact in FACTS.values() if fact.handling in handlings)


def names_of(handling: Handling) -> set[str]:
    return {fact.name for fact in handled(handling)}


def covered_by(entry: str) -> Fact:
    """A fact that an entry decides about; for a container a subcommand that only a newer server has."""
    if entry in ELSEWHERE:
        return ELSEWHERE[entry]
    if entry.startswith("*|"):
        return FACTS["object|" + entry[2:]]
    if entry.endswith(".*"):
        return Fact(f"{entry[:-1]}newer", -1, frozenset({"module", "readonly"}))
    if entry in OF_MODULES:
        return OF_MODULES[entry]
    return Fact(f"{entry}|newer", 2) if FACTS[entry].subcommands else FACTS[entry]


def raw(fact: Fact) -> Fact:
    """The fact as a module tells it, if it is a module's."""
    told = {fact.name: fact for fact in datafile.load(files("proxy.commands").joinpath(MODULES).read_text("utf-8"))}
    return told.get(fact.name, fact)


@pytest.mark.parametrize("entry", OVERRIDES)
def test_an_entry_is_reasoned_and_changes_what_the_facts_say(entry: str) -> None:
    override = OVERRIDES[entry]
    assert override.reason
    fact = covered_by(entry)
    with_it, without = decide(fact), decide(raw(fact), {name: OVERRIDES[name] for name in OVERRIDES if name != entry})
    assert (with_it.handling, with_it.merge, with_it.reason) == (override.handling, override.merge, override.reason)
    assert (without.handling, without.merge, without.getkeys, without.key_specs) != (
        *(with_it.handling, with_it.merge, with_it.getkeys, with_it.key_specs),
    )


@pytest.mark.parametrize("name", PRIMARY_ONLY)
def test_reads_that_a_replica_would_answer_otherwise(name: str) -> None:
    fact = decide(FACTS.get(name) or OF_MODULES.get(name) or Fact(name, -3, frozenset({"readonly"})))
    assert PRIMARY_ONLY[name]
    assert fact.readonly
    assert not fact.replica_ok


@pytest.mark.parametrize("name", WRITES)
def test_what_writes_though_it_is_flagged_readonly(name: str) -> None:
    fact = OF_MODULES.get(name) or Fact(name, -3, frozenset({"readonly"}))
    assert "readonly" in fact.flags
    for learned in (decide(fact), decide(Fact(f"{name}|set", 2, frozenset({"readonly"})))):
        assert learned.write
        assert not learned.readonly
        assert not learned.replica_ok


@pytest.mark.parametrize("name", ["get", "mget", "exists", "xread", "sort_ro", "eval_ro", "fcall_ro", "zrange", "type"])
def test_reads_that_a_replica_may_answer(name: str) -> None:
    assert FACTS[name].replica_ok


@pytest.mark.parametrize(
    "name", ["sort", "getex", "xreadgroup", "georadius", "eval", "fcall", "spop", "set", "bitfield"]
)
def test_what_is_no_read_never_goes_to_a_replica(name: str) -> None:
    assert not FACTS[name].replica_ok


def test_every_cursor_stays_on_its_server() -> None:
    cursors = {fact.name for fact in FACTS.values() if fact.name.endswith("scan")}
    assert cursors == {"scan", "hscan", "sscan", "zscan", "clusterscan"}
    sent = (fact for fact in FACTS.values() if fact.name in cursors and fact.handling is not Handling.REFUSED)
    assert not any(fact.replica_ok for fact in sent)


@pytest.mark.parametrize(("name", "specs"), [("sort", 2), ("sort_ro", 1)])
def test_sort_has_unknown_key_specs(name: str, specs: int) -> None:
    assert sum(spec.begin is None for spec in FACTS[name].key_specs) == specs


def test_store_options_are_not_found_by_the_keyword_alone() -> None:
    line = b"GEORADIUS k 0 0 1 km STORE a STOREDIST b".split()
    assert key_indexes(FACTS["georadius"], line) == [1, 9]
    assert key_indexes(decide(FACTS["georadius"], {}), line) == [1, 7, 9]


def test_a_group_may_be_named_streams() -> None:
    line = b"XREADGROUP COUNT 1 GROUP STREAMS c STREAMS a >".split()
    assert key_indexes(FACTS["xreadgroup"], line) == [7]
    assert key_indexes(decide(FACTS["xreadgroup"], {}), line) != [7]


@pytest.mark.parametrize("name", ["xread", "xreadgroup"])
def test_a_stream_read_blocks_when_asked_to(name: str) -> None:
    line = [name.encode(), *b"GROUP g c STREAMS s >".split()]
    assert not blocks(FACTS[name], line)
    assert blocks(decide(FACTS[name], {}), line)


def test_msetnx_and_msetex_are_whole_or_nothing() -> None:
    assert decide(FACTS["msetnx"], {}).handling is Handling.MULTI_SHARD
    assert FACTS["msetex"].request_policy == "multi_shard"  # with NX and XX, and a key count, which parts would change
    assert names_of(Handling.MULTI_SHARD) == {"mget", "mset", "del", "unlink", "exists", "touch"}


@pytest.mark.parametrize("name", ["config|get", "swapdb", "lastsave", "time", "lolwut", "function|dump", "script|show"])
def test_keyless_commands_without_a_policy(name: str) -> None:
    assert FACTS[name].request_policy is None
    assert not FACTS[name].keyed


def test_special_policies_have_an_entry() -> None:
    special = {f.name for f in FACTS.values() if "special" in (f.request_policy, f.response_policy)}
    assert special <= set(OVERRIDES)


def test_every_merge_is_there_and_where_it_is_needed() -> None:
    assert {fact.merge for fact in FACTS.values() if fact.merge} <= set(MERGERS)
    assert all(fact.merge for fact in handled(Handling.SPECIAL, Handling.MULTI_SHARD))
    assert all(fact.merge for fact in handled(Handling.ALL_SHARDS, Handling.ALL_NODES))
    assert not any(fact.merge for fact in handled(Handling.KEYED, Handling.ANY_SHARD, Handling.SESSION))


def test_nothing_that_is_known_is_uncovered() -> None:
    assert not list(handled(Handling.UNCOVERED))
    assert not [name for name, fact in OF_MODULES.items() if fact.handling is Handling.UNCOVERED]


def test_what_modules_add_is_never_found_by_a_key_of_another_meaning() -> None:
    """Every keyed command of a module has its keys from specs or a function; an index, a section are none."""
    keyless = {name for name, fact in OF_MODULES.items() if fact.handling is Handling.SINGLE_SHARD}
    assert {"ft.search", "ft.create", "ft.aliasadd", "ft._list", "ft.cursor", "graph.info", "tfunction"} <= keyless
    for name in keyless:
        assert key_indexes(OF_MODULES[name], [name.encode(), b"a", b"b"]) == []
    split = {name for name, fact in OF_MODULES.items() if fact.handling is Handling.MULTI_SHARD}
    assert split == {"json.mget", "json.mset", "ts.madd"}


def test_what_changes_a_connection_is_never_sent_on_a_shared_one() -> None:
    """By Redis's own marks: connection and transaction categories, pub/sub, keyless blocking, no_auth, asking."""
    kept = (Handling.SESSION, Handling.MODE, Handling.REFUSED)
    for fact in FACTS.values():
        marked = fact.categories & {"connection", "transaction", "pubsub"} or fact.flags & {
            "no_auth",
            "asking",
            "pubsub",
        }
        if (marked or (fact.blocking and not fact.keyed)) and not fact.name.endswith("|help"):
            # COMMAND and PUBSUB are in the categories, but only tell.
            assert fact.handling in kept or fact.name.partition("|")[0] in ("command", "pubsub"), fact.name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "select",
            "auth",
            "hello",
            "reset",
            "quit",
            "asking",
            "readonly",
            "readwrite",
            "script|debug",
            "psync",
            "sync",
        ),
        *(
            "multi",
            "exec",
            "discard",
            "watch",
            "unwatch",
            "monitor",
            "subscribe",
            "psubscribe",
            "ssubscribe",
            "replconf",
        ),
        *("unsubscribe", "punsubscribe", "sunsubscribe", "client|reply", "client|tracking", "client|caching"),
        *("client|setname", "client|no-evict", "client|no-touch", "client|setinfo", "client|capa", "wait", "waitaof"),
    ],
)
def test_what_is_known_to_change_a_connection(name: str) -> None:
    """Not by marks: READONLY, ASKING, MONITOR and SCRIPT DEBUG carry none that says so in every version."""
    assert FACTS[name].handling in (Handling.SESSION, Handling.MODE, Handling.REFUSED)


def test_administration_is_refused_or_reviewed() -> None:
    for fact in FACTS.values():
        if "admin" in fact.flags and fact.handling is not Handling.REFUSED:
            assert fact.name in OVERRIDES or fact.name.split("|")[0] in {"client", "cluster", "slotgate"}, fact.name


@pytest.mark.parametrize(
    "name",
    [
        *("shutdown", "replicaof", "slaveof", "debug", "config|set", "config|rewrite", "config|resetstat", "migrate"),
        *("psync", "sync", "replconf", "failover", "save", "bgsave", "bgrewriteaof", "module|load"),
        *("swapdb", "restore-asking", "pfdebug", "pfselftest", "clusterscan"),
        *("cluster|setslot", "cluster|failover", "cluster|meet", "cluster|reset", "cluster|flushslot"),
    ],
)
def test_refused(name: str) -> None:
    assert FACTS[name].handling is Handling.REFUSED


def test_sent_to_all_by_their_tips() -> None:
    by_tips = {fact.name: fact.merge for fact in handled(Handling.ALL_SHARDS, Handling.ALL_NODES) if not fact.reason}
    assert by_tips == {
        "dbsize": "sum",
        "flushall": "all_ok",
        "flushdb": "all_ok",
        "function|delete": "all_ok",
        "function|flush": "all_ok",
        "function|load": "all_ok",
        "function|restore": "all_ok",
        "keys": "concat",
        "memory|purge": "all_ok",
        "script|exists": "logical_and",
        "script|flush": "all_ok",
        "script|load": "all_ok",
    }


def test_any_shard_holds_nothing_that_depends_on_the_shard() -> None:
    named = {name for name in names_of(Handling.ANY_SHARD) if not name.endswith("|help")}
    assert named == {
        *("command", "command|count", "command|docs", "command|getkeys", "command|getkeysandflags"),
        *("command|info", "command|list", "acl|cat", "function|dump", "function|list"),
        *("lolwut", "time"),
    }


def test_users_are_the_proxys_own() -> None:
    own = {name.split("|")[1] for name in names_of(Handling.SESSION) if name.startswith("acl|")}
    changing = {"deluser", "load", "log", "save", "setuser"}
    assert own == {*changing, "dryrun", "genpass", "getuser", "list", "users", "whoami"}
    assert {name for name in own if FACTS[f"acl|{name}"].privileged} == changing


def test_cluster_reads_are_the_sessions() -> None:
    reads = {name.split("|")[1] for name in names_of(Handling.SESSION) if name.startswith("cluster|")}
    assert {"info", "slots", "shards", "nodes", "keyslot", "myid", "replicas"} <= reads
    assert not any(FACTS[f"cluster|{name}"].write for name in reads)
