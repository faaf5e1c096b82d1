"""The admin port in the process that serves clients, or in the supervisor: the sockets, and the admin process.

A scrape costs the loop of this process under a millisecond, for collecting the numbers. Making their text takes five
times as long and would hold up every client, so another process does that (docs/decisions/0035-admin-port.md).
"""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from proxy.config import AdminSection, Config
from proxy.transport.listeners import Listeners, listen
from proxy.worker.child import start
from proxy.worker.control_channel import Channel
from proxy.worker.metric_snapshot import Overview

log = logging.getLogger(__name__)

_MODULE = "proxy.worker.admin_process"
_WAIT_MIN, _WAIT_MAX = 0.05, 5.0
_YOUNG = 5.0
"""In seconds. If the admin process ends earlier, its successor starts later, because it may end early too."""
_GRACE = 2.0
"""The seconds that the admin process may take to end before it is killed."""


async def _runs(_: float) -> str:
    """Report that no client waits: the loop that answers is the loop that serves."""
    return ""


class AdminPort:
    """The sockets of ``config.admin``, and the process that answers there from ``look`` and ``stuck``.

    ``look`` returns the state of the workers. ``stuck`` returns why clients wait, "" if they do not; its argument is
    the seconds that the workers may take to answer.
    """

    def __init__(
        self, config: Config, look: Callable[[], Awaitable[Overview]], stuck: Callable[[float], Awaitable[str]] = _runs
    ) -> None:
        self._config = config
        self._look = look
        self._stuck = stuck
        self._listeners: Listeners
        self._channel: Channel | None = None
        self._draining = False
        self._ending = False

    def __repr__(self) -> str:
        return f"AdminPort({self._config.admin}, running={self._channel is not None})"

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Answer at the configured address, if there is one. Raises SlotgateError if the address can not be used."""
        admin = self._config.admin
        if admin.address is None:
            yield
            return
        with _umask(admin):
            self._listeners = listen([admin.address])
        keeping = asyncio.create_task(self._keep(), name="keep the admin port")
        try:
            yield
        finally:
            self._ending = True
            # A process that is being started, or waited for, ends without being told, because it has lost its channel.
            if self._channel is not None:
                await self._channel.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * _GRACE):
                    await asyncio.gather(keeping, return_exceptions=True)
            self._listeners.close()

    def drain(self) -> None:
        """Report from here on that the proxy is not ready, because it is about to stop."""
        self._draining = True
        if self._channel is not None:
            self._channel.tell("drain")

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        wait = 0.0
        while not self._ending:
            began = loop.time()
            end = await self._live()
            if self._ending:
                return
            lived = loop.time() - began
            wait = 0.0 if lived > _YOUNG else min(max(2 * wait, _WAIT_MIN), _WAIT_MAX)
            log.error("the admin port's process ended %s lived=%.1fs restart_in=%gs", end, lived, wait)
            await asyncio.sleep(wait)

    async def _live(self) -> str:
        """Run one admin process until it ends, and return how it ended."""
        sockets = [each.fileno() for _, each in self._listeners.of(0)]
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            return f"error={error.strerror!r}"
        try:
            process = start(_MODULE, "slotgate-admin", theirs.fileno(), sockets)
        except OSError as error:
            ours.close()
            return f"error={error.strerror!r}"
        finally:
            theirs.close()
        told = self._told(sockets)
        handlers = {"start": lambda _: told, "look": self._answer_look, "stuck": self._stuck}
        self._channel = channel = await Channel.open(ours, handlers)
        if self._draining:
            channel.tell("drain")
        if self._ending:
            await channel.close()
        await channel.run()
        self._channel = None
        return await _ended(process)

    async def _answer_look(self, _: object) -> dict[str, Any]:
        return (await self._look()).plain()

    def _told(self, sockets: list[int]) -> dict[str, Any]:
        """Return the settings that the admin process asks for at its start."""
        config, admin = self._config, self._config.admin
        assert admin.address is not None
        own_name = [] if admin.address.unix else [admin.address.host]
        certificate = [admin.tls_cert_file, admin.tls_key_file] if admin.tls_cert_file else None
        return {
            "log": [config.log.level, config.log.format],
            "sockets": sockets,
            "hosts": [*admin.hosts, *own_name],
            "tokens": [secret.get_secret_value() for secret in admin.token_sha256],
            "username": admin.username,
            "passwords": [secret.get_secret_value() for secret in admin.password_sha256],
            "certificate": certificate,
            "connections": admin.max_connections,
            "timeout": admin.timeout,
            "ready_when": config.ready_when,
        }


@contextlib.contextmanager
def _umask(admin: AdminSection) -> Iterator[None]:
    """Set the umask, so that a unix socket has its mode from the start; chmod would be a moment late."""
    if admin.mode is None:
        yield
        return
    before = os.umask(0o777 & ~admin.mode)
    try:
        yield
    finally:
        os.umask(before)


async def _ended(process: subprocess.Popen[bytes]) -> str:
    """Return how the process ended. A process that does not end is killed."""
    try:
        await asyncio.wait_for(asyncio.to_thread(process.wait), _GRACE)
    except TimeoutError:
        process.kill()
        await asyncio.to_thread(process.wait)
    return f"pid={process.pid} exit={process.returncode}"
