"""Sinks that keep what they get."""


class Recorder:
    """A sink: whole replies by token, pieces of streamed ones, and the order in which all that came."""

    def __init__(self, streams: bool = False) -> None:
        self.replies: list[tuple[int, bytes]] = []
        self.pieces: list[tuple[int, bytes, bool]] = []
        self.aborted: list[int] = []
        self.streams = streams

    @property
    def owner(self) -> object:
        return self

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        self.replies.append((token, bytes(data[start:end])))

    def accepts_stream(self, token: int) -> bool:
        return self.streams

    def stream(self, token: int, data: bytes, last: bool) -> None:
        self.pieces.append((token, data, last))
        if last:
            self.replies.append((token, b"".join(piece for of, piece, _ in self.pieces if of == token)))

    def abort_stream(self, token: int) -> None:
        self.aborted.append(token)
