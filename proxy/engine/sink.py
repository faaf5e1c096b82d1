"""Where a backend's reply goes."""

from collections.abc import Callable


class Sink:
    """Takes the reply of a request that it sent under ``token``.

    Exactly one ``deliver`` comes for each request, with the reply's frame at ``data[start:end]``; the sink copies what
    it keeps. A sink that ``accepts_stream`` at that moment may get a large reply in pieces instead: any number of
    ``stream`` calls, of which the last has ``last=True``. One that does not gets it by ``deliver_pieces`` when it is
    whole.

    This one drops what it gets: as ``DISCARD`` it stands for requests that were answered by a timeout.
    """

    __slots__ = ()

    @property
    def owner(self) -> object:
        """Whose request it is: the same object for all requests of one client."""
        return self

    @property
    def counted(self) -> bool:
        """Whether an error for it is a command that failed, and not just a part of one."""
        return True

    def halt(self) -> None:
        """Take no more requests from its client until all it has sent are answered: one of them was refused, and is
        sent elsewhere."""

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take a whole reply."""

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        """Take a whole reply that came in pieces; the list is the sink's from now on."""
        reply = b"".join(pieces)
        self.deliver(token, reply, 0, len(reply))

    def kept(self, token: int, size: int) -> int:
        """How many bytes are kept of the whole that is waited for, if they are ``size`` of the reply for ``token``."""
        return size

    def accepts_stream(self, token: int) -> bool:
        """Whether the reply for ``token`` can be taken in pieces, from now on until it is whole."""
        return True

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Take the next piece of a reply."""

    def holds_back(self, resume: Callable[[], object]) -> bool:
        """Whether its reader is behind, so that no more pieces should come until ``resume`` is called, once."""
        return False

    def abort_stream(self, token: int) -> None:
        """The rest of a reply that was begun will never come."""


class ForwardingSink(Sink):
    """Makes something of a reply, and hands it on to ``sink``, whose request it is.

    A subclass says in ``deliver`` what becomes of a whole reply. All else is as ``sink`` has it, so one that can not
    pass a reply on in pieces says so in ``accepts_stream``.
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
        """Whether ``sink`` has an error counted."""
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
        """How many bytes ``sink`` says are kept."""
        return self.sink.kept(token, size)

    def accepts_stream(self, token: int) -> bool:
        """Whether ``sink`` takes the reply in pieces."""
        return self.sink.accepts_stream(token)

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Pass on a piece of a reply."""
        self.sink.stream(token, data, last)

    def holds_back(self, resume: Callable[[], object]) -> bool:
        """Whether the reader of ``sink`` is behind."""
        return self.sink.holds_back(resume)

    def abort_stream(self, token: int) -> None:
        """Tell ``sink`` that the rest of a reply will never come."""
        self.sink.abort_stream(token)


class WholeReplySink(Sink):
    """Takes each reply whole, as ``bytes`` of its own: a subclass says in ``take`` what becomes of it."""

    __slots__ = ()

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Take the reply out of what came with it."""
        self.take(token, data[start:end])

    def accepts_stream(self, token: int) -> bool:
        """Refuse pieces: the reply is looked at whole."""
        return False

    def take(self, token: int, reply: bytes) -> None:
        """Take the frame of a whole reply."""
        raise NotImplementedError


DISCARD = Sink()
ASKED = Sink()
"""Takes the answer to ASKING."""
QUEUED = Sink()
"""Takes what a server answers to a transaction before it answers EXEC."""
UNASKED = frozenset((DISCARD, ASKED, QUEUED))
"""Those that stand for no client's request."""

OnError = Callable[[Sink, bytes], None]
"""Called with the sink and the frame of a request that is answered with an error, to count it."""
