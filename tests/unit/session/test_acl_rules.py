"""Rules of users and how they are described, without any server. Random ones: tests/live/test_acl_rules.py."""

import hiredis
import pytest

from proxy.commands.categories import CommandSet, categories_of_redis_7_0
from proxy.commands.table import CommandTable
from proxy.session.acl_rules import AclUser, RuleError, Selector, UnmatchedParenthesis, change, everything, valid_name
from proxy.session.acl_text import REDIS_7_0, REDIS_7_2, Describing, dialect_of
from proxy.session.passwords import Scrypt, sha256

COMMANDS = CommandSet(CommandTable.builtin())
OLDER = CommandSet(CommandTable.builtin(), categories_of_redis_7_0())
AFTER = Describing(COMMANDS, REDIS_7_2)
BEFORE = Describing(OLDER, REDIS_7_0)


def user(*rules: str, start: AclUser | None = None) -> AclUser:
    return change(start or AclUser("u"), [rule.encode() for rule in rules], COMMANDS)


@pytest.mark.parametrize(
    ("rules", "before", "after"),
    [
        ([], "off resetchannels -@all", "off sanitize-payload resetchannels -@all"),
        (["on", "nopass", "~*", "&*", "+@all"], "on nopass ~* &* +@all", "on nopass sanitize-payload ~* &* +@all"),
        (["+config|get", "+config"], "off resetchannels -@all +config", None),
        (["+select|0", "+SELECT|Ab"], "off resetchannels -@all +select|0 +select|Ab", None),
        (["+@READ", "-GET"], "off resetchannels -@all +@read -get", None),
        (["+@all", "-@read", "-@write"], "off resetchannels +@all -@write -@read", None),
        (["%R~a", "%W~a", "%W~b", "~c"], "off ~a %W~b ~c resetchannels -@all", None),
        (["&a", "&b", "&a"], "off resetchannels &a &b -@all", None),
        (["(~a", "+get)", "(+set)"], "off resetchannels -@all (~a resetchannels -@all +get) (resetchannels -@all +set)",
         None),
        (['(+get "~a")', "clearselectors"], "off resetchannels -@all", None),
        (["on", "~a", "+@all", "reset"], "off sanitize-payload resetchannels -@all", None),
        (["skip-sanitize-payload"], "off skip-sanitize-payload resetchannels -@all", None),
        (["+@all", "-@all", "+@scripting", "-eval"], "off resetchannels -@all +@scripting -eval", None),
    ],
)  # fmt: skip
def test_descriptions(rules: list[str], before: str, after: str | None) -> None:
    made = user(*rules)
    assert BEFORE.line(made).decode() == f"user u {before}"
    if after is not None:
        assert AFTER.line(made).decode() == f"user u {after}"


def test_rules_stay_as_they_were_said_from_7_2_on() -> None:
    said = user("+config|get", "-get", "+@read", "+config", "-get").selectors[0]
    assert AFTER.command_rules(said) == b"-@all +@read +config -get"


def test_passwords() -> None:
    made = user(">one", ">two", ">one", "<two")
    assert made.digests == (sha256(b"one"),)
    assert user("nopass", start=made).digests == ()
    assert not user(">x", start=user("nopass")).nopass
    slow = str(Scrypt.of(b"x", n=2))
    assert user(f"#{slow}").digests == (slow,)
    assert f"#{slow}".encode() in AFTER.line(user(f"#{slow}"))


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (["+nosuch"], "Unknown command or category name in ACL"),
        (["-select|0"], "Unknown command or category name in ACL"),
        (["+@nosuch"], "Unknown command or category name in ACL"),
        (["+config|get|x"], "Allowing first-arg of a subcommand is not supported"),
        (["+select|"], "Syntax error"),
        (["on", "whatever"], "Syntax error"),
        (["%~a"], "Syntax error"),
        (["%RR~a"], "Syntax error"),
        (["~a b"], "Syntax error"),
        (["(on)"], "Syntax error"),
        (["<nope"], "The password you are trying to remove from the user does not exist"),
        (
            ["#ABC"],
            "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
        ),
        (["#scrypt:3:8:1:00:00"], "N has to be a power of 2, r and p greater than 0"),
        (
            ["~*", "~a"],
            "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. "
            "Try 'resetkeys' to start with an empty list of patterns",
        ),
        (
            ["allchannels", "&a"],
            "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any "
            "effect. Try 'resetchannels' to start with an empty list of channels",
        ),
    ],
)
def test_errors(rules: list[str], why: str) -> None:
    with pytest.raises(RuleError) as raised:
        user(*rules)
    assert raised.value.why == why
    assert raised.value.rule == rules[-1].encode()


def test_a_selector_that_does_not_end() -> None:
    with pytest.raises(UnmatchedParenthesis, match=r"^Unmatched parenthesis in acl selector starting at '\(\+get'\.$"):
        user("on", "(+get", "~a")


def test_getuser_in_both_protocols() -> None:
    made = user("on", ">x", "~a*", "%R~b", "&c", "+@read", "(~d +get)")
    for protocol in (2, 3):
        reader = hiredis.Reader()
        reader.feed(BEFORE.getuser(made, protocol))
        found = reader.gets()
        pairs = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
        assert list(pairs[b"flags"]) == [b"on"]
        assert pairs[b"passwords"] == [sha256(b"x").encode()]
        assert (pairs[b"commands"], pairs[b"keys"], pairs[b"channels"]) == (b"-@all +@read", b"~a* %R~b", b"&c")
        (selector,) = pairs[b"selectors"]
        inner = selector if isinstance(selector, dict) else dict(zip(selector[::2], selector[1::2], strict=True))
        assert inner == {b"commands": b"-@all +get", b"keys": b"~d", b"channels": b""}


def test_who_needs_no_check() -> None:
    assert everything("a").unrestricted
    assert user("+@all", "-get", "+get", "~*", "&*").unrestricted
    assert not user("+@all", "~*").unrestricted
    assert not user("+@all", "~*", "&*", "-get").unrestricted
    assert user("(+@all ~* &*)").unrestricted
    assert Selector(future=True).all_commands


def test_names_and_versions() -> None:
    assert valid_name(b"a")
    assert not any(map(valid_name, (b"a b", b"a\0", b"a\n")))
    assert dialect_of("7.0.15") is dialect_of("6.2.14") is dialect_of("") is REDIS_7_0
    assert dialect_of("7.2.4") is dialect_of("8.0.0") is REDIS_7_2
