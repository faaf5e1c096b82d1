"""An event loop with virtual time: nothing waits, and the same seed gives the same run."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Network(Protocol):
    """Answers ``create_connection``."""

    async def connect(self, protocol: asyncio.Protocol, host: str, port: int) -> asyncio.Transport:
        """Connect ``protocol``. Raises ``OSError`` as a real network does."""


class _Clockwork(selectors.SelectSelector):
    """A selector that moves the clock to the next timer instead of waiting for sockets, of which there are none."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let ``timeout`` seconds pass at once."""
        if timeout is None:
            raise RuntimeError("the simulation stands still: everybody waits and no timer is set")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Connections go to ``network``; ``time`` starts at 0 and passes only between callbacks."""

    def __init__(self) -> None:
        self._clockwork = _Clockwork()
        self.network: Network | None = None
        super().__init__(self._clockwork)

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._clockwork.now

    def stall(self, seconds: float) -> None:
        """Let time pass in which the process does not run: everything that falls due meanwhile happens afterwards, at
        once."""
        self._clockwork.now += seconds

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """Connect to a simulated server."""
        assert self.network is not None
        protocol = protocol_factory()
        return await self.network.connect(protocol, host, port), protocol


def run(main: Coroutine[Any, Any, T]) -> T:
    """The result of ``main`` in a new virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_loop() -> VirtualLoop:
    """The running loop, which must be a virtual one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
