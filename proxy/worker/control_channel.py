"""The control channel between the supervisor and one worker: messages in both directions over a pair of sockets.

::

    4 bytes, big-endian: the length | JSON

    {"kind": "drain", "body": ...}              a message without a reply
    {"kind": "report", "body": ..., "id": 7}    a request, answered by
    {"id": 7, "body": ...}                      its reply, or
    {"id": 7, "failed": "words"}                the reason why there is none

A new kind of message is one function in the handlers of the receiving side. Plain functions are called in the order of
the messages; a handler that has to wait is a coroutine, and does not delay other messages.
"""

import asyncio
import inspect
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from proxy.transport import clock

log = logging.getLogger(__name__)

TIMEOUT = 1.0
"""Seconds that a request waits for its reply: the other side may be stuck, which must not block this one."""

_MOST_UNSENT = 16 << 20
"""The bytes that may wait for a side that does not read."""

Body = Any
"""A JSON value."""
Handler = Callable[[Any], Body | Awaitable[Body]]


class ChannelError(Exception):
    """No reply will come: the other side is gone, does not read, or could not answer."""


class Channel:
    """One side of the channel; ``handlers`` has a function for each kind of message, which returns the reply."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handlers: Mapping[str, Handler]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[Body]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"Channel(closed={self._closed}, {len(self._waiting)} asked, {len(self._tasks)} being answered)"

    @classmethod
    async def open(cls, end: socket.socket, handlers: Mapping[str, Handler]) -> "Channel":
        """Make the side that has this ``end`` of a socket pair."""
        end.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=end)
        return cls(reader, writer, handlers)

    async def run(self) -> None:
        """Handle messages until the other side is gone."""
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(4), "big")
                self._take(json.loads(await self._reader.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            await self.close()

    def tell(self, kind: str, body: Body = None) -> None:
        """Send a message without a reply. It is lost if the other side is gone or does not read."""
        self._send({"kind": kind, "body": body})

    async def ask(self, kind: str, body: Body = None, timeout: float = TIMEOUT) -> Body:
        """Send a request, and return the reply. Raises ``ChannelError``, and ``TimeoutError`` after ``timeout``
        seconds."""
        self._asked += 1
        number = self._asked
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            if not self._send({"kind": kind, "body": body, "id": number}):
                raise ChannelError("the other side is gone, or does not read")
            async with clock.timeout(timeout):
                return await answer
        finally:
            del self._waiting[number]

    async def close(self) -> None:
        """Send what is left, if the other side still reads, and close the channel, which ends ``run``."""
        if self._closed:
            return
        self._closed = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ChannelError("the other side is gone"))
        for task in self._tasks:
            task.cancel()
        self._writer.close()
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._writer.wait_closed()
        except TimeoutError:
            self._writer.transport.abort()
        except ConnectionError:
            pass

    def _send(self, message: Mapping[str, object]) -> bool:
        if self._closed or self._writer.transport.get_write_buffer_size() > _MOST_UNSENT:
            return False
        data = json.dumps(message, separators=(",", ":")).encode()
        self._writer.write(len(data).to_bytes(4, "big") + data)
        return True

    def _take(self, message: Mapping[str, Any]) -> None:
        if "kind" not in message:
            self._answered(message)
            return
        number = message.get("id")
        try:
            result = self._handlers[message["kind"]](message["body"])
        except Exception as error:
            log.exception("a message failed kind=%s", message["kind"])
            self._answer(number, {"failed": repr(error)})
            return
        if inspect.isawaitable(result):
            task = asyncio.get_running_loop().create_task(self._wait(message["kind"], number, result))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._answer(number, {"body": result})

    async def _wait(self, kind: str, number: int | None, result: Awaitable[Body]) -> None:
        try:
            self._answer(number, {"body": await result})
        except Exception as error:
            log.exception("a message failed kind=%s", kind)
            self._answer(number, {"failed": repr(error)})

    def _answer(self, number: int | None, what: Mapping[str, object]) -> None:
        if number is not None:
            self._send({"id": number, **what})

    def _answered(self, message: Mapping[str, Any]) -> None:
        answer = self._waiting.get(message["id"])
        if answer is None or answer.done():
            return  # it came too late
        if "failed" in message:
            answer.set_exception(ChannelError(message["failed"]))
        else:
            answer.set_result(message["body"])
