"""Sinks: the receivers of servers' replies."""

from collections.abc import Callable


class Sink:
    """Receives the replies of the requests that were pushed with it, each under its ``token``.

    ``deliver`` is called exactly once for each request, with the reply's frame at ``data[start:end]``; the sink copies
    what it keeps. A large reply may come in pieces instead, if ``accepts_stream`` is true at that moment: by any number
    of ``stream`` calls, the last with ``last=True``. If it is false, the whole reply comes by ``deliver_pieces``.

    The base class drops its replies: ``DISCARD`` is an instance, for requests that were answered by a timeout.
    """

    __slots__ = ()

    @property
    def owner(self) -> object:
        """The owner of the request: the same object for all requests of one client."""
        return self

    @property
    def counted(self) -> bool:
        """Whether an error counts as a failed command: false for a part of a split command."""
        return True

    def halt(self) -> None:
        """Take no more requests from the client until all that it has sent are answered: one of them was refused by a
        server, and is sent to another."""

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take a whole reply."""

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        """Take a whole reply that came in pieces; the caller gives the list away."""
        reply = b"".join(pieces)
        self.deliver(token, reply, 0, len(reply))

    def kept(self, token: int, size: int) -> int:
        """How many bytes are kept for the client's request, if ``size`` bytes of the reply for ``token`` are kept.

        The two differ for a part of a split command, whose other parts keep bytes too.
        """
        return size

    def accepts_stream(self, token: int) -> bool:
        """Whether the reply for ``token`` can be taken in pieces, from now on until its end."""
        return True

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Take the next piece of a reply."""

    def holds_back(self, resume: Callable[[], object]) -> bool:
        """Whether the reader is slow, so that no more pieces should come until ``resume`` is called, once."""
        return False

    def abort_stream(self, token: int) -> None:
        """Learn that the rest of a reply that was streamed in part will never come."""


class ForwardingSink(Sink):
    """Transforms a reply and passes it on to ``sink``, whose request it answers.

    A subclass transforms a whole reply in ``deliver``. All other calls go to ``sink`` unchanged, so a subclass that
    can not pass a reply on in pieces overrides ``accepts_stream``.
    """

    __slots__ = ("sink",)

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    @property
    def owner(self) -> object:
        """The client that ``sink`` belongs to."""
        return self.sink.owner

    @property
    def counted(self) -> bool:
        """Whether an error counts as a failed command for ``sink``."""
        return self.sink.counted

    def halt(self) -> None:
        """Halt the client that ``sink`` belongs to."""
        self.sink.halt()

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Pass on a whole reply."""
        self.sink.deliver(token, data, start, end)

    def forward(self, token: int, reply: bytes) -> None:
        """Pass on ``reply``, in place of what came."""
        self.sink.deliver(token, reply, 0, len(reply))

    def kept(self, token: int, size: int) -> int:
        """How many bytes are kept for the request, as ``sink`` counts them."""
        return self.sink.kept(token, size)

    def accepts_stream(self, token: int) -> bool:
        """Whether ``sink`` takes the reply in pieces."""
        return self.sink.accepts_stream(token)

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Pass on a piece of a reply."""
        self.sink.stream(token, data, last)

    def holds_back(self, resume: Callable[[], object]) -> bool:
        """Whether the reader of ``sink`` is slow."""
        return self.sink.holds_back(resume)

    def abort_stream(self, token: int) -> None:
        """Tell ``sink`` that the rest of a reply will never come."""
        self.sink.abort_stream(token)


class WholeReplySink(Sink):
    """Takes each reply whole, as a ``bytes`` of its own, which a subclass handles in ``take``."""

    __slots__ = ()

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Cut the reply out of ``data``."""
        self.take(token, data[start:end])

    def accepts_stream(self, token: int) -> bool:
        """Refuse pieces: the reply is inspected whole."""
        return False

    def take(self, token: int, reply: bytes) -> None:
        """Take the frame of a whole reply."""
        raise NotImplementedError


DISCARD = Sink()
ASKED = Sink()
"""The sink of the replies to ASKING."""
QUEUED = Sink()
"""The sink of the replies to the commands of a transaction in front of EXEC."""
UNASKED = frozenset((DISCARD, ASKED, QUEUED))
"""The sinks that belong to no client's request."""

OnError = Callable[[Sink, bytes], None]
"""A callback that counts an error: called with the sink and the frame of the request that it answers."""
