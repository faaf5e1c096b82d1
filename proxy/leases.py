"""Connections to servers that one client has for itself for a while: to watch keys, to block, to listen.

What changes a connection's state is never sent over a shared one. A lease is asked for, used by its holder alone, and
given back; or dropped, which closes it and so ends at once whatever the server still does for it::

    ask ──▶ idle, or connected, or waited for ──▶ the holder's ──give_back──▶ checked at the server ──▶ idle ──▶ closed
                                                      └──drop, lost──▶ closed

How many there may be to one server is bounded. An idle one is closed after a while, and when its server has another
role than it was connected for.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

from proxy import errors
from proxy.engine.entry import Entry
from proxy.engine.inflight import InFlight
from proxy.engine.receiver import Receiver
from proxy.engine.replyreader import ReplyReader
from proxy.engine.sink import Sink
from proxy.greeting import Greeting
from proxy.metrics import Counters
from proxy.resp import encode
from proxy.resp.replies import BadReply
from proxy.surroundings import Place, Surroundings
from proxy.topology import Node, Topology

log = logging.getLogger(__name__)

_IDLE = 60.0
"""Seconds that a connection is kept for the next who asks."""
_SWEEP = 1.0
_UNWATCH = encode.request(("UNWATCH",))
_INFO = encode.request(("CLIENT", "INFO"))
_STRAY = "the server does not have the role any more in which it was used"
_UNMEASURED = Counters(measure=False)
"""How long these replies take says nothing about the servers: who blocks is answered late on purpose."""

OnLost = Callable[[str, list[Entry]], None]
"""Called with the reason, in words, and with what was sent and not answered."""


class Lease(Receiver):
    """A connection to ``place`` that stands. Replies come to the sinks as they are: errors are the holder's to judge.

    ``on_lost`` is called once when the server closes it, never after ``drop``. ``on_push`` gets what it says unasked.
    """

    __slots__ = (
        "_around",
        "_dirty",
        "_greeting",
        "_lost",
        "_on_gone",
        "_reader",
        "_reason",
        "_transport",
        "client_id",
        "inflight",
        "on_error",
        "on_lost",
        "on_push",
        "place",
        "since",
        "stray",
    )

    def __init__(self, place: Place, around: Surroundings, on_gone: Callable[["Lease"], None]) -> None:
        self.place = place
        self.client_id = 0
        """Its id at the server, as CLIENT UNBLOCK and CLIENT TRACKING REDIRECT name it."""
        self.inflight = InFlight()
        self.on_lost: OnLost | None = None
        self.on_push: Callable[[bytes], None] | None = None
        self.on_error: Callable[[bytes], bool] | None = None
        """Gets each error first: whether it took the oldest request out of ``inflight``, and the error with it."""
        self.since = 0.0
        """When it became idle, or its check began."""
        self.stray = 0.0
        """Since when its server does not have the role any more that it was connected for; 0: it has."""
        self._around = around
        self._on_gone = on_gone
        self._reader = ReplyReader(self.inflight, _UNMEASURED, self._erred, self._pushed)
        self._greeting: Greeting | None = None
        self._transport: asyncio.Transport | None = None
        self._dirty = False
        self._lost = False
        self._reason = ""

    def __repr__(self) -> str:
        return f"Lease({self.place.node.address} db{self.place.db} {self.inflight!r})"

    async def connect(self) -> None:
        """Connect and greet. Raises ``BackendError``, ``OSError``, ``TimeoutError``, ``ValueError``."""
        around, place = self._around, self.place
        greeting = self._greeting = Greeting(
            place.protocol,
            place.db,
            place.primary,
            around.credentials,
            verify=around.verify,
            cluster=around.cluster,
            identify=True,
        )
        try:
            async with asyncio.timeout(around.timing.connect_timeout):
                await around.connect(place.node.host, place.node.port, self)
                await greeting.done
        except BaseException:
            self._abort()
            raise
        finally:
            self._greeting = None
            if greeting.done.done() and not greeting.done.cancelled():
                greeting.done.exception()
        if self._lost:
            raise errors.BackendError("the server closed the connection")
        self.client_id = greeting.client_id

    def send(self, sink: Sink, token: int, frame: bytes, since: float) -> None:
        """Send one request; it is written at the end of this turn."""
        self.inflight.push(sink, token, frame, 0, len(frame), since)
        if not self._dirty:
            self._dirty = True
            self._around.turn.add(self)

    def flush(self) -> None:
        """Write what is to be sent."""
        self._dirty = False
        if self._transport is not None and self.inflight.unsent:
            self.inflight.write_to(self._transport)

    def drop(self) -> None:
        """Close it; nothing of it is heard any more."""
        self.on_lost = self.on_push = self.on_error = None
        self.inflight.drain()
        self._abort()
        self._on_gone(self)

    def lose(self, reason: str) -> None:
        """Close it as if the server had; its holder is told ``reason``."""
        self._reason = reason
        self._abort()

    def read(self, on: bool) -> None:
        """Take what the server says, or leave it where it is for a while."""
        if self._transport is not None and not self._transport.is_closing():
            if on:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    @property
    def standing(self) -> bool:
        """Whether it is connected."""
        return self._transport is not None and not self._lost

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection stands: greet."""
        # uvloop's transports are none of asyncio's classes, but have their methods.
        self._transport = cast(asyncio.Transport, transport)
        if self._greeting is not None:
            self._transport.write(self._greeting.request())

    def data_received(self, data: bytes) -> None:
        """Hand the replies to those who wait for them."""
        if self._greeting is not None:
            self._greeting.feed(data)
            return
        try:
            self._reader.feed(data, self._around.turn.now())
        except BadReply as error:
            self._reason = f"its replies can not be read: {error}"
            self._abort()

    def eof_received(self) -> bool:
        """The server sends no more: close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = None
        self._lost = True
        self._reader.reset()
        if self._greeting is not None:
            self._greeting.lost(exc)
            return
        written, unwritten = self.inflight.drain()
        on_lost, self.on_lost = self.on_lost, None
        self._on_gone(self)
        if on_lost is not None:
            on_lost(self._reason or (str(exc) if exc else "the server closed the connection"), [*written, *unwritten])

    def pause_writing(self) -> None:
        """The server reads slowly: what is sent over a lease is its holder's, and bounded by it."""

    def resume_writing(self) -> None:
        """The server reads again."""

    def _pushed(self, frame: bytes) -> None:
        if self.on_push is not None:
            self.on_push(frame)

    def _erred(self, error: bytes) -> bool:
        return self.on_error is not None and self.on_error(error)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


