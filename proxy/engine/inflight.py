"""The FIFO of requests on one backend connection: what is still to be written, and what waits for its reply."""

from collections import deque
from itertools import islice
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

    __slots__ = ("_entries", "_unsent")

    def __init__(self) -> None:
        self._entries: deque[Entry | tuple[Sink, int, bytes, float]] = deque()
        self._unsent: list[bytes] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"InFlight({len(self._entries)} requests, {len(self._unsent)} not written)"

    @property
    def unsent(self) -> int:
        """How many requests are not written yet."""
        return len(self._unsent)

    @property
    def written(self) -> int:
        """How many requests are written and wait for their replies."""
        return len(self._entries) - len(self._unsent)

    def push(self, sink: Sink, token: int, data: bytes, start: int, end: int, since: float) -> None:
        """Add the request at ``data[start:end]``, not written yet."""
        frame = data[start:end]
        self._entries.append((sink, token, frame, since))
        self._unsent.append(frame)

    def take(self) -> bytes:
        """The bytes of all requests not written yet, as one piece; they count as written from now on."""
        unsent = self._unsent
        if len(unsent) == 1:
            return unsent.pop()
        piece = b"".join(unsent)
        unsent.clear()
        return piece

    def pop(self) -> Entry | tuple[Sink, int, bytes, float]:
        """Remove the oldest request, whose reply has come. Raises ``IndexError`` when there is none."""
        return self._entries.popleft()

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
        keep: deque[Entry | tuple[Sink, int, bytes, float]] = deque()
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
        self._entries = keep
        self._unsent = unsent
        return late, unwritten

    def drain(self) -> tuple[list[Entry], list[Entry]]:
        """Take everything out that somebody waits for: (the written requests, the unwritten ones), each in order."""
        written = self.written
        items = self._entries
        self._entries = deque()
        self._unsent = []
        return (
            [Entry(*item) for item in islice(items, written) if item[0] is not DISCARD],
            [Entry(*item) for item in islice(items, written, None) if item[0] is not DISCARD],
        )
