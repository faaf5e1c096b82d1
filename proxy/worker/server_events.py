"""What happens at the servers, told to the parts of the worker that it concerns.

::

    Upstream (UpstreamOwner)   ──▶ a server is another now, or says so      Discovery
                               ──▶ a client has to wait, or to be told      Clients, TrackingClients
                               ──▶ a script is lost                         LostScripts
                               ──▶ requests are refused, replies are long   FastPaths
    Discovery (Discovering)    ──▶ a primary is none, a replica is silent   Upstream, Hub, TrackingClients
"""

import asyncio
from collections.abc import Collection, Iterable, Set
from typing import Protocol

from proxy.backends.pool import Pool
from proxy.backends.settings import ConnectionOwner, Place
from proxy.backends.shared import Backend
from proxy.backends.upstream import Upstream
from proxy.client.fast_paths import FastPaths
from proxy.client.registry import Clients
from proxy.discovery.discovery import Discovery
from proxy.engine.entry import Entry
from proxy.features.host import Siblings
from proxy.features.tracking import TrackingClients
from proxy.planning.inspector import Inspector
from proxy.planning.planner import Planner
from proxy.planning.refusals import Refusal
from proxy.planning.scatter import Scatter
from proxy.pubsub.hub import Hub
from proxy.session.script_cache import Scripts
from proxy.sharding.topology import Node, Topology
from proxy.transport.flow_control import Stop
from proxy.transport.write_batch import Turn
from proxy.worker.script_lookup import LostScripts


class WorkerParts(Protocol):
    """The parts of a worker that hear of the servers."""

    loop: asyncio.AbstractEventLoop
    turn: Turn
    clients: Clients
    discovery: Discovery
    fast_paths: FastPaths
    hub: Hub
    inspector: Inspector
    planner: Planner
    scripts: Scripts
    siblings: Siblings | None
    trackers: TrackingClients
    upstream: Upstream


class ServerEvents:
    """Passes on what happens at the servers of a worker: to its upstream it is the ``UpstreamOwner``, and to its
    discovery the worker that acts on what is found out (``Discovering``)."""

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._lost_scripts = LostScripts(parts.scripts, parts.turn.now, lambda: parts.siblings)

    # ---- what the servers' upstream tells (UpstreamOwner)

    def hint(self, node: Node | None) -> None:
        """Something has changed, as ``node`` says: the topology should be looked at."""
        self._parts.discovery.hint(node)

    def demoted(self, place: Place) -> None:
        """The server of ``place`` is used as a primary, and says that it is a replica."""
        self._parts.discovery.demoted(place)

    def unknown_node(self, node: Node, identity: str) -> str:
        """Why the server of a cluster at ``node`` with this id is not to be used; "" if it is."""
        return self._parts.discovery.unknown_node(node, identity)

    def member(self, node: Node) -> Node | None:
        """Where the server is reached that a redirection calls ``node``; None if nobody who is believed knows it."""
        return self._parts.discovery.member(node)

    def client(self, number: int) -> ConnectionOwner[Backend] | None:
        """The client of this number, if it has connections of its own."""
        return self._parts.trackers.get(number)

    def halt(self, owners: Set[object]) -> None:
        """Take no more requests from these clients until all they sent are answered."""
        if owners:
            for client in self._parts.clients:
                if client.window in owners:
                    client.flow.stop(Stop.ORDER)

    def on_state(self, backend: Backend) -> None:
        """``backend`` has become usable, or is so no more."""
        self._parts.discovery.on_state(backend)
        if backend.ready and (tracker := self._parts.trackers.get(backend.place.owner)):
            tracker.stood(backend)

    def by_key(self, entry: Entry) -> Scatter | None:
        """What becomes of a request when it is split by its keys; None if it can not be."""
        fact, args = self._parts.inspector.resolve(entry.frame)
        return None if fact is None else self._parts.planner.by_key(fact, args, entry.frame)

    def missing_script(self, error: bytes, frame: bytes) -> Refusal | None:
        """What the error refuses that a server sent for want of a script; None if nobody else has it."""
        return self._lost_scripts.refusal(error, frame)

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept here, or may be by another worker."""
        return self._lost_scripts.may_have(digests)

    def watch_commands(self, names: frozenset[str]) -> None:
        """Look at each request of these commands whole: some have had very long replies."""
        self._parts.fast_paths.watch(names)

    def on_unsettled(self, on: bool) -> None:
        """Requests are refused now, or are so no more."""
        self._parts.fast_paths.on_unsettled(on)

    # ---- what discovery acts on (Discovering)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        return self._parts.loop

    @property
    def turn(self) -> Turn:
        """Its turns, with the clock that deadlines go by."""
        return self._parts.turn

    @property
    def pool(self) -> Pool:
        """The shared connections."""
        return self._parts.upstream.pool

    @property
    def topology(self) -> Topology:
        """The snapshot in use."""
        return self._parts.upstream.topology

    def leave_primary(self, node: Node) -> None:
        """``node`` is no primary: have the topology looked at, and go over fresh connections."""
        self._parts.discovery.hint(None)
        self._parts.trackers.leave(node)
        self._parts.upstream.leave_primary(node)

    def renew_subscriptions(self, node: Node) -> None:
        """Subscribe at ``node`` over a fresh connection."""
        self._parts.hub.renew(node)

    def hold_shard(self, name: str, seconds: float | None) -> None:
        """Send nothing to the primary of the shard called so for ``seconds``: a failover is about to begin."""
        self._parts.upstream.hold_shard(name, seconds)

    def give_up_reads(self, silent: Collection[Node]) -> None:
        """Other servers are fit for reads, or nearer; what waits for replicas that are ``silent`` waits elsewhere."""
        self._parts.upstream.give_up_reads(silent)
