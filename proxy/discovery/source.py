"""Where the topology comes from, over time."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Protocol

from proxy.sharding.topology import Node, Topology

Adopt = Callable[[Topology], None]
"""Called in the loop with each new snapshot, whose epoch is higher than that of all before."""

SHORTEST = 0.6
"""Seconds between two looks, however many hints come: at most two in a second."""
_JITTER = 0.2


class Source(Protocol):
    """Finds out how the shards are, and goes on finding out."""

    async def run(self, adopt: Adopt) -> None:
        """Never returns; whatever can not be reached is tried again, with a line in the log."""

    def hint(self, node: Node | None = None) -> None:
        """Something says that the topology has changed: a redirection (to ``node``), a lost connection, a server that
        says that the cluster is down. Cheap: called for each of thousands of them."""

    def member(self, node: Node) -> Node | None:
        """Where the server is reached that a redirection calls ``node``; None if nobody who is believed knows it."""

    def stranger(self, node: Node, identity: str) -> str:
        """Why the server at ``node``, whose id in its cluster is ``identity``, is not to be used; "" if it is."""


class Unlisted:
    """Servers that are no cluster's: who belongs to them is what the operator or the sentinels say."""

    def member(self, node: Node) -> Node | None:
        """Nobody is redirected."""
        return node

    def stranger(self, node: Node, identity: str) -> str:
        """Nobody has an id."""
        return ""


class Fixed(Unlisted):
    """A topology that the configuration says and nobody looks for."""

    async def run(self, adopt: Adopt) -> None:
        """Nothing to do."""

    def hint(self, node: Node | None = None) -> None:
        """Nothing to find out."""


class Pace:
    """When to look: every ``period`` seconds, give or take a fifth; sooner after a hint, but never oftener than every
    ``SHORTEST`` seconds. One look at a time, as whoever looks waits here in between."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._hinted = asyncio.Event()
        self._node: Node | None = None
        self._latest: float | None = None

    def hint(self, node: Node | None = None) -> None:
        """Look soon; ``node`` may know best."""
        self._node = node or self._node
        self._hinted.set()

    async def wait(self) -> Node | None:
        """Until it is time to look (at once at the first call): the node of the latest hint that named one."""
        loop = asyncio.get_running_loop()
        if self._latest is not None:
            spread = random.uniform(1.0 - _JITTER, 1.0 + _JITTER)
            # Not wait_for: before Python 3.12 it can swallow that its task is cancelled.
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
