"""A simulated client: says what ``Workload`` thinks up, at its own pace, and holds every reply against its request."""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import hiredis

from proxy.client.connection import ClientConnection
from proxy.worker.service import Service
from tests.simulation.workload import Request, Workload
from tests.support.memory_wire import MemoryWire, Pace


@dataclass(frozen=True, slots=True)
class Manner:
    """How a client talks: how many requests at once, how long it rests at most (seconds, one of these for good), and
    how often it waits for the replies first."""

    depths: Sequence[int]
    patience: Sequence[float]
    waits: float


CALM = Manner((1, 1, 1, 2, 5, 20, 50), (0.05, 0.5, 2.0), 0.7)


class SimulatedClient:
    """One client from its connect to its end. ``problem`` says what first went wrong."""

    def __init__(
        self,
        number: int,
        service: Service,
        rng: Random,
        pace: Pace,
        workload: Workload,
        manner: Manner = CALM,
    ) -> None:
        self.number = number
        self.workload = workload
        self.problem = ""
        self.replies = 0
        self.errors: Counter[str] = Counter()
        """How often each error was answered to a request of ``workload``, by its first word."""
        self._manner = manner
        self._rng = rng
        self._reader = hiredis.Reader()
        self._expected: deque[Request] = deque()
        self._changed = asyncio.Event()
        self._lost = False
        self._leaving = False
        connection = ClientConnection(service)
        self._wire = MemoryWire(connection, pace, (f"127.1.0.{number}", 1024 + number))
        self._wire.peer = self
        connection.connection_made(self._wire)

    def __repr__(self) -> str:
        return f"SimulatedClient({self.number}, {len(self._expected)} replies to come, lost={self._lost})"

    async def run(self, until: float) -> None:
        """Talk until about ``until`` (virtual seconds) in batches of pipelined requests, then leave somehow."""
        rng = self._rng
        loop = asyncio.get_running_loop()
        manner = self._manner
        patience = rng.choice(manner.patience)
        while not self._lost:
            if rng.random() < 0.1:
                self._wire.outgoing.block("busy")
            depth = rng.choice(manner.depths)
            self._say([self.workload.next() for _ in range(depth)])
            if rng.random() < 0.3 * manner.waits:
                await asyncio.sleep(rng.random() * 0.3)
            self._wire.outgoing.unblock("busy")
            if rng.random() < manner.waits:
                await self._answered()
            if loop.time() > until:
                await self._leave()
                break
            await asyncio.sleep(rng.random() * patience)
        self.workload.abandon()

    async def _leave(self) -> None:
        way = self._rng.choice(("words", "words", "end", "vanish"))
        words, closes = self.workload.last_words()
        if way == "vanish":
            self._leaving = True
            self._wire.cut()
        elif way == "words" and closes:
            self._say([words])
        else:
            self._wire.end()
        await self._answered()
        self._leaving = True
        while not self._lost:
            await self._change()

    def _say(self, requests: list[Request]) -> None:
        for request in requests:
            self._expected += [one for one in (request, *request.others) if one.check is not None]
        self._wire.send(b"".join(request.frame for request in requests))

    async def _answered(self) -> None:
        while self._expected and not self._lost:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    # ---- the wire's peer

    def receive(self, data: bytes) -> None:
        """Replies have arrived."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self.replies += 1
            if isinstance(reply, hiredis.ReplyError):
                self.errors[str(reply).partition(" ")[0]] += 1
            if not self._expected:
                self._wrong(reply, Request(b"", None), "a reply to no request")
                return
            request = self._expected.popleft()
            wrong = request.check(reply) if request.check is not None else None
            if wrong:
                self._wrong(reply, request, wrong)
        if not self._expected:
            self._changed.set()

    def lost(self) -> None:
        """The proxy has closed the connection."""
        self._lost = True
        self._changed.set()
        # A long reply that breaks off in the middle leaves nothing else to do.
        if self._expected and not self._leaving and not any(request.large for request in self._expected):
            self.problem = self.problem or f"closed with {len(self._expected)} replies to come"

    def _wrong(self, reply: object, request: Request, wrong: str) -> None:
        if not self.problem:
            self.problem = f"{request.frame[:200]!r} was answered {str(reply)[:200]!r}: {wrong}"
