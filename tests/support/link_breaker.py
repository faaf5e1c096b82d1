"""A TCP relay between the proxy and a server, in a thread of its own, whose connections break on command."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from proxy.devservers.servers import LOOPBACK

T = TypeVar("T")

_CHUNK = 64 * 1024
_PATIENCE = 5.0
_LAST_TURNS = 10
_RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which a close sends RST, as when a machine has failed."""


class LinkBreaker:
    """Listens on ``address`` and relays to ``target`` (both "host:port") until a method changes that.

    All methods return when their effect is complete.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"link to {target}")
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._delay = 0.0
        self._reply_bytes_left: int | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._flowing.set()
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        """The address that the proxy uses for the server."""
        return f"{LOOPBACK}:{self._port}"

    def open(self) -> None:
        """Accept connections, always on the same port."""
        self._do(self._open())

    def shut(self) -> None:
        """Close every connection, and refuse new ones."""
        self._do(self._shut())

    def cut(self) -> None:
        """Close every connection; new ones are accepted."""
        self._do(self._cut())

    def cut_after(self, size: int) -> None:
        """Close every connection when the server has sent ``size`` more bytes."""
        self._do(self._cut_after(size))

    def stall(self) -> None:
        """Pass on no bytes, but keep the connections."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def flow(self) -> None:
        """Pass on bytes again."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def delay(self, seconds: float) -> None:
        """Delay replies by ``seconds`` from now on."""
        self._delay = seconds

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    async def _open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._relay, LOOPBACK, self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        self._reply_bytes_left = None
        for writer in self._writers:
            writer.transport.abort()
        for pump in self._pumps:
            pump.cancel()

    async def _cut_after(self, size: int) -> None:
        self._reply_bytes_left = size

    async def _end(self) -> None:
        await self._shut()
        # An accepted connection gets its task, and an aborted transport closes, only in later turns of the loop.
        for _ in range(_LAST_TURNS):
            await asyncio.sleep(0)
            relays = asyncio.all_tasks() - {cast(asyncio.Task[Any], asyncio.current_task())}
            if relays:
                await self._cut()
                await asyncio.gather(*relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        self._writers.add(writer)
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            writers.append(server_writer)
            self._writers.add(server_writer)
            for end in writers:
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            await self._pump(reader, server_writer, server_reader, writer)
        except OSError:
            pass  # the server is down, or the client is gone already
        finally:
            for end in writers:
                self._writers.discard(end)
                end.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Relay bytes until one of the sides is gone."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        ends = [
            self._loop.create_task(self._requests(reader, server_writer)),
            self._loop.create_task(self._late_replies(queue, writer)),
        ]
        pumps = [*ends, self._loop.create_task(self._replies(server_reader, queue))]
        self._pumps.update(pumps)
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._pumps.difference_update(pumps)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()

    async def _replies(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        while data := await reader.read(_CHUNK):
            await self._flowing.wait()
            queue.put_nowait((self._loop.time() + self._delay, data))
        queue.put_nowait((self._loop.time() + self._delay, b""))

    async def _late_replies(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            when, data = await queue.get()
            await asyncio.sleep(when - self._loop.time())
            if not data:
                return
            left = self._reply_bytes_left
            if left is not None:
                self._reply_bytes_left = left - len(data)
                if left <= len(data):
                    writer.write(data[:left])
                    await asyncio.sleep(0.05)
                    await self._cut()
                    return
            writer.write(data)
            await writer.drain()
