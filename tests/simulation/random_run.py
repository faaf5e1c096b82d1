"""A whole run from one seed: servers, the proxy, clients, weather; and what must hold at its end."""

import asyncio
import gc
import random
from random import Random

from proxy.client.connection import ClientConnection
from proxy.config import Config
from proxy.sharding.topology import build_topology
from proxy.worker.service import Service
from tests.simulation.client import SimulatedClient
from tests.simulation.keys import once
from tests.simulation.workload import Weather, Workload
from tests.support.memory_wire import Pace
from tests.support.simulated_server import SimulatedNetwork, SimulatedServer
from tests.support.virtual_loop import run, virtual_loop

_WEATHER = ("cut", "cut one", "cut one", "crash", "stall", "slow", "slow", "deaf", "loading", "given up", "given up")
_PATIENCE = 120.0
"""Virtual seconds after the storm, in which everybody must have been answered."""


class RandomRun:
    """Everything that ``seed`` decides. ``problems`` is empty if all went well."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.problems: list[str] = []
        self._rng = rng = Random(seed)
        self._shards = rng.randint(1, 5)
        self._weather = Weather(stormy=rng.random() < 0.7, stale=rng.random() < 0.25, single=self._shards == 1)
        self._servers: list[SimulatedServer] = []
        self._until = 0.0
        self.replies = 0

    def run(self) -> list[str]:
        """Run it; what went wrong, each in a line."""
        # The proxy's own jitter comes from the module's generator.
        random.seed(self.seed)
        try:
            run(self._live())
        except Exception as error:  # noqa: BLE001 - whatever breaks, the seed must be told
            self.problems.append(f"{type(error).__name__}: {error}")
        return self.problems

    async def _live(self) -> None:
        loop = virtual_loop()
        loop.set_exception_handler(lambda _, context: self.problems.append(f"in a callback: {context}"))
        rng = self._rng
        config = self._configuration()
        loop.network = SimulatedNetwork(self._servers)
        service = Service(config, build_topology(config), clock=loop.time)
        clients: list[SimulatedClient] = []
        self._until = loop.time() + rng.uniform(0.5, 4.0)
        storm = loop.create_task(self._happen(service))
        numbers = range(rng.randint(2, 8))
        tasks = [loop.create_task(self._client(number, service, clients)) for number in numbers]
        await storm
        _, stuck = await asyncio.wait(tasks, timeout=_PATIENCE + 10.0)
        for task in stuck:
            task.cancel()
        if stuck:
            self.problems.append(f"stuck: {clients} {list(service.clients)} {list(service.upstream.pool)}")
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        self.problems += [f"a client broke: {end!r}" for end in ends if isinstance(end, Exception)]
        # What clients that vanished left in flight comes to its end too.
        await asyncio.sleep(config.backend.request_timeout * 3)
        self._check(service, clients)
        clients.clear()
        tasks.clear()
        self._check_memory()
        await service.close()
        await asyncio.sleep(1.0)

    def _configuration(self) -> Config:
        rng = self._rng
        stormy = self._weather.stormy
        shards = []
        for shard in range(self._shards):
            pace = Pace(rng, rng.choice((0.0005, 0.01, 0.1)), rng.choice((100, 4096, 65536)), rng.choice((0, 65536)))
            count = 3 if self._weather.stale else 1
            nodes = [SimulatedServer(f"10.2.{shard}.{node}", 6379, rng, pace) for node in range(count)]
            for replica in nodes[1:]:
                replica.replicate(nodes[0])
            self._servers += nodes
            primary, *replicas = [f"{host}:{port}" for host, port in (node.address for node in nodes)]
            shards.append({"primary": primary, "replicas": replicas})
        return Config.model_validate(
            {
                "shards": shards,
                "read_from": self._read_from(),
                "read_your_writes": rng.choice(("0s", "0s", "50ms", "1s")),
                "backend": {
                    "connections_per_node": rng.choice((1, 1, 2)),
                    "connect_timeout": "300ms" if stormy else "10s",
                    "request_timeout": "1s" if stormy else "60s",
                    "retry_deadline": rng.choice(("200ms", "500ms", "2s")) if stormy else "10s",
                    "backoff_min": "10ms",
                    "backoff_max": "200ms",
                },
                "limits": {
                    "max_in_flight": rng.choice((1, 7, 16384)),
                    "output_soft": rng.choice(("1kb", "64kb", "8mb")),
                },
            }
        )

    def _read_from(self) -> str:
        if not self._weather.stale:
            return "primary"
        # With "replica" alone there is nowhere to go when the replicas crash.
        return self._rng.choice(
            ("prefer_replica", "any", "replica") if self._weather.stormy else ("prefer_replica", "any")
        )

    async def _client(self, number: int, service: Service, clients: list[SimulatedClient]) -> None:
        rng = Random(self._rng.random())
        await asyncio.sleep(rng.random())
        pace = Pace(rng, rng.choice((0.0005, 0.01)), rng.choice((100, 65536)))
        client = SimulatedClient(number, service, rng, pace, Workload(number, rng, self._weather))
        clients.append(client)
        await client.run(self._until)

    async def _happen(self, service: Service) -> None:
        """All that happens beside the clients."""
        await (self._storm(service) if self._weather.stormy else self._replicas_crash(service))

    async def _storm(self, service: Service) -> None:
        """Bad luck for some seconds, and then everybody is well again."""
        rng = self._rng
        loop = virtual_loop()
        often = rng.choice((0.01, 0.1, 0.5))
        while loop.time() < self._until:
            await asyncio.sleep(rng.uniform(0.0, often))
            server = rng.choice(self._servers)
            match rng.choice(_WEATHER):
                case "cut":
                    server.cut()
                case "cut one" if server.connections:
                    rng.choice(list(server.connections)).wire.cut()
                case "crash":
                    server.crash()
                case "given up":
                    self._give_up(service)
                case "stall":
                    server.stall()
                case "slow":
                    server.slow = rng.uniform(0.05, 0.9)
                case "deaf":
                    server.deaf = True
                    server.stall()
                case "loading":
                    server.crash()
                    server.loading = True
                    server.refusing = False
            loop.call_later(rng.choice((0.1, 1.0, 3.0)) * rng.random(), server.go_on)
        for server in self._servers:
            server.go_on()

    def _give_up(self, service: Service) -> None:
        """A replica is held to be silent, rightly or not."""
        replicas = [backend for backend in service.upstream.pool if not backend.place.primary]
        busy = [backend for backend in replicas if len(backend.inflight)]
        if replicas:
            self._rng.choice(busy or replicas).give_up_reads()

    async def _replicas_crash(self, service: Service) -> None:
        """What nobody may notice: replicas come and go."""
        replicas = [server for server in self._servers if not server.primary]
        while replicas and virtual_loop().time() < self._until:
            await asyncio.sleep(self._rng.uniform(0.0, 0.2))
            if self._rng.random() < 0.5:
                self._give_up(service)
                continue
            self._rng.choice(replicas).crash()
            virtual_loop().call_later(self._rng.random(), self._rng.choice(replicas).go_on)
        for server in replicas:
            server.go_on()

    def _check(self, service: Service, clients: list[SimulatedClient]) -> None:
        problems = self.problems
        problems += [f"client {client.number}: {client.problem}" for client in clients if client.problem]
        records = [server.executed for server in self._servers]
        problems += [line for client in clients for line in once(client.workload.writes(), records)]
        problems += [f"left in flight: {backend}" for backend in service.upstream.pool if len(backend.inflight)]
        problems += [
            f"leases that nobody gave back: {usage}" for usage in service.upstream.leases.usage() if usage.used
        ]
        if len(service.clients):
            problems.append(f"clients that are gone are still known: {list(service.clients)}")
        self.replies = sum(client.replies for client in clients)

    def _check_memory(self) -> None:
        """Nothing may keep a client that is gone: no FIFO, no holder, no timer."""
        gc.collect()
        kept = [thing for thing in gc.get_objects() if type(thing) is ClientConnection]
        if kept:
            self.problems.append(f"kept in memory: {kept} by {[type(one) for one in gc.get_referrers(kept[0])]}")
