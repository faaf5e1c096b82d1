"""Redirections to whom no known node has named: not followed, unless the cluster names that node when it is asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from proxy.config import Config
from proxy.resp import encode
from proxy.sharding.slots import key_slot
from proxy.sharding.topology import Node, build_topology
from proxy.worker.service import Service
from tests.simulation.cluster_stage import RETRY_DEADLINE, SLOT, StagedClient, play
from tests.support.memory_wire import MemoryWire, Pace
from tests.support.simulated_cluster import SimulatedCluster
from tests.support.simulated_node import Group
from tests.support.simulated_server import SimulatedNetwork, SimulatedServer
from tests.support.virtual_loop import virtual_loop

NOWHERE = "10.9.9.9"
REQUESTS = [
    pytest.param(["SET {t}k 1"], id="a write"),
    pytest.param(["GET {t}k"], id="a read"),
    pytest.param(["SET {t}k 1", "GET {t}k", "GET {t}k"], id="a pipeline"),
    pytest.param(["MULTI", "SET {t}k 1", "EXEC"], id="a transaction"),
    pytest.param(["WATCH {t}k"], id="a dedicated connection"),
    pytest.param(["MSET {t}k 1 {t}l 2"], id="several keys"),
]


class Stranger(SimulatedServer):
    """Counts who connects to it."""

    met = 0

    def accept(self, wire: MemoryWire) -> None:
        """A connection stands."""
        self.met += 1
        super().accept(wire)


class Found:
    """A cluster of two shards that the proxy has found by itself, and somebody else."""

    def __init__(self) -> None:
        loop = virtual_loop()
        self._rng = Random(0)
        self.cluster = SimulatedCluster(self._rng, 2, 1, 0.0, self._pace)
        owner = self.cluster.truth.owners[SLOT]
        self.cluster.groups.sort(key=lambda group: group is not owner)
        self.stranger = Stranger(NOWHERE, 6379, self._rng, self._pace())
        host, port = self.cluster.nodes[0].address
        config = Config.model_validate(
            {
                "topology": {"kind": "cluster", "refresh": "1h"},
                "cluster": {"seeds": [f"{host}:{port}"]},
                "backend": {"retry_deadline": f"{RETRY_DEADLINE}s", "request_timeout": "5s"},
            }
        )
        self.connect()
        self.service = Service(config, build_topology(config), clock=loop.time)
        self.client = StagedClient(0, self.service)

    def _pace(self) -> Pace:
        return Pace(self._rng, smooth=True)

    def connect(self) -> None:
        """The network has who is there now."""
        virtual_loop().network = SimulatedNetwork([*self.cluster.nodes, self.stranger])

    def add(self) -> Group:
        """One shard more, of which the proxy knows nothing."""
        group = self.cluster.add(self._pace())
        self.connect()
        return group

    def forge(self, word: str, host: str = NOWHERE, port: int = 6379) -> Callable[[], None]:
        """The slot's owner redirects to somebody; until what is returned is called."""
        node = self.cluster.groups[0].primary
        error = encode.error(f"{word} {SLOT} {host}:{port}")
        node.refusal = lambda *_: error  # type: ignore[method-assign]
        return lambda: delattr(node, "refusal")


@asynccontextmanager
async def found() -> AsyncIterator[Found]:
    made = Found()
    following = asyncio.create_task(made.service.discovery.source.run(made.service.adopt))
    while not made.service.topology.whole:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.01)
    made.client.say("DBSIZE")
    await asyncio.sleep(0.5)
    made.client.heard.clear()
    yield made
    following.cancel()
    made.client.wire.cut()
    await made.service.close()
    await asyncio.sleep(1.0)


@pytest.mark.parametrize("word", ["MOVED", "ASK"])
@pytest.mark.parametrize("requests", REQUESTS)
def test_nobody_goes_to_a_stranger(word: str, requests: list[str]) -> None:
    async def scene() -> None:
        async with found() as stage:
            stage.forge(word)
            stage.client.say(*requests)
            await asyncio.sleep(RETRY_DEADLINE * 3)
            assert stage.stranger.met == 0
            assert len(stage.client.heard) == len(requests)
            assert word in str(stage.client.heard[-1]) or requests == ["WATCH {t}k"]
            assert not any(NOWHERE in str(backend.place.node) for backend in stage.service.upstream.pool)
            assert stage.service.discovery.source.member(Node(NOWHERE, 6379)) is None

    play(scene())


@pytest.mark.parametrize("word", ["MOVED", "ASK"])
@pytest.mark.parametrize("requests", REQUESTS)
def test_it_is_latency_if_it_passes(word: str, requests: list[str]) -> None:
    async def scene() -> None:
        async with found() as stage:
            end = stage.forge(word)
            stage.client.say(*requests)
            await asyncio.sleep(RETRY_DEADLINE / 2)
            end()
            await asyncio.sleep(RETRY_DEADLINE)
            assert stage.stranger.met == 0
            assert len(stage.client.heard) == len(requests)
            assert not any(isinstance(reply, str) for reply in stage.client.heard), stage.client.heard

    play(scene())


@pytest.mark.parametrize("requests", REQUESTS)
def test_a_node_that_was_just_added_takes_a_slot_over(requests: list[str]) -> None:
    """That is latency: who redirects is asked, and names it."""

    async def scene() -> None:
        async with found() as stage:
            added = stage.add()
            await stage.cluster.move(SLOT, added, 0.001, clumsy=False)
            stage.client.say(*requests)
            await asyncio.sleep(RETRY_DEADLINE)
            assert not any(isinstance(reply, str) for reply in stage.client.heard), stage.client.heard
            assert len(stage.client.heard) == len(requests)
            assert stage.service.topology.shards[-1].primary == Node(*added.primary.address)

    play(scene())


@pytest.mark.parametrize("requests", REQUESTS[:5])
def test_a_slot_on_its_way_to_a_node_that_was_just_added(requests: list[str]) -> None:
    async def scene() -> None:
        async with found() as stage:
            added, source = stage.add(), stage.cluster.groups[0]
            source.leaving[SLOT], added.coming[SLOT] = added, source
            assert key_slot(b"{t}k") == SLOT
            stage.client.say(*requests)
            await asyncio.sleep(RETRY_DEADLINE)
            assert not any(isinstance(reply, str) for reply in stage.client.heard), stage.client.heard
            assert len(stage.client.heard) == len(requests)

    play(scene())


def test_a_node_that_comes_back_under_another_id() -> None:
    """It is used as soon as others know the new id."""

    async def scene() -> None:
        async with found() as stage:
            node = stage.cluster.groups[0].primary
            node.name = "f" * 40
            node.cut()
            stage.client.say("SET {t}k 1")
            await asyncio.sleep(RETRY_DEADLINE * 2)
            assert stage.client.heard == [b"OK"]
            assert stage.service.discovery.source.stranger(Node(*node.address), node.name) == ""
            assert "is unknown to the cluster" in stage.service.discovery.source.stranger(Node(*node.address), "e" * 40)

    play(scene())
