"""The FIFO of requests on one backend connection: what is still to be written, and what waits for its reply."""

from collections import deque
from typing import NamedTuple

from proxy.engine.sink import DISCARD, Sink


class Entry(NamedTuple):
    """A request on its way: who gets the reply, the bytes (kept until answered), and when it came, in seconds."""

    sink: Sink
    token: int
    frame: bytes
    since: float


class InFlight:
    """Requests in the order they are sent, kept until answered.

    A reply belongs to the oldest request that was written: ``pop`` gives it. Requests are pushed at the end; ``take``
    hands out what is not written yet and counts it as written. What was never written can be taken back, and what
    was written and lost can be pushed again, because the bytes are kept.

    Uncompiled, entries are tuples in a deque; compiled they are structs over one byte queue, with the same methods.
    """

    __slots__ = ("_entries", "_unsent", "popleft", "written")

    def __init__(self) -> None:
        self._entries: deque[Entry | tuple[Sink, int, bytes, float]] = deque()
        self._unsent: list[bytes] = []
        self.written = 0
        """How many requests are written and wait for their replies."""
        self.popleft = self._entries.popleft
        """``pop`` for the loop over replies, which sees to ``written`` itself."""

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"InFlight({len(self._entries)} requests, {len(self._unsent)} not written)"

    @property
    def unsent(self) -> int:
        """How many requests are not written yet."""
        return len(self._unsent)

    def push(self, sink: Sink, token: int, data: bytes, start: int, end: int, since: float) -> None:
        """Add the request at ``data[start:end]``, not written yet."""
        frame = data[start:end]
        self._entries.append((sink, token, frame, since))
        self._unsent.append(frame)

    def take(self) -> bytes:
        """The bytes of all requests not written yet, as one piece; they count as written from now on."""
        unsent = self._unsent
        self.written += len(unsent)
        if len(unsent) == 1:
            return unsent.pop()
        piece = b"".join(unsent)
        unsent.clear()
        return piece

    def pop(self) -> Entry:
        """Remove the oldest request, whose reply has come. Raises ``IndexError`` when none is written."""
        if not self.written:
            raise IndexError("no request is written")
        self.written -= 1
        return Entry(*self._entries.popleft())

    def peek(self) -> Entry:
        """The oldest request. Raises ``IndexError`` when there is none."""
        return Entry(*self._entries[0])

    def oldest(self) -> float | None:
        """When the oldest request came that somebody waits for, or None."""
        for sink, _, _, since in self._entries:
            if sink is not DISCARD:
                return since
        return None

    def first(self) -> float | None:
        """When the request came whose reply comes next, whether or not somebody waits for it, or None."""
        return self._entries[0][3] if self.written else None

    def expire(self, before: float) -> tuple[list[Entry], list[Entry]]:
        """Take the requests that came before ``before`` out of their senders' hands: (written ones, unwritten ones).

        The written ones keep their place, since their replies may still come, and those replies are dropped.
        """
        written = self.written
        late: list[Entry] = []
        unwritten: list[Entry] = []
        keep: list[Entry | tuple[Sink, int, bytes, float]] = []
        unsent: list[bytes] = []
        for index, item in enumerate(self._entries):
            entry = Entry(*item)
            expired = entry.since < before and entry.sink is not DISCARD
            if index < written:
                if expired:
                    late.append(entry)
                    keep.append((DISCARD, 0, b"", entry.since))
                else:
                    keep.append(item)
            elif expired:
                unwritten.append(entry)
            else:
                keep.append(item)
                unsent.append(entry.frame)
        self._entries.clear()
        self._entries.extend(keep)
        self._unsent = unsent
        return late, unwritten

    def drain(self) -> tuple[list[Entry], list[Entry]]:
        """Take everything out that somebody waits for: (the written requests, the unwritten ones), each in order."""
        items = [Entry(*item) for item in self._entries]
        written, self.written = self.written, 0
        self._entries.clear()
        self._unsent = []
        return (
            [entry for entry in items[:written] if entry.sink is not DISCARD],
            [entry for entry in items[written:] if entry.sink is not DISCARD],
        )
