"""``read_your_writes``: decides which of a client's reads go to the primary, as the client wrote to the shard recently.

The time begins when the write is answered: a write that was held while a replica was promoted reaches the other
replicas only then. Until the write is answered, reads follow it over the same connection.
"""

from collections.abc import Callable, Iterable

from proxy.engine.sink import ForwardingSink, Sink
from proxy.engine.window import ReplyWindow
from proxy.transport.write_batch import Turn


class Written(Sink):
    """One client's writes to one shard, and the sink of the replies to them, which go on to the client's window."""

    __slots__ = ("_seconds", "_turn", "_window", "unanswered", "until")

    def __init__(self, window: ReplyWindow, turn: Turn, seconds: float) -> None:
        self._window = window
        self._turn = turn
        self._seconds = seconds
        self.unanswered = 0
        """The number of unanswered writes."""
        self.until = 0.0
        """The time until which reads go to the primary, if no write is unanswered."""

    def __repr__(self) -> str:
        return f"Written({self.unanswered} unanswered, until {self.until:.3f})"

    @property
    def owner(self) -> object:
        """The window of the client."""
        return self._window

    def halt(self) -> None:
        """Halt the client."""
        self._window.halt()

    def answered(self) -> None:
        """Count one more write as answered."""
        self.unanswered -= 1
        self.until = self._turn.now() + self._seconds

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Pass the reply on."""
        self.answered()
        self._window.deliver(token, data, start, end)

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        """Pass the reply on."""
        self.answered()
        self._window.deliver_pieces(token, pieces)

    def accepts_stream(self, token: int) -> bool:
        """Ask the window."""
        return self._window.accepts_stream(token)

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Pass the piece on."""
        if last:
            self.answered()
        self._window.stream(token, data, last)

    def holds_back(self, resume: Callable[[], object]) -> bool:
        """Ask the window."""
        return self._window.holds_back(resume)

    def abort_stream(self, token: int) -> None:
        """Pass on that the reply was aborted."""
        self.answered()
        self._window.abort_stream(token)


class Relay(ForwardingSink):
    """The sink of the reply to a write on several shards, or to one whose reply goes to another sink than the
    window."""

    __slots__ = ("_written",)

    def __init__(self, sink: Sink, written: list[Written]) -> None:
        super().__init__(sink)
        self._written = written

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """Pass the reply on."""
        for written in self._written:
            written.answered()
        self.sink.deliver(token, data, start, end)

    def deliver_pieces(self, token: int, pieces: list[bytes]) -> None:
        """Pass the reply on."""
        for written in self._written:
            written.answered()
        self.sink.deliver_pieces(token, pieces)

    def kept(self, token: int, size: int) -> int:
        """Ask the sink."""
        return self.sink.kept(token, size)

    def accepts_stream(self, token: int) -> bool:
        """Accept no pieces: these replies are short, or merged from whole ones."""
        return False

    def stream(self, token: int, data: bytes, last: bool) -> None:
        """Raise ``AssertionError``, as no pieces are accepted."""
        raise AssertionError("the reply to a relayed write was streamed")

    def abort_stream(self, token: int) -> None:
        """Raise ``AssertionError``, as no pieces are accepted."""
        raise AssertionError("the reply to a relayed write was streamed")


class OwnWrites:
    """One client's writes by shard. ``slot_shard`` is that of the snapshot to which the numbers of the shards belong.

    In another snapshot a number may mean another shard, and a key may be on another one: then reads of all shards go to
    the primary until the time of every earlier write is over.
    """

    __slots__ = ("_earlier", "_seconds", "_shards", "_slot_shard", "_turn", "_window")

    def __init__(self, window: ReplyWindow, turn: Turn, seconds: float) -> None:
        self._window = window
        self._turn = turn
        self._seconds = seconds
        self._slot_shard: tuple[int, ...] = ()
        self._shards: list[Written | None] = []
        """The writes by the shard's number plus one, so that ``NOBODY`` has a place too."""
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
        """The sink of the reply to a write that is sent to ``shard`` now."""
        written = self._written(shard, slot_shard)
        written.unanswered += 1
        return written

    def relay(self, shards: Iterable[int], slot_shard: tuple[int, ...], sink: Sink) -> Sink:
        """The sink of the reply to a write on ``shards``; the reply goes on to ``sink``."""
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
