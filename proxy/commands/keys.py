"""The positions of the keys in a command's arguments, as Redis's getKeysUsingKeySpecs (src/db.c) finds them."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.commands.facts import BeginIndex, BeginKeyword, Fact, FindKeynum, FindRange, KeySpec
from proxy.commands.getkeys import KeysError, xread_blocks, xread_keys
from proxy.resp.numbers import parse_integer

__all__ = ["KeysError", "blocks", "key_indexes", "key_spans", "spec_indexes"]


def key_indexes(fact: Fact, args: Sequence[bytes]) -> list[int]:
    """Return the positions of the keys in ``args`` (the command's name is at position 0), ascending, each once.

    ``args`` fits the fact's arity. The list is empty for a keyless command, and for a number of keys that is 0. Raises
    KeysError if the arguments do not fit the key specs; the server would answer with a syntax error.
    """
    spans = key_spans(fact, args)
    return list(spans[0]) if len(spans) == 1 else sorted(set().union(*spans))


def key_spans(fact: Fact, args: Sequence[bytes]) -> list[Sequence[int]]:
    """Return the positions of the keys, in parts that may overlap. No list as long as ``args`` is made."""
    if fact.key_range is not None:
        first, last, step = fact.key_range
        return [_span(args, first, last if last >= 0 else len(args) + last, step)]
    if fact.getkeys is not None:
        positions = fact.getkeys(args)
        if positions and positions[-1] >= len(args):
            raise KeysError("keys are missing")
        return [positions]
    return [spec_indexes(spec, args) for spec in fact.key_specs if spec.is_key and spec.complete]


def blocks(fact: Fact, args: Sequence[bytes]) -> bool:
    """Whether this call may block: XREAD and XREADGROUP block with BLOCK only, other blocking commands always."""
    if not fact.blocking:
        return False
    return xread_blocks(args) if fact.getkeys is xread_keys else True


def spec_indexes(spec: KeySpec, args: Sequence[bytes]) -> Sequence[int]:
    """Return the positions of the keys that one complete key spec finds. Raises KeysError."""
    begin = _begin(spec.begin, args)
    if begin is None:
        return []
    if isinstance(spec.find, FindKeynum):
        return _counted(spec.find, begin, args)
    if isinstance(spec.find, FindRange):
        return _span(args, begin, _last(spec.find, begin, len(args)), spec.find.keystep)
    return []


def _begin(begin: BeginIndex | BeginKeyword | None, args: Sequence[bytes]) -> int | None:
    if isinstance(begin, BeginIndex):
        return begin.index
    if isinstance(begin, BeginKeyword):
        if begin.startfrom > 0:
            positions = range(begin.startfrom, len(args) - 1)
        else:
            positions = range(len(args) + begin.startfrom, 0, -1)
        keyword = begin.keyword.lower()
        return next((at + 1 for at in positions if args[at].lower() == keyword), None)
    return None


def _last(find: FindRange, begin: int, count: int) -> int:
    if find.lastkey >= 0:
        return begin + find.lastkey
    if find.limit > 1:
        return begin + (count - begin) // find.limit + find.lastkey
    return count + find.lastkey


def _counted(find: FindKeynum, begin: int, args: Sequence[bytes]) -> Sequence[int]:
    at = begin + find.keynumidx
    if not 0 < at < len(args):
        raise KeysError("the number of keys is missing")
    number = parse_integer(args[at])
    if number is None:
        raise KeysError("the number of keys is not an integer")
    if number < 0:
        raise KeysError("the number of keys is negative")
    first = begin + find.firstkey
    if number > len(args):  # checked before multiplying, since an attacker may send a huge number
        raise KeysError("the number of keys is greater than that of the arguments")
    return _span(args, first, first + (number - 1) * find.keystep, find.keystep) if number else []


def _span(args: Sequence[bytes], first: int, last: int, step: int) -> range:
    if not 0 < first <= last < len(args):
        raise KeysError("keys are missing")
    return range(first, last + 1, step)
