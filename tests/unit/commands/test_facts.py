"""Facts: flags, policies, arity, and the plain key range that needs no specs."""

import pytest

from proxy.commands.facts import BeginIndex, BeginKeyword, Fact, FindKeynum, FindRange, KeySpec

ONE = KeySpec(BeginIndex(1), FindRange(0, 1, 0))
CHANNEL = KeySpec(BeginIndex(1), FindRange(0, 1, 0), frozenset({"not_key"}))


def test_write_wins_over_readonly() -> None:
    fact = Fact("x", 1, flags=frozenset({"readonly", "write"}))
    assert fact.write
    assert not fact.readonly
    assert not fact.replica_ok


def test_policies_come_from_tips() -> None:
    fact = Fact("x", 1, tips=("nondeterministic_output", "request_policy:all_shards"))
    assert fact.request_policy == "all_shards"
    assert fact.response_policy is None


@pytest.mark.parametrize(("arity", "fits", "fits_not"), [(2, [2], [0, 1, 3]), (-2, [2, 3, 99], [0, 1])])
def test_arity_counts_the_name(arity: int, fits: list[int], fits_not: list[int]) -> None:
    fact = Fact("x", arity)
    assert all(fact.accepts(count) for count in fits)
    assert not any(fact.accepts(count) for count in fits_not)


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ((ONE,), (1, 1, 1)),
        ((KeySpec(BeginIndex(2), FindRange(1, 1, 0)),), (2, 3, 1)),
        ((KeySpec(BeginIndex(1), FindRange(-1, 2, 0)),), (1, -1, 2)),
        ((ONE, CHANNEL), (1, 1, 1)),
        ((CHANNEL,), None),
        ((ONE, ONE), None),
        ((KeySpec(BeginIndex(1), FindRange(-1, 1, 2)),), None),
        ((KeySpec(BeginKeyword(b"STREAMS", 1), FindRange(0, 1, 0)),), None),
        ((KeySpec(BeginIndex(1), FindKeynum(0, 1, 1)),), None),
        ((KeySpec(None, None),), None),
        ((KeySpec(BeginIndex(1), FindRange(0, 1, 0), frozenset({"incomplete"})),), None),
    ],
)
def test_key_range(specs: tuple[KeySpec, ...], expected: tuple[int, int, int] | None) -> None:
    assert Fact("x", -2, key_specs=specs).key_range == expected


def test_a_channel_is_no_key() -> None:
    assert not Fact("spublish", 3, key_specs=(CHANNEL,)).keyed
    assert Fact("get", 2, key_specs=(ONE,)).keyed
