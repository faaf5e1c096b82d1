"""``read_your_writes``: which of a client's reads go to the primary, because it wrote to the shard a moment ago.

The moment begins when the write is answered: a write that was held while a replica was promoted is on the way to the
other replicas only then. Until it is answered, reads follow it over the same connection.
"""

from collections.abc import Callable, Iterable

from proxy.engine.sink import ForwardingSink, Sink
from proxy.engine.window import ReplyWindow
from proxy.transport.write_batch import Turn


class Written(Sink):
    """What one client wrote to one shard, and where the replies to it go: on to the client's window."""

    __slots__ = ("_seconds", "_turn", "_window", "unanswered", "until")

    def __init__(self, window: ReplyWindow, turn: Turn, seconds: float) -> None:
        self._window = window
        self._turn = turn
        self._seconds = seconds
        self.unanswered = 0
        """How many writes are."""
        self.until = 0.0
        """Until when reads go to the primary, if none is unanswered."""

    def __repr__(self) -> str:
        return f"Written({self.unanswered} unanswered, until {self.until:.3f})"

    @property
    def owner(self) -> object:
        """The client's."""
        return self._window

    def halt(self) -> None:
        """The client's."""
        self._window.halt()

    def answered(self) -> None:
        """One of the writes is."""
        self.unanswered -= 1
        self.until = self._turn.now() + self._seconds

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Pass on a reply."""
        self.answered()
        self._window.deliver(token, data, start, end)

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        """Pass on a reply."""
        self.answered()
        self._window.deliver_pieces(token, pieces)

    def accepts_stream(self, token: int) -> bool:
        """As the window says."""
        return self._window.accepts_stream(token)

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Pass on a piece."""
        if last:
            self.answered()
        self._window.stream(token, data, last)

    def holds_back(self, resume: Callable[[], object]) -> bool:
        """As the window says."""
        return self._window.holds_back(resume)

    def abort_stream(self, token: int) -> None:
        """The reply breaks off."""
        self.answered()
        self._window.abort_stream(token)


class Relay(ForwardingSink):
    """Where the reply goes to a write on several shards, or to one that is not for the window as it is."""

    __slots__ = ("_written",)

    def __init__(self, sink: Sink, written: list[Written]) -> None:
        super().__init__(sink)
        self._written = written

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Pass on the reply."""
        for written in self._written:
            written.answered()
        self.sink.deliver(token, data, start, end)

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        """Pass on the reply."""
        for written in self._written:
            written.answered()
        self.sink.deliver_pieces(token, pieces)

    def kept(self, token: int, size: int) -> int:
        """As the sink says."""
        return self.sink.kept(token, size)

    def accepts_stream(self, token: int) -> bool:
        """No: these replies are short, or merged from whole ones."""
        return False

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Never called, as nothing is accepted in pieces."""
        raise AssertionError("the reply to a relayed write was streamed")

    def abort_stream(self, token: int) -> None:
        """Never called, as nothing is accepted in pieces."""
        raise AssertionError("the reply to a relayed write was streamed")


class OwnWrites:
    """One client's writes, by shard. ``slot_shard`` is the snapshot's that the numbers of shards are of.

    When that changes, a number may mean another shard, and a key may be elsewhere: then reads of all shards go to the
    primary for as long as those of any would have.
    """

    __slots__ = ("_earlier", "_seconds", "_shards", "_slot_shard", "_turn", "_window")

    def __init__(self, window: ReplyWindow, turn: Turn, seconds: float) -> None:
        self._window = window
        self._turn = turn
        self._seconds = seconds
        self._slot_shard: tuple[int, ...] = ()
        self._shards: list[Written | None] = []
        """By the shard's number and one, as ``NOBODY`` has its place too."""
        self._earlier: list[Written] = []

    def lately(self, shard: int, slot_shard: tuple[int, ...], now: float) -> bool:
        """Whether a read of ``shard`` at ``now`` must go to the primary."""
        if slot_shard is not self._slot_shard:
            self._renumber(slot_shard)
        if self._earlier and self._any_earlier(now):
            return True
        if shard + 1 >= len(self._shards):
            return False
        written = self._shards[shard + 1]
        return written is not None and (written.unanswered > 0 or now < written.until)

    def sink(self, shard: int, slot_shard: tuple[int, ...]) -> Sink:
        """Where the reply to a write on ``shard`` goes that is sent now."""
        written = self._written(shard, slot_shard)
        written.unanswered += 1
        return written

    def relay(self, shards: Iterable[int], slot_shard: tuple[int, ...], sink: Sink) -> Sink:
        """Where the reply to a write on ``shards`` goes, on its way to ``sink``."""
        found = [self._written(shard, slot_shard) for shard in shards]
        for written in found:
            written.unanswered += 1
        return Relay(sink, found)

    def _written(self, shard: int, slot_shard: tuple[int, ...]) -> Written:
        if slot_shard is not self._slot_shard:
            self._renumber(slot_shard)
        while shard + 1 >= len(self._shards):
            self._shards.append(None)
        written = self._shards[shard + 1]
        if written is None:
            written = self._shards[shard + 1] = Written(self._window, self._turn, self._seconds)
        return written

    def _renumber(self, slot_shard: tuple[int, ...]) -> None:
        self._slot_shard = slot_shard
        self._earlier += [written for written in self._shards if written is not None]
        self._shards = []

    def _any_earlier(self, now: float) -> bool:
        self._earlier = [written for written in self._earlier if written.unanswered or now < written.until]
        return bool(self._earlier)
