"""The slots of a request's keys, and whether a SORT reads keys in other slots: found at once, or in slices if there are
very many arguments. No I/O.
"""

from collections.abc import Sequence

from proxy.commands.facts import Fact
from proxy.commands.getkeys import FINDING, KeysError, finding_patterns, sort_keys, sort_ro_keys
from proxy.commands.keys import key_indexes, key_spans
from proxy.engine.jobs import MORE, Job, at_once
from proxy.sharding.colocation import SlotOf

_SORTS = (sort_keys, sort_ro_keys)
_STEP = 64
"""The number of keys after which the job may be interrupted."""


class Found:
    """The result of ``examining`` for ``args``, a call of ``fact``."""

    __slots__ = ("args", "asked", "denied", "fact", "naming", "slots")

    def __init__(self, fact: Fact, args: Sequence[bytes]) -> None:
        self.fact = fact
        self.args = args
        self.slots: frozenset[int] | None = None
        """The slots of the keys; None if the keys can not be found."""
        self.denied: str | None = None
        self.naming = args
        """As far as they name scripts that are kept."""
        self.asked: object = None
        """The parsed arguments of a long command without keys."""


class Examined:
    """Holds the result of ``examining`` for the request that a worker carries out now, if that is a very long one."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: Found | None = None

    def of(self, fact: Fact, args: Sequence[bytes]) -> Found | None:
        """The result for ``args`` as a call of ``fact``, or None."""
        found = self.found
        return found if found is not None and found.args is args and found.fact is fact else None


def slots_of(fact: Fact, args: Sequence[bytes], slot_of: SlotOf, examined: Examined) -> frozenset[int]:
    """The slots of the keys in ``args``. Raises ``KeysError``."""
    found = examined.of(fact, args)
    if found is None:
        return frozenset(slot_of(args[index]) for index in key_indexes(fact, args))
    if found.slots is None:
        raise KeysError("the arguments do not fit the command")
    return found.slots


def denied(
    fact: Fact, args: Sequence[bytes], slots: frozenset[int], pattern_slot: SlotOf, examined: Examined
) -> str | None:
    """The option (BY or GET) of a SORT that may read keys in other slots than the sorted key, or None. ``slots`` are
    those of the command's keys; ``pattern_slot`` is ``Colocation.pattern_slot``."""
    if fact.getkeys not in _SORTS:
        return None
    found = examined.of(fact, args)
    return at_once(_denying(fact, args, slots, pattern_slot)) if found is None else found.denied


def examining(fact: Fact, args: Sequence[bytes], slot_of: SlotOf, pattern_slot: SlotOf) -> Job[Found]:
    """Find the slots of ``args``, which fit the arity of ``fact``, as a job."""
    found = Found(fact, args)
    slots: set[int] = set()
    try:
        finding = None if fact.getkeys is None else FINDING.get(fact.getkeys)
        spans = key_spans(fact, args) if finding is None else [(yield from finding(args))]
        for span in spans:
            for at in range(0, len(span), _STEP):
                slots.update([slot_of(args[index]) for index in span[at : at + _STEP]])
                yield MORE
        found.slots = frozenset(slots)
        found.denied = yield from _denying(fact, args, found.slots, pattern_slot)
    except KeysError:
        pass
    return found


def _denying(fact: Fact, args: Sequence[bytes], slots: frozenset[int], pattern_slot: SlotOf) -> Job[str | None]:
    if len(slots) != 1 or fact.getkeys not in _SORTS:
        return None
    (slot,) = slots
    found: list[str] = []

    def look(option: bytes, pattern: bytes) -> bool:
        if pattern_slot(pattern) != slot:
            found.append(option.decode().upper())
        return not found

    yield from finding_patterns(args, look)
    return found[0] if found else None
