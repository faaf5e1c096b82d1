"""Stalls of the proxy's process: what servers answered meanwhile counts, whenever they come, however long they are."""

import asyncio
from random import Random

import pytest

from proxy.config import Config
from proxy.resp import encode
from proxy.sharding.topology import build_topology
from proxy.worker.service import Service
from tests.simulation.playbook import (
    REQUEST_TIMEOUT,
    Client,
    Stage,
    Step,
    answers,
    connected,
    cuts,
    door,
    hears,
    passes,
    play,
    says,
    sees,
)
from tests.support.memory_wire import Pace
from tests.support.simulated_server import SimulatedNetwork, SimulatedServer
from tests.support.virtual_loop import run, virtual_loop

OK = encode.OK
LONG = 10 * REQUEST_TIMEOUT


def stalls(seconds: float, *replies: bytes) -> Step:
    """The proxy does not run for so long; in the middle of it the server answers."""

    async def step(stage: Stage) -> None:
        loop = virtual_loop()
        if stage.connection is not None:
            loop.call_later(seconds / 2, stage.connection.wire.send, b"".join(replies))
        loop.stall(seconds)
        await asyncio.sleep(0)

    return step


@pytest.mark.parametrize("age", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("seconds", [REQUEST_TIMEOUT, LONG, 1e5])
def test_what_was_answered_during_a_stall_is_answered(age: float, seconds: float) -> None:
    play(
        (
            says("a", "SET k 1", "GET k"),
            says("b", "MULTI", "INCR k", "EXEC"),
            passes(age * REQUEST_TIMEOUT),
            hears("b", "OK", "QUEUED"),
            stalls(seconds, OK, encode.bulk("1"), OK, b"+QUEUED\r\n", b"*1\r\n:2\r\n"),
            passes(0.2),
            hears("a", "OK", "1"),
            hears("b", "[[]2[]]"),
            sees("SET k 1", "GET k", "MULTI", "INCR k", "EXEC"),
            connected(True),
        )
    )


def test_a_server_that_says_nothing_has_its_time_and_no_more() -> None:
    play(
        (
            says("a", "SET k 1"),
            passes(0.5 * REQUEST_TIMEOUT),
            stalls(LONG),
            passes(0.3 * REQUEST_TIMEOUT),
            hears("a"),
            passes(0.4 * REQUEST_TIMEOUT),
            hears("a", "-UNCERTAIN *"),
        )
    )


def test_a_shard_that_is_down_is_not_given_up_for_a_stall() -> None:
    play(
        (
            says("a", "SET k 1"),
            answers(OK),
            hears("a", "OK"),
            door("shut"),
            cuts(),
            says("a", "SET k 2"),
            stalls(LONG),
            door("open"),
            passes(0.2),
            answers(OK),
            hears("a", "OK"),
            sees("SET k 1", "SET k 2"),
        )
    )


@pytest.mark.parametrize("seed", range(20))
def test_stalls_at_any_time(seed: int) -> None:
    """Servers that answer within a tenth of the timeout, and a process that is stopped again and again."""

    async def main() -> None:
        rng = Random(seed)
        loop = virtual_loop()
        pace = Pace(rng, 0.05)
        server = SimulatedServer("10.2.0.1", 6379, rng, pace)
        loop.network = SimulatedNetwork([server])
        config = Config.model_validate(
            {"shards": [{"primary": "10.2.0.1:6379"}], "backend": {"request_timeout": "1s", "retry_deadline": "1s"}}
        )
        service = Service(config, build_topology(config), clock=loop.time)
        clients = [Client(number, service) for number in range(5)]
        for number in range(100):
            for client in clients:
                client.wire.send(encode.request(("APPEND", f"k{client.wire}", f"{number};")))
                await asyncio.sleep(rng.random() * 0.02)
            if rng.random() < 0.3:
                loop.stall(rng.choice((0.1, 1.0, 5.0)) * rng.random())
        await asyncio.sleep(2.0)
        for client in clients:
            assert len(client.heard) == 100
            assert not [reply for reply in client.heard if reply.startswith("-")]
        assert not any(backend.reconnects for backend in service.upstream.pool)
        await service.close()

    run(main())
