"""The HTTP connections of the admin port; h11 parses and writes HTTP.

Each connection carries one request. The costs of a connection are bounded: its time, from the TLS handshake to the last
byte of the answer, the size of its head, and the number of connections. If there are too many, the connection that has
waited for its client for longest is closed, so that idle connections keep no client out.

Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1), https://h11.readthedocs.io/
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import h11

log = logging.getLogger(__name__)

_MOST_HEAD = 32 << 10
"""The largest size of a request, in bytes: ten times the size that browsers send with all their cookies."""
_READ = 16 << 10
_NO_DESCRIPTORS = 0.1
"""The seconds until the next try to accept, if the process or the system has no descriptor left."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request. ``host`` is the authority that the client asks for, with its port; None if the client names none."""

    method: str
    path: str
    host: str | None
    headers: Mapping[str, str]
    """The headers by their names in lower case."""
    peer: str = ""
    """The client's address, as ``CLIENT LIST`` would show it; "" at a unix socket."""
    query: str = ""
    """What follows ``?`` in the request's target."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response; ``headers`` are those beside the usual headers."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Sequence[tuple[str, str]] = ()
    delay: float = 0.0
    """The seconds by which the response is delayed. The connection may be closed meanwhile to make room."""

    @classmethod
    def text(cls, status: HTTPStatus, words: str, *headers: tuple[str, str]) -> "Response":
        """Return a response with one line for people."""
        return cls(status, "text/plain", f"{words}\n".encode(), headers)


Answer = Callable[[HttpRequest], Awaitable[Response]]
Context = Callable[[], ssl.SSLContext | None]
"""Returns the TLS context of the next connection; None for plain HTTP."""


class HttpServer:
    """Answers the requests at listening sockets: ``most`` connections at a time, each for ``timeout`` seconds."""

    def __init__(self, answer: Answer, most: int, timeout: float, context: Context = lambda: None) -> None:
        self._answer = answer
        self._most = most
        self._timeout = timeout
        self._context = context
        self._accepting: list[asyncio.Task[None]] = []
        self._open: set[asyncio.Task[None]] = set()
        self._clients_turn: dict[asyncio.Task[None], None] = {}
        """The open connections that wait for their client (to ask, to read, to close), the oldest first."""

    def __repr__(self) -> str:
        return f"HttpServer({len(self._open)} connections, of which {len(self._clients_turn)} wait for their client)"

    def listen(self, listener: socket.socket) -> None:
        """Accept connections from ``listener`` too."""
        listener.setblocking(False)
        self._accepting.append(asyncio.create_task(self._accept(listener), name="accept"))

    async def close(self) -> None:
        """Stop accepting, and close all connections."""
        tasks = [*self._accepting, *self._open]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("no connection can be accepted at the admin port reason=%r", str(error))
                await asyncio.sleep(_NO_DESCRIPTORS)
                continue
            if len(self._open) >= self._most and not self._make_room():
                connection.close()
                continue
            task = loop.create_task(self._serve(connection, peer), name="admin connection")
            self._open.add(task)
            self._clients_turn[task] = None
            task.add_done_callback(self._forget)
            # Other tasks get their turn, however many connections arrive.
            await asyncio.sleep(0)

    def _make_room(self) -> bool:
        oldest = next(iter(self._clients_turn), None)
        if oldest is None:
            return False
        del self._clients_turn[oldest]
        return oldest.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._clients_turn.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection of the admin port failed", exc_info=error)

    async def _serve(self, connection: socket.socket, peer: object) -> None:
        """Serve one connection, from its beginning to its end."""
        reader = asyncio.StreamReader(_READ)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._context())
                # Without a write buffer, drained means sent, so that the timeout covers the sending too.
                transport.set_write_buffer_limits(0)
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                name = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
                await self._converse(reader, writer, name)
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError):
            pass  # the client did not speak TLS (ssl.SSLError is an OSError), or disconnected
        finally:
            if transport is None:
                connection.close()
            else:
                transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD)
        head = False
        try:
            request = await self._request(http, reader, peer)
        except h11.RemoteProtocolError as error:
            if error.error_status_hint != HTTPStatus.BAD_REQUEST:
                return  # the request is too large, and its client may not read an answer
            response = Response.text(HTTPStatus.BAD_REQUEST, f"bad request: {error}")
        else:
            if request is None:
                return
            response = await self._answered(request)
            await asyncio.sleep(response.delay)
            head = request.method == "HEAD"
        _send(http, writer, response, head)
        await writer.drain()

    async def _answered(self, request: HttpRequest) -> Response:
        task = asyncio.current_task()
        assert task is not None
        self._clients_turn.pop(task, None)
        try:
            return await self._answer(request)
        finally:
            self._clients_turn[task] = None

    async def _request(self, http: h11.Connection, reader: asyncio.StreamReader, peer: str) -> HttpRequest | None:
        """Return the request; None if the client leaves before. A body is not waited for: no request here has one."""
        while True:
            event = http.next_event()
            if isinstance(event, h11.Request):
                return _parsed(event, peer)
            if event is not h11.NEED_DATA:
                return None
            http.receive_data(await reader.read(_READ))


def _parsed(event: h11.Request, peer: str) -> HttpRequest:
    headers: dict[str, str] = {}
    for name, value in event.headers:
        word = name.decode("latin-1")
        headers[word] = f"{headers[word]}, {value.decode('latin-1')}" if word in headers else value.decode("latin-1")
    target = event.target.decode("latin-1")
    path, _, query = target.partition("?")
    host = headers.get("host")
    if not target.startswith("/"):
        # The authority in the request's target takes precedence over Host (RFC 9112, 3.2.2).
        with contextlib.suppress(ValueError):
            parts = urlsplit(target)
            path, host, query = parts.path or "/", parts.netloc or host, parts.query
    return HttpRequest(event.method.decode("latin-1"), path, host, headers, peer, query)


def _send(http: h11.Connection, writer: asyncio.StreamWriter, response: Response, head: bool) -> None:
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        *response.headers,
        ("Connection", "close"),
    ]
    reason = response.status.phrase.encode()
    writer.write(http.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b"")
    if not head:
        writer.write(http.send(h11.Data(data=response.body)) or b"")
