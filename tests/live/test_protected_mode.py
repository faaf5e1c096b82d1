"""Protected mode: without passwords, clients of other machines are refused.

A client that connects to an address of this machine that is not loopback has that address itself, as a client of
another machine would have its own.
"""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.client import admission
from proxy.devservers.servers import LOOPBACK, free_port
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site
from tests.support.wire import Wire, pack

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
DENIED = f"-{admission.PROTECTED}\r\n".encode()
PASSWORD = '[[users]]\nname = "default"\npassword = "friend"\n'


@pytest.fixture(scope="module")
def network_host() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no network")
        host: str = probe.getsockname()[0]
    if host.startswith("127."):
        pytest.skip("this machine has no network")
    return host


def answer_at(host: str, port: int) -> bytes:
    """All that a client is sent that connects, and sends nothing."""
    with socket.create_connection((host, port), timeout=10) as client:
        data = b""
        while not data.endswith(b"\r\n") and (more := client.recv(4096)):
            data += more
        if data:
            assert client.recv(1) == b""
        return data


def rejected(proxy: ProxyProcess) -> bool:
    return 'slotgate_clients_rejected_total{reason="protected mode"} 1.0' in proxy.http("/metrics")[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_strangers_are_refused(site: Site, serve: Serve, network_host: str, workers: int) -> None:
    proxy = serve("--static", site.shards.static, "--workers", str(workers), listen=f"0.0.0.0:{free_port()}")
    assert answer_at(network_host, proxy.port) == DENIED
    with Wire(f"{LOOPBACK}:{proxy.port}") as local:
        assert local.ask("SET", "k", 1) == OK
    assert f"protected mode: 0.0.0.0:{proxy.port} accepts clients of this machine only" in proxy.log
    assert eventually(lambda: rejected(proxy))


def test_a_listener_on_the_network_only(site: Site, serve: Serve, network_host: str) -> None:
    proxy = serve("--static", site.shards.static, listen=f"{network_host}:{free_port()}")
    assert answer_at(network_host, proxy.port) == DENIED


@pytest.mark.parametrize(
    ("config", "first"),
    [(PASSWORD, b"-NOAUTH Authentication required.\r\n"), ("protected_mode = false\n", OK)],
    ids=["password", "off"],
)
def test_who_has_a_password_or_turns_it_off_is_reached(
    site: Site, serve: Serve, network_host: str, config: str, first: bytes
) -> None:
    proxy = serve("--static", site.shards.static, config=config, listen=f"0.0.0.0:{free_port()}")
    with socket.create_connection((network_host, proxy.port), timeout=10) as client:
        client.sendall(pack("SET", "k", 1))
        assert client.recv(1000) == first
    assert "protected mode" not in proxy.log


def test_a_default_user_without_password_beside_others(site: Site, serve: Serve, network_host: str) -> None:
    config = '[[users]]\nname = "default"\nnopass = true\n[[users]]\nname = "app"\npassword = "friend"\n'
    proxy = serve("--static", site.shards.static, config=config, listen=f"0.0.0.0:{free_port()}")
    assert answer_at(network_host, proxy.port) == DENIED


def test_no_default_user(site: Site, serve: Serve, network_host: str) -> None:
    config = '[[users]]\nname = "app"\npassword = "friend"\n'
    proxy = serve("--static", site.shards.static, config=config, listen=f"0.0.0.0:{free_port()}")
    with socket.create_connection((network_host, proxy.port), timeout=10) as client:
        client.sendall(pack("AUTH", "app", "friend"))
        assert client.recv(1000) == OK


@pytest.mark.parametrize(
    ("listen", "config", "said"),
    [
        ("0.0.0.0:6380", "", ["0.0.0.0:6380"]),
        ("10.1.2.3:6380", "", ["10.1.2.3:6380"]),
        ("0.0.0.0:6380", PASSWORD, []),
        ("0.0.0.0:6380", "protected_mode = false\n", []),
        ("127.0.0.1:6380", "", []),
        ("[::1]:6380", "", []),
        ("unix:/tmp/slotgate-checked.sock", "", []),
    ],
)
def test_check_says_it_first(tmp_path: Path, listen: str, config: str, said: list[str]) -> None:
    file = tmp_path / "checked.toml"
    file.write_text(config)
    arguments = ["check", "-c", str(file), "--listen", listen, "--static", "10.0.0.1:6379"]
    found = subprocess.run(
        [sys.executable, "-m", "proxy", *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [line.split()[1] for line in found.stdout.splitlines() if line.startswith("protected ")]
    assert lines == said
    assert not said or found.stdout.startswith("protected ")
