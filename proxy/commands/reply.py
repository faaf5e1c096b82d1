"""Parses Redis's COMMAND reply, as hiredis decodes it from RESP2, into facts, and combines the facts of two servers.

A reply is a list of [name, arity, flags, first, last, step, ACL categories, tips, key specs, subcommands]. The entries
of Redis 6 end at the categories, those of older servers at the step. Source:
https://redis.io/docs/latest/commands/command/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from proxy.commands.facts import BeginIndex, BeginKeyword, Fact, FindKeynum, FindRange, KeySpec, policy

LEGACY_LENGTH = 6
"""The length of an entry without categories, tips, key specs and subcommands."""
SPECS_AT = 8


def parse(reply: Sequence[object]) -> Iterator[Fact]:
    """The facts of a COMMAND reply; an entry of another shape is skipped."""
    for entry in reply:
        fact = _entry(entry)
        if fact is not None:
            yield fact


def combine(older: Fact, newer: Fact) -> Fact:
    """One fact from two: the newer one's policies and the looser arity win, and nothing else is lost."""
    found = {(spec.begin, spec.find) for spec in newer.key_specs}
    specs = [*newer.key_specs, *(spec for spec in older.key_specs if (spec.begin, spec.find) not in found)]
    subcommands = dict(older.subcommands)
    for name, sub in newer.subcommands.items():
        subcommands[name] = combine(subcommands[name], sub) if name in subcommands else sub
    return replace(
        newer,
        arity=looser(older.arity, newer.arity),
        flags=older.flags | newer.flags,
        categories=older.categories | newer.categories,
        tips=_tips(older.tips, newer.tips),
        key_specs=tuple(specs),
        subcommands=subcommands,
    )


def looser(one: int, other: int) -> int:
    """The arity that accepts all that either accepts; the server checks the number of arguments itself."""
    return one if one == other else -min(abs(one), abs(other))


def _tips(older: Sequence[str], newer: Sequence[str]) -> tuple[str, ...]:
    kept = [tip for tip in older if tip not in newer and (":" not in tip or policy(newer, tip.split(":")[0]) is None)]
    return (*newer, *kept)


def _entry(entry: object) -> Fact | None:
    if not isinstance(entry, list) or len(entry) < LEGACY_LENGTH:
        return None
    name, arity = _text(entry[0]), entry[1]
    if not name or not isinstance(arity, int) or not arity:
        return None
    if len(entry) > SPECS_AT:
        specs = tuple(_spec(spec) for spec in _list(entry[SPECS_AT]))
    else:
        specs = _legacy_specs(entry[3:6])
    return Fact(
        name=name.lower(),
        arity=arity,
        flags=frozenset(_texts(entry[2])),
        categories=frozenset(name.removeprefix("@") for name in _texts(entry[6] if len(entry) > 6 else [])),
        tips=tuple(_texts(entry[7] if len(entry) > 7 else [])),
        key_specs=specs,
        subcommands=_subcommands(entry[9] if len(entry) > 9 else []),
    )


def _subcommands(entries: object) -> Mapping[bytes, Fact]:
    return {sub.name.partition("|")[2].encode(): sub for sub in parse(_list(entries)) if "|" in sub.name}


def _legacy_specs(span: Sequence[object]) -> tuple[KeySpec, ...]:
    """The key spec for a (first, last, step); the last position becomes relative to the first."""
    first, last, step = (_int(number) for number in span)
    if first <= 0 or step <= 0 or 0 <= last < first:
        return ()
    return (KeySpec(BeginIndex(first), FindRange(last if last < 0 else last - first, step, 0)),)


def _spec(spec: object) -> KeySpec:
    """One key spec; parts that the proxy does not understand count as unknown."""
    fields = _map(spec)
    begin, find = _map(fields.get("begin_search")), _map(fields.get("find_keys"))
    return KeySpec(
        begin=_begin(_text(begin.get("type")), _map(begin.get("spec"))),
        find=_find(_text(find.get("type")), _map(find.get("spec"))),
        flags=frozenset(_texts(fields.get("flags"))),
        notes=_text(fields.get("notes")),
    )


def _begin(kind: str, spec: Mapping[str, object]) -> BeginIndex | BeginKeyword | None:
    if kind == "index" and _int(spec.get("index")) > 0:
        return BeginIndex(_int(spec.get("index")))
    if kind == "keyword" and _text(spec.get("keyword")) and _int(spec.get("startfrom")):
        return BeginKeyword(_text(spec.get("keyword")).encode(), _int(spec.get("startfrom")))
    return None


def _find(kind: str, spec: Mapping[str, object]) -> FindRange | FindKeynum | None:
    step = _int(spec.get("keystep"))
    if kind == "range" and step > 0:
        return FindRange(_int(spec.get("lastkey")), step, _int(spec.get("limit")))
    if kind == "keynum" and step > 0:
        return FindKeynum(_int(spec.get("keynumidx")), _int(spec.get("firstkey")), step)
    return None


def _map(pairs: object) -> Mapping[str, object]:
    flat = _list(pairs)
    return {_text(name): value for name, value in zip(flat[::2], flat[1::2], strict=False)}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [_text(item) for item in _list(value)]


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
