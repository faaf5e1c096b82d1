"""What every connection to a server has: it is made and greeted, it is lost for a reason, and tried again later."""

import asyncio
import os
import ssl
from typing import Any, cast

from proxy import errors
from proxy.backends.handshake import Greeting
from proxy.backends.settings import BackendSettings, Place
from proxy.engine.receiver import Receiver


def reason(error: BaseException, timeout: float) -> str:
    """Why a connection can not be had or was lost, in words; ``timeout``: the seconds that it had."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
        # asyncio's own words name the address once more.
        return os.strerror(error.errno or 0)
    return str(error) or type(error).__name__


class ServerConnection(Receiver):
    """The ``asyncio.Protocol`` of a connection to the server of ``place``, and how it is greeted."""

    __slots__ = ("_greeting", "_lost", "_settings", "_transport", "place")

    def __init__(self, place: Place, settings: BackendSettings[Any]) -> None:
        self.place = place
        self._settings = settings
        self._transport: asyncio.Transport | None = None
        self._greeting: Greeting | None = None
        """What is said first, until it is answered."""
        self._lost: asyncio.Future[None] | None = None
        """Done when the connection is lost."""

    async def greet(self, address: str, seconds: float, greeting: Greeting) -> asyncio.Future[None]:
        """Connect to one of the server's addresses, and greet. The future is done when the connection is lost.

        Raises ``BackendError``, ``OSError``, ``TimeoutError``, ``ValueError``.
        """
        lost = self._lost = asyncio.get_running_loop().create_future()
        self._greeting = greeting
        try:
            await greeting.exchange(self._settings.reach(self.place.node, address, self), seconds)
        except BaseException as error:
            self.abort()
            if self._transport is not None and isinstance(error, Exception):
                await lost  # as another connection may be made then
            raise
        finally:
            self._greeting = None
        if lost.done():
            raise errors.BackendError("the server closed the connection")
        return lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection stands: greet."""
        # uvloop's transports are none of asyncio's classes, but have their methods.
        self._transport = cast(asyncio.Transport, transport)
        if self._greeting is not None:
            self._transport.write(self._greeting.request())

    def eof_received(self) -> bool:
        """The server sends no more: close."""
        return False

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def mark_lost(self) -> None:
        """Whoever waits for the loss is told."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
