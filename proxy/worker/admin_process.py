"""The process of the admin port: HTTP and the text of ``/metrics``, away from the loop that serves clients.

The process is started by this module's name, and asks the other process for its settings::

    admin process                              the process that serves, or the supervisor
      "start"   ─────────────────────────────▶
                ◀──── the settings: addresses, credentials, limits
      "look"    ─────────────────────────────▶  the state of the workers as numbers; the text is made here
      "stuck"   ─────────────────────────────▶  why clients wait; the answer shows that the loop runs
                ◀──── "drain": from here on the proxy is not ready
                ◀──── the end of the channel: the admin process ends

The other process handles the signals. Few modules are imported, so that this process starts fast and stays small.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from proxy.transport.watched_files import WatchedFiles
from proxy.worker import logs
from proxy.worker.admin import Admin
from proxy.worker.admin_access import Access
from proxy.worker.admin_http import HttpServer
from proxy.worker.control_channel import Channel, ChannelError
from proxy.worker.metric_snapshot import Overview

log = logging.getLogger(__name__)

_START = 10.0
"""The seconds that the other process may take to send the settings."""
_STUCK = 3.0
"""The seconds after which a loop that does not answer counts as stuck. No turn of a working loop takes so long."""
_MARGIN = 0.8
"""The part of a connection's time that is spent waiting for an answer; the rest is left for sending the error."""
_LOOK_EVERY = 0.02
"""The seconds between two questions for the state of the workers, however many requests arrive. With 400 series the
questions take a thirtieth of the other process's time."""
_STUCK_EVERY = 0.002
"""The seconds between two questions whether the loop runs, which cost the other process almost nothing."""

T = TypeVar("T")


def main(control: int) -> int:
    """Serve for the process at the other end of the socket ``control``, and return the exit code."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    asyncio.run(serve(socket.socket(fileno=control)))
    return 0


async def serve(control: socket.socket) -> None:
    """Serve in the running loop until the other side closes ``control``."""
    process = AdminProcess()
    channel = process.channel = await Channel.open(control, {"drain": process.drain})
    listening = asyncio.create_task(channel.run())
    try:
        # The other side may end before it has sent the settings.
        with contextlib.suppress(ChannelError, TimeoutError):
            await process.begin()
            await listening
    finally:
        await channel.close()
        await asyncio.gather(listening, return_exceptions=True)
        if process.server is not None:
            await process.server.close()


class AdminProcess:
    """The server of this process, and the questions to the other process."""

    def __init__(self) -> None:
        self.channel: Channel
        self.server: HttpServer | None = None
        self._admin: Admin | None = None
        self._draining = False
        self._patience = 0.0
        self._looks = Newest(self._look, _LOOK_EVERY)
        self._words = Newest(self._stuck, _STUCK_EVERY)

    async def begin(self) -> None:
        """Ask for the settings, and serve. Raises ChannelError and TimeoutError if the other side does not answer."""
        start: dict[str, Any] = await self.channel.ask("start", timeout=_START)
        logs.configure(*start["log"])
        access = Access(frozenset(start["hosts"]), tuple(start["tokens"]), start["username"], tuple(start["passwords"]))
        self._patience = _MARGIN * start["timeout"]
        self._admin = Admin(self._looks.get, self._words.get, access, start["ready_when"])
        self._admin.draining = self._draining
        certificate = Certificate(*start["certificate"]) if start["certificate"] else None
        context = certificate.context if certificate is not None else lambda: None
        self.server = HttpServer(self._admin.answer, start["connections"], start["timeout"], context)
        for number in start["sockets"]:
            self.server.listen(socket.socket(fileno=number))

    def drain(self, _: object) -> None:
        """Report from here on that the proxy is not ready, because it is about to stop."""
        self._draining = True
        if self._admin is not None:
            self._admin.draining = True

    async def _look(self) -> Overview:
        try:
            return Overview.of_plain(await self.channel.ask("look", timeout=self._patience))
        except ChannelError as error:
            raise TimeoutError from error  # the other side is ending, and so is this process

    async def _stuck(self) -> str:
        patience = min(_STUCK, self._patience)
        try:
            words: str = await self.channel.ask("stuck", _MARGIN * patience, timeout=patience)
        except (TimeoutError, ChannelError):
            return f"the event loop has not answered for {patience:g} s"
        return words


class Newest(Generic[T]):
    """Shares one question between all tasks that ask at the same time. Each gets an answer to a question that was sent
    after its call.

    Two questions are at least ``every`` seconds apart.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], every: float) -> None:
        self._ask = ask
        self._every = every
        self._next: asyncio.Task[T] | None = None
        self._now: asyncio.Task[T] | None = None
        self._not_before = 0.0

    def __repr__(self) -> str:
        return f"Newest(waiting={self._next is not None}, asking={self._now is not None})"

    async def get(self) -> T:
        """Return the answer. Raises what the question raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._run(self._now))
            # All callers may have been cancelled, so the exception is retrieved here.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next)

    async def _run(self, before: "asyncio.Task[T] | None") -> T:
        if before is not None:
            await asyncio.wait((before,))
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._not_before - loop.time())
        # A later caller gets the next answer, because this answer may be older than the call.
        self._now, self._next = self._next, None
        self._not_before = loop.time() + self._every
        return await self._ask()


class Certificate:
    """The certificate and key of the port. Changed files are read again; invalid files are ignored."""

    def __init__(self, certificate: str, key: str) -> None:
        self._names = (certificate, key)
        self._files = WatchedFiles(self._names)
        self._context = self._load()

    def __repr__(self) -> str:
        return f"Certificate({self._names[0]!r})"

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection."""
        if self._files.changed():
            try:
                self._context = self._load()
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                log.error("the admin port keeps its certificate: the new one can not be used reason=%r", str(error))
            else:
                log.info("the admin port has a new certificate file=%s", self._names[0])
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # The empty password prevents a question at the terminal.
        context.load_cert_chain(*self._names, password=lambda: "")
        return context
