"""Threads that keep the machine or a server busy until a block ends."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class BusyThreads:
    """Runs each of ``targets`` in a thread within the ``with`` block, whose end sets ``over`` and joins the threads."""

    def __init__(self, targets: list[Callable[[], None]]) -> None:
        self.over = threading.Event()
        self._threads = [threading.Thread(target=target) for target in targets]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()
