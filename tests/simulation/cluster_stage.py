"""A simulated cluster, step by step: what clients say and hear, what each node is asked and answers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

import hiredis

from proxy.client.connection import ClientConnection
from proxy.config import Config
from proxy.discovery.source import Unlisted
from proxy.resp import encode
from proxy.sharding.slots import key_slot
from proxy.sharding.topology import Node, build_topology
from proxy.worker.service import Service
from tests.simulation.stale_source import seen_by
from tests.support.memory_wire import MemoryWire, Pace
from tests.support.simulated_cluster import SimulatedCluster
from tests.support.simulated_node import ClusterConnection, ClusterNode, Group
from tests.support.simulated_server import SimulatedNetwork
from tests.support.virtual_loop import run, virtual_loop

T = TypeVar("T")

RETRY_DEADLINE = 1.0
TAG = b"t"
SLOT = key_slot(TAG)
"""The slot of keys with the tag {t}; it is the first shard's."""


class NotedNode(ClusterNode):
    """A node that notes what it is asked for, but for what the proxy asks on its own."""

    def accept(self, wire: MemoryWire) -> None:
        """A connection stands."""
        NotedConnection(self, wire)


class NotedConnection(ClusterConnection):
    """Its connection."""

    def _execute(self, args: list[bytes]) -> bytes:
        asking = "ASKING " if self._asking else ""
        reply = super()._execute(args)
        if args[0].upper() not in (b"HELLO", b"PING", b"ROLE", b"CLUSTER", b"COMMAND", b"ASKING", b"READONLY"):
            words = " ".join(arg.decode() if len(arg) < 20 else f"<{len(arg)}>" for arg in args)
            answer = reply.split(b"\r\n")[0].decode()
            stage: StagedCluster = self.server.stage  # type: ignore[attr-defined]
            stage.seen.append(f"{stage.letter(self.server)}: {asking}{words} > {stage.plain(answer)}")
        return reply


class StagedClient:
    """A client's end of its wire."""

    def __init__(self, number: int, service: Service) -> None:
        connection = ClientConnection(service)
        self.wire = MemoryWire(connection, Pace(Random(0), smooth=True), ("127.0.0.1", number))
        self.wire.peer = self
        self.heard: list[object] = []
        self._reader = hiredis.Reader()
        connection.connection_made(self.wire)

    def say(self, *lines: str | Sequence[str | bytes]) -> None:
        """Send requests, in one piece."""
        requests = [line.split() if isinstance(line, str) else line for line in lines]
        self.wire.send(b"".join(map(encode.request, requests)))

    def receive(self, data: bytes) -> None:
        """Replies have arrived."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self.heard.append(str(reply) if isinstance(reply, Exception) else reply)

    def lost(self) -> None:
        """The proxy has closed the connection."""
        self.heard.append("closed")


class Still(Unlisted):
    """A source that says nothing by itself."""

    def __init__(self) -> None:
        self.hints = 0

    async def run(self, adopt: Callable[[Any], None]) -> None:
        """Nothing to do."""

    def hint(self, node: Node | None = None) -> None:
        """Somebody would like to know more."""
        self.hints += 1


class StagedCluster:
    """A cluster of a few shards, A, B and so on with the replicas a, b ..., and a proxy that knows it by heart."""

    def __init__(self, shards: int, replicas: int, cross_slot: str) -> None:
        loop = virtual_loop()
        rng = Random(0)
        self.cluster = SimulatedCluster(rng, shards, replicas, 0.0, lambda: Pace(rng, smooth=True))
        for node in self.cluster.nodes:
            node.__class__ = NotedNode
            node.stage = self  # type: ignore[attr-defined]
        owner = self.cluster.truth.owners[SLOT]
        self.cluster.groups.sort(key=lambda group: group is not owner)
        self.seen: list[str] = []
        self.clients: list[StagedClient] = []
        self.source = Still()
        config = Config.model_validate(
            {
                "topology": {"kind": "cluster"},
                "cross_slot": cross_slot,
                "cluster": {"seeds": ["10.3.0.0:6379"]},
                "backend": {"retry_deadline": f"{RETRY_DEADLINE}s", "request_timeout": "5s"},
            }
        )
        loop.network = SimulatedNetwork(self.cluster.nodes)
        self.service = Service(config, build_topology(config), clock=loop.time)
        self.service.discovery.source = self.source
        self._epoch = 0

    @property
    def groups(self) -> list[Group]:
        """The shards; the first one has the slot."""
        return self.cluster.groups

    def letter(self, node: ClusterNode) -> str:
        """A primary's letter is a capital, a replica's a small one; what it was at first."""
        letter = "ABCDE"[self.groups.index(node.group)]
        return letter if node is node.group.nodes[0] else letter.lower()

    def plain(self, text: str) -> str:
        """Letters for addresses."""
        for node in self.cluster.nodes:
            text = text.replace(f"{node.address[0]}:{node.address[1]}", self.letter(node))
        return text

    def look(self, node: ClusterNode) -> None:
        """The proxy learns what ``node`` believes."""
        self._epoch += 1
        self.service.adopt(seen_by(node, self._epoch))

    def client(self) -> StagedClient:
        """One more client."""
        client = StagedClient(len(self.clients), self.service)
        self.clients.append(client)
        return client

    def give(self, target: Group) -> None:
        """Everybody learns that the slot and its keys are ``target``'s."""
        source = self.cluster.truth.owners[SLOT]
        assert source is not None
        for key in self.cluster.keys(SLOT, source):
            target.data[key] = source.data.pop(key)
        self._epoch += 1
        for view in (self.cluster.truth, *(node.view for node in self.cluster.nodes)):
            view.give(SLOT, target, self._epoch)
        source.leaving.pop(SLOT, None)
        target.coming.pop(SLOT, None)

    def begin_to_move(self, target: Group, *gone: str) -> None:
        """The slot is on its way to ``target``, and the keys ``gone`` are there."""
        source = self.cluster.truth.owners[SLOT]
        assert source is not None
        source.leaving[SLOT], target.coming[SLOT] = target, source
        for key in gone:
            target.data[key.encode()] = source.data.pop(key.encode())


@asynccontextmanager
async def staged(*, known: bool = True, cross_slot: str = "split") -> AsyncIterator[StagedCluster]:
    """A stage of two shards on which all connections stand; ``known`` False: the proxy does not know where."""
    stage = StagedCluster(2, 1, cross_slot)
    if known:
        stage.look(stage.groups[0].primary)
        stage.client().say("DBSIZE")
        await asyncio.sleep(0.1)
        stage.seen.clear()
    yield stage
    for client in stage.clients:
        client.wire.cut()
    await stage.service.close()
    await asyncio.sleep(1.0)


def play(story: Coroutine[Any, Any, T]) -> T:
    """Play it in virtual time."""
    return run(story)
