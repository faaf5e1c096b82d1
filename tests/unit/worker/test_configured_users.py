"""The users that a configuration names, and the file that they may be kept in."""

import os
from pathlib import Path

import pytest

from proxy.commands.table import CommandTable
from proxy.config import load
from proxy.errors import ConfigError
from proxy.session.acl_check import Permissions
from proxy.session.acl_log import LogEntry
from proxy.session.acl_rules import AclUser
from proxy.session.acl_users import Users
from proxy.session.passwords import Scrypt
from proxy.session.users import DEFAULT_RULES
from proxy.worker.configured_users import AclFile, ChangedUsers, logging_logins, users_of

SHARDS = {"shards": [{"primary": "127.0.0.1:7000"}]}


def made(tmp_path: Path, text: str) -> Users:
    file = tmp_path / "slotgate.toml"
    file.write_text(text)
    return users_of(load(file, SHARDS, {}))


def permissions(users: Users, name: str) -> Permissions:
    found = users.get(name)
    assert found is not None
    return found


def allowed(users: Users, name: str, line: str) -> bool:
    args = line.encode().split()
    fact = CommandTable.builtin().resolve(args)
    assert fact is not None
    return permissions(users, name).check(fact, args) is None


def test_without_users_everybody_may_do_everything(tmp_path: Path) -> None:
    users = made(tmp_path, "")
    default = permissions(users, "default")
    assert (users.default_open, users.default_plain, default.unrestricted) == (True, True, True)
    assert not default.user.admin
    assert users.describing.line(default.user) == b"user default on nopass ~* &* +@all"


def test_an_ordinary_user_keeps_to_the_fast_paths(tmp_path: Path) -> None:
    """What it may not do is on neither."""
    users = made(tmp_path, '[[users]]\nname = "app"\npassword = "x"\n')
    app = permissions(users, "app")
    assert (app.unrestricted, app.keyed, app.own) == (False, True, True)
    assert not users.default_open
    for line in (
        "get k",
        "mset a 1 b 2",
        "flushdb",
        "info",
        "keys *",
        "role",
        "scan 0",
        "sort k",
        "client list",
        "ping",
    ):
        assert allowed(users, "app", line), line
    for line in ("flushall", "config get x", "client kill x", "slotgate nodes", "acl list", "swapdb 0 1", "monitor"):
        assert not allowed(users, "app", line), line
    assert b" -swapdb" in users.describing.line(app.user)
    assert "-swapdb" in DEFAULT_RULES


def test_rules(tmp_path: Path) -> None:
    slow = Scrypt.of(b"s", n=2)
    users = made(
        tmp_path,
        f"""
        [[users]]
        name = "ruled"
        password = "p"
        password_hash = "{slow}"
        rules = "~app:* +@read +ping >q"
        [[users]]
        name = "admin"
        nopass = true
        admin = true
        rules = "-flushall"
        [[users]]
        name = "off"
        rules = "off +@all"
        """,
    )
    ruled = permissions(users, "ruled").user
    assert ruled.enabled
    assert len(ruled.digests) == 3
    assert str(slow) in ruled.digests
    assert users.authenticate("ruled", b"p") is users.authenticate("ruled", b"q") is True
    assert allowed(users, "ruled", "get app:1")
    assert not allowed(users, "ruled", "get x")
    assert not permissions(users, "ruled").keyed
    assert permissions(users, "admin").user.admin
    assert allowed(users, "admin", "slotgate nodes")
    assert not allowed(users, "admin", "flushall")
    assert permissions(users, "admin").keyed
    assert not permissions(users, "off").user.enabled


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            '[[users]]\nname = "a"\nrules = "on +nosuch"\n[[users]]\nname = "b"\nrules = "(+get"\n',
            (
                ("users[0].rules", "Unknown command or category name in ACL: '+nosuch'"),
                ("users[1].rules", "Unmatched parenthesis in acl selector starting at '(+get'."),
            ),
        ),
        (
            '[[users]]\nname = "a"\nrules = "<secret"\n',
            (("users[0].rules", "The password you are trying to remove from the user does not exist: a password"),),
        ),
        (
            '[[users]]\nname = "a"\npassword_hash = "scrypt:3:8:1:00:00"\n',
            (("users[0].password_hash", "N has to be a power of 2, r and p greater than 0"),),
        ),
        (
            '[[users]]\nname = "a"\npassword_hash = "scrypt:x"\n',
            (("users[0].password_hash[0]", "is not scrypt:<N>:<r>:<p>:<salt in hex>:<hash in hex>"),),
        ),
        (
            'aclfile = "a"\n[[users]]\nname = "a"\nnopass = true\n',
            (("aclfile", "is named beside [[users]]: have all users in one place"),),
        ),
    ],
)
def test_problems(tmp_path: Path, text: str, problems: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ConfigError) as raised:
        made(tmp_path, text)
    assert raised.value.problems == problems


