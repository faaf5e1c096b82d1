"""The table: commands are found, and what backends know is added."""

import pytest

from proxy.commands.facts import Handling
from proxy.commands.keys import key_indexes
from proxy.commands.table import CommandTable, UnknownSubcommand
from tests.unit.commands.commandreply import command_info

TABLE = CommandTable.builtin()


def entry(name: bytes, *flags: bytes, first: int = 0, last: int = 0, step: int = 0, arity: int = -2) -> list[object]:
    return [name, arity, list(flags), first, last, step, []]


def test_builtin_is_made_once() -> None:
    assert CommandTable.builtin() is TABLE


def test_iteration_is_sorted_and_top_level() -> None:
    names = [fact.name for fact in TABLE]
    assert names == sorted(names)
    assert len(names) == len(TABLE) > 250
    assert not any("|" in name for name in names)


@pytest.mark.parametrize("name", [b"get", b"GET", b"gEt"])
def test_any_case(name: bytes) -> None:
    fact = TABLE.get(name)
    assert fact is not None
    assert fact.name == "get"


@pytest.mark.parametrize("name", [b"", b"nope", b"config|get", b"get ", b"\xff\x00", b"get" * 1000])
def test_unknown(name: bytes) -> None:
    assert TABLE.get(name) is None
    assert TABLE.resolve([name, b"x"]) is None


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("get k", "get"),
        ("CONFIG GET x", "config|get"),
        ("config gEt x", "config|get"),
        ("CONFIG", "config"),
        ("COMMAND", "command"),
        ("COMMAND COUNT", "command|count"),
        ("OBJECT ENCODING k", "object|encoding"),
    ],
)
def test_resolve(line: str, name: str) -> None:
    fact = TABLE.resolve(line.encode().split())
    assert fact is not None
    assert fact.name == name


@pytest.mark.parametrize("subcommand", [b"", b"nope", b"get" * 1000])
def test_an_unknown_subcommand_names_its_container(subcommand: bytes) -> None:
    with pytest.raises(UnknownSubcommand) as raised:
        TABLE.resolve([b"config", subcommand])
    assert raised.value.fact.name == "config"


def test_learning_what_is_known_changes_nothing() -> None:
    again = TABLE.learn([command_info(fact) for fact in TABLE])
    assert list(again) == list(TABLE)


def test_the_short_reply_of_an_older_server_takes_nothing_away() -> None:
    short = [command_info(fact)[:7] for fact in TABLE]
    assert list(TABLE.learn(short)) == list(TABLE)


def test_a_learned_command_with_keys_is_keyed() -> None:
    table = TABLE.learn([entry(b"MOD.SET", b"write", first=1, last=1, step=1)])
    fact = table.get(b"Mod.Set")
    assert fact is not None
    assert fact.handling is Handling.KEYED
    assert fact.write
    assert key_indexes(fact, [b"mod.set", b"k", b"v"]) == [1]
    assert TABLE.get(b"mod.set") is None
    assert repr(table) == f"<CommandTable of {len(TABLE) + 1} commands, 1 learned>"


@pytest.mark.parametrize("flags", [[b"readonly"], [b"readonly", b"movablekeys"], [b"write", b"fast"]])
def test_a_learned_keyless_command_is_uncovered(flags: list[bytes]) -> None:
    fact = TABLE.learn([entry(b"mod.x", *flags)]).get(b"mod.x")
    assert fact is not None
    assert fact.handling is Handling.UNCOVERED


def test_a_learned_key_that_is_not_all_is_uncovered() -> None:
    fact = TABLE.learn([entry(b"mod.x", b"movablekeys", first=1, last=1, step=1)]).get(b"mod.x")
    assert fact is not None
    assert fact.handling is Handling.UNCOVERED


def test_no_backend_turns_a_known_command_into_another() -> None:
    """A backend that says every command is a plain read of one key."""
    names = [fact.name.encode() for fact in TABLE]
    learned = TABLE.learn([entry(name, b"readonly", first=1, last=1, step=1, arity=-1) for name in names])
    for old, new in zip(TABLE, learned, strict=True):
        assert (new.handling, new.merge, new.reason, new.key_specs) == (
            *(old.handling, old.merge, old.reason, old.key_specs),
        )
        assert new.readonly is old.readonly
        assert new.replica_ok is old.replica_ok
        assert new.subcommands.keys() == old.subcommands.keys()


def test_a_newer_servers_looser_arity_is_taken() -> None:
    fact = TABLE.learn([entry(b"get", b"readonly", arity=-2)]).get(b"get")
    assert fact is not None
    assert fact.arity == -2


def test_a_command_that_became_a_write_leaves_the_replicas() -> None:
    fact = TABLE.learn([entry(b"get", b"write")]).get(b"get")
    assert fact is not None
    assert not fact.replica_ok


def test_new_subcommands_of_known_containers() -> None:
    def container(name: bytes, sub: bytes, *flags: bytes) -> list[object]:
        return [name, -2, [], 0, 0, 0, [], [], [], [[name + b"|" + sub, 2, list(flags), 0, 0, 0, [], [], [], []]]]

    table = TABLE.learn(
        [container(b"client", b"newer"), container(b"cluster", b"newer"), container(b"memory", b"newer", b"readonly")]
    )
    found = {line: table.resolve(line.split()) for line in (b"client newer", b"cluster newer", b"memory newer")}
    assert {line: fact and fact.handling for line, fact in found.items()} == {
        b"client newer": Handling.SESSION,
        b"cluster newer": Handling.REFUSED,
        b"memory newer": Handling.UNCOVERED,
    }
    assert table.resolve([b"client", b"id"]) == TABLE.resolve([b"client", b"id"])


def test_a_known_command_is_not_made_a_container() -> None:
    sub = [b"get|x", 2, [], 0, 0, 0, [], [], [], []]
    fact = TABLE.learn([[b"get", 2, [], 0, 0, 0, [], [], [], [sub]]]).resolve([b"get", b"k"])
    assert fact is not None
    assert fact.name == "get"


def test_two_backends_facts_add_up() -> None:
    keyless, keyed = entry(b"mod.x", b"fast"), entry(b"mod.x", b"write", first=1, last=1, step=1)
    for order in ([keyless, keyed], [keyed, keyless]):
        fact = TABLE.learn(order[:1]).learn(order[1:]).get(b"mod.x")
        assert fact is not None
        assert fact.handling is Handling.KEYED
        assert fact.flags == {"fast", "write"}


def test_what_one_backend_says_is_administration_stays_refused() -> None:
    fact = TABLE.learn([entry(b"mod.x", b"admin")]).learn([entry(b"mod.x", first=1, last=1, step=1)]).get(b"mod.x")
    assert fact is not None
    assert fact.handling is Handling.REFUSED


@pytest.mark.parametrize("name", [b"post", b"host:", b"rreplay"])
def test_overrides_hold_for_learned_commands(name: bytes) -> None:
    fact = TABLE.learn([entry(name, b"readonly", b"loading", b"stale", arity=-1)]).get(name)
    assert fact is not None
    assert fact.handling is Handling.REFUSED
