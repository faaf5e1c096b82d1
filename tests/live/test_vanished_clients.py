"""Clients that are gone without a word: their machine lost its power, or a firewall forgot their connection."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.devservers.servers import free_port
from tests.live.client_lists import until_blocked
from tests.support.drilled import drilled
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.site import Site
from tests.support.wire import Wire

pytestmark = pytest.mark.live

# Connects, sends a request, says so, and stays until its input ends.
_CLIENT = """
import socket, sys
link = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
link.sendall(sys.argv[3].encode().decode("unicode_escape").encode())
print("sent", flush=True)
sys.stdin.read()
"""


def timers(port: int) -> list[str]:
    """What ``ss`` says of the timers of connections to ``port`` of this machine, as the proxy has them."""
    if (ss := shutil.which("ss")) is None:
        pytest.skip("ss is missing: install iproute2")
    said = subprocess.run([ss, "-Htno", "sport", "=", f":{port}"], capture_output=True, text=True, check=True).stdout
    return [word for line in said.splitlines() for word in [line.partition("timer:")[2]]]


@pytest.mark.parametrize("workers", [1, 2])
def test_silent_clients_are_asked_as_redis_asks_them(site: Site, serve: Serve, workers: int) -> None:
    proxy = serve("--static", site.shards.static, "--workers", str(workers))
    clients = [Wire(proxy.address) for _ in range(6)]
    try:
        assert {client.ask("PING") for client in clients} == {b"+PONG\r\n"}
        assert eventually(
            lambda: [timer[:12] for timer in timers(proxy.port)] == ["(keepalive,4"] * len(clients)  # 4 min and so on
        ), timers(proxy.port)
    finally:
        for client in clients:
            client.close()


def test_they_are_not_asked_where_that_is_off(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config='[limits]\ntcp_keepalive = "0s"\n')
    with Wire(proxy.address) as client:
        assert client.ask("PING") == b"+PONG\r\n"
        assert eventually(lambda: timers(proxy.port) == [""]), timers(proxy.port)


def test_ipv6_clients_are_asked_too(site: Site, serve: Serve) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    serve("--static", site.shards.static, listen=f"[::1]:{port}", config='[limits]\ntcp_keepalive = "20s"\n')
    with socket.create_connection(("::1", port)) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
        assert eventually(lambda: [timer[:12] for timer in timers(port)] in (["(keepalive,1"], ["(keepalive,2"]))


@dataclass(frozen=True)
class Elsewhere:
    """A network of its own, reached at ``here`` from there, whose cable can be pulled."""

    name: str
    cable: str
    here: str

    def run(self, *command: str) -> list[str]:
        """The command that runs ``command`` there."""
        return ["ip", "netns", "exec", self.name, *command]

    def pull(self) -> None:
        """From now on nothing comes from there, and nothing gets there."""
        subprocess.run(self.run("ip", "link", "set", self.cable, "down"), check=True)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Another network, where that can be made: by root on Linux, with iproute2."""
    if shutil.which("ip") is None or os.geteuid():
        pytest.skip("a network namespace takes root, and ip from iproute2")
    number = os.getpid() % 60_000
    name, ours, theirs = f"slotgate{number}", f"sg{number}a", f"sg{number}b"
    net = f"10.{200 + number % 50}.{number // 256 % 256}"
    try:
        for line in (
            f"netns add {name}",
            f"link add {ours} type veth peer name {theirs} netns {name}",
            f"addr add {net}.1/30 dev {ours}",
            f"link set {ours} up",
            f"-n {name} addr add {net}.2/30 dev {theirs}",
            f"-n {name} link set {theirs} up",
        ):
            made = subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"no network namespace can be made here: ip {line}: {made.stderr.strip()}")
        yield Elsewhere(name, theirs, f"{net}.1")
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", ours], capture_output=True, check=False)


@contextlib.contextmanager
def client_there(elsewhere: Elsewhere, port: int, request: str) -> Iterator[None]:
    """A client in another network, that has sent ``request``."""
    command = elsewhere.run(sys.executable, "-c", _CLIENT, elsewhere.here, str(port), request)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path("/")) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == b"sent\n"
            yield
        finally:
            client.kill()


@pytest.mark.parametrize("request_", ["BLPOP list 0", drilled("BLMOVE {t}a {t}b LEFT RIGHT 0")])
def test_nothing_is_popped_for_a_client_that_vanished(
    site: Site, serve: Serve, elsewhere: Elsewhere, request_: str
) -> None:
    key = request_.split()[1]
    port = free_port()
    proxy = serve(
        "--static",
        site.shards.static,
        listen=f"{elsewhere.here}:{port}",
        config='protected_mode = false\n[limits]\ntcp_keepalive = "1s"\n',
    )
    with Wire(proxy.address) as other, client_there(elsewhere, port, request_ + "\\r\\n"):
        until_blocked(other)
        elsewhere.pull()
        until_blocked(other, 0)  # after 4 seconds
        assert other.ask("RPUSH", key, "element") == b":1\r\n"
        assert other.ask("LLEN", key) == b":1\r\n"
        assert eventually(lambda: b"connected_clients:1\r\n" in other.ask("INFO", "clients"))


@pytest.mark.drill
def test_a_client_that_is_there_is_not_closed_however_silent(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config='[limits]\ntcp_keepalive = "1s"\n')
    with Wire(proxy.address) as client:
        assert client.ask("PING") == b"+PONG\r\n"
        assert client.silent(5.5)
        assert client.ask("PING") == b"+PONG\r\n"
