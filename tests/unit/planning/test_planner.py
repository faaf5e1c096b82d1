"""What becomes of commands: (command line, topology, policy) → plan."""

from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors, server_errors
from proxy.commands.facts import Fact, Handling
from proxy.planning.planner import FIRST_SHARD, Forward, Pin, Plan, Planner, Reject
from proxy.planning.scan_cursor import shard_bits
from proxy.planning.scatter import Part, Scatter, Way
from proxy.planning.undeclared_keys import UndeclaredKeys
from proxy.resp import encode
from proxy.resp.requests import split_request
from proxy.sharding.slots import key_slot
from proxy.sharding.topology import Topology
from tests.support.plans import ONE, TABLE, THREE, plan, request, topology

WRITE, READ = False, True
CROSSSLOT = Reject("CROSSSLOT Keys in request don't hash to the same slot")


def shards_of(line: str) -> list[int]:
    return [THREE.slot_shard[key_slot(word.encode())] for word in line.split()]


def test_where_the_keys_of_these_tests_live() -> None:
    assert shards_of("b bar hello c a foo") == [0, 0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("line", "shard", "read"),
    [
        # one key
        ("GET b", 0, READ),
        ("get c", 1, READ),
        ("GET {a}c", 2, READ),
        ("SET c v", 1, WRITE),
        ("GETEX a", 2, WRITE),
        ("INCR a", 2, WRITE),
        ('GET ""', 0, READ),
        ("TTL a", 2, READ),
        ("TOUCH a", 2, WRITE),
        ("OBJECT ENCODING a", 2, WRITE),
        ("OBJECT IDLETIME a", 2, WRITE),
        ("MEMORY USAGE a", 2, WRITE),
        ("HSCAN a 0", 2, WRITE),
        ("XINFO STREAM c", 1, READ),
        ("XGROUP CREATE c g $", 1, WRITE),
        ("MOVE a 1", 2, WRITE),
        # many keys, one slot
        ("MGET {a}1 {a}2", 2, READ),
        ("MSET {c}1 v {c}2 v", 1, WRITE),
        ("MSETNX {c}1 v {c}2 v", 1, WRITE),
        ("DEL {a}1 {a}2", 2, WRITE),
        ("EXISTS {a}1 {a}2", 2, READ),
        ("SINTER {b}1 {b}2", 0, READ),
        ("SINTERSTORE {b}1 {b}2 {b}3", 0, WRITE),
        ("RENAME {a}1 {a}2", 2, WRITE),
        ("BITOP AND {c}d {c}1 {c}2", 1, WRITE),
        ("ZUNIONSTORE {c}d 2 {c}1 {c}2", 1, WRITE),
        ("LMPOP 2 {a}1 {a}2 LEFT", 2, WRITE),
        ("COPY {a}1 {a}2", 2, WRITE),
        # keys that move
        ("EVAL script 1 c", 1, WRITE),
        ("EVAL script 2 {c}1 {c}2 arg", 1, WRITE),
        ("EVALSHA 0123 1 c", 1, WRITE),
        ("EVAL_RO script 1 c", 1, READ),
        ("FCALL f 1 a", 2, WRITE),
        ("FCALL_RO f 1 a", 2, READ),
        ("XREAD COUNT 2 STREAMS {a}1 {a}2 0 0", 2, READ),
        ("XREADGROUP GROUP g c STREAMS a >", 2, WRITE),
        ("GEORADIUS a 0 0 1 km", 2, WRITE),
        ("GEORADIUS a 0 0 1 km STORE {a}d", 2, WRITE),
        ("GEORADIUS_RO a 0 0 1 km", 2, READ),
        ("SORT a", 2, WRITE),
        ("SORT_RO a LIMIT 0 5 ALPHA", 2, READ),
        ("SORT a STORE {a}d", 2, WRITE),
        # no key at all, though the command can have some
        ("EVAL script 0", FIRST_SHARD, WRITE),
        ("EVAL_RO script 0 arg", FIRST_SHARD, READ),
        ("FCALL f 0", FIRST_SHARD, WRITE),
        # arguments that do not fit: the server words it
        ("EVAL script x c", FIRST_SHARD, WRITE),
        ("EVAL script 5 c", FIRST_SHARD, WRITE),
        ("EVAL script -1 c", FIRST_SHARD, WRITE),
        ("XREAD COUNT 2 STREAMS a", FIRST_SHARD, WRITE),
        ("ZUNION 3 a b", FIRST_SHARD, WRITE),
        ("MSET a 1 b", FIRST_SHARD, WRITE),
        # any shard will do
        ("COMMAND", FIRST_SHARD, WRITE),
        ("COMMAND GETKEYS GET a", FIRST_SHARD, WRITE),
        ("TIME", FIRST_SHARD, WRITE),
        ("LOLWUT", FIRST_SHARD, WRITE),
        ("OBJECT HELP", FIRST_SHARD, WRITE),
        ("FUNCTION LIST", FIRST_SHARD, WRITE),
    ],
)
def test_forwarded(line: str, shard: int, read: bool) -> None:
    assert plan(line) == Forward(shard, read)
    assert plan(line, cross_slot="reject") == Forward(shard, read)


