"""Sinks that record replies, and a transport that records writes."""

from proxy.engine.sink import Sink


class Recorder(Sink):
    """A sink that records whole replies by token, the pieces of streamed replies, and the order of all. ``joined`` has
    the pieces of the last reply that was delivered in pieces."""

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
    """A transport that records writes: ``writes`` has the pieces of each call."""

    def __init__(self) -> None:
        self.writes: list[list[bytes]] = []

    def write(self, data: bytes) -> None:
        self.writes.append([data])

    def writelines(self, list_of_data: list[bytes]) -> None:
        self.writes.append(list(list_of_data))

    def taken(self) -> bytes:
        """Take the bytes that were written since the last call."""
        writes, self.writes = self.writes, []
        return b"".join(piece for pieces in writes for piece in pieces)
