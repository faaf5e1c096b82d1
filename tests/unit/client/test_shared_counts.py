"""Ids and numbers of clients over workers."""

import os
from collections.abc import Iterator

import pytest

from proxy.client.shared_counts import Census, shared_file


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = shared_file(3)
    yield descriptor
    os.close(descriptor)


def test_one_worker_counts_from_one() -> None:
    census = Census()
    assert [census.next_number() for _ in range(3)] == [1, 2, 3]
    assert [census.rank(number) for number in (1, 2, 3)] == [1, 2, 3]


def test_ids_are_unique_and_small(memory: int) -> None:
    workers = [Census(3, index, memory) for index in range(3)]
    ids = [[census.next_number() for _ in range(4)] for census in workers]
    assert ids == [[1, 4, 7, 10], [2, 5, 8, 11], [3, 6, 9, 12]]
    # A worker's clients are dealt out evenly, whatever the numbers of workers and of places have in common.
    for census, own in zip(workers, ids, strict=True):
        ranks = [census.rank(number) for number in own]
        assert [rank - ranks[0] for rank in ranks] == [0, 1, 2, 3]


def test_a_successor_goes_on(memory: int) -> None:
    dead = Census(3, 1, memory)
    assert [dead.next_number(), dead.next_number()] == [2, 5]
    assert Census(3, 1, memory).next_number() == 8


def test_clients_of_all_workers(memory: int) -> None:
    one, two = Census(3, 0, memory), Census(3, 1, memory)
    one.connected(4)
    two.connected(7)
    assert one.total() == two.total() == 11
    two.connected(6)
    assert one.total() == 10
    one.bury(1)
    assert one.total() == two.total() == 4