def test_an_aclfile(tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text("user a on >x ~* +@all\n")
    users = made(tmp_path, 'aclfile = "users.acl"\n')
    assert users.authenticate("a", b"x") is True
    assert permissions(users, "a").user.admin
    assert not users.default_open, "nobody is let in whom the file does not name"
    (tmp_path / "users.acl").write_text("user a +nosuch\n")
    with pytest.raises(ConfigError, match=r"users.acl:1: Error in applying operation '\+nosuch'"):
        made(tmp_path, 'aclfile = "users.acl"\n')
    with pytest.raises(ConfigError, match="which can not be read: No such file or directory"):
        made(tmp_path, 'aclfile = "none.acl"\n')


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    path.write_bytes(b"before")
    path.chmod(0o600)
    file = AclFile(str(path))
    file.write(b"after")
    assert file.read() == b"after"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="No such file"):
        AclFile(str(tmp_path / "nowhere" / "users.acl")).write(b"x")
    assert os.listdir(tmp_path) == ["users.acl"]


def test_failed_logins_are_logged_a_few_in_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    note = logging_logins(lambda: now)
    entry = LogEntry("auth", "toplevel", "AUTH", "x" * 1000, "id=1 addr=10.0.0.1:5 laddr=l", 0)
    for _ in range(50):
        note(entry, "wrong password")
    now = 2.0
    note(entry, "unknown user")
    assert len(caplog.messages) == 12
    assert caplog.messages[0] == f"login failed user='{'x' * 64}' address=10.0.0.1:5 reason='wrong password'"
    assert caplog.messages[10] == "more logins failed count=40"


def test_digests_are_not_shown() -> None:
    assert "scrypt" not in repr(AclUser("a", digests=(str(Scrypt.of(b"x", n=2)),)))


def test_a_worker_that_starts_is_told_what_the_users_are(tmp_path: Path) -> None:
    changed = ChangedUsers(load(None, SHARDS, {}))
    assert list(changed.parts()) == []
    changed.note(("client|pause", 0, ("CLIENT", "PAUSE", "1")))
    changed.note(("acl|setuser", 1, ("ACL", "SETUSER", "a", "on")))
    changed.note(("acl|setuser", 2, ("ACL", "SETUSER", "a", "off")))
    changed.note(("acl|deluser", 3, ("ACL", "DELUSER", "b", "c")))
    assert list(changed.parts()) == [
        ("acl|setuser", 2, ("ACL", "SETUSER", "a", "off")),
        ("acl|deluser", 0, ("ACL", "DELUSER", "b")),
        ("acl|deluser", 0, ("ACL", "DELUSER", "c")),
    ]
    loaded = ("acl|load", 4, ("ACL", "LOAD", "user default on"))
    changed.note(loaded)
    assert list(changed.parts()) == [loaded]
    (tmp_path / "users.acl").write_text("user a on\n")
    (tmp_path / "slotgate.toml").write_text('aclfile = "users.acl"\n')
    (first,) = ChangedUsers(load(tmp_path / "slotgate.toml", SHARDS, {})).parts()
    assert first[:2] == ("acl|load", 0)
    assert "user a on" in first[2][2]
