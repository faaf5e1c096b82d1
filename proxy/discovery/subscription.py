"""The subscription to a sentinel's events."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from itertools import repeat

import hiredis

from proxy.backends.connect_gate import Backoff
from proxy.backends.handshake import Credentials
from proxy.errors import BackendError
from proxy.resp import encode
from proxy.resp.bounded_reader import SHORT, BoundedReader
from proxy.resp.replies import BadReply
from proxy.sharding.topology import Node
from proxy.transport.clock import timeout
from proxy.transport.tls import open_streams

log = logging.getLogger(__name__)

_CHUNK = 16 * 1024
_PING_AFTER = 1.0
"""Seconds of silence after which a PING is sent."""
_BACKOFF_MIN = 0.1
_BACKOFF_MAX = 2.0

OnMessage = Callable[[Node, bytes, bytes], None]
"""A callback with the sentinel, the channel and the message."""


class Subscription:
    """A connection to ``node`` that is subscribed to all its channels, and is made again when it is lost.

    ``patience`` is the number of seconds that a connect or an answer may take. ``on_change`` is called when the
    subscription begins, since events may have been missed before, and when it ends.
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
        self._unreadable = ""
        """The reason for which the events could not be read, as it was logged last."""

    async def run(self) -> None:
        """Keep the subscription; never returns. Failures are not logged: after ``on_change`` the server is asked, which
        logs them."""
        backoff = Backoff(_BACKOFF_MIN, _BACKOFF_MAX)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            # ValueError is raised for a host that is not a valid name.
            with contextlib.suppress(OSError, TimeoutError, ValueError, BackendError):
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
        parser = BoundedReader(repeat(SHORT))
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
                if len(data) == _CHUNK:
                    await asyncio.sleep(0)  # a sentinel that sends without end does not hold up clients
        except (BadReply, hiredis.ProtocolError) as error:
            if self._unreadable != str(error):
                self._unreadable = str(error)
                log.warning("a sentinel's events can not be read address=%s reason=%r", self.node.address, str(error))
        finally:
            if subscribed:
                self._on_change(self.node)

    def _take(self, reply: object) -> bool:
        """Handle a reply; return whether it confirms the subscription. Raises ``BackendError`` if it is an error."""
        if isinstance(reply, hiredis.ReplyError):
            raise BackendError(str(reply))
        match reply:
            case [b"pmessage", _, bytes(channel), bytes(message)]:
                self._on_message(self.node, channel, message)
            case [b"psubscribe", *_]:
                self._on_change(self.node)
                return True
        return False
