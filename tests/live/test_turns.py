"""How long a turn of the loop is, in processor time: a worker in this process, and clients that send much."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

import pytest
import uvloop

from proxy.compiled import engine
from proxy.config import Config
from proxy.devservers.servers import LOOPBACK, free_port
from proxy.transport.transports import best_transports
from proxy.worker.service import Service
from tests.live.attack import Attack
from tests.live.in_process import working
from tests.support.wire import Wire, pack, pipeline

pytestmark = pytest.mark.live

BOUND = 0.02
RARELY = 5
"""So many turns may take longer: the collector's, or what else a busy machine does to a process's caches."""

FLOODS = {
    "PING": pack("PING"),
    "inline": b"PING\r\n",
    "nothing": b"\r\n",
    "unknown": pack("NOSUCH", "x" * 100),
    "INFO": pack("CLIENT", "INFO"),
    "HELLO": pipeline(("HELLO", 3), ("HELLO", 2)),
    "GET": pack("GET", "k"),
    "MGET": pack("MGET", *range(50)),
}


USERS = [{"name": "default", "password": "secret"}]


@contextlib.asynccontextmanager
async def worker(password: bool = False) -> AsyncIterator[tuple[str, Service]]:
    """A worker before two shards that are down, in the running loop, and its address; ``password``: its clients have to
    log in."""
    address = f"{LOOPBACK}:{free_port()}"
    shards = [{"primary": f"{LOOPBACK}:{free_port()}"} for _ in range(2)]
    users = {"users": USERS} if password else {}
    config = Config.model_validate({"listen": address, "shards": shards, **users})
    async with working(config, best_transports(asyncio.get_running_loop())) as service:
        yield address, service


async def turn() -> float:
    """The processor time of one turn."""
    before = time.thread_time()
    await asyncio.sleep(0)
    return time.thread_time() - before


async def beside_attackers(payload: bytes, clients: int) -> list[float]:
    """The turns of a second in which ``clients`` send as much as goes."""
    turns: list[float] = []
    async with worker() as (address, service):
        over = threading.Event()
        attack = asyncio.create_task(asyncio.to_thread(_attack, address, payload, clients, over))
        while not service.counters.bytes_in:
            await turn()
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            turns.append(await turn())
        over.set()
        await attack
    return turns


def _attack(address: str, payload: bytes, clients: int, over: threading.Event) -> None:
    with Attack(address, payload, clients=clients):
        over.wait()


async def before_a_crowd() -> list[float]:
    """The turns in which a worker meets what 300 clients have sent already."""
    async with worker() as (address, service), contextlib.AsyncExitStack() as stack:
        wires = []
        for _ in range(300):
            wires.append(stack.enter_context(Wire(address)))
            await asyncio.sleep(0)
        for wire in wires:
            wire.socket.sendall(pack("ECHO", "x" * 10) * 2000)
        turns = [await turn() for _ in range(300)]
        assert service.counters.bytes_in > 1_000_000
    return turns


def longest(main: Coroutine[Any, Any, list[float]]) -> list[float]:
    """The turns that ``main`` saw, the longest first."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return sorted(runner.run(main), reverse=True)


