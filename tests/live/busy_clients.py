"""Clients that keep a proxy busy in threads, and note what they are answered."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from tests.support.busy_threads import BusyThreads
from tests.support.wire import Argument, Wire, pipeline

Ask = Callable[[random.Random], Sequence[tuple[Argument, ...]]]
"""Makes up the next pipelined commands."""
Right = Callable[[tuple[Argument, ...], bytes], bool]
"""Whether a reply fits its command."""


class BusyClients(BusyThreads):
    """``clients`` threads that send what ``ask`` makes up, over and over, until the block ends.

    ``errors`` has the error replies by their text, ``replies`` counts the others, ``wrong`` says which of them
    ``right`` did not accept, ``broken`` why a connection broke.
    """

    def __init__(self, address: str, ask: Ask, *, right: Right | None = None, clients: int = 4) -> None:
        self.replies = 0
        self.errors: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.broken: list[str] = []
        self._address = address
        self._ask = ask
        self._right = right
        self._lock = threading.Lock()
        super().__init__([partial(self._run, number) for number in range(clients)])

    def wait(self, replies: int, timeout: float = 10.0) -> None:
        """Until so many more good replies have come. Raises TimeoutError."""
        wanted = self.replies + replies
        deadline = time.monotonic() + timeout
        while self.replies < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{wanted - self.replies} of {replies} replies did not come, errors: {self.errors}")
            time.sleep(0.005)

    def _run(self, number: int) -> None:
        rng = random.Random(number)
        try:
            with Wire(self._address) as wire:
                while not self.over.is_set():
                    commands = self._ask(rng)
                    wire.send(pipeline(*commands))
                    self._note(commands, wire.replies(len(commands)))
        except OSError as error:
            self.broken.append(repr(error))

    def _note(self, commands: Sequence[tuple[Argument, ...]], replies: Sequence[bytes]) -> None:
        with self._lock:
            for command, reply in zip(commands, replies, strict=True):
                if reply[:1] == b"-":
                    self.errors[reply[1:-2].decode()] += 1
                    continue
                self.replies += 1
                if self._right is not None and not self._right(command, reply):
                    self.wrong.append(f"{command} was answered {reply[:100]!r}")