Then = Callable[[Lease | str], None]
"""Gets the lease, or the text of the error reply that says why there is none: SHARDDOWN if the server can not be
reached, so that another attempt may succeed."""


class Claim:
    """A lease that is asked for. ``cancel``: it is not wanted any more (and given back if it comes all the same)."""

    __slots__ = ("_then", "place", "timer")

    def __init__(self, place: Place, then: Then) -> None:
        self.place = place
        self.timer: asyncio.TimerHandle | None = None
        """Runs while it waits for one to become free."""
        self._then: Then | None = then

    def cancel(self) -> None:
        """It is not wanted any more."""
        self._then = None
        self.stop()

    @property
    def cancelled(self) -> bool:
        """Whether it is not wanted any more."""
        return self._then is None

    def settle(self, found: Lease | str) -> None:
        """Here it is."""
        then, self._then = self._then, None
        self.stop()
        if then is not None:
            then(found)

    def stop(self) -> None:
        """It does not wait for one to become free any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Check(Sink):
    """Asks the server what state a connection is in that was given back."""

    __slots__ = ("_lease", "_then")

    def __init__(self, lease: Lease, then: Callable[[Lease, str], None]) -> None:
        self._lease = lease
        self._then = then

    def send(self, now: float) -> None:
        """Ask; ``then`` is called with what is wrong, "" if nothing is."""
        self._lease.send(self, 0, _UNWATCH, now)
        self._lease.send(self, 1, _INFO, now)

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take an answer."""
        view = data
        if token:
            self._then(self._lease, unclean(view[start:end], self._lease.place))

    def accepts_stream(self, token: int) -> bool:
        """No: it is short."""
        return False


