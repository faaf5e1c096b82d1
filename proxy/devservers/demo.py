"""The command ``slotgate demo``: real local servers with the proxy in front, until Ctrl-C, which removes everything.

The proxy is ``slotgate serve`` in a process of its own, as in production.
"""

import contextlib
import errno
import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from proxy.config import Address, parse_listen
from proxy.devservers.demosite import BRAND, DemoServers, Try, start
from proxy.devservers.process_guard import process_guard
from proxy.devservers.servers import LOOPBACK, free_port
from proxy.errors import SlotgateError

_READY_TIMEOUT = 15.0
# The proxy's drain with a busy client takes less in a demo; after this time the proxy is killed.
_DRAIN_TIMEOUT = 5.0
# Who listens or blocks in a demo is closed so soon.
_DRAIN = "1s"
_POLL = 0.05
_WIDEST = 60
_WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}


def run(shards: int, replicas: int, listen: str, topology: str) -> int:
    """Run the demo until SIGINT, SIGTERM or SIGHUP; return the exit code 0.

    Raises SlotgateError if the demo can not start, or if the proxy ends before a signal comes.
    """
    with _Stopped() as stopped:
        address = _check(shards, replicas, listen)
        with start(topology, shards, replicas) as servers, _proxy(servers, address) as proxy:
            if proxy.wait_ready(stopped):
                _print(_describe(servers, proxy))
                proxy.wait_end(stopped)
            _print("\nStopping the proxy and the servers.")
    return 0


def _check(shards: int, replicas: int, listen: str) -> Address:
    """The address to listen on, with a port. Raises SlotgateError for invalid arguments, before anything is started."""
    if shards < 1 or replicas < 0:
        raise SlotgateError("the demo takes at least 1 shard, and 0 or more replicas")
    try:
        address = parse_listen(listen)
    except ValueError as error:
        raise SlotgateError(f"--listen {error}") from error
    if address.unix:
        raise SlotgateError("--listen takes host:port here")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # The proxy sets this option too, so that connections of an earlier run in TIME_WAIT do not hold the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            return Address(address.host, probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = Address(address.host, free_port())
            raise SlotgateError(
                f"{address} is taken by another program; choose another address, for example: --listen {other}"
            ) from error
        raise SlotgateError(f"can not listen on {address}: {error.strerror}; choose another --listen") from error


class _Stopped:
    """Turns SIGINT, SIGTERM and SIGHUP into a flag that can be waited for, so that no step is interrupted."""

    def __init__(self) -> None:
        self.signalled = False

    def __enter__(self) -> "_Stopped":
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._wakeup_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # SIGCHLD is handled only so that it wakes up the wait.
        handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), self._stop)
        self._previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_fd)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

    def wait(self, timeout: float | None) -> None:
        """Wait for the next signal or a child's end, for at most ``timeout`` seconds."""
        if not self.signalled and select.select([self._reader], [], [], timeout)[0]:
            self._reader.recv(4096)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.signalled = True


