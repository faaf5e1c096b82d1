"""How a process that serves ends: what asks for the end, and how its clients leave.

::

    SIGTERM ──▶ shutdown_delay: /readyz is 503 already, and clients are still accepted
            ──▶ drain_timeout: nobody is accepted; the clients are served, and leave one by one
            ──▶ whoever is left is closed
    a second SIGTERM or SIGINT: whoever is left is closed at once

A client that is asked to leave is served until it is between two requests: with no request in flight or begun, and in
no transaction, watch, blocking command or subscription. Clients that are idle for longest leave first. Their leaving is
spread over the time, so that the proxies to which they move get them one by one too.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from typing import cast

from proxy.client.connection import ClientConnection
from proxy.transport.proxy_protocol import ProxyProtocol
from proxy.worker.service import Service

log = logging.getLogger(__name__)

_STEP = 0.02
"""Seconds between two looks at the clients."""
_SLOWEST = 0.1
"""The most seconds between two clients that are asked to leave: a few clients do not hold up the end."""
_SPREAD = 0.9
"""The part of ``drain_timeout`` over which clients are asked. The rest is for the last ones to end what they do."""
_NEW = 1.0
"""The seconds that a client has for its first request, from its connection on."""
_LOOKED_AT = 100
"""The most clients, of those that were asked, that are looked at again in one step."""


class End:
    """The wish to end this process, as signals and the supervisor express it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        """Set when nothing more may be waited for."""
        self._hurry = asyncio.Event()
        """Set when ``shutdown_delay`` is not waited for (any longer)."""
        self._signals = 0

    def __repr__(self) -> str:
        return f"End(asked={self.asked.is_set()}, at_once={self.at_once.is_set()}, {self._signals} signals)"

    def signalled(self) -> None:
        """Act on SIGTERM or SIGINT: the first one asks for the end, the second one for the end at once."""
        self._signals += 1
        if self._signals > 1:
            if not self.at_once.is_set():
                log.warning("a second signal: ending at once")
            self.now()
        self.asked.set()

    def drain(self) -> None:
        """Ask for the end without ``shutdown_delay``."""
        self._hurry.set()
        self.asked.set()

    def now(self) -> None:
        """Ask for the end at once."""
        self.at_once.set()
        self.drain()

    async def delay(self, seconds: float) -> None:
        """Wait for ``shutdown_delay``, unless the end has to come earlier."""
        if not seconds or self._hurry.is_set():
            return
        log.info("stopping: clients are accepted for shutdown_delay=%gs, while /readyz is 503", seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    async def outlast(self, tasks: "list[asyncio.Task[None]]", seconds: float) -> None:
        """Wait for all ``tasks``, for so many seconds at most, unless the end has to come at once."""
        if not tasks:
            return
        ended, at_once = asyncio.ensure_future(asyncio.wait(tasks)), asyncio.ensure_future(self.at_once.wait())
        try:
            await asyncio.wait((ended, at_once), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            at_once.cancel()


async def drain(service: Service, headers: ProxyProtocol, end: End) -> None:
    """Take no new clients, also none whose ``headers`` have not come, and have all clients leave within
    ``drain_timeout``. Return earlier if the ``end`` has to come at once."""
    timeout = service.config.drain_timeout
    log.info("draining clients=%d timeout=%gs", len(service.clients), timeout)
    service.transports.stop_listening()
    headers.close()
    leaving = Leaving(service, timeout)
    deadline = service.loop.time() + timeout
    while service.loop.time() < deadline and not end.at_once.is_set():
        leaving.step()
        if not len(service.clients):
            return
        await asyncio.sleep(_STEP)
    if end.at_once.is_set() or not len(service.clients):
        return
    log.info("closing the clients that are left clients=%d", len(service.clients))
    for at, client in enumerate(service.clients, 1):
        client.drain()
        if not at % _LOOKED_AT:
            await asyncio.sleep(0)
    await asyncio.sleep(_STEP)


class Leaving:
    """The clients of ``service`` while they leave, which may take ``timeout`` seconds in all."""

    def __init__(self, service: Service, timeout: float) -> None:
        self._service = service
        self._began = service.loop.time()
        self._newest = 0
        """The highest id of a client that was noted."""
        self._staying: deque[ClientConnection] = deque()
        """The clients that were not asked to leave yet, in the order in which they will be."""
        self._asked: deque[ClientConnection] = deque()
        """The clients that were asked to leave, and have not left."""
        self._asked_ever = 0
        self._note_new()
        self._staying = deque(sorted(self._staying, key=lambda client: client.last_active))
        self._every = min(_SLOWEST, _SPREAD * timeout / max(len(self._staying), 1))

    def __repr__(self) -> str:
        return f"Leaving({len(self._staying)} stay, {len(self._asked)} were asked to leave)"

    def step(self) -> None:
        """Ask those to leave whose turn it is, and look again at those that were asked."""
        self._note_new()
        passed = self._service.loop.time() - self._began
        due = int(passed / self._every) + 1 if self._every else len(self._staying) + self._asked_ever
        now = self._service.turn.now()
        for _ in range(min(len(self._asked), _LOOKED_AT)):
            client = self._asked.popleft()
            if not client.gone:
                client.leave()
                self._asked.append(client)
        for _ in range(len(self._staying)):
            if self._asked_ever >= due:
                break
            client = self._staying.popleft()
            if client.gone or client.closing:
                continue
            if not client.window.issued and now - client.created < _NEW:
                self._staying.append(client)
                continue
            self._asked_ever += 1
            client.leave()
            if not client.gone:
                self._asked.append(client)

    def _note_new(self) -> None:
        """Note the clients that have come since the last time: those whose TLS handshake has ended, for example."""
        known = self._newest
        found = []
        for client in cast(Iterator[ClientConnection], self._service.clients.newest_first()):
            if client.number <= known:
                break
            self._newest = max(self._newest, client.number)
            found.append(client)
        self._staying.extend(reversed(found))
