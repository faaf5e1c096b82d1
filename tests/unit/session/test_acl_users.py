"""All users: the file that holds them, logging in, passwords, and the log of what was denied."""

import hmac
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import hiredis
import pytest

from proxy.commands.categories import CommandSet
from proxy.commands.table import CommandTable
from proxy.session import passwords
from proxy.session.acl_log import AclLog, reply
from proxy.session.acl_rules import AclUser, change, everything
from proxy.session.acl_users import AclFileError, Users, lost_channels, parse_file
from proxy.session.passwords import Passwords, Scrypt, sha256

COMMANDS = CommandSet(CommandTable.builtin())


def made(name: str, *rules: str) -> AclUser:
    return change(AclUser(name), [rule.encode() for rule in rules], COMMANDS)


def test_a_file_comes_back_as_it_was_written() -> None:
    rules = ("on", ">x", "~a:*", "%R~b", "&c", "+@read", "-get", "+select|0", "+config|get")
    users = Users(COMMANDS, [made("zoe", *rules), made("adam", "on", "nopass", "+@all", "-@admin", "(~x", "+get)")])
    lines = users.file().splitlines()
    assert [line.split()[1] for line in lines] == [b"adam", b"default", b"zoe"]
    again = Users(COMMANDS, parse_file(users.file(), "file", COMMANDS))
    assert again.file() == users.file()


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("user", "f:1 should start with user keyword followed by the username. "),
        ("\n# words\n", "f:2 should start with user keyword followed by the username. "),
        ("user a on\nuser a", "WARNING: Duplicate user 'a' found on line 2. "),
        ("user a\tb on", "'f:1: username 'a\tb' contains invalid characters. "),
        ("user a (+get ~x", "f:1: Unmatched parenthesis in selector definition."),
        ("user a +nosuch bad worse", "f:1: Error in applying operation '+nosuch': Unknown command or category name in "
         "ACL. f:1: Syntax error. "),
    ],
)  # fmt: skip
def test_a_file_with_problems(text: str, problems: str) -> None:
    with pytest.raises(AclFileError) as raised:
        parse_file(text.encode(), "f", COMMANDS)
    assert str(raised.value) == (
        problems + "WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
    )


def test_there_is_always_a_default_user() -> None:
    users = Users(COMMANDS, [])
    found = users.get("default")
    assert found is not None
    assert not found.user.enabled
    users.replace_all([everything("default")])
    assert users.authenticate("default", b"anything") is True


def test_setuser_says_what_is_wrong() -> None:
    users = Users(COMMANDS, [made("a", "on", ">x")])
    assert users.changed(b"a b", []) == "ERR Usernames can't contain spaces or null characters"
    assert users.changed(b"a", [b"+x"]) == (
        "ERR Error in ACL SETUSER modifier '+x': Unknown command or category name in ACL"
    )
    assert users.changed(b"a", [b"(+get"]) == "ERR Unmatched parenthesis in acl selector starting at '(+get'."
    changed = users.changed(b"a", [b"+get"])
    assert isinstance(changed, AclUser)
    assert changed.enabled
    assert users.remove(["a", "a", "nobody"]) == ["a"]


def test_names_are_text() -> None:
    users = Users(COMMANDS)
    assert users.changed(b"\xff", [b"on"]) == "ERR Usernames can't contain spaces or null characters"
    found = users.changed("jürgen".encode(), [b"on"])
    assert isinstance(found, AclUser)
    users.put(found)
    assert "user jürgen on".encode() in users.file()
    assert users.authenticate("\udcff", b"") is False


def test_logging_in() -> None:
    users = Users(COMMANDS, [made("a", "on", ">x", ">y"), made("off", ">x")])
    assert users.authenticate("a", b"x") is True
    assert users.authenticate("a", b"y") is True
    for name, password in (("a", b""), ("off", b"x"), ("nobody", b"x"), ("nobody", b"")):
        assert users.authenticate(name, password) is False


def test_logging_in_with_digests_that_take_long() -> None:
    slow = str(Scrypt.of(b"slow", n=2))
    users = Users(COMMANDS, [made("a", "on", ">x"), made("b", "on", f"#{slow}", ">z"), made("off", f"#{slow}")])
    assert users.authenticate("a", b"x") is True
    assert users.authenticate("b", b"z") is True
    for name in ("a", "b", "off", "nobody"):
        assert users.authenticate(name, b"slow") is None, "who guesses can not tell one from another"
        assert users.slow_digests(name) == [slow]
    passwords = users.passwords
    assert passwords.verify_slowly([slow], b"wrong") == []
    passwords.remember(passwords.verify_slowly([slow], b"slow"), b"slow")
    assert users.authenticate("b", b"slow") is True
    for name in ("a", "off", "nobody"):
        assert users.authenticate(name, b"slow") is None
    assert users.authenticate("b", b"wrong") is None


