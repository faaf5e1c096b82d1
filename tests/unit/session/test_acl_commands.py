"""The ACL subcommands in one worker, and what they do to its clients."""

import pytest

from proxy.engine.jobs import at_once
from proxy.session import acl_access
from proxy.session.acl_commands import DELUSER, LOAD, SETUSER
from proxy.session.acl_rules import everything
from proxy.session.session import Session
from tests.support.sessions import OPEN, TABLE, Room, account, say, sha256

OK = b"+OK\r\n"


class File:
    """An aclfile in memory."""

    path = "users.acl"

    def __init__(self, text: bytes | None) -> None:
        self.text = text

    def read(self) -> bytes:
        if self.text is None:
            raise FileNotFoundError(2, "No such file or directory")
        return self.text

    def write(self, text: bytes) -> None:
        if self.text is None:
            raise PermissionError(13, "Permission denied")
        self.text = text


@pytest.fixture
def room() -> Room:
    """An admin, and two clients of anna's, of whom the second is subscribed."""
    room = Room({"default": everything("default"), "anna": account("anna", sha256("one"))})
    room.enter()
    for _ in range(2):
        assert say(room.enter(), "AUTH", "anna", "one") == OK
    room.listening[3] = [(b"news", False), (b"ne*", True)]
    return room


def denied(session: Session, line: str) -> str:
    args = line.encode().split()
    fact = TABLE.resolve(args)
    assert fact is not None
    return acl_access.denied(session, fact, args)


def test_rules_hold_for_clients_that_are_there(room: Room) -> None:
    admin, anna, _ = room.clients
    assert denied(anna, "get k") == ""
    assert say(admin, "ACL", "SETUSER", "anna", "-get", "resetkeys", "~a") == OK
    assert room.told == [2, 3]
    assert denied(anna, "get a").startswith("NOPERM")
    assert denied(anna, "set b 1").startswith("NOPERM")
    assert denied(anna, "set a 1") == ""
    assert room.killed == []


def test_what_may_not_be_heard_any_more_closes(room: Room) -> None:
    admin = room.clients[0]
    assert say(admin, "ACL", "SETUSER", "anna", "resetchannels", "&news", "&ne*") == OK
    assert room.killed == []
    assert say(admin, "ACL", "SETUSER", "anna", "resetchannels", "&news") == OK
    assert room.killed == [3], "a pattern has to be among the rules as it is"


def test_who_is_deleted_is_closed(room: Room) -> None:
    admin, anna, _ = room.clients
    assert say(admin, "ACL", "DELUSER", "nobody") == b":0\r\n"
    assert say(anna, "ACL", "DELUSER", "anna", "anna") == b":1\r\n"
    assert room.killed == [3]
    assert anna.closing, "it hears that it was done"
    assert not anna.authenticated
    assert say(admin, "ACL", "GETUSER", "anna") == b"$-1\r\n"
    assert say(admin, "ACL", "DELUSER", "default") == b"-ERR The 'default' user cannot be removed\r\n"
    assert denied(room.clients[2], "get k") != "", "until its connection is closed"


def test_other_workers_are_told_the_user_as_it_is_to_be(room: Room) -> None:
    admin = room.clients[0]
    told = SETUSER.args(admin, [b"acl", b"setuser", b"anna", b"+get", b"(~x", b"+@all)"])
    other = Room({"anna": account("anna", nopass=True)})
    at_once(SETUSER.part(other.world, 7, told, 0.0))
    say(admin, "ACL", "SETUSER", "anna", "+get", "(~x", "+@all)")
    lines = [line for line in room.world.users.file().splitlines() if b" anna " in line]
    assert lines == [line for line in other.world.users.file().splitlines() if b" anna " in line]
    assert DELUSER.args(admin, [b"a", b"b", b"c"]) == [b"a", b"b", b"c"]


