"""The places where the values of a configuration come from: the file and the line, a variable, or the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.config.environment import read_environment, variable_of
from proxy.config.lines import line_at, lines_of

DEFAULT = "default"
COMMAND_LINE = "command line"


class Origins:
    """The sources of one configuration, as ``load`` combines them. ``file`` has the content of the configuration file,
    which is empty if there is none or if it can not be read."""

    def __init__(self, path: Path | None, flags: Mapping[str, object], environ: Mapping[str, str]) -> None:
        self.path = path
        self.file: dict[str, Any] = {}
        self._lines: dict[str, int] = {}
        self._flags = flags
        self._environ = environ
        self._variables, _ = read_environment(environ)
        if path is not None:
            try:
                text = path.read_text(encoding="utf-8")
                self.file = tomllib.loads(text)
            except (OSError, ValueError, RecursionError):
                return
            self._lines = lines_of(text)

    def of(self, path: str) -> str:
        """Return the source of the value at ``path``, as in ``backend.tls``: ``slotgate.toml:12``, the name of a
        variable, "command line" or "default"."""
        keys = _keys(path)
        for layer, name in (
            (self._flags, COMMAND_LINE),
            (self._variables, variable_of(path, self._environ) or "environment"),
            (self.file, self.line(path)),
        ):
            found = _has(layer, keys)
            if found is not None:
                return name if found else DEFAULT
        return DEFAULT

    def line(self, path: str) -> str:
        """Return the line of the file that has the key at ``path``, or the table that lacks the key, as in
        ``slotgate.toml:12``; "" if the file has neither."""
        line = line_at(self._lines, path)
        return "" if line is None or self.path is None else f"{self.path.name}:{line}"

    def blame(self, path: str) -> str:
        """Return the line of the file for a problem at ``path``, "" if the file is not where the problem is."""
        top = _keys(path)[:1]
        if _has(self._flags, top) or variable_of(path, self._environ):
            return ""
        return self.line(path)


def _keys(path: str) -> list[str | int]:
    return [
        int(index) if index else key for key, index in re.findall(r"([^.\[\]]+)|\[([0-9]+)\]", path) if key or index
    ]


def _has(layer: object, keys: list[str | int]) -> bool | None:
    """Whether a layer has a value at ``keys``. False: it replaces the value by one without the key, as lists are
    replaced whole; None: it leaves the value as it was."""
    node: Any = layer
    for position, key in enumerate(keys):
        if isinstance(node, Mapping):
            if key not in node:
                inside_list = any(isinstance(each, int) for each in keys[:position])
                return False if inside_list else None
            node = node[key]
        elif isinstance(node, list) and isinstance(key, int):
            if key >= len(node):
                return False
            node = node[key]
        else:
            # The short form of a table is the value of its key "address", and leaves its other keys as they are. A text
            # may stand for a list.
            return True if key in ("address", 0) else None
    return True
