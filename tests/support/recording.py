"""Sinks that keep what they get, and a transport that keeps what is written."""

from proxy.engine.sink import Sink


class Recorder(Sink):
    """A sink: whole replies by token, pieces of streamed ones (``joined``: of one that came whole in pieces), and the
    order in which all that came."""

    def __init__(self, streams: bool = False) -> None:
        self.replies: list[tuple[int, bytes]] = []
        self.pieces: list[tuple[int, bytes, bool]] = []
        self.joined: list[bytes] = []
        self.aborted: list[int] = []
        self.streams = streams

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        self.replies.append((token, bytes(data[start:end])))

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        self.joined = pieces
        super().deliver_pieces(token, pieces)

    def accepts_stream(self, token: int) -> bool:
        return self.streams

    def stream(self, token: int, data: bytes, last: bool) -> None:
        self.pieces.append((token, data, last))
        if last:
            self.replies.append((token, b"".join(piece for of, piece, _ in self.pieces if of == token)))

    def abort_stream(self, token: int) -> None:
        self.aborted.append(token)


class Paper:
    """A transport: ``writes`` has what each call wrote, in pieces."""

    def __init__(self) -> None:
        self.writes: list[list[bytes]] = []

    def write(self, data: bytes) -> None:
        self.writes.append([data])

    def writelines(self, list_of_data: list[bytes]) -> None:
        self.writes.append(list(list_of_data))

    def taken(self) -> bytes:
        """All that was written since this was last asked."""
        writes, self.writes = self.writes, []
        return b"".join(piece for pieces in writes for piece in pieces)
