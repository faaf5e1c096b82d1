"""The FIFO of one backend connection: the requests still to be written, and those that wait for their replies."""

from collections import deque
from collections.abc import Mapping
from typing import Protocol

from proxy.engine.entry import Entry
from proxy.engine.sink import DISCARD, UNASKED, Sink

LARGE = 16 * 1024
"""A request of so many bytes is written as a piece of its own; smaller ones are joined."""


class Transport(Protocol):
    """The methods of a transport that write."""

    def write(self, data: bytes) -> None:
        """Write one piece."""

    def writelines(self, list_of_data: list[bytes]) -> None:
        """Write several pieces."""


class InFlight:
    """Requests in the order they are sent, kept until answered.

    A reply belongs to the oldest written request: ``answer`` delivers it to that request's sink. Requests are pushed at
    the end; ``write_to`` writes those not written yet. An unwritten request can be taken back, and a request lost with
    its connection can be pushed again, because the bytes are kept. A request without bytes stands for one more reply
    to the request behind it.

    This version keeps tuples in a deque; the twin in inflight.pyx keeps structs in a ring and the bytes as they were
    written. The methods are the same.
    """

    __slots__ = ("_entries", "_large", "_sizes", "_unsent", "unanswered", "written")

    def __init__(self) -> None:
        self._entries: deque[tuple[Sink, int, bytes, float]] = deque()
        self._unsent: list[bytes] = []
        self._large = False
        self._sizes: deque[int] = deque()
        """The sizes of the written requests, in bytes."""
        self.unanswered = 0
        """How many bytes of written requests are not answered, discarded requests included."""
        self.written = 0
        """How many requests are written and wait for their replies."""

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
        if end - start >= LARGE:
            self._large = True

    def write_to(self, transport: Transport) -> None:
        """Write all requests not written yet."""
        unsent = self._unsent
        if not unsent:
            return
        self._unsent = []
        self.written += len(unsent)
        self._sizes.extend(map(len, unsent))
        self.unanswered += sum(map(len, unsent))
        if len(unsent) == 1:
            transport.write(unsent[0])
        elif self._large:
            transport.writelines([frame for frame in unsent if frame])
        else:
            transport.write(b"".join(unsent))
        self._large = False

    def write_upto(self, transport: Transport, most: int) -> None:
        """Write requests while at most ``most`` bytes are unanswered; one of any size if none is unanswered."""
        size = self.unanswered
        count = 0
        for at, frame in enumerate(self._unsent):
            size += len(frame)
            if size > most and (count or self.written):
                break
            if frame:  # a request without bytes goes with the one behind it
                count = at + 1
        else:
            count = len(self._unsent)
        rest = self._unsent[count:]
        del self._unsent[count:]
        self.write_to(transport)
        self._unsent += rest

    def answer(self, data: bytes, start: int, end: int) -> float:
        """Deliver the reply at ``data[start:end]`` to the oldest request's sink, and return when that request came.

        Raises ``IndexError`` when none is written.
        """
        if not self.written:
            raise IndexError("no request is written")
        self.written -= 1
        self.unanswered -= self._sizes.popleft()
        sink, token, _, since = self._entries.popleft()
        sink.deliver(token, data, start, end)
        return since

    def pop(self) -> Entry:
        """Remove the oldest request, whose reply has come. Raises ``IndexError`` when none is written."""
        if not self.written:
            raise IndexError("no request is written")
        self.written -= 1
        self.unanswered -= self._sizes.popleft()
        return Entry(*self._entries.popleft())

    def peek(self) -> Entry:
        """The oldest request. Raises ``IndexError`` when there is none."""
        return Entry(*self._entries[0])

    def oldest(self) -> float | None:
        """When the oldest request came whose reply is not discarded, in seconds; None without one."""
        for sink, _, _, since in self._entries:
            if sink is not DISCARD:
                return since
        return None

    def first(self) -> float | None:
        """When the request came whose reply comes next, discarded or not, in seconds; None without one."""
        return self._entries[0][3] if self.written else None

    def entries(self) -> list[Entry]:
        """All requests in order, the written ones first."""
        return [Entry(*item) for item in self._entries]

    def owners(self) -> set[object]:
        """The owners of all requests."""
        sinks = dict.fromkeys(sink for sink, _, _, _ in self._entries)
        return {sink.owner for sink in sinks if sink not in UNASKED}

    def serves_others(self, owner: object) -> bool:
        """Whether a client other than ``owner`` waits for a reply."""
        last: Sink = DISCARD
        for sink, _, _, _ in self._entries:
            if sink is last or sink in UNASKED:
                continue
            if sink.owner is not owner:
                return True
            last = sink
        return False

    def of(self, owner: object) -> list[tuple[int, Entry]]:
        """The requests of ``owner``, each with its place in the FIFO."""
        return [(place, Entry(*item)) for place, item in enumerate(self._entries) if item[0].owner is owner]

    def rewire(self, sinks: Mapping[int, Sink]) -> None:
        """Replace the sinks of the requests at the places that are the keys of ``sinks``."""
        entries = list(self._entries)
        for place, sink in sinks.items():
            entries[place] = (sink, *entries[place][1:])
        self._entries = deque(entries)

    def recall(self) -> list[Entry]:
        """Take back the requests that are not written yet."""
        taken = [Entry(*self._entries.pop()) for _ in range(len(self._entries) - self.written)]
        self._unsent = []
        return [entry for entry in reversed(taken) if entry.sink is not DISCARD]

    def restart(self, now: float) -> None:
        """Set the time at which all requests came to ``now``."""
        self._entries = deque((sink, token, frame, now) for sink, token, frame, _ in self._entries)

    def expire(self, before: float) -> tuple[list[Entry], list[Entry]]:
        """Discard the requests that came before ``before``, and return them: (written ones, unwritten ones).

        The written ones keep their place, since their replies may still come, and those replies are dropped.
        """
        written = self.written
        late: list[Entry] = []
        unwritten: list[Entry] = []
        keep: deque[tuple[Sink, int, bytes, float]] = deque()
        unsent: list[bytes] = []
        for index, item in enumerate(self._entries):
            sink, _, frame, since = item
            overdue = since < before and sink is not DISCARD
            if index >= written:
                if overdue:
                    unwritten.append(Entry(*item))
                    continue
                unsent.append(frame)
            elif overdue:
                late.append(Entry(*item))
                item = (DISCARD, 0, b"", since)
            keep.append(item)
        self._entries = keep
        self._unsent = unsent
        return late, unwritten

    def drain(self) -> tuple[list[Entry], list[Entry]]:
        """Empty the FIFO; return the requests that are not discarded: (written ones, unwritten ones), each in order."""
        entries = self.entries()
        written, self.written = self.written, 0
        self.unanswered = 0
        self._sizes.clear()
        self._entries.clear()
        self._unsent = []
        return (
            [entry for entry in entries[:written] if entry.sink is not DISCARD],
            [entry for entry in entries[written:] if entry.sink is not DISCARD],
        )