@pytest.mark.parametrize(
    "digests",
    [
        {"a": 1},
        {"a": 3, "b": 1},
        {"a": 1, "b": 2, "c": 0},
    ],
)
@pytest.mark.parametrize("slow", [{}, {"a": [2]}, {"a": [2], "b": [2, 2, 4]}, {"a": [8], "b": [2]}])
def test_the_same_work_for_every_name(
    digests: dict[str, int], slow: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that no user has is verified by as many hashes, of the same costs, as that of any user."""
    people = [
        made(
            name,
            "on",
            *(f">{name}{number}" for number in range(count)),
            *(f"#{Scrypt.of(b'q', n=n)}" for n in slow.get(name, [])),
        )
        for name, count in digests.items()
    ]
    users = Users(COMMANDS, [*people, made("off", ">x", f"#{Scrypt.of(b'q', n=2)}" if slow else ">y")])
    work: list[str] = []
    plain, compare, mark, calculate = passwords.sha256, hmac.compare_digest, hmac.digest, Scrypt.calculate

    def counted(what: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            work.append(what(*args))
            return function(*args)

        return call

    monkeypatch.setattr(passwords, "sha256", counted(lambda *args: "sha256", plain))
    monkeypatch.setattr(hmac, "compare_digest", counted(lambda *args: "compare", compare))
    monkeypatch.setattr(hmac, "digest", counted(lambda *args: "mark", mark))
    monkeypatch.setattr(Scrypt, "calculate", counted(lambda digest, password: f"scrypt {digest.n}", calculate))
    found = {}
    for name in (*digests, "off", "nobody", ""):
        work.clear()
        if users.authenticate(name, b"wrong") is None:
            assert users.passwords.verify_slowly(users.slow_digests(name), b"wrong") == []
        found[name] = sorted(work)
    assert all(each == found["nobody"] for each in found.values()), found
    assert "sha256" in found["nobody"]
    assert "compare" in found["nobody"]


def test_digests_of_others_accept_nothing() -> None:
    slow = str(Scrypt.of(b"s", n=2))
    users = Users(COMMANDS, [made("a", "on", ">x", ">y", f"#{slow}"), made("b", "on", ">z")])
    users.passwords.remember([slow], b"s")
    assert users.authenticate("a", b"s") is True
    for name in ("b", "nobody"):
        for password in (b"x", b"y", b"s"):
            assert not users.authenticate(name, password)


def test_a_remembered_password_ends_with_its_digest() -> None:
    passwords = Passwords()
    slow, other = str(Scrypt.of(b"p", n=2)), str(Scrypt.of(b"q", n=2))
    passwords.remember([slow], b"p")
    assert passwords.fast([slow], b"p")
    assert not passwords.fast([slow], b"q")
    assert not passwords.fast([other], b"p")
    assert not passwords.fast([], b"p")


@pytest.mark.parametrize("text", ["", "scrypt", "scrypt:16:8:1:00", "scrypt:15:8:1:" + "00" * 16 + ":" + "00" * 32,
                                  "scrypt:1048576:8:1:" + "00" * 16 + ":" + "00" * 32,
                                  "scrypt:16:8:1:zz:" + "00" * 32, "scrypt:16:8:1:00:" + "00" * 32])  # fmt: skip
def test_digests_of_scrypt_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|power of 2|more than|in hex|at least"):
        Scrypt.parse(text)


def test_nobody_takes_as_long_as_a_wrong_password() -> None:
    users = Users(COMMANDS, [made("a", "on", ">x")])

    def taken(name: str) -> float:
        before = time.perf_counter()
        for _ in range(50):
            users.authenticate(name, b"guess")
        return time.perf_counter() - before

    rounds = [(taken("a"), taken("nobody")) for _ in range(30)]
    known, unknown = (median(times) for times in zip(*rounds, strict=True))
    assert 0.5 < unknown / known < 2


def test_channels_that_are_lost() -> None:
    old = made("a", "&a*", "&b")
    assert not lost_channels(old, made("a", "&b", "&a*", "&c"))
    assert not lost_channels(old, made("a", "(&*)"))
    assert lost_channels(old, made("a", "&a*"))
    assert lost_channels(made("a", "&*"), made("a", "&a*"))
    assert not lost_channels(old, made("a", "(&a*)", "(&b)"))


def deny(log: AclLog, at: int, name: str = "get", info: str = "id=1") -> None:
    log.add("command", "toplevel", name, "u", info, at)


def test_the_log_counts_what_is_alike_within_a_minute() -> None:
    log = AclLog(longest=3)
    deny(log, 1000)
    deny(log, 2000, "set")
    deny(log, 61_000, info="id=2")
    newest, older = log.export()
    assert (newest["object_"], newest["count"], newest["client_info"], newest["number"]) == ("get", 2, "id=2", 0)
    assert (newest["created"], newest["updated"], older["number"]) == (1000, 61_000, 1)
    deny(log, 200_000)
    assert [kept["count"] for kept in log.export()] == [1, 2, 1]
    deny(log, 300_000)
    assert [kept["number"] for kept in log.export()] == [3, 2, 0], "the oldest is forgotten"
    log.reset()
    assert log.export() == []
    deny(log, 1)
    assert log.export()[0]["number"] == 4


def test_what_the_log_shows() -> None:
    log = AclLog()
    deny(log, 1000)
    deny(log, 1500, "set")
    reader = hiredis.Reader()
    reader.feed(reply([log.export()], 1, 1504, 2, numbered=False))
    ((*fields,),) = reader.gets()
    assert fields == [
        *(b"count", 1, b"reason", b"command", b"context", b"toplevel", b"object", b"set", b"username", b"u"),
        *(b"age-seconds", b"0.0040000000000000001", b"client-info", b"id=1"),
    ]
    reader.feed(reply([log.export()], 10, 2500, 3, numbered=True))
    newest, older = reader.gets()
    assert (newest[b"age-seconds"], newest[b"entry-id"], older[b"age-seconds"]) == (1.0, 1, 1.5)
    assert newest[b"timestamp-created"] == newest[b"timestamp-last-updated"] == 1500


def test_digests_are_not_shown() -> None:
    assert sha256(b"x") not in repr(made("a", ">x"))
