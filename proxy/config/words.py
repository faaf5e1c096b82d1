"""Turns pydantic's errors into problems in an operator's words: (key path, what is wrong and what to do).

Values are shown only if they can not be secret: messages of pydantic that would show a secret are replaced.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from proxy.config.model import Config
from proxy.config.secret import Problems
from proxy.config.values import shown

Location = tuple[int | str, ...]
Problem = tuple[str, str]


def _table_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((table for table in map(_table_of, get_args(annotation)) if table), None)


TABLES: dict[str, type[BaseModel]] = {"": Config} | {
    name: table for name, field in Config.model_fields.items() if (table := _table_of(field.annotation))
}
"""The tables by key; "" is the top of the file."""

LISTS = frozenset(name for name in TABLES if name and Config.model_fields[name].annotation is not TABLES[name])
"""The tables that are lists, such as ``[[shards]]``."""

_MISSING = {
    "primary": 'is missing: name the server that takes the writes, as in primary = "127.0.0.1:7001"',
    "address": 'is missing: name the address where clients connect, as in address = "127.0.0.1:6381"',
    "name": 'is missing: give the name that AUTH gives, as in name = "default"',
}


def path_of(location: Location) -> str:
    """The path of a location: ``shards[1].slots`` for ``("shards", 1, "slots")``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean "x"?`` if a known name is similar to ``name``, else ""; known names begin with ``prefix``."""
    close = difflib.get_close_matches(name.removeprefix(prefix), [other.removeprefix(prefix) for other in known], n=1)
    return f'; did you mean "{prefix}{close[0]}"?' if close else ""


def problems_of(error: ValidationError) -> list[tuple[Location, str]]:
    """The problems of a validation error, each with its location."""
    found: list[tuple[Location, str]] = []
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Problems):
            found += [((*detail["loc"], key) if key else detail["loc"], words) for key, words in cause.problems]
        else:
            found.append((detail["loc"], _words(detail)))
    return found


def _words(detail: ErrorDetails) -> str:
    kind, location, context = detail["type"], detail["loc"], detail.get("ctx", {})
    match kind:
        case "value_error":
            return str(context["error"])
        case "extra_forbidden":
            return _unknown_key(location)
        case "missing":
            return _MISSING.get(str(location[-1]), "is missing")
        case "literal_error":
            return _not_a_choice(detail["input"], location)
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"is not a table: write it as {_heading(location)}, with its keys below"
        case "tuple_type" | "list_type":
            return _not_a_list(location)
        case "string_type" | "string_sub_type":
            return "is not text: write it in quotes"
        case "bool_type" | "bool_parsing":
            return "is not true or false: write one of them, without quotes"
        case "greater_than":
            return "must be more than 0"
        case "greater_than_equal":
            return f"is too small: at least {context['ge']:g}"
        case "less_than_equal":
            return "is too long: at most 24h" if context["le"] == 86400 else f"is too large: at most {context['le']:g}"
        case "string_pattern_mismatch" | "string_too_short":
            return "is not a good name: it has no spaces and is not empty"
        case _:
            return detail["msg"]


def _unknown_key(location: Location) -> str:
    key = str(location[-1])
    here = _table_at(location)
    close = suggestion(key, here.model_fields)
    if close:
        return f"is not a key{close}"
    # A key of the whole proxy is more likely to be meant than that of an item.
    for name in sorted(TABLES, key=LISTS.__contains__):
        if key in TABLES[name].model_fields:
            place = f"under {_heading((name,))}" if name else "at the top of the file, before the first [table]"
            return f"is not a key here: it belongs {place}"
    return f"is not a key: {'at the top' if here is Config else 'here'} are {', '.join(here.model_fields)}"


def _table_at(location: Location) -> type[BaseModel]:
    """The innermost table that holds the key at ``location``."""
    table: type[BaseModel] = Config
    for part in location[:-1]:
        if isinstance(part, str) and part in table.model_fields:
            table = _table_of(table.model_fields[part].annotation) or table
    return table


def _heading(location: Location) -> str:
    name = str(location[0])
    return f"[[{name}]]" if name in LISTS else f"[{name}]"


def _not_a_list(location: Location) -> str:
    if location[0] in LISTS and len(location) == 1:
        return f"is not a list of tables: write {_heading(location)} for each; in an environment variable, JSON"
    return 'is not a list: write it in brackets, as in ["127.0.0.1:7002"]'


def _not_a_choice(value: object, location: Location) -> str:
    annotation = _table_at(location).model_fields[str(location[-1])].annotation
    # The choices of a key that may be left out are one part of its type.
    parts = [part for part in get_args(annotation) if get_origin(part) is Literal]
    choices = get_args(parts[0] if parts else annotation)
    return f"{shown(value)} is not one of {', '.join(choices)}{suggestion(str(value), choices)}"
