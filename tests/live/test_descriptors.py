"""File descriptors: clients never use up what servers and operators need, and are told when there are no more."""

import contextlib
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.devservers.servers import LOOPBACK, free_port
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site
from tests.support.wire import Wire, pack

pytestmark = pytest.mark.live

FULL = b"-ERR max number of clients reached\r\n"
PONG = b"+PONG\r\n"
MANY = 300


class Crowd:
    """Many clients at once: those that were let in, each of which has been answered, and what the others were told."""

    def __init__(self, stack: ExitStack, address: str, count: int = MANY) -> None:
        wires = [stack.enter_context(Wire(address)) for _ in range(count)]
        self.inside: list[Wire] = []
        self.told: list[bytes] = []
        for wire in wires:
            try:
                with contextlib.suppress(ConnectionError):  # it may be closed already; what it was told is there
                    wire.send(pack("PING"))
                first = wire.reply()
            except ConnectionError as error:
                self.told.append(repr(error).encode())
                continue
            if first == PONG:
                self.inside.append(wire)
            else:
                self.told.append(first)
                wire.close()

    def check(self) -> None:
        """Nobody who was let in was dropped, and the others were told why they were not."""
        assert set(self.told) <= {FULL}, set(self.told)
        assert {wire.ask("PING") for wire in self.inside} == {PONG}
        for number, wire in enumerate(self.inside):
            assert wire.ask("SET", f"key:{number}", number) == b"+OK\r\n"
            assert wire.ask("CLIENT", "INFO").startswith(b"$")


def maxclients(wire: Wire) -> int:
    """As INFO says it."""
    found = re.search(rb"maxclients:(\d+)\r\n", wire.ask("INFO", "clients"))
    assert found is not None
    return int(found[1])


@pytest.fixture(params=["tcp", "unix"])
def listen(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the proxy listens."""
    if request.param == "tcp":
        yield f"{LOOPBACK}:{free_port()}"
        return
    with tempfile.TemporaryDirectory(prefix="slotgate-") as name:
        yield f"unix:{Path(name)}/proxy.sock"


@pytest.mark.parametrize("limit", [(128, 128), (64, 128)], ids=["hard", "soft"])
def test_more_clients_than_descriptors(site: Site, serve: Serve, listen: str, limit: tuple[int, int]) -> None:
    proxy = serve("--static", site.shards.static, listen=listen, files=limit)
    lowered = [line for line in proxy.log.splitlines() if "max_clients" in line and "128" in line]
    assert len(lowered) == 1, proxy.log
    with ExitStack() as stack:
        crowd = Crowd(stack, proxy.address)
        assert 20 <= len(crowd.inside) <= 110
        assert crowd.told == [FULL] * (MANY - len(crowd.inside))
        crowd.check()
        assert maxclients(crowd.inside[0]) == len(crowd.inside)
        found = crowd.inside[0].value("CONFIG", "GET", "maxclients")
        assert found == [b"maxclients", b"%d" % len(crowd.inside)]
        assert proxy.http("/healthz")[0] == 200
        assert proxy.http("/readyz")[0] == 200
        assert (
            f'slotgate_clients_rejected_total{{reason="max clients"}} {MANY - len(crowd.inside)}.0'
            in (proxy.http("/metrics")[1])
        )
        before = len(crowd.inside)
        for wire in crowd.inside[before // 2 :]:
            wire.close()
        assert eventually(lambda: f"slotgate_clients {before // 2}.0" in proxy.http("/metrics")[1])
        second = Crowd(stack, proxy.address)
        assert len(second.inside) == before - before // 2
        second.check()
        assert {wire.ask("PING") for wire in crowd.inside[: before // 2]} == {PONG}
    assert "Traceback" not in proxy.log


def test_servers_that_come_back_are_connected_to(site: Site, serve: Serve) -> None:
    """Also while there are as many clients as there may be."""
    proxy = serve("--static", site.shards.static, files=(128, 128))
    with ExitStack() as stack:
        crowd = Crowd(stack, proxy.address)
        for server in site.shards.primaries:
            server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        crowd.check()
        assert proxy.http("/readyz")[0] == 200
    assert "open files" not in proxy.log.partition("max_clients")[2].lower().partition("\n")[2]


def test_connections_of_their_own_do_not_use_them_up(site: Site, serve: Serve) -> None:
    """Clients that block, watch keys and track have connections to the servers for themselves."""
    proxy = serve("--static", site.shards.static, files=(128, 128))
    with ExitStack() as stack:
        crowd = Crowd(stack, proxy.address)
        waiting, refused = 0, []
        for number, wire in enumerate(crowd.inside[1:]):
            command: tuple[str | int, ...] = (
                ("BLPOP", f"list:{number}", 0),
                ("WATCH", f"key:{number}"),
                ("CLIENT", "TRACKING", "ON", "BCAST"),
            )[number % 3]
            wire.send(pack(*command))
            if wire.silent(0.1) and command[0] == "BLPOP":
                waiting += 1
            elif (reply := wire.reply()) != b"+OK\r\n":
                refused.append(reply)
        assert waiting
        assert refused
        assert all(b"descriptors" in said for said in refused), refused
        first = crowd.inside[0]
        for number in range(20):
            assert first.ask("SET", f"key:{number}", number) == b"+OK\r\n"
        assert first.ask("PUBLISH", "channel", "x") == b":0\r\n"
        assert first.ask("SCRIPT", "KILL").startswith(b"-NOTBUSY")
        assert proxy.http("/readyz")[0] == 200
    assert "Traceback" not in proxy.log


def test_several_workers(site: Site, serve: Serve) -> None:
    """Each has a limit of its own."""
    proxy = serve("--static", site.shards.static, "--workers", "2", files=(100, 100))
    with ExitStack() as stack:
        crowd = Crowd(stack, proxy.address)
        crowd.check()
        assert len(crowd.inside) >= 40
        assert maxclients(crowd.inside[0]) >= len(crowd.inside)
        assert proxy.http("/healthz")[0] == 200
    lines = [line for line in proxy.log.splitlines() if "max_clients" in line and "100" in line]
    assert len(lines) == 1, proxy.log
    assert "Traceback" not in proxy.log


def test_a_burst_while_metrics_are_asked(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, files=(128, 128))
    over = threading.Event()
    failures: list[object] = []
    asked = [0]

    def ask(path: str) -> Callable[[], None]:
        def run() -> None:
            while not over.is_set():
                try:
                    status, _ = proxy.http(path)
                except OSError as error:
                    failures.append(error)
                    return
                asked[0] += 1
                if status != 200:
                    failures.append((path, status))

        return run

    threads = [threading.Thread(target=ask(path)) for path in ("/metrics", "/healthz")]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            with ExitStack() as stack:
                Crowd(stack, proxy.address).check()
            assert eventually(lambda: "slotgate_clients 0.0" in proxy.http("/metrics")[1])
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert asked[0] > 10


def test_enough_of_them_is_not_worth_a_line(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config="[limits]\nmax_clients = 100\n", files=(64, 4096))
    with Wire(proxy.address) as client:
        assert maxclients(client) == 100
    assert "max_clients" not in proxy.log
    assert _limit(proxy) == 4096


def _limit(proxy: ProxyProcess) -> int:
    line = next(line for line in Path(f"/proc/{proxy.pid}/limits").read_text().splitlines() if "open files" in line)
    return int(line.split()[3])


def test_far_too_few(site: Site, serve: Serve) -> None:
    with pytest.raises(AssertionError, match=r"limit of open files"):
        serve("--static", site.shards.static, files=(36, 36))
