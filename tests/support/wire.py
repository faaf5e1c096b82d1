"""A client that works with bytes only: tests compare the bytes that were sent and received."""

import contextlib
import select
import socket
import time
from types import TracebackType
from typing import Self

import hiredis

from proxy.resp import encode
from proxy.resp.replies import ReplyFramer
from tests.support.secrets import Secrets

Argument = bytes | str | int
TIMEOUT = 15.0
_CHUNK = 1 << 20


def pack(*args: Argument) -> bytes:
    """A request as bytes; text is sent as UTF-8."""
    return encode.request(args)


def pipeline(*commands: tuple[Argument, ...]) -> bytes:
    """Several requests, one behind the other."""
    return b"".join(encode.request(command) for command in commands)


def decode(frame: bytes) -> object:
    """One reply as hiredis decodes it (bytes, int, None, list, dict, set); an error reply is returned, not raised."""
    reader = hiredis.Reader()
    reader.feed(frame)
    return reader.gets()


def frames(data: bytes) -> list[bytes]:
    """All replies in ``data``, which ends with the last one."""
    framer = ReplyFramer()
    found: list[bytes] = []
    at = 0
    while at < len(data):
        end = framer.frame(data, at)
        assert end >= 0, f"a cut reply: {data[at : at + 100]!r}"
        found.append(data[at:end])
        at = end
    return found


class Wire:
    """A raw connection to ``address`` ("host:port" or "unix:/path") for RESP; ``source``: the client's own address."""

    def __init__(self, address: str, *, protocol: int = 2, timeout: float = TIMEOUT, source: str = "") -> None:
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            self.socket = socket.create_connection((host, int(port)), timeout, (source, 0) if source else None)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._framer = ReplyFramer()
        self._kept = bytearray()
        if protocol == 3:
            self.ask("HELLO", 3)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send ``data`` as it is. Passwords in it must not be shown by any proxy."""
        Secrets.add_sent(data)
        self.socket.sendall(data)

    def ask(self, *args: Argument) -> bytes:
        """The reply to one command, as bytes."""
        self.send(encode.request(args))
        return self.reply()

    def value(self, *args: Argument) -> object:
        """The decoded reply to one command; an error reply is returned, not raised."""
        return decode(self.ask(*args))

    def reply(self) -> bytes:
        """The next reply. Raises ``ConnectionError`` if the other side closes before the reply is complete."""
        return self.replies(1)[0]

    def replies(self, count: int) -> list[bytes]:
        """The next ``count`` replies."""
        found: list[bytes] = []
        at = 0
        while len(found) < count:
            end = self._framer.frame(self._kept, at) if at < len(self._kept) else -1
            if end >= 0:
                found.append(bytes(self._kept[at:end]))
                at = end
                continue
            if at:
                del self._kept[:at]
                at = 0
            self._read(self._framer.need)
        del self._kept[:at]
        return found

    def _read(self, wanted: int) -> None:
        while True:
            data = self.socket.recv(_CHUNK)
            if not data:
                raise ConnectionError(f"closed after {bytes(self._kept[:200])!r}")
            self._kept += data
            if len(self._kept) >= wanted:
                return

    def exactly(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if len(self._kept) < count:
            self._read(count)
        data = bytes(self._kept[:count])
        del self._kept[:count]
        return data

    def rest(self) -> bytes:
        """All bytes until the other side closes. Raises ``TimeoutError`` if it does not close."""
        kept, self._kept = self._kept, bytearray()
        with contextlib.suppress(ConnectionResetError):
            while data := self.socket.recv(_CHUNK):
                kept += data
        return bytes(kept)

    def closed(self) -> bool:
        """Whether the other side closes without sending anything."""
        return self.rest() == b""

    def arrived(self) -> None:
        """Wait until the next reply has arrived, and leave it unread."""
        assert self._kept or select.select([self.socket], [], [], TIMEOUT)[0], "no reply came"

    def silent(self, seconds: float = 0.15) -> bool:
        """Whether nothing arrives for ``seconds``."""
        if self._kept:
            return False
        self.socket.settimeout(seconds)
        try:
            self._kept += self.socket.recv(_CHUNK)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT)
        return False


def wait_until_refused(address: str, timeout: float = TIMEOUT) -> None:
    """Wait until no process listens at ``address``."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            Wire(address).close()
        except OSError:
            return
        time.sleep(0.02)
    raise TimeoutError(f"somebody still listens at {address}")
