"""All shared backend connections of a worker, and the timer that checks them."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator

from proxy.backends.handshake import STAY
from proxy.backends.settings import BackendSettings, Place
from proxy.backends.shared import Backend
from proxy.engine.sink import DISCARD
from proxy.resp import encode
from proxy.sharding.topology import Node, Shard, Topology

log = logging.getLogger(__name__)

_STAY = encode.request(STAY)
_EVICTING = 7
"""The first major version of Redis that closes connections to save memory; Valkey reports 7.2.4."""
_TICKS_PER_TIMEOUT = 20
_TICK_MIN = 0.01
_TICK_MAX = 0.25
_SPARE = 5.0
"""Seconds for which a spare connection is kept after a long reply: the next long replies come soon, or not at all."""


class Pool:
    """Connections by place. A connection is made when it is first asked for, and is shared from then on."""

    def __init__(self, settings: BackendSettings[Backend]) -> None:
        self._settings = settings
        self._backends: dict[Place, Backend] = {}
        self._retired: list[Backend] = []
        self._coming: dict[Place, Backend] = {}
        """Connections that will replace one that takes a long reply as soon as they are ready."""
        self._spare: dict[Place, Backend] = {}
        """Connections that are ready for the next long reply at their place."""
        self._full: set[Node] = set()
        """The servers for which the limit of ``long_reply_connections`` was logged."""
        self.keeps = False
        """Whether servers may close connections to save memory, and can be told not to."""
        self._closing: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        shortest = min(settings.timing.request_timeout, settings.timing.retry_deadline)
        self._interval = min(max(shortest / _TICKS_PER_TIMEOUT, _TICK_MIN), _TICK_MAX)
        self._timer = self._loop.call_later(self._interval, self._tick)

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._backends.values())

    def connection(
        self, shard: Shard, node: Node, protocol: int, db: int, index: int, owner: int = 0, user: str = ""
    ) -> Backend:
        """The connection number ``index`` to ``node`` of ``shard`` that speaks ``protocol``, has database ``db`` and is
        logged in as ``user``."""
        return self.at(Place(shard.name, node, node == shard.primary, protocol, db, index, owner, user))

    def at(self, place: Place) -> Backend:
        """The connection for ``place``."""
        backend = self._backends.get(place)
        if backend is None:
            backend = self._backends[place] = Backend(place, self._settings)
        return backend

    def replace(self, backend: Backend) -> None:
        """Use a new connection in place of ``backend``, which is closed when nothing is in flight on it any more."""
        place = backend.place
        if self._backends.get(place) is backend:
            self._put(Backend(place, self._settings), backend)
            for others in self._coming, self._spare:
                if (other := others.pop(place, None)) is not None:
                    self._retired.append(other)

    def make_way(self, backend: Backend) -> Backend | None:
        """Use another connection in place of ``backend``, which takes a long reply: the spare one, which is returned,
        or else a new one as soon as it is ready (``stood``). Nothing is done if too many connections to the server take
        long replies."""
        place = backend.place
        if place in self._coming or self._backends.get(place) is not backend:
            return None
        spare = self._spare.pop(place, None)
        if spare is not None and spare.ready:
            self._leave(backend, spare)
            return spare
        if spare is not None:
            self._coming[place] = spare
        elif self._may_add(place.node):
            self._coming[place] = fresh = Backend(place, self._settings)
            fresh.start()
        elif place.node not in self._full:
            self._full.add(place.node)
            log.warning(
                "long replies are kept for their readers: too many connections left shard=%s address=%s limit=%d",
                place.shard,
                place.node.address,
                self._settings.long_reply_connections,
            )
        return None

    def makes_way(self, place: Place) -> bool:
        """Whether another connection is being made for ``place``."""
        return place in self._coming

    def stood(self, fresh: Backend) -> Backend | None:
        """Note that the connection ``fresh`` is ready. If it replaces another one, that one is returned; it is closed
        when nothing is in flight on it any more."""
        place = fresh.place
        if self._coming.get(place) is not fresh:
            return None
        del self._coming[place]
        old = self._backends.get(place)
        if old is None:
            self._retired.append(fresh)
        elif old.takes_long:
            self._leave(old, fresh)
            return old
        else:
            self._spare[place] = fresh
        return None

    def _may_add(self, node: Node) -> bool:
        """Whether one more connection to ``node`` may take a long reply, or be kept for the next one."""
        others = [other for other in self._retired if other.left]
        others += (*self._coming.values(), *self._spare.values())
        if sum(other.place.node == node for other in others) >= self._settings.long_reply_connections:
            return False
        self._full.discard(node)
        return True

    def _leave(self, old: Backend, fresh: Backend) -> None:
        """Have all clients use ``fresh``, leave ``old`` to its long reply, and make a spare connection for the next
        one."""
        fresh.rename(old.place.shard)
        self._put(fresh, old)
        old.leave()
        if self._may_add(old.place.node):
            self._spare[old.place] = spare = Backend(old.place, self._settings)
            spare.start()

    def _put(self, fresh: Backend, old: Backend) -> None:
        """Use ``fresh`` in place of ``old``."""
        fresh.reconnects = old.reconnects
        self._backends[fresh.place] = fresh
        self._retired.append(old)

    def adopt(self, topology: Topology) -> None:
        """Retire the connections to servers that were removed or have another role now."""
        names = {(node, node == shard.primary): shard.name for shard in topology.shards for node in shard.nodes}
        for place, backend in list(self._backends.items()):
            name = names.get((place.node, place.primary))
            if name is None:
                del self._backends[place]
                self._retired.append(backend)
                backend.retire()
            elif name != place.shard:
                backend.rename(name)

    def keep_connections(self, versions: Iterable[str | None]) -> None:
        """Ask servers of these ``versions`` not to close shared connections to save memory (``maxmemory-clients``, from
        Redis 7 on). The error of a server that does not know the command is ignored."""
        if any(version and int(version.partition(".")[0]) >= _EVICTING for version in versions) and not self.keeps:
            self.keeps = True
            for backend in self:
                self.keep(backend)

    def keep(self, backend: Backend) -> None:
        """Ask the server of ``backend`` not to close the connection to save memory, if servers can do that."""
        if self.keeps and backend.ready and not backend.place.owner:
            backend.send(DISCARD, 0, _STAY, self._settings.turn.now(), None)

    def owned(self, owner: int) -> list[Backend]:
        """The connections that only client ``owner`` uses."""
        return [backend for backend in self._backends.values() if backend.place.owner == owner]

    def release(self, owner: int) -> None:
        """Retire the connections that only client ``owner`` used."""
        for backend in self.owned(owner):
            del self._backends[backend.place]
            self._retired.append(backend)
            backend.retire()
        self._close_spent()

    def close_unused(self, needed: Collection[Backend], seconds: float) -> list[Place]:
        """Retire connections that are not ``needed`` and have had nothing in flight for ``seconds``. Returns their
        places."""
        closed = []
        now = self._settings.turn.now()
        for place, backend in list(self._backends.items()):
            if backend.unused(now) > seconds and backend not in needed:
                log.debug("backend not used any more, closed shard=%s address=%s", place.shard, place.node.address)
                del self._backends[place]
                self._retired.append(backend)
                backend.retire()
                closed.append(place)
        return closed

    async def close(self) -> None:
        """Close every connection; requests in flight are answered with an error."""
        self._timer.cancel()
        backends = (*self._backends.values(), *self._retired, *self._coming.values(), *self._spare.values())
        await asyncio.gather(*(backend.close() for backend in backends))

    def _tick(self) -> None:
        settled = self._settings.turn.clock.settled
        for backend in [*self._backends.values(), *self._retired]:
            try:
                backend.tick(settled)
            except Exception:
                # A bug that concerns one connection must not end the checks of the others.
                log.exception("tick failed backend=%r", backend)
        self._sort_out()
        self._close_spent()
        self._timer = self._loop.call_later(self._interval, self._tick)

    def _close_spent(self) -> None:
        """Close retired connections with nothing in flight."""
        for backend in [backend for backend in self._retired if backend.spent]:
            self._retired.remove(backend)
            task = self._loop.create_task(backend.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _sort_out(self) -> None:
        """Keep spare connections that are not needed now, and retire those that were not needed for long, are lost, or
        whose place was removed."""
        for place in list(self._coming):
            old = self._backends.get(place)
            if old is None or not old.takes_long:
                self._spare[place] = self._coming.pop(place)
        now = self._settings.turn.now()
        for place, spare in list(self._spare.items()):
            if place not in self._backends or spare.reconnects or spare.unused(now) > _SPARE:
                self._retired.append(self._spare.pop(place))
