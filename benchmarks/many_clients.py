"""Many clients that are there at once, and single large values: what the memory measurements send."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from typing import Final

from benchmarks.loadgen import RunFailed
from benchmarks.peers import Target
from benchmarks.scenarios import KeySet
from proxy.resp.encode import request

_TIMEOUT: Final = 30.0
# How many connect before their replies are read: fewer than any listener's backlog.
_BATCH: Final = 100
# File descriptors that this process needs besides its clients'.
_OWN_FILES: Final = 200
_PIECE: Final = 1024 * 1024
_MB: Final = 1024 * 1024


def raise_file_limit(clients: int) -> int:
    """Lets this process, and what it starts from now on, have ``clients`` connections; how many they may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + _OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return clients if soft == resource.RLIM_INFINITY else max(1, min(clients, soft - _OWN_FILES))


@contextlib.contextmanager
def connected(target: Target, count: int, keys: KeySet) -> Iterator[None]:
    """``count`` clients, each of which has had one GET answered and does nothing more; closed afterwards.

    Raises RunFailed for a wrong answer, OSError when a connection is refused or silent.
    """
    expected = f"${keys.size}\r\n{keys.value}\r\n".encode()
    with contextlib.ExitStack() as stack:
        for first in range(0, count, _BATCH):
            batch = [
                (stack.enter_context(socket.create_connection((target.host, target.port), _TIMEOUT)), number)
                for number in range(first, min(first + _BATCH, count))
            ]
            for client, number in batch:
                client.sendall(request(("GET", keys.key(number % keys.count))))
            for client, _ in batch:
                if _read(client, len(expected)) != expected:
                    raise RunFailed("a GET was not answered with its value")
        yield


def _read(client: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (piece := client.recv(size - len(received))):
        received += piece
    return received


class LargeValue:
    """One key with a value of ``megabytes``, of which this process never holds more than a piece."""

    def __init__(self, key: str, megabytes: int) -> None:
        self._key = key
        self._size = megabytes * _MB

    def set(self, target: Target) -> float:
        """Sends it; seconds until it is answered. Raises RunFailed unless that is OK."""
        piece = b"x" * _PIECE
        with socket.create_connection((target.host, target.port), _TIMEOUT) as connection:
            began = time.monotonic()
            head = request(("SET", self._key, ""))
            # The value is the empty bulk string that the command ends with.
            connection.sendall(head.removesuffix(b"$0\r\n\r\n") + b"$%d\r\n" % self._size)
            for _ in range(self._size // _PIECE):
                connection.sendall(piece)
            connection.sendall(b"\r\n")
            answer = connection.recv(256)
            took = time.monotonic() - began
        if answer != b"+OK\r\n":
            raise RunFailed(f"SET of {self._size // _MB} MB was answered {answer[:100]!r}")
        return took

    def get(self, target: Target, *, hesitate: float = 0.0, pause: float = 0.0, piece: int = _PIECE) -> float:
        """Reads it in pieces of ``piece`` bytes at most; seconds until the last one.

        A slow reader waits ``hesitate`` seconds when the first bytes are there, and ``pause`` after each piece.
        Raises RunFailed unless the whole value comes.
        """
        buffer = bytearray(piece)
        with socket.create_connection((target.host, target.port), _TIMEOUT) as connection:
            began = time.monotonic()
            connection.sendall(request(("GET", self._key)))
            header = b"$%d\r\n" % self._size
            begun = connection.recv(len(header), socket.MSG_WAITALL)
            if begun != header:
                raise RunFailed(f"GET of {self._size // _MB} MB was answered {begun[:100]!r}")
            time.sleep(hesitate)
            left = self._size + 2
            with memoryview(buffer) as view:
                while left and (got := connection.recv_into(view[: min(left, piece)])):
                    left -= got
                    if pause:
                        time.sleep(pause)
            took = time.monotonic() - began
        if left:
            raise RunFailed(f"the connection was closed {left} bytes before the end of a value of {self._size} bytes")
        return took
