"""The generated data files: facts as JSON, one command or subcommand a line, sorted, so that changes can be reviewed.

A row is {"name", "arity", "flags", "acl", "tips": words in one string, "keys": [key spec]}, without empty values. A key
spec is {"flags", "notes", "index": n | "keyword": [word, startfrom], "range": [lastkey, keystep, limit] | "keynum":
[keynumidx, firstkey, keystep]}, without the parts that Redis calls unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from proxy.commands.facts import BeginIndex, BeginKeyword, Fact, FindKeynum, FindRange, KeySpec

FORMAT = 1


def dump(facts: Iterable[Fact], servers: Sequence[str]) -> str:
    """The text of a data file; ``servers`` names the servers that the facts come from, older first."""
    rows = sorted((_row(fact) for top in facts for fact in (top, *top.subcommands.values())), key=lambda r: r["name"])
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    head = json.dumps({"format": FORMAT, "servers": list(servers)})[1:-1]
    return f'{{{head}, "commands": [\n{lines}\n]}}\n'


def load(text: str) -> Iterator[Fact]:
    """The top-level facts of a data file by name, with their subcommands in them and no handling decided."""
    facts = [_fact(row) for row in json.loads(text)["commands"]]
    subcommands: dict[str, dict[bytes, Fact]] = {}
    for fact in facts:
        container, bar, name = fact.name.partition("|")
        if bar:
            subcommands.setdefault(container, {})[name.encode()] = fact
    for fact in facts:
        if "|" not in fact.name:
            yield replace(fact, subcommands=subcommands[fact.name]) if fact.name in subcommands else fact


def _row(fact: Fact) -> dict[str, Any]:
    row = {
        "name": fact.name,
        "arity": fact.arity,
        "flags": " ".join(sorted(fact.flags)),
        "acl": " ".join(sorted(fact.categories)),
        "tips": " ".join(fact.tips),
        "keys": [_spec_row(spec) for spec in fact.key_specs],
    }
    return {name: value for name, value in row.items() if value not in ("", [])}


def _spec_row(spec: KeySpec) -> dict[str, Any]:
    row: dict[str, Any] = {"flags": " ".join(sorted(spec.flags))}
    if isinstance(spec.begin, BeginIndex):
        row["index"] = spec.begin.index
    elif spec.begin is not None:
        row["keyword"] = [spec.begin.keyword.decode(), spec.begin.startfrom]
    if isinstance(spec.find, FindRange):
        row["range"] = [spec.find.lastkey, spec.find.keystep, spec.find.limit]
    elif spec.find is not None:
        row["keynum"] = [spec.find.keynumidx, spec.find.firstkey, spec.find.keystep]
    if spec.notes:
        row["notes"] = spec.notes
    return row


def _fact(row: dict[str, Any]) -> Fact:
    return Fact(
        name=row["name"],
        arity=row["arity"],
        flags=frozenset(row.get("flags", "").split()),
        categories=frozenset(row.get("acl", "").split()),
        tips=tuple(row.get("tips", "").split()),
        key_specs=tuple(_spec(spec) for spec in row.get("keys", [])),
    )


def _spec(row: dict[str, Any]) -> KeySpec:
    begin: BeginIndex | BeginKeyword | None = None
    if "index" in row:
        begin = BeginIndex(row["index"])
    elif "keyword" in row:
        begin = BeginKeyword(row["keyword"][0].encode(), row["keyword"][1])
    find: FindRange | FindKeynum | None = None
    if "range" in row:
        find = FindRange(*row["range"])
    elif "keynum" in row:
        find = FindKeynum(*row["keynum"])
    return KeySpec(begin, find, frozenset(row["flags"].split()), row.get("notes", ""))
