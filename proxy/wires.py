"""The sockets of a worker: connections that clients make and those to servers, each with its protocol.

``LoopWires`` leaves them to the loop. ``EpollWires`` (epollwires.pyx: Linux, compiled) has transports of its own, with
the methods of ``asyncio.Transport`` that are used here: what the loop takes for each connection and each event is as
much as all else that the proxy does for a small request (docs/decisions/0009-compiled-engine.md).
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, cast

from proxy.enginekind import engine

_SERVER_IDLE = 30
"""Seconds without a word after which a server is asked whether it is there."""
_PROBES = 3


def keep_alive(link: socket.socket, idle: int = _SERVER_IDLE) -> None:
    """Have the system find out when the other side of a TCP connection is gone without a word: whoever waits on it for
    as long as it takes, as blocked clients do, would wait for ever. After ``idle`` seconds of silence it is asked three
    times, at intervals of a third of that, as Redis does (``tcp-keepalive``).

    What is accepted from a listening socket has the socket's settings (tcp(7)).
    """
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    settings = ("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", max(idle // _PROBES, 1)), ("TCP_KEEPCNT", _PROBES)
    for name, value in settings:
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Wires(Protocol):
    """All connections of a worker, to clients and to servers."""

    async def listen(self, listener: socket.socket, factory: Callable[[], object], backlog: int) -> None:
        """Take connections from ``listener``; each gets a protocol made by ``factory``."""

    async def connect(self, host: str, port: int, protocol: object) -> None:
        """Connect ``protocol`` to ``host:port``; to a unix socket, ``host``, if ``port`` is 0. Raises ``OSError``."""

    def stop_listening(self) -> None:
        """Take no more connections; those that stand go on."""


class LoopWires:
    """``Wires`` by the loop's own servers and transports."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._servers: list[asyncio.AbstractServer] = []

    async def listen(self, listener: socket.socket, factory: Callable[[], object], backlog: int) -> None:
        """Take connections from ``listener``; each gets a protocol made by ``factory``."""
        create = self._loop.create_unix_server if listener.family == socket.AF_UNIX else self._loop.create_server
        protocols = cast(Callable[[], asyncio.Protocol], factory)
        self._servers.append(await create(protocols, sock=listener, backlog=backlog))

    async def connect(self, host: str, port: int, protocol: object) -> None:
        """Connect ``protocol`` to ``host:port``; to a unix socket, ``host``, if ``port`` is 0. Raises ``OSError``."""
        wanted = cast(asyncio.Protocol, protocol)
        if port:
            transport, _ = await self._loop.create_connection(lambda: wanted, host, port)
            if (link := transport.get_extra_info("socket")) is not None:
                keep_alive(link)
        else:
            await self._loop.create_unix_connection(lambda: wanted, host)

    def stop_listening(self) -> None:
        """Take no more connections; those that stand go on."""
        for server in self._servers:
            server.close()
        self._servers.clear()


def best_wires(loop: asyncio.AbstractEventLoop) -> Wires:
    """The fastest there is here."""
    if engine() == "python":
        return LoopWires(loop)  # the other may still be found (an editable install looks for itself), and does not fit
    try:
        from proxy.epollwires import EpollWires
    except ImportError:
        return LoopWires(loop)
    return EpollWires(loop)
