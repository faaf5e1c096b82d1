"""What a command does with each of its keys: whether it reads or writes the value, as access rules see it.

The positions are those by which the planner routes (``keys``), so that no key is used that was not looked at. Access
comes from the flags of the key specs, as Redis's getKeysFromCommandWithSpecs (src/db.c) and its callers take it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from proxy.commands.facts import Fact, GetKeys, KeySpec
from proxy.commands.getkeys import KeysError, georadius_keys, migrate_keys, sort_keys, sort_ro_keys, xread_keys
from proxy.commands.keys import key_spans, spec_indexes

READ = 1
WRITE = 2
Span = tuple[Sequence[int], int]
"""Positions of keys, and the access to each: READ, WRITE, both, or 0 (whether it is there, its type ...)."""

_ACCESS = {"access": READ, "insert": WRITE, "delete": WRITE, "update": WRITE}
_FIRST_READ_THEN_WRITE = (READ, WRITE)
_BY_GETKEYS: Mapping[GetKeys, tuple[int, int]] = {
    sort_keys: _FIRST_READ_THEN_WRITE,
    sort_ro_keys: (READ, READ),
    georadius_keys: _FIRST_READ_THEN_WRITE,
    xread_keys: (READ, READ),
    migrate_keys: (READ | WRITE, READ | WRITE),
}
"""The access to the first key, and to the others."""
_BITFIELD_OPTIONS = {b"get": 2, b"overflow": 1}


def key_access(fact: Fact, args: Sequence[bytes]) -> list[Span]:
    """The keys of ``args``, each with the access to it; none if the arguments do not fit the key specs: then the
    command is a syntax error, and the planner refuses it. Positions may come twice.
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
                yield spec_indexes(spec, args), access_of(spec)


def _by_getkeys(fact: Fact, getkeys: GetKeys, args: Sequence[bytes]) -> Iterator[Span]:
    """Of keys that are found by a function: what the table says, else all that any spec says."""
    (positions,) = key_spans(fact, args)
    first, others = _BY_GETKEYS.get(getkeys) or (_widest(fact), _widest(fact))
    yield positions[:1], first
    yield positions[1:], others


def access_of(spec: KeySpec) -> int:
    """The access that a key spec's flags stand for."""
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
    """With GET, SET answers the old value."""
    return READ | WRITE if any(arg.lower() == b"get" for arg in args[3:]) else WRITE


def _bitfield(args: Sequence[bytes]) -> int:
    """Only GET, and OVERFLOW beside it, write nothing."""
    at = 2
    while at < len(args):
        values = _BITFIELD_OPTIONS.get(args[at].lower())
        if values is None or at + values >= len(args):
            return READ | WRITE
        at += 1 + values
    return READ


_VARYING: Mapping[str, Callable[[Sequence[bytes]], int]] = {"set": _set, "bitfield": _bitfield}
"""Commands whose access depends on their arguments ("variable_flags"); their only key is the first argument."""
