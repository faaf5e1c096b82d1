"""One connection to one backend server, shared by many clients::

    clients' frames ──push──▶ InFlight ──one write per turn──▶ server
    clients' windows ◀──deliver── InFlight.pop ◀──frame── server's bytes

The connection never changes state once it is greeted: what it is (protocol, database, user) it stays. It reconnects by
itself; requests that come meanwhile are held. What is lost with a connection: requests not written are held on,
commands that Redis flags readonly are sent again, and anything else is answered ``UNCERTAIN``, never sent twice.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, cast

from proxy import errors
from proxy.engine.inflight import Entry, InFlight
from proxy.greeting import Credentials, Greeting
from proxy.metrics import Counters
from proxy.resp import encode
from proxy.resp.replies import BadReply, ReplyFramer
from proxy.topology import Node
from proxy.turn import Turn

log = logging.getLogger(__name__)

_ERROR = 45
_BULK = 36
_SIMPLE = 43
_INTEGER = 58
_PUSH = 62
_CR = 13

_STREAM_FROM = 64 * 1024
"""A reply with more than this many bytes still to come is passed on in pieces, if it is its turn."""


class State(Enum):
    """Where a backend connection stands. ``HELD`` keeps requests while it reconnects, ``FAILING`` refuses them."""

    NEW = "new"
    HELD = "held"
    READY = "ready"
    FAILING = "failing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a backend may take; all in seconds."""

    connect_timeout: float
    request_timeout: float
    retry_deadline: float
    backoff_min: float
    backoff_max: float


