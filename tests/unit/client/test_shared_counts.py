"""Ids and numbers of clients over workers."""

import os
from collections.abc import Iterator

import pytest

from proxy.client.shared_counts import SharedCounts, shared_file


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = shared_file(3)
    yield descriptor
    os.close(descriptor)


def test_one_worker_counts_from_one() -> None:
    shared_counts = SharedCounts()
    assert [shared_counts.next_number() for _ in range(3)] == [1, 2, 3]
    assert [shared_counts.rank(number) for number in (1, 2, 3)] == [1, 2, 3]


def test_ids_are_unique_and_small(memory: int) -> None:
    workers = [SharedCounts(3, index, memory) for index in range(3)]
    ids = [[shared_counts.next_number() for _ in range(4)] for shared_counts in workers]
    assert ids == [[1, 4, 7, 10], [2, 5, 8, 11], [3, 6, 9, 12]]
    # A worker's clients are dealt out evenly, whatever the numbers of workers and of places have in common.
    for shared_counts, own in zip(workers, ids, strict=True):
        ranks = [shared_counts.rank(number) for number in own]
        assert [rank - ranks[0] for rank in ranks] == [0, 1, 2, 3]


def test_a_successor_goes_on(memory: int) -> None:
    dead = SharedCounts(3, 1, memory)
    assert [dead.next_number(), dead.next_number()] == [2, 5]
    assert SharedCounts(3, 1, memory).next_number() == 8


def test_clients_of_all_workers(memory: int) -> None:
    one, two = SharedCounts(3, 0, memory), SharedCounts(3, 1, memory)
    one.connected(4)
    two.connected(7)
    assert one.total() == two.total() == 11
    two.connected(6)
    assert one.total() == 10
    one.bury(1)
    assert one.total() == two.total() == 4


def test_what_clients_of_other_workers_are_about_to_hear(memory: int) -> None:
    """Numbers that only grow: what is begun later does not keep those waiting who look at what had begun before."""
    one, two = SharedCounts(3, 0, memory), SharedCounts(3, 1, memory)
    two.begun(5)
    two.begun(5)
    two.ended(5)
    one.begun(5)
    assert one.begun_elsewhere(5) == [(1, 2)]
    assert one.begun_elsewhere(6) == []
    assert two.begun_elsewhere(5) == [(0, 1)]
    assert one.ended_elsewhere(5, 1) == 1
    two.begun(5)
    two.ended(5)
    assert one.ended_elsewhere(5, 1) == 2
    one.bury(1)
    assert one.begun_elsewhere(5) == []
    assert one.ended_elsewhere(5, 1) == 3


def test_clients_of_a_listener() -> None:
    descriptor = shared_file(2, 3)
    try:
        one, other = (SharedCounts(2, index, descriptor, 3) for index in range(2))
        one.count_at(0, 1)
        one.count_at(2, 1)
        other.count_at(2, 1)
        other.count_at(2, 1)
        other.begun(0)
        assert [one.total_at(listener) for listener in range(3)] == [1, 0, 3]
        assert one.begun_elsewhere(0) == [(1, 1)]
        other.count_at(2, -1)
        assert one.total_at(2) == 2
        one.bury(1)
        assert [one.total_at(listener) for listener in range(3)] == [1, 0, 1]
        assert (one.total(), one.begun_elsewhere(0)) == (0, [])
    finally:
        os.close(descriptor)
