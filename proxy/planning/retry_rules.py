"""Decides which unanswered requests may be sent again when their connection is lost. No I/O."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from proxy.engine.entry import Entry
from proxy.engine.jobs import MORE, Job


@dataclass(frozen=True, slots=True)
class Look:
    """The flags of a request: whether Redis flags it readonly, the slots of its keys (None means any slot), and whether
    a replica may answer it."""

    readonly: bool
    slots: frozenset[int] | None
    replica_ok: bool = False


class Outcome(Enum):
    """The outcome of a request; ``RAN`` includes requests that may have run."""

    OPEN = "open"
    RAN = "ran"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The lost requests: those to send ``again``, in order; the ``uncertain`` ones, which may have run; and the
    ``stale`` ones, reads that must not be repeated."""

    again: list[Entry]
    uncertain: list[Entry]
    stale: list[Entry]


def judge(lost: Iterable[Entry], look: Callable[[bytes], Look]) -> Job[Verdict]:
    """Sort the ``lost`` requests of one connection, given in the order in which they were sent.

    Only requests that Redis flags readonly are sent again, and of these none behind which the same client sent a write
    to the same slot: the write may have run, and the read would see its effect.
    """
    verdict = Verdict([], [], [])
    written: dict[int, set[int] | None] = {}
    for entry in reversed(list(lost)):
        yield MORE
        seen = look(entry.frame)
        owner = id(entry.sink.owner)
        if not seen.readonly:
            verdict.uncertain.append(entry)
            written[owner] = _union(written.get(owner, set()), seen.slots)
        elif owner in written and _overlap(written[owner], seen.slots):
            verdict.stale.append(entry)
        else:
            verdict.again.append(entry)
    for entries in (verdict.again, verdict.uncertain, verdict.stale):
        entries.reverse()
    return verdict


def movable(requests: Sequence[tuple[object, Look, bool]]) -> list[bool]:
    """Which of the ``requests`` on one connection may be sent over another one, where they may run before or after the
    others. A request is (its client, its flags, whether it may be sent elsewhere at all); they are in order.

    A request stays if another one of the same client stays that shares a slot with it, in front or behind: the client
    would see its own writes too late or too early. A read without keys is assumed to read all keys.
    """
    staying: dict[int, set[int] | None] = {}
    moves = [False] * len(requests)
    left: list[int] = []
    for index, (owner, look, free) in enumerate(requests):
        if free:
            left.append(index)
        else:
            staying[id(owner)] = _union(staying.get(id(owner), set()), look.slots or None)
    found = True
    while found:
        found = False
        for index in left:
            owner, look, _ = requests[index]
            kept = staying.get(id(owner))
            moves[index] = id(owner) not in staying or not _overlap(kept, look.slots or None)
            if not moves[index]:
                staying[id(owner)] = _union(kept, look.slots or None)
                found = True
        left = [index for index in left if moves[index]]
    return moves


def together(looks: Sequence[Look]) -> Look:
    """The flags of a transaction of these requests. Requests without keys add no slot, since the transaction runs on
    the shard of the others."""
    slots = frozenset(slot for look in looks for slot in look.slots or ())
    readonly = all(look.readonly for look in looks)
    return Look(readonly, slots if slots or readonly else None)


def repeatable(requests: Sequence[tuple[Outcome, Look, object]]) -> list[bool]:
    """Which of one client's ``requests``, in order, may be sent again. A refused one may, unless a request behind it
    ran on the same slot; it still may if both only read, or if both are parts of one request (the third element)."""
    may = [False] * len(requests)
    ran: list[tuple[Look, object]] = []
    written: set[int] | None = set()
    touched: set[int] | None = set()
    for index in range(len(requests) - 1, -1, -1):
        outcome, look, whole = requests[index]
        while ran and ran[0][1] is not whole:
            # The parts of one request follow each other.
            past, _ = ran.pop(0)
            touched = _union(touched, past.slots)
            if not past.readonly:
                written = _union(written, past.slots)
        if outcome is Outcome.RAN:
            ran.append((look, whole))
        elif outcome is Outcome.REFUSED:
            may[index] = not _overlap(written if look.readonly else touched, look.slots)
    return may


def _union(slots: set[int] | None, more: frozenset[int] | None) -> set[int] | None:
    return None if slots is None or more is None else slots | more


def _overlap(slots: set[int] | None, others: frozenset[int] | None) -> bool:
    """Whether both share a slot; None means any slot, an empty set none."""
    if slots is None:
        return True
    return bool(slots) if others is None else not slots.isdisjoint(others)
