"""What a session answers of itself, in RESP2 and RESP3, worded as Redis 7.0.15 words it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.commands.facts import Handling
from proxy.commands.table import CommandTable
from proxy.resp.numbers import parse_integer
from proxy.session.session import ReplyMode, Session, printable
from tests.support.sessions import Room, account, say, sha256

ACCOUNTS = {
    "default": account("default", sha256("secret")),
    "anna": account("anna", sha256("one") | sha256("two")),
    "jürgen": account("jürgen", sha256("paß")),
    "guest": account("guest", nopass=True),
}


@pytest.fixture
def session() -> Session:
    return Room().enter()


@pytest.fixture
def stranger() -> Session:
    """A client that has to authenticate."""
    return Room(ACCOUNTS).enter()


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("PING", b"+PONG\r\n"),
        ("PING hello", b"$5\r\nhello\r\n"),
        ("PING a b", b"-ERR wrong number of arguments for 'ping' command\r\n"),
        ("ECHO hello", b"$5\r\nhello\r\n"),
        ("QUIT", b"+OK\r\n"),
        ("RESET", b"+RESET\r\n"),
        ("SELECT 0", b"+OK\r\n"),
        ("SELECT 15", b"+OK\r\n"),
        ("SELECT 16", b"-ERR DB index is out of range\r\n"),
        ("SELECT -1", b"-ERR DB index is out of range\r\n"),
        ("SELECT a", b"-ERR value is not an integer or out of range\r\n"),
        ("SELECT 01", b"-ERR value is not an integer or out of range\r\n"),
        ("SELECT 99999999999", b"-ERR value is out of range, value must between -2147483648 and 2147483647\r\n"),
        ("SELECT 99999999999999999999", b"-ERR value is not an integer or out of range\r\n"),
        ("ROLE", b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
        ("ACL WHOAMI", b"$7\r\ndefault\r\n"),
        ("READONLY", b"-ERR This instance has cluster support disabled\r\n"),
        ("READWRITE", b"-ERR This instance has cluster support disabled\r\n"),
        ("ASKING", b"-ERR This instance has cluster support disabled\r\n"),
        ("CLUSTER INFO", b"-ERR This instance has cluster support disabled\r\n"),
        ("CLUSTER SLOTS", b"-ERR This instance has cluster support disabled\r\n"),
        ("CLUSTER MYID", b"-ERR This instance has cluster support disabled\r\n"),
        ("CLUSTER COUNTKEYSINSLOT 1", b"-ERR This instance has cluster support disabled\r\n"),
        ("CLUSTER KEYSLOT foo", b":12182\r\n"),
        ("CLUSTER KEYSLOT {foo}bar", b":12182\r\n"),
        (
            "AUTH x",
            b"-ERR AUTH <password> called without any password configured for the default user. "
            b"Are you sure your configuration is correct?\r\n",
        ),
        ("AUTH default x", b"+OK\r\n"),
        ("AUTH nobody x", b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        ("AUTH a b c", b"-ERR syntax error\r\n"),
        ("HELLO 4", b"-NOPROTO unsupported protocol version\r\n"),
        ("HELLO 1", b"-NOPROTO unsupported protocol version\r\n"),
        ("HELLO x", b"-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 03", b"-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 2 SETNAME", b"-ERR Syntax error in HELLO option 'SETNAME'\r\n"),
        ("HELLO 2 AUTH default", b"-ERR Syntax error in HELLO option 'AUTH'\r\n"),
        ("HELLO 2 FOO x", b"-ERR Syntax error in HELLO option 'FOO'\r\n"),
    ],
)
def test_replies(session: Session, line: str, reply: bytes) -> None:
    assert say(session, *line.split()) == reply
    assert say(session, *line.lower().split()) == reply.replace(b"'SETNAME'", b"'setname'").replace(
        b"'AUTH'", b"'auth'"
    ).replace(b"'FOO'", b"'foo'")


def test_every_command_of_the_sessions_own_has_an_answer() -> None:
    """No fact of ``Handling.SESSION`` may find nobody at home, but for one about the import of data into a server."""
    facts = [fact for top in CommandTable.builtin() for fact in (top, *top.subcommands.values())]
    own = [fact for fact in facts if fact.handling is Handling.SESSION and not fact.subcommands]
    assert {"ping", "hello", "client|kill", "cluster|slots"} <= {fact.name for fact in own}
    refused = []
    for fact in own:
        words = fact.name.encode().split(b"|")
        words += [b"1"] * (abs(fact.arity) - len(words))
        reply = say(Room().enter(), *words)
        if b"is refused by the proxy" in reply:
            refused.append(fact.name)
        assert reply.endswith(b"\r\n") or fact.name == "client|reply"
    assert refused == ["client|import-source"]


def test_select_changes_the_database(session: Session) -> None:
    say(session, "SELECT", "7")
    assert session.db == 7
    say(session, "SELECT", "16")
    assert session.db == 7
    session.world.databases = 32
    assert say(session, "SELECT", "16") == b"+OK\r\n"


def test_select_before_clusters_had_databases(session: Session) -> None:
    """What a node of Redis 7 answers."""
    session.world.databases, session.world.selects = 1, False
    assert say(session, "SELECT", "0") == b"+OK\r\n"
    for db in "1", "16", "-1":
        assert say(session, "SELECT", db) == b"-ERR SELECT is not allowed in cluster mode\r\n"
    assert say(session, "SELECT", "x") == b"-ERR value is not an integer or out of range\r\n"
    assert session.db == 0


def test_quit_closes(session: Session) -> None:
    assert not session.closing
    say(session, "QUIT")
    assert session.closing


HELLO2 = (
    b"*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n"
    b"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
)
HELLO3 = HELLO2.replace(b"*14", b"%7").replace(b":2\r\n", b":3\r\n")


def test_hello_chooses_the_protocol(session: Session) -> None:
    assert say(session, "HELLO") == HELLO2
    assert session.protocol == 2
    assert say(session, "HELLO", "3") == HELLO3
    assert session.protocol == 3
    assert say(session, "HELLO") == HELLO3
    assert say(session, "HELLO", "9") == b"-NOPROTO unsupported protocol version\r\n"
    assert session.protocol == 3
    assert say(session, "HELLO", "2") == HELLO2
    assert session.protocol == 2


def test_hello_tells_the_backends_version(session: Session) -> None:
    session.world.server_version = "6.2.14"
    assert b"$7\r\nversion\r\n$6\r\n6.2.14\r\n" in say(session, "HELLO")


def test_hello_sets_name_and_user(stranger: Session) -> None:
    reply = say(stranger, "HELLO", "3", "AUTH", "anna", "two", "SETNAME", "job")
    assert reply == HELLO3
    assert (stranger.user, stranger.authenticated, stranger.name, stranger.protocol) == ("anna", True, "job", 3)
    say(stranger, "hello", "2", "setname", "", "auth", "default", "secret")
    assert (stranger.user, stranger.name, stranger.protocol) == ("default", "", 2)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("AUTH", "anna", "three"), b"-WRONGPASS"),
        (("AUTH", "nobody", "one", "SETNAME", "job"), b"-WRONGPASS"),
        (("SETNAME", "job"), b"-NOAUTH"),
        ((), b"-NOAUTH"),
        (("AUTH", "anna", "one", "SETNAME", "a b"), b"-ERR Client names cannot contain spaces"),
        (("AUTH", "anna", "one", "SETNAME"), b"-ERR Syntax error in HELLO option 'SETNAME'"),
    ],
)
def test_hello_that_fails_changes_nothing(stranger: Session, options: tuple[str, ...], code: bytes) -> None:
    assert say(stranger, "HELLO", "3", *options).startswith(code)
    assert (stranger.user, stranger.authenticated, stranger.name, stranger.protocol) == ("default", False, "", 2)


def test_hello_words_that_a_password_is_missing_as_redis_does(stranger: Session) -> None:
    assert say(stranger, "HELLO", "3") == (
        b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> "
        b"<pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
        b"\r\n"
    )


@pytest.mark.parametrize(
    ("words", "user"),
    [
        (("AUTH", "secret"), "default"),
        (("AUTH", "default", "secret"), "default"),
        (("AUTH", "anna", "one"), "anna"),
        (("AUTH", "anna", "two"), "anna"),
        (("AUTH", "guest", "anything"), "guest"),
        (("AUTH", "jürgen", "paß"), "jürgen"),
    ],
)
def test_auth(stranger: Session, words: tuple[str, ...], user: str) -> None:
    assert say(stranger, *words) == b"+OK\r\n"
    assert (stranger.user, stranger.authenticated) == (user, True)
    assert say(stranger, "ACL", "WHOAMI") == b"$%d\r\n%b\r\n" % (len(user.encode()), user.encode())


@pytest.mark.parametrize(
    "words",
    [("AUTH", "wrong"), ("AUTH", "anna", "secret"), ("AUTH", "nobody", "secret"), ("AUTH", ""), ("AUTH", "anna", "")],
)
def test_auth_that_fails(stranger: Session, words: tuple[str, ...]) -> None:
    assert say(stranger, *words) == b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
    assert not stranger.authenticated


def test_a_failed_auth_leaves_the_user_as_it_was(stranger: Session) -> None:
    say(stranger, "AUTH", "anna", "one")
    say(stranger, "AUTH", "default", "wrong")
    assert (stranger.user, stranger.authenticated) == ("anna", True)


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("AUTH x", True),
        ("HELLO", True),
        ("QUIT", True),
        ("RESET", True),
        ("PING", False),
        ("GET k", False),
        ("CLIENT ID", False),
        ("COMMAND", False),
    ],
)
def test_who_has_not_authenticated_may_do_little(stranger: Session, line: str, allowed: bool) -> None:
    fact = CommandTable.builtin().resolve(line.encode().split())
    assert fact is not None
    assert stranger.refusal(fact, ()) == (None if allowed else "NOAUTH Authentication required.")
    say(stranger, "AUTH", "secret")
    assert stranger.refusal(fact, ()) is None


def test_without_a_default_user_nobody_is_let_in() -> None:
    session = Room({"anna": account("anna", sha256("one"))}).enter()
    assert not session.authenticated
    assert say(session, "AUTH", "one").startswith(b"-WRONGPASS")
    assert say(session, "AUTH", "anna", "one") == b"+OK\r\n"


def test_reset_starts_over(stranger: Session) -> None:
    say(stranger, "AUTH", "anna", "one")
    say(stranger, "HELLO", "3", "SETNAME", "job")
    say(stranger, "SELECT", "3")
    say(stranger, "CLIENT", "NO-EVICT", "on")
    say(stranger, "CLIENT", "NO-TOUCH", "on")
    say(stranger, "CLIENT", "SETINFO", "lib-name", "redis-py")
    say(stranger, "CLIENT", "REPLY", "OFF")
    assert say(stranger, "RESET") == b"+RESET\r\n"
    assert (stranger.user, stranger.authenticated) == ("default", False)
    assert (stranger.db, stranger.protocol, stranger.name) == (0, 2, "")
    assert (stranger.no_evict, stranger.no_touch) == (False, False)
    assert stranger.reply_mode is ReplyMode.ON
    assert stranger.id == 1


def test_reset_keeps_an_open_door_open(session: Session) -> None:
    say(session, "RESET")
    assert session.authenticated


def test_reply_modes(session: Session) -> None:
    assert not session.muted()
    say(session, "CLIENT", "REPLY", "OFF")
    assert [session.muted(), session.muted()] == [True, True]
    say(session, "CLIENT", "REPLY", "ON")
    assert not session.muted()
    say(session, "CLIENT", "REPLY", "SKIP")
    assert [session.muted(), session.muted()] == [True, False]


def test_repr_shows_the_state(session: Session) -> None:
    say(session, "HELLO", "3")
    assert repr(session) == "Session(1 127.0.0.1:5001 user=default db=0 resp=3)"


def test_an_accounts_repr_hides_its_passwords() -> None:
    users = Room({"anna": account("anna", sha256("one"))}).world.users
    assert users.authenticate("anna", b"one") is True
    assert users.authenticate("anna", b"One") is False
    assert not any(digest in repr([*users]) for digest in sha256("one"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"0", 0),
        (b"-1", -1),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"9223372036854775808", None),
        (b"-9223372036854775809", None),
        (b"", None),
        (b"-", None),
        (b"-0", None),
        (b"00", None),
        (b"01", None),
        (b"+1", None),
        (b" 1", None),
        (b"1 ", None),
        (b"1_0", None),
        (b"1.0", None),
        (b"9" * 5000, None),
        ("٣".encode(), None),
    ],
)
def test_integers_are_read_as_redis_reads_them(text: bytes, value: int | None) -> None:
    assert parse_integer(text) == value


@given(st.integers(-(2**65), 2**65))
def test_integers_fit_64_bits(value: int) -> None:
    assert parse_integer(b"%d" % value) == (value if -(2**63) <= value < 2**63 else None)


@given(st.binary(max_size=10))
def test_any_bytes_are_an_integer_or_none(text: bytes) -> None:
    value = parse_integer(text)
    assert value is None or b"%d" % value == text


def test_names_are_printable() -> None:
    assert printable(b"")
    assert printable(b"worker-1:!~")
    for bad in (b"a b", b"a\n", b"\x7f", b"\xe9", b"\0"):
        assert not printable(bad)
