"""Reading one large request straight to where it will lie.

While one lands, the client's transport belongs to a ``Landing``; all but the bytes it passes on to the client.
"""

import asyncio
from typing import Protocol

from proxy.client.services import ClientServices
from proxy.engine.receive_buffer import Room
from proxy.transport.flow_control import Flow

LANDS_FROM = 64 * 1024
"""A request of which at least so many bytes are missing lands."""


class Landed(Protocol):
    """The client whose request lands."""

    @property
    def service(self) -> ClientServices:
        """What it shares with the others."""

    @property
    def flow(self) -> Flow:
        """Whether it is read from."""

    def landed(self, request: bytes) -> None:
        """A large request is there."""

    def eof_received(self) -> bool:
        """The client sends no more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""

    def pause_writing(self) -> None:
        """It reads more slowly than it is answered."""

    def resume_writing(self) -> None:
        """It has caught up."""


class Landing(asyncio.BufferedProtocol):
    """The protocol of a client's transport until the request of ``size`` bytes, ``begun`` by some, is there."""

    def __init__(self, client: Landed, transport: asyncio.Transport, size: int, begun: bytes) -> None:
        self._client = client
        self._transport = transport
        self._room = Room(size, begun)
        _hand_over(transport, self)

    @property
    def left(self) -> int:
        """How many bytes have not come yet."""
        return self._room.left

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where the next bytes go."""
        return self._room.buffer()  # type: ignore[return-value]  # any writable buffer will do

    def buffer_updated(self, nbytes: int) -> None:
        """They have come."""
        room = self._room
        room.filled(nbytes)
        self._client.service.counters.bytes_in += nbytes
        self._client.flow.lively = True
        if not room.left:
            _hand_over(self._transport, self._client)
            self._client.landed(room.take())

    def eof_received(self) -> bool:
        """The client's."""
        return self._client.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client's."""
        self._client.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client's."""
        self._client.pause_writing()

    def resume_writing(self) -> None:
        """The client's."""
        self._client.resume_writing()


def _hand_over(transport: asyncio.Transport, protocol: object) -> None:
    """``protocol`` is the transport's from now on. How a transport reads is settled when it begins to read."""
    transport.set_protocol(protocol)  # type: ignore[arg-type]  # a client has the methods without the base class
    transport.pause_reading()
    transport.resume_reading()
