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
        """Take no more requests from its client until all it has sent are answered: one of them is on a detour."""

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


class Onward(Sink):
    """Hands what it makes of a reply on to ``sink``, whose request it is."""

    __slots__ = ("sink",)

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    @property
    def owner(self) -> object:
        """The client's."""
        return self.sink.owner

    @property
    def counted(self) -> bool:
        """As the sink says."""
        return self.sink.counted

    def halt(self) -> None:
        """The client's."""
        self.sink.halt()


DISCARD = Sink()
ASKED = Sink()
"""Takes the answer to ASKING."""
QUEUED = Sink()
"""Takes what a server answers to a transaction before it answers EXEC."""
UNASKED = frozenset((DISCARD, ASKED, QUEUED))
"""Those that stand for no client's request."""

OnError = Callable[[Sink, bytes], None]
"""Called with the sink and the frame of a request that is answered with an error, to count it."""
