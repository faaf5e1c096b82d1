"""Connections to servers that were idle, and are closed (``timeout``, CLIENT KILL) just as they are used again.

What was not written was not executed: it goes over another connection, or is answered so. Nothing of it is uncertain.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from proxy.config import Config
from proxy.devservers.servers import LOOPBACK, LocalServer, LocalShards, find_server, free_port, start_many
from proxy.engine.sink import Sink
from proxy.transport.transports import LoopTransports, Transports, best_transports
from proxy.worker.service import Service
from tests.live.in_process import working
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire, pack, pipeline

pytestmark = pytest.mark.live

KEY = "{k}"
BLPOP = ("BLPOP", KEY, "0.01")
WATCH = ("WATCH", KEY)
NULL = b"*-1\r\n"
OK = b"+OK\r\n"
NOT_BUSY = b"-NOTBUSY No scripts in execution right now.\r\n"
SELECTING = (("MULTI",), ("SELECT", 1), ("INCR", KEY), ("EXEC",))

CASES: dict[str, tuple[tuple[tuple[str, ...], ...], tuple[tuple[str | int, ...], ...], bytes]] = {
    "BLPOP": ((BLPOP,), (BLPOP,), NULL),
    "BLMOVE": ((BLPOP,), (("BLMOVE", KEY, KEY, "LEFT", "LEFT", "0.01"),), NULL),
    "XREAD": ((BLPOP,), (("XREAD", "BLOCK", 10, "STREAMS", KEY, "$"),), NULL),
    "WAIT": ((BLPOP,), (("WAIT", 0, 0),), b":0\r\n"),
    "WATCH": ((BLPOP,), (WATCH,), OK),
    "SCRIPT KILL": ((BLPOP,), (("SCRIPT", "KILL"),), NOT_BUSY),
    "FUNCTION KILL": ((BLPOP,), (("FUNCTION", "KILL"),), NOT_BUSY),
    "SELECT in MULTI": ((BLPOP,), SELECTING, b"*2\r\n+OK\r\n:1\r\n"),
    # Nobody can say any more whether the key was changed.
    "EXEC": ((WATCH,), (("MULTI",), ("INCR", KEY), ("EXEC",)), NULL),
    "a read's EXEC": ((WATCH,), (("MULTI",), ("GET", KEY), ("EXEC",)), NULL),
    "more to watch": ((WATCH,), (("WATCH", KEY + "2"), ("MULTI",), ("INCR", KEY), ("EXEC",)), NULL),
}
"""What a client has sent before, what it sends then, and the last reply to that."""


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    """One shard."""
    with start_many(1, 0, binary=find_server()) as running:
        yield running


def close_all(server: LocalServer) -> None:
    """Close each connection that the server has but this one. All is closed when this returns."""
    with Wire(server.address) as admin:
        assert admin.ask("CLIENT", "KILL", "TYPE", "normal").startswith(b":")


def clean(server: LocalServer) -> None:
    assert server.ask("FLUSHALL") == b"OK"


@pytest.fixture(scope="module")
def proxy(shards: LocalShards, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy before it."""
    with ProxyProcess(tmp_path_factory.mktemp("proxy"), "--static", shards.static).serving() as running:
        yield running


@pytest.mark.parametrize("case", CASES)
def test_closed_while_the_proxy_did_not_look(shards: LocalShards, proxy: ProxyProcess, case: str) -> None:
    """It finds the request and the close at once, the request first."""
    (server,) = shards.primaries
    clean(server)
    before, then, wanted = CASES[case]
    with Wire(proxy.address) as client:
        for command in before:
            client.ask(*command)
        proxy.signal(signal.SIGSTOP)
        try:
            client.send(pipeline(*then))
            close_all(server)
        finally:
            proxy.signal(signal.SIGCONT)
        assert client.replies(len(then))[-1] == wanted


class Inside:
    """A worker in this process before a server, so that a test chooses the moment."""

    def __init__(self, service: Service, address: str) -> None:
        self.service = service
        self.address = address

    async def ask(self, client: Wire, *commands: tuple[str | int, ...]) -> list[bytes]:
        """The replies to a client's commands."""

        def replies() -> list[bytes]:
            client.send(pipeline(*commands))
            return client.replies(len(commands))

        return await asyncio.to_thread(replies)


@contextlib.asynccontextmanager
async def inside(
    server: LocalServer, transports: Callable[[asyncio.AbstractEventLoop], Transports]
) -> AsyncIterator[Inside]:
    address = f"{LOOPBACK}:{free_port()}"
    config = Config.model_validate({"listen": address, "shards": [{"primary": server.address}]})
    async with working(config, transports(asyncio.get_running_loop())) as service:
        yield Inside(service, address)


TRANSPORTS = [best_transports, LoopTransports]


@pytest.mark.parametrize("transports", TRANSPORTS)
@pytest.mark.parametrize("case", CASES)
def test_closed_in_the_turn_in_which_it_is_used(
    shards: LocalShards, case: str, transports: Callable[[asyncio.AbstractEventLoop], Transports]
) -> None:
    """The close comes when the loop has asked what is to be read, and before the request is written."""
    (server,) = shards.primaries
    clean(server)
    before, then, wanted = CASES[case]

    async def main() -> None:
        async with inside(server, transports) as worker:
            with Wire(worker.address) as client:
                await worker.ask(client, *before)
                await asyncio.sleep(0.05)  # what was given back is idle
                for owner, name in ((worker.service.upstream.leases, "ask"), (worker.service.planner, "together")):
                    _close_before(owner, name, lambda: close_all(server))
                if case == "more to watch":
                    _close_before(worker.service.planner, "watched", lambda: close_all(server))
                assert (await worker.ask(client, *then))[-1] == wanted
                assert worker.service.counters.uncertain == 0

    run(main())


def _close_before(owner: object, name: str, close: Callable[[], None]) -> None:
    """Have the first call of a method closed before."""
    whole = getattr(owner, name)
    left = [close]

    def method(*args: Any, **options: Any) -> Any:
        while left:
            left.pop()()
        return whole(*args, **options)

    setattr(owner, name, method)


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner() as runner:
        runner.run(main)


class Kept(Sink):
    """Keeps the one reply that it is told."""

    def __init__(self) -> None:
        self.heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        self.heard.set_result(data[start:end])


@pytest.mark.parametrize("transports", TRANSPORTS)
def test_a_shared_one_that_has_rested(
    shards: LocalShards, transports: Callable[[asyncio.AbstractEventLoop], Transports]
) -> None:
    """A write waits for the next connection, and is carried out once."""
    (server,) = shards.primaries
    clean(server)

    async def main() -> None:
        async with inside(server, transports) as worker:
            with Wire(worker.address) as client:
                assert await worker.ask(client, ("INCR", KEY)) == [b":1\r\n"]
            (backend,) = [backend for backend in worker.service.upstream.pool if backend.place.primary]
            await asyncio.sleep(0.6)
            kept = Kept()
            close_all(server)
            backend.send(kept, 0, pack("INCR", KEY), worker.service.turn.now(), None)
            assert await asyncio.wait_for(kept.heard, 10) == b":2\r\n"

    run(main())
