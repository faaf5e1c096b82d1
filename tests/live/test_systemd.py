"""Under systemd: a proxy that stands in a socket's and a service manager's place, and the units."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from proxy.devservers.servers import LocalShards, ServerBinary, start_many
from tests.support.fixtures import Serve
from tests.support.wire import Wire

pytestmark = pytest.mark.live

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
MOST_EXPOSED = 2.0


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    with start_many(2, 0, binary=binary) as started:
        yield started


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_service_manager_is_told(shards: LocalShards, serve: Serve, tmp_path: Path, workers: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        proxy = serve("--static", shards.static, "--workers", str(workers), environment=environment)
        heard = [manager.recv(200) for _ in range(4)]
        assert heard[0].startswith(b"READY=1\nSTATUS=serves ")
        assert heard[1:] == [b"WATCHDOG=1"] * 3
        with Wire(proxy.address) as client:
            assert client.ask("PING") == b"+PONG\r\n"
        proxy.signal(signal.SIGHUP)
        while (said := manager.recv(200)) == b"WATCHDOG=1":
            pass
        assert said.startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        while (said := manager.recv(200)) == b"WATCHDOG=1":
            pass
        assert said.startswith(b"READY=1\n")
        proxy.stop()
        while (said := manager.recv(200)) == b"WATCHDOG=1":
            pass
        assert said.startswith(b"STOPPING=1\n")


def _heard(manager: socket.socket) -> bool:
    try:
        return bool(manager.recv(200))
    except TimeoutError:
        return False


def test_a_loop_that_is_stuck_is_not_alive(shards: LocalShards, serve: Serve, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0.7)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        proxy = serve("--static", shards.static, environment=environment)
        proxy.signal(signal.SIGSTOP)
        try:
            while _heard(manager):
                pass
        finally:
            proxy.signal(signal.SIGCONT)
        manager.settimeout(20)
        assert manager.recv(200) == b"WATCHDOG=1"


_PASSES_ON = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_socket_that_systemd_has_opened(shards: LocalShards, serve: Serve, tmp_path: Path, workers: int) -> None:
    """Clients that connect while the proxy is away wait, and are served by the next one."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as given:
        address = f"127.0.0.1:{given.getsockname()[1]}"
        admin = tmp_path / "admin.sock"
        command = ["-m", "proxy", "serve", "--listen", address, "--static", shards.static, "--workers", str(workers)]

        def start(log: BinaryIO) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [sys.executable, "-c", _PASSES_ON, sys.executable, *command, "--admin", f"unix:{admin}"],
                env={**os.environ, "LISTEN_FDS": "1"},
                preexec_fn=lambda: os.dup2(given.fileno(), 3) if given.fileno() != 3 else os.set_inheritable(3, True),
                pass_fds=(3,),
                stderr=log,
            )

        for number in range(2):
            with (tmp_path / "log").open("ab") as log, Wire(address, timeout=60) as client:
                process = start(log)
                try:
                    assert client.ask("INCR", f"n{workers}") == b":%d\r\n" % (number + 1)
                    process.terminate()
                    assert process.wait(30) == 0
                finally:
                    process.kill()
                    process.wait()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_units(tmp_path: Path) -> None:
    service = (UNITS / "slotgate.service").read_text()
    true = shutil.which("true")
    (tmp_path / "slotgate.service").write_text(re.sub(r"ExecStart=\S+", f"ExecStart={true}", service))
    shutil.copy(UNITS / "slotgate.socket", tmp_path)
    units = [str(tmp_path / name) for name in ("slotgate.service", "slotgate.socket")]
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
    known = "Failed to parse service type, ignoring: notify-reload"  # before systemd 253
    said = [line for line in verified.stderr.splitlines() if str(tmp_path) in line and known not in line]
    assert verified.returncode == 0, verified.stderr
    assert said == []
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", units[0]], capture_output=True, text=True, timeout=60
    )
    (level,) = re.findall(r"Overall exposure level for slotgate.service: ([\d.]+)", scored.stdout)
    assert float(level) <= MOST_EXPOSED
