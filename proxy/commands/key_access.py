"""The access of a command to each of its keys, as access rules see it: whether the command reads or writes the value.

The positions of the keys come from ``keys``, which the planner routes by too, so that no key is used unchecked. The
access comes from the flags of the key specs, as in Redis's getKeysFromCommandWithSpecs (src/db.c) and its callers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from proxy.commands.facts import Fact, FindKeynum, GetKeys, KeySpec
from proxy.commands.getkeys import KeysError, georadius_keys, migrate_keys, sort_keys, sort_ro_keys, xread_keys
from proxy.commands.keys import key_spans, spec_indexes

READ = 1
WRITE = 2
Span = tuple[Sequence[int], int]
"""Positions of keys, and the access to them: READ, WRITE, both, or 0 if only metadata is used (existence, type ...)."""

_ACCESS = {"access": READ, "insert": WRITE, "delete": WRITE, "update": WRITE}
_FIRST_READ_THEN_WRITE = (READ, WRITE)
_BY_GETKEYS: Mapping[GetKeys, tuple[int, int]] = {
    sort_keys: _FIRST_READ_THEN_WRITE,
    sort_ro_keys: (READ, READ),
    georadius_keys: _FIRST_READ_THEN_WRITE,
    xread_keys: (READ, READ),
    migrate_keys: (READ | WRITE, READ | WRITE),
}
"""The access to the first key, and the access to the other keys."""
_BITFIELD_OPTIONS = {b"get": 2, b"overflow": 1}


def key_access(fact: Fact, args: Sequence[bytes]) -> list[Span]:
    """Return the keys of ``args``, each with the access to it. A position may occur twice.

    The list is empty if the arguments do not fit the key specs: such a command is a syntax error, and the planner
    refuses it.
    """
    try:
        return list(_spans(fact, args))
    except KeysError:
        return []


def _spans(fact: Fact, args: Sequence[bytes]) -> Iterator[Span]:
    varying = _VARYING.get(fact.name)
    if varying is not None:
        yield (1,), varying(args)
    elif fact.getkeys is not None:
        yield from _by_getkeys(fact, fact.getkeys, args)
    else:
        for spec in fact.key_specs:
            if spec.is_key and spec.complete:
                positions = spec_indexes(spec, args)
                if not positions and isinstance(spec.find, FindKeynum):
                    raise KeysError("the number of keys is 0")  # servers then find none of the command's keys
                yield positions, access_of(spec)


def _by_getkeys(fact: Fact, getkeys: GetKeys, args: Sequence[bytes]) -> Iterator[Span]:
    """Yield the keys that a function finds. Their access comes from ``_BY_GETKEYS``, or else is all that any spec
    allows."""
    (positions,) = key_spans(fact, args)
    first, others = _BY_GETKEYS.get(getkeys) or (_widest(fact), _widest(fact))
    yield positions[:1], first
    yield positions[1:], others


def access_of(spec: KeySpec) -> int:
    """Return the access that the flags of a key spec stand for."""
    access = 0
    for flag in spec.flags:
        access |= _ACCESS.get(flag, 0)
    return access


def _widest(fact: Fact) -> int:
    access = 0
    for spec in fact.key_specs:
        access |= access_of(spec)
    return access if any(spec.complete for spec in fact.key_specs) else READ | WRITE


def _set(args: Sequence[bytes]) -> int:
    """Return the access of SET, which reads the old value too if the option GET is given."""
    return READ | WRITE if any(arg.lower() == b"get" for arg in args[3:]) else WRITE


def _bitfield(args: Sequence[bytes]) -> int:
    """Return the access of BITFIELD, which writes nothing if its only subcommands are GET and OVERFLOW."""
    at = 2
    while at < len(args):
        values = _BITFIELD_OPTIONS.get(args[at].lower())
        if values is None or at + values >= len(args):
            return READ | WRITE
        at += 1 + values
    return READ


_VARYING: Mapping[str, Callable[[Sequence[bytes]], int]] = {"set": _set, "bitfield": _bitfield}
"""Commands whose access depends on their arguments ("variable_flags"); their only key is the first argument."""
