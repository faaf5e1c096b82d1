"""Carries out plans: requests go to backend connections, replies to the client's window, and the replies to parts are
merged."""

from collections.abc import Callable
from typing import Any

from proxy import server_errors
from proxy.backends.routes import Routes
from proxy.backends.settings import Holder, Place
from proxy.backends.shared import Backend
from proxy.engine.entry import Entry
from proxy.engine.jobs import Job
from proxy.engine.sink import DISCARD, OnError, Sink
from proxy.engine.window import ReplyWindow
from proxy.metrics import Counters
from proxy.planning.merge import LONG, is_long, merge, merging, merging_pieces
from proxy.planning.merge_context import Context
from proxy.planning.scatter import IN_PART, Scatter
from proxy.resp import encode
from proxy.sharding.topology import NOBODY
from proxy.transport.job_runner import Slices

Wait = Callable[[Entry, Place], None]
_PATIENCE = 1.0
"""Seconds after which a server without a connection counts as down."""
Holding = Holder[Backend]
"""A client that is not read from while a connection's buffer is full."""


class Gather(Sink):
    """The sink of a Scatter's parts, which merges their replies when the last one has arrived.

    The kept replies are bounded: if they have more than ``max_reply`` bytes together, the reply is an error.
    """

    __slots__ = (
        "_context",
        "_counters",
        "_dropped",
        "_in_pieces",
        "_left",
        "_most",
        "_plan",
        "_replies",
        "_sink",
        "_sizes",
        "_slices",
        "_token",
        "_total",
    )

    def __init__(
        self,
        plan: Scatter,
        sink: Sink,
        token: int,
        context: Context,
        counters: Counters,
        slices: Slices,
        max_reply: int,
    ) -> None:
        self._counters = counters
        self._slices = slices
        self._most = max_reply
        self._plan = plan
        self._sink = sink
        self._token = token
        self._context = context
        self._replies: list[Any] = [b""] * len(plan.parts)
        """Reply frames, and lists of pieces for long replies."""
        self._left = len(plan.parts)
        self._total = 0
        """The bytes of all replies that have arrived."""
        self._sizes: dict[int, int] | None = None
        """The bytes of each reply that arrives in pieces; None if there are none."""
        self._in_pieces = False
        """Whether the reply to a part is a list of pieces."""
        self._dropped = False

    def __repr__(self) -> str:
        return f"Gather({self._plan.way.name}, {self._left} of {len(self._replies)} to come)"

    @property
    def owner(self) -> object:
        """The client that the parts belong to."""
        return self._sink.owner

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take the reply to part ``token``."""
        view = data
        self._replies[token] = view[start:end]
        if self._sizes is not None:
            self.kept(token, 0)
        self._total += end - start
        if self._total > self._most:
            self._drop()
        self._left -= 1
        if not self._left:
            self._merge()

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        """Take the long reply to part ``token``."""
        self._replies[token] = pieces
        self._in_pieces = True
        if self._total > self._most:
            self._drop()
        self._left -= 1
        if not self._left:
            self._merge()

    def kept(self, token: int, size: int) -> int:
        """Note that part ``token`` has ``size`` bytes now, and report the bytes of all parts to the sink."""
        if self._sizes is None:
            self._sizes = {}
        self._total += size - self._sizes.get(token, 0)
        self._sizes[token] = size
        return self._sink.kept(self._token, self._total)

    def _drop(self) -> None:
        """Drop replies that are too large together; an error is the reply when the last part has arrived."""
        self._counters.too_large += not self._dropped
        self._dropped = True
        error = encode.error(server_errors.reply_too_large(self._most, self._plan.way.changes))
        self._replies = [error] * len(self._replies)
        self._in_pieces = False

    def _merge(self) -> None:
        """Merge the replies, as all have arrived."""
        if self._in_pieces:
            self._slices.run(self._merging_pieces())
        elif self._total > LONG and is_long(self._plan):
            self._slices.run(self._merging())
        else:
            self._answer(merge(self._plan, self._replies, self._context))

    def _merging(self) -> Job[None]:
        reply = yield from merging(self._plan, self._replies, self._context)
        self._answer(reply)

    def _merging_pieces(self) -> Job[None]:
        replies, self._replies = self._replies, []
        pieces = yield from merging_pieces(self._plan, replies, self._context)
        sink = self._sink
        if len(pieces) == 1:
            self._answer(pieces[0])
        elif sink.accepts_stream(self._token):
            last = pieces.pop()
            for piece in pieces:
                sink.stream(self._token, piece, False)
            sink.stream(self._token, last, True)
        else:
            sink.deliver_pieces(self._token, pieces)

    def _answer(self, reply: bytes) -> None:
        if reply.startswith(b"-"):
            counter = self._counters.command(self._plan.way.name)
            counter.failed += self._sink.counted
        self._sink.deliver(self._token, reply, 0, len(reply))

    @property
    def counted(self) -> bool:
        """A part is not counted; the whole command is, when it is answered."""
        return False

    def halt(self) -> None:
        """Halt the client."""
        self._sink.halt()

    def accepts_stream(self, token: int) -> bool:
        """A merge needs whole replies."""
        return False

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Raise ``AssertionError``, as no part is accepted in pieces."""
        raise AssertionError("a part of a scattered command was streamed")

    def abort_stream(self, token: int) -> None:
        """Raise ``AssertionError``, as no part is accepted in pieces."""
        raise AssertionError("a part of a scattered command was streamed")


