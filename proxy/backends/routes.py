"""The connections that serve the slots, for clients with the same protocol, database and read policy."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from proxy import server_errors
from proxy.backends.pool import Pool
from proxy.backends.replica_lag import Fitness, Unwatched, near
from proxy.backends.settings import LARGE, LONG, SCRIPTS, Place
from proxy.backends.shared import Backend
from proxy.resp import encode
from proxy.sharding.topology import NOBODY, Node, Shard, Topology

_SPREAD = 12
"""The number of ways to spread clients over a shard's servers: even for 1, 2, 3, 4 or 6 of them."""


@dataclass(frozen=True, slots=True)
class RouteKey:
    """How a client uses the shards. ``index`` picks one of a node's connections, ``spread`` one of a shard's replicas.

    ``owner``: the number of the client that has connections to the primaries of its own. ``user``: the user of the
    servers as which the connections are logged in; empty for the proxy's own.
    """

    protocol: int
    db: int
    read_from: str
    index: int
    spread: int
    owner: int = 0
    user: str = ""


class Routes:
    """Connections by shard: ``writers`` to primaries, ``readers`` as ``read_from`` says.

    An entry is ``None`` where no request can be sent now; ``refusal`` then returns the error reply. The last entry, for
    ``NOBODY``, is always ``None``. All commands of a client for one node use one connection, so their order is kept.
    """

    __slots__ = ("_fitness", "_pool", "_topology", "key", "primaries", "readers", "slot_shard", "writers")

    def __init__(self, key: RouteKey, topology: Topology, pool: Pool, fitness: Fitness) -> None:
        self.key = key
        self._fitness = fitness
        self._pool = pool
        self._topology = topology
        self.slot_shard = topology.slot_shard
        self.primaries: list[Backend] = []
        self.writers: list[Backend | None] = []
        self.readers: list[Backend | None] = []
        self.refresh()

    def adopt(self, topology: Topology) -> None:
        """Use the snapshot ``topology``."""
        self._topology = topology
        self.slot_shard = topology.slot_shard
        self.refresh()

    def refresh(self) -> None:
        """Take notice of connections that became usable or unusable, or were replaced."""
        self.primaries[:] = [self._started(shard, shard.primary) for shard in self._topology.shards]
        self.writers[:] = [*(backend if backend.usable else None for backend in self.primaries), None]
        if self.key.read_from == "primary":
            self.readers[:] = self.writers
            return
        self.readers[:] = [*(self._reader(index, shard) for index, shard in enumerate(self._topology.shards)), None]

    def replicas(self, index: int) -> list[Backend]:
        """Connections to the replicas of shard ``index``."""
        shard = self._topology.shards[index]
        return [self._started(shard, node) for node in shard.replicas]

    def needs(self) -> list[Backend]:
        """All connections that these routes may use."""
        if self.key.read_from == "primary":
            return self.primaries
        shards = range(len(self._topology.shards))
        return [*self.primaries, *(backend for index in shards for backend in self.replicas(index))]

    def _started(self, shard: Shard, node: Node) -> Backend:
        key = self.key
        owner = key.owner if node == shard.primary else 0
        backend = self._pool.connection(shard, node, key.protocol, key.db, key.index, owner, key.user)
        backend.start()
        return backend

    def nowhere(self) -> Place:
        """The place of a request whose slot no shard serves: everything but the node is known."""
        key = self.key
        return Place("", Node("", 0), True, key.protocol, key.db, key.index, key.owner, key.user)

    def refusal(self, index: int, read: bool) -> bytes:
        """The error reply for a request that can not be sent to shard ``index`` now."""
        shard = self._topology.shards[index]
        if read and self.key.read_from == "replica":
            if not shard.replicas:
                return encode.error(server_errors.no_replica(shard.name))
            backend = self.replicas(index)[0]
            if backend.ready:
                return encode.error(
                    server_errors.unfit_replica(shard.name, backend.place.node.address, self._reason(backend))
                )
            return backend.down_error()
        return self.primaries[index].down_error()

    def _reader(self, index: int, shard: Shard) -> Backend | None:
        policy = self.key.read_from
        replicas = self.replicas(index)
        fit = [backend for backend in replicas if backend.ready and not self._reason(backend)]
        primary = self.primaries[index]
        if policy in ("any", "nearest") and primary.ready and not self._reason(primary):
            fit.append(primary)
        if policy == "nearest":
            distances = [self._fitness.distance(backend.place.node) for backend in fit]
            shortest = min(distances, default=0.0)
            fit = [backend for backend, distance in zip(fit, distances, strict=True) if near(distance, shortest)]
        if fit:
            return fit[self.key.spread % len(fit)]
        if policy != "replica":
            return self.writers[index]
        # A replica whose data is not too old answers at once; one without a connection holds its requests.
        spare = [backend for backend in replicas if backend.ready and self._fitness.spare(backend.place.node)]
        spare += [backend for backend in replicas if backend.usable and not backend.ready]
        return spare[0] if spare else None

    def _reason(self, backend: Backend) -> str:
        return self._fitness.reason(backend.place.node)