def unclean(info: bytes, place: Place) -> str:
    """What the reply to CLIENT INFO says against a connection that should be in the state of ``place``; "" if nothing.

    Fields that a server does not have yet can not be wrong. Source: https://redis.io/docs/latest/commands/client-list/
    """
    if info[:1] not in (b"$", b"="):
        return f"the server answers CLIENT INFO with {errors.text(info[:100]).strip()!r}"
    words = (word.partition(b"=") for word in info.split())
    found = {name.decode("latin-1"): value.decode("latin-1") for name, _, value in words}
    wanted = {
        "flags": "N",
        "db": str(place.db),
        "sub": "0",
        "psub": "0",
        "ssub": "0",
        "multi": "-1",
        "watch": "0",
        "redir": "-1",
        "resp": str(place.protocol),
    }
    if not place.primary and found.get("flags") == "r":  # READONLY, of the greeting
        wanted["flags"] = "r"
    wrong = [name for name, value in wanted.items() if found.get(name, value) != value]
    return " ".join(f"{name}={found[name]}" for name in wrong)


@dataclass(frozen=True, slots=True)
class Usage:
    """How many leases of one server are used (or being connected or checked), and how many idle."""

    node: Node
    used: int
    idle: int


class Station:
    """The leases of one server. ``count`` has those too that are being connected."""

    __slots__ = ("count", "idle", "waiting")

    def __init__(self) -> None:
        self.count = 0
        self.idle: list[Lease] = []
        """The one that was used last stands last."""
        self.waiting: deque[Claim] = deque()

    def take(self, place: Place) -> Lease | None:
        """An idle one for ``place``; the one that was used last, so that what is not needed grows old."""
        for at in range(len(self.idle) - 1, -1, -1):
            if self.idle[at].place == place:
                return self.idle.pop(at)
        return None


