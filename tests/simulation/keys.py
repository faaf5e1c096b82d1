"""What one client may find under its keys, as far as it can know: it alone writes them, one request after another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from tests.support.simulated_server import token


class Outcome(Enum):
    """What the client knows of a write."""

    PENDING = "not answered yet"
    DONE = "acknowledged: executed once"
    UNCERTAIN = "executed once or not at all"
    REFUSED = "not executed"


@dataclass(slots=True, eq=False)
class Write:
    """One write to one key; ``value`` None deletes it."""

    key: bytes
    value: bytes | None
    outcome: Outcome = Outcome.PENDING


class Register:
    """A key that is overwritten as a whole (SET, MSET, DEL)."""

    def __init__(self) -> None:
        self.writes: list[Write] = []

    def write(self, key: bytes, value: bytes | None) -> Write:
        """A write that is sent now."""
        write = Write(key, value)
        self.writes.append(write)
        return write

    def possible(self, sent: int, *, stale: bool = False) -> list[bytes | None]:
        """What a read may find that was sent after the first ``sent`` writes.

        ``stale``: it may go over another connection than the writes, so that earlier and later values are right too.
        """
        found: list[bytes | None] = []
        for write in reversed(self.writes if stale else self.writes[:sent]):
            if write.outcome is Outcome.REFUSED:
                continue
            found.append(write.value)
            if write.outcome is Outcome.DONE and not stale:
                return found
        return [*found, None]


class Log:
    """A key that is only added to (APPEND): order and number of its entries show what was executed."""

    def __init__(self) -> None:
        self.writes: list[Write] = []

    def write(self, key: bytes, value: bytes) -> Write:
        """An addition that is sent now; ``value`` ends with a semicolon."""
        write = Write(key, value)
        self.writes.append(write)
        return write

    def check(self, value: bytes | None, sent: int, *, stale: bool = False) -> str | None:
        """What is wrong with a ``value`` that was read after the first ``sent`` additions were sent."""
        if stale:
            sent = len(self.writes)
        entries = [entry + b";" for entry in (value or b"").split(b";")[:-1]]
        numbers = {write.value: number for number, write in enumerate(self.writes[:sent])}
        found = [numbers.get(entry, -1) for entry in entries]
        if -1 in found:
            return f"an entry that was not sent by then: {entries[found.index(-1)]!r}"
        if found != sorted(set(found)):
            return f"out of order or twice: {found}"
        for number, write in enumerate(self.writes[:sent]):
            if write.outcome is Outcome.REFUSED and number in found:
                return f"{write.value!r} is there although it was refused"
            if write.outcome is Outcome.DONE and number not in found and not stale:
                return f"{write.value!r} is missing although it was acknowledged"
        return None


def once(writes: Iterable[Write], executed: Sequence[dict[bytes, int]]) -> list[str]:
    """What is wrong with the number of times that ``writes`` were executed, by the records of all servers."""
    wrong = []
    for write in writes:
        if write.value is None:
            continue
        times = sum(record.get(token(write.value), 0) for record in executed)
        allowed = {Outcome.DONE: (1,), Outcome.REFUSED: (0,)}.get(write.outcome, (0, 1))
        if times not in allowed:
            wrong.append(f"{token(write.value)!r} was executed {times} times: {write.outcome.value}")
    return wrong


class Tally:
    """A key that is counted up (INCR)."""

    def __init__(self) -> None:
        self.writes: list[Write] = []

    def write(self, key: bytes) -> Write:
        """An increment that is sent now."""
        write = Write(key, None)
        self.writes.append(write)
        return write

    def check(self, value: bytes | int | None, sent: int, *, stale: bool = False) -> str | None:
        """What is wrong with a count that was read after the first ``sent`` increments were sent."""
        if stale:
            sent = len(self.writes)
        done = sum(write.outcome is Outcome.DONE for write in self.writes[:sent])
        perhaps = sum(write.outcome in (Outcome.UNCERTAIN, Outcome.PENDING) for write in self.writes[:sent])
        least = 0 if stale else done
        if not least <= int(value or 0) <= done + perhaps:
            return f"counted to {value!r}, which should be {least} to {done + perhaps}"
        return None
