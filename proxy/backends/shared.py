"""One connection to one backend server, shared by many clients::

    clients' frames ──push──▶ InFlight ──one write per turn──▶ server
    clients' windows ◀──deliver── InFlight.pop ◀──ReplyReader── server's bytes

The connection never changes its state (protocol, database, user) after the handshake. It reconnects by itself, and
holds requests that come meanwhile. When it is lost, unwritten requests are held, reads are sent again
(``proxy.planning.retry_rules`` decides which), and all other requests are answered ``UNCERTAIN``, and never sent twice.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from proxy.backends.error_replies import ErrorReplies
from proxy.backends.handshake import Step
from proxy.backends.lost_requests import LostRequests
from proxy.backends.reconnecting import Event, ReconnectingConnection
from proxy.backends.settings import LARGE, BackendSettings, ConnectionState, Holder, Place
from proxy.engine.inflight import InFlight
from proxy.engine.reply_reader import ReplyReader
from proxy.engine.sink import QUEUED, Sink
from proxy.planning import exec_block
from proxy.resp.replies import BadReply
from proxy.transport.transports import is_over

log = logging.getLogger(__name__)

_MULTI = exec_block.MULTI
VERY_LONG = 8 * 1024 * 1024
"""Bytes of one reply that other clients should not have to wait for, since it takes some 10 milliseconds."""


class Backend(ReconnectingConnection):
    """A connection to ``place``, as described at the beginning of this module.

    Push a request to ``inflight``, then call ``schedule`` if the connection is not ``dirty``.
    """

    __slots__ = (
        "_blocked",
        "_errors",
        "_full",
        "_greeted",
        "_heard",
        "_holders",
        "_hurried",
        "_hurry",
        "_large",
        "_lost_requests",
        "_owner",
        "_paused",
        "_query",
        "_reader",
        "_rested",
        "_used",
        "_withheld",
        "dirty",
        "inflight",
        "left",
        "reconnects",
        "retired",
    )

    def __init__(self, place: Place, settings: "BackendSettings[Backend]") -> None:
        # for good
        super().__init__(place, settings)
        self._query = settings.query
        self._large = place.index == LARGE
        # over connections
        self.inflight = InFlight()
        self.dirty = False
        self.reconnects = 0
        owner = self._owner = settings.events.client(place.owner) if place.owner else None
        self._errors = ErrorReplies(self, self.inflight, settings, owner)
        self._reader = ReplyReader(
            self.inflight,
            settings.counters,
            self._errors.judge,
            None if owner is None else partial(owner.pushed, self),
            settings.max_reply,
            self._errors.too_large,
        )
        self._lost_requests = LostRequests(self, settings)
        self._holders: dict[Holder[Backend], None] = {}
        self.retired = False
        """Whether the connection gets no new requests."""
        self._withheld = False
        self.left = False
        """Whether the connection is left to a long reply, as a new connection has replaced it."""
        self._used = self._down_since
        # of one connection
        self._paused = False
        self._full = False
        """Whether as many bytes are unanswered as are allowed."""
        self._blocked = False
        self._rested = False
        """Whether nothing was in flight for a while, so that the server may have closed the connection."""
        self._hurry: Callable[[bool], None] | None = None
        """Makes the transport read more in a turn, if it can."""
        self._hurried = False
        self._heard = self._greeted = 0.0

    def __repr__(self) -> str:
        place = self.place
        return f"Backend({place.shard} {place.node.address} db{place.db} {self.state.name} {self.inflight!r})"

    # ---- requests of clients

    def send(self, sink: Sink, token: int, frame: bytes, since: float, holder: "Holder[Backend] | None") -> None:
        """Push a whole request, or a transaction's block, and schedule the write; see ``schedule``."""
        if frame.startswith(_MULTI):
            # The replies to the block before the last one are discarded: their entries have no bytes of their own.
            for _ in range(exec_block.replies(frame) - 1):
                self.inflight.push(QUEUED, 0, b"", 0, 0, since)
        self.inflight.push(sink, token, frame, 0, len(frame), since)
        if not self.dirty:
            self.schedule(holder)

    def schedule(self, holder: "Holder[Backend] | None") -> None:
        """Write the pushed requests at the end of this turn; if that is not possible, ``holder`` stops reading."""
        if self.ready and not self._paused and not self._withheld and not self._full:
            self.dirty = True
            self._turn.add(self)
            return
        if self._runner is None:
            self.start()
        if holder is not None:
            self._holders[holder] = None
            holder.hold(self)

    def flush(self) -> None:
        """Write the pushed requests."""
        self.dirty = False
        if self._rested and self._is_over():
            return
        if self._blocked and not self.left:
            self._unblock()
        if self.ready and not self._withheld and self._transport is not None and self.inflight.unsent:
            self.inflight.write_upto(self._transport, self._most())
            self._full = self.inflight.unsent > 0

    def _is_over(self) -> bool:
        """Whether the server has closed an idle connection; then unwritten requests are held until the next one is
        ready."""
        if self._transport is not None and not self.inflight.written and is_over(self._transport):
            self.abort()
            return True
        self._rested = False
        return False

    def _most(self) -> int:
        """The bytes that may be unanswered: beyond its limit the server would close the shared connection."""
        return self._query.limit if self._large else self._query.unanswered

    # ---- connecting, and losses

    async def close(self) -> None:
        """Close the connection; requests in flight get an error."""
        await super().close()
        self._refuse_all()

    async def steps(self) -> list[Step]:
        """The commands that set the state of the only client, if there is one, in the handshake."""
        return [] if self._owner is None else await self._owner.steps(self.place)

    def stood(self) -> None:
        """Write the held requests, as the handshake has succeeded."""
        self._heard = self._greeted = self._turn.now()
        self.happened(Event.STOOD)
        self._go_on()

    def turned_away(self, refusal: bytes) -> None:
        """Answer the held requests with ``refusal``, the error of a reachable server that takes no requests now."""
        self._lost_requests.turn_away(self.inflight.recall(), refusal)
        self._release_holders()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._paused = False
        self._full = False
        self._blocked = self._rested = False
        self._hurry = getattr(transport, "hurry", None)
        self._hurried = False
        super().connection_made(transport)
        if self._owner is not None:
            self.takes_messages()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hold the requests that may be sent again, and answer the rest, as the connection is lost."""
        self._transport = None
        self.dirty = False
        self._errors.reset()
        self._reader.reset()
        if self._greeting is not None:
            self._greeting.lost(exc)
        elif self._owner is not None and self._heard:
            self._owner.missed()
        self._heard = 0.0
        if self.ready:
            self.reconnects += 1
            self.fell(exc)
            if not self._closing and not self.retired:
                self.log(logging.WARNING, "backend connection lost")
                self._settings.events.hint(None)
        self._lost_requests.settle(*self.inflight.drain())
        self.mark_lost()

    # ---- changes of the topology

    def rename(self, shard: str) -> None:
        """Use the new name ``shard`` of the shard."""
        self.place = replace(self.place, shard=shard)

    def renew(self) -> None:
        """Close the connection, so that a new one is made."""
        self.abort()

    def retire(self, keeps: bool = False) -> None:
        """Accept no more requests. Unwritten requests are sent where they belong now, and so are those that a replica
        has not answered, unless ``keeps`` is set: a request that keeps one server busy must not go to another."""
        self.retired = True
        if self.place.primary or keeps:
            self._give_back()
        else:
            self._give_up()

    def _give_back(self) -> None:
        """Send unwritten requests elsewhere; while a reply is missing, the requests of its client behind it have to
        wait."""
        if self.inflight.unsent and not self.inflight.written:
            self._lost_requests.send_on(self.inflight.recall())
        if not self.inflight.unsent:
            self._release_holders()

    def give_up_reads(self) -> None:
        """Send the reads elsewhere that the silent replica has not answered, if another server can take them."""
        if self._settings.events.elsewhere(self) is not self:
            self._give_up()

    def _give_up(self) -> None:
        """Send the unanswered requests of a replica elsewhere, and discard later replies: only reads are sent to
        replicas, apart from requests whose reply is discarded."""
        late, unwritten = self.inflight.expire(math.inf)
        self._settings.counters.retries += len(late)
        self._lost_requests.send_on((*late, *unwritten))
        self._release_holders()

    def withhold(self, on: bool) -> None:
        """Write nothing for now, and hold the senders (a failover is about to begin); or go on."""
        self._withheld = on
        if not on and self.ready:
            self._go_on()

    def _go_on(self) -> None:
        self.flush()
        if not self._withheld and not self._full:
            self._release_holders()

    def pause_writing(self) -> None:
        """Keep requests and hold the clients that send them, as the server reads slowly."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on, as the server reads again."""
        self._paused = False
        if self.ready:
            self._go_on()

    # ---- deadlines

    def tick(self, now: float) -> None:
        """Answer requests that have waited too long at ``now``, a time since which the loop has read from its sockets;
        and refuse requests if none could be sent until the deadline."""
        if self._blocked:
            return
        if self.retired:
            self._give_back()
        self._rested = self.ready and not self.inflight.written
        timing = self._settings.timing
        before = now - timing.request_timeout
        oldest = self.inflight.oldest()
        if oldest is not None and oldest < before:
            self._lost_requests.expire(*self.inflight.expire(before))
        if self.state is ConnectionState.HELD:
            waiting = self.inflight.oldest()
            if waiting is None and self._holders:
                waiting = self._down_since
            if waiting is not None and now - max(waiting, self._down_since) > timing.retry_deadline:
                self.happened(Event.GIVEN_UP)
                self._refuse_all()
        elif self.ready and self._heard < before:
            first = self.inflight.first()
            if self._reader.streaming or (first is not None and first < before):
                self._reason = f"nothing came back for {timing.request_timeout:g} s"
                self.abort()

    def _refuse_all(self) -> None:
        self._lost_requests.refuse(*self.inflight.drain(), self._reason)
        self._release_holders()

    def _release_holders(self) -> None:
        holders, self._holders = self._holders, {}
        for holder in holders:
            holder.release(self)

    # ---- replies of the server

    def data_received(self, data: bytes) -> None:
        """Deliver the replies in ``data`` to their sinks."""
        if self._greeting is not None:
            self._greeting.feed(data)
            return
        self._heard = now = self._turn.now()
        try:
            self._reader.feed(data, now)
        except BadReply as error:
            if self._transport is None or self._transport.is_closing():
                return  # the connection is being closed, as the server sent more than it should
            self._reason = f"its replies can not be read: {error}"
            self.log(logging.ERROR, "backend sent what is no reply")
            self.abort()
        if self._hurried or self._reader.taken:
            self._make_way()
        if self._full and self.ready and self.inflight.unanswered <= self._most() // 2:
            self._go_on()

    # ---- long replies and slow readers

    def _make_way(self) -> None:
        """Have other clients use another connection if the reply is very long or its reader slow, and read no faster
        than the reader does.

        While other clients have requests in flight behind the reply, or no other connection can be made, the reply is
        read without waiting: only the output limits bound the bytes that are kept then.
        """
        reader = self._reader
        slow = not self._blocked and reader.holds_back(self._unblock)
        alone = self.left
        if not alone and (slow or reader.known > VERY_LONG):
            alone = self._settings.events.on_long(self)
        awaited = reader.taken > 0 and self.inflight.serves_others(reader.owner)
        if awaited != self._hurried and self._hurry is not None:
            self._hurried = awaited
            self._hurry(awaited)
        if slow and alone and not awaited and self._transport is not None:
            self._blocked = True
            self._transport.pause_reading()

    def leave(self) -> None:
        """Leave the connection to its long reply."""
        self.left = True

    def _unblock(self) -> None:
        """Read on: the reader has caught up or is gone, or another client has sent a request. The deadlines of requests
        behind the reply begin anew, as they did not wait for the server."""
        if self._blocked:
            self._blocked = False
            self._heard = now = self._turn.now()
            self.inflight.restart(now)
            if self._transport is not None:
                self._transport.resume_reading()

    def silent(self, now: float) -> float:
        """The seconds for which the server has sent nothing though a reply is due."""
        first = self.inflight.first()
        return 0.0 if first is None else now - max(first, self._heard)

    def owners(self) -> set[object]:
        """The clients whose requests are in flight here."""
        owners = self.inflight.owners()
        if (streaming := self._reader.owner) is not None:
            owners.add(streaming)
        return owners

    @property
    def very_long(self) -> bytes:
        """The request whose very long reply is arriving; empty if there is none."""
        return self._reader.request if self._reader.known > VERY_LONG else b""

    @property
    def spent(self) -> bool:
        """Whether nothing is in flight."""
        return not len(self.inflight) and not self._reader.streaming

    @property
    def takes_long(self) -> bool:
        """Whether a long reply is arriving."""
        return self._reader.taken > 0

    def unused(self, now: float) -> float:
        """The seconds for which nothing has been in flight, as far as calls of this method could see."""
        if not self.spent or self._holders:
            self._used = now
        elif self._heard > self._greeted:
            self._used = max(self._used, self._heard)
        return now - self._used
