"""Who is a shard's primary and who its replicas, by what each server says of its role."""

from random import Random

import hiredis
import pytest

from proxy.backends.replica_lag import read_role
from proxy.discovery.replication import Answer, Group, read
from proxy.sharding.topology import Node, Shard
from tests.unit.discovery.damage import damaged

A, B, C, D, X = (Node(f"10.0.0.{number}", 6379) for number in range(1, 6))
ALIAS = Node("redis-a.example", 6379)
INFO = b"# Server\r\nredis_version:7.0.15\r\nrun_id:61a470d4cd9156ab2be7edf468d69119c0953863\r\ntcp_port:6379\r\n"
RUN_ID = "61a470d4cd9156ab2be7edf468d69119c0953863"


@pytest.mark.parametrize(
    ("role", "answer"),
    [
        (
            [b"master", 3129659, [[b"10.0.0.2", b"6379", b"3129242"], [b"Replica.Example", b"6380", b"3129543"]]],
            Answer(RUN_ID, True, 3129659, (B, Node("replica.example", 6380))),
        ),
        ([b"master", 0, []], Answer(RUN_ID, True)),
        ([b"slave", b"10.0.0.1", 6379, b"connected", 3167038], Answer(RUN_ID, False, follows=A)),
        ([b"slave", b"10.0.0.1", 6379, b"connect", -1], Answer(RUN_ID, False, follows=A)),
        ([b"replica", b"10.0.0.1", b"6379", b"stable_sync"], Answer(RUN_ID, False, follows=A)),  # Dragonfly
        ([b"master", [[b"10.0.0.2", b"6379", b"online"]]], Answer(RUN_ID, True, 0, (B,))),  # Dragonfly
        ([b"master", 5, [[b"", b"0", b"1"], [b"x"]]], Answer(RUN_ID, True, 5)),
        ([b"sentinel", [b"mymaster"]], "it is neither a primary nor a replica"),
        (b"OK", "it is neither a primary nor a replica"),
        (hiredis.ReplyError("NOPERM no permissions"), "it answers ROLE with: NOPERM no permissions"),
        (
            hiredis.ReplyError("NOAUTH Authentication required."),
            "it answers ROLE with: NOAUTH Authentication required.",
        ),
    ],
)
def test_roles(role: object, answer: Answer | str) -> None:
    assert read([role, INFO], {}) == answer


def test_a_server_that_does_not_say_who_it_is() -> None:
    assert read([[b"master", 0, []], hiredis.ReplyError("NOPERM no permissions")], {}) == Answer("", True)


def test_addresses_are_those_at_which_the_proxy_reaches_the_servers() -> None:
    remap = {"10.0.0.1:6379": "203.0.113.1:7000", "10.0.0.2": "203.0.113.2"}
    reached = Node("203.0.113.1", 7000)
    assert read([[b"slave", b"10.0.0.1", 6379, b"connected", 1], INFO], remap) == Answer(RUN_ID, False, follows=reached)
    listed = read([[b"master", 1, [[b"10.0.0.2", b"6379", b"1"]]], INFO], remap)
    assert listed == Answer(RUN_ID, True, 1, (Node("203.0.113.2", 6379),))


def primary(*lists: Node, offset: int = 100, name: str = "") -> Answer:
    return Answer(name, True, offset, lists)


def replica(of: Node, name: str = "") -> Answer:
    return Answer(name, False, follows=of)


def group(*configured: Node) -> Group:
    return Group("shard-1", configured or (A, B))


def after(*looks: dict[Node, Answer], of: Group | None = None) -> Group:
    made = of or group()
    for answers in looks:
        made.take(answers)
    return made


ALL_WELL = {A: primary(B), B: replica(A)}


