"""Run by Python itself as a proxy of a test begins, if this folder is in PYTHONPATH: see ``tests.live.names``."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import uvloop

_libc = uvloop.Loop.getaddrinfo


def _names() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(Path(os.environ["TEST_NAMES"]).read_text())
    return found


async def _getaddrinfo(self: Any, host: Any, port: Any, **options: Any) -> Any:
    names = _names()
    if host not in names:
        return await _libc(self, host, port, **options)
    return [found for at in names[host] for found in socket.getaddrinfo(at, port, type=socket.SOCK_STREAM)]


setattr(uvloop.Loop, "getaddrinfo", _getaddrinfo)  # noqa: B010 - to a type checker it is no variable
if "TEST_UNUSED" in os.environ:
    from proxy.worker.server import Upkeep

    Upkeep.unused = float(os.environ["TEST_UNUSED"])