@pytest.mark.parametrize(
    "line",
    [
        "MSETNX a 1 c 2",
        "SINTER a b",
        "SINTERSTORE {a}d a b",
        "RENAME a b",
        "BITOP AND d a b",
        "ZUNIONSTORE d 2 {a}1 {a}2",
        "ZUNION 2 a b",
        "EVAL script 2 a b",
        "FCALL f 2 a b x",
        "XREAD STREAMS a b 0 0",
        "LMPOP 2 a b LEFT",
        "COPY a b",
        "SORT a STORE b",
        "GEORADIUS a 0 0 1 km STORE b",
        "PFMERGE a b",
        # two slots of one shard: an application must not depend on luck
        "SINTER b bar",
        "RENAME bar hello",
        "EVAL script 2 b bar",
        "MSETNX b 1 bar 2",
    ],
)
def test_keys_in_several_slots(line: str) -> None:
    assert plan(line) == CROSSSLOT
    assert plan(line, cross_slot="reject") == CROSSSLOT
    assert isinstance(plan(line, ONE), Forward)
    assert isinstance(plan(line, ONE, "reject"), Forward)


def decoded(scatter: Plan) -> list[tuple[int, list[bytes], tuple[int, ...]]]:
    assert isinstance(scatter, Scatter)
    return [(part.shard, split_request(part.frame), tuple(part.positions)) for part in scatter.parts]


def test_mget_is_split_by_shard() -> None:
    made = plan("mget a b c foo bar a")
    assert decoded(made) == [
        (2, [b"mget", b"a", b"foo", b"a"], (0, 3, 5)),
        (0, [b"mget", b"b", b"bar"], (1, 4)),
        (1, [b"mget", b"c"], (2,)),
    ]
    assert isinstance(made, Scatter)
    assert made.way == Way("mget", "mget", 3, read=True)


def test_mset_is_split_with_its_values() -> None:
    made = plan("MSET a 1 b 2 foo 3 a 4")
    assert decoded(made) == [
        (2, [b"MSET", b"a", b"1", b"foo", b"3", b"a", b"4"], (0, 2, 3)),
        (0, [b"MSET", b"b", b"2"], (1,)),
    ]
    assert isinstance(made, Scatter)
    assert (made.way.merge, made.way.read, made.way.changes) == ("all_ok", False, True)


@pytest.mark.parametrize(
    ("line", "merge", "read", "changes"),
    [
        ("DEL a b", "sum", False, True),
        ("UNLINK a b", "sum", False, True),
        ("EXISTS a b a", "sum", True, False),
        ("TOUCH a b", "sum", False, False),
    ],
)
def test_the_other_commands_that_are_split(line: str, merge: str, read: bool, changes: bool) -> None:
    made = plan(line)
    assert isinstance(made, Scatter)
    assert (made.way.merge, made.way.read, made.way.changes) == (merge, read, changes)
    assert sum(len(split_request(part.frame)) - 1 for part in made.parts) == len(line.split()) - 1


