"""The sockets of a worker: connections that clients make and those to servers, each with its protocol.

``LoopTransports`` leaves them to the loop. ``EpollTransports`` (epoll.pyx: Linux, compiled) has transports of its own,
with the methods of ``asyncio.Transport`` that are used here: what the loop takes for each connection and each event is
as much as all else that the proxy does for a small request (docs/decisions/0009-compiled-engine.md).
"""

import asyncio
import contextlib
import errno
import logging
import os
import select
import socket
from collections.abc import Callable
from typing import Protocol, cast

from proxy.compiled import engine

log = logging.getLogger(__name__)

NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Why a connection is not accepted though one waits: there are no descriptors left, or no memory."""
_ACCEPTS = 8
"""Connections that are accepted before those that are one too many are closed."""
_FULL_PAUSE = 1.0
"""Seconds until it is tried again to accept connections where there is no room for one more."""
_SERVER_IDLE = 30
"""Seconds without a word after which a server is asked whether it is there."""
_PROBES = 3
_HUNG_UP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


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


def is_over(transport: asyncio.BaseTransport) -> bool:
    """Whether the other side has closed the connection, though the loop has not come to read that yet."""
    link = transport.get_extra_info("socket", transport)
    try:
        poll = select.poll()
        poll.register(link, _HUNG_UP)
    except (TypeError, ValueError):  # it has no socket, or none any more
        return transport.is_closing()
    return bool(poll.poll(0))


class Transports(Protocol):
    """All connections of a worker, to clients and to servers."""

    async def listen(
        self, listener: socket.socket, factory: Callable[[], object], backlog: int, turn_away: Callable[[], bytes]
    ) -> None:
        """Take connections from ``listener``; each gets a protocol made by ``factory``. Where no descriptor is left for
        it, it is told what ``turn_away`` says, and closed."""

    async def connect(self, host: str, port: int, protocol: object) -> None:
        """Connect ``protocol`` to ``host:port``; to a unix socket, ``host``, if ``port`` is 0. Raises ``OSError``."""

    def stop_listening(self) -> None:
        """Take no more connections; those that stand go on."""


class Spare:
    """A descriptor that is kept for when there are no others: with it a connection is accepted, told so, and closed.

    Without it whoever connects would wait for an answer, and the listening socket would be ready all the time.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._have()

    def __del__(self) -> None:
        self.give()

    def give(self) -> bool:
        """Make room for one descriptor; whether that could be done."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return False
        os.close(descriptor)
        return True

    def _have(self) -> None:
        with contextlib.suppress(OSError):
            self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def turn_away(self, listener: socket.socket, words: Callable[[], bytes]) -> bool:
        """Accept a connection, say ``words()`` and close it; whether one could be accepted."""
        if self._descriptor is None:
            self._have()
        if not self.give():
            return False
        try:
            with listener.accept()[0] as link:
                link.setblocking(False)
                link.send(words())
        except OSError:
            return False
        finally:
            self._have()
        return True


class LoopTransports:
    """``Transports`` by the loop's own transports. It accepts by itself: the loop's servers would accept all that wait
    before the first of them is closed that is one too many, and use up the descriptors."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._listeners: dict[socket.socket, tuple[Callable[[], asyncio.Protocol], Callable[[], bytes]]] = {}
        self._accepting: set[asyncio.Task[object]] = set()
        self._spare: Spare | None = None

    async def listen(
        self, listener: socket.socket, factory: Callable[[], object], backlog: int, turn_away: Callable[[], bytes]
    ) -> None:
        """Take connections from ``listener``; each gets a protocol made by ``factory``. Where no descriptor is left for
        it, it is told what ``turn_away`` says, and closed."""
        listener.setblocking(False)
        listener.listen(backlog)
        self._spare = self._spare or Spare()
        self._listeners[listener] = cast(Callable[[], asyncio.Protocol], factory), turn_away
        self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        factory, turn_away = self._listeners[listener]
        for _ in range(_ACCEPTS):
            try:
                link = listener.accept()[0]
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in NO_ROOM and self._spare is not None and self._spare.turn_away(listener, turn_away):
                    continue
                log.error("can not accept connections reason=%r", error.strerror)
                self._loop.remove_reader(listener)
                self._loop.call_later(_FULL_PAUSE, self._again, listener)
                return
            link.setblocking(False)
            if link.family != socket.AF_UNIX:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._take(link, factory))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    async def _take(self, link: socket.socket, factory: Callable[[], asyncio.Protocol]) -> None:
        try:
            await self._loop.connect_accepted_socket(factory, link)
        except OSError as error:  # it is gone already
            link.close()
            log.debug("a connection could not be taken in reason=%r", error.strerror)

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
        """Take no more connections; those that stand go on."""
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()


def best_transports(loop: asyncio.AbstractEventLoop) -> Transports:
    """The fastest there is here."""
    if engine() == "python":
        return LoopTransports(
            loop
        )  # the other may still be found (an editable install looks for itself), and does not fit
    try:
        from proxy.transport.epoll import EpollTransports
    except ImportError:
        return LoopTransports(loop)
    return EpollTransports(loop)
