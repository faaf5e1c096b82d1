"""The keys of commands whose key specs do not find all of them: Redis's getkeys functions (src/db.c) in Python.

Each function takes a whole command (its name first, its arity checked) and returns the positions of its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from proxy.engine.jobs import MORE, Job, at_once
from proxy.errors import SlotgateError
from proxy.resp.numbers import parse_integer

SORT_OPTIONS = {b"limit": 2, b"get": 1, b"by": 1}
XREAD_OPTIONS = {b"block": 1, b"count": 1, b"group": 2, b"claim": 1}
MIGRATE_OPTIONS = {b"auth": 1, b"auth2": 2}
_GEORADIUS_OPTIONS = {b"store": 1, b"storedist": 1}
_STEP = 32
"""The number of options after which a job may be interrupted."""


class KeysError(SlotgateError):
    """The arguments do not fit the command's key specs, so its keys can not be found."""


def _options(args: Sequence[bytes], start: int, values: Mapping[bytes, int]) -> Iterator[tuple[int, bytes]]:
    """Each option's position and lower-case name; ``values`` holds the number of an option's arguments, 0 if absent."""
    at = start
    while at < len(args):
        name = args[at].lower()
        yield at, name
        at += 1 + values.get(name, 0)


def merged_keys(args: Sequence[bytes]) -> list[int]:
    """CMS.MERGE, TDIGEST.MERGE: the destination and the sources, whose number stands between them."""
    if len(args) < 2:
        raise KeysError("the destination is missing")
    number = parse_integer(args[2]) if len(args) > 2 else None
    return [1, *range(3, 3 + number)] if number is not None and 0 < number <= len(args) - 3 else [1]


def no_keys(args: Sequence[bytes]) -> list[int]:
    """No keys: the argument that a server calls a key is the name of an index."""
    return []


def _last_of(args: Sequence[bytes], start: int, values: Mapping[bytes, int], wanted: Sequence[bytes]) -> Job[list[int]]:
    """The position behind the last option that is ``wanted``; empty without such an option."""
    found: list[int] = []
    for count, (at, name) in enumerate(_options(args, start, values)):
        if name in wanted and at + 1 < len(args):
            found = [at + 1]
        if not count % _STEP:
            yield MORE
    return found


def _finding_sort(args: Sequence[bytes]) -> Job[list[int]]:
    return [1, *(yield from _last_of(args, 2, SORT_OPTIONS, (b"store",)))]


def sort_keys(args: Sequence[bytes]) -> list[int]:
    """SORT: the key, and the key of the last STORE. BY and GET patterns are not keys."""
    return at_once(_finding_sort(args))


def _finding_sort_ro(args: Sequence[bytes]) -> Job[list[int]]:
    for count, (_, name) in enumerate(_options(args, 2, SORT_OPTIONS)):
        if name == b"store":
            raise KeysError("SORT_RO has no STORE")
        if not count % _STEP:
            yield MORE
    return [1]


def sort_ro_keys(args: Sequence[bytes]) -> list[int]:
    """SORT_RO: the key."""
    return at_once(_finding_sort_ro(args))


def finding_patterns(args: Sequence[bytes], look: Callable[[bytes, bytes], bool]) -> Job[None]:
    """Call ``look`` with the option (``by``, ``get``) and the pattern of each argument of a SORT that makes the command
    read other keys, as long as ``look`` returns True.

    A BY pattern without "*" only turns sorting off, and GET # returns the element itself.
    """
    for count, (at, name) in enumerate(_options(args, 2, SORT_OPTIONS)):
        if name in (b"by", b"get") and at + 1 < len(args):
            pattern = args[at + 1]
            reads = b"*" in pattern if name == b"by" else pattern != b"#"
            if reads and not look(name, pattern):
                return
        if not count % _STEP:
            yield MORE


def _finding_georadius(args: Sequence[bytes]) -> Job[list[int]]:
    return [1, *(yield from _last_of(args, 5, _GEORADIUS_OPTIONS, tuple(_GEORADIUS_OPTIONS)))]


def georadius_keys(args: Sequence[bytes]) -> list[int]:
    """GEORADIUS, GEORADIUSBYMEMBER: the key, and the key of the last STORE or STOREDIST."""
    return at_once(_finding_georadius(args))


def migrate_keys(args: Sequence[bytes]) -> list[int]:
    """MIGRATE: the key, or the arguments behind KEYS if the key is the empty string."""
    for at, name in _options(args, 6, MIGRATE_OPTIONS):
        if name == b"keys":
            if args[3]:
                raise KeysError("with KEYS the key argument must be the empty string")
            return list(range(at + 1, len(args)))
    return [3]


def _finding_xread(args: Sequence[bytes]) -> Job[Sequence[int]]:
    for number, (at, name) in enumerate(_options(args, 1, XREAD_OPTIONS)):
        if name == b"streams":
            count, odd = divmod(len(args) - at - 1, 2)
            if odd or not count:
                break
            return range(at + 1, at + 1 + count)
        if not number % _STEP:
            yield MORE
    raise KeysError("STREAMS with as many keys as IDs is missing")


def xread_keys(args: Sequence[bytes]) -> list[int]:
    """XREAD, XREADGROUP: the first half of the arguments behind STREAMS; the other half are IDs."""
    return list(at_once(_finding_xread(args)))


def xread_blocks(args: Sequence[bytes]) -> bool:
    """Whether an XREAD or XREADGROUP has the BLOCK option."""
    return xread_block_at(args) is not None


def xread_block_at(args: Sequence[bytes]) -> int | None:
    """The position of the timeout of the last BLOCK option of an XREAD or XREADGROUP; None without the option."""
    found = None
    for at, name in _options(args, 1, XREAD_OPTIONS):
        if name == b"block" and at + 1 < len(args):
            found = at + 1
        if name == b"streams":
            break
    return found


FINDING: Mapping[Callable[[Sequence[bytes]], list[int]], Callable[[Sequence[bytes]], Job[Sequence[int]]]] = {
    sort_keys: _finding_sort,
    sort_ro_keys: _finding_sort_ro,
    georadius_keys: _finding_georadius,
    xread_keys: _finding_xread,
}
"""The functions that read every argument, as jobs."""