@pytest.mark.parametrize("line", ["MGET a b", "MSET a 1 b 2", "DEL a c", "EXISTS b bar", "MGET b hello", "TOUCH a foo"])
def test_splitting_can_be_turned_off(line: str) -> None:
    assert plan(line, cross_slot="reject") == CROSSSLOT


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("MGET {t}a {t}b {t}a", ["MGET {t}a", "MGET {t}b", "MGET {t}a"]),
        ("MSET {t}a 1 {t}b 2", ["MSET {t}a 1", "MSET {t}b 2"]),
        ("unlink a b", ["unlink a", "unlink b"]),
        ("MGET a", []),
        ("MSET a 1 b", []),
        ("MSETNX {t}a 1 {t}b 2", []),
        ("SUNION {t}a {t}b", []),
    ],
)
def test_keys_that_no_server_has_together(line: str, parts: list[str]) -> None:
    for on in (ONE, THREE):
        fact, args, frame = request(line)
        made = Planner(on, "split").by_key(fact, args, frame)
        found = [] if made is None else [" ".join(map(bytes.decode, split_request(part.frame))) for part in made.parts]
        assert found == parts
        assert Planner(on, "reject").by_key(fact, args, frame) is None


def test_slots_of_one_shard_need_no_split() -> None:
    assert plan("MGET b bar hello") == Forward(0, READ)
    assert plan("MSET b 1 bar 2") == Forward(0, WRITE)


KEYS = st.lists(st.sampled_from([b"a", b"b", b"c", b"foo", b"bar", b"hello", b"{a}1", b"", b"\r\n"]), min_size=1)


@given(KEYS, st.sampled_from(["MGET", "DEL", "EXISTS", "UNLINK", "TOUCH", "MSET"]), st.integers(2, 9))
def test_parts_are_the_whole(keys: list[bytes], name: str, shards: int) -> None:
    """Every key goes to its own shard, with its value, once, and its position says where it stood."""
    on = topology(shards)
    pairs = [[key, b"value%d" % index] if name == "MSET" else [key] for index, key in enumerate(keys)]
    made = plan([name.encode(), *(word for pair in pairs for word in pair)], on)
    if isinstance(made, Forward):
        assert {on.slot_shard[key_slot(key)] for key in keys} == {made.shard}
        return
    assert isinstance(made, Scatter)
    assert len({part.shard for part in made.parts}) == len(made.parts) > 1
    assert sorted(position for part in made.parts for position in part.positions) == list(range(len(keys)))
    for part in made.parts:
        assert list(part.positions) == sorted(part.positions)
        words = [word for position in part.positions for word in pairs[position]]
        assert split_request(part.frame) == [name.encode(), *words]
        assert {on.slot_shard[key_slot(keys[position])] for position in part.positions} == {part.shard}


@pytest.mark.parametrize(
    ("line", "merge", "changes", "replicas"),
    [
        ("DBSIZE", "sum", False, False),
        ("KEYS *", "concat", False, False),
        ("FLUSHALL", "all_ok", True, False),
        ("FLUSHDB ASYNC", "all_ok", True, False),
        ("SCRIPT LOAD x", "all_ok", True, True),
        ("SCRIPT FLUSH", "all_ok", True, True),
        ("FUNCTION LOAD x", "all_ok", True, False),
        ("RANDOMKEY", "randomkey", False, False),
        ("SLOWLOG RESET", "all_ok", True, True),
    ],
)
def test_sent_everywhere(line: str, merge: str, changes: bool, replicas: bool) -> None:
    made = plan(line)
    fact, _, frame = request(line)
    assert isinstance(made, Scatter)
    assert list(made.parts) == [Part(0, frame), Part(1, frame), Part(2, frame)]
    assert made.way == Way(fact.name, merge, 3, changes=changes, replicas=replicas)


