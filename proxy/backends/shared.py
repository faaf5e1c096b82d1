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
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from proxy import errors
from proxy.backends.connection import Backoff, ServerConnection, reason
from proxy.backends.handshake import Step
from proxy.backends.lost_requests import LostRequests
from proxy.backends.settings import LARGE, BackendSettings, Holder, Place, State
from proxy.engine.entry import Entry
from proxy.engine.inflight import InFlight
from proxy.engine.reply_reader import ReplyReader
from proxy.engine.sink import QUEUED, UNASKED, Sink
from proxy.planning import exec_block
from proxy.planning.proof import Proof
from proxy.resp import encode
from proxy.resp.replies import BadReply
from proxy.transport.addresses import first_that_serves
from proxy.transport.transports import is_over

log = logging.getLogger(__name__)

_MULTI = exec_block.MULTI
VERY_LONG = 8 * 1024 * 1024
"""Bytes of one reply behind which others should not have to wait: some 10 milliseconds."""


class Backend(ServerConnection):
    """A connection to ``place``; see the module's text.

    Push a request to ``inflight``, then ``schedule`` if not ``dirty``.
    """

    __slots__ = (
        "_blocked",
        "_closing",
        "_down_since",
        "_full",
        "_gate",
        "_greeted",
        "_heard",
        "_holders",
        "_hurried",
        "_hurry",
        "_large",
        "_loop",
        "_lost_requests",
        "_owner",
        "_paused",
        "_query",
        "_reader",
        "_reason",
        "_rejected",
        "_rested",
        "_runner",
        "_turn",
        "_used",
        "_withheld",
        "dirty",
        "inflight",
        "left",
        "ready",
        "reconnects",
        "retired",
        "state",
        "unfit",
    )

    def __init__(self, place: Place, settings: "BackendSettings[Backend]") -> None:
        # for good
        super().__init__(place, settings)
        self._query = settings.query
        self._large = place.index == LARGE
        self._turn = settings.turn
        self._loop = asyncio.get_running_loop()
        # over connections
        self.state = State.NEW
        self.ready = False
        """Whether the connection stands: ``state`` is READY."""
        self.inflight = InFlight()
        self.dirty = False
        self.reconnects = 0
        owner = self._owner = settings.events.client(place.owner) if place.owner else None
        self._reader = ReplyReader(
            self.inflight,
            settings.counters,
            self._on_error,
            None if owner is None else partial(owner.pushed, self),
            settings.max_reply,
            self._too_large,
        )
        self._lost_requests = LostRequests(self, settings)
        self._holders: dict[Holder[Backend], None] = {}
        self._down_since = self._turn.now()
        self._reason = "not connected yet"
        self._runner: asyncio.Task[None] | None = None
        self._closing = False
        self.retired = False
        """Nobody sends here any more."""
        self._withheld = False
        self.left = False
        """It is left to a long reply: a fresh connection has taken its place."""
        self._gate = settings.gates.to(place.node, place.primary)
        self._used = self._down_since
        self.unfit = ""
        """Why a static primary is not used though it can be reached; empty where that is not so."""
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
        self._rejected = b""
        """The first error of a command of the transaction whose replies come."""

    def __repr__(self) -> str:
        place = self.place
        return f"Backend({place.shard} {place.node.address} db{place.db} {self.state.name} {self.inflight!r})"

    # ---- the client side: requests come in

    @property
    def usable(self) -> bool:
        """Whether requests may be pushed: they are sent, or held for a while. Otherwise answer ``down_error``."""
        return self.state is not State.FAILING and self.state is not State.CLOSED

    def down_for(self, now: float) -> float:
        """For how many seconds the server has not been reached; 0 while it is."""
        return 0.0 if self.ready else now - self._down_since

    def down_error(self) -> bytes:
        """The error reply for a request that is not sent."""
        return encode.error(errors.shard_down(self.place.shard, self.place.node.address, self._reason))

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

    def start(self) -> None:
        """Connect, and stay connected."""
        if self._runner is None and not self._closing:
            if self.state is State.NEW:
                self.state = State.HELD
            self._runner = self._loop.create_task(self._run(), name=f"backend {self.place.node.address}")

    async def close(self) -> None:
        """Let go of the connection; what is in flight gets an error."""
        self._closing = True
        self._reason = "the proxy is closing"
        runner, self._runner = self._runner, None
        self.abort()
        if runner is not None:
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)
        self._change(State.CLOSED)
        self._refuse_all()

    async def _run(self) -> None:
        timing = self._settings.timing
        backoff = Backoff(timing.backoff_min, timing.backoff_max)
        while not self._closing:
            since = self._turn.now()
            paced = False
            """Whether the gate says when the next attempt may be made."""
            try:
                steps = [] if self._owner is None else await self._owner.steps(self.place)
                paced = True
                lost = await self._gate.attempt(lambda: self._connect(steps))  # noqa: B023 - it is called here
                paced = False
                since = self._turn.now()
                await lost
                self._gate.doubt()
            except (OSError, TimeoutError, ValueError, errors.BackendError) as error:
                # ValueError: a host name that can be no name.
                paced = paced and not isinstance(error, errors.PlaceRefused)
                if isinstance(error, errors.ServerBusy):
                    backoff.reset()  # who waits is told so at each attempt
                self._not_connected(error)
            # A server that takes connections only to drop them is no reason to connect in a circle.
            if self._turn.now() - since > timing.backoff_max + timing.connect_timeout:
                backoff.reset()
            if not paced:
                await asyncio.sleep(backoff.pause())

    def _not_connected(self, error: Exception) -> None:
        words = reason(error, self._settings.timing.connect_timeout)
        denied = self._settings.roles.alone and self.place.primary and isinstance(error, errors.WrongRole)
        self.unfit = str(error) if denied else ""
        if words != self._reason:
            self._reason = words
            # What is wrong with the server is said once, and not for each connection to it.
            news = isinstance(error, errors.PlaceRefused) or self._gate.is_news(words)
            self._log(logging.WARNING if news else logging.DEBUG, "backend not reachable")
            if news and self.unfit:
                self._log(logging.ERROR, errors.REPLICA_AS_PRIMARY)
        if isinstance(error, errors.ServerBusy):
            # It is there: each attempt tells who waits what the server says, however long it goes on.
            self._down_since = self._turn.now()
            if self.state is State.FAILING:
                self._change(State.HELD)
            self._lost_requests.turn_away(self.inflight.recall(), encode.error(words))
            self._release_holders()
        self._settings.events.hint(None)

    async def _connect(self, steps: Sequence[Step]) -> asyncio.Future[None]:
        """Connect and greet. The future is done when the connection is lost."""
        timeout = self._settings.timing.connect_timeout
        return await first_that_serves(
            self.place.node, timeout, lambda address, seconds: self._greet(address, seconds, steps)
        )

    async def _greet(self, address: str, seconds: float, steps: Sequence[Step]) -> asyncio.Future[None]:
        """Connect to one of the server's addresses, and greet."""
        lost = await self.greet(address, seconds, self._settings.greeting(self.place, steps=steps))
        self._heard = self._greeted = self._turn.now()
        self._reason = self.unfit = ""
        level = logging.DEBUG if self.place.owner else logging.INFO
        log.log(level, "backend connected shard=%s address=%s", self.place.shard, self.place.node.address)
        self._change(State.READY)
        self._go_on()
        return lost

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
        self._rejected = b""
        self._reader.reset()
        if self._greeting is not None:
            self._greeting.lost(exc)
        elif self._owner is not None and self._heard:
            self._owner.missed()
        self._heard = 0.0
        if self.ready:
            self.reconnects += 1
            if exc is not None:
                self._reason = reason(exc, 0.0)
            elif not self._reason:
                self._reason = "the server closed the connection"
            self._down_since = self._turn.now()
            self._change(State.HELD)
            if not self._closing and not self.retired:
                self._log(logging.WARNING, "backend connection lost")
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
        if self.state is State.HELD:
            waiting = self.inflight.oldest()
            if waiting is None and self._holders:
                waiting = self._down_since
            if waiting is not None and now - max(waiting, self._down_since) > timing.retry_deadline:
                self._change(State.FAILING)
                self._refuse_all()
        elif self.ready and self._heard < before:
            first = self.inflight.first()
            if self._reader.streaming or (first is not None and first < before):
                self._reason = f"nothing came back for {timing.request_timeout:g} s"
                self.abort()

    def _refuse_all(self) -> None:
        self._lost_requests.refuse(*self.inflight.drain(), self._reason)
        self._release_holders()

    def _on_error(self, error: bytes) -> bool:
        """The oldest request is answered with an error: whether it is a refusal, or may be one, and was taken out."""
        entry = self.inflight.peek()
        if entry.sink is QUEUED:
            self._rejected = self._rejected or error
            return False
        rejected, self._rejected = self._rejected, b""
        if entry.sink in UNASKED or isinstance(entry.sink, Proof):
            return False
        # Only EXEC says why; another command that words an error so is a script.
        why = exec_block.reason(error, rejected) if exec_block.is_block(entry.frame) else error
        refusal = self._settings.events.refusal(why, self.place.node, entry.frame)
        if refusal is not None:
            if self._owner is not None:
                self._owner.redirected()
            self._settings.events.refused(self, self.inflight.pop(), refusal)
            return True
        self._settings.events.count_error(entry.sink, entry.frame)
        if not rejected and why is error:
            return False
        entry = self.inflight.pop()
        reply = self._not_executed(error, why, rejected)
        entry.sink.deliver(entry.token, reply, 0, len(reply))
        return True

    def _not_executed(self, error: bytes, why: bytes, rejected: bytes) -> bytes:
        """The reply to a transaction to which the server says ``error``."""
        if exec_block.lacks_multi(error):
            place = self.place
            return encode.error(errors.uncertain(place.shard, place.node.address, errors.multi_refused(rejected)))
        return exec_block.aborted(why)

    def _release_holders(self) -> None:
        holders, self._holders = self._holders, {}
        for holder in holders:
            holder.release(self)

    def _change(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self.ready = state is State.READY
            self._settings.events.on_state(self)

    def _log(self, level: int, event: str) -> None:
        place = self.place
        log.log(level, "%s shard=%s address=%s reason=%r", event, place.shard, place.node.address, self._reason)

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
            self._reason = f"its replies can not be read: {error}"
            self._log(logging.ERROR, "backend sent what is no reply")
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

    def _too_large(self, entry: Entry) -> bytes:
        """What is answered to ``entry``, whose reply can not be kept: it was carried out."""
        settings = self._settings
        settings.counters.too_large += 1
        settings.events.count_error(entry.sink, entry.frame)
        return encode.error(errors.reply_too_large(settings.max_reply, not settings.events.look(entry.frame).readonly))

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
