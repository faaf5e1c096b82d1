"""A whole run before a simulated Redis Cluster, from one seed: clients, slots on the move, failovers, weather.

Three kinds of runs, each with what clients may see of it::

    gentle   each slot moves, each primary hands over once at most; keys do not share slots    no error at all
    busy     slots go back and forth, whole pipelines on a few slots                           refusals, in pipelines
    stormy   as busy, and nodes crash, hang and lose connections                               all that says what it is
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from random import Random
from typing import Any

from proxy.config import Config
from proxy.discovery.source import Source
from proxy.sharding.slots import key_slot
from proxy.worker.service import Service
from tests.simulation.client import Manner, SimulatedClient
from tests.simulation.random_run import RandomRun
from tests.simulation.stale_source import StaleSource
from tests.simulation.workload import Weather, Workload
from tests.support.memory_wire import Pace
from tests.support.simulated_cluster import SimulatedCluster
from tests.support.simulated_node import ClusterNode
from tests.support.virtual_loop import virtual_loop

_DEEP = Manner((1, 5, 20, 50, 200), (0.05, 0.5, 2.0), 0.7)
_HASTY = Manner((1, 1, 2, 5), (0.001, 0.01, 0.05), 0.1)
"""Always in the middle of something."""
_POLITE = Manner((1,), (0.01, 0.1, 0.5), 1.0)
"""Waits for each reply."""
_REFUSALS = frozenset({"SHARDDOWN", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN"})

Find = Callable[[SimulatedCluster, Service, Random], Source]
"""Makes the source of the topology."""


def stale_source(cluster: SimulatedCluster, service: Service, rng: Random) -> Source:
    """One that is told wrong things."""
    return StaleSource(cluster, rng, rng.choice((0.3, 2.0, 60.0)), rng.choice((0.0, 0.05, 0.5)))


def discovery(cluster: SimulatedCluster, service: Service, rng: Random) -> Source:
    """The proxy's own."""
    return service.discovery.source