@pytest.mark.parametrize(
    ("line", "merge"),
    [
        ("INFO", "info"),
        ("CONFIG GET *", "config_get"),
        ("SLOWLOG GET", "slowlog"),
        ("LATENCY LATEST", "latency_latest"),
        ("LATENCY HISTORY command", "latency_history"),
        ("LATENCY HISTOGRAM", "latency_histogram"),
        ("LATENCY DOCTOR", "text"),
        ("MEMORY STATS", "memory_stats"),
        ("MEMORY DOCTOR", "text"),
        ("LASTSAVE", "min"),
        ("SCRIPT EXISTS 0123", "logical_and"),
        ("SLOWLOG LEN", "sum"),
    ],
)
def test_what_only_reads_of_the_servers_changes_nothing(line: str, merge: str) -> None:
    """Redis flags none of these readonly, but a part that fails leaves nothing uncertain."""
    made = plan(line)
    assert isinstance(made, Scatter)
    assert (made.way.merge, made.way.changes) == (merge, False)
    assert [part.shard for part in made.parts] == [0, 1, 2]


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("SLOWLOG GET", (b"GET",)),
        ("slowlog get 5", (b"get", b"5")),
        ("INFO Server", (b"Server",)),
        ("INFO", ()),
        ("DBSIZE", ()),
        ("SCRIPT LOAD x", ()),  # its merge need not know
    ],
)
def test_special_merges_are_told_what_was_asked_for(line: str, options: tuple[bytes, ...]) -> None:
    made = plan(line)
    assert isinstance(made, Scatter)
    assert made.options == options


def test_one_shard_answers_itself() -> None:
    for line in ("DBSIZE", "KEYS *", "FLUSHALL", "RANDOMKEY", "SLOWLOG GET", "SCAN 5", "SCAN x", "LATENCY LATEST"):
        assert plan(line, ONE) == Forward(FIRST_SHARD, WRITE)


def test_what_is_merged_even_of_one_shard() -> None:
    for line in ("INFO", "CONFIG GET *", "SCRIPT LOAD x"):
        made = plan(line, ONE)
        assert isinstance(made, Scatter)
        assert [part.shard for part in made.parts] == [0]


def member(line: str, on: Topology = THREE) -> frozenset[int] | Scatter | Reject:
    return Planner(on, "split").member(*request(line))


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("SET a v", "a"),
        ("MSET {a}1 v {a}2 v", "a"),
        ("GET c", "c"),
        ("BLPOP {c}1 {c}2 0", "c"),
        ("XREAD BLOCK 0 STREAMS a $", "a"),
        ("EVAL s 2 {a}1 {a}2 x", "a"),
        ("SORT {a} BY w_{a}*", "a"),
        ("EVAL s 0", ""),
        ("ZUNION x a", ""),  # the server words what is wrong
        ("TIME", ""),
        ("WAIT 0 0", ""),
        ("PING", ""),
        ("SELECT 1", ""),
        ("CLIENT LIST", ""),
        ("UNWATCH", ""),
    ],
)
def test_what_a_transaction_may_hold(line: str, keys: str) -> None:
    slots = {key_slot(key.encode()) for key in keys.split()}
    assert member(line) == slots
    assert member(line, ONE) == slots or "{" in line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("MSET a 1 b 2", CROSSSLOT.text),
        ("DEL a b", CROSSSLOT.text),
        ("BLPOP a b 0", CROSSSLOT.text),
        ("SORT a BY w_*", server_errors.sort_denied("BY")),
        ("DBSIZE", errors.for_all_shards("dbsize")),
        ("SCAN 0", errors.for_all_shards("scan")),
        ("FLUSHALL", errors.for_all_shards("flushall")),
        ("SCRIPT LOAD x", errors.for_all_shards("script|load")),
        ("SHUTDOWN", errors.NOT_IN_MULTI),
        ("SLOTGATE NODES", errors.not_in_transaction("slotgate|nodes")),
    ],
)
def test_what_it_may_not_hold(line: str, words: str) -> None:
    assert member(line) == Reject(words)


