"""SCAN cursors of topologies that change."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.planning import scan_cursor
from proxy.planning.scan_cursor import Cursors
from proxy.resp.replies import BadReply
from proxy.sharding.topology import Node, Ranges, Shard, Topology, even_ranges

A, B, C = (Shard(name, Node("10.0.0.1", 7000 + index)) for index, name in enumerate("abc"))


def cursors(shards: Sequence[Shard] = (A, B, C), slots: Sequence[Ranges] | None = None) -> Cursors:
    return Cursors(Topology.found(shards, even_ranges(len(shards)) if slots is None else slots, cluster=True))


def after(of: Cursors, shard: int, inner: int) -> bytes:
    """The cursor that a client gets when ``shard`` answered ``inner``."""
    shift, own, following = of.marks(shard, of.start[2])
    return b"%d" % (inner << int(shift) | int(own)) if inner else following or b"0"


MAP = cursors().start[2]
"""The tag of the usual map."""


@given(st.integers(0, 2), st.integers(1, 2**39))
def test_it_finds_back(shard: int, inner: int) -> None:
    assert cursors().read(after(cursors(), shard, inner)) == (shard, inner, MAP)


def test_one_shard_leads_to_the_next() -> None:
    assert cursors().read(b"0") == (0, 0, MAP)
    assert [cursors().read(after(cursors(), shard, 0)) for shard in (0, 1)] == [(1, 0, MAP), (2, 0, MAP)]
    assert after(cursors(), 2, 0) == b"0"


@pytest.mark.parametrize("shards", [1, 2, 3, 100])
def test_it_leaves_room_for_what_servers_use(shards: int) -> None:
    many = [Shard(str(number), Node("a", number + 1)) for number in range(shards)]
    # Redis 7.4 in cluster mode: 14 bits of slot and a table of a million keys in one of them.
    assert int(after(cursors(many), shards - 1, 2**34 - 1)) < 2**63


def test_a_shard_with_another_primary_starts_again() -> None:
    promoted = Shard("b", Node("10.0.0.9", 7001))
    cursor = after(cursors(), 1, 77)
    assert cursors((A, promoted, C)).read(cursor) == (1, 0, MAP)
    assert cursors((A, promoted, C)).read(after(cursors(), 0, 77)) == (0, 77, MAP)
    assert cursors((A, promoted, C)).read(after(cursors(), 0, 0)) == (1, 0, MAP)


EVEN = even_ranges(3)
FIRST_TO_LAST: Sequence[Ranges] = ([(1, 5460)], [(5461, 10922)], [(0, 0), (10923, 16383)])
LAST_TO_SECOND: Sequence[Ranges] = ([(0, 5460)], [(5461, 10922), (16383, 16383)], [(10923, 16382)])


class TwoWorkers:
    """Two workers that learn of maps at different times."""

    def __init__(self) -> None:
        self.time = 0.0
        self.workers = [self._cursors(EVEN, None), self._cursors(EVEN, None)]

    def _cursors(self, slots: Sequence[Ranges], before: Cursors | None, shards: Sequence[Shard] = (A, B, C)) -> Cursors:
        topology = Topology.found(shards, slots, cluster=True)
        return Cursors(topology, before, lambda: self.time)

    def learn(self, worker: int, slots: Sequence[Ranges], shards: Sequence[Shard] = (A, B, C)) -> None:
        """A worker learns of another map."""
        self.workers[worker] = self._cursors(slots, self.workers[worker], shards)

    def page(self, worker: int, cursor: bytes, inner: int) -> tuple[int, int, bytes]:
        """A page: the shard and cursor that were asked, and the next cursor if the server answered ``inner``."""
        place = self.workers[worker].read(cursor)
        assert place is not None
        shard, own, slots = place
        shift, here, following = self.workers[worker].marks(shard, slots)
        return shard, own, b"%d" % (inner << int(shift) | int(here)) if inner else following or b"0"


def test_slots_that_went_to_who_is_still_to_come_change_nothing() -> None:
    pair = TwoWorkers()
    _, _, cursor = pair.page(0, b"0", 77)
    pair.learn(0, FIRST_TO_LAST)
    assert pair.page(0, cursor, 78)[:2] == (0, 77)


def test_slots_that_went_to_who_was_scanned_have_it_scanned_again() -> None:
    """From that shard on, and not a second time."""
    for at, again in ((0, 0), (1, 1), (2, 1)):
        pair = TwoWorkers()
        cursor = b"0"
        for _ in range(at):
            cursor = pair.page(0, cursor, 0)[2]
        cursor = pair.page(0, cursor, 77)[2]
        pair.learn(0, LAST_TO_SECOND)
        shard, inner, cursor = pair.page(0, cursor, 5)
        assert (shard, inner) == (again, 0 if at else 77)
        assert pair.page(0, cursor, 6)[:2] == (again, 5)


def test_what_several_maps_ago_was_given_counts() -> None:
    pair = TwoWorkers()
    cursor = pair.page(0, pair.page(0, b"0", 0)[2], 77)[2]
    for slots in (LAST_TO_SECOND, FIRST_TO_LAST, EVEN):
        pair.learn(0, slots)
    # The last of these gave the first shard its slot 0 back; it had been elsewhere.
    assert pair.page(0, cursor, 0)[:2] == (1, 77)  # the map that the cursor is for is this one again
    pair.learn(0, LAST_TO_SECOND)
    assert pair.page(0, cursor, 0)[:2] == (1, 0)


def test_workers_that_do_not_agree_make_progress() -> None:
    """One learns of a map later: what the other does it goes on with, and neither begins again each time."""
    pair = TwoWorkers()
    cursor = pair.page(1, pair.page(0, b"0", 0)[2], 77)[2]
    pair.learn(0, LAST_TO_SECOND)
    asked = []
    for page in range(1, 9):
        shard, inner, cursor = pair.page(page % 2, cursor, 100 + page if page < 8 else 0)
        asked.append((shard, inner))
    # Once back, as the second shard has more now; that the other worker knows of the map at last changes nothing.
    assert asked == [(1, 77), (1, 0), *((1, 100 + page) for page in range(2, 8))]
    pair.learn(1, LAST_TO_SECOND)
    assert pair.page(1, cursor, 9)[:2] == (2, 0)


def test_a_map_that_nobody_learns_of_is_not_believed_for_ever() -> None:
    pair = TwoWorkers()
    cursor = pair.page(0, b"0", 0)[2]
    pair.learn(1, LAST_TO_SECOND)
    pair.time = 10.0
    stranger = TwoWorkers()
    stranger.learn(0, FIRST_TO_LAST)
    cursor = stranger.page(0, stranger.page(0, b"0", 0)[2], 77)[2]
    assert pair.page(0, cursor, 78)[:2] == (1, 77)
    pair.time = 39.0
    assert pair.page(0, cursor, 78)[:2] == (1, 77)
    pair.time = 41.0
    assert pair.page(0, cursor, 78)[:2] == (0, 0)


def test_a_shard_more_does_not_disturb() -> None:
    """It comes last; what it took was scanned, or will be there. One less, or another order, begins again."""
    pair = TwoWorkers()
    many = [Shard(f"s{number}", Node("10.0.0.1", 7000 + number)) for number in range(5)]
    pair.learn(0, even_ranges(4), many[:4])
    cursor = pair.page(0, pair.page(0, b"0", 0)[2], 77)[2]
    took: list[Ranges] = [[(first, last - 1)] for ((first, last),) in even_ranges(4)]
    took.append([(last, last) for ((_, last),) in even_ranges(4)])
    pair.learn(0, took, many)
    shard, inner, cursor = pair.page(0, cursor, 78)
    assert (shard, inner) == (1, 77)
    pair.learn(0, even_ranges(4), many[:4])
    shard, inner, cursor = pair.page(0, cursor, 78)
    assert (shard, inner) == (0, 0)
    pair.learn(0, even_ranges(4), [many[1], many[0], *many[2:4]])
    assert pair.page(0, cursor, 78)[:2] == (0, 0)


def test_it_does_not_matter_who_made_it() -> None:
    one, other = cursors(), Cursors(Topology.found((A, B, C), even_ranges(3), cluster=True, epoch=9))
    assert other.read(after(one, 2, 5)) == (2, 5, MAP)


@pytest.mark.parametrize("text", [b"x", b"", b"-1", b"1.5", b"18446744073709551616", b"9" * 5000])
def test_what_is_none(text: bytes) -> None:
    assert cursors().read(text) is None


def test_a_fixed_topology_needs_no_tags() -> None:
    fixed = Cursors(Topology.static((A, B, C)))
    assert fixed.marks(1, 0) == (b"2", b"1", b"2")
    assert fixed.read(b"3") == (0, 0, 0)


def test_a_page_is_divided_behind_its_cursor() -> None:
    assert scan_cursor.page(b"*2\r\n$2\r\n17\r\n*1\r\n$1\r\nk\r\n") == (b"$2\r\n17\r\n", b"*1\r\n$1\r\nk\r\n")


@pytest.mark.parametrize(
    "reply", [b"*0\r\n", b"*-1\r\n", b"*1\r\n$1\r\n0\r\n", b"*3\r\n:0\r\n*0\r\n:1\r\n", b"+OK\r\n"]
)
def test_what_is_no_page(reply: bytes) -> None:
    with pytest.raises(BadReply):
        scan_cursor.page(reply)
