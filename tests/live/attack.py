"""Clients that send as much as goes, in threads, and read what they are answered: the same over and over."""

import select
import socket
import threading
from collections.abc import Sequence

from tests.support.busy_threads import BusyThreads

_MOST = 256 * 1024


class Attack(BusyThreads):
    """``clients`` connections to ``address``, which send ``greeting`` and then ``payload`` until the block ends.

    ``sent`` and ``received`` count bytes. A connection that is closed is made again.
    """

    def __init__(self, address: str, payload: bytes, *, greeting: bytes = b"", clients: int = 3) -> None:
        self.sent = 0
        self.received = 0
        host, _, port = address.rpartition(":")
        self._address = host, int(port)
        self._payload = payload
        self._greeting = greeting
        self._lock = threading.Lock()
        super().__init__([self._run] * clients)

    def _run(self) -> None:
        while not self.over.is_set():
            try:
                with socket.create_connection(self._address, 5.0) as link:
                    link.sendall(self._greeting)
                    link.setblocking(False)
                    self._flood(link)
            except OSError:
                self.over.wait(0.05)

    def _flood(self, link: socket.socket) -> None:
        at = 0
        while not self.over.is_set():
            readable: Sequence[socket.socket]
            readable, writable, _ = select.select([link], [link], [], 0.1)
            sent = link.send(self._payload[at : at + _MOST]) if writable else 0
            received = len(link.recv(_MOST)) if readable else 0
            at = (at + sent) % len(self._payload)
            with self._lock:
                self.sent += sent
                self.received += received
            if readable and not received:
                return
