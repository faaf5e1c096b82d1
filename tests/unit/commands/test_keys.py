"""Key positions, by key specs and by what stands in for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.commands.facts import BeginIndex, BeginKeyword, Fact, FindKeynum, FindRange, KeySpec
from proxy.commands.getkeys import finding_patterns
from proxy.commands.keys import KeysError, blocks, key_indexes
from proxy.commands.table import CommandTable
from proxy.engine.jobs import at_once

TABLE = CommandTable.builtin()


def fact_of(line: str) -> tuple[Fact, list[bytes]]:
    args = [b"" if word == '""' else word.encode() for word in line.split()]
    fact = TABLE.resolve(args)
    assert fact is not None
    return fact, args


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("GET k", [1]),
        ("MGET a b c", [1, 2, 3]),
        ("MSET a 1 b 2", [1, 3]),
        ("BLPOP a b 0", [1, 2]),
        ("LCS a b LEN", [1, 2]),
        ("BITOP AND d a b", [2, 3, 4]),
        ("RENAME a b", [1, 2]),
        ("OBJECT ENCODING k", [2]),
        ("MEMORY USAGE k SAMPLES 5", [2]),
        ("XGROUP CREATE s g $", [2]),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", [1, 3, 4]),
        ("ZUNION 2 a b", [2, 3]),
        ("LMPOP 1 a LEFT", [2]),
        ("BLMPOP 0 2 a b LEFT", [3, 4]),
        ("EVAL script 2 a b c", [3, 4]),
        ("EVAL script 0 c", []),
        ("FCALL f 1 a c", [3]),
        ("MSETEX 2 a 1 b 2 EX 9", [2, 4]),
        ("XREAD COUNT 1 STREAMS a b 0 0", [4, 5]),
        ("XREAD count 1 streams streams 0", [4]),
        ("XREADGROUP GROUP g c STREAMS a >", [5]),
        ("XREADGROUP COUNT 1 GROUP STREAMS c STREAMS a >", [7]),
        ("SORT k", [1]),
        ("SORT k BY w_* LIMIT 0 5 GET # GET o_* ASC ALPHA STORE d", [1, 14]),
        ("SORT k BY STORE GET store", [1]),
        ("SORT k STORE", [1]),
        ("SORT k STORE a STORE b", [1, 5]),
        ("SORT_RO k BY w_*", [1]),
        ("SORT_RO k BY store GET #", [1]),
        ("GEORADIUS k 0 0 1 km", [1]),
        ("GEORADIUS k 0 0 1 km ASC STORE d", [1, 8]),
        ("GEORADIUS k 0 0 1 km STORE a STOREDIST b", [1, 9]),
        ("GEORADIUSBYMEMBER k m 1 km STOREDIST d", [1, 6]),
        ("GEORADIUSBYMEMBER k STORE 1 km", [1]),
        ("MIGRATE h 1 k 0 5", [3]),
        ('MIGRATE h 1 "" 0 5 COPY AUTH2 u KEYS KEYS a b', [11, 12]),
        ("PING", []),
        ("SPUBLISH ch m", []),
    ],
)
def test_key_positions(line: str, expected: list[int]) -> None:
    fact, args = fact_of(line)
    assert key_indexes(fact, args) == expected


@pytest.mark.parametrize(
    "line",
    [
        "EVAL script x",
        "EVAL script -1",
        "EVAL script +1 a",
        "EVAL script 01 a",
        "EVAL script -0 a",
        "EVAL script 1.0 a",
        "EVAL script 2 a",
        "EVAL script 99999999999999999999999 a",
        "EVAL script 9223372036854775807 a",
        "ZUNION 3 a b",
        "ZUNIONSTORE d 3 a b",
        "MSETEX 2 a 1",
        "MIGRATE h 1 k 0 5 KEYS a",
        "XREAD STREAMS a",
        "XREAD STREAMS a b 0",
        "XREAD COUNT 1 BLOCK 0",
        "XREAD COUNT 1 STREAMS",
        "SORT_RO k STORE d",
        "SORT_RO k BY w_* store k",
        "SORT_RO k ASC STORE",
    ],
)
def test_arguments_that_do_not_fit(line: str) -> None:
    fact, args = fact_of(line)
    with pytest.raises(KeysError):
        key_indexes(fact, args)


@pytest.mark.parametrize("line", ["GET", "OBJECT ENCODING", "SORT", "MIGRATE", "EVAL", "BLPOP a", "GEORADIUS"])
def test_too_few_arguments_raise_even_where_the_arity_let_them_through(line: str) -> None:
    args = line.encode().split()
    fact = TABLE.get(args[0])
    assert fact is not None
    fact = fact.subcommands.get(args[-1].lower(), fact)
    with pytest.raises(KeysError):
        key_indexes(fact, args)


@pytest.mark.parametrize(
    ("startfrom", "line", "expected"),
    [
        (1, "x KEYS a b", [2, 3]),
        (2, "x KEYS a b", []),
        (1, "x a KEYS", []),  # a keyword that nothing follows is none
        (-1, "x a KEYS b", [3]),
        (-2, "x KEYS a KEYS b", [4]),  # backwards: the last one
        (-9, "x KEYS a", []),
    ],
)
def test_keyword_search(startfrom: int, line: str, expected: list[int]) -> None:
    spec = KeySpec(BeginKeyword(b"keys", startfrom), FindRange(-1, 1, 0))
    assert key_indexes(Fact("x", -1, key_specs=(spec,)), line.encode().split()) == expected


def test_specs_that_meet_give_each_key_once() -> None:
    specs = (KeySpec(BeginIndex(2), FindRange(-1, 1, 0)), KeySpec(BeginIndex(1), FindRange(1, 1, 0)))
    assert key_indexes(Fact("x", -2, key_specs=specs), [b"x", b"a", b"b", b"c"]) == [1, 2, 3]


def test_what_is_no_key_or_not_said_is_passed_over() -> None:
    specs = (
        KeySpec(None, None),
        KeySpec(BeginIndex(1), None),
        KeySpec(BeginIndex(1), FindRange(0, 1, 0), frozenset({"not_key"})),
        KeySpec(BeginIndex(1), FindRange(0, 1, 0), frozenset({"incomplete"})),
        KeySpec(BeginIndex(2), FindRange(0, 1, 0)),
    )
    assert key_indexes(Fact("x", 3, key_specs=specs), [b"x", b"a", b"b"]) == [2]


begins = st.builds(BeginIndex, st.integers(1, 6)) | st.builds(
    BeginKeyword, st.sampled_from([b"K", b"L"]), st.integers(-6, 6).filter(bool)
)
finds = st.builds(FindRange, st.integers(-4, 4), st.integers(1, 3), st.integers(0, 3)) | st.builds(
    FindKeynum, st.integers(-3, 3), st.integers(-3, 3), st.integers(1, 3)
)
words = st.sampled_from([b"k", b"L", b"0", b"1", b"2", b"-1", b"99", b"x", b""])


@given(st.lists(st.builds(KeySpec, begins, finds), max_size=3), st.lists(words, min_size=1, max_size=9))
def test_any_spec_gives_positions_in_the_command_or_raises(specs: list[KeySpec], args: list[bytes]) -> None:
    try:
        found = key_indexes(Fact("x", -1, key_specs=tuple(specs)), args)
    except KeysError:
        return
    assert found == sorted(set(found))
    assert all(0 < position < len(args) for position in found)


@given(st.sampled_from([fact for top in TABLE for fact in (top, *top.subcommands.values())]), st.lists(words))
def test_any_arguments_of_any_command(fact: Fact, tail: list[bytes]) -> None:
    args = [b"x", *tail]
    try:
        found = key_indexes(fact, args)
        blocks(fact, args)
    except KeysError:
        return
    assert found == sorted(set(found))
    assert all(0 < position < len(args) for position in found)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("GET k", False),
        ("BLPOP k 0", True),
        ("WAIT 1 0", True),
        ("XREAD STREAMS s 0", False),
        ("XREAD BLOCK 0 STREAMS s 0", True),
        ("XREAD COUNT 1 block 0 STREAMS s 0", True),
        ("XREAD STREAMS BLOCK 0", False),
        ("XREADGROUP GROUP BLOCK BLOCK STREAMS s >", False),
        ("XREADGROUP GROUP g c NOACK BLOCK 0 STREAMS s >", True),
        ("XREADGROUP BLOCK 0 GROUP g c STREAMS s >", True),
        ("XREADGROUP GROUP g c COUNT 1", False),
    ],
)
def test_blocks(line: str, expected: bool) -> None:
    assert blocks(*fact_of(line)) is expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("SORT k", []),
        ("SORT k BY w_*", [(b"by", b"w_*")]),
        ("SORT k BY nosort", []),
        ("SORT k GET # get o_*->f GET {k}x", [(b"get", b"o_*->f"), (b"get", b"{k}x")]),
        ("SORT k LIMIT BY GET", []),
        ("SORT k BY", []),
    ],
)
def test_sort_patterns(line: str, expected: list[tuple[bytes, bytes]]) -> None:
    found: list[tuple[bytes, bytes]] = []

    def look(option: bytes, pattern: bytes) -> bool:
        found.append((option, pattern))
        return True

    at_once(finding_patterns(line.encode().split(), look))
    assert found == expected
