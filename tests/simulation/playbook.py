"""Conversations as tables: what clients say, what the one server gets and does, what clients hear, step by step.

Everything between them is the proxy's own; time is virtual and every step happens at once, but for ``passes``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random
from typing import cast
from zlib import crc32

import hiredis

from proxy.client.connection import ClientConnection
from proxy.client.large_request import Landing
from proxy.config import Config
from proxy.resp import encode
from proxy.sharding.topology import build_topology
from proxy.worker.service import Service
from tests.support.memory_wire import MemoryWire, Pace
from tests.support.virtual_loop import run, virtual_loop

Step = Callable[["Stage"], Awaitable[None]]

CONNECT_TIMEOUT = 0.3
REQUEST_TIMEOUT = 1.0
RETRY_DEADLINE = 0.5
KERNEL = 100
"""Bytes that the server's side takes without reading; what is more makes the proxy pause."""

_AT_ONCE = 0.0005
_SHARDS = [{"name": "alpha", "primary": "10.2.0.1:6379"}]
_BACKEND = {
    "connect_timeout": f"{CONNECT_TIMEOUT}s",
    "request_timeout": f"{REQUEST_TIMEOUT}s",
    "retry_deadline": f"{RETRY_DEADLINE}s",
    "backoff_min": "10ms",
    "backoff_max": "50ms",
}
_TOPOLOGY = {"check_roles": False}
"""The server is asked nothing that a step would have to answer."""
_GREETING = ("AUTH", "HELLO", "SELECT", "ROLE", "CLIENT ID", "CLUSTER MYID", "PING")


class Client:
    """A client's end of its wire."""

    def __init__(self, number: int, service: Service) -> None:
        self.connection = ClientConnection(service)
        self.wire = MemoryWire(self.connection, Pace(Random(0), smooth=True), ("127.0.0.1", number))
        self.wire.peer = self
        self.reader = hiredis.Reader()
        self.heard: list[str] = []
        self.bytes = 0
        self.connection.connection_made(self.wire)

    def receive(self, data: bytes) -> None:
        self.bytes += len(data)
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self.heard.append(_text(reply))

    def lost(self) -> None:
        self.heard.append("closed")


class _Connection:
    """The server's end of a wire: greets as the stage says, and notes what it is asked."""

    def __init__(self, stage: "Stage", wire: MemoryWire) -> None:
        self.wire = wire
        self._stage = stage
        self._reader = hiredis.Reader()
        wire.peer = self

    def receive(self, data: bytes) -> None:
        self._reader.feed(data)
        while (args := self._reader.gets()) is not False:
            assert isinstance(args, list)
            request = " ".join(map(word, args))
            if request.startswith(_GREETING):
                self._stage.greeted.append(request)
            else:
                self._stage.seen.append(request)
                self._stage.connection = self
            if request == "PING":
                self.wire.send(self._stage.greeting)
            elif request == "CLUSTER MYID":
                self.wire.send(encode.bulk("a" * 40))
            elif request == "CLIENT ID":
                self.wire.send(encode.integer(self._stage.attempts))

    def lost(self) -> None:
        self._stage.stand -= 1
        if self._stage.connection is self:
            self._stage.connection = None


@dataclass(eq=False)
class Stage:
    """Where a conversation is played."""

    service: Service
    clients: dict[str, Client]
    seen: list[str]
    greeted: list[str]
    connection: _Connection | None = None
    """That which was asked something last, or the first that was made since it was lost."""
    door: str = "open"
    greeting: bytes = encode.PONG
    attempts: int = 0
    stand: int = 0

    async def connect(self, protocol: asyncio.Protocol, host: str, port: int) -> MemoryWire:
        """What the proxy's connect comes to."""
        self.attempts += 1
        if self.door == "deaf":
            await virtual_loop().create_future()
        if self.door == "shut":
            raise ConnectionRefusedError(111, "Connection refused")
        wire = MemoryWire(protocol, Pace(Random(0), kernel=KERNEL, buffer=0, smooth=True))
        connection = _Connection(self, wire)
        self.stand += 1
        self.connection = self.connection or connection
        protocol.connection_made(wire)
        return wire

    def client(self, name: str) -> Client:
        """The client of that name, connected when it is first named."""
        if name not in self.clients:
            self.clients[name] = Client(len(self.clients), self.service)
        return self.clients[name]


def play(steps: Sequence[Step], limits: Mapping[str, object] | None = None, **backend: str) -> None:
    """Play a conversation; ``limits`` and ``backend`` are settings. Raises AssertionError where it goes otherwise."""
    config = {"shards": _SHARDS, "backend": {**_BACKEND, **backend}, "limits": limits or {}, "topology": _TOPOLOGY}
    run(_play(steps, config))


async def _play(steps: Sequence[Step], config: Mapping[str, object]) -> None:
    loop = virtual_loop()
    faults: list[object] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    parsed = Config.model_validate(config)
    service = Service(parsed, build_topology(parsed), clock=loop.time)
    stage = Stage(service, {}, [], [])
    loop.network = stage
    await asyncio.sleep(_AT_ONCE)
    for number, step in enumerate(steps):
        try:
            await step(stage)
            await asyncio.sleep(_AT_ONCE)
        except AssertionError as error:
            error.add_note(f"step {number}, {loop.time():.3f} s after the start; {list(service.upstream.pool)}")
            raise
    assert not faults, faults
    await service.close()