class Leases:
    """All leases of a worker: at most ``limit`` to one server; who comes then waits up to ``wait`` seconds for one."""

    def __init__(self, around: Surroundings, limit: int, wait: float) -> None:
        self._around = around
        self._limit = limit
        self._wait = wait
        self._loop = asyncio.get_running_loop()
        self._stations: dict[Node, Station] = {}
        self._leases: set[Lease] = set()
        self._checking: set[Lease] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._roles: set[tuple[Node, bool]] | None = None
        """The servers, and whether each is a primary; None: not known yet."""
        self._unchecked: set[Node] = set()
        """Those that do not say what state a connection is in, and have been complained about."""
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._leases)

    def usage(self) -> Iterator[Usage]:
        """How many there are, by server."""
        for node, station in self._stations.items():
            yield Usage(node, station.count - len(station.idle), len(station.idle))

    def ask(self, place: Place, then: Then) -> Claim:
        """Have ``then`` called with a lease for ``place`` (its ``index`` says nothing here), at once if one is idle; or
        later, also with a refusal."""
        claim = Claim(replace(place, index=0), then)
        station = self._stations.get(place.node)
        if station is None:
            station = self._stations[place.node] = Station()
        if not station.waiting and (lease := station.take(claim.place)) is not None:
            claim.settle(lease)
        elif station.count < self._limit or (not station.waiting and station.idle):
            if station.count >= self._limit:
                station.idle[0].drop()  # it is in another state than is wanted here
            self._connect(station, claim)
        elif self._wait:
            claim.timer = self._loop.call_later(self._wait, self._refuse, claim)
            station.waiting.append(claim)
        else:
            self._loop.call_soon(self._refuse, claim)
        return claim

    def give_back(self, lease: Lease, *, untouched: bool = False) -> None:
        """The holder is done with it. ``untouched``: nothing was sent over it that could change a connection's state,
        so that the server need not be asked."""
        lease.on_lost = lease.on_push = None
        if not lease.standing:
            return
        if len(lease.inflight):
            lease.drop()
        elif untouched:
            self._rest(lease)
        else:
            lease.since = self._around.turn.now()
            self._checking.add(lease)
            Check(lease, self._checked).send(lease.since)

    def adopt(self, topology: Topology) -> None:
        """Let go of connections to servers that are not there any more, or in another role. Who uses one is told by its
        server, which is given ``request_timeout`` to do so."""
        roles = self._roles = {(node, node == shard.primary) for shard in topology.shards for node in shard.nodes}
        now = self._around.turn.now()
        for lease in list(self._leases):
            if (lease.place.node, lease.place.primary) in roles:
                lease.stray = 0.0
            elif lease in self._stations[lease.place.node].idle:
                lease.drop()
            else:
                lease.stray = lease.stray or now
        for station in list(self._stations.values()):
            for claim in [claim for claim in station.waiting if (claim.place.node, claim.place.primary) not in roles]:
                claim.settle(errors.shard_down(claim.place.shard, claim.place.node.address, _STRAY))
                station.waiting.remove(claim)

    async def close(self) -> None:
        """Close them all."""
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
        station.count += 1
        task = self._loop.create_task(self._connected(station, claim))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connected(self, station: Station, claim: Claim) -> None:
        lease = Lease(claim.place, self._around, self._gone)
        try:
            await lease.connect()
        except (OSError, TimeoutError, ValueError, errors.BackendError) as error:
            place = claim.place
            self._around.hint(None)
            self._leave(place.node)
            claim.settle(errors.shard_down(place.shard, place.node.address, str(error) or type(error).__name__))
            return
        except BaseException:
            self._leave(claim.place.node)
            raise
        self._leases.add(lease)
        if self._timer is None:
            self._timer = self._loop.call_later(_SWEEP, self._sweep)
        if claim.cancelled:
            self._rest(lease)
        else:
            claim.settle(lease)

    def _refuse(self, claim: Claim) -> None:
        station = self._stations.get(claim.place.node)
        if station is not None and claim in station.waiting:
            station.waiting.remove(claim)
        self._around.counters.lease_refusals += 1
        place = claim.place
        claim.settle(errors.no_lease(place.shard, place.node.address, self._limit, self._wait))

    # ---- when a holder is done

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
        """It is clean: the next one's, or idle."""
        place = lease.place
        if self._closing or not (self._roles is None or (place.node, place.primary) in self._roles):
            lease.drop()
            return
        station = self._stations[place.node]
        while station.waiting:
            claim = station.waiting.popleft()
            if claim.cancelled:
                continue
            if claim.place == place:
                claim.settle(lease)
            else:
                station.waiting.appendleft(claim)
                lease.drop()
            return
        lease.since = self._around.turn.now()
        station.idle.append(lease)

    def _gone(self, lease: Lease) -> None:
        """It is closed."""
        if lease not in self._leases:
            return
        self._leases.discard(lease)
        self._checking.discard(lease)
        station = self._stations[lease.place.node]
        if lease in station.idle:
            station.idle.remove(lease)
        self._leave(lease.place.node)

    def _leave(self, node: Node) -> None:
        """There is one less: room for who waits."""
        station = self._stations[node]
        station.count -= 1
        while station.waiting and not self._closing:
            claim = station.waiting.popleft()
            if not claim.cancelled:
                claim.stop()
                self._connect(station, claim)
                break
        if not station.count and not station.waiting:
            del self._stations[node]

    def _sweep(self) -> None:
        """Close what nobody needs, and what a server says nothing about."""
        self._timer = None
        now = self._around.turn.now()
        patience = self._around.timing.request_timeout
        for station in list(self._stations.values()):
            for lease in [lease for lease in station.idle if now - lease.since > _IDLE]:
                lease.drop()
        for lease in [lease for lease in self._checking if now - lease.since > patience]:
            lease.drop()
        for lease in [lease for lease in self._leases if lease.stray and now - lease.stray > patience]:
            lease.lose(_STRAY)
        if self._leases:
            self._timer = self._loop.call_later(_SWEEP, self._sweep)
