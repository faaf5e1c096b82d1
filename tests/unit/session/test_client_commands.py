"""The CLIENT subcommands, worded as Redis 7.0.15 words them (and Valkey 9 those that are newer)."""

import re

import pytest

from proxy.session.session import Load, ReplyMode, Session
from tests.support.sessions import Room, account, say, sha256

SYNTAX = b"-ERR syntax error\r\n"


@pytest.fixture
def session() -> Session:
    return Room().enter()


@pytest.fixture
def room() -> Room:
    """Four clients: three of them anna's, one of them long connected and named."""
    room = Room(
        {"default": account("default", nopass=True, admin=True), "anna": account("anna", sha256("one"), admin=True)}
    )
    for age in (0, 5, 60, 5):
        client = room.enter(100.0 - age)
        if age:
            say(client, "AUTH", "anna", "one")
    say(room.clients[2], "CLIENT", "SETNAME", "old")
    return room


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("CLIENT ID", b":1\r\n"),
        ("CLIENT GETNAME", b"$-1\r\n"),
        ("CLIENT SETNAME job", b"+OK\r\n"),
        ("CLIENT SETNAME a\tb", b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"),
        ("CLIENT SETINFO lib-name redis-py", b"+OK\r\n"),
        ("CLIENT SETINFO LIB-VER 5.0", b"+OK\r\n"),
        ("CLIENT SETINFO foo a", b"-ERR Unrecognized option 'foo'\r\n"),
        ("CLIENT SETINFO LIB-name a\tb", b"-ERR LIB-name cannot contain spaces, newlines or special characters.\r\n"),
        ("CLIENT NO-EVICT on", b"+OK\r\n"),
        ("CLIENT NO-EVICT x", SYNTAX),
        ("CLIENT NO-TOUCH OFF", b"+OK\r\n"),
        ("CLIENT NO-TOUCH x", SYNTAX),
        ("CLIENT GETREDIR", b":-1\r\n"),
        (
            "CLIENT TRACKINGINFO",
            b"*6\r\n$5\r\nflags\r\n*1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n",
        ),
        ("CLIENT UNBLOCK 999", b":0\r\n"),
        ("CLIENT UNBLOCK 999 TIMEOUT", b":0\r\n"),
        ("CLIENT UNBLOCK x", b"-ERR value is not an integer or out of range\r\n"),
        ("CLIENT UNBLOCK x foo", b"-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n"),
        (
            "CLIENT UNBLOCK 9 error x",
            b"-ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.\r\n",
        ),
        ("CLIENT PAUSE x", b"-ERR timeout is not an integer or out of range\r\n"),
        ("CLIENT PAUSE 9999999999999999999", b"-ERR timeout is not an integer or out of range\r\n"),
        ("CLIENT PAUSE -1", b"-ERR timeout is negative\r\n"),
        ("CLIENT PAUSE x foo", b"-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n"),
        (
            "CLIENT PAUSE 1 all x",
            b"-ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.\r\n",
        ),
        ("CLIENT UNPAUSE", b"+OK\r\n"),
        ("CLIENT REPLY x", SYNTAX),
        ("CLIENT REPLY ON", b"+OK\r\n"),
        ("CLIENT REPLY off", b""),
        ("CLIENT REPLY SKIP", b""),
        ("CLIENT KILL 1.2.3.4:5", b"-ERR No such client\r\n"),
        ("CLIENT KILL ID 0", b"-ERR client-id should be greater than 0\r\n"),
        ("CLIENT KILL ID x", b"-ERR client-id should be greater than 0\r\n"),
        ("CLIENT KILL USER nobody", b"-ERR No such user 'nobody'\r\n"),
        ("CLIENT KILL TYPE x", b"-ERR Unknown client type 'x'\r\n"),
        ("CLIENT KILL MAXAGE x", b"-ERR maxage is not an integer or out of range\r\n"),
        ("CLIENT KILL ID 5 SKIPME x", SYNTAX),
        ("CLIENT KILL ID 5 ADDR", SYNTAX),
        ("CLIENT KILL FOO x", SYNTAX),
        ("CLIENT KILL ADDR 1.2.3.4:5", b":0\r\n"),
        ("CLIENT LIST TYPE x", b"-ERR Unknown client type 'x'\r\n"),
        ("CLIENT LIST TYPE", SYNTAX),
        ("CLIENT LIST TYPE normal x", SYNTAX),
        ("CLIENT LIST ID", SYNTAX),
        ("CLIENT LIST ID x", b"-ERR Invalid client ID\r\n"),
        ("CLIENT LIST foo", SYNTAX),
        ("CLIENT LIST ID 99", b"$0\r\n\r\n"),
        ("CLIENT LIST TYPE pubsub", b"$0\r\n\r\n"),
    ],
)
def test_replies(session: Session, line: str, reply: bytes) -> None:
    assert say(session, *line.split(" ")) == reply


