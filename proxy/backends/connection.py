"""The base of every connection to a server: connecting, the handshake, and the reason of a loss."""

import asyncio
import os
import ssl
from typing import Any, cast

from proxy import errors
from proxy.backends.handshake import Greeting
from proxy.backends.settings import BackendSettings, Place
from proxy.engine.receiver import Receiver


def reason(error: BaseException, timeout: float) -> str:
    """The reason in words for which a connection failed or was lost. ``timeout``: the limit of the attempt in
    seconds."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
        # The message of asyncio would repeat the address.
        return os.strerror(error.errno or 0)
    return str(error) or type(error).__name__


class ServerConnection(Receiver):
    """The ``asyncio.Protocol`` of a connection to the server of ``place``, with its handshake."""

    __slots__ = ("_greeting", "_lost", "_settings", "_transport", "place")

    def __init__(self, place: Place, settings: BackendSettings[Any]) -> None:
        self.place = place
        self._settings = settings
        self._transport: asyncio.Transport | None = None
        self._greeting: Greeting | None = None
        """The handshake, until the server has answered it."""
        self._lost: asyncio.Future[None] | None = None
        """Done when the connection is lost."""

    async def greet(self, address: str, seconds: float, greeting: Greeting) -> asyncio.Future[None]:
        """Connect to ``address``, one of the server's addresses, and make the handshake. The returned future is done
        when the connection is lost.

        Raises ``BackendError``, ``OSError``, ``TimeoutError``, ``ValueError``.
        """
        lost = self._lost = asyncio.get_running_loop().create_future()
        self._greeting = greeting
        try:
            await greeting.exchange(self._settings.reach(self.place.node, address, self), seconds)
        except BaseException as error:
            self.abort()
            if self._transport is not None and isinstance(error, Exception):
                await lost  # as this protocol may be used for another connection then
            raise
        finally:
            self._greeting = None
        if lost.done():
            raise errors.BackendError("the server closed the connection")
        return lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        # uvloop's transports are none of asyncio's classes, but have their methods.
        self._transport = cast(asyncio.Transport, transport)
        if self._greeting is not None:
            self._transport.write(self._greeting.request())

    def takes_messages(self) -> None:
        """Have little read in a turn: the server sends many messages, each of which takes long to pass on."""
        narrow = getattr(self._transport, "narrow", None)
        if narrow is not None:
            narrow()

    def eof_received(self) -> bool:
        """Close the connection, as the server sends no more."""
        return False

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def mark_lost(self) -> None:
        """Complete the future that tells of the loss."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
