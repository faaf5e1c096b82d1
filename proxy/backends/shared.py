"""One connection to one backend server, shared by many clients::

    clients' frames ──push──▶ InFlight ──one write per turn──▶ server
    clients' windows ◀──deliver── InFlight.pop ◀──ReplyReader── server's bytes

The connection never changes state once it is greeted: what it is (protocol, database, user) it stays. It reconnects by
itself; requests that come meanwhile are held. What is lost with a connection: requests not written are held on,
reads are sent again (``proxy.planning.retry_rules`` says which), and anything else is answered ``UNCERTAIN``, never
sent twice.
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
"""Bytes of one reply behind which others should not have to wait: some 10 milliseconds."""


class Backend(ReconnectingConnection):
    """A connection to ``place``; see the module's text.

    Push a request to ``inflight``, then ``schedule`` if not ``dirty``.
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
        """Nobody sends here any more."""
        self._withheld = False
        self.left = False
        """It is left to a long reply: a fresh connection has taken its place."""
        self._used = self._down_since
        # of one connection
        self._paused = False
        self._full = False
        """As much is unanswered as may be."""
        self._blocked = False
        self._rested = False
        """Whether nothing was in flight for a while: the server may have closed it meanwhile."""
        self._hurry: Callable[[bool], None] | None = None
        """Has the transport read more in a turn, if it can."""
        self._hurried = False
        self._heard = 0.0
        self._greeted = 0.0

    def __repr__(self) -> str:
        place = self.place
        return f"Backend({place.shard} {place.node.address} db{place.db} {self.state.name} {self.inflight!r})"

    # ---- the client side: requests come in

    def send(self, sink: Sink, token: int, frame: bytes, since: float, holder: "Holder[Backend] | None") -> None:
        """Push a whole request, or a transaction's block, and have it written; see ``schedule``."""
        if frame.startswith(_MULTI):
            # All replies of the block but the last are to nobody: those requests have no bytes of their own.
            for _ in range(exec_block.replies(frame) - 1):
                self.inflight.push(QUEUED, 0, b"", 0, 0, since)
        self.inflight.push(sink, token, frame, 0, len(frame), since)
        if not self.dirty:
            self.schedule(holder)

    def schedule(self, holder: "Holder[Backend] | None") -> None:
        """Have what was pushed written at the end of this turn; ``holder`` stops reading if it can not be."""
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
        """Write what is pushed."""
        self.dirty = False
        if self._rested and self._is_over():
            return
        if self._blocked and not self.left:
            self._unblock()
        if self.ready and not self._withheld and self._transport is not None and self.inflight.unsent:
            self.inflight.write_upto(self._transport, self._most())
            self._full = self.inflight.unsent > 0

    def _is_over(self) -> bool:
        """Whether the server has closed it unnoticed: what is not written is held until it stands again."""
        if self._transport is not None and not self.inflight.written and is_over(self._transport):
            self.abort()
            return True
        self._rested = False
        return False

    def _most(self) -> int:
        """How many bytes may be unanswered: past its limit the server would close what all share."""
        return self._query.limit if self._large else self._query.unanswered

    # ---- the connection's life

    async def close(self) -> None:
        """Let go of the connection; what is in flight gets an error."""
        await super().close()
        self._refuse_all()

    async def steps(self) -> list[Step]:
        """What is said at first beside the usual: the state of the client that it is for alone."""
        return [] if self._owner is None else await self._owner.steps(self.place)

    def stood(self) -> None:
        """It is connected and greeted: go on."""
        self._heard = self._greeted = self._turn.now()
        self.happened(Event.STOOD)
        self._go_on()

    def turned_away(self, refusal: bytes) -> None:
        """The server is there, takes nothing now, and says so by ``refusal``."""
        self._lost_requests.turn_away(self.inflight.recall(), refusal)
        self._release_holders()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection stands: greet."""
        self._paused = False
        self._full = False
        self._blocked = self._rested = False
        self._hurry = getattr(transport, "hurry", None)
        self._hurried = False
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: hold what may be sent again, answer the rest."""
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

    # ---- its place in the topology

    def rename(self, shard: str) -> None:
        """Its shard is called so from now on."""
        self.place = replace(self.place, shard=shard)

    def renew(self) -> None:
        """Connect anew."""
        self.abort()

    def retire(self, keeps: bool = False) -> None:
        """Nobody sends here any more; what is not written yet goes where it belongs now, and so does what a replica has
        not answered, unless it ``keeps`` that: what keeps one server busy is nothing for another."""
        self.retired = True
        if self.place.primary or keeps:
            self._give_back()
        else:
            self._give_up()

    def _give_back(self) -> None:
        """As long as an answer is to come, what its client sent behind that must wait."""
        if self.inflight.unsent and not self.inflight.written:
            self._lost_requests.send_on(self.inflight.recall())
        if not self.inflight.unsent:
            self._release_holders()

    def give_up_reads(self) -> None:
        """The replica answers nothing: its reads go elsewhere, if there is an elsewhere."""
        if self._settings.events.elsewhere(self) is not self:
            self._give_up()

    def _give_up(self) -> None:
        """Send what a replica has not answered elsewhere, and drop what it answers after all: nothing but reads is ever
        sent to a replica that anybody waits for."""
        late, unwritten = self.inflight.expire(math.inf)
        self._settings.counters.retries += len(late)
        self._lost_requests.send_on((*late, *unwritten))
        self._release_holders()

    def withhold(self, on: bool) -> None:
        """Write nothing for now, and have who sends wait (a failover is about to begin); or go on."""
        self._withheld = on
        if not on and self.ready:
            self._go_on()

    def _go_on(self) -> None:
        self.flush()
        if not self._withheld and not self._full:
            self._release_holders()

    def pause_writing(self) -> None:
        """The server reads slowly: keep what comes, and stop the clients that send to it."""
        self._paused = True

    def resume_writing(self) -> None:
        """The server reads again."""
        self._paused = False
        if self.ready:
            self._go_on()

    # ---- time

    def tick(self, now: float) -> None:
        """Answer what had waited too long at ``now``, since when the loop has read from its sockets; and fail fast once
        nothing could be sent until the deadline."""
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

    # ---- the server side: replies come in

    def data_received(self, data: bytes) -> None:
        """Hand the replies to those who wait for them."""
        if self._greeting is not None:
            self._greeting.feed(data)
            return
        self._heard = now = self._turn.now()
        try:
            self._reader.feed(data, now)
        except BadReply as error:
            if self._transport is None or self._transport.is_closing():
                return  # it is being closed, as the server said more than it should
            self._reason = f"its replies can not be read: {error}"
            self.log(logging.ERROR, "backend sent what is no reply")
            self.abort()
        if self._hurried or self._reader.taken:
            self._make_way()
        if self._full and self.ready and self.inflight.unanswered <= self._most() // 2:
            self._go_on()

    # ---- a long reply, perhaps to a slow reader

    def _make_way(self) -> None:
        """Have others use another connection if the reply is very long, or its reader slow; and read no faster than its
        reader does.

        As long as others have requests in flight behind it, or no other connection can be had for those who come later,
        it is read on all the same: only the output limits bound what is kept then.
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
        """Nobody else sends here any more."""
        self.left = True

    def _unblock(self) -> None:
        """The reader has caught up, or is gone, or somebody else has sent a request. What waited behind the reply has
        not waited for the server."""
        if self._blocked:
            self._blocked = False
            self._heard = now = self._turn.now()
            self.inflight.restart(now)
            if self._transport is not None:
                self._transport.resume_reading()

    def silent(self, now: float) -> float:
        """For how many seconds the server has said nothing though an answer is due."""
        first = self.inflight.first()
        return 0.0 if first is None else now - max(first, self._heard)

    def owners(self) -> set[object]:
        """Whose requests are in flight here."""
        owners = self.inflight.owners()
        if (streaming := self._reader.owner) is not None:
            owners.add(streaming)
        return owners

    @property
    def very_long(self) -> bytes:
        """The request to which a very long reply is coming; none where none is."""
        return self._reader.request if self._reader.known > VERY_LONG else b""

    @property
    def spent(self) -> bool:
        """Whether nothing is in flight."""
        return not len(self.inflight) and not self._reader.streaming

    @property
    def takes_long(self) -> bool:
        """Whether a long reply is coming."""
        return self._reader.taken > 0

    def unused(self, now: float) -> float:
        """For how many seconds nothing has been in flight, as far as was seen by those who ask now and then."""
        if not self.spent or self._holders:
            self._used = now
        elif self._heard > self._greeted:
            self._used = max(self._used, self._heard)
        return now - self._used