def test_the_file(room: Room) -> None:
    admin, anna, _ = room.clients
    for name in ("LOAD", "SAVE"):
        assert say(admin, "ACL", name).startswith(b"-ERR This Redis instance is not configured to use an ACL file.")
    file = room.world.users_file = File(b"user default on nopass ~* &* +@all\nuser anna on >two ~* +get\n")
    told = LOAD.args(admin, [b"ACL", b"LOAD"])
    assert say(admin, "ACL", "LOAD") == OK
    assert room.killed == [3], "anna may hear nothing now"
    assert room.told == [2]
    assert denied(anna, "set k 1").startswith("NOPERM")
    other = Room()
    at_once(LOAD.part(other.world, 0, told, 0.0))
    assert other.world.users.file() == room.world.users.file()
    file.text = b"user default on nopass ~* &* +@all\n"
    assert say(admin, "ACL", "LOAD") == OK
    assert room.killed == [3, 2, 3]
    assert say(admin, "ACL", "SETUSER", "new", "on") == OK
    assert say(admin, "ACL", "SAVE") == OK
    assert file.text == room.world.users.file()
    assert b"user new on" in file.text
    file.text = None
    assert (
        say(admin, "ACL", "LOAD") == b"-ERR Error loading ACLs, opening file 'users.acl': No such file or directory\r\n"
    )
    assert say(admin, "ACL", "SAVE").startswith(b"-ERR There was an error trying to save the ACLs.")


def test_dry_runs(room: Room) -> None:
    admin = room.clients[0]
    say(admin, "ACL", "SETUSER", "u", "+get", "~a")
    assert say(admin, "ACL", "DRYRUN", "u", "get", "a") == OK
    for words, answer in (
        (("u", "get", "b"), b"$54\r\nUser u has no permissions to access the 'b' key\r\n"),
        (("u", "set", "a", "1"), b"User u has no permissions to run the 'set' command"),
        (("u", "get"), b"-ERR wrong number of arguments for 'get' command"),
        (("u", "nosuch"), b"-ERR Command 'nosuch' not found"),
        (("u", "config", "nosuch"), b"-ERR Command 'config' not found"),
        (("nobody", "get", "a"), b"-ERR User 'nobody' not found"),
    ):
        assert answer[5:] in say(admin, "ACL", "DRYRUN", *words), words


def test_passwords_that_are_made(room: Room) -> None:
    admin = room.clients[0]
    for bits, digits in ((None, 64), ("1", 1), ("5", 2), ("4096", 1024)):
        reply = say(admin, "ACL", "GENPASS", *([bits] if bits else []))
        assert len(reply.split(b"\r\n")[1]) == digits
    assert say(admin, "ACL", "GENPASS") != say(admin, "ACL", "GENPASS")
    for wrong in ("0", "4097", "-1"):
        assert say(admin, "ACL", "GENPASS", wrong).startswith(b"-ERR ACL GENPASS argument must be the number of bits")


def test_what_is_denied_is_noted(room: Room) -> None:
    admin, anna, _ = room.clients
    say(admin, "ACL", "SETUSER", "anna", "resetkeys", "~a")
    denied(anna, "get b")
    anna.queued = 0
    denied(anna, "get b")
    denied(anna, "config get x")
    say(anna, "AUTH", "nobody", "guess")
    log = room.world.denials
    assert [(entry["reason"], entry["context"], entry["object_"]) for entry in log.log.export()] == [
        ("auth", "multi", "AUTH"),
        ("command", "multi", "config|get"),
        ("key", "multi", "b"),
        ("key", "toplevel", "b"),
    ]
    assert log.commands == {"key": 2, "command": 1}
    assert log.logins == {"unknown user": 1}
    assert say(admin, "ACL", "LOG", "1").startswith(b"*1\r\n*20\r\n$5\r\ncount")
    assert say(admin, "ACL", "LOG", "RESET") == OK
    assert say(admin, "ACL", "LOG") == b"*0\r\n"


def test_a_client_of_another_user_is_not_listed(room: Room) -> None:
    admin, anna, _ = room.clients
    assert say(anna, "CLIENT", "LIST").count(b"id=") == 2
    assert say(anna, "CLIENT", "LIST", "ID", "1", "2").count(b"id=") == 1
    assert say(admin, "CLIENT", "LIST").count(b"id=") == 3
    assert say(anna, "CLIENT", "LIST", b"\0of user", "default").startswith(b"-ERR syntax error")
    assert say(Room(OPEN).enter(), "CLIENT", "LIST").count(b"id=") == 1
