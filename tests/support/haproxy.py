"""HAProxy in a process of its own, in front of the proxy or of a server."""

import contextlib
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.devservers.process_guard import process_guard
from proxy.devservers.servers import LOOPBACK, free_port

_HEAD = """
global
    maxconn 1000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
"""
_READY = 20.0


class HAProxy:
    """An HAProxy that listens at ``address`` and passes everything on to ``server``.

    ``bind`` and ``options`` are further words of its "bind" and "server" lines, ``more`` are further lines. The test is
    skipped if there is no HAProxy.
    """

    def __init__(
        self,
        directory: Path,
        server: str,
        options: str = "",
        *,
        bind: str = "",
        host: str = LOOPBACK,
        more: tuple[str, ...] = (),
    ) -> None:
        self._program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
        if self._program is None:
            pytest.skip("no haproxy (Debian, Ubuntu: apt-get install haproxy)")
        self.port = free_port()
        self.address = f"{LOOPBACK}:{self.port}"
        self._directory = directory
        self._file = directory / f"haproxy-{self.port}.cfg"
        self._log = directory / f"haproxy-{self.port}.log"
        where = f"unix@{server.removeprefix('unix:')}" if server.startswith("unix:") else server
        lines = (*more, f"bind {host}:{self.port} {bind}", f"server it {where} {options}")
        self._file.write_text(_HEAD + "listen it\n" + "".join(f"    {line}\n" for line in lines))

    @contextlib.contextmanager
    def running(self) -> Iterator["HAProxy"]:
        """Start it, and end it at the end."""
        assert self._program is not None
        command: list[str | Path] = [self._program, "-db", "-f", self._file]
        process = process_guard().spawn(command, cwd=self._directory, output=self._log)
        try:
            deadline = time.monotonic() + _READY
            while not self._listens():
                assert process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, "haproxy does not listen"
                time.sleep(0.02)
            yield self
        finally:
            process.kill()
            process.wait()

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1.0):
            return True
        return False