@dataclass(frozen=True, slots=True)
class Place:
    """What a backend connection is for: the node and its role, and the state that the connection is in for good."""

    shard: str
    node: Node
    primary: bool
    protocol: int
    db: int
    index: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all backend connections of a worker share."""

    turn: Turn
    counters: Counters
    timing: Timing
    credentials: Credentials
    readonly: Callable[[bytes], bool]
    """Whether the request in a frame is one that Redis flags readonly, so that it may be sent twice."""
    on_error: Callable[[bytes], None]
    """Called with the frame of a request that a server answered with an error, to count it."""
    on_state: Callable[["Backend"], None]
    """Called whenever a connection becomes usable or stops being so."""


class Holder(Protocol):
    """A client that stops reading while a backend takes no more."""

    def hold(self, backend: "Backend") -> None:
        """Stop reading until ``backend`` calls ``release``."""

    def release(self, backend: "Backend") -> None:
        """``backend`` takes requests again, or refuses them at once."""


class Backend(asyncio.Protocol):
    """A connection to ``place``; see the module's text. ``push`` a request, then ``schedule`` if not ``dirty``."""

    __slots__ = (
        "_around",
        "_closing",
        "_framer",
        "_greeting",
        "_heard",
        "_holders",
        "_kept",
        "_loop",
        "_lost",
        "_paused",
        "_reason",
        "_runner",
        "_stream",
        "_stream_left",
        "_transport",
        "_turn",
        "dirty",
        "inflight",
        "place",
        "push",
        "ready",
        "reconnects",
        "state",
    )

    def __init__(self, place: Place, around: Surroundings) -> None:
        # for good
        self.place = place
        self._around = around
        self._turn = around.turn
        self._loop = asyncio.get_running_loop()
        # over connections
        self.state = State.NEW
        self.ready = False
        """Whether the connection stands: ``state`` is READY."""
        self.inflight = InFlight()
        self.push = self.inflight.push
        self.dirty = False
        self.reconnects = 0
        self._holders: set[Holder] = set()
        self._reason = "not connected yet"
        self._runner: asyncio.Task[None] | None = None
        self._closing = False
        # of one connection
        self._transport: asyncio.Transport | None = None
        self._greeting: Greeting | None = None
        self._lost: asyncio.Future[None] | None = None
        self._framer = ReplyFramer()
        self._kept: bytearray | None = None
        self._stream: Entry | None = None
        self._stream_left = 0
        self._paused = False
        self._heard = 0.0

    def __repr__(self) -> str:
        place = self.place
        return f"Backend({place.shard} {place.node.address} db{place.db} {self.state.name} {self.inflight!r})"

    # ---- the client side: requests come in

    @property
    def usable(self) -> bool:
        """Whether requests may be pushed: they are sent, or held for a while. Otherwise answer ``down_error``."""
        return self.state is not State.FAILING and self.state is not State.CLOSED

    def down_error(self) -> bytes:
        """The error reply for a request that is not sent."""
        return encode.error(errors.shard_down(self.place.shard, self.place.node.address, self._reason))

    def schedule(self, holder: Holder | None) -> None:
        """Have what was pushed written at the end of this turn; ``holder`` stops reading if it can not be."""
        if self.ready and not self._paused:
            self.dirty = True
            self._turn.add(self)
            return
        if self._runner is None:
            self.start()
        if holder is not None:
            self._holders.add(holder)
            holder.hold(self)

    def flush(self) -> None:
        """Write what is pushed."""
        self.dirty = False
        if self.ready and self._transport is not None and self.inflight.unsent:
            self._transport.write(self.inflight.take())

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
        if self._transport is not None:
            self._transport.abort()
        if runner is not None:
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)
        self._change(State.CLOSED)
        self._refuse_all()

    async def _run(self) -> None:
        timing = self._around.timing
        backoff = timing.backoff_min
        while not self._closing:
            try:
                lost = await self._connect()
            except (OSError, TimeoutError, errors.BackendError) as error:
                reason = _words(error, timing.connect_timeout)
                if reason != self._reason:
                    log.warning(
                        "backend not reachable shard=%s address=%s reason=%r",
                        self.place.shard, self.place.node.address, reason,
                    )  # fmt: skip
                self._reason = reason
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
                backoff = min(backoff * 2, timing.backoff_max)
                continue
            since = self._turn.now()
            await lost
            if self._turn.now() - since > timing.backoff_max:
                backoff = timing.backoff_min
            else:
                # A server that takes connections only to drop them is no reason to connect in a circle.
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
                backoff = min(backoff * 2, timing.backoff_max)

    async def _connect(self) -> asyncio.Future[None]:
        """Connect and greet. The future is done when the connection is lost."""
        node = self.place.node
        lost = self._lost = self._loop.create_future()
        greeting = Greeting(self.place.protocol, self.place.db, self.place.primary, self._around.credentials)
        try:
            async with asyncio.timeout(self._around.timing.connect_timeout):
                self._greeting = greeting
                if node.port:
                    await self._loop.create_connection(lambda: self, node.host, node.port)
                else:
                    await self._loop.create_unix_connection(lambda: self, node.host)
                await asyncio.wait((greeting.done, lost), return_when=asyncio.FIRST_COMPLETED)
                if not greeting.done.done():
                    raise errors.BackendError("the server closed the connection")
                greeting.done.result()
        except BaseException:
            if self._transport is not None:
                self._transport.abort()
            raise
        finally:
            self._greeting = None
            if greeting.done.done() and not greeting.done.cancelled():
                greeting.done.exception()
        if lost.done():
            raise errors.BackendError("the server closed the connection")
        self._heard = self._turn.now()
        self._change(State.READY)
        self.flush()
        self._release_holders()
        return lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection stands: greet."""
        # uvloop's transports are none of asyncio's classes, but have their methods.
        self._transport = cast(asyncio.Transport, transport)
        self._paused = False
        self._kept = None
        self._framer.reset()
        if self._greeting is not None:
            self._transport.write(self._greeting.request())

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: hold what may be sent again, answer the rest."""
        self._transport = None
        self.dirty = False
        was_ready = self.ready
        if was_ready:
            self.reconnects += 1
            self._reason = _words(exc, 0.0) if exc else "the connection was lost"
            self._change(State.HELD)
            if not self._closing:
                log.warning(
                    "backend connection lost shard=%s address=%s reason=%r",
                    self.place.shard, self.place.node.address, self._reason,
                )  # fmt: skip
        if self._stream is not None:
            self._stream.sink.abort_stream(self._stream.token)
            self._stream = None
        written, unwritten = self.inflight.drain()
        for entry in written:
            if self._around.readonly(entry.frame):
                self._around.counters.retries += 1
                self._push_again(entry)
            else:
                self._answer_uncertain(entry, "closed the connection before it answered")
        for entry in unwritten:
            self._push_again(entry)
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        """The server reads slowly: keep what comes, and stop the clients that send to it."""
        self._paused = True

    def resume_writing(self) -> None:
        """The server reads again."""
        self._paused = False
        if self.ready:
            self.flush()
            self._release_holders()

    # ---- time

    def tick(self, now: float) -> None:
        """Answer what waited too long, and fail fast once nothing could be sent until the deadline."""
        timing = self._around.timing
        if self._stream is not None and self._heard < now - timing.request_timeout and self._transport is not None:
            self._transport.abort()
        oldest = self.inflight.oldest()
        if oldest is None:
            return
        if self.state is State.HELD and now - oldest > min(timing.retry_deadline, timing.request_timeout):
            self._change(State.FAILING)
            self._refuse_all()
        elif now - oldest > timing.request_timeout:
            self._expire(now - timing.request_timeout)
            if self.ready and self._heard < now - timing.request_timeout and self._transport:
                self._reason = f"nothing came back for {timing.request_timeout:g} s"
                self._transport.abort()

    def _expire(self, before: float) -> None:
        place = self.place
        late, unwritten = self.inflight.expire(before)
        self._around.counters.timeouts += len(late) + len(unwritten)
        seconds = self._around.timing.request_timeout
        for entry in late:
            if self._around.readonly(entry.frame):
                _answer(entry, encode.error(errors.timed_out(place.shard, place.node.address, seconds)))
            else:
                self._answer_uncertain(entry, f"did not answer within {seconds:g} s")
        for entry in unwritten:
            _answer(entry, self.down_error())

    def _refuse_all(self) -> None:
        written, unwritten = self.inflight.drain()
        for entry in written:
            self._answer_uncertain(entry, self._reason)
        for entry in unwritten:
            _answer(entry, self.down_error())
        self._release_holders()

    def _answer_uncertain(self, entry: Entry, reason: str) -> None:
        self._around.counters.uncertain += 1
        place = self.place
        _answer(entry, encode.error(errors.uncertain(place.shard, place.node.address, reason)))

    def _push_again(self, entry: Entry) -> None:
        self.push(entry.sink, entry.token, entry.frame, 0, len(entry.frame), entry.since)

    def _release_holders(self) -> None:
        holders, self._holders = self._holders, set()
        for holder in holders:
            holder.release(self)

    def _change(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self.ready = state is State.READY
            self._around.on_state(self)

    # ---- the server side: replies come in

    def data_received(self, data: bytes) -> None:
        """Frame the replies and hand each to the sink that waits for it."""
        if self._greeting is not None:
            self._greeting.feed(data)
            return
        self._heard = self._turn.now()
        try:
            if self._stream is not None:
                data = self._pass_on(self._stream, data)
            elif self._kept is not None:
                data = self._complete(self._kept, data)
            if data:
                self._replies(data)
        except (BadReply, IndexError) as error:
            self._reason = f"its replies can not be read ({error})"
            log.error(
                "backend sent what is no reply shard=%s address=%s error=%s",
                self.place.shard, self.place.node.address, error,
            )  # fmt: skip
            if self._transport is not None:
                self._transport.abort()

    def _replies(self, data: bytes) -> None:
        """Deliver every whole reply in ``data``; the rest is kept."""
        pop = self.inflight.pop
        now = self._heard
        counters = self._around.counters
        size = len(data)
        pos = 0
        since = run = 0.0
        while pos < size:
            kind = data[pos]
            end = -1
            # The common replies by hand: short bulks, and what is one line long. Anything else, or cut: the framer.
            if kind == _BULK and pos + 6 <= size:
                first = data[pos + 1]
                second = data[pos + 2]
                if second == _CR:
                    end = pos + first - 48 + 6 if first >= 48 else -1
                elif data[pos + 3] == _CR and first >= 48:
                    end = pos + (first - 48) * 10 + second - 48 + 7
            elif kind == _SIMPLE or kind == _INTEGER:  # noqa: SIM109 - a tuple costs more, once per reply
                end = data.find(b"\n", pos) + 1
                if not end:
                    end = -1
            if end < 0 or end > size:
                end = self._framer.frame(data, pos)
                if end < 0:
                    self._keep(data, pos)
                    break
            if kind == _PUSH:
                pos = end
                continue
            sink, token, frame, came = pop()
            if kind == _ERROR:
                self._around.on_error(frame)
            sink.deliver(token, data, pos, end)
            if came == since:
                run += 1
            else:
                if run:
                    counters.observe(now - since, int(run))
                since = came
                run = 1
            pos = end
        if run:
            counters.observe(now - since, int(run))

    def _keep(self, data: bytes, pos: int) -> None:
        """Keep the beginning of a reply, or pass it on at once if it is long and in its turn."""
        missing = self._framer.need - (len(data) - pos)
        if missing > _STREAM_FROM and data[pos] == _BULK and self.inflight.written:
            entry = Entry(*self.inflight.pop())
            if entry.sink.accepts_stream(entry.token):
                self._framer.reset()
                self._stream = entry
                self._stream_left = missing
                entry.sink.stream(entry.token, data[pos:], last=False)
                return
            self.inflight.push_front(entry)
        self._kept = bytearray(memoryview(data)[pos:])

    def _complete(self, kept: bytearray, data: bytes) -> bytes:
        """Add ``data`` to the reply that was begun; what is to be read on (nothing while it is not whole)."""
        kept += data
        if len(kept) < self._framer.need:
            return b""
        end = self._framer.frame(kept, 0)
        if end < 0:
            return b""
        self._kept = None
        with memoryview(kept) as view:
            reply = bytes(view[:end])
            rest = bytes(view[end:])
        if reply[0] != _PUSH:
            sink, token, frame, came = self.inflight.pop()
            if reply[0] == _ERROR:
                self._around.on_error(frame)
            sink.deliver(token, reply, 0, end)
            self._around.counters.observe(self._heard - came, 1)
        return rest

    def _pass_on(self, entry: Entry, data: bytes) -> bytes:
        """Pass the next piece of a long reply on; what is behind its end."""
        left = self._stream_left - len(data)
        if left > 0:
            self._stream_left = left
            entry.sink.stream(entry.token, data, last=False)
            return b""
        self._stream = None
        self._around.counters.observe(self._heard - entry.since, 1)
        rest = data[self._stream_left :]
        entry.sink.stream(entry.token, data[: self._stream_left], last=True)
        return rest


def _answer(entry: Entry, reply: bytes) -> None:
    entry.sink.deliver(entry.token, reply, 0, len(reply))


def _words(error: BaseException, connect_timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {connect_timeout:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
