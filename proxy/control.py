"""Questions to a server on a connection of their own, outside the data path: what commands it has, what it is."""

import asyncio
import ssl
from collections.abc import Sequence

import hiredis

from proxy.errors import BackendError
from proxy.greeting import Credentials
from proxy.resp import encode
from proxy.tls import Tls, lost_words, open_streams
from proxy.topology import Node

_CHUNK = 64 * 1024

Reply = object
"""As hiredis decodes RESP2: bytes, int, None, list, or ``hiredis.ReplyError``."""


async def ask(node: Node, credentials: Credentials, commands: Sequence[Sequence[str]], timeout: float) -> list[Reply]:
    """The replies to ``commands``, asked in one go on a new connection; error replies are returned, not raised.

    Raises ``BackendError`` if the server refuses the password or closes the connection, ``OSError`` and
    ``TimeoutError`` (after ``timeout`` seconds) if it can not be reached.
    """
    async with asyncio.timeout(timeout):
        reader, writer = await open_streams(node, credentials.tls)
        try:
            auth = credentials.arguments()
            steps = [("AUTH", *auth)] if auth else []
            writer.write(b"".join(encode.request(step) for step in (*steps, *commands)))
            replies = await _read(reader, len(steps) + len(commands), credentials.tls)
        except hiredis.ProtocolError as error:
            raise BackendError(f"what answers is no Redis server: {error}") from error
        finally:
            writer.close()
    if steps and isinstance(replies[0], hiredis.ReplyError):
        raise BackendError(f"the server refuses the proxy's AUTH: {replies[0]}")
    return replies[len(steps) :]


async def _read(reader: asyncio.StreamReader, count: int, tls: Tls | None) -> list[Reply]:
    parser = hiredis.Reader()
    replies: list[Reply] = []
    heard = False
    while len(replies) < count:
        reply = parser.gets()
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
        parser.feed(data)
    return replies