def test_on_one_shard_it_may_hold_nearly_anything() -> None:
    for line in ("MSET a 1 b 2", "SORT a BY w_*", "DBSIZE", "SCAN 0", "FLUSHALL"):
        assert isinstance(member(line, ONE), frozenset)
    for line in ("INFO", "CONFIG GET *", "SCRIPT LOAD x"):
        made = member(line, ONE)
        assert isinstance(made, Scatter)
        assert [part.shard for part in made.parts] == [0]
    assert isinstance(member("SHUTDOWN", ONE), Reject)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", Forward(FIRST_SHARD, WRITE)),
        ("c", Forward(1, WRITE)),
        ("a foo", CROSSSLOT),
        ("{a}1 {a}2", Forward(2, WRITE)),
    ],
)
def test_where_a_transaction_goes(keys: str, expected: Plan) -> None:
    slots = {key_slot(key.encode()) for key in keys.split()}
    assert Planner(THREE, "split").together(slots) == expected
    assert Planner(ONE, "split").together(slots) == Forward(FIRST_SHARD, WRITE)


def test_keys_that_are_watched_lie_in_one_slot() -> None:
    planner = Planner(THREE, "split")
    slot = frozenset({key_slot(b"a")})
    fact, args, _ = request("WATCH {a}1 {a}2")
    assert planner.watched(fact, args, frozenset()) == planner.watched(fact, args, slot) == slot
    assert planner.watched(fact, args, frozenset({1})) == CROSSSLOT
    fact, args, _ = request("WATCH a b")
    assert planner.watched(fact, args, frozenset()) == CROSSSLOT
    assert Planner(ONE, "split").watched(fact, args, slot) == frozenset({key_slot(b"a"), key_slot(b"b")})


@pytest.mark.parametrize(
    "line",
    [
        "BLPOP a 0",
        "BLPOP {a}1 {a}2 0",
        "BRPOP a 0",
        "BLMOVE a {a}2 LEFT RIGHT 0",
        "BRPOPLPUSH a {a}2 0",
        "BLMPOP 0 2 a {a}2 LEFT",
        "BZPOPMIN a 0",
        "BZPOPMAX a 0",
        "BZMPOP 0 1 a MIN",
        "XREAD BLOCK 0 STREAMS a $",
        "XREAD COUNT 1 block 0 STREAMS a $",
        "XREADGROUP GROUP g c BLOCK 0 STREAMS a >",
    ],
)
def test_what_blocks_gets_a_connection_of_its_own(line: str) -> None:
    assert plan(line) == Pin(THREE.slot_shard[key_slot(b"a")])
    assert plan(line, ONE) == Pin(0)


@pytest.mark.parametrize("line", ["XREAD BLOCK 0 STREAMS a b $", "BLMPOP 0 x a LEFT", "BZMPOP 0 9 a MIN"])
def test_what_would_block_if_it_were_well_formed_is_not_sent_over_a_shared_one_either(line: str) -> None:
    assert plan(line) == Pin(0)


@pytest.mark.parametrize("line", ["BLPOP a b 0", "BLMOVE a b LEFT LEFT 0", "XREAD BLOCK 0 STREAMS a b $ $"])
def test_what_blocks_on_keys_of_several_slots(line: str) -> None:
    assert plan(line) == Reject(errors.CROSSSLOT)
    assert plan(line, ONE) == Pin(0)


def test_a_keyless_command_that_blocks() -> None:
    fact = Fact("x.wait", -1, flags=frozenset({"blocking"}))
    frame = encode.request(["x.wait"])
    assert Planner(ONE, "split").plan(fact, [b"x.wait"], frame) == Pin(0)
    assert Planner(THREE, "split").plan(fact, [b"x.wait"], frame) == Reject(errors.uncovered("x.wait"))


@pytest.mark.parametrize(
    "line", ["SHUTDOWN", "REPLICAOF no one", "DEBUG SLEEP 1", "CONFIG SET a b", "MIGRATE h 1 a 0 1", "ACL SETUSER x"]
)
def test_refused(line: str) -> None:
    made = plan(line)
    assert isinstance(made, Reject)
    assert "is refused by the proxy" in made.text
    assert plan(line, ONE) == made


