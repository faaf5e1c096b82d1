"""The lines of a TOML file on which its keys stand. tomllib reports positions of errors only."""

from __future__ import annotations

import re
from collections.abc import Mapping

_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|' + r"'([^']*)'|([A-Za-z0-9_-]+)")
_TEXT = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'", re.DOTALL)
_PLAIN = re.compile(r"[^,\]}\n#]*")


def lines_of(text: str) -> dict[str, int]:
    """Return the line of each key and heading in a valid TOML file, by the path of the key, as in
    ``shards[1].slots``."""
    return _Scanner(text).scan()


def line_at(lines: Mapping[str, int], path: str) -> int | None:
    """Return the line of the key at ``path``, or of the innermost table that should have the key; None if neither is
    in the file."""
    while path:
        if path in lines:
            return lines[path]
        path = re.sub(r"(\.?[^.\[\]]*|\[[0-9]*\])$", "", path)
    return None


class _Scanner:
    """Reads a file that tomllib has accepted, so that it needs no rule about what is wrong. If the scanner does not
    understand a statement, it stops."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[str, int] = {}
        self._items: dict[str, int] = {}
        """The number of tables in each list that ``[[headings]]`` make."""

    def scan(self) -> dict[str, int]:
        """Return the lines of all keys."""
        table = ""
        while self._skip(_SPACE) < len(self._text):
            before = self._at
            if self._text.startswith("[", self._at):
                table = self._heading()
            else:
                self._pair(table)
            if self._at == before:
                break
        return self._lines

    def _heading(self) -> str:
        many = self._text.startswith("[[", self._at)
        line = self._line()
        self._at += 2 if many else 1
        *outer, last = self._key() or [""]
        path = _joined(self._latest(outer), last)
        if many:
            self._items[path] = self._items.get(path, -1) + 1
            self._lines.setdefault(path, line)
            path = f"{path}[{self._items[path]}]"
        elif path in self._items:
            path = self._latest([*outer, last])
        self._lines.setdefault(path, line)
        self._skip(_BLANK)
        self._at += 2 if many else 1
        return path

    def _latest(self, keys: list[str]) -> str:
        """Return the path of the table ``keys``; of a list of tables, its last one so far."""
        path = ""
        for key in keys:
            path = _joined(path, key)
            if path in self._items:
                path = f"{path}[{self._items[path]}]"
        return path

    def _pair(self, table: str) -> None:
        line = self._line()
        path = table
        for key in self._key():
            path = _joined(path, key)
            self._lines.setdefault(path, line)
        self._skip(_BLANK)
        if self._text.startswith("=", self._at):
            self._at += 1
            self._value(path)

    def _value(self, path: str) -> None:
        self._skip(_BLANK)
        start = self._text[self._at : self._at + 1]
        if start == "[":
            self._list(path, "]")
        elif start == "{":
            self._list(path, "}")
        elif start in ('"', "'"):
            self._skip(_TEXT)
        else:
            self._skip(_PLAIN)

    def _list(self, path: str, end: str) -> None:
        """Read a list, or an inline table, and what is in it."""
        self._at += 1
        index = 0
        while self._skip(_SPACE) < len(self._text):
            before = self._at
            if self._text.startswith(end, self._at):
                self._at += 1
                return
            if self._text.startswith(",", self._at):
                self._at += 1
                index += 1
            elif end == "}":
                self._pair(path)
            else:
                self._lines.setdefault(f"{path}[{index}]", self._line())
                self._value(f"{path}[{index}]")
            if self._at == before:
                return

    def _key(self) -> list[str]:
        """Read a key and return its parts, which dots separate."""
        parts: list[str] = []
        while True:
            self._skip(_BLANK)
            found = _PART.match(self._text, self._at)
            if found is None:
                return parts
            parts.append(next(group for group in found.groups() if group is not None))
            self._at = found.end()
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return self._at

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
