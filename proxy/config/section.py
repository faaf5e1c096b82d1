"""What every table of the configuration is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A table of the file: frozen, without unknown keys. Errors do not show inputs, which may be secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def default(value: object, why: str, **rules: Any) -> Any:
    """An optional key: its default as an operator writes it, and the reason for it; ``rules`` are those of Field."""
    return Field(value, description=why, validate_default=True, **rules)


def one_or_many(value: object) -> object:
    """A list, of a single text too."""
    return [value] if isinstance(value, str) else value
