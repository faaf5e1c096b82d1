"""A proxy that stops: what balancers and clients see of it, and restarts that no client notices."""

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.live.nodejs import install_clients
from tests.live.rolling_clients import RollingClients
from tests.support.fixtures import Serve
from tests.support.haproxy import HAProxy
from tests.support.processes import eventually, within
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site
from tests.support.wire import Wire, pack, pipeline, wait_until_refused

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
DRAINING = (503, "draining: the proxy is about to stop\n")


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def ends_within(proxy: ProxyProcess, seconds: float) -> float:
    """Wait for the end of a proxy that was told to stop; return how long it took."""
    return within(lambda: not proxy.running, seconds)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_clients_are_accepted_during_the_delay(site: Site, serve: Serve, workers: str) -> None:
    config = "shutdown_delay = '700ms'\ndrain_timeout = '3s'\n"
    proxy = serve("--static", site.shards.static, "--workers", workers, config=config)
    with Wire(proxy.address) as before:
        assert before.ask("PING") == PONG
        proxy.signal(signal.SIGTERM)
        assert eventually(lambda: proxy.http("/readyz") == DRAINING)
        assert proxy.http("/healthz")[0] == 200
        for _ in range(4):
            with Wire(proxy.address) as client:
                assert client.ask("SET", "k", 1) == OK
        assert before.ask("PING") == PONG
        assert before.closed()
    assert ends_within(proxy, 5) < 2
    proxy.stop()


@pytest.mark.parametrize(
    ("workers", "number", "config"),
    [
        ("1", signal.SIGTERM, "shutdown_delay = '60s'\n"),
        ("1", signal.SIGINT, "drain_timeout = '60s'\n"),
        ("2", signal.SIGTERM, "drain_timeout = '60s'\n"),
    ],
    ids=["while it waits", "while it drains", "two workers"],
)
def test_a_second_signal_ends_it_at_once(
    site: Site, serve: Serve, workers: str, number: signal.Signals, config: str
) -> None:
    proxy = serve("--static", site.shards.static, "--workers", workers, config=config)
    with Wire(proxy.address) as blocked:
        blocked.send(pack("BLPOP", "never", 0))
        proxy.signal(signal.SIGTERM)
        assert eventually(lambda: proxy.http("/readyz") == DRAINING)
        time.sleep(0.1)
        assert proxy.running
        proxy.signal(number)
        assert blocked.closed()
    assert ends_within(proxy, 5) < 2
    assert "a second signal: ending at once" in proxy.log
    proxy.stop()


STATES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "a transaction": (("MULTI",), ("SET k 1", "GET k"), ("EXEC",)),
    "a watch": (("WATCH k",), ("GET k", "PING"), ("UNWATCH",)),
    "a subscription": (("SUBSCRIBE news",), ("PING",), ("UNSUBSCRIBE news",)),
}


@pytest.mark.parametrize("state", STATES)
def test_nobody_is_closed_inside_of(site: Site, serve: Serve, state: str) -> None:
    """The client is served, and closed behind the last reply."""
    begin, inside, end = STATES[state]
    proxy = serve("--static", site.shards.static, config="drain_timeout = '10s'\n")
    with Wire(proxy.address) as client, Wire(proxy.address) as idle:
        assert idle.ask("PING") == PONG
        for command in begin:
            client.ask(*command.split())
        proxy.signal(signal.SIGTERM)
        wait_until_refused(proxy.address)
        assert idle.closed()
        time.sleep(0.2)
        for command in inside:
            assert not client.ask(*command.split()).startswith(b"-")
        client.send(pack(*end[0].split()))
        assert client.rest().startswith((b"*", b"+"))
    assert ends_within(proxy, 5) < 2
    proxy.stop()


def test_nobody_is_closed_inside_of_a_block_or_a_request(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config="drain_timeout = '10s'\n")
    with Wire(proxy.address) as blocked, Wire(proxy.address) as half, site.direct() as direct:
        half.send(pack("SET", "half", "v" * 100)[:50])
        blocked.send(pack("BLPOP", "list", 0))
        assert eventually(lambda: b"blocked_clients:1" in _info(proxy))
        proxy.signal(signal.SIGTERM)
        wait_until_refused(proxy.address)
        assert half.silent()
        half.send(pack("SET", "half", "v" * 100)[50:])
        assert half.rest() == OK
        assert blocked.silent()
        for primary in site.shards.primaries:
            with Wire(primary.address) as server:
                server.ask("RPUSH", "list", "x")
        assert blocked.rest() == b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n"
        assert direct.ask("PING") == PONG
    assert ends_within(proxy, 5) < 2
    proxy.stop()
    for primary in site.shards.primaries:
        with Wire(primary.address) as server:
            server.ask("DEL", "list")


def _info(proxy: ProxyProcess) -> bytes:
    with Wire(proxy.address) as client:
        return client.ask("INFO", "clients")


def test_who_does_not_leave_is_closed_at_the_deadline(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config="drain_timeout = '600ms'\n")
    with Wire(proxy.address) as blocked, Wire(proxy.address) as listens, Wire(proxy.address) as queues:
        listens.ask("SUBSCRIBE", "news")
        queues.ask("MULTI")
        blocked.send(pack("BLPOP", "never", 0))
        assert eventually(lambda: b"blocked_clients:1" in _info(proxy))
        began = time.monotonic()
        proxy.signal(signal.SIGTERM)
        assert [each.rest() for each in (blocked, listens, queues)] == [b""] * 3
        assert 0.5 < time.monotonic() - began < 3
    assert ends_within(proxy, 5) < 2
    proxy.stop()


