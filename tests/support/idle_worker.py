"""A worker's real parts in front of servers that do nothing, so that tests can inspect what its fast path sends."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import TypeVar, cast

from proxy.client.connection import ClientConnection
from proxy.config import Config
from proxy.engine.sink import DISCARD
from proxy.sharding.topology import build_topology
from proxy.worker.service import Service
from tests.support.memory_wire import MemoryWire, Pace
from tests.support.simulated_server import SimulatedNetwork, SimulatedServer
from tests.support.virtual_loop import VirtualLoop, virtual_loop

T = TypeVar("T")
SHARDS = 3
DEADLINE = 1.0
"""Seconds for which a shard may be unreachable before it is given up."""

Sent = dict[tuple[int, bool], list[bytes]]
"""The frames in flight, in order, by (shard, whether the server is the replica)."""


class _Peer:
    def receive(self, data: bytes) -> None: ...

    def lost(self) -> None: ...


class IdleWorker:
    """Three shards of a primary and a replica each, and one client in its plain state at a time.

    The slots are divided as in ``tests.support.plans.THREE``. Nothing is written: requests are taken back at once.
    """

    def __init__(
        self, runner: asyncio.Runner, away: Collection[int] = (), colocate: Sequence[Mapping[str, object]] = ()
    ) -> None:
        self._runner = runner
        self.service = runner.run(self._start(away, colocate))
        self.client = self.do(self.enter)

    async def _start(self, away: Collection[int], colocate: Sequence[Mapping[str, object]]) -> Service:
        loop = virtual_loop()
        pace = Pace(Random(0), 0.0, smooth=True)
        servers = [
            SimulatedServer(f"10.2.{shard}.{node}", 6379, Random(0), pace) for shard in range(SHARDS) for node in (0, 1)
        ]
        for shard in range(SHARDS):
            servers[2 * shard + 1].replicate(servers[2 * shard])
            if shard in away:
                servers[2 * shard].crash()
                servers[2 * shard + 1].crash()
        loop.network = SimulatedNetwork(servers)
        config = Config.model_validate(
            {
                "shards": [
                    {"primary": f"10.2.{shard}.0:6379", "replicas": [f"10.2.{shard}.1:6379"]} for shard in range(SHARDS)
                ],
                "colocate": list(colocate),
                "read_from": "replica",
                "backend": {"retry_deadline": f"{DEADLINE}s", "backoff_min": "1s", "backoff_max": "1s"},
            }
        )
        service = Service(config, build_topology(config), clock=loop.time)
        for number in range(2):
            service.upstream.routes(2, 0, config.read_from, number)
        await asyncio.sleep(0.01)
        return service

    def do(self, what: Callable[[], T]) -> T:
        """Return ``what()``, called inside the loop."""

        async def run() -> T:
            return what()

        return self._runner.run(run())

    def passes(self, seconds: float) -> None:
        """Let ``seconds`` of virtual time pass."""
        self._runner.run(asyncio.sleep(seconds))

    def enter(self, most: int = 16384) -> ClientConnection:
        """Connect a new client, of which ``most`` requests may be in flight, in place of the one before."""
        service = self.service
        for known in list(service.clients):
            cast(ClientConnection, known).connection_lost(None)
        service.limits = replace(service.limits, max_in_flight=most)
        client = ClientConnection(service)
        wire = MemoryWire(client, Pace(Random(0), smooth=True), ("127.0.0.1", 1))
        wire.peer = _Peer()
        client.connection_made(wire)
        assert client.plain
        self.client = client
        return client

    def sent(self) -> Sent:
        """Take the frames that were sent since the last call. All of them were sent at time 7.5."""
        names = [shard.name for shard in self.service.topology.shards]
        found: Sent = {}
        for backend in self.service.upstream.pool:
            written, unwritten = backend.inflight.drain()
            assert not written
            assert all(entry.since == 7.5 and entry.sink is not DISCARD for entry in unwritten)
            if unwritten:
                place = backend.place
                found[names.index(place.shard), not place.primary] = [entry.frame for entry in unwritten]
        return found


@contextmanager
def idle_worker(away: Collection[int] = (), colocate: Sequence[Mapping[str, object]] = ()) -> Iterator[IdleWorker]:
    """An idle worker that can not reach the servers of the shards ``away``."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        made = IdleWorker(runner, away, colocate)
        try:
            yield made
        finally:
            made.do(made.sent)
            runner.run(made.service.close())
