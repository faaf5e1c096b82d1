"""Bytes that a client has sent and that are not carried out yet: requests that must wait, or that are incomplete. And
the number of bytes that were carried out in large pieces and may be unanswered (``SentBytes``).

::

    bytes      unprocessed requests of which the first is complete: carried out as they are
    bytearray  the first request is framed in part, and more may follow: carried out in pieces

Most clients have no such bytes, and no ``KeptInput``.
"""

from proxy.engine.window import ReplyWindow
from proxy.resp.requests import RequestFramer

PIECE = 64 * 1024
"""The bytes of a piece, if much is kept (of a client that goes on sending while it is blocked)."""


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
        """The bytes of the first request in the piece that ``next_piece`` returned last."""

    def __repr__(self) -> str:
        return f"KeptInput({self.size()} bytes, {'growing' if self.grows() else 'whole'})"

    def size(self) -> int:
        """The number of bytes that are kept."""
        return len(self.data) - self.start

    def grows(self) -> bool:
        """Whether new bytes are appended here, so that the first request has to be framed again."""
        return isinstance(self.data, bytearray)

    def add(self, data: bytes) -> None:
        """Append ``data``."""
        if not isinstance(self.data, bytearray):
            self._make_room(b"")
        self.data += data

    def put_before(self, request: bytes) -> None:
        """Put ``request``, which was taken and must wait, ahead of the rest."""
        self._make_room(request)

    def _make_room(self, begun: bytes) -> None:
        """Make a bytearray of ``begun`` and the rest, to which bytes can be appended."""
        kept = bytearray(begun)
        kept += memoryview(self.data)[self.start :]
        self.data = kept
        self.start = 0

    def next_piece(self, framer: RequestFramer, large: int) -> bytes | None:
        """A copy of the next bytes to carry out: a request of at least ``large`` bytes alone, else a piece with several
        requests.

        Returns None if the first request is incomplete. Raises ``ProtocolError``. Pass the size of what was carried out
        to ``drop``.
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
        """Remove the first ``size`` bytes of a bytearray, which were carried out."""
        assert isinstance(self.data, bytearray)
        del self.data[:size]  # only the start of the bytearray moves: no bytes are copied


class SentBytes:
    """The bytes of a client's requests in large pieces that may be unanswered, and so are kept for their servers.

    The bytes are counted in two generations: those of the older one count until all requests up to ``_until`` are
    answered. So the number is too high by up to the size of answered requests that came with unanswered ones.
    """

    __slots__ = ("_newer", "_older", "_until")

    def __init__(self) -> None:
        self._newer = 0
        self._older = 0
        self._until = 0

    def __repr__(self) -> str:
        return f"SentBytes({self._older} until {self._until}, {self._newer})"

    def add(self, size: int, window: ReplyWindow) -> None:
        """Count ``size`` bytes of requests, the replies to which go to ``window``."""
        self._newer += size
        self._settle(window)

    def size(self, window: ReplyWindow) -> int:
        """The number of bytes of requests that may be unanswered."""
        self._settle(window)
        return self._older + self._newer

    def _settle(self, window: ReplyWindow) -> None:
        """Drop the generation whose requests are answered."""
        if window.head == window.issued:
            self._older = self._newer = 0
        elif window.head >= self._until:
            self._older, self._newer = self._newer, 0
            self._until = window.issued
