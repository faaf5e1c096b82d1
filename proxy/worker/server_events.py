"""Passes the events of the servers to the parts of the worker that they concern.

::

    Upstream (UpstreamOwner)   ──▶ a server has changed, or reports so           Discovery
                               ──▶ a client has to wait, or to be told           Clients, TrackingClients
                               ──▶ a script is missing                           LostScripts
                               ──▶ requests are refused, replies are long        FastPaths
    Discovery (Discovering)    ──▶ a primary lost its role, a replica is silent  Upstream, Hub, TrackingClients
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
    """The parts of a worker that the events of servers concern."""

    loop: asyncio.AbstractEventLoop
    turn: Turn
    clients: Clients
    discovery: Discovery
    fast_paths: FastPaths
    hub: Hub
    inspector: Inspector
    planner: Planner
    siblings: Siblings | None
    trackers: TrackingClients
    upstream: Upstream

    @property
    def scripts(self) -> Scripts:
        """The scripts that clients have sent."""


class ServerEvents:
    """Passes on the events of a worker's servers, as the ``UpstreamOwner`` of the upstream, and as the ``Discovering``
    of discovery, which acts on the findings."""

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._lost_scripts = LostScripts(parts.scripts, parts.turn.now, lambda: parts.siblings)

    # ---- events of the upstream (UpstreamOwner)

    def hint(self, node: Node | None) -> None:
        """Look at the topology, as ``node`` reports a change."""
        self._parts.discovery.hint(node)

    def demoted(self, place: Place) -> None:
        """Take notice that the server of ``place``, which is used as a primary, says that it is a replica."""
        self._parts.discovery.demoted(place)

    def unknown_node(self, node: Node, identity: str) -> str:
        """Why the server of a cluster at ``node`` with the id ``identity`` may not be used; "" if it may."""
        return self._parts.discovery.unknown_node(node, identity)

    def member(self, node: Node) -> Node | None:
        """The known node that a redirection calls ``node``; None if no trusted server knows it."""
        return self._parts.discovery.member(node)

    def client(self, number: int) -> ConnectionOwner[Backend] | None:
        """The client with this number, if it has connections of its own."""
        return self._parts.trackers.get(number)

    def halt(self, owners: Set[object]) -> None:
        """Take no more requests from these clients until all requests that they have sent are answered."""
        if owners:
            for client in self._parts.clients:
                if client.window in owners:
                    client.flow.stop(Stop.ORDER)

    def on_state(self, backend: Backend) -> None:
        """Take notice that ``backend`` became usable or unusable."""
        self._parts.discovery.on_state(backend)
        if backend.ready and (tracker := self._parts.trackers.get(backend.place.owner)):
            tracker.stood(backend)

    def by_key(self, entry: Entry) -> Scatter | None:
        """The plan that splits a request by its keys; None if it can not be split."""
        fact, args = self._parts.inspector.resolve(entry.frame)
        return None if fact is None else self._parts.planner.by_key(fact, args, entry.frame)

    def missing_script(self, error: bytes, frame: bytes) -> Refusal | None:
        """Return the refusal of a request whose script the server does not have; None if no worker has the script."""
        return self._lost_scripts.refusal(error, frame)

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept by this worker, or may be by another."""
        return self._lost_scripts.may_have(digests)

    def watch_commands(self, names: frozenset[str]) -> None:
        """Inspect each request of these commands, as some of them had very long replies."""
        self._parts.fast_paths.watch(names)

    def on_unsettled(self, on: bool) -> None:
        """Take notice that requests are being refused now, or are not any more."""
        self._parts.fast_paths.on_unsettled(on)

    # ---- actions of discovery (Discovering)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        return self._parts.loop

    @property
    def turn(self) -> Turn:
        """The turns of the loop, with the clock of the deadlines."""
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
        """Look at the topology, and use new connections, as ``node`` is no primary any more."""
        self._parts.discovery.hint(None)
        self._parts.trackers.leave(node)
        self._parts.upstream.leave_primary(node)

    def renew_subscriptions(self, node: Node) -> None:
        """Subscribe at ``node`` over a new connection."""
        self._parts.hub.renew(node)

    def hold_shard(self, name: str, seconds: float | None) -> None:
        """Send nothing to the primary of the shard ``name`` for ``seconds``, as a failover is about to begin."""
        self._parts.upstream.hold_shard(name, seconds)

    def give_up_reads(self, silent: Collection[Node]) -> None:
        """Choose the servers for reads anew. Reads at replicas that are ``silent`` are sent elsewhere."""
        self._parts.upstream.give_up_reads(silent)
