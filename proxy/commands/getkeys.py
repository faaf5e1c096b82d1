"""The keys of commands whose key specs do not find them all: Redis's own getkeys functions (src/db.c), in Python.

Each takes a whole command (its name first, its arity already checked) and gives the positions of its keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from proxy.errors import SlotgateError

SORT_OPTIONS = {b"limit": 2, b"get": 1, b"by": 1}
XREAD_OPTIONS = {b"block": 1, b"count": 1, b"group": 2, b"claim": 1}
MIGRATE_OPTIONS = {b"auth": 1, b"auth2": 2}


class KeysError(SlotgateError):
    """The arguments do not fit the command's key specs, so that its keys can not be told."""


def _options(args: Sequence[bytes], start: int, values: Mapping[bytes, int]) -> Iterator[tuple[int, bytes]]:
    """Each option's position and lower-case name; ``values`` says how many arguments an option has, else none."""
    at = start
    while at < len(args):
        name = args[at].lower()
        yield at, name
        at += 1 + values.get(name, 0)


def sort_keys(args: Sequence[bytes]) -> list[int]:
    """SORT: the key, and STORE's (the last one wins). BY and GET patterns are no keys."""
    stores = [at + 1 for at, name in _options(args, 2, SORT_OPTIONS) if name == b"store" and at + 1 < len(args)]
    return [1, *stores[-1:]]


def sort_ro_keys(args: Sequence[bytes]) -> list[int]:
    """SORT_RO: the key."""
    if any(name == b"store" for _, name in _options(args, 2, SORT_OPTIONS)):
        raise KeysError("SORT_RO has no STORE")
    return [1]


def sort_patterns(args: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The ("by" | "get", pattern) pairs of a SORT that make it read other keys.

    A BY pattern without "*" only turns sorting off, and GET # is the element itself.
    """
    given = [(name, args[at + 1]) for at, name in _options(args, 2, SORT_OPTIONS) if at + 1 < len(args)]
    return [
        (name, pattern)
        for name, pattern in given
        if (name == b"by" and b"*" in pattern) or (name == b"get" and pattern != b"#")
    ]


def georadius_keys(args: Sequence[bytes]) -> list[int]:
    """GEORADIUS, GEORADIUSBYMEMBER: the key, and the one of STORE or STOREDIST (the last one wins)."""
    stores = [
        at + 1
        for at, name in _options(args, 5, {b"store": 1, b"storedist": 1})
        if name in (b"store", b"storedist") and at + 1 < len(args)
    ]
    return [1, *stores[-1:]]


def migrate_keys(args: Sequence[bytes]) -> list[int]:
    """MIGRATE: the key, or all that follow KEYS; the key is the empty string then."""
    for at, name in _options(args, 6, MIGRATE_OPTIONS):
        if name == b"keys":
            if args[3]:
                raise KeysError("with KEYS the key argument must be the empty string")
            return list(range(at + 1, len(args)))
    return [3]


def xread_keys(args: Sequence[bytes]) -> list[int]:
    """XREAD, XREADGROUP: the first half of what follows STREAMS; the rest are IDs."""
    for at, name in _options(args, 1, XREAD_OPTIONS):
        if name == b"streams":
            count, odd = divmod(len(args) - at - 1, 2)
            if odd or not count:
                break
            return list(range(at + 1, at + 1 + count))
    raise KeysError("STREAMS with as many keys as IDs is missing")


def xread_blocks(args: Sequence[bytes]) -> bool:
    """Whether an XREAD or XREADGROUP has the BLOCK option."""
    return xread_block_at(args) is not None


def xread_block_at(args: Sequence[bytes]) -> int | None:
    """The position of the time that an XREAD or XREADGROUP may block, of its last BLOCK option; None without one."""
    found = None
    for at, name in _options(args, 1, XREAD_OPTIONS):
        if name == b"block" and at + 1 < len(args):
            found = at + 1
        if name == b"streams":
            break
    return found