def test_a_long_pipeline_is_answered(site: Site, serve: Serve) -> None:
    """Its end is written after the proxy was told to stop."""
    proxy = serve("--static", site.shards.static, config="drain_timeout = '10s'\n")
    with Wire(proxy.address) as client:
        requests = pipeline(*(("SET", f"k{number}", "v" * 500) for number in range(4000)))
        client.send(requests[:1_000_010])
        proxy.signal(signal.SIGTERM)
        wait_until_refused(proxy.address)
        client.send(requests[1_000_010:])
        assert client.rest() == OK * 4000
    proxy.stop()


def test_idle_clients_leave_one_by_one(site: Site, serve: Serve, stack: contextlib.ExitStack) -> None:
    proxy = serve("--static", site.shards.static, config="drain_timeout = '1s'\n")
    clients = [stack.enter_context(Wire(proxy.address)) for _ in range(60)]
    assert {client.ask("PING") for client in clients} == {PONG}
    began = time.monotonic()
    proxy.signal(signal.SIGTERM)
    left = []
    for client in clients:
        assert client.rest() == b""
        left.append(time.monotonic() - began)
    assert left[30] - left[0] > 0.2
    assert left[-1] - left[30] > 0.2
    proxy.stop()


def idle(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 5)


def half(address: str) -> socket.socket:
    link = idle(address)
    link.sendall(b"GET /metrics HTTP/1.1\r\nHos")
    return link


def unread(address: str) -> socket.socket:
    link = idle(address)
    link.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return link


def test_no_traceback_whatever_is_at_the_admin_port(site: Site, serve: Serve, stack: contextlib.ExitStack) -> None:
    proxy = serve("--static", site.shards.static)
    for number in range(100):
        stack.enter_context((idle, half, unread)[number % 3](proxy.admin))
    proxy.stop()  # it looks for tracebacks
    assert len(proxy.log.splitlines()) < 30


@pytest.mark.drill
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_traceback_of_800_at_the_admin_port(
    site: Site, serve: Serve, stack: contextlib.ExitStack, workers: str
) -> None:
    config = "[admin]\nmax_connections = 800\n"
    proxy = serve("--static", site.shards.static, "--workers", workers, config=config)
    for number in range(1000):
        stack.enter_context((idle, half, unread)[number % 3](proxy.admin))
    proxy.stop()
    assert len(proxy.log.splitlines()) < 50


# ---- restarts behind a balancer


class Rolling:
    """Proxies behind an HAProxy that asks each of them ``every`` so many milliseconds whether it is ready."""

    def __init__(self, site: Site, directory: Path, count: int, every: int, config: str) -> None:
        self._every = every / 1000
        self.proxies = [ProxyProcess(directory, "--static", site.shards.static, config=config) for _ in range(count)]
        checks = [
            f"{proxy.address} check port {proxy.admin.rpartition(':')[2]} inter {every}ms fall 1 rise 1"
            for proxy in self.proxies
        ]
        first, _, options = checks[0].partition(" ")
        servers = (f"server proxy-{number} {check}" for number, check in enumerate(checks[1:], 2))
        lines = ("option redispatch", "retries 3", "option httpchk GET /readyz", *servers)
        self.front = HAProxy(directory, first, options, more=lines)

    @contextlib.contextmanager
    def running(self) -> Iterator["Rolling"]:
        with contextlib.ExitStack() as stack:
            for proxy in self.proxies:
                stack.callback(proxy.kill)
            with ThreadPoolExecutor() as pool:
                list(pool.map(ProxyProcess.start, self.proxies))
            stack.enter_context(self.front.running())
            time.sleep(2 * self._every)
            yield self

    def restart(self, proxy: ProxyProcess) -> None:
        """Restart one proxy, and wait until the balancer has noticed."""
        proxy.stop()
        proxy.start()
        time.sleep(2 * self._every)


def test_rolling_restarts(site: Site, tmp_path: Path) -> None:
    """With checks ten times a second; the drill has more of everything."""
    script = install_clients()
    config = "shutdown_delay = '400ms'\ndrain_timeout = '300ms'\n"
    with Rolling(site, tmp_path, 2, 100, config).running() as rolling:
        with RollingClients(rolling.front.port, 4, script) as clients:
            for proxy in rolling.proxies:
                rolling.restart(proxy)
        assert not clients.failed
        assert min(clients.answered.values()) > 50


@pytest.mark.drill
@pytest.mark.timeout(1200)
def test_ten_rolling_restarts_of_three_proxies(site: Site, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    script = install_clients()
    config = "shutdown_delay = '3s'\ndrain_timeout = '3s'\n"
    with Rolling(site, tmp_path, 3, 1000, config).running() as rolling:
        began = time.monotonic()
        with RollingClients(rolling.front.port, 25, script) as clients:
            for _ in range(10):
                for proxy in rolling.proxies:
                    rolling.restart(proxy)
        took = time.monotonic() - began
        reporter = request.config.pluginmanager.get_plugin("terminalreporter")
        assert reporter is not None
        reporter.write_line(f"30 restarts in {took:.0f} s: answered {clients.answered}, failed {len(clients.failed)}")
        assert not clients.failed