@pytest.mark.parametrize(
    ("looks", "leads", "follow"),
    [
        # nothing happens
        ([ALL_WELL], A, (B,)),
        ([{}], A, (B,)),
        # replicas that are not configured
        ([{A: primary(B, C), B: replica(A), C: replica(A)}], A, (B, C)),
        ([{A: primary(B, C), B: replica(A)}], A, (B,)),  # it can not be asked: what use is it
        ([{A: primary(B), B: replica(A), C: replica(B)}], A, (B, C)),  # a replica's replica
        ([{A: primary(B, C), B: replica(A), C: replica(A)}, ALL_WELL], A, (B,)),  # gone again
        # replicas that are away
        ([{A: primary()}], A, (B,)),  # one that is configured may come back
        ([{B: replica(A)}], A, (B,)),
        ([{A: primary(B, C), B: replica(A), C: replica(A)}, {B: replica(A), C: replica(A)}], A, (B, C)),
        ([{A: primary(), B: replica(X)}], A, ()),  # it has moved away
        # promotions
        ([ALL_WELL, {B: primary()}], B, (A,)),  # it may come back as a replica
        ([{B: primary()}], B, (A,)),
        ([ALL_WELL, {A: replica(B), B: primary(A)}], B, (A,)),
        ([ALL_WELL, {A: replica(B), B: primary(A)}, {A: primary(B), B: replica(A)}], A, (B,)),
        ([ALL_WELL, {A: replica(C), B: replica(C), C: primary(A, B)}], C, (A, B)),  # to one that nobody knew
        ([ALL_WELL, {A: replica(B), B: replica(C), C: primary(B)}], C, (A, B)),
        ([ALL_WELL, {A: replica(B), B: replica(A)}], A, (B,)),  # in the middle of it
        ([ALL_WELL, {A: replica(X)}], A, (B,)),  # that one can not be asked
        ([ALL_WELL, {A: replica(X), B: primary()}], B, ()),
        # two primaries
        ([{A: primary(), B: primary()}], A, ()),
        ([ALL_WELL, {A: primary(), B: primary(offset=900)}], A, ()),
        ([{A: primary(), B: primary()}, {B: primary()}], A, ()),  # it was detached, not promoted
        ([{A: primary(), B: primary()}, ALL_WELL, {B: primary()}], B, (A,)),
        ([ALL_WELL, {B: primary()}, {A: primary(), B: primary()}], B, ()),  # the old one comes back
        ([ALL_WELL, {B: primary()}, {A: primary(), B: primary()}, {A: primary()}], B, ()),
    ],
)
def test_one_replica(looks: list[dict[Node, Answer]], leads: Node, follow: tuple[Node, ...]) -> None:
    made = after(*looks)
    assert (made.primary, made.replicas) == (leads, follow)
    assert {A, B} <= set(made.members)


@pytest.mark.parametrize(
    ("looks", "leads"),
    [
        # all follow another one, while the old primary still is one
        ([{A: primary(), B: primary(C), C: replica(B)}], B),
        ([{A: primary(C), B: primary(), C: replica(A)}], A),
        ([{A: primary(C), B: primary(X), C: replica(A), X: replica(B)}], A),
        # the primary is gone, and two say that they are it
        ([{B: primary(), C: primary()}], C),  # alike: every worker decides so
        ([{B: primary(offset=101), C: primary(offset=100)}], B),
        ([{B: primary(offset=101), C: primary(D, offset=100), D: replica(C)}], C),
        ([{A: primary(), B: primary(), C: replica(A)}, {B: primary(C), C: replica(B)}], B),  # detached, now followed
        # a replica was given to a primary that is none of ours
        ([{A: primary(C), B: replica(X), C: replica(A), X: primary(B)}], A),
        ([{A: primary(), B: replica(X), C: replica(X), X: primary(B, C)}], A),
        ([{B: replica(X), C: replica(X), X: primary(B, C)}], A),
    ],
)
def test_two_replicas(looks: list[dict[Node, Answer]], leads: Node) -> None:
    made = after(*looks, of=group(A, B, C))
    assert made.primary == leads
    for _ in range(3):  # and so it stays
        made.take(looks[-1])
        assert made.primary == leads


def test_one_server_has_one_address() -> None:
    """Configured by its name, announced by its address: known by what it says it is."""
    a, b = primary(B, name="a"), replica(A, name="b")
    made = after({ALIAS: a, A: a, B: b}, of=group(ALIAS, B))
    assert made.shard == Shard("shard-1", ALIAS, (B,))
    made.take({ALIAS: replica(B, name="a"), A: replica(B, name="a"), B: primary(A, name="b")})
    assert made.shard == Shard("shard-1", B, (ALIAS,))
    # Without its name it is two.
    assert after({ALIAS: primary(B), A: primary(B), B: replica(A)}, of=group(ALIAS, B)).replicas == (B,)


def test_whoever_is_named_is_asked() -> None:
    made = group()
    assert made.mentioned({A: primary(B, C), B: replica(X)}) == {B, C, X}
    assert list(made.members) == [A, B]
    made.take({A: primary(B, C), B: replica(A), C: replica(A)})
    assert list(made.members) == [A, B, C]


def test_primaries_that_nobody_promoted_are_named_when_one_is_missed() -> None:
    made = after({A: primary(), B: primary()})
    assert not made.passed_over
    made.take({B: primary()})
    assert made.primary == A
    assert list(made.passed_over) == [B]
    made.take({A: primary(), B: primary()})
    assert not made.passed_over


def test_the_primary_of_another_shard_is_not_taken() -> None:
    made = group()
    made.take({A: replica(X), B: replica(A), X: primary(A)}, taken=[X])
    assert made.primary == A


WELL = {A: primary(B, C, name="a"), B: replica(A, "b"), C: replica(A, "c")}
"""A and B are configured; C is a replica that the primary lists."""


