"""The servers of a worker behind one interface: routes, shared and dedicated connections, refused and held requests.

``proxy.backends.upstream_events`` handles the events of the connections.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from proxy.backends.dedicated_pool import Leases
from proxy.backends.dispatch import Dispatcher
from proxy.backends.long_replies import LongReplies
from proxy.backends.pool import Pool
from proxy.backends.redirections import Redirections
from proxy.backends.replica_lag import Fitness
from proxy.backends.routes import RouteBook, Routes
from proxy.backends.settings import BackendEvents, BackendSettings, Place
from proxy.backends.shared import Backend
from proxy.backends.upstream_events import UpstreamEvents, UpstreamOwner
from proxy.config import Config
from proxy.engine.sink import Sink
from proxy.planning.inspector import Inspector
from proxy.planning.server_facts import LineBreaks
from proxy.session.script_cache import Scripts
from proxy.sharding.topology import Node, Topology
from proxy.transport.descriptors import Budget


class Upstream:
    """The servers of a worker, in the snapshot ``topology``."""

    def __init__(
        self,
        config: Config,
        topology: Topology,
        settings: Callable[[BackendEvents[Backend]], BackendSettings[Backend]],
        inspector: Inspector,
        scripts: Scripts,
        dispatcher: Dispatcher,
        fitness: Fitness,
        owner: UpstreamOwner,
    ) -> None:
        self.config = config
        self.topology = topology
        self.events = events = UpstreamEvents(self, inspector, scripts, dispatcher, owner, config.topology.remap)
        self._owner = owner
        self.settings = common = settings(events)
        self.inspector = inspector
        self.scripts = scripts
        self.turn = common.turn
        self.counters = common.counters
        self.timing = common.timing
        self.loop = asyncio.get_running_loop()
        self._held: dict[str, asyncio.TimerHandle] = {}
        """The shards to whose primaries nothing is sent, each with the timer that ends that."""
        self.gaps_since = self.turn.now()
        """The time since which there are slots that no shard serves, if there are any."""
        self.line_breaks = LineBreaks()
        self.longs = LongReplies()
        self.redirections = Redirections(common, events.at, events.split, events.on_unsettled)
        self.pool = Pool(common)
        self.budget = Budget()
        """The number of connections that there may be for one client alone."""
        backend = config.backend
        self.leases = Leases(common, backend.dedicated_connections, share(config), backend.dedicated_wait, self.budget)
        self.read_your_writes = config.read_your_writes if reads_replicas(config) else 0.0
        """The seconds for which a client's reads of a shard go to the primary after a write there."""
        self.book = RouteBook(
            topology,
            self.pool,
            backend.connections_per_node,
            fitness,
            keep_to_primary=self.read_your_writes > 0,
        )
        self.plain_routes: Mapping[str, list[Routes]] = {
            policy: self.book.plain(policy) for policy in config.read_policies
        }
        """The routes of clients with default settings by ``read_from``, one for each way to spread clients."""

    # ---- routes of clients

    def routes(
        self, protocol: int, db: int, read_from: str, rank: int, calls_scripts: bool = False, user: str = ""
    ) -> Routes:
        """The routes of the client of this ``rank`` with its protocol, database, ``read_from`` and ``user`` of the
        servers."""
        return self.book.routes(protocol, db, read_from, rank, calls_scripts, user)

    def own_routes(self, number: int, user: str) -> Routes:
        """The routes of client ``number`` over connections of its own."""
        return self.book.own(number, user)

    def large_routes(self, frame: bytes, routes: Routes, protocol: int, db: int) -> Routes | None:
        """The routes for the request in ``frame`` if it is so large that it needs a connection for large requests; None
        if ``routes`` will do."""
        if len(frame) < self.settings.query.large or routes.key.owner:
            return None
        return self.book.large(protocol, db, routes.key.user)

    def long_routes(self, frames: Iterable[bytes], routes: Routes) -> Routes | None:
        """The routes for a request that is sent as ``frames``, if one of these had very long replies; None if
        ``routes`` will do."""
        if not self.longs.names or routes.key.owner or not self.longs.any(frames):
            return None
        return self.book.long(routes)

    def at_primaries(self, routes: Routes) -> Routes:
        """The same connections to primaries as those of ``routes``, for reads too."""
        return self.book.at_primaries(routes)

    def keep_routes(self, used: Collection[Routes]) -> set[Backend]:
        """Forget the routes that are not ``used``. Returns the connections that the other routes need."""
        return self.book.keep(used)

    def forget_long_replies(self) -> None:
        """Treat requests without a very long reply lately as normal again."""
        if self.longs.forget(self.turn.now()):
            self._owner.watch_commands(self.longs.names)

    # ---- connections

    def shared(self, place: Place) -> Backend:
        """The shared connection to the server of ``place``."""
        backend = self.pool.at(replace(place, index=0) if place.index else place)
        backend.start()
        return backend

    def primary(self, shard: int, protocol: int, db: int, user: str = "") -> Place | None:
        """The place of the primary of ``shard``; None if the shard does not exist, or nothing may be sent there now."""
        if not 0 <= shard < len(self.topology.shards) or self.topology.shards[shard].name in self._held:
            return None
        found = self.topology.shards[shard]
        return Place(found.name, found.primary, True, protocol, db, 0, user=user)

    def replace(self, backends: Collection[Backend]) -> None:
        """Use new connections in place of ``backends``, which get no more requests. Clients with requests in flight on
        one of them continue when those are answered."""
        self._owner.halt({owner for backend in backends for owner in backend.owners()})
        for backend in backends:
            self.pool.replace(backend)
        for owner in {backend.place.owner for backend in backends}:
            self.book.refresh(owner)
        for backend in backends:
            backend.retire(keeps=True)

    def renew(self, number: int, node: Node) -> None:
        """Reconnect each connection of client ``number`` to ``node``."""
        for backend in self.pool.owned(number):
            if backend.place.node == node:
                backend.renew()

    def release(self, number: int) -> None:
        """Close the connections that client ``number`` has for itself."""
        self.book.release(number)
        self.pool.release(number)

    def leave_primary(self, node: Node) -> None:
        """Use new connections, as ``node`` is no primary any more."""
        self.leases.renew(node)
        self.replace([backend for backend in self.pool if backend.place.node == node and backend.place.primary])

    def give_up_reads(self, silent: Collection[Node]) -> None:
        """Choose the servers for reads anew. Reads at replicas that are ``silent`` are sent elsewhere."""
        self.book.refresh()
        for backend in [backend for backend in self.pool if backend.place.node in silent]:
            if not backend.place.primary:
                backend.give_up_reads()

    async def close(self) -> None:
        """Close every connection; requests in flight are answered with an error."""
        await self.leases.close()
        await self.pool.close()

    def forestall(self, frame: bytes, backend: Backend | None, sink: Sink, token: int, now: float) -> None:
        """Send the twin of a request to ``backend`` ahead of it, as other requests are being refused."""
        doubt = self.events.doubt(frame)
        if doubt is not None and backend is not None:
            self.redirections.forestall(backend, doubt, sink, token, now)

    # ---- the topology

    def adopt(self, topology: Topology) -> None:
        """Use the snapshot ``topology``. Clients with requests in flight on slots that moved send nothing further until
        those are answered."""
        before, self.topology = self.topology, topology
        if before.whole:
            self.gaps_since = self.turn.now()
        self.book.adopt(topology)
        left = topology.left_by(before)
        owners: set[object] = set()
        for backend in self.pool:
            if backend.place.primary and backend.place.node in left:
                owners |= backend.owners()
        self._owner.halt(owners)
        for name in [name for name in self._held if before.primary(name) != topology.primary(name)]:
            self._held.pop(name).cancel()
        self.pool.adopt(topology)
        self.leases.adopt(topology)

    def hold_shard(self, name: str, seconds: float | None) -> None:
        """Send nothing to the primary of the shard ``name`` for ``seconds``, or until the shard has another primary, as
        a failover is about to begin. None: go on."""
        timer = self._held.pop(name, None)
        if timer is not None:
            timer.cancel()
        if seconds is not None:
            self._held[name] = self.loop.call_later(seconds, self.hold_shard, name, None)
        for backend in self.pool:
            if backend.place.primary and backend.place.shard == name:
                backend.withhold(seconds is not None)

    def holds(self, name: str) -> bool:
        """Whether nothing is sent to the primary of the shard ``name``, as a failover is about to begin."""
        return name in self._held

    def may_raise(self, shard: int | None = None, read: bool = False) -> bool:
        """Whether the primary of ``shard``, or of any shard, may pass on errors of scripts with their line breaks;
        ``read``: or a replica that serves reads."""
        return self.line_breaks.may_come(self.topology, shard, read)


def share(config: Config) -> int:
    """The number of dedicated connections to one server that one user at one address may have."""
    return max(int(config.backend.dedicated_connections * config.backend.dedicated_share), 1)


def reads_replicas(config: Config) -> bool:
    """Whether replicas serve reads, and so are measured."""
    return config.presents_cluster or config.read_policies != {"primary"}
