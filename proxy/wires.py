"""The client sockets of a worker: connections are taken from listening sockets, and each gets a protocol.

Here the loop's own servers and transports do it. The twin in wires.pyx, for Linux, has transports of its own, with the
methods of ``asyncio.Transport`` that clients use: what the loop's take for each connection and each event is as much
as all else that the proxy does for a small request (docs/decisions/0009-compiled-engine.md).
"""

import asyncio
import socket
from collections.abc import Callable
from typing import cast


class Wires:
    """All client connections of a worker. Made inside its running loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._servers: list[asyncio.AbstractServer] = []

    async def listen(self, listener: socket.socket, factory: Callable[[], object], backlog: int) -> None:
        """Take connections from ``listener``; each gets a protocol made by ``factory``."""
        create = self._loop.create_unix_server if listener.family == socket.AF_UNIX else self._loop.create_server
        protocols = cast(Callable[[], asyncio.Protocol], factory)
        self._servers.append(await create(protocols, sock=listener, backlog=backlog))

    def stop_listening(self) -> None:
        """Take no more connections; those that stand go on."""
        for server in self._servers:
            server.close()
        self._servers.clear()
