"""The fast path of users with rules: it knows only what they may do, as the rules themselves say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.client.fast_commands import CommandLookup
from proxy.client.fast_paths import FastPaths
from proxy.commands.categories import CommandSet
from proxy.commands.facts import Handling
from proxy.config import load
from proxy.metrics import Counters
from proxy.planning.inspector import Inspector
from proxy.planning.query_limit import QueryLimit
from proxy.session.acl_check import Permissions
from proxy.session.acl_rules import AclUser, RuleError, change
from proxy.session.users import DEFAULT_RULES
from proxy.sharding.colocation import AllowedKeys, Colocation, Rule
from proxy.sharding.slots import key_slot
from tests.support.plans import TABLE, THREE

COMMANDS = CommandSet(TABLE)
SHARDS = {"shards": [{"primary": f"127.0.0.1:{7000 + at}"} for at in range(3)]}
RULES = (
    *("~app:*", "%R~app:*", "%W~w*", "%R~r*", "~exact", "~g?t", "~a*b", "~", "allkeys", "resetkeys", "&*"),
    *("+@all", "+@read", "+@write", "-@dangerous", "+get", "-set", "+mget", "-@string", "(+@all ~*)", "(~r* +@read)"),
)
KEYS = [b"app:", b"app:1", b"w1", b"r1", b"exact", b"exactly", b"got", b"ab", b"", b"other", b"app"]


def made(rules: str) -> Permissions:
    return Permissions(change(AclUser("u"), rules.encode().split(b" "), COMMANDS), COMMANDS)


def paths(rules: Colocation | None = None) -> FastPaths:
    config = load(None, SHARDS, {})
    counters = Counters()
    return FastPaths(config, THREE, Inspector(TABLE, key_slot, counters), counters, rules, QueryLimit())


FAST = paths()


@given(st.lists(st.sampled_from(RULES), max_size=6), st.data())
def test_what_is_there_is_allowed(rules: list[str], data: st.DataObject) -> None:
    try:
        permissions = made(" ".join(rules) or "on")
    except RuleError:
        return
    lookup = FAST.of(permissions).current
    for fact in TABLE:
        if fact.handling not in (Handling.KEYED, Handling.MULTI_SHARD):
            continue
        name = fact.name.encode()
        splits = lookup.splits.get(b"$%d\r\n%b\r\n" % (len(name), name))
        for count in range(2, 6):
            head = lookup.heads.get(b"*%d\r\n$%d\r\n%b\r\n$" % (count, len(name), name))
            key = data.draw(st.sampled_from(KEYS)) if head is not None else b""
            args = [name, key, *[b"x"] * (count - 2)]
            inside = b"<" + key + b">"
            if head is not None and (lookup.rules is None or lookup.rules.span_slot(inside, 1, len(inside) - 1) >= 0):
                assert permissions.check(fact, args) is None, args
            if splits is not None and fact.accepts(count):
                assert permissions.check(fact, args) is None, args


def names(lookup: CommandLookup) -> set[bytes]:
    return {head.split(b"\r\n")[2] for head in lookup.heads if head.split(b"\r\n")[2].islower()}


def test_the_lookups_of_usual_users() -> None:
    everything = FAST.lookups
    assert FAST.of(made("+@all ~* &*")) is everything
    assert FAST.of(made(DEFAULT_RULES)) is everything
    reads = FAST.of(made("+@read ~*")).current
    assert {b"get", b"hgetall"} <= names(reads)
    assert not {b"set", b"hset"} & names(reads)
    assert reads.splits
    mine = FAST.of(made("+@read +@write ~app:* ~one")).current
    assert {b"get", b"set", b"hset"} <= names(mine)
    assert not mine.splits
    assert isinstance(mine.rules, AllowedKeys)
    assert [mine.rules.span_slot(key, 0, len(key)) for key in (b"app:1", b"one", b"two")] == [
        key_slot(b"app:1"),
        key_slot(b"one"),
        -1,
    ]


def test_keys_that_may_be_read_only() -> None:
    """With commands that only read they are enough; else they are looked at the slow way."""
    for rules, first in (("%R~app:* +@read", key_slot(b"app:1")), ("%R~app:* +@read +@write", -1)):
        lookup = FAST.of(made(rules)).current
        assert lookup.rules is not None
        assert lookup.rules.span_slot(b"app:1", 0, 5) == first


def test_rules_about_slots_hold_for_allowed_keys() -> None:
    colocation = Colocation([Rule(b"app:", 7)])
    lookup = paths(colocation).of(made("~app:* ~other +@read +@write")).current
    assert lookup.rules is not None
    assert lookup.rules.span_slot(b"app:1", 0, 5) == 7
    assert lookup.rules.span_slot(b"other", 0, 5) == key_slot(b"other")
    assert lookup.rules.span_slot(b"else", 0, 4) == -1


def test_they_change_with_the_rules_and_with_what_is_known() -> None:
    fast = paths()
    lookups = fast.of(made("+get ~*"))
    assert names(lookups.current) == {b"get"}
    assert fast.of(made("+set ~*")) is lookups
    assert names(lookups.current) == {b"set"}
    keyed = fast.of(made("+set +hgetall ~a*"))
    fast.watch(frozenset({"hgetall"}))
    assert names(keyed.current) == {b"set"}
    fast.watch(frozenset())
    assert names(keyed.current) == {b"set", b"hgetall"}
    before = keyed.current
    fast.on_unsettled(True)
    assert keyed.current is not before
    fast.on_unsettled(False)
    assert keyed.current is before
    fast.learn()
    assert names(keyed.current) == {b"set", b"hgetall"}


@pytest.mark.parametrize("prefixes", [[], [b"a"]])
def test_allowed_keys(prefixes: list[bytes]) -> None:
    rules = AllowedKeys(None, prefixes, [b"k"])
    assert rules.span_slot(b"xky", 1, 2) == key_slot(b"k")
    assert rules.span_slot(b"xay", 1, 3) == (key_slot(b"ay") if prefixes else -1)
    assert rules.span_slot(b"", 0, 0) == -1
