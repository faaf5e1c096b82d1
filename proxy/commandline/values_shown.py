"""Every value of a configuration with its source, for ``slotgate check --show``. Secrets are named and not shown."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.config import Config
from proxy.config.origins import DEFAULT, Origins
from proxy.config.secret import PASSWORD_KEYS, TOKEN_KEYS
from proxy.config.section import parsers
from proxy.config.settings import SECRET, words
from proxy.config.users import BACKEND_KEYS
from proxy.config.values import parse_memory, parse_percent, parse_size

SET = "(set, not shown)"
_BESIDE = {keys[0]: keys[1:] for keys in (PASSWORD_KEYS, TOKEN_KEYS, BACKEND_KEYS)}
"""The keys that may name a secret in place of the key that holds it."""
_UNITS = ((1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb"), (1, "b"))


def values(config: Config, origins: Origins) -> Iterator[tuple[str, str, str]]:
    """Yield the path, the value and the source of every key; of a list of tables, those of each table."""
    yield from _of_table("", config, origins)


def _of_table(prefix: str, table: BaseModel, origins: Origins) -> Iterator[tuple[str, str, str]]:
    for name, field in type(table).model_fields.items():
        path, value = f"{prefix}{name}", getattr(table, name)
        if isinstance(value, BaseModel):
            yield from _of_table(f"{path}.", value, origins)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for index, each in enumerate(value):
                yield from _of_table(f"{path}[{index}].", each, origins)
        elif name in SECRET:
            yield path, SET if value else "", _of_secret(prefix, name, bool(value), origins)
        else:
            # A password key of a later source takes the place of another one in the file.
            replaced = value is None and (name in PASSWORD_KEYS or name in TOKEN_KEYS)
            yield path, _shown(name, value, field), DEFAULT if replaced else origins.of(path)


def _of_secret(prefix: str, name: str, is_set: bool, origins: Origins) -> str:
    if not is_set:
        return DEFAULT
    # A password in plain text is kept as its hash only, and so shows at the key of the hash.
    keys = next((keys for keys in (PASSWORD_KEYS, TOKEN_KEYS) if name in keys), (name, *_BESIDE.get(name, ())))
    found = (origins.of(f"{prefix}{key}") for key in (name, *keys))
    return next((source for source in found if source != DEFAULT), DEFAULT)


def _shown(name: str, value: object, field: FieldInfo) -> str:
    """Return a value as the configuration file would have it, in the unit that suits it."""
    found = parsers(field)
    if isinstance(value, float):
        return f"{value * 100:g}%" if parse_percent in found else _duration(value)
    if type(value) is int and (parse_size in found or parse_memory in found):
        unit, ending = next((each for each in _UNITS if value and not value % each[0]), (1, "b"))
        return f"{value // unit}{ending}"
    return f"{value:o}" if name == "mode" and isinstance(value, int) else words(value)


def _duration(seconds: float) -> str:
    for unit, name in (3600, "h"), (60, "m"):
        if seconds and not seconds % unit:
            return f"{seconds / unit:g}{name}"
    return f"{seconds * 1000:g}ms" if 0 < seconds < 1 else f"{seconds:g}s"
