"""The proxy in a process of its own, as an operator runs it, stopped by SIGTERM."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from proxy.compiled import engine
from proxy.config.environment import ENGINE
from proxy.devservers.process_guard import process_guard
from proxy.devservers.servers import LOOPBACK, free_port
from tests.support.secrets import Secrets, command_lines

_READY = 60.0
"""Seconds until the proxy must be ready: two workers need more than 15 seconds if ten other processes use the two
processors."""
_STOP = 15.0


_RELOADED = "configuration (?:not )?reloaded"


class ProxyProcess:
    """``slotgate serve`` with ``arguments`` (besides the addresses to listen at) and the TOML text ``config``.

    The log and the configuration file are in ``directory``. The process gets no SLOTGATE_ variables except those given
    and the one of the engine, which is that of the tests. ``listeners``: ``config`` names the listeners, of which
    ``listen`` is one, instead of the command line. ``files``: the soft and the hard limit of open files.
    """

    running_now: ClassVar[set["ProxyProcess"]] = set()
    """The processes that a failing test may have used."""
    program: tuple[str, ...] = ("-m", "proxy")
    """The arguments of Python that start the proxy."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        config: str = "",
        listen: str = "",
        listeners: bool = False,
        environment: Mapping[str, str] | None = None,
        files: tuple[int, int] | None = None,
    ) -> None:
        self.address = listen or f"{LOOPBACK}:{free_port()}"
        self.admin = f"{LOOPBACK}:{free_port()}"
        name = f"proxy-{self.admin.rpartition(':')[2]}"
        self._log = directory / f"{name}.log"
        self._directory = directory
        self._files = files
        self._arguments = [*([] if listeners else ["--listen", self.address]), *arguments]
        self.file = directory / f"{name}.toml"
        """The configuration file, if there is one."""
        if config:
            self.file.write_text(config)
            self._arguments += ["-c", str(self.file)]
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith("SLOTGATE_") or key == ENGINE
        }
        self._environment = {**inherited, **(environment or {})}
        Secrets.add_of_config(config, self._environment, directory)
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<ProxyProcess {self.address} admin={self.admin} {' '.join(self._arguments)}>"

    @property
    def log(self) -> str:
        """The log so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def port(self) -> int:
        """The port of the listener, if that is no unix socket."""
        return int(self.address.rpartition(":")[2])

    @contextlib.contextmanager
    def serving(self, *, ready: bool = True) -> Iterator[Self]:
        """Start the proxy as ``start`` does; at the end stop it in order, and kill it if that fails."""
        try:
            self.start(ready=ready)
            yield self
            self.stop()
        finally:
            self.kill()

    def start(self, *, ready: bool = True) -> None:
        """Start the proxy, and wait until every shard is reachable (``ready`` False: until it serves)."""
        command = [sys.executable, *self.program, "serve", "--admin", self.admin]
        if self._files is not None:
            soft, hard = self._files
            command = ["sh", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"', "sh", *command]
        self._process = process_guard().spawn(
            [*command, *self._arguments], cwd=self._directory, output=self._log, env=self._environment
        )
        self.running_now.add(self)
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline and self.running:
            if self._answers(200 if ready else 0):
                assert f'engine="{engine()}"' in self.http("/metrics")[1], "it is not the engine of the tests"
                self._shows_no_secret(command_lines(self.pid), "the command line")
                return
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"{self!r} did not become ready:\n{self.log}")

    def _answers(self, wanted: int) -> bool:
        with contextlib.suppress(OSError):
            status, _ = self.http("/readyz?all")
            return status == wanted or not wanted
        return False

    def stop(self) -> None:
        """Send SIGTERM; assert that the proxy ends by itself, with exit code 0 and no traceback in its log."""
        assert self._process is not None
        self.running_now.discard(self)
        self._shows_no_secret(command_lines(self.pid), "the command line")
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self!r} did not stop:\n{self.log}") from None
        assert code == 0, f"{self!r} ended with {code}:\n{self.log}"
        assert "Traceback" not in self.log, self.log
        self._shows_no_secret(self.log, "the log")

    def reload(self, config: str) -> None:
        """Write another configuration to the file, have the proxy read it again, and wait until it has."""
        Secrets.add_of_config(config, self._environment, self._directory)
        replaced = self.file.with_suffix(".new")
        replaced.write_text(config)
        replaced.replace(self.file)
        known = len(re.findall(_RELOADED, self.log))
        self.signal(signal.SIGHUP)
        deadline = time.monotonic() + _READY
        while len(re.findall(_RELOADED, self.log)) == known:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send the signal ``number``."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        self.running_now.discard(self)
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            Secrets.leaked += Secrets.shown_in(self.log, f"the log of {self!r}")

    def http(self, path: str, *, method: str = "GET", accept: str = "") -> tuple[int, str]:
        """The status and the body of a request to the admin port. Raises ``OSError`` if the port can not be reached."""
        request = urllib.request.Request(f"http://{self.admin}{path}", method=method, headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                body = answer.read().decode()
                self._shows_no_secret(body, path)
                return answer.status, body
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def _shows_no_secret(self, text: str, where: str) -> None:
        shown = Secrets.shown_in(text, where)
        assert not shown, shown

    def topology(self) -> list[dict[str, Any]]:
        """The shards in the reply of /topology."""
        shards: list[dict[str, Any]] = json.loads(self.http("/topology")[1])["shards"]
        return shards

    def nodes(self) -> list[dict[str, Any]]:
        """The servers in the reply of /topology."""
        return [node for shard in self.topology() for node in shard["nodes"]]


def metric(proxy: ProxyProcess, name: str, **labels: str) -> float:
    """The sum of the samples of a metric that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    _, text = proxy.http("/metrics")
    lines = [line for line in text.splitlines() if re.match(rf"{name}[ {{]", line)]
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in wanted))


def resident(proxy: ProxyProcess) -> int:
    """The resident memory of the proxy in bytes."""
    return int(Path(f"/proc/{proxy.pid}/statm").read_text().split()[1]) * 4096
