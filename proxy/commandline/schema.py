"""The JSON Schema of the configuration file, made from the models. Editors complete keys with it, and check values
while they are typed.

A schema knows the forms of values and not the rules between them: ``slotgate check`` has the last word.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from proxy.config import Config
from proxy.config.admin import from_address
from proxy.config.section import one_or_many, parsers
from proxy.config.values import (
    parse_address_map,
    parse_count,
    parse_duration,
    parse_listen,
    parse_memory,
    parse_percent,
    parse_server,
    parse_size,
    parse_slots,
    parse_trusted_proxy,
    parse_workers,
)

Schema = dict[str, Any]

_SIZE = {"type": "string", "pattern": r"^\s*[0-9]{1,12}\s*([bB]|[kKmMgG][bB]?)\s*$", "examples": ["64kb", "1gb"]}
_AUTO = {"const": "auto"}
_ADDRESS = {
    "type": "string",
    "pattern": r"^\s*(unix:/|[^/@]*:[0-9]+\s*$)",
    "examples": ["127.0.0.1:6379", "unix:/run/s.sock"],
}
_FORMS: Mapping[Callable[..., Any], Schema] = {
    parse_duration: {
        "type": "string",
        "pattern": r"^\s*[0-9]{1,9}(\.[0-9]{1,6})?\s*(ms|s|m|h)\s*$",
        "examples": ["500ms", "10s"],
    },
    parse_size: _SIZE,
    parse_memory: {"anyOf": [_AUTO, _SIZE]},
    parse_percent: {"type": "string", "pattern": r"^\s*[0-9]{1,3}(\.[0-9]{1,3})?\s*%\s*$", "examples": ["80%"]},
    parse_count: {"type": "integer"},
    parse_workers: {"anyOf": [_AUTO, {"type": "integer", "minimum": 1}]},
    parse_listen: _ADDRESS,
    parse_server: _ADDRESS,
    parse_slots: {"type": "string", "pattern": r"^\s*[0-9][0-9,\s-]*$", "examples": ["0-5460", "0-99,7000"]},
    parse_address_map: {"type": "object", "additionalProperties": {"type": "string"}},
    parse_trusted_proxy: {"type": "string", "examples": ["10.0.0.0/24", "unix"]},
}
"""The forms of values that have a parser of their own, by the parser."""
_PLAIN: Mapping[object, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    SecretStr: {"type": "string"},
}


def schema() -> Schema:
    """Return the schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Slotgate",
        **_of_model(Config),
    }


def _of_model(model: type[BaseModel]) -> Schema:
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    found: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _of_field(field) for name, field in model.model_fields.items()},
    }
    return {**found, "required": required} if required else found


def _of_field(field: FieldInfo) -> Schema:
    found = _of_type(field.annotation, field.metadata)
    if from_address in parsers(field):
        found = {"anyOf": [{"type": "string"}, found]}
    if "anyOf" not in found:
        found = {**found, **_bounds(field.metadata, found)}
    if field.description:
        found["description"] = field.description
    default = field.default
    if default is not PydanticUndefined and default not in (None, {}, ()):
        found["default"] = list(default) if isinstance(default, tuple) else default
    return found


def _of_type(annotation: Any, metadata: list[Any]) -> Schema:
    functions = [each.func for each in metadata if hasattr(each, "func")]
    form = next((_FORMS[each] for each in functions if each in _FORMS), None)
    if form is not None:
        return {**form, **({} if "anyOf" in form else _bounds(metadata, form))}
    if hasattr(annotation, "__metadata__"):
        return _of_type(annotation.__origin__, [*annotation.__metadata__, *metadata])
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        parts = [each for each in arguments if each is not type(None)]
        found = [_of_type(each, metadata if len(parts) == 1 else []) for each in parts]
        return found[0] if len(found) == 1 else {"anyOf": found}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        item = _of_type(arguments[0], [])
        many = {"type": "array", "items": item}
        return {"anyOf": [item, many]} if one_or_many in functions else many
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _of_model(annotation)
    return dict(_PLAIN[annotation])


def _bounds(metadata: list[Any], form: Mapping[str, Any]) -> Schema:
    """Return the bounds of a number or a text; those of durations and sizes are in units that a schema can not
    compare."""
    known = _TEXT_BOUNDS if form.get("type") == "string" else _NUMBER_BOUNDS if form.get("type") in _NUMBERS else ()
    return {word: bound for each in metadata for key, word in known if (bound := getattr(each, key, None)) is not None}


_NUMBERS = ("integer", "number")
_NUMBER_BOUNDS = (("ge", "minimum"), ("gt", "exclusiveMinimum"), ("le", "maximum"))
_TEXT_BOUNDS = (("min_length", "minLength"),)
"""The attributes of a field's metadata that are bounds, and the words that a schema has for them."""
