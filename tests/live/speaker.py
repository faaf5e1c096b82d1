"""A server that says whatever a test has it say: for what no real server does, or does no more."""

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence

import hiredis

from proxy.devservers.servers import LOOPBACK
from proxy.resp import encode

_NO_COMMAND = encode.error("ERR it does not tell")
Answer = Callable[[Sequence[bytes]], bytes | None]
"""From a request to all the bytes that answer it; None: as a server does that has nothing."""


class Speaker:
    """Listens until the block ends; ``answer`` may be changed at any time. ``asked`` are the requests, in order."""

    def __init__(self) -> None:
        self._socket = socket.create_server((LOOPBACK, 0))
        self.address = f"{LOOPBACK}:{self._socket.getsockname()[1]}"
        self.answer: Answer = lambda args: None
        self.asked: list[tuple[bytes, ...]] = []
        self.connections = 0
        """How many there have been."""
        self._open: list[socket.socket] = []

    def __enter__(self) -> "Speaker":
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()
        for connection in self._open:
            connection.close()

    def say(self, data: bytes) -> None:
        """Say something unasked, over all connections."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.sendall(data)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._converse, args=(connection, self.connections), daemon=True).start()

    def _converse(self, connection: socket.socket, number: int) -> None:
        reader = hiredis.Reader()
        with contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                reader.feed(data)
                said = b""
                while (args := reader.gets()) is not False:
                    assert isinstance(args, list)
                    self.asked.append(tuple(args))
                    answer = self.answer(args)
                    said += _plain(args, number) if answer is None else answer
                connection.sendall(said)


def _plain(args: Sequence[bytes], number: int) -> bytes:
    name = args[0].upper()
    if name == b"HELLO":
        return encode.mapping({encode.bulk("proto"): encode.integer(3)}, 3)
    if name == b"ROLE":
        return encode.array((encode.bulk("master"), encode.ZERO, encode.array(())))
    if name == b"INFO":
        return encode.bulk("redis_version:7.0.0\r\n")
    if (name, *args[1:2]) == (b"CLIENT", b"INFO"):
        return encode.bulk("flags=N db=0 sub=0 psub=0 watch=0 resp=2\n")
    if (name, *args[1:2]) == (b"CLIENT", b"ID"):
        return encode.integer(number)
    if name == b"ECHO":
        return encode.bulk(args[1])
    if name == b"EVAL":
        return encode.error(f"ERR {args[1].decode('latin-1')}")
    return {b"PING": encode.PONG, b"GET": encode.bulk("value"), b"BLPOP": b"*-1\r\n", b"COMMAND": _NO_COMMAND}.get(
        name, encode.OK
    )
