"""Conversations before two nodes of a cluster as tables: what clients say, what each node gets and answers.

The nodes are A and B: A has the slot of ``bar`` at first, B that of ``foo``. Time is virtual.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import hiredis

from proxy.config import Config
from proxy.resp import encode
from proxy.sharding.slots import key_slot
from proxy.sharding.topology import Node, Shard, Topology
from proxy.worker.service import Service
from tests.simulation.playbook import KERNEL, Client
from tests.support.memory_wire import MemoryWire, Pace
from tests.support.virtual_loop import run, virtual_loop

NODES = {"A": Node("10.2.0.1", 6379), "B": Node("10.2.0.2", 6379)}
NAMES = {(node.host, node.port): name for name, node in NODES.items()}
RETRY_DEADLINE, REQUEST_TIMEOUT = 0.5, 2.0
SOON = 0.05
"""Longer than the first waits before something is sent again."""
_AT_ONCE = 0.0005
BAR, FOO = key_slot(b"bar"), key_slot(b"foo")


class _Node:
    """One node: what it was asked, and its connections."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.wire: MemoryWire | None = None
        self.shut = False
        self._reader = hiredis.Reader()

    def take(self, wire: MemoryWire) -> None:
        self.wire = wire
        self._reader = hiredis.Reader()
        wire.peer = self

    def receive(self, data: bytes) -> None:
        assert self.wire is not None
        self._reader.feed(data)
        while (args := self._reader.gets()) is not False:
            assert isinstance(args, list)
            if args == [b"PING"]:
                self.wire.send(encode.PONG)
            elif args == [b"CLUSTER", b"MYID"]:
                self.wire.send(encode.bulk("a" * 40))
            elif args == [b"CLIENT", b"ID"]:
                self.wire.send(encode.integer(1))
            else:
                self.seen.append(" ".join(arg.decode() for arg in args))

    def lost(self) -> None:
        self.wire = None


@dataclass
class TwoNodes:
    """A proxy before both nodes, where a conversation is played."""

    service: Service
    nodes: dict[str, _Node] = field(default_factory=lambda: {name: _Node() for name in NODES})
    clients: dict[str, Client] = field(default_factory=dict)

    async def connect(self, protocol: asyncio.Protocol, host: str, port: int) -> MemoryWire:
        """What the proxy's connect comes to."""
        node = self.nodes[NAMES[host, port]]
        if node.shut:
            raise ConnectionRefusedError(111, "Connection refused")
        wire = MemoryWire(protocol, Pace(Random(0), kernel=KERNEL, smooth=True))
        node.take(wire)
        protocol.connection_made(wire)
        return wire

    def client(self, name: str) -> Client:
        """The client of that name, connected when it is first named."""
        if name not in self.clients:
            self.clients[name] = Client(len(self.clients), self.service)
        return self.clients[name]


Step = Callable[[TwoNodes], Awaitable[None] | None]


def topology(bar: str = "A", foo: str = "B", epoch: int = 1, gap: bool = False) -> Topology:
    """Who has the slot of ``bar`` (and all up to the middle), and of ``foo`` (and all behind it); ``gap``: nobody."""
    halves = {bar: [(0, 8191)] if not gap else []}
    halves.setdefault(foo, []).append((8192, 16383))
    shards = [Shard(name, NODES[name]) for name in halves]
    return Topology.found(shards, list(halves.values()), cluster=True, epoch=epoch)


def play(steps: Sequence[Step]) -> None:
    """Play a conversation. Raises AssertionError where it goes otherwise."""
    run(_play(steps))


async def _play(steps: Sequence[Step]) -> None:
    loop = virtual_loop()
    faults: list[object] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    config = Config.model_validate(
        {
            "topology": {"kind": "cluster"},
            "cluster": {"seeds": ["10.2.0.1:6379"]},
            "backend": {
                "retry_deadline": f"{RETRY_DEADLINE}s",
                "request_timeout": f"{REQUEST_TIMEOUT}s",
                "backoff_min": "10ms",
                "backoff_max": "50ms",
            },
        }
    )
    service = Service(config, topology(), clock=loop.time)
    service.scripts.on_call = None  # servers answer when they are told to: no script is slow for that
    stage = TwoNodes(service)
    loop.network = stage
    await asyncio.sleep(_AT_ONCE)
    for number, step in enumerate(steps):
        try:
            done = step(stage)
            if done is not None:
                await done
            await asyncio.sleep(_AT_ONCE)
        except AssertionError as error:
            error.add_note(f"step {number}, {loop.time():.3f} s after the start; {list(service.upstream.pool)}")
            raise
    assert not faults, faults
    assert not service.upstream.redirections.chains
    await service.close()


def says(name: str, *requests: str) -> Step:
    """A client sends requests in one piece."""
    data = b"".join(encode.request(request.split()) for request in requests)
    return lambda stage: stage.client(name).wire.send(data)


def sees(name: str, *requests: str) -> Step:
    """What a node was asked since this was last looked at."""

    def step(stage: TwoNodes) -> None:
        node = stage.nodes[name]
        seen, node.seen = node.seen, []
        assert seen == list(requests), f"{name} was asked {seen}"

    return step


def answers(name: str, *replies: str) -> Step:
    """A node answers: ``=x`` is a bulk string, anything else is a line."""
    frames = [encode.bulk(reply[1:]) if reply[0] == "=" else f"{reply}\r\n".encode() for reply in replies]

    def step(stage: TwoNodes) -> None:
        wire = stage.nodes[name].wire
        assert wire is not None, f"{name} has no connection"
        wire.send(b"".join(frames))

    return step


def hears(name: str, *replies: str) -> Step:
    """What a client was answered since this was last looked at: each begins so."""

    def step(stage: TwoNodes) -> None:
        client = stage.client(name)
        heard, client.heard = client.heard, []
        assert len(heard) == len(replies), f"{name} heard {heard}, not {replies}"
        assert all(reply.startswith(start) for reply, start in zip(heard, replies, strict=True)), heard

    return step


def adopts(**owners: str | int | bool) -> Step:
    """The proxy learns another topology."""
    return lambda stage: stage.service.adopt(topology(epoch=2, **owners))  # type: ignore[arg-type]  # by name


def holds(name: str, on: bool = True) -> Step:
    """A node is about to lose its role: nothing is sent to it, or again."""
    return lambda stage: stage.service.upstream.hold_shard(name, 5.0 if on else None)


def cuts(name: str, shut: bool = False) -> Step:
    """A node loses its connections; ``shut``: and takes no new one."""

    def step(stage: TwoNodes) -> None:
        node = stage.nodes[name]
        node.shut = shut
        if node.wire is not None:
            node.wire.cut()

    return step


def passes(seconds: float) -> Step:
    """Time passes."""
    return lambda stage: asyncio.sleep(seconds)


def moved(slot: int, to: str) -> str:
    return f"-MOVED {slot} {NODES[to]}"


def ask(slot: int, to: str) -> str:
    return f"-ASK {slot} {NODES[to]}"


TRYAGAIN = "-TRYAGAIN Multiple keys request during rehashing of slot"
DOWN = "-CLUSTERDOWN The cluster is down"
NOBODY = "-CLUSTERDOWN Hash slot not served"
