"""The text of ``slotgate commands``."""

from proxy.commands.listing import COLUMNS, render
from proxy.commands.table import CommandTable

LINES = render(CommandTable.builtin()).splitlines()


def line_of(name: str) -> list[str]:
    (line,) = [line for line in LINES if line.startswith(name + "  ")]
    return line.split()


def test_columns() -> None:
    assert LINES[0].split() == list(COLUMNS)
    assert not any(line != line.rstrip() for line in LINES)


def test_rows() -> None:
    assert line_of("get") == ["get", "2", "readonly", "yes", "keyed", "-"]
    assert line_of("mset") == ["mset", "-3", "write", "yes", "multi_shard", "all_ok"]
    assert line_of("blpop")[2:4] == ["write", "blocking"]
    assert line_of("config get")[:8] == ["config", "get", "-3", "-", "no", "special", "config_get", "no"]


def test_a_container_is_shown_by_its_subcommands_unless_it_can_be_called() -> None:
    names = {line.split("  ")[0] for line in LINES}
    assert {"command", "command count", "object help"} <= names
    assert not {"config", "object", "client"} & names