class ClusterRandomRun(RandomRun):
    """Everything that ``seed`` decides. ``problems`` is empty if all went well."""

    def __init__(self, seed: int, find: Find = stale_source) -> None:
        super().__init__(seed)
        rng = self._rng
        self.kind = rng.choice(("gentle", "busy", "stormy"))
        stormy = self.kind == "stormy"
        refusals = frozenset[str]() if self.kind == "gentle" else _REFUSALS
        stale = self.kind != "gentle" and rng.random() < 0.2
        self._weather = Weather(stormy=stormy, stale=stale, single=False, refusals=refusals, cluster=True)
        self._find = find
        self._hasty = rng.random() < 0.5
        self._tags = (
            [] if self.kind == "gentle" else [b"t%d" % rng.randrange(1000) for _ in range(rng.choice((1, 1, 3)))]
        )
        self._moved: set[int] = set()
        self.cluster: SimulatedCluster
        self.errors: Counter[str] = Counter()
        """What clients were answered, by its first word."""
        self.retries: Counter[str] = Counter()
        """What servers answered, by its first word."""

    def _configuration(self) -> Config:
        rng = self._rng
        stormy = self.kind == "stormy"

        def pace() -> Pace:
            return Pace(rng, rng.choice((0.0005, 0.01, 0.1)), rng.choice((100, 65536)), rng.choice((0, 65536)))

        self.cluster = SimulatedCluster(
            rng, rng.choice((1, 2, 3, 3, 5)), rng.choice((1, 2)), rng.choice((0.001, 0.05, 0.5)), pace
        )
        self.cluster.add(pace())
        self._servers = [*self.cluster.nodes]
        seeds = [f"{host}:{port}" for host, port in (node.address for node in self.cluster.nodes[:3])]
        return Config.model_validate(
            {
                "topology": {"kind": "cluster", "refresh": rng.choice(("1s", "10s"))},
                "cluster": {"seeds": seeds},
                "read_from": rng.choice(("prefer_replica", "any", "nearest")) if self._weather.stale else "primary",
                "backend": {
                    "connections_per_node": rng.choice((1, 1, 2)),
                    "connect_timeout": "300ms" if stormy else "10s",
                    "request_timeout": rng.choice(("1s", "5s")) if stormy else "60s",
                    "retry_deadline": rng.choice(("200ms", "1s", "3s")) if stormy else "30s",
                    "backoff_min": "10ms",
                    "backoff_max": "200ms",
                },
                "limits": {
                    "max_in_flight": rng.choice((1, 7, 16384, 16384)),
                    "output_soft": rng.choice(("1kb", "64kb", "8mb")),
                },
            }
        )

    async def _client(self, number: int, service: Service, clients: list[SimulatedClient]) -> None:
        rng = Random(self._rng.random())
        await asyncio.sleep(rng.random())
        pace = Pace(rng, rng.choice((0.0005, 0.01)), rng.choice((100, 65536)))
        weather, manner = self._weather, _HASTY if self._hasty else _DEEP
        if self.kind == "busy" and rng.random() < 0.25:
            # Whoever waits for each reply sees no error.
            weather, manner = replace(weather, refusals=frozenset()), _POLITE
        workload = Workload(number, rng, weather, self._tags if rng.random() < 0.9 else ())
        client = SimulatedClient(number, service, rng, pace, workload, manner)
        clients.append(client)
        await client.run(self._until)

    async def _happen(self, service: Service) -> None:
        rng = self._rng
        loop = virtual_loop()
        if self._hasty:
            self._until = loop.time() + rng.uniform(0.5, 1.5)
        service.discovery.source = self._find(self.cluster, service, rng)
        following = loop.create_task(service.discovery.source.run(service.adopt))
        tasks = [loop.create_task(work) for work in self._work()]
        await asyncio.gather(*tasks)
        for node in self.cluster.nodes:
            self._go_on(node)
        self._tasks = [following]

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        """What goes on at the same time."""
        movers = 1 if self.kind == "gentle" else self._rng.randint(1, 3)
        work = [self._reshard() for _ in range(movers)] + [self._fail_over()]
        return [*work, self._gales()] if self.kind == "stormy" else work

    async def _reshard(self) -> None:
        """Slots move, those of keys first of all."""
        rng, cluster = self._rng, self.cluster
        patience = rng.choice((0.001, 0.02, 0.2))
        while virtual_loop().time() < self._until:
            await asyncio.sleep(rng.uniform(0.0, rng.choice((0.01, 0.3))))
            keys = [key for group in cluster.groups for key in group.data]
            slot = key_slot(rng.choice(keys)) if keys and rng.random() < 0.9 else rng.randrange(16384)
            # In a storm a late write must not find its slot back where it was.
            once = self.kind != "busy"
            if not (once and slot in self._moved):
                self._moved.add(slot)
                clumsy = self.kind != "gentle" and rng.random() < 0.3
                await cluster.move(slot, rng.choice(cluster.groups), patience, clumsy=clumsy)

    async def _fail_over(self) -> None:
        """One primary after the other hands over to a replica."""
        rng, cluster = self._rng, self.cluster
        pause = rng.choice((0.05, 0.5, 3.0))
        left = [*cluster.groups]
        while left and virtual_loop().time() < self._until:
            await asyncio.sleep(pause * rng.uniform(0.2, 1.0))
            group = rng.choice(left)
            await cluster.fail_over(group, rng.choice((0.0, 0.05, 0.3)))
            if self.kind == "gentle":
                # There and back while a pipeline is under way, and a part of it is refused.
                left.remove(group)

    async def _gales(self) -> None:
        """Nodes crash, hang and lose connections; in the end all are well."""
        rng, cluster = self._rng, self.cluster
        loop = virtual_loop()
        often = rng.choice((0.05, 0.3, 1.0))
        losses: set[asyncio.Task[None]] = set()
        while loop.time() < self._until:
            await asyncio.sleep(rng.uniform(0.0, often))
            node = rng.choice(cluster.nodes)
            match rng.choice(
                ("cut", "cut one", "cut one", "lose", "hang", "crash", "stall", "slow", "deaf", "loading")
            ):
                case "cut":
                    node.cut()
                case "cut one" if node.connections:
                    rng.choice(list(node.connections)).wire.cut()
                case "lose":
                    losses.add(loop.create_task(cluster.lose(node.group, rng.choice((0.1, 0.5)), hang=False)))
                case "hang":
                    losses.add(loop.create_task(cluster.lose(node.group, rng.choice((0.1, 0.5)), hang=True)))
                case "crash" if node.group.primary is not node:
                    node.crash()
                case "stall":
                    node.stall()
                case "slow":
                    node.slow = rng.uniform(0.01, 0.3)
                case "deaf":
                    node.deaf = True
                    node.stall()
                case "loading" if node.group.primary is not node:
                    node.crash()
                    node.loading = True
                    node.refusing = False
            loop.call_later(rng.choice((0.1, 1.0, 3.0)) * rng.random(), self._go_on, node)
        for node in cluster.nodes:
            self._go_on(node)
        await asyncio.gather(*losses)

    def _go_on(self, node: ClusterNode) -> None:
        if node.refusing:
            # It has been restarted, and takes nothing before it knows what it is.
            node.unsure = True
        node.go_on()
        self.cluster.catch_up(node)

    def _check(self, service: Service, clients: list[SimulatedClient]) -> None:
        super()._check(service, clients)
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        for client in clients:
            self.problems += [f"client {client.number}: {line}" for line in client.workload.wrong(self.cluster.value)]
            self.errors += client.errors
        if service.upstream.redirections.chains:
            self.problems.append(f"left on their way: {service.upstream.redirections}")
        self.problems += self.cluster.lost_slots()
        for node in self.cluster.nodes:
            self.retries.update(node.refused)
