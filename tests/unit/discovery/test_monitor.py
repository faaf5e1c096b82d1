"""The watch over servers: asked over real connections, by servers that answer as a test says."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import hiredis
import pytest

from proxy.backends.handshake import Credentials
from proxy.devservers.servers import LOOPBACK
from proxy.discovery.monitor import Monitor
from proxy.resp import encode
from proxy.sharding.topology import Node, Shard, Topology

MOST = 0.4
SOON = 10.0


class FakeServer:
    """Answers ROLE with ``role``, or not at all while that is None; counts who is connected."""

    def __init__(self, *role: str | int) -> None:
        self.role: tuple[str | int, ...] | None = role
        self.asked = 0
        self.said: list[bytes] = []
        self.connections: set[asyncio.StreamWriter] = set()
        self.node = Node("", 0)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.node.port)
        self.node = Node(LOOPBACK, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self.connections):
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        parser = hiredis.Reader()
        try:
            while data := await reader.read(4096):
                parser.feed(data)
                while (args := parser.gets()) is not False:
                    assert isinstance(args, list)
                    self.said.append(args[0])
                    if args[0] == b"AUTH":
                        writer.write(b"+OK\r\n")
                        continue
                    self.asked += 1
                    if self.role is not None:
                        writer.write(_answer(self.role))
        except ConnectionError:
            pass
        finally:
            self.connections.discard(writer)
            writer.close()


def _answer(role: tuple[str | int, ...]) -> bytes:
    if role[0] == "error":
        return b"-NOPERM no\r\n"
    words = [b":%d\r\n" % word if isinstance(word, int) else encode.bulk(word.encode()) for word in role]
    return b"*%d\r\n%b" % (len(words), b"".join(words))


def follows(offset: int, state: str = "connected") -> tuple[str | int, ...]:
    return "slave", "10.0.0.1", 6379, state, offset


class MonitoredShard:
    """A primary and two replicas under a monitor that is told of in ``told`` and ``hints``."""

    def __init__(self, primary: FakeServer, *replicas: FakeServer) -> None:
        self.primary = primary
        self.replicas = replicas
        self.topology = self.of(primary, *replicas)
        self.told: list[list[Node]] = []
        self.hints = 0
        self.monitor = Monitor(
            lambda: self.topology, Credentials("", "word"), 1.0, MOST, time.monotonic, self.told.append, self._hint
        )

    def _hint(self, node: Node | None) -> None:
        self.hints += 1

    @staticmethod
    def of(primary: FakeServer, *replicas: FakeServer) -> Topology:
        return Topology.static([Shard("shard-1", primary.node, tuple(replica.node for replica in replicas))])

    def unfit(self) -> list[bool]:
        return [bool(self.monitor.reason(server.node)) for server in (self.primary, *self.replicas)]

    async def until(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SOON
        while not what():
            assert time.monotonic() < deadline, (self.unfit(), self.told)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def monitored() -> AsyncIterator[MonitoredShard]:
    servers = FakeServer("master", 100), FakeServer(*follows(100)), FakeServer(*follows(100))
    for server in servers:
        await server.start()
    made = MonitoredShard(*servers)
    watch = asyncio.get_running_loop().create_task(made.monitor.run())
    try:
        await made.until(lambda: not any(math.isinf(made.monitor.distance(server.node)) for server in servers))
        made.told.clear()
        yield made
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await asyncio.sleep(0.05)
        left = [server for server in servers if server.connections]
        for server in servers:
            await server.stop()
        assert not left, "the monitor keeps connections"


Play = Callable[[MonitoredShard], Awaitable[None]]


def played(play: Play) -> Callable[[], None]:
    """A test that is played with a shard that is monitored."""

    async def run() -> None:
        async with monitored() as made:
            await play(made)

    def test() -> None:
        asyncio.run(run())

    test.__doc__ = play.__doc__
    return test


@played
async def test_all_is_well(shard: MonitoredShard) -> None:
    """Each is asked several times a second over one connection, by who says its password first."""
    asked = [server.asked for server in shard.replicas]
    await asyncio.sleep(1.0)
    for server, before in zip(shard.replicas, asked, strict=True):
        assert 3 <= server.asked - before <= 12
        assert len(server.connections) == 1
        assert server.said[0] == b"AUTH"
        assert server.said.count(b"AUTH") == 1
        assert shard.monitor.fit(server.node)
        assert shard.monitor.spare(server.node)
        assert 0.0 < shard.monitor.distance(server.node) < 0.1
    assert [(name, node) for name, node, _ in shard.monitor.lags()] == [
        ("shard-1", server.node) for server in shard.replicas
    ]
    assert shard.unfit() == [False, False, False]
    assert shard.hints == 0


@played
async def test_one_answers_nothing(shard: MonitoredShard) -> None:
    silent, other = shard.replicas
    silent.role = None
    await shard.until(lambda: shard.unfit() == [False, True, False])
    assert [silent.node] in shard.told
    assert "it has not answered for 0." in shard.monitor.reason(silent.node)
    assert not shard.monitor.spare(silent.node)
    assert shard.hints == 1
    lag = {node: seconds for _, node, seconds in shard.monitor.lags()}
    assert lag[silent.node] > MOST
    assert lag[other.node] == 0.0
    await silent.stop()
    await silent.start()
    silent.role = follows(100)
    await shard.until(lambda: shard.unfit() == [False, False, False])
    assert [silent.node] not in shard.told[-1:]


@played
async def test_one_has_lost_its_link(shard: MonitoredShard) -> None:
    shard.replicas[0].role = follows(100, "connect")
    await shard.until(lambda: shard.unfit() == [False, True, False])
    assert shard.monitor.spare(shard.replicas[0].node)
    assert shard.hints == 1
    await shard.until(lambda: not shard.monitor.spare(shard.replicas[0].node))
    assert shard.hints == 1
    assert shard.told.count([]) >= 2  # it is worse than before, and nobody has fallen silent
    assert all(not silent for silent in shard.told)


@played
async def test_one_lags(shard: MonitoredShard) -> None:
    async def write() -> None:
        for offset in range(101, 10_000):
            shard.primary.role = "master", offset
            shard.replicas[1].role = follows(offset)
            await asyncio.sleep(0.01)

    writing = asyncio.get_running_loop().create_task(write())
    await shard.until(lambda: shard.unfit() == [False, True, False])
    writing.cancel()
    assert "behind its primary" in shard.monitor.reason(shard.replicas[0].node)
    assert not shard.monitor.spare(shard.replicas[0].node)
    assert shard.hints == 0
    assert all(not silent for silent in shard.told)
    shard.replicas[0].role = shard.replicas[1].role
    await shard.until(lambda: shard.unfit() == [False, False, False])


@played
async def test_the_primary_answers_nothing(shard: MonitoredShard) -> None:
    """Its replicas are no worse for that."""
    shard.primary.role = None
    await shard.until(lambda: shard.unfit() == [True, False, False])
    await asyncio.sleep(2 * MOST)
    assert shard.unfit() == [True, False, False]


@played
async def test_roles_are_changed(shard: MonitoredShard) -> None:
    """By a failover: a primary with another history, and the old one as its replica."""
    first, second = shard.replicas
    first.role = "master", 7
    await shard.until(lambda: shard.unfit() == [False, True, False])
    shard.primary.role = follows(7)
    second.role = follows(7)
    shard.topology = shard.of(first, shard.primary, second)
    shard.told.clear()
    await shard.until(lambda: shard.unfit() == [False, False, False])
    await asyncio.sleep(2 * MOST)
    assert shard.unfit() == [False, False, False]
    assert {node for _, node, _ in shard.monitor.lags()} == {shard.primary.node, second.node}
    assert all(not silent for silent in shard.told)


@played
async def test_servers_come_and_go(shard: MonitoredShard) -> None:
    """Nobody is asked whom the topology does not know, nor those of a shard without replicas."""
    first, second = shard.replicas
    shard.topology = shard.of(shard.primary, first)
    await shard.until(lambda: not second.connections)
    assert math.isinf(shard.monitor.distance(second.node))
    shard.topology = shard.of(shard.primary)
    await shard.until(lambda: not first.connections and not shard.primary.connections)
    shard.topology = shard.of(shard.primary, second)
    await shard.until(lambda: len(shard.primary.connections) == len(second.connections) == 1)


@played
async def test_a_process_that_could_not_listen_blames_nobody(shard: MonitoredShard) -> None:
    """What was answered while it stood still is read before anybody is judged."""
    time.sleep(3 * MOST)  # noqa: ASYNC251 - nothing runs meanwhile, that is the point
    for _ in range(20):
        await asyncio.sleep(0.02)
        assert shard.unfit() == [False, False, False]


@played
async def test_one_that_does_not_tell_its_role_is_judged_by_its_silence(shard: MonitoredShard) -> None:
    shard.replicas[0].role = ("error",)
    await asyncio.sleep(2 * MOST)
    assert shard.unfit() == [False, False, False]
    shard.replicas[0].role = None
    await shard.until(lambda: shard.unfit() == [False, True, False])


def test_a_fault_in_what_follows_does_not_end_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with monitored() as made:

            def broken(silent: list[Node]) -> None:
                made.told.append(silent)
                raise RuntimeError("a fault of ours")

            made.monitor._on_change = broken
            made.replicas[0].role = follows(100, "connect")
            await made.until(lambda: len(made.told) > 0)
            made.monitor._on_change = made.told.append
            made.replicas[0].role = follows(100)
            await made.until(lambda: made.unfit() == [False, False, False])

    asyncio.run(play())
    assert "watch failed" in caplog.text
