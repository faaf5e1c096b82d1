"""What users may do: commands, keys, channels, selectors."""

import pytest

from proxy.commands.categories import CommandSet
from proxy.commands.key_access import READ, WRITE, key_access
from proxy.commands.table import CommandTable
from proxy.engine.jobs import at_once
from proxy.session.acl_check import Denial, Patterns, Permissions, Reason
from proxy.session.acl_rules import AclUser, change
from proxy.session.acl_text import REDIS_7_0, REDIS_7_2, Describing

TABLE = CommandTable.builtin()
COMMANDS = CommandSet(TABLE)


def permissions(rules: str) -> Permissions:
    return Permissions(change(AclUser("u"), rules.encode().split(), COMMANDS), COMMANDS)


def denial(rules: str, line: str) -> Denial | None:
    args = line.encode().split()
    fact = TABLE.resolve(args)
    assert fact is not None
    return permissions(rules).check(fact, args)


@pytest.mark.parametrize(
    ("rules", "allowed", "denied"),
    [
        ("+@all ~* &*", ["get a", "flushall", "slotgate nodes"], []),
        ("+@all ~* -@dangerous", ["get a", "auth x"], ["flushall", "slotgate nodes", "publish c m"]),
        ("+get +select|0 ~*", ["get a", "select 0"], ["select 1", "set a 1"]),
        ("+config|get", ["config get x"], ["config set x y"]),
        ("+@all -config|set ~*", ["config get x"], ["config set x y"]),
        ("+@all ~a:* ~b", ["set a:1 2", "mget a:1 b", "ping"], ["get c", "mget a:1 bb", "set a 1"]),
        ("+@all %R~r* %W~w*", ["get r", "sort r store w", "copy r w", "set w 1"], ["set r 1", "copy w r"]),
        ("+@all %R~r* ~w*", ["bitfield r get u8 0", "set w 1 get"], ["bitfield r set u8 0 1"]),
        ("+@all ~k &ch? &news*", ["subscribe ch1 news", "publish ch2 m"], ["subscribe ch12", "psubscribe ch1"]),
        ("+@all &news*", ["psubscribe news*"], ["psubscribe news", "spublish x m", "ssubscribe x"]),
        ("+get ~a (+set ~b) (+@all ~c)", ["get a", "set b 1", "set c 1"], ["set a 1", "get b", "mget a c"]),
        ("+eval ~k*", ["eval x 1 k1 other", "eval x 0"], ["eval x 1 other", "eval x 2 k1 other"]),
        ("-@all", ["auth x", "hello", "quit", "reset"], ["ping", "get a"]),
    ],
)  # fmt: skip
def test_what_is_allowed(rules: str, allowed: list[str], denied: list[str]) -> None:
    assert [line for line in allowed if denial(rules, line) is not None] == []
    assert [line for line in denied if denial(rules, line) is None] == []


def test_the_reason_and_its_place() -> None:
    assert denial("+get ~a", "set a 1") == Denial(Reason.COMMAND)
    assert denial("+mget ~a", "mget a b c") == Denial(Reason.KEY, 2)
    assert denial("+mget ~a (+mget ~a ~b)", "mget a b c") == Denial(Reason.KEY, 3)
    assert denial("+@all ~*", "subscribe a") == Denial(Reason.CHANNEL, 1)


@pytest.mark.parametrize(
    ("rules", "line", "option"),
    [
        ("+@all ~*", "sort a by w* get #", ""),
        ("+@all %R~* ~b", "sort a by w* get # store b", ""),
        ("+@all ~a", "sort a by w*", "BY"),
        ("+@all ~a", "sort a by nosort", ""),
        ("+@all ~a", "sort_ro a limit 0 1 get x", "GET"),
        ("+@all ~a (+get ~*)", "sort a get x", "GET"),
        ("+@all ~a (+sort ~*)", "sort a get x", ""),
    ],
)
def test_patterns_of_sort_need_all_keys(rules: str, line: str, option: str) -> None:
    args = line.encode().split()
    fact = TABLE.resolve(args)
    assert fact is not None
    assert at_once(permissions(rules).checking_sort(fact, args)) == option


def test_what_is_not_known_needs_all_commands() -> None:
    """A command that no rule can name, and a subcommand that came later."""
    fact = TABLE.get(b"get")
    config = TABLE.resolve([b"config", b"get"])
    assert fact is not None
    assert config is not None
    less = CommandSet(found for found in TABLE if found.name != "get")
    assert Permissions(change(AclUser("u"), [b"+@read", b"~*"], less), less).check(fact, [b"get", b"a"]) is not None
    assert Permissions(change(AclUser("u"), [b"+@all", b"-set", b"~*"], less), less).check(fact, [b"get", b"a"]) is None
    del less.bits["config|get"]
    refused = Permissions(change(AclUser("u"), [b"+@all", b"-config"], less), less)
    assert refused.check(config, [b"config", b"get", b"x"]) == Denial(Reason.COMMAND)


def test_patterns() -> None:
    patterns = Patterns([b"a:*", b"exact", b"g?t*", b"", b"x[12]"])
    for text in (b"a:", b"a:1", b"exact", b"get", b"gotten", b"x1", b""):
        assert patterns.match(text), text
    for text in (b"a", b"exactly", b"gt", b"x3", b"b:a:"):
        assert not patterns.match(text), text
    assert not Patterns([]).match(b"a")
    assert not Patterns([]).match(b"")


def test_access_to_keys() -> None:
    def access(line: str) -> dict[int, int]:
        args = line.encode().split()
        fact = TABLE.resolve(args)
        assert fact is not None
        return {at: access for positions, access in key_access(fact, args) for at in positions}

    assert access("xreadgroup group streams c streams a b > >") == {5: READ, 6: READ}
    assert access("sort a get x store b") == {1: READ, 5: WRITE}
    assert access("georadius a 1 1 1 m store b") == {1: READ, 7: WRITE}
    assert access("exists a") == {1: 0}
    assert access("set a 1") == {1: WRITE}
    assert access("eval x 5 a") == {}, "a syntax error has no keys"
    assert access("ping") == {}


def test_words() -> None:
    args = [b"mget", b"a", b"b"]
    fact = TABLE.get(b"mget")
    assert fact is not None
    user = AclUser("u")
    before, after = Describing(COMMANDS, REDIS_7_0), Describing(COMMANDS, REDIS_7_2)
    command, key = Denial(Reason.COMMAND), Denial(Reason.KEY, 2)
    channel = Denial(Reason.CHANNEL, 1)
    assert before.refusal("u", command, fact) == "NOPERM this user has no permissions to run the 'mget' command"
    assert after.refusal("u", command, fact) == "NOPERM User u has no permissions to run the 'mget' command"
    of_arguments = "NOPERM this user has no permissions to access one of the {} used as arguments"
    assert before.refusal("u", key, fact) == of_arguments.format("keys")
    assert before.refusal("u", channel, fact) == of_arguments.format("channels")
    assert after.refusal("u", key, fact) == "NOPERM No permissions to access a key"
    assert after.refusal("u", channel, fact) == "NOPERM No permissions to access a channel"
    assert before.dry_run(user, key, fact, args).endswith(b"This user has no permissions to access the 'b' key\r\n")
    assert after.dry_run(user, command, fact, args).endswith(b"User u has no permissions to run the 'mget' command\r\n")
    assert before.at_exec("u", key, fact).endswith("reason: no permission to touch the specified keys")
