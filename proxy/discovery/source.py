"""The contract of a source, which finds the topology and follows its changes."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Protocol

from proxy.sharding.topology import Node, Topology

Adopt = Callable[[Topology], None]
"""A callback for each new snapshot, called in the loop; the epoch is higher than that of all earlier ones."""

SHORTEST = 0.6
"""The least seconds between two looks, however many hints come: at most two in a second."""
_JITTER = 0.2


class Source(Protocol):
    """Finds the topology, and follows its changes."""

    async def run(self, adopt: Adopt) -> None:
        """Follow the topology; never returns. Unreachable servers are logged and tried again."""

    def hint(self, node: Node | None = None) -> None:
        """Look soon, since the topology may have changed: after a redirection (to ``node``), a lost connection, or an
        error that the cluster is down. The call is cheap, since thousands may come."""

    def member(self, node: Node) -> Node | None:
        """The address of the server that a redirection calls ``node``; None if no believed node knows it."""

    def stranger(self, node: Node, identity: str) -> str:
        """The reason not to use the server at ``node``, whose id in its cluster is ``identity``; "" to use it."""


class Unlisted:
    """A source without a cluster: the operator or the sentinels name the servers that belong to it."""

    def member(self, node: Node) -> Node | None:
        """``node`` itself, since without a cluster there are no redirections."""
        return node

    def stranger(self, node: Node, identity: str) -> str:
        """Always "", since without a cluster servers have no ids."""
        return ""


class Fixed(Unlisted):
    """The source of a topology that is fixed by the configuration."""

    async def run(self, adopt: Adopt) -> None:
        """Return at once, since nothing changes."""

    def hint(self, node: Node | None = None) -> None:
        """Ignore the hint, since nothing changes."""


class Pace:
    """The pace of looks: one every ``period`` seconds, more or less by a fifth, and sooner after a hint, but at least
    ``SHORTEST`` seconds apart. There is one look at a time, since the source waits here in between."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._hinted = asyncio.Event()
        self._node: Node | None = None
        self._latest: float | None = None

    def hint(self, node: Node | None = None) -> None:
        """Look soon, at ``node`` first."""
        self._node = node or self._node
        self._hinted.set()

    async def wait(self) -> Node | None:
        """Wait until the next look is due (the first one is at once); return the node of the latest hint with one."""
        loop = asyncio.get_running_loop()
        if self._latest is not None:
            spread = random.uniform(1.0 - _JITTER, 1.0 + _JITTER)
            # asyncio.wait_for is not used: before Python 3.12 it can lose a cancellation of its task.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._period * spread):
                    await self._hinted.wait()
            left = self._latest + SHORTEST - loop.time()
            if left > 0:
                await asyncio.sleep(left)
        self._hinted.clear()
        self._latest = loop.time()
        node, self._node = self._node, None
        return node
