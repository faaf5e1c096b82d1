"""Whether the servers that are used as primaries still are.

A server that says READONLY, or that says that it is a replica when it is asked, is not the primary any more. All
connections to it are made anew: its name is looked up again, and each of its addresses is asked for its role before it
gets a request, so that nothing is sent to a replica until the primary is found. The requests wait meanwhile, as for a
server that is down.

    READONLY, or a replica when asked ──▶ every connection replaced ──▶ looked up, greeted ──▶ a primary: go on
                                                                              └──▶ none: /readyz says so, try again
"""

import asyncio
import logging
import random
from collections.abc import Collection
from typing import Protocol

from proxy.backends.pool import Pool
from proxy.backends.settings import Place
from proxy.backends.shared import Backend
from proxy.discovery.learn import node_of_cluster
from proxy.engine.sink import WholeReplySink
from proxy.resp import encode
from proxy.resp.info import Replication
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import Node
from proxy.transport.write_batch import Turn

log = logging.getLogger(__name__)

_AGAIN = 1.0
"""Seconds between two renewals of the connections to one server, however many requests it refuses."""
_EVERY = 1.0
"""Seconds between two questions to a primary."""
_JITTER = 0.2
_QUESTION = encode.request(("INFO", "replication"))


class Watched(Protocol):
    """A worker whose primaries are watched."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    @property
    def turn(self) -> Turn:
        """Its turns, with the clock that deadlines go by."""

    @property
    def pool(self) -> Pool:
        """The shared connections."""

    def leave_primary(self, node: Node) -> None:
        """``node`` is no primary: have the topology looked at, and go over fresh connections."""

    def renew_subscriptions(self, node: Node) -> None:
        """Subscribe at ``node`` over a fresh connection."""


class _RoleAnswer(WholeReplySink):
    """Takes a server's answer to the question what it is."""

    __slots__ = ("_place", "_watch")

    def __init__(self, watch: "RoleWatch", place: Place) -> None:
        self._watch = watch
        self._place = place

    @property
    def counted(self) -> bool:
        """No client asked for it."""
        return False

    def take(self, token: int, reply: bytes) -> None:
        """Take it."""
        if reply[:1] == b"$" and Replication.read(reply).demoted:
            self._watch.demoted(self._place)


class RoleWatch:
    """The watch of ``service`` over its primaries. ``enabled``: they are to be primaries, whatever the configuration
    says."""

    def __init__(self, service: Watched, enabled: bool) -> None:
        self._service = service
        self._enabled = enabled
        self._renewed: dict[Node, float] = {}
        self._sought: set[Node] = set()
        """Those whose connections were renewed, and that have not been found to be primaries since."""
        self.misfits: dict[Node, str] = {}
        """Servers that can be reached and are no primaries of static shards, and why not."""

    def demoted(self, place: Place) -> None:
        """The server of ``place`` says that it is a replica. Cheap: called for each of thousands of requests."""
        if not self._enabled or not place.primary:
            return
        now = self._service.turn.now()
        node = place.node
        if now - self._renewed.get(node, -_AGAIN) < _AGAIN:
            return
        self._renewed[node] = now
        # Not within the reading of the connection that said so.
        self._service.loop.call_soon(self._renew, place)

    def stood(self, backend: Backend) -> None:
        """A connection is ready: what is subscribed there belongs on the primary that was found."""
        node = backend.place.node
        if backend.place.primary and node in self._sought:
            self._sought.discard(node)
            log.warning("primary found again shard=%s address=%s", backend.place.shard, node.address)
            self._service.renew_subscriptions(node)

    def learned(self, node: Node, slots: int | None) -> None:
        """``node`` of a static shard is one of a Redis Cluster and serves so many slots; None: it is in none."""
        why = "" if slots in (None, SLOTS) else node_of_cluster(slots or 0)
        if why and self.misfits.get(node) != why:
            log.error("a primary is not fit for a static shard address=%s: %s", node.address, why)
        elif slots == SLOTS:
            log.info("a primary is in cluster mode, and serves all slots by itself address=%s", node.address)
        if why:
            self.misfits[node] = why
        else:
            self.misfits.pop(node, None)

    def known(self, nodes: Collection[Node]) -> None:
        """These are the servers that there are."""
        self._renewed = {node: when for node, when in self._renewed.items() if node in nodes}
        self._sought.intersection_update(nodes)
        self.misfits = {node: why for node, why in self.misfits.items() if node in nodes}

    async def run(self) -> None:
        """Ask each primary every second over a connection that clients use: what is read from one that was replaced
        behind its name tells nobody, least of all where another worker has met READONLY. Never returns."""
        while True:
            await asyncio.sleep(_EVERY * random.uniform(1 - _JITTER, 1 + _JITTER))
            now = self._service.turn.now()
            # Not behind a CLIENT CACHING, which is for the request that follows.
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
