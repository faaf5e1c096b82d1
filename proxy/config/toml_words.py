"""An operator's words for a file that is not TOML: the line, what is wrong, and what to write.

A line may hold a password, so that only names that the configuration knows are shown of it.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from proxy.config.words import TABLES
from proxy.errors import ConfigError

_PLACE = re.compile(r"\(at (?:line ([0-9]+), column [0-9]+|end of document)\)")
_START = re.compile(r'\s*(\[{1,2})?\s*"?([A-Za-z0-9_.-]+)"?')
_BACKSLASH = "write \\\\ for each backslash, or put the text in single quotes"
_ONE_EACH = 'a text stands in quotes, as in "20s"; one key stands on each line, and a comment begins with #'
_ADVICE = (
    ("Expected '=' after a key", 'write KEY = VALUE, as in read_from = "any"'),
    ("Invalid value", 'a text stands in quotes, as in "20s"; numbers, true and false stand without'),
    ("Expected newline or end of document", _ONE_EACH),
    ("Cannot overwrite a value", "the key is there twice: keep one of them"),
    ("Cannot declare", "the table is there twice: put all its keys under one heading"),
    ("Cannot mutate", "the table is written in two ways: put all its keys under one heading"),
    ("Cannot redefine", "the table is written in two ways: put all its keys under one heading"),
    ("at the end of a table declaration", "a heading is [name], or [[name]] for each item of a list"),
    ("at the end of an array declaration", "a heading is [name], or [[name]] for each item of a list"),
    ("Unescaped '\\'", _BACKSLASH),
    ("Invalid hex value", _BACKSLASH),
    ("Illegal character '\\n'", "a text that begins with a quote ends with one, on the same line"),
    ("Unterminated string", "a text that begins with a quote ends with one"),
    ("Expected \"'''\"", "a text that begins with three quotes ends with three"),
    ('Expected \'"""\'', "a text that begins with three quotes ends with three"),
    ("Unclosed array", 'a list ends with ], and has commas between its items, as in ["a:1", "b:1"]'),
    ("Unclosed inline table", "an inline table ends with }, on the same line"),
    ("Duplicate inline table key", "the key is there twice: keep one of them"),
    ("Invalid statement", "a line is KEY = VALUE, a [heading], or a comment that begins with #"),
    ("Invalid initial character for a key part", "a key has letters, digits, _ and - only"),
)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of the file. Raises ConfigError with words that name the line and what to write there."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(((str(path), f"can not be read: {error.strerror}"),)) from None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        words = f"is not TOML: line {line} is not UTF-8 text: save the file as UTF-8"
        raise ConfigError(((str(path), words),)) from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(((str(path), f"is not TOML: {error}{_advice(str(error), text)}"),)) from None


def _advice(message: str, text: str) -> str:
    found = _PLACE.search(message)
    lines = text.split("\n")
    at = int(found[1]) if found and found[1] else len(lines)
    shown = _shown(lines[at - 1]) if found and at <= len(lines) else ""
    where = f": {shown}" if shown else ""
    advice = next((words for beginning, words in _ADVICE if beginning in message), "")
    return f"{where}; {advice}" if advice else where


def _shown(line: str) -> str:
    """Return the beginning of a line if it is a key or a heading that the configuration has."""
    found = _START.match(line)
    if found is None:
        return ""
    heading, name = found.groups()
    known = {key for table in TABLES.values() for key in table.model_fields} | set(TABLES)
    if name.split(".")[0] not in known:
        return ""
    rest = line[found.end() :].strip()
    return f"{heading or ''}{name}{' ...' if rest else ''}"
