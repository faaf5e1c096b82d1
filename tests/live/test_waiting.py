"""WAIT and WAITAOF: how many replicas have what a client wrote, whatever shards it wrote to."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary
from tests.support.fixtures import Serve
from tests.support.proxy_process import ProxyProcess
from tests.support.site import shard_tags
from tests.support.wire import Wire, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
FIRST, SECOND = shard_tags(2)


@pytest.fixture(scope="module")
def proxy(replicated: LocalShards, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """Two shards with two replicas each."""
    with ProxyProcess(tmp_path_factory.mktemp("waiting"), "--static", replicated.static).serving() as running:
        yield running


@pytest.fixture
def stopped(replicated: LocalShards) -> Iterator[LocalServer]:
    """A replica of the second shard that says nothing."""
    replica = replicated.replicas[1][0]
    replica.pause()
    yield replica
    replica.resume()


def test_all_have_it(proxy: ProxyProcess) -> None:
    with Wire(proxy.address) as client:
        client.send(pipeline(("SET", FIRST, 1), ("SET", SECOND, 1), ("WAIT", 2, 10000), ("GET", FIRST)))
        assert client.replies(4) == [OK, OK, b":2\r\n", b"$1\r\n1\r\n"]


def test_the_smallest_number_counts(proxy: ProxyProcess, stopped: LocalServer) -> None:
    with Wire(proxy.address) as one, Wire(proxy.address) as two:
        one.ask("SET", FIRST, 1)
        assert one.ask("WAIT", 2, 10000) == b":2\r\n"  # nothing was written where one does not answer
        two.ask("MSET", FIRST, 2, SECOND, 2)
        assert two.ask("WAIT", 1, 10000) == b":1\r\n"
        began = time.monotonic()
        two.ask("INCR", SECOND)
        assert two.ask("WAIT", 2, 200) == b":1\r\n"
        assert time.monotonic() - began > 0.15
        assert two.ask("WAIT", 2, 50) == b":1\r\n"  # what was not confirmed is asked for again


@pytest.mark.parametrize(
    "write",
    [
        ("SET", SECOND, 1),
        ("MSET", FIRST, 1, SECOND, 1),
        ("SORT", SECOND, "STORE", SECOND),
        ("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, SECOND),
        ("BLPOP", "{" + SECOND + "}list", 1),
        ("FLUSHDB",),
    ],
    ids=lambda write: write[0],
)
def test_whatever_the_write(proxy: ProxyProcess, stopped: LocalServer, write: tuple[str | int, ...]) -> None:
    with Wire(proxy.address) as other:
        other.ask("DEL", SECOND)
        other.ask("RPUSH", "{" + SECOND + "}list", "x")
    with Wire(proxy.address) as client:
        client.ask(*write)
        assert client.ask("WAIT", 2, 50) == b":1\r\n"


def test_in_a_transaction(proxy: ProxyProcess, stopped: LocalServer) -> None:
    with Wire(proxy.address) as client:
        client.send(pipeline(("MULTI",), ("SET", SECOND, 1), ("EXEC",), ("WAIT", 2, 50)))
        assert client.replies(4)[2:] == [b"*1\r\n+OK\r\n", b":1\r\n"]
        client.send(pipeline(("MULTI",), ("SET", SECOND, 1), ("WAIT", 2, 0), ("EXEC",)))
        assert client.replies(4)[3].startswith(b"*2\r\n+OK\r\n:")


def test_nothing_was_written(proxy: ProxyProcess) -> None:
    with Wire(proxy.address) as client:
        assert client.ask("WAIT", 2, 10000) == b":2\r\n"
        assert client.ask("WAIT", 3, 50) == b":2\r\n"


def test_a_wait_that_ends_when_the_replica_is_back(proxy: ProxyProcess, stopped: LocalServer) -> None:
    with Wire(proxy.address) as client, Wire(proxy.address) as other:
        client.send(pack("SET", SECOND, 1) + pack("WAIT", 2, 0) + pack("PING"))
        assert client.reply() == OK
        assert client.silent()
        assert other.ask("SET", SECOND, 2) == OK
        stopped.resume()
        assert client.replies(2) == [b":2\r\n", b"+PONG\r\n"]


def test_nothing_is_seen_of_what_it_replicates(replicated: LocalShards, proxy: ProxyProcess) -> None:
    """No key, no event, no invalidation, no broken WATCH."""
    (server, _) = replicated.primaries
    with Wire(server.address, protocol=3) as listener, Wire(server.address) as watching, Wire(proxy.address) as client:
        server.ask("CONFIG", "SET", "notify-keyspace-events", "KEA")
        client.ask("SET", FIRST, 1)
        before = server.ask("DBSIZE"), server.info("keyspace")
        listener.ask("CLIENT", "TRACKING", "ON", "BCAST")
        listener.ask("PSUBSCRIBE", "*")
        watching.ask("WATCH", FIRST)
        assert client.ask("WAIT", 2, 10000) == b":2\r\n"
        assert listener.silent()
        watching.send(pipeline(("MULTI",), ("PING",), ("EXEC",)))
        assert watching.replies(3)[2] == b"*1\r\n+PONG\r\n"
        assert (server.ask("DBSIZE"), server.info("keyspace")) == before
        server.ask("CONFIG", "SET", "notify-keyspace-events", "")


def test_a_server_without_room_for_data(replicated: LocalShards, proxy: ProxyProcess) -> None:
    (server, _) = replicated.primaries
    with Wire(proxy.address) as client:
        client.ask("SET", FIRST, 1)
        server.ask("CONFIG", "SET", "maxmemory", 1)
        try:
            assert client.ask("SET", FIRST, 2).startswith(b"-OOM ")
            assert client.ask("DEL", FIRST) == b":1\r\n"
            assert client.ask("WAIT", 2, 10000) == b":2\r\n"
        finally:
            server.ask("CONFIG", "SET", "maxmemory", 0)


def test_a_shard_that_can_not_be_written_to(replicated: LocalShards, proxy: ProxyProcess) -> None:
    """Nobody can say then who has what was written before: the server's own words tell why."""
    (server, _) = replicated.primaries
    with Wire(proxy.address) as client:
        client.ask("SET", FIRST, 1)
        server.ask("CONFIG", "SET", "min-replicas-to-write", 5)
        try:
            assert client.ask("WAIT", 2, 10000).startswith(b"-NOREPLICAS ")
        finally:
            server.ask("CONFIG", "SET", "min-replicas-to-write", 0)


