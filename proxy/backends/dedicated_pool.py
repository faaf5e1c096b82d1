"""Connections to servers that one client has for itself for a while: for WATCH, blocking commands and subscriptions.

A command that changes a connection's state is never sent over a shared connection. A lease is asked for, used by its
holder alone, and given back; or it is dropped, which closes the connection and so ends at once whatever the server
still does for it::

    ask ──▶ idle, or connected, or waited for ──▶ the holder's ──give_back──▶ checked at the server ──▶ idle ──▶ closed
                                                      └──drop, lost──▶ closed

The leases of one server are given in the order in which they were asked for, also where connections have to be made
first: clients that block on one key are served in their order.

The number of connections to one server is bounded, and so is the number of those that one user at one address may have,
so that nobody takes all. Requests of the proxy itself (``OWN``: to end a script that keeps a server busy) have
connections beside that limit. A connection is closed when it has been idle for a while, or when its server has another
role than the connection was made for.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from proxy import errors, server_errors
from proxy.backends.connection import reason
from proxy.backends.dedicated import Lease
from proxy.backends.dedicated_server import OWN, Claim, Station, Then, Usage
from proxy.backends.settings import BackendSettings, Place
from proxy.engine.sink import WholeReplySink
from proxy.resp import encode
from proxy.sharding.topology import Node, Topology
from proxy.transport.descriptors import Budget

__all__ = ["OWN", "Claim", "Lease", "Leases", "Then", "Usage", "unclean"]

log = logging.getLogger(__name__)

_IDLE = 60.0
"""Seconds for which an idle connection is kept."""
_SWEEP = 1.0
_UNWATCH = encode.request(("UNWATCH",))
_INFO = encode.request(("CLIENT", "INFO"))
_STRAY = "the server does not have the role any more in which it was used"


class Check(WholeReplySink):
    """Asks the server for the state of a connection that was given back."""

    __slots__ = ("_lease", "_then")

    def __init__(self, lease: Lease, then: Callable[[Lease, str], None]) -> None:
        self._lease = lease
        self._then = then

    def send(self, now: float) -> None:
        """Ask the server; ``then`` is called with a description of what is wrong, "" if nothing is."""
        self._lease.send(self, 0, _UNWATCH, now)
        self._lease.send(self, 1, _INFO, now)

    def take(self, token: int, reply: bytes) -> None:
        """Take a reply."""
        if token:
            self._then(self._lease, unclean(reply, self._lease.place))


def unclean(info: bytes, place: Place) -> str:
    """Compare the reply to CLIENT INFO with the state that a connection for ``place`` should have. Returns the fields
    that differ, "" if none do.

    Fields that a server does not report are taken as right. A transaction shows in the flags: after one, Valkey counts
    0 commands, not -1. Source: https://redis.io/docs/latest/commands/client-list/
    """
    if info[:1] not in (b"$", b"="):
        return f"the server answers CLIENT INFO with {errors.text(info[:100]).strip()!r}"
    words = (word.partition(b"=") for word in info.split())
    found = {name.decode("latin-1"): value.decode("latin-1") for name, _, value in words}
    wanted = {
        "db": str(place.db),
        "sub": "0",
        "psub": "0",
        "ssub": "0",
        "watch": "0",
        "redir": "-1",
        "resp": str(place.protocol),
    }
    wrong = [name for name, value in wanted.items() if found.get(name, value) != value]
    # The flag U stands for a unix socket, r for READONLY, which the handshake with a replica sends.
    if set(found.get("flags", "")) - set("NU" if place.primary else "NUr"):
        wrong.append("flags")
    return " ".join(f"{name}={found[name]}" for name in wrong)


class Leases:
    """All leases of a worker: at most ``limit`` to one server, of which one holder may have ``share``, and as many to
    all servers together as ``budget`` allows. When a limit is reached, a claim waits up to ``wait`` seconds."""

    def __init__(self, settings: BackendSettings[Any], limit: int, share: int, wait: float, budget: Budget) -> None:
        self._settings = settings
        self._budget = budget
        self._limit = limit
        self._share = share
        self._wait = wait
        self._loop = asyncio.get_running_loop()
        self._stations: dict[Node, Station] = {}
        self._leases: set[Lease] = set()
        self._checking: set[Lease] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._roles: set[tuple[Node, bool]] | None = None
        """The servers, and whether each is a primary; None: not known yet."""
        self._unchecked: set[Node] = set()
        """The servers whose CLIENT INFO can not be used, and for which that was logged."""
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._leases)

    def usage(self) -> Iterator[Usage]:
        """The number of leases by server."""
        for node, station in self._stations.items():
            yield Usage(node, station.count - len(station.idle), len(station.idle))

    def ask(self, place: Place, then: Then, holder: str) -> Claim:
        """Call ``then`` with a lease for ``place`` (its ``index`` is ignored): at once if a connection is idle, else
        later, and maybe with the text of an error. ``holder``: the user and the address that the lease is for, or
        ``OWN``."""
        claim = Claim(replace(place, index=0) if place.index else place, then, holder)
        station = self._stations.get(place.node)
        if station is None:
            station = self._stations[place.node] = Station(self._limit, self._share)
        free = station.may(holder) and (holder == OWN or station.next() is None)
        if free and (lease := station.take(claim.place)) is not None:
            self._lend(station, lease, claim)
        elif free and (unfit := self._room(station, holder)) is not None:
            # The connections that make room are dropped last, as a station without connections is removed.
            self._connect(station, claim)
            for lease in unfit:
                lease.drop()
        elif self._wait:
            claim.timer = self._settings.turn.clock.call_later(self._wait, self._refuse, claim)
            claim.queue = station.waiting
            station.waiting.append(claim)
        else:
            self._loop.call_soon(self._refuse, claim)
        return claim

    def _room(self, station: Station, holder: str) -> list[Lease] | None:
        """The idle connections that have to be closed before one more can be made; None if none can be made."""
        if holder == OWN:
            return []
        if station.clients >= self._limit:
            # An idle connection that is in another state than the claim wants.
            return station.idle[:1] or None
        if self._budget.has():
            return []
        others = max(self._stations.values(), key=lambda other: len(other.idle))
        return others.idle[:1] or None

    def give_back(self, lease: Lease, *, untouched: bool = False) -> None:
        """Take back a lease from its holder. ``untouched``: no command was sent that could change the connection's
        state, so the server is not asked."""
        lease.on_lost = lease.on_push = lease.on_error = None
        if not lease.standing:
            return
        self._let_go(lease)
        if lease.busy:
            lease.drop()
        elif untouched:
            self._rest(lease)
        else:
            lease.since = self._settings.turn.now()
            self._checking.add(lease)
            Check(lease, self._checked).send(lease.since)

    def adopt(self, topology: Topology) -> None:
        """Close the connections to servers that were removed or have another role now. If one is in use, the server is
        given ``request_timeout`` to tell its holder."""
        roles = self._roles = {(node, node == shard.primary) for shard in topology.shards for node in shard.nodes}
        now = self._settings.turn.now()
        self._unchecked.intersection_update(node for node, _ in roles)
        for lease in list(self._leases):
            if (lease.place.node, lease.place.primary) in roles:
                lease.stray = 0.0
            elif lease in self._stations[lease.place.node].idle:
                lease.drop()
            else:
                lease.stray = lease.stray or now
        for station in list(self._stations.values()):
            for claim in [claim for claim in station.waiting if (claim.place.node, claim.place.primary) not in roles]:
                station.waiting.remove(claim)  # first, as the call below may cancel the claim
                claim.settle(server_errors.shard_down(claim.place.shard, claim.place.node.address, _STRAY))

    def renew(self, node: Node) -> None:
        """Close the connections to ``node`` as a primary, as it is none any more. If a request is in flight, the server
        is given ``request_timeout`` to answer it; a connection without one, as between WATCH and EXEC, is closed at
        once."""
        now = self._settings.turn.now()
        for lease in list(self._leases):
            if lease.place.node != node or not lease.place.primary:
                continue
            if lease in self._stations[node].idle:
                lease.drop()
            elif len(lease.inflight):
                lease.stray = lease.stray or now
            else:
                lease.lose(_STRAY)

    async def close(self) -> None:
        """Close all connections."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._connecting:
            task.cancel()
        for lease in list(self._leases):
            lease.drop()
        await asyncio.gather(*self._connecting, return_exceptions=True)

    # ---- connecting

    def _connect(self, station: Station, claim: Claim) -> None:
        self._stations[claim.place.node] = station  # the station was removed if its last lease made room
        station.count += 1
        station.hold(claim.holder)
        self._budget.taken += 1
        if claim.holder != OWN:
            station.line.append(claim)
        task = self._loop.create_task(self._connected(station, claim))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connected(self, station: Station, claim: Claim) -> None:
        # A command that ends a script has to reach a server that the script keeps busy.
        lease = Lease(claim.place, self._settings, self._gone, at_busy=claim.holder == OWN)
        try:
            await lease.connect()
        except (OSError, TimeoutError, ValueError, errors.BackendError) as error:
            place = claim.place
            self._settings.events.hint(None)
            words = reason(error, self._settings.timing.connect_timeout)
            if not isinstance(error, errors.ServerBusy):
                words = server_errors.shard_down(place.shard, place.node.address, words)
            self._found(station, claim, words)
            self._leave(place.node)
            self._settle(station)
            return
        except BaseException:
            self._found(station, claim, _STRAY)
            self._leave(claim.place.node)
            raise
        self._leases.add(lease)
        if self._timer is None:
            self._timer = self._loop.call_later(_SWEEP, self._sweep)
        self._found(station, claim, lease)
        self._settle(station)

    def _found(self, station: Station, claim: Claim, found: Lease | str) -> None:
        """Give a new connection, or the text that says why it can not be made, to the first claim in line."""
        taker = claim if claim.holder == OWN else station.taker(claim.place)
        if isinstance(found, Lease):
            found.holder = None if taker is None else taker.holder
        elif taker is not None:
            station.let_go(taker.holder)
        if taker is not None:
            taker.found = found
            if taker.holder == OWN:
                self._hand_over(station, taker)
        elif isinstance(found, Lease):
            self._rest(found)

    def _settle(self, station: Station) -> None:
        """Settle the claims at the front of the line whose connections were made."""
        while (claim := station.ready()) is not None:
            self._hand_over(station, claim)

    def _hand_over(self, station: Station, claim: Claim) -> None:
        found = claim.found
        if found is None:  # the claim was cancelled, and its connection will go to another
            station.let_go(claim.holder)
        elif isinstance(found, Lease) and claim.cancelled:
            self._let_go(found)
            self._rest(found)
        elif isinstance(found, Lease) and not found.standing:
            place = claim.place
            claim.settle(server_errors.shard_down(place.shard, place.node.address, "the server closed the connection"))
        else:
            claim.settle(found)

    def _refuse(self, claim: Claim) -> None:
        station = self._stations.get(claim.place.node)
        if station is not None and claim in station.waiting:
            station.waiting.remove(claim)
        self._settings.counters.lease_refusals += 1
        place = claim.place
        if station is not None and station.clients < self._limit and station.may(claim.holder):
            claim.settle(server_errors.no_descriptors(self._budget.most))
        elif station is None or station.clients >= self._limit or claim.holder == OWN:
            claim.settle(server_errors.no_lease(place.shard, place.node.address, self._limit, self._wait))
        else:
            claim.settle(
                server_errors.no_share(place.shard, place.node.address, claim.holder, self._share, self._limit)
            )

    def _lend(self, station: Station, lease: Lease, claim: Claim) -> None:
        """Give ``lease`` to ``claim``, behind the claims that are in line before it."""
        station.hold(claim.holder)
        lease.holder = claim.holder
        if station.line and claim.holder != OWN:
            claim.found = lease
            station.line.append(claim)
        else:
            claim.settle(lease)

    # ---- leases that are given back

    def _let_go(self, lease: Lease) -> None:
        """Remove the holder of ``lease``."""
        if lease.holder is not None:
            self._stations[lease.place.node].let_go(lease.holder)
            lease.holder = None

    def _checked(self, lease: Lease, wrong: str) -> None:
        self._checking.discard(lease)
        if not wrong:
            self._rest(lease)
            return
        node = lease.place.node
        if node not in self._unchecked:
            self._unchecked.add(node)
            log.warning("dedicated connection closed as it is not clean address=%s reason=%r", node.address, wrong)
        lease.drop()

    def _rest(self, lease: Lease) -> None:
        """Give a clean connection to the next claim, or keep it idle."""
        place = lease.place
        if self._closing or lease.stray or not (self._roles is None or (place.node, place.primary) in self._roles):
            lease.drop()
            return
        station = self._stations[place.node]
        claim = station.next()
        if claim is not None and claim.place == place:
            station.waiting.remove(claim)
            self._lend(station, lease, claim)
            return
        if claim is not None or station.clients > self._limit:
            lease.drop()
            return
        lease.since = self._settings.turn.now()
        station.idle.append(lease)

    def _gone(self, lease: Lease) -> None:
        """Forget a lease whose connection is closed."""
        if lease not in self._leases:
            return
        self._leases.discard(lease)
        self._checking.discard(lease)
        self._let_go(lease)
        station = self._stations[lease.place.node]
        if lease in station.idle:
            station.idle.remove(lease)
        self._leave(lease.place.node)

    def _leave(self, node: Node) -> None:
        """Count one connection less, and make one for the next claim that waits."""
        station = self._stations[node]
        station.count -= 1
        self._budget.taken -= 1
        claim = station.next()
        if claim is not None and station.clients < self._limit and self._budget.has() and not self._closing:
            station.waiting.remove(claim)
            claim.stop()
            self._connect(station, claim)
        if not station.count and not station.waiting:
            del self._stations[node]
            if self._roles is not None and not {(node, True), (node, False)} & self._roles:
                self._unchecked.discard(node)

    def _sweep(self) -> None:
        """Close connections that nobody needs, and those whose server does not answer."""
        self._timer = None
        now = self._settings.turn.clock.settled
        patience = self._settings.timing.request_timeout
        for station in list(self._stations.values()):
            for lease in [lease for lease in station.idle if now - lease.since > _IDLE]:
                lease.drop()
        for lease in [lease for lease in self._checking if now - lease.since > patience]:
            lease.drop()
        for lease in [lease for lease in self._leases if lease.stray and now - lease.stray > patience]:
            lease.lose(_STRAY)
        if self._leases:
            self._timer = self._loop.call_later(_SWEEP, self._sweep)
