"""What nobody uses is closed after a minute, and made again for who comes back. Virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import hiredis

from proxy import metrics
from proxy.backends.settings import Place
from proxy.client.connection import ClientConnection
from proxy.config import Config
from proxy.resp import encode
from proxy.sharding.topology import Node, Shard, Topology, build_topology
from proxy.worker.report import take
from proxy.worker.server import Upkeep
from proxy.worker.service import Service
from tests.support.memory_wire import MemoryWire, Pace
from tests.support.simulated_server import SimulatedNetwork, SimulatedServer
from tests.support.virtual_loop import run, virtual_loop

SOON = 0.01
DATABASES = 16
STRANGERS = 30
LONG = Upkeep.unused * 1.2


class Client:
    """A client of the proxy."""

    def __init__(self, service: Service) -> None:
        self.connection = ClientConnection(service)
        self.wire = MemoryWire(self.connection, Pace(Random(0), smooth=True), ("127.0.0.1", 1))
        self.wire.peer = self
        self._reader = hiredis.Reader()
        self._heard: list[object] = []
        self.connection.connection_made(self.wire)

    def receive(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self._heard.append(reply)

    def lost(self) -> None:
        self._heard.append("closed")

    async def say(self, *words: str) -> object:
        """One request, and its reply."""
        self.wire.send(encode.request(words))
        await asyncio.sleep(SOON)
        return self._heard.pop()


class UpkeepCase:
    """A proxy, its servers, and its upkeep."""

    def __init__(self, service: Service, servers: Sequence[SimulatedServer]) -> None:
        self.service = service
        self.servers = servers

    @property
    def connections(self) -> int:
        """How many connections the servers have."""
        return sum(len(server.connections) for server in self.servers)

    @property
    def series(self) -> int:
        """How many connections the metrics are about."""
        return len(take(self.service).tally.values(metrics.UP))


Story = Callable[[UpkeepCase], Awaitable[None]]


def told(connections: int = 1, read_from: str = "primary") -> Callable[[Story], Callable[[], None]]:
    """Plays a story."""

    def decorate(story: Story) -> Callable[[], None]:
        async def play() -> None:
            loop = virtual_loop()
            faults: list[object] = []
            loop.set_exception_handler(lambda _, context: faults.append(context))
            hosts = ["10.2.0.1", "10.2.0.2", *(f"10.3.0.{number}" for number in range(STRANGERS))]
            servers = [SimulatedServer(host, 6379, Random(0), Pace(Random(0), smooth=True)) for host in hosts]
            servers[1].replicate(servers[0])
            loop.network = SimulatedNetwork(servers)
            config = Config.model_validate(
                {
                    "shards": [{"primary": "10.2.0.1:6379", "replicas": ["10.2.0.2:6379"]}],
                    "read_from": read_from,
                    "backend": {"connections_per_node": connections, "backoff_max": "200ms"},
                }
            )
            service = Service(config, build_topology(config), clock=loop.time)
            upkeep = loop.create_task(Upkeep(service).run())
            await asyncio.sleep(SOON)
            await story(UpkeepCase(service, servers))
            upkeep.cancel()
            await service.close()
            assert not faults, faults

        return lambda: run(play())

    return decorate


@told()
async def test_the_databases_that_one_client_went_through(case: UpkeepCase) -> None:
    before, client = case.connections, Client(case.service)
    for protocol in "23":
        assert await client.say("HELLO", protocol)
        for db in range(DATABASES):
            assert await client.say("SELECT", str(db)) == b"OK"
            assert await client.say("SET", "k", f"{db};") == b"OK"
    assert case.connections == before + 2 * DATABASES - 1
    await asyncio.sleep(LONG)
    # The one that it is in stays, however long it says nothing.
    assert case.connections == before + 1
    assert case.series == before + 1
    await asyncio.sleep(LONG * 3)
    assert case.connections == before + 1
    assert await client.say("GET", "k") == b"15;"
    # And those that it left are there again when it comes back.
    assert await client.say("SELECT", "3") == b"OK"
    assert await client.say("GET", "k") == b"3;"
    client.wire.cut()
    await asyncio.sleep(LONG)
    assert case.connections == before


@told(connections=3, read_from="prefer_replica")
async def test_the_plain_ones_stay(case: UpkeepCase) -> None:
    """Of each index, to replicas too, though nobody is there."""
    before = case.connections
    assert before == 6
    await asyncio.sleep(LONG * 3)
    assert case.connections == before
    client = Client(case.service)
    await client.say("SELECT", "5")
    assert await client.say("SET", "k", "v;") == b"OK"
    assert await client.say("GET", "k") == b"v;"
    assert case.connections > before
    client.wire.cut()
    await asyncio.sleep(LONG)
    assert case.connections == before


@told()
async def test_one_that_is_used_now_and_then_stays(case: UpkeepCase) -> None:
    client, other = Client(case.service), Client(case.service)
    await client.say("SELECT", "5")
    await other.say("SELECT", "5")
    before = case.connections
    (mine,) = [backend for backend in case.service.upstream.pool if backend.place.db == 5]
    for _ in range(8):
        assert await client.say("SET", "k", "v;") == b"OK"
        await asyncio.sleep(Upkeep.unused * 0.7)
    assert [backend for backend in case.service.upstream.pool if backend.place.db == 5] == [mine]
    assert case.connections == before


@told()
async def test_what_is_in_flight_keeps_it(case: UpkeepCase) -> None:
    client = Client(case.service)
    await client.say("SELECT", "5")
    for server in case.servers:
        server.slow = case.service.config.backend.request_timeout * 0.9
    client.wire.send(encode.request(("SET", "k", "v;")))
    client.wire.send(encode.request(("SELECT", "0")))
    await asyncio.sleep(SOON)
    Upkeep(case.service).sweep()
    await asyncio.sleep(Upkeep.unused)
    assert client._heard == [b"OK", b"OK"]


@told()
async def test_a_client_that_watches_or_tracks_while_it_is_idle(case: UpkeepCase) -> None:
    client = Client(case.service)
    await client.say("SELECT", "7")
    assert await client.say("SET", "k", "1;") == b"OK"
    assert await client.say("WATCH", "k") == b"OK"
    await asyncio.sleep(LONG)
    assert await client.say("GET", "k") == b"1;"
    assert await client.say("UNWATCH") == b"OK"
    await asyncio.sleep(LONG)
    assert await client.say("GET", "k") == b"1;"


def stranger(number: int) -> Node:
    return Node(f"10.3.0.{number}", 6379)


@told()
async def test_servers_that_only_a_redirection_named(case: UpkeepCase) -> None:
    """There or not there: their connections end, and so do their metrics."""
    service = case.service
    before, series = case.connections, case.series
    place = Place("shard-1", Node("10.2.0.1", 6379), True, 2, 0, 0)
    for number in range(STRANGERS):
        if number % 2:
            case.servers[2 + number].crash()
        service.upstream.redirections.at(place, stranger(number))
    await asyncio.sleep(1)
    assert case.connections == before + STRANGERS // 2
    assert case.series == series + STRANGERS
    await asyncio.sleep(LONG)
    assert case.connections == before
    assert case.series == series
    assert all(backend.place.node.host.startswith("10.2.") for backend in service.discovery.restarted)
    # Nobody tries to reach them any more.
    for server in case.servers[2:]:
        server.go_on()
    await asyncio.sleep(LONG)
    assert case.connections == before


@told()
async def test_a_stranger_that_drops_every_connection(case: UpkeepCase) -> None:
    """To connect is not to be used."""
    place = Place("shard-1", Node("10.2.0.1", 6379), True, 2, 0, 0)
    before = case.series
    case.service.upstream.redirections.at(place, stranger(0))
    for _ in range(int(LONG * 2)):
        await asyncio.sleep(0.5)
        case.servers[2].cut()
    assert case.series == before


@told()
async def test_what_is_known_of_servers_shrinks_with_them(case: UpkeepCase) -> None:
    service, roles = case.service, case.service.discovery.roles
    for number in range(STRANGERS):
        node = stranger(number)
        roles.demoted(Place("x", node, True, 2, 0, 0))
        roles.learned(node, 5)
    await asyncio.sleep(SOON)
    service.adopt(Topology.static([Shard("shard-1", Node("10.2.0.1", 6379))], epoch=2))
    assert (roles.misfits, len(roles._renewed), len(roles._sought)) == ({}, 0, 0)