def test_replies_in_resp3(session: Session) -> None:
    say(session, "HELLO", "3")
    assert say(session, "CLIENT", "GETNAME") == b"_\r\n"
    assert say(session, "CLIENT", "TRACKINGINFO") == (
        b"%3\r\n$5\r\nflags\r\n~1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n"
    )
    assert say(session, "CLIENT", "LIST", "ID", "99") == b"=4\r\ntxt:\r\n"
    assert say(session, "CLIENT", "INFO").startswith(b"=")


def test_names(session: Session) -> None:
    say(session, "CLIENT", "SETNAME", "job-1")
    assert say(session, "CLIENT", "GETNAME") == b"$5\r\njob-1\r\n"
    say(session, "CLIENT", "SETNAME", "two words")
    assert say(session, "CLIENT", "GETNAME") == b"$5\r\njob-1\r\n"
    say(session, "CLIENT", "SETNAME", "")
    assert say(session, "CLIENT", "GETNAME") == b"$-1\r\n"


@pytest.mark.parametrize(
    ("modes", "mode"),
    [
        ("OFF", ReplyMode.OFF),
        ("OFF ON", ReplyMode.ON),
        ("skip", ReplyMode.SKIP),
        ("SKIP OFF", ReplyMode.OFF),
        ("OFF SKIP", ReplyMode.OFF),  # nothing is answered anyway
        ("SKIP foo", ReplyMode.SKIP),
    ],
)
def test_reply_modes(session: Session, modes: str, mode: ReplyMode) -> None:
    for word in modes.split(" "):
        say(session, "CLIENT", "REPLY", word)
    assert session.reply_mode is mode


def fields(line: str) -> dict[str, str]:
    return dict(field.split("=", 1) for field in line.split(" "))


def test_info_is_one_line_of_redis_fields(session: Session) -> None:
    say(session, "CLIENT", "SETNAME", "job")
    say(session, "CLIENT", "SETINFO", "lib-name", "redis-py")
    say(session, "CLIENT", "SETINFO", "lib-ver", "5.2")
    say(session, "SELECT", "3")
    session.last_command = "client|info"
    reply = say(session, "CLIENT", "INFO", now=107.9).decode()
    match = re.fullmatch(r"\$(\d+)\r\n(.*\n)\r\n", reply, re.DOTALL)
    assert match is not None
    assert int(match[1]) == len(match[2])
    found = fields(match[2].rstrip("\n"))
    # The fields of Redis 7.2's CLIENT INFO, in its order.
    assert " ".join(found) == (
        "id addr laddr fd name age idle flags db sub psub ssub multi watch qbuf qbuf-free argv-mem multi-mem rbs rbp "
        "obl oll omem tot-mem events cmd user redir resp lib-name lib-ver"
    )
    assert (found["id"], found["addr"], found["laddr"]) == ("1", "127.0.0.1:5001", "127.0.0.1:6380")
    assert (found["name"], found["db"], found["user"], found["resp"]) == ("job", "3", "default", "2")
    assert (found["age"], found["idle"], found["flags"], found["cmd"]) == ("7", "0", "N", "client|info")
    assert (found["lib-name"], found["lib-ver"]) == ("redis-py", "5.2")
    say(session, "CLIENT", "NO-EVICT", "on")
    assert " flags=e " in say(session, "CLIENT", "INFO").decode()


def test_the_fields_are_the_servers(session: Session) -> None:
    """One that is not known is 0."""
    session.world.client_fields = ("id", "argv-mem", "new-field", "cmd", "rbs")
    session.last_command = "client|info"
    assert say(session, "CLIENT", "INFO").endswith(b"\r\nid=1 argv-mem=10 new-field=0 cmd=client|info rbs=1024\n\r\n")


def test_sizes(session: Session) -> None:
    room = session.world.directory
    assert isinstance(room, Room)
    room.loads[1] = Load(unread=20_000, parked=30_000, kept=100, queued=500)
    found = fields(say(session, "CLIENT", "LIST").decode().split("\r\n")[1].rstrip("\n"))
    assert {name: int(found[name]) for name in ("qbuf", "qbuf-free", "argv-mem", "multi-mem", "rbs", "obl", "oll")} == {
        "qbuf": 126,
        "qbuf-free": 16258,
        "argv-mem": 10,
        "multi-mem": 500,
        "rbs": 16384,
        "obl": 16384,
        "oll": 3,
    }
    assert int(found["omem"]) == 50_000 - 16384
    assert int(found["tot-mem"]) > 50_000


