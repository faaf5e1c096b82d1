"""docs/commands.md: what is generated, and nothing else."""

from pathlib import Path

from proxy.commands import markdown
from proxy.commands.facts import Handling
from proxy.commands.listing import callable_facts
from proxy.commands.table import CommandTable
from proxy.planning.merge import MERGERS

TABLE = CommandTable.with_modules()
FILE = Path(__file__).parents[3] / "docs" / "commands.md"


def test_the_file_is_what_is_generated() -> None:
    assert FILE.read_text("utf-8") == markdown.render(TABLE), "run: slotgate commands --markdown > docs/commands.md"


def test_every_command_is_there_once() -> None:
    names = [line.split("`")[1] for line in FILE.read_text("utf-8").splitlines() if line.startswith("| `")]
    callable_names = [fact.name.replace("|", " ").upper() for top in TABLE for fact in callable_facts(top)]
    assert sorted(names) == sorted(callable_names)


def test_what_is_refused_has_a_reason() -> None:
    for top in TABLE:
        for fact in callable_facts(top):
            assert fact.handling is not Handling.REFUSED or fact.reason, fact.name


def test_every_way_and_merge_has_words() -> None:
    text = markdown.render(TABLE)
    assert "| None" not in text
    used = {fact.merge for top in TABLE for fact in callable_facts(top) if fact.merge}
    assert used <= set(markdown.MERGE_WORDS) <= set(MERGERS)
    assert set(markdown.WAY_WORDS) == set(Handling)
