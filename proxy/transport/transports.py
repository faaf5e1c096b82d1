"""The connections of a worker, from clients and to servers, each with its protocol.

``LoopTransports`` uses the event loop's transports. ``EpollTransports`` (epoll.pyx: Linux, compiled) has its own, with
the methods of ``asyncio.Transport`` that the proxy uses: the event loop takes as much CPU time for each event as the
proxy does for all its other work on a small request (docs/decisions/0009-compiled-engine.md).
"""

import asyncio
import logging
import select
import socket
from collections.abc import Callable
from typing import Protocol, cast

from proxy.compiled import engine
from proxy.transport.descriptors import NO_ROOM, Spare
from proxy.transport.sockets import MOST_ACCEPTS, is_readable, keep_alive

log = logging.getLogger(__name__)

_ACCEPTS = 8
"""Connections that are accepted in a row before those beyond the limit are closed."""
_FULL_PAUSE = 1.0
"""Seconds until connections are accepted again after the descriptors ran out."""
_HUNG_UP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def is_over(transport: asyncio.BaseTransport) -> bool:
    """Whether the other side has closed the connection, even if the loop has not read that yet."""
    link = transport.get_extra_info("socket", transport)
    try:
        poll = select.poll()
        poll.register(link, _HUNG_UP)
    except (TypeError, ValueError):  # the transport has no socket, or none any more
        return transport.is_closing()
    return bool(poll.poll(0))


class Transports(Protocol):
    """All connections of a worker, to clients and to servers."""

    async def listen(
        self, listener: socket.socket, factory: Callable[[], object], backlog: int, turn_away: Callable[[], bytes]
    ) -> None:
        """Accept connections from ``listener``; each gets a protocol made by ``factory``. A connection for which no
        descriptor is left gets the bytes that ``turn_away`` returns, and is closed."""

    async def connect(self, host: str, port: int, protocol: object) -> None:
        """Connect ``protocol`` to ``host:port``; to a unix socket, ``host``, if ``port`` is 0. Raises ``OSError``."""

    def stop_listening(self) -> None:
        """Accept the connections that wait, and then no more; open ones stay open."""


class LoopTransports:
    """``Transports`` over the event loop's own. Connections are accepted here: the loop's servers would accept all that
    wait before the first one beyond the limit is closed, and use up the descriptors."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._listeners: dict[socket.socket, tuple[Callable[[], asyncio.Protocol], Callable[[], bytes]]] = {}
        self._accepting: set[asyncio.Task[object]] = set()
        self._spare: Spare | None = None

    async def listen(
        self, listener: socket.socket, factory: Callable[[], object], backlog: int, turn_away: Callable[[], bytes]
    ) -> None:
        """Accept connections from ``listener``; each gets a protocol made by ``factory``. A connection for which no
        descriptor is left gets the bytes that ``turn_away`` returns, and is closed."""
        listener.setblocking(False)
        listener.listen(backlog)
        self._spare = self._spare or Spare()
        self._listeners[listener] = cast(Callable[[], asyncio.Protocol], factory), turn_away
        self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> bool:
        """Accept a few connections. Returns False if that failed for want of descriptors, and has to wait."""
        factory, turn_away = self._listeners[listener]
        for _ in range(_ACCEPTS):
            try:
                link = listener.accept()[0]
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return True
            except OSError as error:
                if error.errno in NO_ROOM and self._spare is not None and self._spare.turn_away(listener, turn_away):
                    continue
                log.error("can not accept connections reason=%r", error.strerror)
                self._loop.remove_reader(listener)
                self._loop.call_later(_FULL_PAUSE, self._again, listener)
                return False
            link.setblocking(False)
            if link.family != socket.AF_UNIX:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._take(link, factory))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)
        return True

    async def _take(self, link: socket.socket, factory: Callable[[], asyncio.Protocol]) -> None:
        try:
            await self._loop.connect_accepted_socket(factory, link)
        except OSError as error:  # the connection is closed already
            link.close()
            log.debug("a new connection failed reason=%r", error.strerror)

    def _again(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

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
        """Accept the connections that wait, and then no more; open ones stay open."""
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            # A connection that waits in a socket that is closed would be reset.
            for _ in range(MOST_ACCEPTS):
                if not is_readable(listener) or not self._accept(listener):
                    break
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()


def best_transports(loop: asyncio.AbstractEventLoop) -> Transports:
    """The fastest transports available in this process."""
    if engine() == "python":
        return LoopTransports(
            loop
        )  # an editable install may still find the compiled module, which does not fit uncompiled ones
    try:
        from proxy.transport.epoll import EpollTransports
    except ImportError:
        return LoopTransports(loop)
    return EpollTransports(loop)