def handled(handling: Handling, **more: object) -> Fact:
    return Fact("new.command", -1, handling=handling, reason="because", **more)  # type: ignore[arg-type]  # any field


def test_what_no_fact_covers() -> None:
    fact = handled(Handling.UNCOVERED)
    args, frame = [b"NEW.COMMAND", b"x"], encode.request((b"NEW.COMMAND", b"x"))
    assert Planner(THREE, "split").plan(fact, args, frame) == Reject(errors.uncovered("new.command"))
    assert Planner(ONE, "split").plan(fact, args, frame) == Forward(FIRST_SHARD, WRITE)


def test_a_module_commands_policies_are_carried_out() -> None:
    args, frame = [b"NEW.COMMAND"], encode.request((b"NEW.COMMAND",))
    made = Planner(THREE, "split").plan(handled(Handling.ALL_SHARDS, merge="sum"), args, frame)
    assert made == Scatter(Way("new.command", "sum", 3, changes=True), [Part(n, frame) for n in range(3)])
    made = Planner(THREE, "split").plan(handled(Handling.ALL_SHARDS), args, frame)
    assert isinstance(made, Scatter)
    assert made.way.merge == "concat"


def test_the_sessions_own_never_gets_through() -> None:
    made = Planner(ONE, "split").plan(handled(Handling.SESSION), [b"x"], b"x")
    assert isinstance(made, Reject)


def sample(fact: Fact) -> list[bytes]:
    """A call that fits the arity."""
    words = fact.name.encode().split(b"|")
    return words + [b"1"] * (abs(fact.arity) - len(words))


EVERY_FACT = [fact for top in TABLE for fact in (top, *top.subcommands.values()) if not fact.subcommands]


@pytest.mark.parametrize("on", [ONE, THREE], ids=["one", "three"])
def test_every_command_gets_the_plan_that_its_handling_promises(on: Topology) -> None:
    kinds: dict[Handling, set[type[Plan]]] = {}
    for fact in EVERY_FACT:
        args = sample(fact)
        made = Planner(on, "split").plan(fact, args, encode.request(args))
        kinds.setdefault(fact.handling, set()).add(type(made))
        if isinstance(made, Forward):
            assert 0 <= made.shard < len(on.shards)
            assert made.read <= fact.replica_ok
        if isinstance(made, Scatter):
            assert not made.way.read or fact.replica_ok
            assert made.way.changes or not fact.write
            assert made.way.shards == len(on.shards)
            assert {part.shard for part in made.parts} <= set(range(len(on.shards)))
    for handling in (Handling.MODE, Handling.REFUSED, Handling.SESSION):
        assert kinds[handling] == {Reject}
    assert kinds[Handling.ANY_SHARD] == {Forward}
    assert kinds[Handling.KEYED] == {Forward, Pin}
    assert kinds[Handling.MULTI_SHARD] == {Forward}
    assert kinds[Handling.ALL_NODES] == {Scatter}
    assert kinds[Handling.ALL_SHARDS] == ({Scatter} if on is THREE else {Forward})


# ---- SORT: patterns that name other keys (Redis's patternHashSlot)


@pytest.mark.parametrize(
    "line",
    [
        "SORT a BY nosort",
        "SORT a GET #",
        "SORT {a}l BY {a}w_*",
        "SORT {a}l BY {a}w_*->f GET # GET {a}o_*",
        "SORT a BY {a}w_*",
        "SORT_RO {a}l GET {a}o_*",
        "SORT {a}l BY x{a}w_*",
        "SORT {a}l BY {a}w_* STORE {a}d",
        "SORT a LIMIT 0 5 DESC ALPHA",
    ],
)
def test_sort_with_patterns_in_its_slot(line: str) -> None:
    assert isinstance(plan(line), Forward)


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("SORT a BY w_*", "BY"),
        ("SORT a BY a*", "BY"),
        ("SORT a GET o_*", "GET"),
        ("SORT a get o_*->f", "GET"),
        ("SORT {a}l BY {b}w_*", "BY"),
        ("SORT {a}l BY *_{a}", "BY"),
        ("SORT {a}l BY ?_{a}*", "BY"),
        ("SORT {a}l BY [x]_{a}*", "BY"),
        ("SORT {a}l BY {*}w_{a}", "BY"),
        ("SORT {a}l BY x}*{a}", "BY"),
        ("SORT {a}l BY {}w_{a}*", "BY"),
        ("SORT {a}l BY {a}w_* GET o_*", "GET"),
        ("SORT_RO {a}l GET # GET o_*", "GET"),
        ("SORT a BY {b}* STORE {a}d", "BY"),
    ],
)
def test_sort_with_patterns_elsewhere(line: str, option: str) -> None:
    assert plan(line) == Reject(
        f"ERR {option} option of SORT denied in cluster mode when keys formed by the pattern may be in different slots."
    )
    assert isinstance(plan(line, ONE), Forward)


