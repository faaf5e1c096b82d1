"""A clock whose time tests set."""

import asyncio

from proxy.transport.clock import Clock


class Told(Clock):
    """Shows ``time``, which tests set."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.time = 100.0
        super().__init__(loop, lambda: self.time)

    def now(self) -> float:
        self.read = self.time
        return self.time
