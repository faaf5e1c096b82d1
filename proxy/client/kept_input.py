"""What a client has sent and what is not carried out yet, because it must wait or because the rest has not come.

::

    bytes      requests of which nothing is done, the first of them whole: carried out as they are
    bytearray  the first request is framed in part, and more may come behind it: taken a piece at a time

Most clients have nothing kept, and then there is no ``KeptInput``.
"""

from proxy.resp.requests import RequestFramer

PIECE = 64 * 1024
"""Bytes of a piece, where much is kept (of a client that goes on sending while it is blocked)."""


class KeptInput:
    """The requests in ``data[start:]``."""

    __slots__ = ("data", "first", "start")

    def __init__(self, data: bytes | bytearray, start: int = 0) -> None:
        if start * 2 > len(data):
            data = data[start:]
            start = 0
        self.data = data
        self.start = start
        self.first = 0
        """Bytes of the first request in the piece that ``next_piece`` returned last."""

    def __repr__(self) -> str:
        return f"KeptInput({self.size()} bytes, {'growing' if self.grows() else 'whole'})"

    def size(self) -> int:
        """Bytes that are kept."""
        return len(self.data) - self.start

    def grows(self) -> bool:
        """Whether what comes next is added to it, so that its first request has to be framed anew."""
        return isinstance(self.data, bytearray)

    def add(self, data: bytes) -> None:
        """Keep ``data`` behind the rest."""
        if not isinstance(self.data, bytearray):
            self._make_room(b"")
        self.data += data

    def put_before(self, request: bytes) -> None:
        """Keep ``request`` before the rest: it was taken, and must wait after all."""
        self._make_room(request)

    def _make_room(self, begun: bytes) -> None:
        """Keep a bytearray of ``begun`` and the rest, which more can be added to."""
        kept = bytearray(begun)
        kept += memoryview(self.data)[self.start :]
        self.data = kept
        self.start = 0

    def next_piece(self, framer: RequestFramer, large: int) -> bytes | None:
        """A copy of the next bytes to carry out: a request of at least ``large`` bytes alone, else a piece of several.

        None if the first request is not whole. Raises ProtocolError. What was carried out is given to ``drop``.
        """
        data = self.data
        size = len(data)
        end = self.first = framer.frame(data, 0)
        if end < 0:
            return None
        taken = end if end >= large else min(max(end, PIECE), size)
        with memoryview(data) as view:
            return bytes(view[:taken])

    def drop(self, size: int) -> None:
        """Forget the first ``size`` bytes of a bytearray, which were carried out."""
        assert isinstance(self.data, bytearray)
        del self.data[:size]  # its start moves: nothing is copied