def word(arg: bytes) -> str:
    """An argument as ``sees`` has it: a long one by its size and checksum."""
    return arg.decode() if len(arg) < 1000 else f"<{len(arg)} bytes, {crc32(arg):08x}>"


def _text(reply: object) -> str:
    if isinstance(reply, hiredis.ReplyError):
        return f"-{reply}"
    if isinstance(reply, bytes):
        return reply.decode() if len(reply) < 1000 else f"{len(reply)} bytes"
    return str(reply)


# ---- steps


def says(name: str, *requests: str) -> Step:
    """A client sends requests, each as words."""
    return sends(name, b"".join(encode.request(request.split()) for request in requests))


def sends(name: str, data: bytes) -> Step:
    """A client sends bytes."""

    async def step(stage: Stage) -> None:
        stage.client(name).wire.send(data)

    return step


def hears(name: str, *replies: str) -> Step:
    """What a client was answered since it was last asked: patterns of ``fnmatch``; ``closed`` ends a connection."""

    async def step(stage: Stage) -> None:
        client = stage.client(name)
        heard, client.heard = client.heard, []
        assert len(heard) == len(replies), f"{name} heard {heard}, not {replies}"
        for reply, pattern in zip(heard, replies, strict=True):
            assert fnmatchcase(reply, pattern), f"{name} heard {reply!r}, not {pattern!r}"

    return step


def got_bytes(name: str, least: int) -> Step:
    """A client has ``least`` bytes or more, whole replies or not."""

    async def step(stage: Stage) -> None:
        assert stage.client(name).bytes >= least

    return step


def listens(name: str, yes: bool) -> Step:
    """A client reads what it is sent, or does not."""

    async def step(stage: Stage) -> None:
        flow = stage.client(name).wire.outgoing
        if yes:
            flow.unblock("deaf")
        else:
            flow.block("deaf")

    return step


def ends(name: str) -> Step:
    """A client sends no more, and still listens."""

    async def step(stage: Stage) -> None:
        stage.client(name).wire.end()

    return step


def lands(name: str, yes: bool) -> Step:
    """Whether a client's large request is on its way straight to where it will lie."""

    async def step(stage: Stage) -> None:
        client = stage.client(name)
        assert isinstance(client.wire.get_protocol(), Landing) is yes
        assert yes or client.wire.get_protocol() is client.connection

    return step


def took(size: int) -> Step:
    """How many bytes the proxy says that it has read from clients."""

    async def step(stage: Stage) -> None:
        assert stage.service.counters.bytes_in == size

    return step


def known(count: int) -> Step:
    """How many clients the proxy knows."""

    async def step(stage: Stage) -> None:
        assert len(stage.service.clients) == count

    return step


def leaves(name: str) -> Step:
    """A client's connection is cut."""

    async def step(stage: Stage) -> None:
        stage.client(name).wire.cut()

    return step


def sees(*requests: str) -> Step:
    """What reached the server since this was last asked, on all connections, greetings left out."""

    async def step(stage: Stage) -> None:
        seen = stage.seen[:]
        stage.seen.clear()
        assert seen == list(requests)

    return step


def greeted(*requests: str) -> Step:
    """What the server was greeted with since this was last asked."""

    async def step(stage: Stage) -> None:
        seen = stage.greeted[:]
        stage.greeted.clear()
        assert seen == list(requests)

    return step


def answers(*replies: bytes) -> Step:
    """The server sends bytes."""

    async def step(stage: Stage) -> None:
        assert stage.connection is not None, "there is no connection"
        stage.connection.wire.send(b"".join(replies))

    return step


def door(state: str, greeting: bytes = encode.PONG) -> Step:
    """From now on a connect is taken and greeted so (``open``), refused (``shut``), or comes to nothing (``deaf``)."""

    async def step(stage: Stage) -> None:
        stage.door, stage.greeting = state, greeting

    return step


def reads(yes: bool) -> Step:
    """The server reads its connection, or does not."""

    async def step(stage: Stage) -> None:
        assert stage.connection is not None
        if yes:
            stage.connection.wire.outgoing.unblock("not read")
        else:
            stage.connection.wire.outgoing.block("not read")

    return step


def cuts() -> Step:
    """The server's connection is lost; what it had not read it never got."""

    async def step(stage: Stage) -> None:
        assert stage.connection is not None
        stage.connection.wire.cut()

    return step


def connected(yes: bool) -> Step:
    """Whether the proxy has a connection to the server."""

    async def step(stage: Stage) -> None:
        assert (stage.connection is not None) is yes

    return step


def tries(least: int, most: int) -> Step:
    """How often the proxy has tried to connect up to now."""

    async def step(stage: Stage) -> None:
        assert least <= stage.attempts <= most

    return step


def standing(count: int) -> Step:
    """How many connections to the server stand."""

    async def step(stage: Stage) -> None:
        assert stage.stand == count

    return step


def drains() -> Step:
    """The proxy stops, as at SIGTERM."""

    async def step(stage: Stage) -> None:
        for client in stage.service.clients:
            client.drain()

    return step


def asked_to_leave() -> Step:
    """The clients shall leave, because the proxy will stop."""

    async def step(stage: Stage) -> None:
        for client in stage.service.clients:
            cast(ClientConnection, client).leave()

    return step


def passes(seconds: float) -> Step:
    """Time goes by."""

    async def step(stage: Stage) -> None:
        await asyncio.sleep(seconds)

    return step
