"""What becomes of requests that were sent and not answered when their connection is lost. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.engine.entry import Entry


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a request: whether Redis flags it readonly, the slots of its keys (None: any slot), and whether
    a replica may answer it."""

    readonly: bool
    slots: frozenset[int] | None
    replica_ok: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """``again``: sent once more, in order. ``uncertain``: may have run. ``stale``: reads that must not be repeated."""

    again: list[Entry]
    uncertain: list[Entry]
    stale: list[Entry]


def judge(lost: Iterable[Entry], look: Callable[[bytes], Look]) -> Verdict:
    """Sort the ``lost`` requests of one connection, given in the order in which they were sent.

    Only what Redis flags readonly is sent twice, and of that nothing behind which the same client sent a write on the
    same slot: the write may have run, and the read would see what comes after it.
    """
    verdict = Verdict([], [], [])
    written: dict[int, set[int] | None] = {}
    for entry in reversed(list(lost)):
        seen = look(entry.frame)
        owner = id(entry.sink.owner)
        if not seen.readonly:
            verdict.uncertain.append(entry)
            slots = written.setdefault(owner, set())
            written[owner] = None if slots is None or seen.slots is None else slots | seen.slots
        elif owner in written and _overlap(written[owner], seen.slots):
            verdict.stale.append(entry)
        else:
            verdict.again.append(entry)
    for entries in (verdict.again, verdict.uncertain, verdict.stale):
        entries.reverse()
    return verdict


def _overlap(written: set[int] | None, read: frozenset[int] | None) -> bool:
    return written is None or read is None or not written.isdisjoint(read)
