"""systemd's protocol: what the service manager is told, and the sockets that it passes on."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.worker.systemd import ServiceManager, inherited


@pytest.mark.parametrize("abstract", [False, True])
def test_what_it_is_told(tmp_path: Path, abstract: bool) -> None:
    path = str(tmp_path / "notify") if not abstract else f"@slotgate-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + path[1:] if abstract else path)
        manager.settimeout(5)
        process = ServiceManager({"NOTIFY_SOCKET": path})
        process.ready("serves 2 shards")
        assert manager.recv(100) == b"READY=1\nSTATUS=serves 2 shards"
        process.reloading()
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        process.alive()
        assert manager.recv(100) == b"WATCHDOG=1"
        process.stopping("drains")
        assert manager.recv(100) == b"STOPPING=1\nSTATUS=drains"


def test_without_one_nothing_is_told() -> None:
    ServiceManager({}).ready("")
    ServiceManager({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready("")


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
    ],
)
def test_the_watchdog(variables: dict[str, str], seconds: float) -> None:
    """Without an address there is nobody to tell."""
    assert ServiceManager({"NOTIFY_SOCKET": "/run/x", **variables}).watchdog == seconds
    assert ServiceManager(variables).watchdog == 0


_TAKES = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from proxy.worker.systemd import inherited
print(*(each.getsockname()[1] for each in inherited()))
"""


def test_the_sockets_that_it_passes_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        kept = os.dup(one.fileno()), os.dup(other.fileno())

        def place() -> None:
            for descriptor, at in zip(kept, (3, 4), strict=True):
                os.dup2(os.dup(descriptor) if descriptor in (3, 4) else descriptor, at)

        try:
            said = subprocess.run(
                [sys.executable, "-c", _TAKES],
                env={**os.environ, "LISTEN_FDS": "2"},
                preexec_fn=place,
                pass_fds=(3, 4),
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout.split()
        finally:
            for descriptor in kept:
                os.close(descriptor)
        assert [int(port) for port in said] == [one.getsockname()[1], other.getsockname()[1]]


@pytest.mark.parametrize("variables", [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_PID": str(os.getpid())}])
def test_sockets_of_others(variables: dict[str, str]) -> None:
    assert inherited(variables) == []
