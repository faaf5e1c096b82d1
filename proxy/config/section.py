"""The base class of all tables of the file, and helpers for their keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo

DAY = 86400.0
"""The longest duration, in seconds."""


class Section(BaseModel):
    """A table of the file: frozen, without unknown keys. Errors do not show inputs, which may be secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


def default(value: object, why: str, **rules: Any) -> Any:
    """Declare an optional key: the default as an operator writes it, the reason for it, and ``rules``, those of
    Field."""
    return Field(value, description=why, validate_default=True, **rules)


def one_or_many(value: object) -> object:
    """Return a list from a value that may be one text without brackets."""
    return [value] if isinstance(value, str) else value


def _hash(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value.get_secret_value()):
        raise ValueError("is not a SHA-256: write 64 hex digits, as `printf %s PASSWORD | sha256sum` prints them")
    return SecretStr(value.get_secret_value().lower())


Hash = Annotated[SecretStr, AfterValidator(_hash)]
"""The SHA-256 of a password, as lower-case hex."""


def short_name(value: str | None) -> str | None:
    """Check a name that errors and metrics show."""
    if value and not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", value):
        raise ValueError("is not a good name: up to 64 letters, digits and _ . : - (it is shown in errors and metrics)")
    return value


def parsers(field: FieldInfo) -> list[Callable[..., Any]]:
    """Return the functions that parse and check a key's value, whether it may be left out or not."""
    metadata = [*field.metadata]
    for part in get_args(field.annotation):
        metadata += getattr(part, "__metadata__", ())
    return [each.func for each in metadata if hasattr(each, "func")]
