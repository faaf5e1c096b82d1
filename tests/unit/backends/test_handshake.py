"""The first words on a backend connection: what is sent, and what the answers mean."""

from typing import Any

import pytest

from proxy.backends.handshake import Credentials, Greeting
from proxy.errors import BackendError, ServerBusy
from proxy.resp.limits import UNAUTHENTICATED, RequestLimits
from proxy.resp.requests import RequestFramer, split_request
from tests.support.feeding import Fed, single_bytes

NOBODY = Credentials()
DEFAULT = Credentials("", "secret")
ANNA = Credentials("anna", "secret")


def words(greeting: Greeting) -> list[str]:
    """The commands that are sent, one line each."""
    frames = Fed(RequestFramer(RequestLimits(), UNAUTHENTICATED), [greeting.request()]).frames
    return [b" ".join(split_request(frame)).decode() for frame in frames]


@pytest.mark.parametrize(
    ("protocol", "db", "primary", "credentials", "sent"),
    [
        (2, 0, True, NOBODY, ["PING"]),
        (2, 0, False, NOBODY, ["ROLE", "PING"]),
        (2, 3, True, NOBODY, ["SELECT 3", "PING"]),
        (2, 0, True, DEFAULT, ["AUTH secret", "PING"]),
        (2, 0, True, ANNA, ["AUTH anna secret", "PING"]),
        (3, 0, True, NOBODY, ["HELLO 3", "PING"]),
        (3, 0, True, DEFAULT, ["HELLO 3 AUTH default secret", "PING"]),
        (3, 5, False, ANNA, ["HELLO 3 AUTH anna secret", "SELECT 5", "ROLE", "PING"]),
    ],
)
async def test_what_is_said(protocol: int, db: int, primary: bool, credentials: Credentials, sent: list[str]) -> None:
    assert words(Greeting(protocol, db, primary, credentials)) == sent


@pytest.mark.parametrize(
    ("protocol", "own", "flags", "sent"),
    [
        (2, DEFAULT, {}, ["AUTH secret", "AUTH anna secret", "SELECT 3", "PING"]),
        (2, NOBODY, {}, ["AUTH anna secret", "SELECT 3", "PING"]),
        (3, DEFAULT, {"verify": True}, ["AUTH secret", "ROLE", "HELLO 3 AUTH anna secret", "SELECT 3", "PING"]),
        (
            3,
            NOBODY,
            {"alone": True},
            ["HELLO 2", "INFO replication", "ROLE", "HELLO 3 AUTH anna secret", "SELECT 3", "PING"],
        ),
        (
            2,
            DEFAULT,
            {"cluster": True, "stranger": lambda identity: "", "identify": True},
            ["AUTH secret", "CLUSTER MYID", "AUTH anna secret", "SELECT 3", "CLIENT ID", "PING"],
        ),
    ],
)
async def test_the_proxys_own_user_asks_before_another_logs_in(
    protocol: int, own: Credentials, flags: dict[str, Any], sent: list[str]
) -> None:
    assert words(Greeting(protocol, 3, True, ANNA, own=own, **flags)) == sent


OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
HELLO = b"*2\r\n$5\r\nproto\r\n:3\r\n"
MASTER = b"*3\r\n$6\r\nmaster\r\n:5\r\n*0\r\n"


def role(state: str) -> bytes:
    return b"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n$%d\r\n%b\r\n:100\r\n" % (len(state), state.encode())


@pytest.mark.parametrize(
    ("greeting", "answers"),
    [
        ((2, 0, True, NOBODY), PONG),
        ((2, 7, True, ANNA), OK + OK + PONG),
        ((3, 7, False, ANNA), HELLO + OK + role("connected") + PONG),
        ((2, 0, False, NOBODY), MASTER + PONG),  # promoted meanwhile
        ((2, 0, False, NOBODY), b"*1\r\n$5\r\nslave\r\n" + PONG),  # it does not say in which state it is
        ((2, 0, False, NOBODY), b"-NOPERM this user has no permissions to run the 'role' command\r\n" + PONG),
        ((2, 0, True, NOBODY), b"-NOPERM this user has no permissions to run the 'ping' command\r\n"),
    ],
)
async def test_a_server_that_can_be_used(greeting: tuple[int, int, bool, Credentials], answers: bytes) -> None:
    for pieces in ([answers], single_bytes(answers)):
        made = Greeting(*greeting)
        for piece in pieces:
            assert not made.done.done()
            made.feed(piece)
        assert made.done.result() is True


