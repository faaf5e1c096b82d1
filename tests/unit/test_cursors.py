"""SCAN cursors of topologies that change."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cursors import Cursors
from proxy.topology import Node, Ranges, Shard, Topology, even_ranges

A, B, C = (Shard(name, Node("10.0.0.1", 7000 + index)) for index, name in enumerate("abc"))


def cursors(shards: Sequence[Shard] = (A, B, C), slots: Sequence[Ranges] | None = None) -> Cursors:
    return Cursors(Topology.found(shards, even_ranges(len(shards)) if slots is None else slots, cluster=True))


def after(of: Cursors, shard: int, inner: int) -> bytes:
    """The cursor that a client gets when ``shard`` answered ``inner``."""
    shift, own, following = of.marks(shard)
    return b"%d" % (inner << int(shift) | int(own)) if inner else following or b"0"


@given(st.integers(0, 2), st.integers(1, 2**45))
def test_it_finds_back(shard: int, inner: int) -> None:
    assert cursors().read(after(cursors(), shard, inner)) == (shard, inner)


def test_one_shard_leads_to_the_next() -> None:
    assert cursors().read(b"0") == (0, 0)
    assert [cursors().read(after(cursors(), shard, 0)) for shard in (0, 1)] == [(1, 0), (2, 0)]
    assert after(cursors(), 2, 0) == b"0"


@pytest.mark.parametrize("shards", [1, 2, 3, 100])
def test_it_leaves_room_for_what_servers_use(shards: int) -> None:
    many = [Shard(str(number), Node("a", number + 1)) for number in range(shards)]
    # Redis 7.4 in cluster mode: 14 bits of slot and a table of a million keys in one of them.
    assert int(after(cursors(many), shards - 1, 2**34 - 1)) < 2**63


def test_a_shard_with_another_primary_starts_again() -> None:
    promoted = Shard("b", Node("10.0.0.9", 7001))
    cursor = after(cursors(), 1, 77)
    assert cursors((A, promoted, C)).read(cursor) == (1, 0)
    assert cursors((A, promoted, C)).read(after(cursors(), 0, 77)) == (0, 77)
    assert cursors((A, promoted, C)).read(after(cursors(), 0, 0)) == (1, 0)


def test_when_slots_have_moved_all_starts_again() -> None:
    moved = [[(0, 5461)], [(5462, 10922)], [(10923, 16383)]]
    for shard in range(3):
        assert cursors(slots=moved).read(after(cursors(), shard, 77)) == (0, 0)
    assert cursors((A, B)).read(after(cursors(), 2, 77)) == (0, 0)


def test_it_does_not_matter_who_made_it() -> None:
    one, other = cursors(), Cursors(Topology.found((A, B, C), even_ranges(3), cluster=True, epoch=9))
    assert other.read(after(one, 2, 5)) == (2, 5)


@pytest.mark.parametrize("text", [b"x", b"", b"-1", b"1.5", b"18446744073709551616", b"9" * 5000])
def test_what_is_none(text: bytes) -> None:
    assert cursors().read(text) is None


def test_a_fixed_topology_needs_no_tags() -> None:
    fixed = Cursors(Topology.static((A, B, C)))
    assert fixed.marks(1) == (b"2", b"1", b"2")
    assert fixed.read(b"3") == (0, 0)