@pytest.mark.parametrize(
    ("look", "leads", "follow"),
    [
        # the primary's list alone makes nobody its replica
        ({A: primary(B, X, name="a"), B: replica(A, "b"), X: primary(name="x")}, A, (B,)),
        ({A: primary(B, X, name="a"), B: replica(A, "b"), X: replica(D, "x")}, A, (B,)),
        ({A: primary(B, X, name="a"), B: replica(A, "b"), X: replica(D, "x"), D: primary(X, name="d")}, A, (B,)),
        ({A: primary(B, X, name="a"), B: replica(A, "b"), X: replica(A, "x")}, A, (B, X)),
        # nor does its own word
        ({A: primary(B, name="a"), B: replica(A, "b"), C: replica(A, "x")}, A, (B,)),
        ({B: replica(A, "b"), C: replica(A, "x")}, A, (B,)),
        ({A: primary(B, name="a"), B: replica(A, "b"), C: replica(B, "x")}, A, (B,)),
        # another server at the address of a replica, which says that it is a primary
        ({A: primary(name="a"), B: primary(X, name="x"), X: replica(B, "y")}, A, ()),
        ({A: primary(C, name="a"), B: primary(X, D, name="x"), X: replica(B, "y"), D: replica(B, "z")}, A, ()),
        ({B: primary(name="x"), C: replica(A, "c")}, A, (C,)),
        ({B: primary(X, name="x"), X: replica(B, "y")}, A, ()),
        ({C: primary(name="x"), B: replica(A, "b")}, A, (B,)),
        # another server at the address of the primary, which follows somebody
        ({A: replica(X, "y"), X: primary(A, name="x"), B: replica(A, "b")}, A, (B,)),
        ({A: replica(X, "y"), X: primary(A, name="x"), D: replica(X, "z")}, A, (B,)),
        # but as the servers that they were they are believed
        ({B: primary(name="b")}, B, (A,)),
        ({C: primary(name="c"), B: replica(A, "b")}, C, (A, B)),
        ({A: replica(X, "a"), X: primary(A, name="x")}, X, (A, B)),
        ({A: replica(B, "new"), B: primary(A, name="b")}, B, (A,)),
        ({A: replica(B, "new"), B: primary(A, name="newer")}, B, (A,)),  # both are configured, and say so
        ({B: primary(C, name="new"), C: replica(B, "c")}, B, (A, C)),
        ({A: primary(B, name="new"), B: replica(A, "newer")}, A, (B,)),
    ],
)
def test_what_a_server_says_of_itself_is_confirmed_by_the_others(
    look: dict[Node, Answer], leads: Node, follow: tuple[Node, ...]
) -> None:
    made = after(WELL, look, look)
    assert (made.primary, made.replicas) == (leads, follow)


def test_who_was_started_anew_is_named_when_it_is_not_taken() -> None:
    made = after(WELL, {B: primary(name="x")})
    assert made.primary == A
    assert made.passed_over == (B,)


@pytest.mark.parametrize(
    ("role", "answer", "odd"),
    [
        ([b"master", 5, [5, None, [b"10.0.0.2", b"6379", b"1"], [b"x"]], b"more"], Answer(RUN_ID, True, 5, (B,)), True),
        ([b"master", b"5", [[b"10.0.0.2", b"6379", b"1"]]], Answer(RUN_ID, True, 0, (B,)), False),
        ([b"master", None, [[b"10.0.0.2", 6379, 1, 2, 3]]], Answer(RUN_ID, True, 0, (B,)), False),
        ([b"master", 5], Answer(RUN_ID, True, 5), True),
        ([b"master"], Answer(RUN_ID, True), True),
        ([b"master", 5, [[b"10.0.0.2", "²".encode(), b"1"]]], Answer(RUN_ID, True, 5), True),
        ([b"slave"], Answer(RUN_ID, False), True),
        ([b"slave", None, b"x"], Answer(RUN_ID, False), True),
        ([b"slave", b"10.0.0.1", 6379, [], b"more"], Answer(RUN_ID, False, follows=A), False),
    ],
)
def test_odd_parts_of_a_role(role: object, answer: Answer, odd: bool) -> None:
    found = read([role, INFO], {})
    assert found == answer
    assert isinstance(found, Answer)
    assert bool(found.odd) == odd


def test_a_role_with_one_odd_part() -> None:
    """Whatever it is, what is whole comes out as it was."""
    whole = [b"master", 7, [[b"10.0.0.2", b"6379", b"1"], [b"10.0.0.3", b"6379", b"1"], [b"10.0.0.4", b"6379", b"1"]]]
    for seed in range(300):
        broken = damaged(Random(seed), whole)
        found = read([broken, INFO], {})
        if isinstance(broken, list) and broken[:1] == [b"master"]:
            assert isinstance(found, Answer)
            listed = next((part for part in broken if isinstance(part, list)), [])
            for node, entry in zip((B, C, D), whole[2], strict=True):  # type: ignore[call-overload]
                assert (node in found.lists) or entry not in listed
        read_role(broken)