@pytest.mark.parametrize(
    ("greeting", "answers", "reason"),
    [
        ((2, 0, True, NOBODY), b"-NOAUTH Authentication required.\r\n", "asks for a password: set backend.password"),
        (
            (3, 0, True, NOBODY),
            b"-NOAUTH HELLO must be called with...\r\n",
            "asks for a password: set backend.password",
        ),
        ((2, 0, True, ANNA), b"-WRONGPASS invalid username-password pair\r\n", "refuses the proxy's AUTH: WRONGPASS"),
        ((2, 0, True, ANNA), b"-ERR wrong number of arguments for 'auth'\r\n", "refuses the proxy's AUTH: ERR wrong"),
        ((3, 0, True, ANNA), b"-WRONGPASS invalid username-password pair\r\n", "refuses the proxy's HELLO: WRONGPASS"),
        ((3, 0, True, NOBODY), b"-ERR unknown command `HELLO`\r\n", "refuses the proxy's HELLO: ERR unknown command"),
        ((2, 9, True, NOBODY), b"-ERR DB index is out of range\r\n", "answers SELECT with: ERR DB index"),
        (
            (2, 9, True, NOBODY),
            b"-NOPERM this user has no permissions to run it\r\n",
            "SELECT with: NOPERM",
        ),
        (
            (3, 0, True, NOBODY),
            b"-NOPERM this user has no permissions to run it\r\n",
            "HELLO with: NOPERM",
        ),
        ((2, 0, True, NOBODY), b"-LOADING Redis is loading the dataset in memory\r\n", "answers PING with: LOADING"),
        ((2, 0, False, NOBODY), role("sync"), "the replica is not in sync with its primary"),
        ((2, 0, False, NOBODY), role("connect"), "the replica is not in sync with its primary"),
        ((2, 0, True, NOBODY), b"HTTP/1.1 400 Bad Request\r\n", "Protocol error"),
    ],
)
async def test_a_server_that_can_not(greeting: tuple[int, int, bool, Credentials], answers: bytes, reason: str) -> None:
    made = Greeting(*greeting)
    made.feed(answers)
    with pytest.raises(BackendError, match=reason):
        made.done.result()
    made.feed(PONG)  # what still comes changes nothing


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_server_that_quotes_the_password(protocol: int) -> None:
    """As servers do that do not know the command: HELLO before Redis 6, and AUTH if it is renamed."""
    credentials = Credentials("anna", "n0t-to-be-shown")
    made = Greeting(protocol, 0, True, credentials)
    made.feed(b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `anna`, `n0t-to-be-shown`, \r\n")
    with pytest.raises(BackendError, match=r"unknown command `HELLO`$"):
        made.done.result()


@pytest.mark.parametrize(
    ("primary", "flags", "sent"),
    [
        (True, {"verify": True}, ["ROLE", "PING"]),
        (False, {"verify": True}, ["ROLE", "PING"]),
        (True, {"cluster": True}, ["PING"]),
        (False, {"cluster": True}, ["READONLY", "ROLE", "PING"]),
    ],
)
async def test_what_is_said_where_roles_change(primary: bool, flags: dict[str, Any], sent: list[str]) -> None:
    assert words(Greeting(2, 0, primary, NOBODY, **flags)) == sent


@pytest.mark.parametrize(
    ("primary", "answer", "reason"),
    [
        (True, MASTER, None),
        (True, role("connected"), "the server is no primary, it replicates 127.0.0.1:6379"),
        (True, b"*1\r\n$5\r\nslave\r\n", "the server is no primary, it replicates another"),
        (True, b"*2\r\n$8\r\nsentinel\r\n*0\r\n", "the server is a sentinel, it holds no keys"),
        (True, b"-NOPERM this user has no permissions to run the 'role' command\r\n", None),
        (
            True,
            b"*3\r\n$7\r\nreplica\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n",
            "it replicates 127.0.0.1:6379",
        ),  # Dragonfly
        (False, role("connected"), None),
        (False, role("sync"), "the replica is not in sync with its primary"),
        (False, MASTER, "the server is no replica, it says that it is a primary"),
        (True, b"-BUSY Redis is busy running a script.\r\n", "^BUSY Redis is busy running a script.$"),
        (False, b"-BUSY Redis is busy running a script.\r\n", "^BUSY Redis is busy running a script.$"),
    ],
)
async def test_a_role_that_must_be(primary: bool, answer: bytes, reason: str | None) -> None:
    made = Greeting(2, 0, primary, NOBODY, verify=True)
    made.feed(answer + PONG)
    if reason is None:
        assert made.done.result() is True
    else:
        with pytest.raises(BackendError, match=reason):
            made.done.result()


@pytest.mark.parametrize(("said", "reason"), [(b"master", None), (b"replica", "the server is no primary")])
async def test_a_busy_server_s_role_is_in_its_hello(said: bytes, reason: str | None) -> None:
    made = Greeting(3, 0, True, NOBODY, verify=True)
    made.feed(b"%%1\r\n+role\r\n+%b\r\n-BUSY Redis is busy running a script.\r\n" % said + PONG)
    if reason is None:
        assert made.done.result() is True
    else:
        with pytest.raises(BackendError, match=reason):
            made.done.result()


async def test_a_greeting_that_was_given_up_takes_what_comes() -> None:
    made = Greeting(2, 0, True, NOBODY)
    made.done.cancel()
    made.feed(PONG)
    assert made.done.cancelled()
    made = Greeting(2, 0, True, NOBODY)
    made.done.cancel()
    made.feed(b"-ERR no\r\n")
    assert made.done.cancelled()


def test_credentials_hide_their_password() -> None:
    assert "secret" not in repr(ANNA)
    assert ANNA.arguments() == ["anna", "secret"]
    assert DEFAULT.arguments() == ["secret"]
    assert Credentials("anna", "").arguments() == []


async def test_a_shared_connection_is_not_to_be_evicted() -> None:
    """It is said where it is many clients', and who does not know it or may not hear it is used all the same."""
    for answer in (
        b"+OK\r\n",
        b"-ERR Unknown subcommand or wrong number of arguments for 'NO-EVICT'. Try CLIENT HELP.\r\n",
        b"-NOPERM this user has no permissions to run the 'client|no-evict' command\r\n",
        b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
    ):
        greeting = Greeting(2, 0, True, NOBODY, shared=True)
        assert words(greeting) == ["CLIENT NO-EVICT ON", "PING"]
        greeting.feed(answer + PONG)
        assert await greeting.done
    greeting = Greeting(2, 0, True, NOBODY, shared=True)
    greeting.feed(b"-NOAUTH Authentication required.\r\n" * 2)
    with pytest.raises(BackendError, match="asks for a password"):
        await greeting.done


ID = "a" * 40
MYID = b"$40\r\n" + b"a" * 40 + b"\r\n"


def of_a_cluster(seen: list[str], *known: str, primary: bool = True, protocol: int = 2) -> Greeting:
    """One that notes the ids that it hears; those that are not ``known`` are strangers'."""

    def stranger(identity: str) -> str:
        seen.append(identity)
        return "" if identity in known else "it is a stranger"

    return Greeting(protocol, 0, primary, ANNA, cluster=True, stranger=stranger)


@pytest.mark.parametrize(
    ("primary", "protocol", "sent"),
    [
        (True, 2, ["AUTH anna secret", "CLUSTER MYID", "PING"]),
        (False, 2, ["AUTH anna secret", "CLUSTER MYID", "READONLY", "ROLE", "PING"]),
        (True, 3, ["HELLO 3 AUTH anna secret", "CLUSTER MYID", "PING"]),
    ],
)
async def test_a_node_of_a_cluster_is_asked_for_its_id(primary: bool, protocol: int, sent: list[str]) -> None:
    assert words(of_a_cluster([], primary=primary, protocol=protocol)) == sent


async def test_a_node_that_is_known_by_its_id() -> None:
    seen: list[str] = []
    greeting = of_a_cluster(seen, ID)
    for piece in single_bytes(OK + MYID + PONG):
        greeting.feed(piece)
    assert await greeting.done
    assert seen == [ID]


async def test_a_stranger_is_not_used() -> None:
    greeting = of_a_cluster([], "b" * 40)
    greeting.feed(OK + MYID + PONG)
    with pytest.raises(BackendError, match="it is a stranger"):
        await greeting.done


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (b"-NOPERM this user has no permissions to run the 'cluster|myid' command\r\n", [""]),
        (b"-ERR unknown command 'CLUSTER'\r\n", [""]),
        (b"-ERR Unknown subcommand or wrong number of arguments for 'MYID'. Try CLUSTER HELP.\r\n", [""]),
        (b":5\r\n", [""]),
    ],
)
async def test_a_node_that_does_not_say_its_id(answer: bytes, seen: list[str]) -> None:
    heard: list[str] = []
    greeting = of_a_cluster(heard, "")
    greeting.feed(OK + answer + PONG)
    assert await greeting.done
    assert heard == seen


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"-BUSY Redis is busy running a script.\r\n", ServerBusy, "^BUSY Redis is busy running a script.$"),
        (b"-LOADING Redis is loading\r\n", BackendError, "does not say its id yet"),
    ],
)
async def test_a_node_that_says_its_id_only_later_is_not_used_before(
    answer: bytes, kind: type[BackendError], words: str
) -> None:
    """But to end the script that it is busy with, over a connection that is for this alone."""
    greeting = of_a_cluster([], "")
    greeting.feed(OK + answer + PONG)
    with pytest.raises(kind, match=words):
        await greeting.done


async def test_a_busy_node_is_reached_by_what_ends_its_script() -> None:
    greeting = Greeting(2, 0, True, ANNA, cluster=True, stranger=lambda identity: "a stranger", at_busy=True)
    greeting.feed(OK + b"-BUSY Redis is busy running a script.\r\n" * 2)
    assert await greeting.done


async def test_a_server_that_is_in_no_cluster_is_not_used() -> None:
    greeting = of_a_cluster([], "")
    greeting.feed(OK + b"-ERR This instance has cluster support disabled\r\n" + PONG)
    with pytest.raises(BackendError, match="is no node of the cluster: it is not in cluster mode"):
        await greeting.done


@pytest.mark.parametrize("state", [b":5", b"*0", b"$-1", b"$1\r\nx"])
async def test_an_odd_state_of_a_replica_is_no_reason_to_leave_it(state: bytes) -> None:
    greeting = Greeting(2, 0, False, NOBODY)
    greeting.feed(b"*5\r\n$5\r\nslave\r\n$1\r\nx\r\n:1\r\n" + state + b"\r\n:100\r\n" + PONG)
    assert await greeting.done