class Muted(Sink):
    """The sink of a client that wants no replies (CLIENT REPLY OFF): it answers each request with no bytes."""

    __slots__ = ("_window",)

    def __init__(self, window: ReplyWindow) -> None:
        self._window = window

    @property
    def owner(self) -> object:
        """The window of the client."""
        return self._window

    def halt(self) -> None:
        """Halt the client."""
        self._window.halt()

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Answer the request with no bytes."""
        self._window.deliver(token, b"", 0, 0)

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        """Answer the request with no bytes."""
        self._window.deliver(token, b"", 0, 0)

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Drop a piece."""
        if last:
            self._window.deliver(token, b"", 0, 0)

    def abort_stream(self, token: int) -> None:
        """Answer the request with no bytes: no part of the reply was passed on."""
        self._window.deliver(token, b"", 0, 0)


class Dispatcher:
    """Carries out plans for all clients of a worker. ``context`` has the facts about the proxy that merges may use.

    ``wait`` takes requests whose slot no shard serves. ``max_reply``: the bytes of the replies to one request's parts
    that are kept.
    """

    __slots__ = ("_context", "_counters", "_max_reply", "_on_error", "_slices", "_wait")

    def __init__(
        self,
        counters: Counters,
        context: Context,
        on_error: OnError,
        wait: Wait,
        slices: Slices,
        max_reply: int,
    ) -> None:
        self._slices = slices
        self._max_reply = max_reply
        self._on_error = on_error
        self._wait = wait
        self._counters = counters
        self._context = context

    def scatter(self, plan: Scatter, routes: Routes, holder: Holding, sink: Sink, token: int, now: float) -> None:
        """Send the parts of ``plan``; ``sink`` gets their merged reply under ``token``."""
        if len(plan.parts) > 1:
            self._counters.splits += 1
        gather = self.gather(plan, sink, token)
        if plan.way.replicas:
            self._send_to_replicas(plan, routes, now)
        for index, part in enumerate(plan.parts):
            if plan.way.merge in IN_PART:
                backend = routes.writers[part.shard]
                if backend is not None and backend.down_for(now) > _PATIENCE:
                    down = backend.down_error()
                    gather.deliver(index, down, 0, len(down))
                    continue
            self.send(part.shard, plan.way.read, part.frame, routes, holder, gather, index, now)

    def gather(self, plan: Scatter, sink: Sink, token: int) -> Gather:
        """The sink of the replies to the parts of ``plan``, by their index; ``sink`` gets the merged reply."""
        return Gather(plan, sink, token, self._context, self._counters, self._slices, self._max_reply)

    def send(
        self,
        shard: int,
        read: bool,
        frame: bytes,
        routes: Routes,
        holder: Holding,
        sink: Sink,
        token: int,
        now: float,
    ) -> None:
        """Send ``frame`` to ``shard``; ``sink`` gets the reply under ``token``."""
        backend = (routes.readers if read else routes.writers)[shard]
        if shard == NOBODY:
            self._wait(Entry(sink, token, frame, now), routes.nowhere())
        elif backend is None:
            refusal = routes.refusal(shard, read)
            self._on_error(sink, frame)
            sink.deliver(token, refusal, 0, len(refusal))
        else:
            backend.send(sink, token, frame, now, holder)

    def merged(self, plan: Scatter, reply: bytes) -> bytes:
        """The reply to ``plan`` from the ``reply`` to its only part."""
        return merge(plan, [reply], self._context)

    def _send_to_replicas(self, plan: Scatter, routes: Routes, now: float) -> None:
        """Send the parts to the connected replicas too; a replica without a connection does not make the command
        fail."""
        for part in plan.parts:
            for backend in routes.replicas(part.shard):
                if backend.ready:
                    backend.send(DISCARD, 0, part.frame, now, None)
