"""config/slotgate.toml and docs/configuration.md: the file loads, and both name every key with its default."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from proxy.config import load
from proxy.config.words import LISTS, TABLES

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "config" / "slotgate.toml"
KEYS = [(table, key) for table, model in TABLES.items() for key in model.model_fields if key not in TABLES]


@pytest.fixture(scope="module")
def uncommented() -> dict[str, Any]:
    """The file with each ``#key = value`` and ``#[[table]]`` set; prose has a space after its ``#``."""
    return tomllib.loads(re.sub(r"(?m)^#(?=[a-z_\[])", "", EXAMPLE.read_text()))


def test_it_loads() -> None:
    config = load(EXAMPLE, {}, {})
    assert len(config.shards) == 3
    defaults = load(None, {"shards": tomllib.loads(EXAMPLE.read_text())["shards"]}, {})
    assert config == defaults


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_every_key_is_there_with_its_default(uncommented: dict[str, Any], table: str, key: str) -> None:
    tables = uncommented[table] if table in LISTS else [uncommented[table] if table else uncommented]
    written = [each[key] for each in tables if key in each]
    assert written
    default = TABLES[table].model_fields[key].default
    if default is PydanticUndefined or default is None:
        return
    assert (list(default) if isinstance(default, tuple) else default) in written


def test_no_key_is_there_that_does_not_exist(uncommented: dict[str, Any]) -> None:
    for table, model in TABLES.items():
        for each in uncommented[table] if table in LISTS else [uncommented[table] if table else uncommented]:
            assert set(each) <= set(model.model_fields)


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_every_key_is_said_to_operators(table: str, key: str) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    heading = {"": "## Top of the file"}.get(table, f"## `[[{table}]]`" if table in LISTS else f"## `[{table}]`")
    section = text.split(f"{heading}\n", 1)[1].split("\n## ", 1)[0]
    row = next(line for line in section.splitlines() if line.startswith(f"| `{key}` |"))
    default = TABLES[table].model_fields[key].default
    if isinstance(default, tuple):
        default = ", ".join(default)
    if isinstance(default, bool):
        default = str(default).lower()
    if default not in (PydanticUndefined, None, "", False):
        assert f"| `{default}` |" in row
