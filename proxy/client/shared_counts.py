"""Counters that all workers share: client ids, connected clients, blocked clients, and subscriptions that have begun.

Each worker writes three cells of its own, and reads the cells of all workers::

    worker 0                         worker 1                         ...
    | numbered | connected | blocked | numbered | connected | blocked | ...      8 bytes each

Behind these are a row for each worker with the number of its clients at each listener, and two rows for each worker:
the number of subscriptions that its clients have begun, and the number of
those that are complete or given up, by a hash of the channel (``proxy.pubsub.beginnings``).

With one worker the cells are memory of this process. With several they are memory that the supervisor passes to each
worker, so that a worker's successor continues the numbering of a dead one.
"""

import mmap
import os
import sys
import tempfile

from proxy.pubsub.beginnings import BUCKETS

_CELL = 8
_CELLS = 3


def shared_file(workers: int, listeners: int = 1) -> int:
    """Make a file for the cells of ``workers`` with ``listeners``, all 0, and return its descriptor.

    The file has no name that could be left behind.
    """
    if sys.platform == "linux":
        descriptor = os.memfd_create("slotgate-shared_counts")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, _size(workers, listeners))
    return descriptor


def _size(workers: int, listeners: int) -> int:
    return (_CELLS + listeners + 2 * BUCKETS) * _CELL * workers


class SharedCounts:
    """The cells as worker ``index`` of ``workers`` sees them; ``descriptor`` is that of a ``shared_file``."""

    def __init__(self, workers: int = 1, index: int = 0, descriptor: int | None = None, listeners: int = 1) -> None:
        size = _size(workers, listeners)
        self._listeners = listeners
        self._cells = memoryview(bytearray(size) if descriptor is None else mmap.mmap(descriptor, size)).cast("Q")
        self.workers = workers
        self.index = index

    def __repr__(self) -> str:
        return f"SharedCounts({self.index} of {self.workers}, {self.total()} connected)"

    def next_number(self) -> int:
        """The id of this worker's next client: from 1 on, and never given twice by any worker."""
        numbered = self._cells[_CELLS * self.index]
        self._cells[_CELLS * self.index] = numbered + 1
        return numbered * self.workers + self.index + 1

    def rank(self, number: int) -> int:
        """A number that is consecutive for a worker's consecutive ids, by which its clients are spread over
        connections."""
        return number // self.workers + number % self.workers

    def connected(self, count: int) -> None:
        """Note that this worker has ``count`` clients now."""
        self._cells[_CELLS * self.index + 1] = count

    def blocked(self, count: int) -> None:
        """Note that ``count`` of this worker's clients wait in a blocking command now."""
        self._cells[_CELLS * self.index + 2] = count

    def total(self) -> int:
        """The number of clients of all workers."""
        return self._sum(1)

    def total_blocked(self) -> int:
        """The number of clients of all workers that wait in a blocking command."""
        return self._sum(2)

    def count_at(self, listener: int, change: int) -> None:
        """Count ``change`` more clients of this worker at the ``listener`` of this position."""
        self._cells[self._at(self.index, listener)] += change

    def total_at(self, listener: int) -> int:
        """The number of clients of all workers at a listener."""
        return sum(self._cells[self._at(worker, listener)] for worker in range(self.workers))

    def _at(self, worker: int, listener: int) -> int:
        return _CELLS * self.workers + self._listeners * worker + listener

    def _sum(self, cell: int) -> int:
        total = 0
        for at in range(self.workers):
            total += self._cells[_CELLS * at + cell]
        return total

    def begun(self, bucket: int) -> None:
        """Count one more subscription in ``bucket`` that a client of this worker has begun."""
        self._cells[self._row(self.index) + bucket] += 1

    def ended(self, bucket: int) -> None:
        """Count one of the begun subscriptions in ``bucket`` as complete or given up."""
        self._cells[self._row(self.index) + BUCKETS + bucket] += 1

    def begun_elsewhere(self, bucket: int) -> list[tuple[int, int]]:
        """The other workers with incomplete subscriptions in ``bucket``, each with the number begun so far."""
        found = []
        for worker in range(self.workers):
            row = self._row(worker) + bucket
            if worker != self.index and self._cells[row] > self._cells[row + BUCKETS]:
                found.append((worker, self._cells[row]))
        return found

    def ended_elsewhere(self, bucket: int, worker: int) -> int:
        """The number of subscriptions in ``bucket`` of ``worker`` that are complete or given up."""
        count: int = self._cells[self._row(worker) + BUCKETS + bucket]
        return count

    def _row(self, worker: int) -> int:
        return (_CELLS + self._listeners) * self.workers + 2 * BUCKETS * worker

    def bury(self, index: int) -> None:
        """Remove the clients of the dead worker ``index`` from the counts."""
        self._cells[_CELLS * index + 1] = 0
        self._cells[_CELLS * index + 2] = 0
        for listener in range(self._listeners):
            self._cells[self._at(index, listener)] = 0
        row = self._row(index)
        for bucket in range(row, row + BUCKETS):
            self._cells[bucket + BUCKETS] = self._cells[bucket]
