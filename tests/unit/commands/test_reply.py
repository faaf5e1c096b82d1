"""COMMAND replies to facts and back, and two servers' facts to one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.commands.facts import BeginIndex, BeginKeyword, Fact, FindKeynum, FindRange, KeySpec
from proxy.commands.legacy import legacy_range
from proxy.commands.reply import combine, looser, parse
from proxy.commands.table import CommandTable
from tests.unit.commands.commandreply import command_info

REDIS_7 = [
    *(b"x.get", -2, [b"readonly"], 1, 1, 1, [b"@read"], [b"request_policy:multi_shard"]),
    [[b"flags", [b"RO"], b"begin_search", [b"type", b"index", b"spec", [b"index", 1]], b"find_keys"]],
    [],
]


def fact(**changes: object) -> Fact:
    given: dict[str, object] = {"name": "x", "arity": -2, **changes}
    return Fact(**given)  # type: ignore[arg-type]  # the tests below name real fields


def test_a_whole_entry_comes_back() -> None:
    for top in CommandTable.builtin():
        (parsed,) = parse([command_info(top)])
        again = combine(top, parsed)
        assert (again.name, again.arity, again.flags, again.categories) == (
            *(top.name, top.arity, top.flags, top.categories),
        )
        assert (again.tips, again.key_specs, again.subcommands.keys()) == (
            *(top.tips, top.key_specs, top.subcommands.keys()),
        )


def test_a_spec_cut_short_is_unknown() -> None:
    (parsed,) = parse([REDIS_7])
    assert parsed.key_specs == (KeySpec(BeginIndex(1), None, frozenset({"RO"})),)
    assert not parsed.key_specs[0].complete


@pytest.mark.parametrize(
    ("first", "last", "step", "expected"),
    [
        (1, 1, 1, FindRange(0, 1, 0)),
        (2, 3, 1, FindRange(1, 1, 0)),
        (1, -1, 2, FindRange(-1, 2, 0)),
        (0, 0, 0, None),
        (2, 1, 1, None),
        (1, 1, 0, None),
        (-1, -1, 1, None),
    ],
)
def test_the_short_reply_of_redis_6_has_a_range(first: int, last: int, step: int, expected: FindRange | None) -> None:
    (parsed,) = parse([[b"MOD.GET", 2, [b"readonly", b"fast"], first, last, step, [b"@read"]]])
    assert parsed.name == "mod.get"
    assert parsed.flags == {"readonly", "fast"}
    assert parsed.categories == {"read"}
    assert parsed.key_specs == ((KeySpec(BeginIndex(first), expected),) if expected else ())


def test_the_shorter_reply_of_redis_5_too() -> None:
    (parsed,) = parse([[b"mod.get", 2, [b"readonly"], 1, 1, 1]])
    assert parsed.key_range == (1, 1, 1)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        b"get",
        [],
        [b"get", 2],
        [b"get", b"2", [], 0, 0, 0],
        [7, 2, [], 0, 0, 0],
        [b"x", 0, [], 0, 0, 0],
        [b""] * 6,
    ],
)
def test_an_entry_of_another_shape_is_passed_over(entry: object) -> None:
    whole = [b"mod.get", 2, [b"readonly"], 1, 1, 1]
    assert [fact.name for fact in parse([entry, whole])] == ["mod.get"]


wire = st.recursive(
    st.none() | st.integers() | st.sampled_from([b"x", b"x|y", b"type", b"index", b"spec", b"range", b"keystep"]),
    lambda inner: st.lists(inner, max_size=10),
)


@given(st.lists(wire))
def test_nothing_that_a_backend_sends_breaks_it(reply: list[object]) -> None:
    for learned in CommandTable.builtin().learn([[b"x", -2, [], 1, 1, 1, *reply], *reply]):
        assert learned.arity


@pytest.mark.parametrize(
    ("one", "other", "expected"), [(2, 2, 2), (2, -2, -2), (3, -2, -2), (-3, -4, -3), (3, 4, -3), (-2, -2, -2)]
)
def test_the_looser_arity_lets_through_what_either_does(one: int, other: int, expected: int) -> None:
    assert looser(one, other) == looser(other, one) == expected
    both = fact(arity=expected)
    assert all(both.accepts(n) for n in range(9) if fact(arity=one).accepts(n) or fact(arity=other).accepts(n))


def test_the_newer_policy_wins_and_nothing_else_is_lost() -> None:
    one = KeySpec(BeginIndex(1), FindRange(0, 1, 0), frozenset({"RO"}))
    two = KeySpec(BeginIndex(2), FindKeynum(0, 1, 1))
    older = fact(
        arity=3,
        flags=frozenset({"write"}),
        tips=("hint", "request_policy:all_nodes", "response_policy:agg_min"),
        key_specs=(one, two),
        subcommands={b"a": fact(name="x|a", arity=2), b"b": fact(name="x|b")},
    )
    newer = fact(
        arity=-3,
        flags=frozenset({"fast"}),
        tips=("request_policy:all_shards", "other"),
        key_specs=(KeySpec(one.begin, one.find, frozenset({"RW"})),),
        subcommands={b"a": fact(name="x|a", arity=-2), b"c": fact(name="x|c")},
    )
    both = combine(older, newer)
    assert both.arity == -3
    assert both.flags == {"write", "fast"}
    assert both.tips == ("request_policy:all_shards", "other", "hint", "response_policy:agg_min")
    assert [spec.flags for spec in both.key_specs] == [{"RW"}, set()]
    assert {name: sub.arity for name, sub in both.subcommands.items()} == {b"a": -2, b"b": -2, b"c": -2}


@pytest.mark.parametrize(
    ("specs", "expected", "whole"),
    [
        ([], (0, 0, 0), True),
        ([KeySpec(BeginIndex(1), FindRange(-1, 2, 0))], (1, -1, 2), True),
        ([KeySpec(BeginIndex(2), FindRange(0, 1, 0)), KeySpec(BeginIndex(3), FindRange(-1, 1, 0))], (2, -1, 1), True),
        ([KeySpec(BeginIndex(1), FindRange(0, 1, 0)), KeySpec(BeginIndex(3), FindRange(0, 1, 0))], (1, 1, 1), False),
        ([KeySpec(BeginIndex(1), FindRange(0, 1, 0)), KeySpec(None, None)], (1, 1, 1), False),
        ([KeySpec(BeginKeyword(b"STREAMS", 1), FindRange(-1, 1, 2))], (0, 0, 0), False),
    ],
)
def test_legacy_range(specs: list[KeySpec], expected: tuple[int, int, int], whole: bool) -> None:
    assert legacy_range(specs) == (expected, whole)
