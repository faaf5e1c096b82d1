"""What a server says of its part in replication, and of its slots, as far as a static primary is concerned."""

import pytest

from proxy import errors
from proxy.backends.handshake import Credentials, Greeting
from proxy.discovery.learn import count_slots
from proxy.resp import encode
from proxy.resp.info import Replication
from proxy.worker.metric_snapshot import Tally
from proxy.worker.report import Report, together

NOBODY = Credentials()
MASTER = b"*3\r\n$6\r\nmaster\r\n:5\r\n*0\r\n"
SLAVE = b"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:100\r\n"
ACTIVE = SLAVE.replace(b"$5\r\nslave", b"$14\r\nactive-replica")
UNKNOWN = b"-ERR unknown command 'X', with args beginning with: \r\n"
NOPERM = b"-NOPERM User proxy has no permissions to run the 'x' command\r\n"
BUSY = b"-BUSY Redis is busy running a script.\r\n"
PONG = b"+PONG\r\n"


def hello(role: str) -> bytes:
    return b"*4\r\n$5\r\nproto\r\n:2\r\n$4\r\nrole\r\n" + encode.bulk(role)


def info(role: str, *more: str) -> bytes:
    return encode.bulk("\r\n".join(("# Replication", f"role:{role}", *more, "")))


WRITABLE = info("slave", "master_host:127.0.0.1", "master_port:6379", "slave_read_only:0")
READ_ONLY = info("slave", "master_host:127.0.0.1", "master_port:6379", "slave_read_only:1")


@pytest.mark.parametrize(
    "answers",
    [
        (hello("master"), info("master"), MASTER),
        (hello("replica"), WRITABLE, SLAVE),
        (hello("replica"), WRITABLE, NOPERM),
        (hello("active-replica"), info("active-replica"), ACTIVE),
        (UNKNOWN, UNKNOWN, UNKNOWN),
        (NOPERM, NOPERM, NOPERM),
        (BUSY, BUSY, BUSY),
        (hello("master"), NOPERM, NOPERM),
        (b"*3\r\n*1\r\n:1\r\n$1\r\nx\r\n:5\r\n", b"$-1\r\n", b"*0\r\n"),
        (b"+OK\r\n", b"+OK\r\n", b"+OK\r\n"),
    ],
)
async def test_a_primary(answers: tuple[bytes, ...]) -> None:
    greeting = Greeting(2, 0, True, NOBODY, alone=True)
    greeting.feed(b"".join(answers) + PONG)
    assert greeting.done.result() is True


@pytest.mark.parametrize(
    ("answers", "follows"),
    [
        ((hello("replica"), READ_ONLY, SLAVE), "127.0.0.1:6379"),
        ((hello("replica"), info("slave"), SLAVE), "127.0.0.1:6379"),
        ((NOPERM, NOPERM, SLAVE), "127.0.0.1:6379"),
        ((hello("replica"), NOPERM, NOPERM), "another"),
        ((UNKNOWN, READ_ONLY, NOPERM), "another"),
        ((hello("slave"), UNKNOWN, UNKNOWN), "another"),
    ],
)
async def test_a_replica(answers: tuple[bytes, ...], follows: str) -> None:
    greeting = Greeting(2, 0, True, NOBODY, alone=True)
    greeting.feed(b"".join(answers) + PONG)
    with pytest.raises(errors.WrongRole, match=f"the server is no primary, it replicates {follows}"):
        greeting.done.result()


async def test_with_resp3_hello_is_said_once() -> None:
    greeting = Greeting(3, 0, True, NOBODY, alone=True)
    assert greeting.request().count(b"HELLO") == 1
    greeting.feed(b"%1\r\n$4\r\nrole\r\n$7\r\nreplica\r\n" + NOPERM * 2)
    with pytest.raises(errors.WrongRole):
        greeting.done.result()


async def test_replicas_are_asked_as_ever() -> None:
    greeting = Greeting(2, 0, False, NOBODY, alone=True)
    assert b"INFO" not in greeting.request()
    greeting.feed(MASTER + PONG)
    assert greeting.done.result() is True


@pytest.mark.parametrize(
    ("said", "demoted"),
    [
        (b"role:master\r\n", False),
        (b"role:slave\r\nslave_read_only:1\r\n", True),
        (b"role:slave\r\n", True),
        (b"role:replica\r\nreplica_read_only:0\r\n", False),
        (b"role:active-replica\r\n", False),
        (b"", False),
        (b"\xff\r\nrole\r\n:\r\n", False),
    ],
)
def test_replication(said: bytes, demoted: bool) -> None:
    assert Replication.read(said).demoted is demoted


def line(flags: str, *slots: str) -> str:
    return " ".join(("07c37df", "127.0.0.1:7000@17000", flags, "-", "0", "1426238317239", "4", "connected", *slots))


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ([line("myself,master", "0-16383")], 16384),
        ([line("myself,master", "0-5460", "7000")], 5462),
        ([line("master", "0-5460"), line("myself,slave")], 0),
        ([line("myself,master", "5", "[6->-67ed2db]", "odd", "-", "7-", "-8")], 1),
        ([line("master", "0-16383")], None),
        (["myself"], None),
        ([], None),
    ],
)
def test_slots_of_a_node(lines: list[str], count: int | None) -> None:
    assert count_slots("\n".join(lines).encode()) == count


def test_readiness_says_why() -> None:
    """From whichever worker knows it."""
    base = ("", frozenset[str](), (), 1)
    reports = [
        Report(Tally(), ("one", "two"), *base),
        Report.of_plain(Report(Tally(), ("two",), *base, {"two": "it replicates x"}).plain()),
    ]
    assert together(reports).unready == "no reachable primary in: one, two; two: it replicates x"
