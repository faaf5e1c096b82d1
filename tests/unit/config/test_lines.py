"""The lines on which the keys of a TOML file are."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from proxy.config.lines import line_at, lines_of
from proxy.config.origins import Origins
from proxy.config.words import path_of

ROOT = Path(__file__).parents[3]

TEXT = '''\
# listen = "comment"
listen = [
  "127.0.0.1:1",  # one
  "127.0.0.1:2",
]
"read_from" = "any"   # "x" = 1
admin.address = "127.0.0.1:9121"

[[shards]]
primary = "a:1"
[[shards]]
primary = 'b:1'
replicas = ["b:2", "b:3"]

[backend]
password = """
[not.a.table]
key = 1
"""
tls = true

[[listeners]]
address = "127.0.0.1:3"
[listeners.tls]
cert_file = "c"
certificates = [
  { cert_file = "d", key_file = "e" },
  { cert_file = "f", key_file = "g" },
]
[[listeners]]
address = "127.0.0.1:4"
[[audit.rules]]
[[audit.rules]]
users = []
[topology]
remap = { "a:1" = "b:1" }
'''


def paths(value: Any, path: tuple[int | str, ...] = ()) -> list[str]:
    """The paths of all tables, lists and values of a parsed file."""
    found = [path_of(path)] if path else []
    if isinstance(value, dict):
        return found + [name for key, each in value.items() for name in paths(each, (*path, key))]
    if isinstance(value, list):
        return found + [name for index, each in enumerate(value) for name in paths(each, (*path, index))]
    return found


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("listen", 2),
        ("listen[1]", 4),
        ("read_from", 6),
        ("admin.address", 7),
        ("shards", 9),
        ("shards[0].primary", 10),
        ("shards[1]", 11),
        ("shards[1].replicas[1]", 13),
        ("shards[1].slots", 11),
        ("backend.password", 16),
        ("backend.tls", 20),
        ("listeners[0].tls", 24),
        ("listeners[0].tls.cert_file", 25),
        ("listeners[0].tls.certificates[1].key_file", 28),
        ("listeners[1].address", 31),
        ("audit.rules[1].users", 34),
        ("topology.remap", 36),
        ("workers", None),
        ("limits.max_clients", None),
    ],
)
def test_lines(path: str, line: int | None) -> None:
    assert line_at(lines_of(TEXT), path) == line


@pytest.mark.parametrize("text", [TEXT, (ROOT / "config" / "slotgate.toml").read_text()], ids=["small", "example"])
def test_every_key_has_a_line(text: str) -> None:
    lines = lines_of(text)
    for path in paths(tomllib.loads(text)):
        assert path in lines or path == "audit", path  # it has no heading of its own
        if path not in lines:
            continue
        key = path.rpartition(".")[2].rstrip("[]0123456789")
        assert key in text.splitlines()[lines[path] - 1] or path.endswith("]")


@pytest.mark.parametrize("end", range(0, len(TEXT), 7))
def test_a_file_that_is_cut_off_is_no_trouble(end: int) -> None:
    lines_of(TEXT[:end])


def test_a_list_of_a_later_source_replaces_all_its_items(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('[[shards]]\nprimary = "a:1"\nslots = "0-16383"\n')
    origins = Origins(path, {"shards": [{"primary": "b:1"}]}, {})
    assert (origins.of("shards[0].primary"), origins.of("shards[0].slots")) == ("command line", "default")
    assert Origins(path, {}, {}).of("shards[0].slots") == "s.toml:3"
    variable = Origins(path, {}, {"SLOTGATE_SHARDS": "c:1/d:1"})
    assert variable.of("shards[0].replicas") == "SLOTGATE_SHARDS"
    assert variable.of("shards[0].slots") == "default"
