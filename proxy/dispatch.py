"""Carrying out plans: requests to backend connections, replies to the client's window, parts merged on the way."""

from collections.abc import Callable

from proxy.engine.entry import Entry
from proxy.engine.sink import DISCARD, OnError, Sink
from proxy.engine.window import ReplyWindow
from proxy.jobs import Job
from proxy.merge import LONG, Context, is_long, merge, merging
from proxy.metrics import Counters
from proxy.multikey import by_key
from proxy.routes import Routes
from proxy.scatter import Scatter
from proxy.slices import Slices
from proxy.surroundings import Holder, Place
from proxy.topology import NOBODY

Wait = Callable[[Entry, Place], None]


class Gather(Sink):
    """The sink of a Scatter's parts: merges their replies when the last one is there."""

    __slots__ = ("_context", "_counters", "_left", "_plan", "_replies", "_sink", "_size", "_slices", "_token")

    def __init__(
        self, plan: Scatter, sink: Sink, token: int, context: Context, counters: Counters, slices: Slices
    ) -> None:
        self._counters = counters
        self._slices = slices
        self._plan = plan
        self._sink = sink
        self._token = token
        self._context = context
        self._replies: list[bytes] = [b""] * len(plan.parts)
        self._left = len(plan.parts)
        self._size = 0
        """Bytes of the replies."""

    def __repr__(self) -> str:
        return f"Gather({self._plan.way.name}, {self._left} of {len(self._replies)} to come)"

    @property
    def owner(self) -> object:
        """The client's."""
        return self._sink.owner

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take the reply to part ``token``."""
        view = data
        self._replies[token] = view[start:end]
        self._size += end - start
        self._left -= 1
        if not self._left:
            if self._size > LONG and is_long(self._plan):
                self._slices.run(self._merging())
            else:
                self._answer(merge(self._plan, self._replies, self._context))

    def _merging(self) -> Job[None]:
        reply = yield from merging(self._plan, self._replies, self._context)
        self._answer(reply)

    def _answer(self, reply: bytes) -> None:
        if reply.startswith(b"-"):
            counter = self._counters.command(self._plan.way.name)
            counter.failed += self._sink.counted
        self._sink.deliver(self._token, reply, 0, len(reply))

    @property
    def counted(self) -> bool:
        """The whole is counted when it is answered."""
        return False

    def halt(self) -> None:
        """The client's."""
        self._sink.halt()

    def parts(self, token: int) -> list[tuple[Sink, int, bytes]]:
        """One for each key of part ``token``, if it has several."""
        parts = by_key(self._plan.parts[token])
        if len(parts) < 2:
            return []
        inner = Gather(Scatter(self._plan.way, parts), self, token, self._context, self._counters, self._slices)
        return [(inner, index, part.frame) for index, part in enumerate(parts)]

    def accepts_stream(self, token: int) -> bool:
        """No: a merge needs whole replies."""
        return False

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Never called, as nothing is accepted in pieces."""
        raise AssertionError("a part of a scattered command was streamed")

    def abort_stream(self, token: int) -> None:
        """Never called, as nothing is accepted in pieces."""
        raise AssertionError("a part of a scattered command was streamed")


class Muted(Sink):
    """The sink of a client that wants no reply (CLIENT REPLY OFF): the request's turn comes, and nothing is said."""

    __slots__ = ("_window",)

    def __init__(self, window: ReplyWindow) -> None:
        self._window = window

    @property
    def owner(self) -> object:
        """The client's."""
        return self._window

    def halt(self) -> None:
        """The client's."""
        self._window.halt()

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take a reply, and say nothing."""
        self._window.deliver(token, b"", 0, 0)

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Drop a piece."""
        if last:
            self._window.deliver(token, b"", 0, 0)

    def abort_stream(self, token: int) -> None:
        """Nothing of the reply was passed on, so nothing is broken."""
        self._window.deliver(token, b"", 0, 0)


class Dispatcher:
    """Carries out plans for all clients of a worker. ``context`` tells what merges may say about the proxy.

    ``wait`` takes requests whose slot nobody serves.
    """

    __slots__ = ("_context", "_counters", "_on_error", "_slices", "_wait")

    def __init__(self, counters: Counters, context: Context, on_error: OnError, wait: Wait, slices: Slices) -> None:
        self._slices = slices
        self._on_error = on_error
        self._wait = wait
        self._counters = counters
        self._context = context

    def scatter(self, plan: Scatter, routes: Routes, holder: Holder, sink: Sink, token: int, now: float) -> None:
        """Send the parts of ``plan``; ``sink`` gets their merged reply under ``token``."""
        if len(plan.parts) > 1:
            self._counters.splits += 1
        gather = self.gather(plan, sink, token)
        if plan.way.replicas:
            self._send_to_replicas(plan, routes, now)
        for index, part in enumerate(plan.parts):
            self.send(part.shard, plan.way.read, part.frame, routes, holder, gather, index, now)

    def gather(self, plan: Scatter, sink: Sink, token: int) -> Gather:
        """What takes the replies to the parts of ``plan``, by their index; ``sink`` gets the merged one."""
        return Gather(plan, sink, token, self._context, self._counters, self._slices)

    def send(
        self, shard: int, read: bool, frame: bytes, routes: Routes, holder: Holder, sink: Sink, token: int, now: float
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
        """What becomes of the ``reply`` to the one part of ``plan``."""
        return merge(plan, [reply], self._context)

    def _send_to_replicas(self, plan: Scatter, routes: Routes, now: float) -> None:
        """Replicas get it too if they are there; one that is not does not make the command fail."""
        for part in plan.parts:
            for backend in routes.replicas(part.shard):
                if backend.ready:
                    backend.send(DISCARD, 0, part.frame, now, None)
