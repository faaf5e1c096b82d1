"""From facts to handling, without the overrides: what is not said fails closed."""

import pytest

from proxy.commands.derive import MERGE_OF_POLICY, decide
from proxy.commands.facts import BeginIndex, BeginKeyword, Fact, FindKeynum, FindRange, Handling, KeySpec

ONE = KeySpec(BeginIndex(1), FindRange(0, 1, 0))
ALL = KeySpec(BeginIndex(1), FindRange(-1, 1, 0))
PAIRS = KeySpec(BeginIndex(1), FindRange(-1, 2, 0))
ALL_BUT_LAST = KeySpec(BeginIndex(1), FindRange(-2, 1, 0))
COUNTED = KeySpec(BeginIndex(1), FindKeynum(0, 1, 1))
AFTER_WORD = KeySpec(BeginKeyword(b"KEYS", 1), FindRange(-1, 1, 0))
UNKNOWN = KeySpec(None, None)
CHANNEL = KeySpec(BeginIndex(1), FindRange(0, 1, 0), frozenset({"not_key"}))


def fact(flags: str = "", tips: str = "", *specs: KeySpec, categories: str = "") -> Fact:
    return Fact("x", -1, frozenset(flags.split()), frozenset(categories.split()), tuple(tips.split()), specs)


def expand(tips: str) -> str:
    request, _, response = tips.partition(" ")
    return f"request_policy:{request}" + (f" response_policy:{response}" if response else "")


@pytest.mark.parametrize(
    ("given", "handling", "merge"),
    [
        (fact("", "", ONE), Handling.KEYED, None),
        (fact("write blocking", "", ALL_BUT_LAST), Handling.KEYED, None),
        (fact("movablekeys", "", COUNTED), Handling.KEYED, None),
        (fact("movablekeys", "", AFTER_WORD), Handling.KEYED, None),
        (fact("movablekeys", "", ONE, KeySpec(BeginIndex(3), FindRange(0, 1, 0))), Handling.KEYED, None),
        (fact("movablekeys", "", ONE), Handling.UNCOVERED, None),  # a module that must be asked where its keys are
        (fact("movablekeys"), Handling.UNCOVERED, None),
        (fact("", "", ONE, UNKNOWN), Handling.UNCOVERED, None),
        (fact("", expand("multi_shard agg_sum"), ALL), Handling.MULTI_SHARD, "sum"),
        (fact("", expand("multi_shard"), ALL), Handling.MULTI_SHARD, "mget"),
        (fact("", expand("multi_shard all_succeeded"), PAIRS), Handling.MULTI_SHARD, "all_ok"),
        (fact("", expand("multi_shard special"), ALL), Handling.KEYED, None),
        (fact("", expand("multi_shard"), ALL_BUT_LAST), Handling.KEYED, None),  # the last argument is for every part
        (fact("", expand("multi_shard agg_sum"), COUNTED), Handling.KEYED, None),  # the count would have to change
        (fact("", expand("multi_shard agg_sum"), ONE, ALL), Handling.KEYED, None),
        (fact("", expand("all_shards"), ONE), Handling.KEYED, None),  # a key's slot has one shard
        (fact("", expand("all_shards")), Handling.ALL_SHARDS, "concat"),
        (fact("", expand("all_shards one_succeeded")), Handling.ALL_SHARDS, "one_ok"),
        (fact("", expand("all_nodes all_succeeded")), Handling.ALL_NODES, "all_ok"),
        (fact("", expand("all_shards special")), Handling.UNCOVERED, None),
        (fact("", expand("all_shards agg_from_the_future")), Handling.UNCOVERED, None),
        (fact("", expand("special special")), Handling.UNCOVERED, None),
        (fact("", expand("multi_shard agg_sum")), Handling.UNCOVERED, None),
        (fact("readonly fast"), Handling.UNCOVERED, None),
        (fact("admin"), Handling.REFUSED, None),
        (fact("admin write", "", ONE), Handling.REFUSED, None),
        (fact("admin", expand("all_nodes all_succeeded")), Handling.REFUSED, None),
        (fact("pubsub"), Handling.REFUSED, None),
        (fact("pubsub", "", CHANNEL), Handling.REFUSED, None),
        (fact("blocking"), Handling.UNCOVERED, None),
        (fact("blocking", expand("all_shards agg_min")), Handling.UNCOVERED, None),
        (fact("no_auth"), Handling.REFUSED, None),
        (fact("fast", categories="connection"), Handling.REFUSED, None),
        (fact("", expand("all_nodes all_succeeded"), categories="connection"), Handling.REFUSED, None),
        (fact("", "", CHANNEL), Handling.UNCOVERED, None),
    ],
)
def test_derivation(given: Fact, handling: Handling, merge: str | None) -> None:
    decided = decide(given, {})
    assert (decided.handling, decided.merge) == (handling, merge)
    assert bool(decided.reason) is (handling is Handling.REFUSED)


def test_a_container_is_never_sent() -> None:
    sub = Fact("x|get", 3, key_specs=(KeySpec(BeginIndex(2), FindRange(0, 1, 0)),))
    container = decide(Fact("x", -2, subcommands={b"get": sub}), {})
    assert container.handling is Handling.REFUSED
    assert container.subcommands[b"get"].handling is Handling.KEYED


def test_redis_response_policies_all_have_a_merge() -> None:
    assert set(MERGE_OF_POLICY) == {
        *("one_succeeded", "all_succeeded", "agg_logical_and", "agg_logical_or", "agg_min", "agg_max", "agg_sum")
    }


def test_deciding_again_changes_nothing() -> None:
    once = decide(Fact("sort", -2, frozenset({"write", "movablekeys"}), key_specs=(ONE, UNKNOWN)))
    assert decide(once) == once
    assert once.getkeys is not None
