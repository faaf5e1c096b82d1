"""Which primary holds when sentinels disagree."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.discovery.sentinelchart import AGREED, Chart, WatchedMaster
from proxy.discovery.sentinelview import Follower, Master, SentinelReport
from proxy.sharding.topology import NOBODY, Node

A, B, C, D = (Node(f"10.0.0.{number}", 6379) for number in range(1, 5))


def followers(*nodes: Node, down: Sequence[Node] = (), new: Sequence[Node] = ()) -> tuple[Follower, ...]:
    return tuple(Follower(node, node in down, node not in new) for node in nodes)


def report(
    identity: int, epoch: int, node: Node, replicas: tuple[Follower, ...] = (), sentinels: int = 3
) -> SentinelReport:
    peers = {str(other): Node("10.0.1.0", other) for other in range(1, sentinels + 1) if other != identity}
    return SentinelReport(str(identity), {"alpha": Master(node, epoch, "", replicas, peers)})


def chart(*reports: SentinelReport) -> Chart:
    made = Chart(["alpha"])
    made.take(reports, 0.0)
    return made


def seat(made: Chart) -> tuple[Node, int]:
    return made.seats["alpha"].node, made.seats["alpha"].epoch


@pytest.mark.parametrize(
    ("claims", "holds"),
    [
        ([(0, A)], (A, 0)),
        ([(0, A), (0, A), (0, A)], (A, 0)),
        ([(0, A), (1, B), (0, A)], (B, 1)),  # the news has reached one only
        ([(2, C), (1, B), (0, A)], (C, 2)),
        ([(1, B), (1, A), (1, A)], (A, 1)),  # the same epoch twice can not be: most are right
        ([(1, B), (1, A)], (B, 1)),  # every worker decides alike
    ],
)
def test_at_first_the_highest_epoch_holds(claims: list[tuple[int, Node]], holds: tuple[Node, int]) -> None:
    reports = [report(index + 1, epoch, node) for index, (epoch, node) in enumerate(claims)]
    assert seat(chart(*reports)) == holds
    assert seat(chart(*reversed(reports))) == holds


def test_a_failover_is_followed_from_the_first_who_knows() -> None:
    made = chart(*(report(each, 0, A) for each in (1, 2, 3)))
    made.take([report(1, 1, B), report(2, 0, A), report(3, 0, A)], 1.0)
    assert seat(made) == (B, 1)
    assert not made.doubtful


@pytest.mark.parametrize(
    "reports",
    [
        [report(3, 0, A)],  # the others are gone
        [report(1, 1, B), report(3, 0, A)],
        [report(1, 1, B), report(2, 0, A), report(3, 0, A)],  # as long as one knows better
        [report(3, 1, A)],
        [report(1, 0, C), report(2, 0, D), report(3, 0, A)],  # most, but they do not agree
    ],
)
def test_who_lags_rolls_nothing_back(reports: list[SentinelReport]) -> None:
    made = chart(report(1, 1, B), report(2, 1, B), report(3, 0, A))
    for when in range(20):
        made.take(reports, float(when))
        assert seat(made) == (B, 1)
        assert not made.doubtful


def test_most_agree_that_it_begins_anew() -> None:
    made = chart(*(report(each, 7, B) for each in (1, 2, 3)))
    anew = [report(1, 0, C), report(2, 0, C)]
    made.take(anew, 1.0)
    assert seat(made) == (B, 7)
    assert made.doubtful
    made.take(anew, 1.0 + AGREED - 0.1)
    assert seat(made) == (B, 7)
    made.take(anew, 1.0 + AGREED)
    assert seat(made) == (C, 0)
    assert not made.doubtful


def test_a_doubt_that_does_not_last() -> None:
    made = chart(*(report(each, 7, B) for each in (1, 2, 3)))
    anew = [report(1, 0, C), report(2, 0, C)]
    other = [report(1, 0, D), report(2, 0, D)]
    made.take(anew, 1.0)
    made.take([*anew, report(3, 7, B)], 2.0)
    assert not made.doubtful
    made.take(anew, 3.0)
    made.take(other, 5.0)
    made.take(other, 5.0 + AGREED - 0.1)
    assert seat(made) == (B, 7)
    made.take([report(1, 8, A)], 9.0)
    assert seat(made) == (A, 8)
    assert not made.doubtful
    made.take(other, 10.0)
    made.take(other, 10.0 + AGREED)
    assert seat(made) == (D, 0)


def test_a_single_sentinel_is_all_sentinels() -> None:
    made = chart(report(1, 3, A, sentinels=1))
    made.take([report(1, 0, B, sentinels=1)], 1.0)
    made.take([report(1, 0, B, sentinels=1)], 1.0 + AGREED)
    assert seat(made) == (B, 0)


def test_what_nobody_says_any_more_stays() -> None:
    made = chart(report(1, 1, A, followers(B)))
    made.take([], 1.0)
    made.take([SentinelReport("1", {})], 2.0)
    assert made.seats == {"alpha": WatchedMaster(A, 1, (B,))}
    assert made.unknown([SentinelReport("1", {})]) == ["alpha"]
    assert made.unknown([SentinelReport("1", {}), report(2, 1, A)]) == []


@given(st.data())
def test_the_epoch_never_falls_for_a_moments_confusion(data: st.DataObject) -> None:
    """Whatever part of the sentinels answers, however far each is behind."""
    count = data.draw(st.integers(1, 5))
    known = [0] * count
    newest = 0
    made = Chart(["alpha"])
    highest = -1
    for moment in range(20):
        if data.draw(st.booleans()):
            newest += 1
        for each in range(count):
            known[each] = data.draw(st.integers(known[each], newest))
        answering = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
        made.take(
            [
                report(each + 1, known[each], Node("10.0.0.1", 7000 + known[each]), sentinels=count)
                for each in answering
            ],
            moment * AGREED / 20,
        )
        told = max(known[each] for each in answering)
        highest = max(highest, told)
        assert seat(made) == (Node("10.0.0.1", 7000 + highest), highest)


@pytest.mark.parametrize(
    ("views", "usable", "unsettled"),
    [
        ([followers(B, C)], (B, C), False),
        ([followers(C, B)], (B, C), False),  # in an order of their own
        ([followers(B, C, down=[B])], (C,), False),
        ([followers(B, C, down=[B]), followers(B, C), followers(B, C)], (B, C), False),  # one does not reach it
        ([followers(B, C, down=[B]), followers(B, C, down=[B]), followers(B, C)], (C,), False),
        ([followers(B, down=[B]), followers(B)], (B,), False),
        ([followers(B, new=[B])], (), True),
        ([followers(B, new=[B], down=[B])], (), False),
        ([followers(B), followers()], (B,), False),
        ([followers(A, B)], (B,), False),  # the primary itself
    ],
)
def test_replicas_that_can_be_used(
    views: list[tuple[Follower, ...]], usable: tuple[Node, ...], unsettled: bool
) -> None:
    made = chart(*(report(index, 1, A, view) for index, view in enumerate(views)), report(9, 0, B, followers(D)))
    assert made.seats["alpha"].replicas == usable
    assert made.unsettled is unsettled


def test_replicas_are_kept_while_nobody_tells_of_them() -> None:
    made = chart(report(1, 1, A, followers(B, C)), report(2, 0, D, followers(A)))
    made.take([report(2, 0, D, followers(A))], 1.0)
    assert made.seats["alpha"] == WatchedMaster(A, 1, (B, C))


def three(*seats: WatchedMaster | None) -> Chart:
    made = Chart(["a", "b", "c"])
    made.seats = {name: seat for name, seat in zip("abc", seats, strict=True) if seat is not None}
    return made


def test_slots_are_divided_over_all_masters_in_the_order_of_the_configuration() -> None:
    topology, doubled = three(WatchedMaster(A, 0), WatchedMaster(B, 0, (D,)), WatchedMaster(C, 0)).topology(5)
    assert (topology.epoch, topology.cluster, doubled) == (5, False, [])
    assert [(shard.name, shard.nodes, topology.ranges(index)) for index, shard in enumerate(topology.shards)] == [
        ("a", (A,), [(0, 5460)]),
        ("b", (B, D), [(5461, 10922)]),
        ("c", (C,), [(10923, 16383)]),
    ]


def test_slots_of_a_master_that_nobody_knows_are_nobodys() -> None:
    topology, _ = three(WatchedMaster(A, 0), None, WatchedMaster(C, 0)).topology(1)
    assert [shard.name for shard in topology.shards] == ["a", "c"]
    assert topology.ranges(NOBODY) == [(5461, 10922)]
    assert topology.ranges(1) == [(10923, 16383)]


def test_two_masters_with_one_primary() -> None:
    topology, doubled = three(WatchedMaster(A, 0), WatchedMaster(A, 3), WatchedMaster(C, 0)).topology(1)
    assert doubled == ["b"]
    assert [shard.name for shard in topology.shards] == ["a", "c"]
    assert topology.ranges(NOBODY) == [(5461, 10922)]


def test_a_server_that_is_listed_twice_is_used_once() -> None:
    """A replica that was moved to another primary is listed by the old one too, until SENTINEL RESET."""
    topology, doubled = three(
        WatchedMaster(A, 0, (B, D)), WatchedMaster(B, 0, (D,)), WatchedMaster(C, 0, (D,))
    ).topology(1)
    assert not doubled
    assert [shard.replicas for shard in topology.shards] == [(D,), (), ()]