# ---- SCAN: the cursor carries the shard


def test_shard_bits() -> None:
    assert [shard_bits(count) for count in (0, 1, 2, 3, 4, 5, 8, 9, 1000)] == [0, 0, 1, 2, 2, 3, 3, 4, 10]


@pytest.mark.parametrize(
    ("line", "shard", "sent"),
    [
        ("SCAN 0", 0, ["SCAN", "0"]),
        ("SCAN 1", 1, ["SCAN", "0"]),
        ("SCAN 2", 2, ["SCAN", "0"]),
        ("scan 4", 0, ["scan", "1"]),
        ("SCAN 6 MATCH x* COUNT 5 TYPE hash", 2, ["SCAN", "1", "MATCH", "x*", "COUNT", "5", "TYPE", "hash"]),
        ("SCAN 9223372036854775805", 1, ["SCAN", "2305843009213693951"]),
        ("SCAN 18446744073709551614", 2, ["SCAN", "4611686018427387903"]),
        ("SCAN 008", 0, ["SCAN", "2"]),
        ("SCAN 3", 0, ["SCAN", "0"]),
        ("SCAN 7", 0, ["SCAN", "0"]),
        ("SCAN 18446744073709551615 COUNT 1", 0, ["SCAN", "0", "COUNT", "1"]),
    ],
)
def test_scan_goes_to_the_shard_in_its_cursor(line: str, shard: int, sent: list[str]) -> None:
    made = plan(line)
    assert isinstance(made, Scatter)
    (part,) = made.parts
    assert part.shard == shard
    assert split_request(part.frame) == [word.encode() for word in sent]
    assert (made.way.merge, made.way.read, made.way.changes, made.way.shards) == ("scan", False, False, 3)


@pytest.mark.parametrize("cursor", ["x", "-1", "+1", "1.5", '""', "18446744073709551616", "9" * 21, "9" * 5000])
def test_what_is_no_number_a_server_refuses_or_not(cursor: str) -> None:
    made = plan(f"SCAN {cursor} COUNT 7")
    assert isinstance(made, Scatter)
    ((shard, frame),) = [(part.shard, part.frame) for part in made.parts]
    text = b"" if cursor == '""' else cursor.encode()
    assert (shard, split_request(frame)) == (FIRST_SHARD, [b"SCAN", text, b"COUNT", b"7"])