@dataclass(frozen=True, slots=True)
class _Proxy:
    process: subprocess.Popen[bytes]
    address: Address
    admin: Address
    log: Path

    def wait_ready(self, stopped: _Stopped) -> bool:
        """Wait until the proxy answers PING and reaches every shard: True then, False if a signal came first.

        Raises SlotgateError if the proxy ends or is silent.
        """
        deadline = time.monotonic() + _READY_TIMEOUT
        while not stopped.signalled:
            self._check_runs()
            if self._answers():
                return True
            if time.monotonic() > deadline:
                raise SlotgateError(f"the proxy does not answer after {_READY_TIMEOUT:g} s{self._log_tail()}")
            stopped.wait(_POLL)
        return False

    def wait_end(self, stopped: _Stopped) -> None:
        """Wait for a signal. Raises SlotgateError if the proxy ends first."""
        while not stopped.signalled:
            self._check_runs()
            stopped.wait(None)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(_DRAIN_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _check_runs(self) -> None:
        code = self.process.poll()
        if code is not None:
            how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
            raise SlotgateError(f"the proxy ended {how}{self._log_tail()}")

    def _answers(self) -> bool:
        host = _WILDCARDS.get(self.address.host, self.address.host)
        with contextlib.suppress(OSError), socket.create_connection((host, self.address.port), 1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG") and self._has_shards()
        return False

    def _has_shards(self) -> bool:
        # urllib is not used, since it would go through an HTTP proxy of the environment.
        with contextlib.closing(http.client.HTTPConnection(self.admin.host, self.admin.port, timeout=1.0)) as admin:
            admin.request("GET", "/readyz?all")
            return admin.getresponse().status == http.HTTPStatus.OK

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-10:]
        return "".join(f"\n  {line}" for line in (["the end of its log:", *lines] if lines else []))


@contextlib.contextmanager
def _proxy(servers: DemoServers, address: Address) -> Iterator[_Proxy]:
    admin = Address(LOOPBACK, free_port())
    log = servers.directory / "proxy.log"
    package = Path(__file__).resolve().parents[2]
    # The flags are complete: a configuration in the environment is meant for another proxy.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLOTGATE_")}
    # The proxy runs from the same package as the demo, installed or not.
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), environ.get("PYTHONPATH")]))
    # Who has the demo listen on a network wants to connect from there.
    environ["SLOTGATE_DRAIN_TIMEOUT"] = _DRAIN
    environ["SLOTGATE_PROTECTED_MODE"] = "true" if address.loopback else "false"
    arguments = ["--listen", str(address), "--admin", str(admin), *servers.flags]
    process = process_guard().spawn(
        [sys.executable, "-m", "proxy", "serve", *arguments],
        cwd=servers.directory,
        output=log,
        env=environ,
    )
    proxy = _Proxy(process, address, admin, log)
    try:
        yield proxy
    finally:
        proxy.stop()


def _describe(servers: DemoServers, proxy: _Proxy) -> str:
    """The text that tells a newcomer what runs and which commands to try."""
    host = _WILDCARDS.get(proxy.address.host, proxy.address.host)
    port = proxy.address.port
    suffix = f"-p {port}" if host == LOOPBACK else f"-h {host} -p {port}"
    cli = f"{BRAND}-cli {suffix}"
    where = f"port={port}" if host == LOOPBACK else f"host={host!r}, port={port}"
    python = f"import redis; r = redis.Redis({where}); r.set('greeting', 'hello'); print(r.get('greeting'))"
    commands: list[Try] = [
        (f"{cli} mset a 1 b 2 c 3", "three keys, on as many shards, in one command"),
        (f"{cli} mget a b c", "their values, in the order of the keys"),
        (f"{cli} --scan", "the keys of all shards"),
        (f"{cli} dbsize", "their number"),
        (f"{BRAND}-benchmark {suffix} -t set,get -P 16 -q", "how fast it is"),
    ]
    lines = [
        f"Slotgate listens on {proxy.address}, in front of {servers.binary}:",
        "",
        *servers.lines,
        "",
        "Connect as to one Redis server:",
        f"  {cli}",
        f'  python -c "{python}"    # pip install redis',
        "",
        "Try:",
        *_columns(commands),
        "",
        *_changes(servers.changes),
        f"Watch:  http://{proxy.admin}/metrics  http://{proxy.admin}/readyz  http://{proxy.admin}/topology",
        f"Log:    {proxy.log}",
        "",
        "Ctrl-C stops everything and leaves nothing behind.",
    ]
    return "\n".join(lines)


def _changes(tries: Sequence[Try]) -> list[str]:
    return ["Change the servers while clients go on:", *_columns(tries), ""] if tries else []


def _columns(tries: Sequence[Try]) -> list[str]:
    """The commands and their meanings in two columns; the meaning of a long command stands above it."""
    width = max(len(command) for command, _ in tries if len(command) <= _WIDEST)
    lines = []
    for command, meaning in tries:
        fits = len(command) <= width
        lines += [f"  {command:{width}}  # {meaning}"] if fits else [f"  {'':{width}}  # {meaning}:", f"  {command}"]
    return lines


def _print(text: str) -> None:
    # A reader that is gone (`| head`, a closed terminal) must not keep the demo from stopping its servers.
    with contextlib.suppress(OSError):
        print(text, flush=True)
