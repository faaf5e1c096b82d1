"""Connections with MONITOR on: a server shows all commands that it carries out, those of scripts included.

Source: https://redis.io/docs/latest/commands/monitor/
"""

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.backends.connection import ServerConnection, reason
from proxy.backends.settings import BackendSettings, Place
from proxy.errors import BackendError
from proxy.resp import encode
from proxy.transport.addresses import first_that_serves

_MONITOR = encode.request(("MONITOR",))
_OK = b"OK"
_LONGEST = 64 * 1024 * 1024
"""The bytes that are kept of one line whose end has not come yet."""


class MonitorFeed(ServerConnection):
    """A connection to the server of ``place`` with MONITOR on. ``take`` is called with each line, without its end."""

    __slots__ = ("_accepted", "_rest", "_take", "problem")

    def __init__(self, place: Place, settings: BackendSettings[Any], take: Callable[[bytes], None]) -> None:
        super().__init__(place, settings)
        self._take = take
        self._rest = bytearray()
        self._accepted: asyncio.Future[None] | None = None
        self.problem = ""
        """The reason for which the feed has ended, with the server's address; empty while it shows the commands."""

    def __repr__(self) -> str:
        return f"MonitorFeed({self.place.node.address}, {len(self._rest)} bytes kept)"

    async def begin(self) -> None:
        """Connect, and wait until the server has confirmed MONITOR. Raises ``BackendError``, with the reason."""
        seconds = self._settings.timing.connect_timeout
        try:
            await first_that_serves(self.place.node, seconds, self._connect)
            self._accepted = asyncio.get_running_loop().create_future()
            assert self._transport is not None
            self._transport.write(_MONITOR)
            await asyncio.wait_for(self._accepted, seconds)
        except (BackendError, OSError, TimeoutError, ValueError) as error:
            self.abort()
            raise BackendError(f"{self.place.node.address}: {reason(error, seconds)}") from error

    async def _connect(self, address: str, seconds: float) -> None:
        await self.greet(address, seconds, self._settings.greeting(self.place))

    def data_received(self, data: bytes) -> None:
        """Take bytes of the server."""
        if self._greeting is not None:
            self._greeting.feed(data)
            return
        self._rest += data
        if len(self._rest) > _LONGEST:
            self._end(f"a line of more than {_LONGEST} bytes")
            self.abort()
            return
        if b"\n" not in data:
            return
        *lines, rest = bytes(self._rest).split(b"\r\n")
        self._rest = bytearray(rest)
        for line in lines:
            if self._accepted is not None and not self._accepted.done():
                if line[1:] == _OK:
                    self._accepted.set_result(None)
                else:
                    self._accepted.set_exception(BackendError(line[1:].decode("utf-8", "replace")))
            else:
                self._take(line)

    def connection_lost(self, error: Exception | None) -> None:
        """Take notice that the connection has ended."""
        if self._greeting is not None:
            self._greeting.lost(error)
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_exception(BackendError("the server closed the connection"))
        self._end("the server closed the connection" if error is None else str(error) or type(error).__name__)
        self.mark_lost()

    def _end(self, why: str) -> None:
        """Keep the first reason for which the feed has ended."""
        self.problem = self.problem or f"{self.place.node.address}: {why}"