@pytest.mark.parametrize("clients", [1, 40])
@pytest.mark.parametrize("piece", [pytest.param(piece, id=name) for name, piece in FLOODS.items()])
def test_no_turn_is_long(piece: bytes, clients: int) -> None:
    turns = longest(beside_attackers(piece * (300_000 // len(piece)), clients))
    assert len(turns) > 10
    assert turns[RARELY] < BOUND


def test_a_crowd_that_has_sent_already_takes_no_longer() -> None:
    assert longest(before_a_crowd())[RARELY] < BOUND


HALVES = {
    "a header": b"*10\r\n",
    "arguments": b"*10\r\n" + b"$1\r\na\r\n" * 9,
    "long arguments": b"*10\r\n" + (b"$16000\r\n" + b"x" * 16_000 + b"\r\n") * 9,
    "a part of an argument": b"*2\r\n$4\r\nECHO\r\n$16384\r\n" + b"x" * 16_383,
    "a line": b"x" * 60_000,
    "a line of words": b"a " * 30_000,
    "blanks": b" " * 60_000,
    "carriage returns": b"\r" * 60_000,
    "open quotes": b'ECHO "' + b"\\x41" * 14_000,
    "a login": b"*3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$16000\r\n" + b"x" * 15_999,
    "a login without its name": b"*3\r\n$4\r\nAUTH\r\n",
    "a greeting": b"*7\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n",
    "very many empty lines before a part": b"\r\n" * 100_000 + b"*1\r\n",
    "very many empty arrays before a part": b"*0\r\n" * 100_000 + b"*1\r\n",
}
"""Beginnings of requests, which never end, within the limits of clients that have not logged in."""
LONG_HALVES = {
    "a million arguments": b"*1000001\r\n" + b"$1\r\na\r\n" * 1_000_000,
    "a million empty arguments": b"*1000001\r\n" + b"$0\r\n\r\n" * 1_000_000,
    "an argument of 64 MB": b"*2\r\n$4\r\nECHO\r\n$67108864\r\n" + b"x" * 60_000_000,
    "MSET of 500,000": b"*1000001\r\n$4\r\nMSET\r\n" + b"$1\r\na\r\n" * 999_000,
    "a transaction": pack("MULTI") + pack("PING") * 50_000 + b"*2\r\n",
}
"""What clients may begin that have logged in."""


async def with_halves(piece: bytes, step: int, clients: int, password: bool) -> list[float]:
    """The turns in which ``clients`` send the beginning of a request, ``step`` bytes at a time, and leave."""
    turns: list[float] = []
    async with worker(password) as (address, service), contextlib.AsyncExitStack() as stack:
        wires = [stack.enter_context(Wire(address)) for _ in range(clients)]

        def send() -> None:
            for at in range(0, len(piece), step):
                for wire in wires:
                    with contextlib.suppress(OSError):  # some are closed for it
                        wire.socket.sendall(piece[at : at + step])

        sending = asyncio.create_task(asyncio.to_thread(send))
        while not sending.done() or service.slices.busy:
            turns.append(await turn())
        for wire in wires:
            wire.close()
        turns += [await turn() for _ in range(50)]
    return turns


@pytest.mark.parametrize("password", [True, False], ids=["before login", "logged in"])
@pytest.mark.parametrize(("step", "clients"), [(1 << 20, 100), (1000, 50), (100, 5)])
@pytest.mark.parametrize("name", HALVES)
def test_no_turn_is_long_for_requests_that_do_not_end(name: str, step: int, clients: int, password: bool) -> None:
    piece = HALVES[name]
    found = longest(with_halves(piece[: step * 200], step, clients, password))
    assert found[RARELY] < BOUND


@pytest.mark.skipif(engine() == "python", reason="the plain engine frames so many arguments in one go")
@pytest.mark.parametrize("step", [1 << 20, 64 * 1024])
@pytest.mark.parametrize("name", LONG_HALVES)
def test_no_turn_is_long_for_a_long_request_that_does_not_end(name: str, step: int) -> None:
    assert longest(with_halves(LONG_HALVES[name], step, 3, False))[RARELY] < BOUND


AT_MOST = 0.05
"""One request is carried out in a few turns, so that none of them can be left out: it is several times as long as they
are, and a third of what they were."""


def _pairs(option: str, values: Iterable[str | int]) -> list[str | int]:
    return [word for value in values for word in (option, value)]


LONG = {
    "SORT": pack("SORT", "{t}k", *_pairs("GET", [f"{{t}}*{number}" for number in range(100_000)]), "GET", "{u}*"),
    "SORT_RO": pack("SORT_RO", "{t}k", *_pairs("GET", [f"{{t}}*{number}" for number in range(100_000)]), "GET", "{u}*"),
    "GEORADIUS": pack("GEORADIUS", "k", 1, 1, 1, "m", *_pairs("STORE", range(200_000))),
    "EVAL": pack("EVAL", "return 1", 400_000, *range(400_000)),
    "WATCH": pack("WATCH", *range(400_000)),
    "BLPOP": pack("BLPOP", *range(400_000), 0),
    "TRACKING": pack("CLIENT", "TRACKING", "ON", "BCAST", *_pairs("PREFIX", range(60_000))),
    "TRACKING without BCAST": pack("CLIENT", "TRACKING", "ON", *_pairs("PREFIX", range(200_000))),
    "KILL": pack("CLIENT", "KILL", *_pairs("ID", range(1000, 101_000))),
    "LIST": pack("CLIENT", "LIST", "ID", *range(1000, 301_000)),
    "FUNCTION": pack("FUNCTION", "LIST", *range(200_000)),
    "HELLO": pack("HELLO", 3, *_pairs("setname", range(200_000))),
    "HELLO AUTH": pack("HELLO", 3, *[word for _ in range(100_000) for word in ("auth", "default", "x")]),
    "SCAN": pack("SCAN", 0, *_pairs("COUNT", range(200_000))),
    "SCRIPT EXISTS": pack("SCRIPT", "EXISTS", *range(400_000)),
    "a long name": pack(b"N" * 10_000_000, "k"),
    "a long subcommand": pack("OBJECT", b"N" * 10_000_000, "k"),
    "a long key": pack("MGET", b"k" * 10_000_000, "{u}"),
    "a long channel": pack("PUBLISH", b"k" * 10_000_000, "message"),
}


async def longest_of(request: bytes) -> float:
    """The longest turn in which a worker carries out ``request``: the best of three tries."""
    found = []
    async with worker() as (address, service):
        for _ in range(3):
            before = service.counters.bytes_in
            with Wire(address, timeout=20.0) as wire:
                sending = asyncio.create_task(asyncio.to_thread(wire.send, request))
                turns = []
                while not sending.done() or service.counters.bytes_in < before + len(request) or service.slices.busy:
                    turns.append(await turn())
                turns += [await turn() for _ in range(10)]
            found.append(max(turns))
            if found[-1] < BOUND:
                break
    return min(found)


@pytest.mark.skipif(engine() == "python", reason="the plain engine frames so many arguments in one go")
@pytest.mark.parametrize("name", LONG)
def test_no_turn_is_long_for_a_request_of_very_many_arguments(name: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(longest_of(LONG[name])) < AT_MOST
