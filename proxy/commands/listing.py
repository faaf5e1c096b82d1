"""The table of ``slotgate commands``, as text."""

from __future__ import annotations

from proxy.commands.facts import Fact
from proxy.commands.table import CommandTable

COLUMNS = ("command", "arity", "flags", "keys", "handling", "merge", "reason")

FLAGS = ("readonly", "write", "blocking")


def render(table: CommandTable) -> str:
    """The table: a line with the columns' names, then one line for each command or subcommand of a container."""
    rows = [COLUMNS, *(_row(fact) for top in table for fact in callable_facts(top))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(line.rstrip() + "\n" for line in lines)


def callable_facts(fact: Fact) -> list[Fact]:
    """The command, if it can be called without a subcommand, and its subcommands."""
    subcommands = [fact.subcommands[name] for name in sorted(fact.subcommands)]
    alone = not subcommands or fact.accepts(1)
    return [fact, *subcommands] if alone else subcommands


def _row(fact: Fact) -> tuple[str, ...]:
    return (
        fact.name.replace("|", " "),
        str(fact.arity),
        " ".join(flag for flag in FLAGS if flag in fact.flags) or "-",
        "yes" if fact.keyed else "no",
        fact.handling.value,
        fact.merge or "-",
        fact.reason,
    )