def test_waitaof(binary: ServerBinary, tmp_path: Path, serve: Serve) -> None:
    if binary.kind == "redis":
        pytest.skip("WAITAOF is in Redis 7.2 and later")
    with ExitStack() as stack:

        def start(name: str, primary: LocalServer | None = None) -> LocalServer:
            directory = tmp_path / name
            directory.mkdir()
            server = LocalServer(
                binary, directory, replica_of=primary, options=("appendonly yes", "appendfsync always")
            )
            stack.callback(server.stop)
            server.start()
            return server

        first, second = start("first"), start("second")
        replica = start("replica", second)
        replica.wait_link_up()
        proxy = serve("--static", f"{first.address},{second.address}/{replica.address}")
        with Wire(proxy.address) as client:
            client.ask("SET", FIRST, 1)
            assert client.ask("WAITAOF", 1, 0, 10000) == b"*2\r\n:1\r\n:0\r\n"
            with Wire(proxy.address) as other:
                other.ask("SET", SECOND, 1)
                assert other.ask("WAITAOF", 1, 1, 10000) == b"*2\r\n:1\r\n:1\r\n"
            client.ask("MSET", FIRST, 1, SECOND, 2)
            assert client.ask("WAITAOF", 1, 1, 100) == b"*2\r\n:1\r\n:0\r\n"
            first.ask("CONFIG", "SET", "appendonly", "no")
            assert client.ask("WAITAOF", 1, 0, 100).startswith(b"-ERR WAITAOF cannot be used when numlocal is set but")
