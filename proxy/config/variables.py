"""The reader of the ``SLOTGATE_`` variables, made of pydantic-settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from proxy.config.model import Config
from proxy.config.values import parse_static
from proxy.config.words import TABLES, Problem

_JSON = re.compile(r"\s*(\{|\[\s*(\{|\"|\]|$)|$)")
"""The beginning of a JSON object, or of a list. An address may begin with a bracket too."""


class _Shape(Config, BaseSettings):
    """The keys of Config, in the form from which pydantic-settings reads names. The class is never instantiated."""

    model_config = SettingsConfigDict(env_nested_delimiter="__")


class Variables(EnvSettingsSource):
    """The reader of pydantic-settings over the variables of ``environ`` that begin with ``prefix``. It accepts text in
    place of a list, and shards in the form of ``--static``."""

    def __init__(self, environ: Mapping[str, str], prefix: str) -> None:
        super().__init__(_Shape, env_prefix=prefix)
        self._prefix = prefix
        self.env_vars = {name.lower(): value for name, value in environ.items()}
        self.problems: list[Problem] = []

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return JSON lists and objects decoded, and other text unchanged, since the text may be an address."""
        if field_name == "admin" and not value.lstrip().startswith("{"):
            # `value` is the short form. Other variables may set the other keys of the table.
            keys = f"{self._prefix}admin__".lower()
            return {"address": value} if any(name.startswith(keys) for name in self.env_vars) else value
        if field_name == "shards" and not _JSON.match(value):
            return parse_static(value)
        try:
            decoded = json.loads(value)
        except ValueError as error:
            if field_name in TABLES:
                self.problems.append((f"{self._prefix}{field_name.upper()}", f"is not JSON: {error}"))
                return {}
            return value
        return decoded if isinstance(decoded, (list, dict)) else value
