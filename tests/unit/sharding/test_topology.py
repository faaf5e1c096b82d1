"""The snapshot of who holds which slot: division, validity, ranges."""

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import load
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import NOBODY, Node, Shard, Topology, build_topology, even_ranges, format_ranges

A, B, C = (Shard(name, Node("127.0.0.1", port)) for name, port in (("a", 1), ("b", 2), ("c", 3)))


def test_three_shards_divide_as_redis_cluster_does() -> None:
    topology = Topology.static([A, B, C])
    assert [topology.ranges(index) for index in range(3)] == [[(0, 5460)], [(5461, 10922)], [(10923, 16383)]]
    assert (topology.slot_shard[5460], topology.slot_shard[5461], topology.slot_shard[16383]) == (0, 1, 2)
    assert topology.epoch == 1
    assert not topology.single


# The ranges that Redis Cluster's users know from `redis-cli --cluster create`.
@pytest.mark.parametrize(
    ("count", "first", "last"),
    [
        (1, (0, 16383), (0, 16383)),
        (2, (0, 8191), (8192, 16383)),
        (5, (0, 3276), (13107, 16383)),
        (6, (0, 2730), (13653, 16383)),
    ],
)
def test_even_division_rounds_as_redis_cli(count: int, first: tuple[int, int], last: tuple[int, int]) -> None:
    ranges = even_ranges(count)
    assert (ranges[0], ranges[-1]) == ([first], [last])


@given(st.integers(1, SLOTS))
def test_even_division_covers_every_slot_once(count: int) -> None:
    flat = [pair for ranges in even_ranges(count) for pair in ranges]
    assert flat[0][0] == 0
    assert flat[-1][1] == SLOTS - 1
    assert all(following[0] == pair[1] + 1 for pair, following in pairwise(flat))
    sizes = {last - first + 1 for first, last in flat}
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("count", [0, SLOTS + 1])
def test_a_number_of_shards_that_can_not_be(count: int) -> None:
    with pytest.raises(ValueError, match="can not share 16384 slots"):
        even_ranges(count)


def test_named_slots_join_into_ranges() -> None:
    topology = Topology.static([A, B], [[(0, 10), (11, 20), (100, 100)], [(21, 99), (101, 16383)]], epoch=7)
    assert topology.ranges(0) == [(0, 20), (100, 100)]
    assert topology.ranges(1) == [(21, 99), (101, 16383)]
    assert format_ranges(topology.ranges(0)) == "0-20,100"
    assert repr(topology) == "<Topology epoch=7: a 0-20,100 at 127.0.0.1:1; b 21-99,101-16383 at 127.0.0.1:2>"


def test_one_shard_is_single() -> None:
    assert Topology.static([A]).single


@pytest.mark.parametrize(
    ("shards", "slots", "words"),
    [
        ([A, B], [[(0, 16383)]], "2 shards, but slots of 1"),
        ([A, B], [[(0, 10)], [(10, 16383)]], "slot 10 has two shards"),
        ([A, B], [[(0, 10)], [(12, 16383)]], "slot 11 has no shard"),
        ([A], [[(0, 16384)]], "0-16384 is not a slot range"),
        ([A], [[(16383, 0)]], "16383-0 is not a slot range"),
        ([A, Shard("a", Node("h", 9))], None, "two shards share the shard name a"),
        ([A, Shard("x", Node("h", 9), (A.primary,))], None, "two shards share the address 127.0.0.1:1"),
        ([], None, "a static topology needs a shard"),
    ],
)
def test_what_could_not_route_is_refused(
    shards: list[Shard], slots: list[list[tuple[int, int]]] | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Topology.static(shards, slots)


@pytest.mark.parametrize("owners", [(), (0,) * (SLOTS - 1), (1,) * SLOTS, (-2,) * SLOTS])
def test_slot_shard_names_a_shard_or_nobody_for_every_slot(owners: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="slot_shard"):
        Topology(1, (A,), owners)


def test_what_was_found_may_have_gaps() -> None:
    topology = Topology.found([A, B], [[(0, 10)], [(12, 16382)]], cluster=True, epoch=5)
    assert topology.ranges(NOBODY) == [(11, 11), (16383, 16383)]
    assert (topology.cluster, topology.epoch) == (True, 5)
    with pytest.raises(ValueError, match="slot 10 has two shards"):
        Topology.found([A, B], [[(0, 10)], [(10, 20)]])


def test_before_anything_is_known() -> None:
    topology = Topology.unknown(cluster=True)
    assert topology.shards == ()
    assert topology.ranges(NOBODY) == [(0, 16383)]
    assert topology.epoch < Topology.static([A]).epoch


def test_one_shard_of_a_cluster_checks_slots_itself() -> None:
    assert not Topology.found([A], [[(0, 16383)]], cluster=True).single


def test_a_snapshot_is_immutable() -> None:
    topology = Topology.static([A])
    with pytest.raises(dataclasses.FrozenInstanceError):
        topology.epoch = 2  # type: ignore[misc]  # what is tested


def test_addresses() -> None:
    assert Node("redis-a", 6379).address == "redis-a:6379"
    assert Node("::1", 6379).address == "[::1]:6379"
    assert str(Node("/run/redis.sock", 0)) == "unix:/run/redis.sock"


def test_from_a_configuration() -> None:
    shards = [
        {"name": "a", "primary": "127.0.0.1:1", "replicas": ["[::1]:2"], "slots": "0-99,200-16383"},
        {"primary": "unix:/run/b.sock", "slots": "100-199"},
    ]
    topology = build_topology(load(None, {"shards": shards}, {}), epoch=3)
    assert topology.epoch == 3
    assert topology.shards == (
        Shard("a", Node("127.0.0.1", 1), (Node("::1", 2),)),
        Shard("shard-2", Node("/run/b.sock", 0)),
    )
    assert topology.shards[0].nodes == (Node("127.0.0.1", 1), Node("::1", 2))
    assert topology.ranges(1) == [(100, 199)]


def test_from_a_configuration_without_slots() -> None:
    topology = build_topology(load(None, {"shards": [{"primary": f"a:{port}"} for port in (1, 2, 3)]}, {}))
    assert topology.ranges(1) == [(5461, 10922)]
