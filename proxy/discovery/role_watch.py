"""Checks that the servers in use as primaries still are primaries.

A server that answers READONLY, or reports the role of a replica, is not a primary any more. All connections to it are
replaced: its name is resolved again, and each of its addresses is asked for its role before it gets a request, so that
nothing is sent to a replica until the primary is found. Meanwhile the requests wait, as for a server that is down.

    READONLY, or the role of a replica ──▶ connections replaced ──▶ name resolved, handshake ──▶ a primary: go on
                                                                              └──▶ none: /readyz fails, try again
"""

import asyncio
import logging
import random
import sys
from collections.abc import Collection
from typing import Protocol

from proxy.backends.pool import Pool
from proxy.backends.settings import Place
from proxy.backends.shared import Backend
from proxy.discovery.learn import node_of_cluster
from proxy.engine.sink import WholeReplySink
from proxy.resp import encode
from proxy.resp.bounded_reader import SHORT
from proxy.resp.info import Replication
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import Node
from proxy.transport.write_batch import Turn

log = logging.getLogger(__name__)

_AGAIN = 1.0
"""Seconds between two replacements of the connections to one server, however many requests it refuses."""
_EVERY = 1.0
"""Seconds between two checks of a primary."""
_JITTER = 0.2
_QUESTION = encode.request(("INFO", "replication"))


class Watched(Protocol):
    """A worker whose primaries are watched."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    @property
    def turn(self) -> Turn:
        """The turns of the loop, with the clock of the deadlines."""

    @property
    def pool(self) -> Pool:
        """The pool of shared connections."""

    def leave_primary(self, node: Node) -> None:
        """Look for the topology and replace the connections to ``node``, which is not a primary."""

    def renew_subscriptions(self, node: Node) -> None:
        """Subscribe at ``node`` again, over a new connection."""


class _RoleAnswer(WholeReplySink):
    """The sink of a server's reply to ROLE."""

    __slots__ = ("_place", "_watch")

    def __init__(self, watch: "RoleWatch", place: Place) -> None:
        self._watch = watch
        self._place = place

    @property
    def counted(self) -> bool:
        """Whether an error counts as a failed command: it does not, since no client sent the request."""
        return False

    def kept(self, token: int, size: int) -> int:
        """Have a reply dropped that is longer than an answer to this question."""
        return size if size <= SHORT.size else sys.maxsize

    def take(self, token: int, reply: bytes) -> None:
        """Report a server that is a replica."""
        if reply[:1] == b"$" and Replication.read(reply).demoted:
            self._watch.demoted(self._place)


class RoleWatch:
    """Watches the primaries of ``service``. ``enabled`` says that their role is checked."""

    def __init__(self, service: Watched, enabled: bool) -> None:
        self._service = service
        self._enabled = enabled
        self._renewed: dict[Node, float] = {}
        self._sought: set[Node] = set()
        """The servers whose connections were replaced, and that have not been primaries since."""
        self.misfits: dict[Node, str] = {}
        """The reachable servers that can not be primaries of static shards, each with the reason."""

    def demoted(self, place: Place) -> None:
        """Act on a server that reports that it is a replica. This is cheap, since thousands of requests may call it."""
        if not self._enabled or not place.primary:
            return
        now = self._service.turn.now()
        node = place.node
        if now - self._renewed.get(node, -_AGAIN) < _AGAIN:
            return
        self._renewed[node] = now
        # The connection that reported it is still being read, so its replacement waits for the next turn.
        self._service.loop.call_soon(self._renew, place)

    def stood(self, backend: Backend) -> None:
        """Act on a connection that is ready: subscriptions move to the primary that was found."""
        node = backend.place.node
        if backend.place.primary and node in self._sought:
            self._sought.discard(node)
            log.warning("primary found again shard=%s address=%s", backend.place.shard, node.address)
            self._service.renew_subscriptions(node)

    def learned(self, node: Node, slots: int | None) -> None:
        """Act on the number of slots that ``node`` of a static shard serves in a cluster; None without a cluster."""
        why = "" if slots in (None, SLOTS) else node_of_cluster(slots or 0)
        if why and self.misfits.get(node) != why:
            log.error("a primary can not be a static shard address=%s: %s", node.address, why)
        elif slots == SLOTS:
            log.info("a primary is in cluster mode, and serves all slots by itself address=%s", node.address)
        if why:
            self.misfits[node] = why
        else:
            self.misfits.pop(node, None)

    def known(self, nodes: Collection[Node]) -> None:
        """Forget the servers that are not in ``nodes``."""
        self._renewed = {node: when for node, when in self._renewed.items() if node in nodes}
        self._sought.intersection_update(nodes)
        self.misfits = {node: why for node, why in self.misfits.items() if node in nodes}

    async def run(self) -> None:
        """Ask each primary for its role every second, over a shared connection; never returns. Reads alone would not
        show that the server behind a name was replaced, if another worker was the one that got READONLY."""
        while True:
            await asyncio.sleep(_EVERY * random.uniform(1 - _JITTER, 1 + _JITTER))
            now = self._service.turn.now()
            # The request must not follow a CLIENT CACHING, which applies to the next request.
            asked = {
                backend.place.node: backend
                for backend in self._service.pool
                if backend.ready and backend.place.primary and not backend.place.owner
            }
            for backend in asked.values():
                backend.send(_RoleAnswer(self, backend.place), 0, _QUESTION, now, None)

    def _renew(self, place: Place) -> None:
        node = place.node
        log.error("a server used as a primary says that it is a replica shard=%s address=%s", place.shard, node.address)
        self._sought.add(node)
        self._service.leave_primary(node)
