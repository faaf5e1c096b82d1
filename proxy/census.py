"""What is counted over all workers as it happens: client ids, and how many clients are connected.

Each worker writes two cells of its own and reads all of them::

    worker 0               worker 1               ...
    | numbered | connected | numbered | connected | ...      8 bytes each

With one worker the cells are this process's own; with several they are memory that the supervisor hands to each, so
that a worker's successor goes on numbering where the dead one stopped.
"""

import mmap
import os
import sys
import tempfile

_CELL = 8


def shared_file(workers: int) -> int:
    """A new file for the cells of ``workers``, all 0; its descriptor. It has no name that could be left behind."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("slotgate-census")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, 2 * _CELL * workers)
    return descriptor


class Census:
    """The cells, as worker ``index`` of ``workers`` sees them; ``descriptor`` is a ``shared_file``'s."""

    def __init__(self, workers: int = 1, index: int = 0, descriptor: int | None = None) -> None:
        size = 2 * _CELL * workers
        self._cells = memoryview(bytearray(size) if descriptor is None else mmap.mmap(descriptor, size)).cast("Q")
        self.workers = workers
        self.index = index

    def __repr__(self) -> str:
        return f"Census({self.index} of {self.workers}, {self.total()} connected)"

    def next_number(self) -> int:
        """The id of this worker's next client: from 1, never given twice, by no worker."""
        numbered = self._cells[2 * self.index]
        self._cells[2 * self.index] = numbered + 1
        return numbered * self.workers + self.index + 1

    def rank(self, number: int) -> int:
        """Consecutive numbers for a worker's consecutive ids, to deal its clients out by."""
        return number // self.workers + number % self.workers

    def connected(self, count: int) -> None:
        """This worker has ``count`` clients now."""
        self._cells[2 * self.index + 1] = count

    def total(self) -> int:
        """The clients of all workers."""
        total = 0
        for at in range(self.workers):
            total += self._cells[2 * at + 1]
        return total

    def bury(self, index: int) -> None:
        """Worker ``index`` is dead, and its clients are gone with it."""
        self._cells[2 * index + 1] = 0
