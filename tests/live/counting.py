"""Clients that count: each knows what its next reply must be, so an acknowledged write that is lost shows."""

import time
from functools import partial

from tests.support.busy_threads import BusyThreads
from tests.support.wire import Wire


class Counting(BusyThreads):
    """One client for each of ``keys``, which deletes it, and INCRs it one time after the other until the block ends.

    ``errors`` has the error replies, ``wrong`` says which replies can not be: after a reply n comes n + 1, and an
    UNCERTAIN may have counted once more. ``longest`` is the longest wait for a reply, in seconds.
    """

    def __init__(self, address: str, keys: list[str]) -> None:
        self.counts = dict.fromkeys(keys, 0)
        self.errors: list[str] = []
        self.wrong: list[str] = []
        self.longest = 0.0
        self._address = address
        super().__init__([partial(self._run, key) for key in keys])

    def wait(self, more: int = 200, timeout: float = 10.0) -> None:
        """Until each has counted so much further. Raises TimeoutError."""
        wanted = {key: count + more for key, count in self.counts.items()}
        deadline = time.monotonic() + timeout
        while any(self.counts[key] < count for key, count in wanted.items()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.counts} did not become {wanted}, errors: {self.errors}")
            time.sleep(0.005)

    def _run(self, key: str) -> None:
        doubt = 0
        try:
            with Wire(self._address, timeout=30) as wire:
                wire.ask("DEL", key)
                while not self.over.is_set():
                    began = time.monotonic()
                    reply = wire.ask("INCR", key)
                    self.longest = max(self.longest, time.monotonic() - began)
                    if reply[:1] == b"-":
                        self.errors.append(reply[1:-2].decode())
                        doubt += reply.startswith(b"-UNCERTAIN")
                        continue
                    count = int(reply[1:-2])
                    if not self.counts[key] < count <= self.counts[key] + 1 + doubt:
                        self.wrong.append(f"{key}: {count} after {self.counts[key]}")
                    self.counts[key] = count
                    doubt = 0
        except OSError as error:
            self.wrong.append(f"{key}: {error!r}")
