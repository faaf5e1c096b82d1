"""Reads one large request directly into its buffer.

Meanwhile the client's transport belongs to a ``Landing``, which passes all events but the bytes on to the client.
"""

import asyncio
from typing import Protocol

from proxy.client.services import ClientServices
from proxy.engine.receive_buffer import Room
from proxy.transport.flow_control import Flow

LANDS_FROM = 64 * 1024
"""A request lands if at least so many of its bytes are missing."""


class Landed(Protocol):
    """The client whose request lands."""

    @property
    def service(self) -> ClientServices:
        """The objects that all clients of the worker share."""

    @property
    def flow(self) -> Flow:
        """Decides whether the client is read from."""

    def landed(self, request: bytes) -> None:
        """Take the complete request."""

    def eof_received(self) -> bool:
        """Take notice that the client sends no more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Take notice that the client is gone."""

    def pause_writing(self) -> None:
        """Take notice that the client reads its replies too slowly."""

    def resume_writing(self) -> None:
        """Take notice that the client has caught up."""


class Landing(asyncio.BufferedProtocol):
    """The protocol of a client's transport until the request of ``size`` bytes, of which ``begun`` has arrived, is
    complete."""

    def __init__(self, client: Landed, transport: asyncio.Transport, size: int, begun: bytes) -> None:
        self._client = client
        self._transport = transport
        self._size = size
        self._room = Room(size, begun)
        _hand_over(transport, self)

    @property
    def size(self) -> int:
        """How many bytes have come."""
        return self._size - self._room.left

    @property
    def left(self) -> int:
        """How many bytes have not come yet."""
        return self._room.left

    def get_buffer(self, sizehint: int) -> bytearray:
        """The buffer for the next bytes."""
        return self._room.buffer()  # type: ignore[return-value]  # any writable buffer will do

    def buffer_updated(self, nbytes: int) -> None:
        """Count the bytes that have arrived, and return the transport to the client when the request is complete."""
        room = self._room
        room.filled(nbytes)
        self._client.service.counters.bytes_in += nbytes
        self._client.flow.lively = True
        if not room.left:
            _hand_over(self._transport, self._client)
            self._client.landed(room.take())

    def eof_received(self) -> bool:
        """Pass the event on to the client."""
        return self._client.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the event on to the client."""
        self._client.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass the event on to the client."""
        self._client.pause_writing()

    def resume_writing(self) -> None:
        """Pass the event on to the client."""
        self._client.resume_writing()


def _hand_over(transport: asyncio.Transport, protocol: object) -> None:
    """Give the transport to ``protocol``. A transport decides how to read when it begins to read, so it is
    restarted."""
    transport.set_protocol(protocol)  # type: ignore[arg-type]  # a client has the methods without the base class
    transport.pause_reading()
    transport.resume_reading()
