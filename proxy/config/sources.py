"""The function ``load`` makes one Config of the file, the environment and the flags, or reports all their problems."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from proxy.config.checks import CHECKS
from proxy.config.environment import PREFIX, read_environment, unknown_variables, variable_of
from proxy.config.model import Config
from proxy.config.origins import Origins
from proxy.config.secret import PASSWORD_KEYS, TOKEN_KEYS, LoadContext
from proxy.config.toml_words import read_toml
from proxy.config.words import LISTS, TABLES, Location, Problem, path_of, problems_of
from proxy.errors import ConfigError

_RULES = "colocate"
"""The table whose keys have a meaning only together."""
_SHORT = "admin"
"""The table that may be written as one text, the address."""
Data = dict[str, Any]
Keys = tuple[str, ...]
"""A location without list positions, such as ``("shards", "slots")``."""


def load(
    path: Path | None, flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """Return the configuration from ``path`` (TOML), ``SLOTGATE_`` variables and ``flags``; later sources win.

    ``flags`` has the structure of the file; a list in it replaces the file's. ``environ`` is the process's environment
    unless given. Names of files in the configuration are relative to its folder. Raises ConfigError with every problem.
    """
    around = LoadContext(os.environ if environ is None else environ, path.parent if path else Path())
    variables, problems = read_environment(around.environ)
    unread: set[Keys] = {(name.removeprefix(PREFIX).lower(),) for name, _ in problems}
    data: Data = {}
    for layer in _with_tables([read_toml(path) if path else {}, variables, flags or {}]):
        data = _overlay(data, layer)
    problems += unknown_variables(around.environ, _variables_meant(data))

    config, found, broken = _validate(data, around)
    for check, inputs in CHECKS:
        if not any(_touch(one, other) for one in broken | unread for other in inputs):
            found += check(config)
    problems += [(where, words + _origin(where, around.environ, flags or {})) for where, words in found]
    if problems:
        raise _error(problems, Origins(path, flags or {}, around.environ))
    return config


def _error(problems: Sequence[Problem], origins: Origins) -> ConfigError:
    """Return the error, with the line of the file that each problem is about."""
    places = {_printable(where): origins.blame(where) for where, _ in problems}
    return ConfigError(tuple((_printable(where), _printable(words)) for where, words in problems), places)


def _printable(text: str) -> str:
    """Return ``text`` with escapes for unprintable characters, so that a problem is always one line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _with_tables(layers: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the layers, with the short form of ``[admin]`` as a table if any layer has the table: its other keys
    stay."""
    table = any(isinstance(layer.get(_SHORT), Mapping) for layer in layers)
    for layer in layers:
        yield {**layer, _SHORT: {"address": layer[_SHORT]}} if table and isinstance(layer.get(_SHORT), str) else layer


def _overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> Data:
    """Return ``base`` with the keys of ``over``: tables are merged, other values replaced. A password key replaces
    every other password key, and a token key every other token key."""
    merged = dict(base)
    for keys in PASSWORD_KEYS, TOKEN_KEYS:
        if any(key in over for key in keys):
            merged = {key: value for key, value in merged.items() if key not in keys}
    for key, value in over.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, Mapping)
        merged[key] = _overlay(merged[key], value) if both else value
    return merged


def _variables_meant(data: Data) -> frozenset[str]:
    """Return the variables that the ``password_env`` and ``token_env`` keys name."""
    tables: list[Any] = []
    for name in TABLES:
        value = data.get(name)
        tables += value if name in LISTS and isinstance(value, list) else [value]
    keys = PASSWORD_KEYS[1], TOKEN_KEYS[1]
    named = (table.get(key) for table in tables if isinstance(table, dict) for key in keys)
    return frozenset(name for name in named if isinstance(name, str))


def _validate(data: Data, around: LoadContext) -> tuple[Config, list[Problem], set[Keys]]:
    """Return a Config of the valid keys in ``data``, which the checks can read; the problems; and the invalid keys."""
    rest = copy.deepcopy(data)
    problems: list[Problem] = []
    broken: dict[Location, Keys] = {}
    while True:
        try:
            return Config.model_validate(rest, context=around), problems, set(broken.values())
        except ValidationError as error:
            wrong = problems_of(error)
        maimed = {known[:-1] for known in broken}
        for location, words in wrong:
            if any(known[: len(location)] == location for known in broken):
                # The value is invalid without the key that was removed, as that key is required. So the whole table
                # counts as invalid.
                broken[location] = _keys(location)[:1]
                rest.pop(str(location[0]), None)
            else:
                # A rule that lost its invalid key would get a second problem, about the keys that belong to that key.
                if location[0] != _RULES or location[:-1] not in maimed:
                    problems.append((path_of(location), words))
                broken[location] = _keys(location)
                _remove(rest, location)


def _remove(data: Data, location: Location) -> None:
    """Remove the key of the innermost table at ``location``. Removing an item of a list would shift the items behind
    it."""
    node: Any = data
    table, key = data, location[0]
    for part in location:
        if isinstance(node, dict):
            table, key = node, part
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            break
    table.pop(str(key), None)


def _keys(location: Location) -> Keys:
    return tuple(part for part in location if isinstance(part, str))


def _touch(one: Keys, other: Keys) -> bool:
    """Whether the keys are equal, or one lies inside the other."""
    return one[: len(other)] == other[: len(one)]


def _origin(where: str, environ: Mapping[str, str], flags: Mapping[str, object]) -> str:
    """Return the source of a key, in words; "" for the file, where operators look first."""
    if re.split(r"[.\[]", where)[0] in flags:
        return " (from the command line)"
    variable = variable_of(where, environ)
    return f" (from {variable})" if variable else ""