UNWATCHED = Unwatched()


class RouteBook:
    """The routes of all clients; clients with the same key share their routes.

    ``fitness`` decides which servers may serve reads. ``keep_to_primary``: a read that was sent to a primary must stay
    there.
    """

    def __init__(
        self,
        topology: Topology,
        pool: Pool,
        connections_per_node: int,
        fitness: Fitness = UNWATCHED,
        keep_to_primary: bool = False,
    ) -> None:
        self._topology = topology
        self._pool = pool
        self._fitness = fitness
        self._keep_to_primary = keep_to_primary
        self._connections = connections_per_node
        self._routes: dict[tuple[int, int, str, int, int, int, str], Routes] = {}

    def __iter__(self) -> Iterator[Routes]:
        return iter(self._routes.values())

    def routes(
        self, protocol: int, db: int, read_from: str, number: int, scripts: bool = False, user: str = ""
    ) -> Routes:
        """The routes of client ``number``; clients are spread evenly over connections and replicas. ``scripts``: the
        client calls scripts, and goes over connections of such clients, since a server reads no further requests while
        a script runs. ``user``: the user of the servers."""
        index = number % self._connections
        if scripts:
            index = SCRIPTS - index
        spread = 0 if read_from == "primary" else number // self._connections % _SPREAD
        return self._made((protocol, db, read_from, index, spread, 0, user))

    def own(self, owner: int, user: str = "") -> Routes:
        """The routes of client ``owner`` over connections of its own, all to primaries. The handshake uses RESP3; the
        connections follow the client's protocol and database afterwards."""
        return self._made((3, 0, "primary", 0, 0, owner, user))

    def large(self, protocol: int, db: int, user: str = "") -> Routes:
        """The routes of large requests, all to primaries."""
        return self._made((protocol, db, "primary", LARGE, 0, 0, user))

    def long(self, routes: Routes) -> Routes:
        """The routes to the same servers as ``routes``, for requests that had very long replies."""
        key = routes.key
        return self._made((key.protocol, key.db, key.read_from, LONG, key.spread, 0, key.user))

    def release(self, owner: int) -> None:
        """Forget the routes of client ``owner``."""
        for key in [key for key in self._routes if key[5] == owner]:
            del self._routes[key]

    def keep(self, used: Collection[Routes]) -> set[Backend]:
        """Forget all routes but the ``used`` ones and those of clients with connections of their own. Returns the
        connections that the remaining routes need."""
        self._routes = {key: routes for key, routes in self._routes.items() if key[5] or routes in used}
        return {backend for routes in self._routes.values() for backend in routes.needs()}

    def _made(self, key: tuple[int, int, str, int, int, int, str]) -> Routes:
        routes = self._routes.get(key)
        if routes is None:
            routes = self._routes[key] = Routes(RouteKey(*key), self._topology, self._pool, self._fitness)
        return routes

    def at_primaries(self, routes: Routes) -> Routes:
        """The same connections to primaries as those of ``routes``, for reads too."""
        key = routes.key
        if key.owner:
            return routes
        return self._made((key.protocol, key.db, "primary", key.index, 0, 0, key.user))

    def plain(self, read_from: str) -> list[Routes]:
        """The routes of clients in RESP2 and database 0: one for each way to spread them."""
        ways = self._connections * (1 if read_from == "primary" else _SPREAD)
        return [self.routes(2, 0, read_from, number) for number in range(ways)]

    def elsewhere(self, backend: Backend) -> Backend:
        """The connection for reads that were sent over ``backend``; ``backend`` if there is no other."""
        place = backend.place
        if place.primary and self._keep_to_primary:
            return backend
        shard = self._topology.index(place.shard)
        if shard == NOBODY:
            return backend
        for routes in self._routes.values():
            key = routes.key
            own = (key.protocol, key.db, key.index, key.owner, key.user)
            if own == (place.protocol, place.db, place.index, place.owner, place.user) and (
                key.read_from != "primary" or place.primary
            ):
                reader = routes.readers[shard]
                if reader is not None and reader is not backend:
                    return reader
        return backend

    def adopt(self, topology: Topology) -> None:
        """Use the snapshot ``topology``."""
        self._topology = topology
        for routes in list(self._routes.values()):
            routes.adopt(topology)

    def refresh(self, owner: int = 0) -> None:
        """Take notice that a connection became usable or unusable: a shared one, or one of client ``owner``."""
        for key, routes in list(self._routes.items()):
            if key[5] == owner:
                routes.refresh()
