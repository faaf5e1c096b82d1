"""What a sentinel publishes, listened to for as long as the proxy runs."""

import asyncio
import contextlib
from collections.abc import Callable

import hiredis

from proxy.backends.connect_gate import Backoff
from proxy.backends.handshake import Credentials
from proxy.errors import BackendError
from proxy.resp import encode
from proxy.sharding.topology import Node
from proxy.transport.clock import timeout
from proxy.transport.tls import open_streams

_CHUNK = 64 * 1024
_PING_AFTER = 1.0
"""Seconds of silence after which the other side is asked whether it is there."""
_BACKOFF_MIN = 0.1
_BACKOFF_MAX = 2.0

OnMessage = Callable[[Node, bytes, bytes], None]
"""Called with who published, the channel and the message."""


class Subscription:
    """A connection to ``node`` that is subscribed to all its channels, and comes back when it is lost.

    ``patience``: seconds that connecting, or an answer, may take. ``on_change`` is called when it begins to listen, as
    what was published before is unknown, and when it stops.
    """

    def __init__(
        self,
        node: Node,
        credentials: Credentials,
        patience: float,
        on_message: OnMessage,
        on_change: Callable[[Node], None],
    ) -> None:
        self.node = node
        self._credentials = credentials
        self._patience = patience
        self._on_message = on_message
        self._on_change = on_change

    async def run(self) -> None:
        """Never returns; says nothing of what goes wrong, as who is told of the change will ask the server itself."""
        backoff = Backoff(_BACKOFF_MIN, _BACKOFF_MAX)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            # ValueError: a host name that can be no name.
            with contextlib.suppress(OSError, TimeoutError, ValueError, BackendError, hiredis.ProtocolError):
                await self._listen()
            if loop.time() - began > _BACKOFF_MAX:
                backoff.reset()
            await asyncio.sleep(backoff.pause())

    async def _listen(self) -> None:
        async with timeout(self._patience):
            reader, writer = await open_streams(self.node, self._credentials.tls)
        try:
            auth = self._credentials.arguments()
            steps = [("AUTH", *auth)] if auth else []
            writer.write(b"".join(encode.request(step) for step in (*steps, ("PSUBSCRIBE", "*"))))
            await self._hear(reader, writer)
        finally:
            writer.close()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        subscribed = pinged = False
        try:
            while True:
                try:
                    patient = self._patience if pinged or not subscribed else _PING_AFTER
                    async with timeout(patient):
                        data = await reader.read(_CHUNK)
                except TimeoutError:
                    if pinged or not subscribed:
                        raise
                    pinged = True
                    writer.write(encode.request(("PING",)))
                    continue
                if not data:
                    return
                pinged = False
                parser.feed(data)
                while (reply := parser.gets()) is not False:
                    subscribed = self._take(reply) or subscribed
        finally:
            if subscribed:
                self._on_change(self.node)

    def _take(self, reply: object) -> bool:
        """Whether it says that the subscription holds. Raises ``BackendError`` if the server refuses."""
        if isinstance(reply, hiredis.ReplyError):
            raise BackendError(str(reply))
        match reply:
            case [b"pmessage", _, bytes(channel), bytes(message)]:
                self._on_message(self.node, channel, message)
            case [b"psubscribe", *_]:
                self._on_change(self.node)
                return True
        return False
