"""Requests to a server on a connection of their own, outside the data path: which commands it has, its role and so on.

Replies are bounded (``bounds_of``), whatever the server sends: one that is larger ends the connection.
"""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Sequence

import hiredis

from proxy.backends.handshake import TAKES_NO_HEADER, Credentials, refuses_header, without_arguments
from proxy.errors import BackendError
from proxy.resp import encode
from proxy.resp.bounded_reader import SHORT, BoundedReader, ReplyBounds, ReplyTooLong
from proxy.resp.replies import BadReply
from proxy.sharding.topology import Node
from proxy.transport import clock
from proxy.transport.tls import Tls, lost_words, open_streams

log = logging.getLogger(__name__)

_CHUNK = 16 * 1024
"""The most bytes that are decoded in one turn of the event loop."""
_TOLD_AGAIN = 60.0
_MOST_TOLD = 1000
_MEGABYTE = 1024 * 1024
_BOUNDS = {
    "COMMAND": ReplyBounds(4 * _MEGABYTE, 200_000),
    "CLUSTER NODES": ReplyBounds(8 * _MEGABYTE, 1),
    "CLUSTER SHARDS": ReplyBounds(32 * _MEGABYTE, 1_000_000),
    "CLUSTER SLOTS": ReplyBounds(32 * _MEGABYTE, 1_000_000),
    "FUNCTION LIST": ReplyBounds(4 * _MEGABYTE, 100_000),
    "SENTINEL REPLICAS": ReplyBounds(_MEGABYTE, 50_000),
    "SENTINEL SENTINELS": ReplyBounds(_MEGABYTE, 50_000),
    "SENTINEL SLAVES": ReplyBounds(_MEGABYTE, 50_000),
}
"""The bounds of replies that may be longer than ``SHORT``: several times what the largest known servers and clusters
reply. (16,384 ranges of slots with five replicas each are 10 MB and 540,000 values.)"""


def bounds_of(command: Sequence[str]) -> ReplyBounds:
    """The bounds of the reply to ``command``."""
    return _BOUNDS.get(" ".join(command[:2]), SHORT)


class TooManyReplies(BackendError):
    """A server sent more replies than it had requests."""

    def __init__(self) -> None:
        super().__init__("the server answers with more replies than it was asked for")


Reply = object
"""A reply as hiredis decodes RESP2: bytes, int, None, list, or ``hiredis.ReplyError``."""


async def ask(node: Node, credentials: Credentials, commands: Sequence[Sequence[str]], timeout: float) -> list[Reply]:
    """The replies to ``commands``, sent in one piece on a new connection; error replies are returned, not raised.

    Raises ``BackendError`` if the server refuses the password or closes the connection, ``OSError`` or ``TimeoutError``
    (after ``timeout`` seconds) if the server can not be reached.
    """
    line = Line(node, credentials)
    try:
        async with clock.timeout(timeout):
            return await line.connect(commands)
    finally:
        line.close()


class Line:
    """A connection to ``node`` for several calls of ``ask``, one at a time.

    After an exception the connection is closed, and ``connect`` can be called again.
    """

    def __init__(self, node: Node, credentials: Credentials) -> None:
        self._node = node
        self._credentials = credentials
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def connected(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return self._writer is not None

    @property
    def certificate_expires(self) -> float | None:
        """When the server's certificate expires, in seconds since 1970; None without TLS, or without its
        verification."""
        certificate = None if self._writer is None else self._writer.get_extra_info("peercert")
        return float(ssl.cert_time_to_seconds(certificate["notAfter"])) if certificate else None

    async def connect(self, commands: Sequence[Sequence[str]] = ()) -> list[Reply]:
        """Connect, authenticate, and send ``commands``, all in one piece. Returns their replies. Raises as ``ask``
        does, but has no timeout."""
        self._reader, self._writer = await open_streams(self._node, self._credentials.tls, self._credentials.header)
        auth = self._credentials.arguments()
        login = [("AUTH", *auth)] if auth else []
        try:
            replies = await self.ask((*login, *commands))
        except (ssl.SSLError, ConnectionResetError) as error:
            # A server with TLS 1.3 refuses the certificate after the handshake, which may be before the first request.
            raise BackendError(lost_words(error, self._credentials.tls, False)) from error
        if login and isinstance(replies[0], hiredis.ReplyError):
            self.close()
            raise BackendError(f"the server refuses the proxy's AUTH: {without_arguments(str(replies[0]))}")
        return replies[len(login) :]

    async def ask(self, commands: Sequence[Sequence[str]]) -> list[Reply]:
        """The replies to ``commands``. Raises ``BackendError`` (also without a connection, and if the server sends more
        replies than requests) and ``OSError``."""
        reader, writer = self._reader, self._writer
        if reader is None or writer is None:
            raise BackendError("there is no connection")
        whole = False
        try:
            if await _unasked(reader):
                raise TooManyReplies
            if writer.is_closing():
                # uvloop raises a RuntimeError for what is written then.
                raise ConnectionResetError("the server closed the connection")
            writer.write(b"".join(encode.request(command) for command in commands))
            replies = await _read(reader, commands, self._credentials.tls)
            whole = True
        except _TooLong as error:
            _tell(self._node, str(error))
            raise
        except (hiredis.ProtocolError, BadReply) as error:
            raise BackendError(f"what answers is no Redis server: {error}") from error
        finally:
            if not whole:
                self.close()
        return replies

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class _TooLong(BackendError):
    """The reply to ``command`` exceeds its bounds."""

    def __init__(self, command: str, error: ReplyTooLong) -> None:
        super().__init__(f"its reply to {command} is too long: {error}")


_told: dict[tuple[Node, str], float] = {}
"""The times at which too long replies were logged, by the server and the words."""


def _tell(node: Node, words: str) -> None:
    """Log a reply that is too long: the server is asked again, so the log says the same once in ``_TOLD_AGAIN``."""
    now = time.monotonic()
    if now - _told.get((node, words), -_TOLD_AGAIN) < _TOLD_AGAIN:
        return
    if len(_told) >= _MOST_TOLD:
        _told.clear()
    _told[node, words] = now
    log.warning("connection closed, as a server replies too much address=%s reason=%r", node.address, words)


async def _read(reader: asyncio.StreamReader, commands: Sequence[Sequence[str]], tls: Tls | None) -> list[Reply]:
    parser = BoundedReader(map(bounds_of, commands))
    replies: list[Reply] = []
    heard = False
    while len(replies) < len(commands):
        reply = parser.gets()
        if refuses_header(reply):
            raise BackendError(TAKES_NO_HEADER)
        if reply is not False:
            replies.append(reply)
            continue
        try:
            data = await reader.read(_CHUNK)
        except (ssl.SSLError, ConnectionResetError) as error:
            raise BackendError(lost_words(error, tls, heard)) from error
        if not data:
            raise BackendError(lost_words(None, tls, heard))
        heard = True
        try:
            parser.feed(data)
        except ReplyTooLong as error:
            raise _TooLong(" ".join(commands[parser.complete][:2]), error) from error
        if len(data) == _CHUNK:
            await asyncio.sleep(0)  # more may have come, which is read without a pause
    if parser.extra:
        raise TooManyReplies
    return replies


async def _unasked(reader: asyncio.StreamReader) -> bool:
    """Whether there are bytes that answer no request: later replies would be taken for those to other requests."""
    with contextlib.suppress(TimeoutError):
        # Bytes that have arrived are read at once, before the timeout.
        async with asyncio.timeout(0):
            return bool(await reader.read(_CHUNK))
    return False
