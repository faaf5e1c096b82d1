"""What clients leave behind: connections of databases, attempts to reach a server that is down."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from proxy.devservers.servers import LocalShards, find_server, start_many
from tests.live.names import Names
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire

pytestmark = pytest.mark.live

TRACKERS = 100
WATCHED = 5.0


@pytest.fixture
def shards() -> Iterator[LocalShards]:
    """Two shards without replicas."""
    with start_many(2, 0, binary=find_server()) as running:
        yield running


def descriptors(proxy: ProxyProcess) -> int:
    return len(os.listdir(f"/proc/{proxy.pid}/fd"))


@contextmanager
def dead_end(host: str, port: int) -> Iterator[list[float]]:
    """Takes connections only to close them, and counts: when each came."""
    came: list[float] = []
    with socket.create_server((host, port), backlog=512) as door:

        def take() -> None:
            while True:
                try:
                    link, _ = door.accept()
                except OSError:
                    return
                came.append(time.monotonic())
                link.close()

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield came
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.drill
def test_trackers_of_a_shard_that_is_down_try_it_one_at_a_time(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static)
    down = shards.primaries[1]
    with ExitStack() as stack:
        clients = [stack.enter_context(Wire(proxy.address, protocol=3)) for _ in range(TRACKERS)]
        for client in clients:
            assert client.ask("CLIENT", "TRACKING", "ON") == b"+OK\r\n"
        down.kill()
        with dead_end(down.host, down.port) as came:
            assert eventually(lambda: len(came) > 0)
            time.sleep(WATCHED)
            rate = len(came) / WATCHED
        # Of its own pauses, 50 ms to 2 s, a single connection makes 2 in a second at most.
        assert rate < 6
        down.start()
        began = time.monotonic()
        assert eventually(lambda: int(down.info("clients")["connected_clients"]) > TRACKERS)
        assert time.monotonic() - began < 5


@pytest.mark.drill
def test_databases_that_nobody_uses(shards: LocalShards, serve: Serve, tmp_path: Path) -> None:
    """As in ``tests/simulation/test_upkeep.py``, in real time."""
    proxy = serve("--static", shards.static, environment={**Names(tmp_path).environment, "TEST_UNUSED": "1"})
    with Wire(proxy.address) as first:
        assert first.ask("PING") == b"+PONG\r\n"
        before = descriptors(proxy)
        for db in range(16):
            assert first.ask("SELECT", db) == b"+OK\r\n"
            assert first.ask("SET", "k", db) == b"+OK\r\n"
        assert descriptors(proxy) >= before + 2 * 14
        assert eventually(lambda: descriptors(proxy) <= before + 2)
        assert proxy.http("/metrics")[1].count("slotgate_backend_up{") == 4
        assert first.ask("GET", "k") == b"$2\r\n15\r\n"
        first.ask("SELECT", 4)
        assert first.ask("GET", "k") == b"$1\r\n4\r\n"
    assert eventually(lambda: descriptors(proxy) < before)