@given(st.integers(0, 2**62), st.integers(2, 9), st.data())
def test_a_cursor_finds_back_to_its_shard(inner: int, shards: int, data: st.DataObject) -> None:
    shard = data.draw(st.integers(0, shards - 1))
    cursor = inner << shard_bits(shards) | shard
    made = plan(f"SCAN {cursor}", topology(shards))
    if cursor > 2**64 - 1:
        shard, inner = 0, cursor
    assert decoded(made) == [(shard, [b"SCAN", b"%d" % inner], ())]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("CLUSTER COUNTKEYSINSLOT 0", Forward(0, WRITE)),
        ("CLUSTER COUNTKEYSINSLOT 16383", Forward(2, WRITE)),
        ("CLUSTER GETKEYSINSLOT 16383 5", Forward(2, WRITE)),
        ("CLUSTER COUNTKEYSINSLOT 16384", Reject(errors.BAD_SLOT)),
        ("CLUSTER COUNTKEYSINSLOT -1", Reject(errors.BAD_SLOT)),
        ("CLUSTER COUNTKEYSINSLOT x", Reject(errors.NOT_AN_INTEGER)),
        ("CLUSTER GETKEYSINSLOT x 5", Reject(errors.NOT_AN_INTEGER)),
        ("CLUSTER GETKEYSINSLOT 1 -5", Reject(errors.BAD_SLOT_OR_COUNT)),
        ("CLUSTER GETKEYSINSLOT 99999 5", Reject(errors.BAD_SLOT_OR_COUNT)),
    ],
)
def test_slots_that_are_asked_about(line: str, wanted: Plan) -> None:
    """As Redis 7.0.15 words it, of a cluster that the proxy passes for."""
    fact, args, frame = request(line)
    cluster = Topology(1, THREE.shards, THREE.slot_shard, cluster=True)
    assert Planner(cluster, "split").as_cluster.plan(fact, args, frame) == wanted
    assert Planner(cluster, "split").plan(fact, args, frame) == Reject(errors.NO_CLUSTER)
    assert Planner(THREE, "split").as_cluster.plan(fact, args, frame) == Reject(errors.no_slots(fact.name))


class TestScriptsWithoutKeys:
    """``THREE`` with a rule; a script "touch" touches data, "none" touches none, and others are not known."""

    KNOWN: ClassVar[dict[bytes, bool]] = {b"touch": True, b"none": False}

    def made(self, on: Topology, shard: str = "") -> Planner:
        return Planner(on, "split", undeclared=UndeclaredKeys(shard, lambda _, args: self.KNOWN.get(args[1])))

    @pytest.mark.parametrize("command", ["EVAL", "EVAL_RO", "EVALSHA", "FCALL"])
    def test_refused_by_what_they_touch(self, command: str) -> None:
        planner = self.made(THREE)
        plan = planner.plan(*request(f"{command} touch 0"))
        assert plan == Reject(errors.undeclared_keys(command.lower()))
        assert planner.member(*request(f"{command} touch 0")) == plan
        assert planner.plan(*request(f"{command} other 0")) == Reject(errors.NOSCRIPT)
        assert planner.plan(*request(f"{command} none 0")) == Forward(FIRST_SHARD, command == "EVAL_RO")
        assert planner.member(*request(f"{command} none 0")) == frozenset()
        assert planner.member(*request(f"{command} touch 1 a")) == frozenset({key_slot(b"a")})
        assert isinstance(planner.plan(*request(f"{command} touch x")), Forward)  # the server's own error

    def test_not_on_one_shard_or_in_front_of_a_cluster(self) -> None:
        for on in (
            ONE,
            Topology.found(THREE.shards, [((0, 5460),), ((5461, 10922),), ((10923, 16383),)], cluster=True),
        ):
            assert isinstance(self.made(on).plan(*request("EVAL touch 0")), Forward)

    def test_on_the_shard_that_is_named(self) -> None:
        name = THREE.shards[2].name
        planner = self.made(THREE, name)
        assert planner.plan(*request("EVAL touch 0")) == Forward(2, WRITE)
        assert planner.plan(*request("EVALSHA other 0")) == Forward(2, WRITE)
        slots = planner.member(*request("EVAL touch 0"))
        assert isinstance(slots, frozenset)
        assert planner.together(slots) == Forward(2, WRITE)
        there = next(slot for slot in range(16384) if THREE.slot_shard[slot] == 2 and slot not in slots)
        other = next(slot for slot in range(16384) if THREE.slot_shard[slot] != 2)
        assert planner.together(slots | {there}) == Forward(2, WRITE)
        assert planner.together(slots | {other}) == Reject(errors.KEYLESS_ELSEWHERE)
        assert planner.together(slots | {there, there + 1}) == Reject(errors.CROSSSLOT)
        assert planner.together({there, there + 1}) == Reject(errors.CROSSSLOT)
        assert planner.renewed(THREE).plan(*request("EVAL touch 0")) == Forward(2, WRITE)
