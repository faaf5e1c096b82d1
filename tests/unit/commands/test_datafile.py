"""The data file: reviewable, whole, and what the generator would write."""

import json
from importlib.resources import files

from proxy.commands import datafile
from proxy.commands.table import DATA

TEXT = files("proxy.commands").joinpath(DATA).read_text("utf-8")


def test_one_command_a_line_sorted_under_a_header() -> None:
    head, *rows, end = TEXT.splitlines()
    assert json.loads(head + "]}")["servers"] == ["Redis 7.0.15", "Valkey 9.1.2"]
    names = [json.loads(row.removesuffix(","))["name"] for row in rows]
    assert end == "]}"
    assert names == sorted(set(names))


def test_written_again_it_is_the_same() -> None:
    assert datafile.dump(datafile.load(TEXT), json.loads(TEXT)["servers"]) == TEXT


def test_subcommands_stand_in_their_containers() -> None:
    facts = {fact.name: fact for fact in datafile.load(TEXT)}
    assert b"get" in facts["config"].subcommands
    assert not any("|" in name for name in facts)
