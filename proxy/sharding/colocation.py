"""Rules that choose the part of a key that is hashed, so that an application's related keys share a shard.

::

    prefixes "celery", "unacked"    every key with one of these prefixes is in the slot of the rule's name
    prefix "bull:", 2 fields        bull:mail:wait is in the slot of bull:mail

A hash tag in the key takes precedence over a rule, unless the rule says that tags do not count, and the longest prefix
over other rules. With rules, this module computes the slot of every key and shard channel, without rules
``proxy.sharding.slots`` does. Both compute the same slot for a key that no rule matches.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from proxy.sharding.slots import key_slot, whole_slot
from proxy.sharding.slots import span_slot as plain_slot

SlotOf = Callable[[bytes], int]
"""A function from a key to its slot, 0 to 16383."""
_SPECIAL = re.compile(rb"[*?[\\]")
"""The characters of glob patterns. Redis takes all of them for the end of what is known of a SORT's pattern."""


class Rule:
    """The rule for keys that begin with ``prefix``: their first ``fields``, divided by ``separator`` (one byte), are
    hashed. With 0 fields nothing is hashed, and all of these keys are in ``slot``. ``tags``: a hash tag in a key takes
    precedence; otherwise braces are characters like all others."""

    __slots__ = ("fields", "prefix", "separator", "slot", "tags")

    def __init__(
        self, prefix: bytes, slot: int = 0, fields: int = 0, separator: bytes = b":", tags: bool = True
    ) -> None:
        self.prefix = prefix
        self.slot = slot
        self.fields = fields
        self.separator = separator[0]
        self.tags = tags


class Colocation:
    """The co-location rules of a configuration, no two with the same prefix."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = sorted(rules, key=lambda rule: len(rule.prefix), reverse=True)

    def slot(self, key: bytes) -> int:
        """Return the slot of ``key``, 0 to 16383."""
        return self.span_slot(key, 0, len(key))

    def span_slot(self, data: bytes, start: int, stop: int) -> int:
        """Return the slot of the key at ``data[start:stop]``, which lies within ``data``."""
        found = None
        for rule in self._rules:
            if data.startswith(rule.prefix, start, stop):
                found = rule
                break
        if found is None:
            return plain_slot(data, start, stop)
        if found.tags:
            opened = data.find(b"{", start, stop)
            if opened >= 0 and data.find(b"}", opened, stop) > opened + 1:
                return plain_slot(data, start, stop)
        if not found.fields:
            return found.slot
        view = data
        left = found.fields
        at = start
        while at < stop:
            if view[at] == found.separator:
                left -= 1
                if not left:
                    break
            at += 1
        return whole_slot(data, start, at)

    def pattern_slot(self, pattern: bytes) -> int:
        """Return the slot of all keys that a SORT forms by putting elements in place of the star in ``pattern``; -1 if
        they may be in different slots, as elements may have any text.

        Without rules, the result is that of Redis's patternHashSlot (src/cluster.c): only a hash tag in front of the
        star decides.
        """
        found = _SPECIAL.search(pattern)
        plain = pattern if found is None else pattern[: found.start()]
        opened = plain.find(b"{")
        closed = plain.find(b"}", opened) if opened >= 0 else -1
        tagged = whole_slot(plain, opened + 1, closed) if closed > opened + 1 else -1
        slots = set()
        for rule in self._rules:
            begins = plain.startswith(rule.prefix)
            if begins or rule.prefix.startswith(plain):  # else no such key begins with the prefix
                slots.add(tagged if rule.tags else _slot_by(rule, plain if begins else rule.prefix))
            if begins:
                break
        else:
            slots.add(tagged)
        return slots.pop() if len(slots) == 1 else -1


def _slot_by(rule: Rule, begin: bytes) -> int:
    """Return the slot of all keys that ``begin`` so, by a ``rule`` for which hash tags do not count; -1 if what follows
    decides."""
    if not rule.fields:
        return rule.slot
    at = -1
    for _ in range(rule.fields):
        at = begin.find(bytes((rule.separator,)), at + 1)
        if at < 0:
            return -1
    return whole_slot(begin, 0, at)


class AllowedKeys(Colocation):
    """The keys that a user may use, as the fast path sees them. The slot is -1 for every key that the fast path can not
    decide about: one that is not among ``exact`` and begins with none of ``prefixes``."""

    __slots__ = ("_exact", "_inner", "_latest", "_prefixes")

    def __init__(self, inner: Colocation | None, prefixes: Sequence[bytes], exact: Iterable[bytes]) -> None:
        self._inner = inner
        self._prefixes = list(prefixes)
        self._latest = self._prefixes[0] if self._prefixes else None
        """The prefix that matched last; the next key often has the same prefix."""
        self._exact = set(exact)

    def span_slot(self, data: bytes, start: int, stop: int) -> int:
        """Return the slot of the key at ``data[start:stop]``, which lies within ``data``; -1 if it may be denied."""
        latest = self._latest
        allowed = latest is not None and data.startswith(latest, start, stop)
        if not allowed:
            for prefix in self._prefixes:
                if data.startswith(prefix, start, stop):
                    self._latest = prefix
                    allowed = True
                    break
        if not allowed and (not self._exact or data[start:stop] not in self._exact):
            return -1
        inner = self._inner
        return plain_slot(data, start, stop) if inner is None else inner.span_slot(data, start, stop)


class RuleLike(Protocol):
    """The attributes of a configured rule: a protocol, so that this package need not import ``config``."""

    @property
    def name(self) -> str | None: ...
    @property
    def prefixes(self) -> Sequence[str]: ...
    @property
    def prefix(self) -> str | None: ...
    @property
    def upto(self) -> int | None: ...
    @property
    def separator(self) -> str: ...
    @property
    def hash_tags(self) -> bool: ...


def build_colocation(configured: Sequence[RuleLike]) -> Colocation | None:
    """Return the rules of a checked configuration; None if there are no rules."""
    rules = []
    for each in configured:
        if each.prefix is not None:
            rules.append(Rule(each.prefix.encode(), 0, each.upto or 0, each.separator.encode(), each.hash_tags))
        slot = key_slot((each.name or "").encode())
        rules += [Rule(prefix.encode(), slot, tags=each.hash_tags) for prefix in each.prefixes]
    return Colocation(rules) if rules else None


def slot_of(rules: Colocation | None) -> SlotOf:
    """Return the function that computes the slot of a key under ``rules``."""
    return key_slot if rules is None else rules.slot


def pattern_slot_of(rules: Colocation | None) -> SlotOf:
    """Return the function that computes the slot of the keys of a SORT's pattern under ``rules``
    (``Colocation.pattern_slot``)."""
    return (Colocation(()) if rules is None else rules).pattern_slot
