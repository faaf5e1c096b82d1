"""What each key holds as far as its only writer can know: possible values, narrowed by every reply.

A write of unknown outcome leaves two possible values; the next reply says which it was. A reply that fits none of them
is wrong, unless it fits a value that the key had before: then writes that were acknowledged are gone (lost), or, where
reads may come from replicas, it is merely old.
"""

import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

Value = bytes | tuple[bytes, ...] | tuple[tuple[bytes, bytes], ...] | None
"""What a key holds: a string, a list's elements, a hash's fields by name; None if there is no such key."""
Reply = object
"""As hiredis decodes it: bytes, int, None, list."""

READS: Final = frozenset({"GET", "MGET", "EXISTS", "LRANGE", "HGET", "HGETALL"})
_PAST: Final = 512


class Verdict(enum.Enum):
    """What a reply is."""

    RIGHT = "right"
    OLD = "old"
    """A value that the key had before its last writes: fine where reads may come from replicas."""
    EARLY = "early"
    """A value that it did not have yet: a replica may get a write of the same pipeline before it is asked what came
    before that. Right if one of the next writes explains it."""
    LOST = "lost"
    """It shows that writes that were acknowledged are gone."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Part:
    """What a command does to one key."""

    name: str
    key: "Key"
    arguments: tuple[bytes, ...] = ()


def apply(name: str, value: Value, arguments: tuple[bytes, ...]) -> tuple[Value, Reply]:
    """What a key holds after the command, and what the server answers."""
    match name, value:
        case "SET", _:
            return arguments[0], b"OK"
        case "GET", bytes() | None:
            return value, value
        case "INCR", bytes() | None:
            if value is not None and not value.isdigit():
                return value, "ERR"  # after a wrong reply: no server answers that
            number = int(value or 0) + 1
            return b"%d" % number, number
        case "APPEND", bytes() | None:
            longer = (value or b"") + arguments[0]
            return longer, len(longer)
        case (("DEL" | "UNLINK"), _):
            return None, int(value is not None)
        case "EXISTS", _:
            return value, int(value is not None)
        case "LPUSH", tuple() | None:
            items = (*arguments, *(value or ()))
            return items, len(items)
        case "LRANGE", tuple() | None:
            return value, list(value or ())
        case "HSET", tuple() | None:
            fields = dict(value or ())  # type: ignore[arg-type]
            new = arguments[0] not in fields
            fields[arguments[0]] = arguments[1]
            return tuple(sorted(fields.items())), int(new)
        case "HGET", tuple() | None:
            return value, dict(value or ()).get(arguments[0])  # type: ignore[arg-type]
        case "HGETALL", tuple() | None:
            return value, list(value or ())
    raise AssertionError(f"the model knows no {name} of {value!r}")


@dataclass(slots=True)
class Key:
    """One key.

    ``possible`` are the values that it may hold; ``past`` those before each write, with when that was acknowledged.
    """

    name: bytes
    possible: frozenset[Value] = frozenset({None})
    past: deque[tuple[float, frozenset[Value]]] = field(default_factory=lambda: deque(maxlen=_PAST))
    early: list[tuple[float, Part, Reply]] = field(default_factory=list)
    """Replies from replicas, and when they came, that no write explains yet."""
    undone_from: float = 0.0
    """When the first of the writes was acknowledged that the last verdict LOST is about."""

    @property
    def last(self) -> Value:
        """One of the possible values."""
        return next(iter(self.possible))

    def uncertain(self, part: Part) -> None:
        """The part may have been carried out or not."""
        if part.name not in READS:
            self._wrote(self.possible | {apply(part.name, value, part.arguments)[0] for value in self.possible})

    def check(self, part: Part, reply: Reply, now: float, *, stale: bool = False) -> Verdict:
        """What the reply is; what is known changes with it. ``stale``: reads may come from replicas.

        ``now`` is when the reply came, time.monotonic().
        """
        reading = part.name in READS
        if reading and stale:
            if reply in self._replies(part, self.possible):
                return Verdict.RIGHT
            if any(reply in self._replies(part, before) for _, before in self.past):
                return Verdict.OLD
            self.early.append((now, part, reply))
            return Verdict.EARLY
        after = self._fitting(part, reply, self.possible)
        if after:
            if reading:
                self.possible = after
            else:
                self.past.append((now, self.possible))
                self._wrote(after)
            return Verdict.RIGHT
        for number in range(len(self.past) - 1, -1, -1):
            when, before = self.past[number]
            after = self._fitting(part, reply, before)
            if after:
                self.possible = after
                self.undone_from = when
                self._forget(number)
                return Verdict.LOST
        self._adopt(part, reply)
        return Verdict.WRONG

    def sums(self, part: Part, *, past: bool = False) -> tuple[int, int]:
        """The least and the most that this key can add to the reply of a DEL or EXISTS of several keys.

        ``past``: or could, with a value that it had before.
        """
        replies = self._replies(part, self.possible)
        if past:
            for _, before in self.past:
                replies += self._replies(part, before)
        numbers = [int(str(reply)) for reply in replies]
        return min(numbers), max(numbers)

    def carried_out(self, part: Part, now: float) -> None:
        """The part was, whatever it answered."""
        if part.name not in READS:
            self.past.append((now, self.possible))
            self._wrote(frozenset(apply(part.name, value, part.arguments)[0] for value in self.possible))

    def _wrote(self, possible: frozenset[Value]) -> None:
        self.possible = possible
        self.early = [entry for entry in self.early if entry[2] not in self._replies(entry[1], possible)]

    def _forget(self, number: int) -> None:
        """The writes from the ``number``-th on never were."""
        while len(self.past) > number:
            self.past.pop()

    def _adopt(self, part: Part, reply: Reply) -> None:
        """Go on from a wrong reply as from the truth, so that it is told once."""
        match part.name, reply:
            case "GET", bytes() | None:
                self.possible = frozenset({reply})
            case "LRANGE", list():
                self.possible = frozenset({tuple(reply) or None})
            case "INCR", int():
                self.possible = frozenset({b"%d" % reply})
            case _:
                self.possible = frozenset(apply(part.name, value, part.arguments)[0] for value in self.possible)

    @staticmethod
    def _fitting(part: Part, reply: Reply, values: Iterable[Value]) -> frozenset[Value]:
        """The values after the part, of those that it answers ``reply`` to."""
        pairs = (apply(part.name, value, part.arguments) for value in values)
        return frozenset(after for after, said in pairs if said == reply)

    @staticmethod
    def _replies(part: Part, values: Iterable[Value]) -> list[Reply]:
        return [apply(part.name, value, part.arguments)[1] for value in values]
