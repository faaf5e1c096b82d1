"""How many attempts are made at a server by many who want to connect to it. Virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.backends.connect_gate import Gate, Gates
from proxy.errors import BackendError, PlaceRefused
from proxy.sharding.topology import Node
from tests.support.virtual_loop import run, virtual_loop

MANY = 100
SHORTEST, LONGEST = 0.05, 2.0
TAKES = 0.01


class Server:
    """What is attempted, by whom and when; ``failure``: what comes of it."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.takes = TAKES
        self.times: list[float] = []
        self.now = 0
        self.most = 0
        self.gate = Gate(virtual_loop().time, (SHORTEST, LONGEST))

    async def connect(self) -> float:
        self.times.append(virtual_loop().time())
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.takes)
            if self.failure is not None:
                raise self.failure
        finally:
            self.now -= 1
        return virtual_loop().time()

    async def persist(self) -> float:
        """What everybody does: again and again, until it succeeds."""
        while True:
            try:
                return await self.gate.attempt(self.connect)
            except (OSError, BackendError):
                pass


def told(story: Callable[[Server], Awaitable[None]]) -> Callable[[], None]:
    """Plays a story."""

    def play() -> None:
        async def begin() -> None:
            await story(Server())

        run(begin())

    return play


@told
async def test_all_at_once_while_it_is_there(server: Server) -> None:
    times = await asyncio.gather(*(server.persist() for _ in range(MANY)))
    assert set(times) == {TAKES}
    assert server.most == MANY


@told
async def test_one_at_a_time_while_it_is_not(server: Server) -> None:
    server.failure = ConnectionRefusedError(111, "Connection refused")
    server.gate.doubt()
    everybody = [asyncio.create_task(server.persist()) for _ in range(MANY)]
    await asyncio.sleep(60)
    assert server.most == 1
    assert 60 / LONGEST <= len(server.times) < 60 / LONGEST * 2 + 12
    server.failure = None
    server.most = 0
    began = virtual_loop().time()
    times = await asyncio.gather(*everybody)
    assert max(times) - began <= LONGEST + 2 * TAKES
    assert max(times) - min(times) <= 2 * TAKES  # all others at once, behind the first
    assert server.most == MANY - 1


@told
async def test_a_lost_connection_is_made_again_at_once(server: Server) -> None:
    await server.persist()
    server.gate.doubt()
    began = virtual_loop().time()
    times = await asyncio.gather(*(server.persist() for _ in range(MANY)))
    assert max(times) - began <= 3 * TAKES


@told
async def test_those_that_fail_together_are_one_failure(server: Server) -> None:
    server.failure = ConnectionResetError(104, "reset")
    everybody = [asyncio.create_task(server.persist()) for _ in range(MANY)]
    await asyncio.sleep(TAKES * 2)
    assert len(server.times) == MANY
    await asyncio.sleep(SHORTEST * 2)
    assert MANY < len(server.times) <= MANY + 3
    for task in everybody:
        task.cancel()


@told
async def test_what_one_that_waited_is_told(server: Server) -> None:
    server.failure = ConnectionRefusedError(111, "Connection refused")
    server.gate.doubt()
    tries = [asyncio.create_task(server.gate.attempt(server.connect)) for _ in range(3)]
    await asyncio.wait(tries)
    assert {str(task.exception()) for task in tries} == {"[Errno 111] Connection refused"}
    assert len(server.times) == 1


@told
async def test_who_can_not_wait_is_told_what_came_of_the_last_attempt(server: Server) -> None:
    """Not before one was made, and no longer than until one succeeds."""
    server.failure = ConnectionRefusedError(111, "Connection refused")
    server.gate.doubt()
    for _ in range(50):
        with pytest.raises(ConnectionRefusedError):
            await server.gate.attempt(server.connect, patient=False)
        await asyncio.sleep(0.001)
    assert len(server.times) <= 3
    server.failure = None
    await asyncio.sleep(LONGEST)
    assert await server.gate.attempt(server.connect, patient=False) == virtual_loop().time()
    server.gate.doubt()
    assert await server.gate.attempt(server.connect, patient=False) == virtual_loop().time()


@told
async def test_who_gives_up_in_the_middle_lets_the_next_try(server: Server) -> None:
    server.gate.doubt()
    server.takes = 60
    first, second = [asyncio.create_task(server.persist()) for _ in range(2)]
    await asyncio.sleep(1)
    first.cancel()
    server.takes = TAKES
    await second
    assert virtual_loop().time() < 2


@told
async def test_who_asks_too_much_is_in_nobodys_way(server: Server) -> None:
    """A database that is not there says nothing of the server."""

    async def refused() -> float:
        raise PlaceRefused("the server answers SELECT with: ERR DB index is out of range")

    server.gate.doubt()
    with pytest.raises(PlaceRefused):
        await server.gate.attempt(refused)
    times = await asyncio.gather(*(server.persist() for _ in range(MANY)))
    assert set(times) == {TAKES}


@told
async def test_a_gate_lasts_as_long_as_somebody_has_it(server: Server) -> None:
    gates = Gates(virtual_loop().time, (SHORTEST, LONGEST))
    kept = [gates.to(Node("a", number), primary) for number in range(50) for primary in (True, False)]
    assert kept[0] is gates.to(Node("a", 0), True)
    assert kept[0] is not kept[1]
    assert kept[0] is not gates.to(Node("a", 0), True, "another user")
    assert len(gates) == 100
    del kept
    assert len(gates) == 0
