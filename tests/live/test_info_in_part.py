"""What clients ask before they do anything (INFO, CONFIG GET, HELLO): while a shard is away, and of what it is made."""

import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.devservers.servers import LOOPBACK, LocalShards, start_many
from tests.live.keyspace import info
from tests.live.nodejs import node
from tests.support.binaries import FULL
from tests.support.fixtures import Serve, find
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site, shard_tags
from tests.support.wire import Wire

pytestmark = pytest.mark.live

SOON = '[backend]\nretry_deadline = "300ms"\nconnect_timeout = "1s"\n'
KEYS = [f"{{{tag}}}k" for tag in shard_tags()]
OK = b"+OK\r\n"


@pytest.fixture
def shards() -> Iterator[LocalShards]:
    """Three of a test's own."""
    with start_many(3, 0, binary=find(FULL[0]), options=("save ''",)) as servers:
        yield servers


class _Loads(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline():
            count = int(line[1:])
            args = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(count)]
            if args[0].upper() == b"HELLO":
                self.wfile.write(b"*2\r\n$5\r\nproto\r\n:2\r\n" if args[1] == b"2" else b"%1\r\n$5\r\nproto\r\n:3\r\n")
            else:
                self.wfile.write(b"-LOADING Redis is loading the dataset in memory\r\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@pytest.fixture
def loading() -> Iterator[str]:
    """A server that loads its data; its address."""
    with _Server((LOOPBACK, 0), _Loads) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"{LOOPBACK}:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _listens(proxy: ProxyProcess) -> bool:
    try:
        Wire(proxy.address).close()
    except OSError:
        return False
    return True


def answers_in_part(proxy: ProxyProcess) -> dict[str, dict[str, str]]:
    """INFO once it says that something is missing. It is never an error."""
    found: dict[str, dict[str, str]] = {}

    def missing() -> bool:
        with Wire(proxy.address) as client:
            found.clear()
            found.update(info(client))
        return "slotgate_missing" in found["Slotgate"]

    assert eventually(missing)
    return found


def test_while_a_shard_is_down(shards: LocalShards, serve: Serve, installed: Path) -> None:
    proxy = serve("--static", shards.static, config=SOON)
    with Wire(proxy.address) as client:
        for key in KEYS:
            assert client.ask("SET", key, 1) == OK
        assert "slotgate_missing" not in info(client)["Slotgate"]
    shards.primaries[1].kill()
    said = answers_in_part(proxy)
    assert "shard-2" in said["Slotgate"]["slotgate_missing"]
    assert "shard-1" not in said["Slotgate"]["slotgate_missing"]
    assert said["Persistence"]["loading"] == "0"
    assert said["Keyspace"]["db0"].startswith("keys=2,")
    with Wire(proxy.address, protocol=3) as client:
        assert "slotgate_missing" in info(client, "keyspace")["Slotgate"]
        assert client.value("CONFIG", "GET", "maxmemory") == {b"maxmemory": b"0"}
        begin = time.monotonic()
        for _ in range(20):
            assert b"slotgate_missing" in client.ask("INFO")
        assert time.monotonic() - begin < 10  # none of them waits
    script = (
        "const R = require('ioredis'); const [h, p, k] = process.argv.slice(1); const r = new R(p, h);"
        "r.get(k).then(v => { console.log(v); r.disconnect(); })"
    )
    host, _, port = proxy.address.rpartition(":")
    ran = subprocess.run(
        [node(), "-e", script, host, port, KEYS[0]],
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout == "1\n", ran.stderr
    shards.primaries[1].start()
    with Wire(proxy.address) as client:
        assert eventually(lambda: "slotgate_missing" not in info(client)["Slotgate"])


def test_while_all_are_down(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static, config=SOON)
    for server in shards.primaries:
        server.kill()
    said = answers_in_part(proxy)
    assert said["Server"]["redis_version"] == shards.binary.version
    assert all(f"shard-{number}" in said["Slotgate"]["slotgate_missing"] for number in (1, 2, 3))


@pytest.mark.parametrize("alone", [False, True])
def test_while_a_shard_loads(shards: LocalShards, serve: Serve, loading: str, alone: bool) -> None:
    others = [] if alone else [server.address for server in shards.primaries[:2]]
    proxy = serve("--static", ",".join([*others, loading]), config=SOON, ready=False)
    assert eventually(lambda: _listens(proxy))
    said = answers_in_part(proxy)
    assert said["Persistence"]["loading"] == "1"
    assert f"shard-{len(others) + 1}" in said["Slotgate"]["slotgate_missing"]
    if others:
        with Wire(proxy.address) as client:
            assert client.value("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]


def test_settings_that_differ(shards: LocalShards, serve: Serve) -> None:
    for server, events in zip(shards.primaries, ("AKE", "KEgx", "KxEl"), strict=True):
        assert server.ask("CONFIG", "SET", "notify-keyspace-events", events) == b"OK"
    assert shards.primaries[2].ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru") == b"OK"
    proxy = serve("--static", shards.static)
    with Wire(proxy.address) as client:
        for _ in range(3):
            assert client.value("CONFIG", "GET", "notify-*") == [b"notify-keyspace-events", b"xKE"]
            assert client.value("CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"noeviction"]
            client.ask("CONFIG", "GET", "*")
    said = [line for line in proxy.log.splitlines() if "have different settings" in line]
    assert len(said) == 2, said  # once each, and none of what each server has for itself
    assert "setting=maxmemory-policy shard-1='noeviction' shard-2='noeviction' shard-3='allkeys-lru'" in "".join(said)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_process_it_says_it_is(shards: LocalShards, serve: Serve, workers: int) -> None:
    proxy = serve("--static", shards.static, "--workers", str(workers), config="[limits]\nmax_clients = 100\n")
    port = proxy.address.rpartition(":")[2]
    seen = set()
    for _ in range(8):
        with Wire(proxy.address) as client:
            said = info(client, "server")["Server"]
            assert said["tcp_port"] == port
            assert said["process_id"] == str(proxy.pid)
            assert said["config_file"].startswith("/")
            assert Path(said["config_file"]).is_file()
            assert int(said["uptime_in_seconds"]) < 60
            seen.add(said["run_id"])
    (run_id,) = seen
    assert len(run_id) == 40
    assert run_id not in {server.info("server")["run_id"] for server in shards.primaries}


def test_modules(site: Site) -> None:
    """HELLO and MODULE LIST say the same."""
    for protocol in (2, 3):
        with site.client(protocol) as client, site.direct(protocol) as direct:
            listed = direct.ask("MODULE", "LIST")
            assert client.ask("MODULE", "LIST") in (listed, b"*0\r\n")
            assert client.ask("HELLO", protocol).endswith(b"$7\r\nmodules\r\n" + client.ask("MODULE", "LIST"))


def test_what_every_shard_has_is_counted_once(site: Site) -> None:
    """As a client that loads a script, a library, and tracks keys would see it on one server."""
    library = "#!lua name=mine\nredis.register_function('one', function() return 1 end)\n"
    library += "redis.register_function('two', function() return 2 end)"
    with site.client(3) as client:
        assert client.ask("SCRIPT", "FLUSH") == OK
        client.ask("SCRIPT", "LOAD", "return 1")
        client.ask("FUNCTION", "LOAD", library)
        assert client.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a", "PREFIX", "b") == OK
        said = info(client, "all")
        memory, stats, clients = said["Memory"], said["Stats"], said["Clients"]
        assert (memory["number_of_cached_scripts"], memory["number_of_libraries"]) == ("1", "1")
        assert memory["number_of_functions"] == "2"
        assert (clients["tracking_clients"], stats["tracking_total_prefixes"]) == ("1", "2")
        assert client.ask("CLIENT", "TRACKING", "OFF") == OK
        assert info(client, "clients")["Clients"]["tracking_clients"] == "0"
