"""The slots of a request's keys, and whether a SORT reads keys of other ones: found out at once, or in slices where
there are very many arguments. Pure.
"""

from collections.abc import Sequence

from proxy.commands.facts import Fact
from proxy.commands.getkeys import FINDING, KeysError, finding_patterns, sort_keys, sort_ro_keys
from proxy.commands.keys import key_indexes, key_spans
from proxy.engine.jobs import MORE, Job, at_once
from proxy.sharding.colocation import SlotOf
from proxy.sharding.slots import hashed_part, key_slot

_SORTS = (sort_keys, sort_ro_keys)
_STEP = 64
"""Keys until that may be interrupted."""


class Found:
    """What ``examining`` has found out about ``args``, as a call of ``fact``."""

    __slots__ = ("args", "asked", "denied", "fact", "naming", "slots")

    def __init__(self, fact: Fact, args: Sequence[bytes]) -> None:
        self.fact = fact
        self.args = args
        self.slots: frozenset[int] | None = None
        """None: its keys can not be told."""
        self.denied: str | None = None
        self.naming = args
        """As far as they name scripts that are kept."""
        self.asked: object = None
        """What else it asks for, if it is no command of keys."""


class Examined:
    """What is known already about the request that a worker carries out now, if it is one of very many arguments."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: Found | None = None

    def of(self, fact: Fact, args: Sequence[bytes]) -> Found | None:
        """What is known of it as a call of ``fact``."""
        found = self.found
        return found if found is not None and found.args is args and found.fact is fact else None


def slots_of(fact: Fact, args: Sequence[bytes], slot_of: SlotOf, examined: Examined) -> frozenset[int]:
    """The slots of the keys. Raises ``KeysError``."""
    found = examined.of(fact, args)
    if found is None:
        return frozenset(slot_of(args[index]) for index in key_indexes(fact, args))
    if found.slots is None:
        raise KeysError("the arguments do not fit the command")
    return found.slots


def denied(fact: Fact, args: Sequence[bytes], slots: frozenset[int], examined: Examined) -> str | None:
    """The option (BY or GET) of a SORT that reads keys which may lie in another slot than the sorted key, or None;
    ``slots``: of its keys."""
    if fact.getkeys not in _SORTS:
        return None
    found = examined.of(fact, args)
    return at_once(_denying(fact, args, slots)) if found is None else found.denied


def examining(fact: Fact, args: Sequence[bytes], slot_of: SlotOf) -> Job[Found]:
    """Find out about ``args``, which fit the arity of ``fact``, some at a time."""
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
        found.denied = yield from _denying(fact, args, found.slots)
    except KeysError:
        pass
    return found


def _denying(fact: Fact, args: Sequence[bytes], slots: frozenset[int]) -> Job[str | None]:
    if len(slots) != 1 or fact.getkeys not in _SORTS:
        return None
    (slot,) = slots
    found: list[str] = []

    def look(option: bytes, pattern: bytes) -> bool:
        tag = hashed_part(pattern)
        before = pattern[: pattern.find(b"}")]
        # What the pattern puts in front of the tag could bring another tag.
        if tag == pattern or any(char in before for char in b"*?[\\") or key_slot(tag) != slot:
            found.append(option.decode().upper())
        return not found

    yield from finding_patterns(args, look)
    return found[0] if found else None
