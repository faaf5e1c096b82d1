"""The commented configuration that ``slotgate init`` writes: every key with its default and the reason for it, and the
topology that the command names."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from proxy.config import Config
from proxy.config.words import LISTS, TABLES

_HEAD = """\
# The configuration of Slotgate. A line that begins with "#" and a key is not set: the key has the default that the line
# shows. Remove the "#" to set it. Durations are written "50ms", "2s", "1.5m", sizes "64kb", "512mb", "1gb".
# `slotgate check -c FILE` says every problem, `slotgate check -c FILE --connect` asks the servers too, and
# `slotgate check -c FILE --show` prints every value with its source.
"""
_EXAMPLES: Mapping[str, object] = {
    "primary": "127.0.0.1:7001",
    "address": "127.0.0.1:6381",
    "name": "app",
    "prefix": "bull:",
}
"""The values of keys that have no default."""
_SHARDS: list[dict[str, object]] = [{"primary": "127.0.0.1:7001", "replicas": []}]


def starting_file(given: Mapping[str, Any]) -> str:
    """Return the file. ``given`` are the values to set, in the structure of the file; without a topology there is one
    shard on this machine."""
    if "topology" not in given:
        given = {**given, "shards": _SHARDS, "topology": {"kind": "static"}}
    lines = [_HEAD, *_keys(Config, given)]
    for name, model in TABLES.items():
        if not name:
            continue
        if name not in LISTS:
            values = given.get(name, {})
            values = {"address": values} if isinstance(values, str) else values
            lines += ["", *_about(model), f"[{name}]", *_keys(model, values)]
            continue
        items = given.get(name) or []
        lines += ["", *_about(model)]
        for item in items:
            lines += [f"[[{name}]]", *(f"{key} = {_written(value)}" for key, value in item.items() if value != []), ""]
        if not items:
            lines += [f"#[[{name}]]", *_keys(model, {})]
    return "\n".join(lines) + "\n"


def _about(model: type[BaseModel]) -> Iterator[str]:
    first = (model.__doc__ or "").partition("\n\n")[0].replace("``", "")
    yield from (f"# {line}" for line in textwrap.wrap(" ".join(first.split()), 118))


def _keys(model: type[BaseModel], values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys that are no tables of their own: a comment with the reason for the default, and the value."""
    for name, field in model.model_fields.items():
        if model is Config and name in TABLES:
            continue
        if name == "tls" and field.annotation is not bool:
            continue  # a table in an item of a list, which would take the keys below it
        yield from (f"# {line}" for line in textwrap.wrap(field.description or "", 118))
        if name in values:
            yield f"{name} = {_written(values[name])}"
        else:
            default = field.default
            known = default is not PydanticUndefined and default is not None
            yield f"#{name} = {_written(default if known else _EXAMPLES.get(name, ''))}"


def _written(value: object) -> str:
    """Return a value as TOML has it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return "{}" if not value else f"{{ {', '.join(f'{key} = {_written(each)}' for key, each in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)