def listed(session: Session, *filters: str) -> list[int]:
    reply = say(session, "CLIENT", "LIST", *filters).decode()
    body = reply.split("\r\n", 1)[1].removesuffix("\r\n")
    return [int(fields(line)["id"]) for line in body.splitlines()]


def test_list(room: Room) -> None:
    client = room.clients[0]
    room.clients.reverse()
    assert listed(client) == [1, 2, 3, 4]
    assert listed(client, "TYPE", "normal") == [1, 2, 3, 4]
    assert listed(client, "type", "NORMAL") == [1, 2, 3, 4]
    assert listed(client, "TYPE", "master") == []
    assert listed(client, "TYPE", "replica") == []
    assert listed(client, "TYPE", "slave") == []
    assert listed(client, "ID", "3", "1", "99", "3") == [3, 1, 3]  # in that order, as Redis


@pytest.mark.parametrize(
    ("filters", "killed"),
    [
        ("ID 3", [3]),
        ("ID 99", []),
        ("ADDR 127.0.0.1:5002", [2]),
        ("LADDR 127.0.0.1:6380", [2, 3, 4]),
        ("LADDR 127.0.0.1:6379", []),
        ("USER anna", [2, 3, 4]),
        ("USER default", []),
        ("TYPE normal", [2, 3, 4]),
        ("TYPE pubsub", []),
        ("MAXAGE 30", [3]),
        ("MAXAGE 60", [3]),
        ("MAXAGE 61", []),
        ("USER anna ID 4", [4]),
        ("USER anna ID 1", []),
        ("user anna maxage 30", [3]),
        ("SKIPME yes", [2, 3, 4]),
        ("SKIPME no", [1, 2, 3, 4]),
        ("TYPE normal SKIPME no", [1, 2, 3, 4]),
        ("ID 1", []),
        ("ID 1 SKIPME no", [1]),
        ("ID 99 ID 3", [3]),
        ("ID 3 ID 99", []),
        ("ADDR 127.0.0.1:5002 USER anna addr 127.0.0.1:5003", [3]),
        ("TYPE pubsub TYPE normal", [2, 3, 4]),
    ],
)
def test_kill_by_filters(room: Room, filters: str, killed: list[int]) -> None:
    client = room.clients[0]
    assert say(client, "CLIENT", "KILL", *filters.split()) == b":%d\r\n" % len(killed)
    assert room.killed == [number for number in killed if number != 1]
    assert client.closing == (1 in killed)  # it is closed only after its reply


def test_kill_by_address(room: Room) -> None:
    client = room.clients[0]
    assert say(client, "CLIENT", "KILL", "127.0.0.1:5003") == b"+OK\r\n"
    assert room.killed == [3]
    assert say(client, "CLIENT", "KILL", "127.0.0.1:5001") == b"+OK\r\n"
    assert room.killed == [3]
    assert client.closing


def test_an_error_kills_nobody(room: Room) -> None:
    say(room.clients[0], "CLIENT", "KILL", "SKIPME", "no", "FOO", "x")
    say(room.clients[0], "CLIENT", "KILL", "TYPE", "normal", "ID", "0")
    assert room.killed == []
    assert not room.clients[0].closing


@pytest.mark.parametrize(
    ("words", "pause"),
    [
        (("0",), (0.0, False)),
        (("1500",), (1.5, False)),
        (("1500", "ALL"), (1.5, False)),
        (("1500", "write"), (1.5, True)),
        (("9223372036854775807",), (9223372036854775.807, False)),
    ],
)
def test_pause(words: tuple[str, ...], pause: tuple[float, bool]) -> None:
    room = Room()
    assert say(room.enter(), "CLIENT", "PAUSE", *words) == b"+OK\r\n"
    assert room.pauses == [pause]


def test_unpause() -> None:
    room = Room()
    say(room.enter(), "CLIENT", "UNPAUSE")
    assert room.pauses == [None]


def test_a_bad_pause_pauses_nothing() -> None:
    room = Room()
    session = room.enter()
    for words in (("x",), ("-1",), ("5", "foo")):
        say(session, "CLIENT", "PAUSE", *words)
    assert room.pauses == []


def test_unblock_of_a_client_that_waits() -> None:
    room = Room()
    one, two = room.enter(), room.enter()
    two.blocked = True
    assert say(one, "CLIENT", "UNBLOCK", "2") == b":1\r\n"
    assert say(one, "CLIENT", "UNBLOCK", "2", "error") == b":1\r\n"
    assert say(one, "CLIENT", "UNBLOCK", "1", "timeout") == b":0\r\n"
    assert room.unblocked == [(2, False), (2, True), (1, False)]
    assert b"flags=b " in say(two, "CLIENT", "INFO")
