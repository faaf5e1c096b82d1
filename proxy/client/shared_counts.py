"""What is counted over all workers as it happens: client ids, how many clients are connected, how many block, and what
they are about to hear.

Each worker writes three cells of its own and reads all of them::

    worker 0                         worker 1                         ...
    | numbered | connected | blocked | numbered | connected | blocked | ...      8 bytes each

Behind these come two rows for each worker: how many subscriptions its clients have begun, and how many of those are
over, by a hash of what is subscribed to (``proxy.pubsub.beginnings``).

With one worker the cells are this process's own; with several they are memory that the supervisor hands to each, so
that a worker's successor goes on numbering where the dead one stopped.
"""

import mmap
import os
import sys
import tempfile

_CELL = 8
_CELLS = 3
BUCKETS = 64
"""Hashes of what is subscribed to."""


def shared_file(workers: int) -> int:
    """A new file for the cells of ``workers``, all 0; its descriptor. It has no name that could be left behind."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("slotgate-shared_counts")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, _size(workers))
    return descriptor


def _size(workers: int) -> int:
    return (_CELLS + 2 * BUCKETS) * _CELL * workers


class SharedCounts:
    """The cells, as worker ``index`` of ``workers`` sees them; ``descriptor`` is a ``shared_file``'s."""

    def __init__(self, workers: int = 1, index: int = 0, descriptor: int | None = None) -> None:
        size = _size(workers)
        self._cells = memoryview(bytearray(size) if descriptor is None else mmap.mmap(descriptor, size)).cast("Q")
        self.workers = workers
        self.index = index

    def __repr__(self) -> str:
        return f"SharedCounts({self.index} of {self.workers}, {self.total()} connected)"

    def next_number(self) -> int:
        """The id of this worker's next client: from 1, never given twice, by no worker."""
        numbered = self._cells[_CELLS * self.index]
        self._cells[_CELLS * self.index] = numbered + 1
        return numbered * self.workers + self.index + 1

    def rank(self, number: int) -> int:
        """Consecutive numbers for a worker's consecutive ids, to deal its clients out by."""
        return number // self.workers + number % self.workers

    def connected(self, count: int) -> None:
        """This worker has ``count`` clients now."""
        self._cells[_CELLS * self.index + 1] = count

    def blocked(self, count: int) -> None:
        """Of this worker's clients ``count`` wait in a blocking command now."""
        self._cells[_CELLS * self.index + 2] = count

    def total(self) -> int:
        """The clients of all workers."""
        return self._sum(1)

    def total_blocked(self) -> int:
        """Those of all workers that wait in a blocking command."""
        return self._sum(2)

    def _sum(self, cell: int) -> int:
        total = 0
        for at in range(self.workers):
            total += self._cells[_CELLS * at + cell]
        return total

    def begun(self, bucket: int) -> None:
        """A client of this worker has begun to subscribe to something in ``bucket``."""
        self._cells[self._row(self.index) + bucket] += 1

    def ended(self, bucket: int) -> None:
        """One of those hears it, or is not waited for any more."""
        self._cells[self._row(self.index) + BUCKETS + bucket] += 1

    def begun_elsewhere(self, bucket: int) -> list[tuple[int, int]]:
        """The other workers of which clients have begun, and hear nothing yet: how many had begun up to now."""
        found = []
        for worker in range(self.workers):
            row = self._row(worker) + bucket
            if worker != self.index and self._cells[row] > self._cells[row + BUCKETS]:
                found.append((worker, self._cells[row]))
        return found

    def ended_elsewhere(self, bucket: int, worker: int) -> int:
        """How many of those of ``worker`` are over."""
        count: int = self._cells[self._row(worker) + BUCKETS + bucket]
        return count

    def _row(self, worker: int) -> int:
        return _CELLS * self.workers + 2 * BUCKETS * worker

    def bury(self, index: int) -> None:
        """Worker ``index`` is dead, and its clients are gone with it."""
        self._cells[_CELLS * index + 1] = 0
        self._cells[_CELLS * index + 2] = 0
        row = self._row(index)
        for bucket in range(row, row + BUCKETS):
            self._cells[bucket + BUCKETS] = self._cells[bucket]
