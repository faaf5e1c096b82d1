"""Clients that send as much as goes: the others are answered all the same, and so are /healthz and SIGTERM."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from proxy.devservers.servers import LOOPBACK, LocalShards, find_server, free_port, start_many
from tests.live.attack import Attack
from tests.support.drilled import drilled
from tests.support.fixtures import Serve
from tests.support.proxy_process import ProxyProcess
from tests.support.site import shard_tags
from tests.support.wire import Wire, pack, pipeline

pytestmark = pytest.mark.live

FIRST, SECOND = shard_tags(2)
PATIENCE = 0.5
"""Seconds that an answer may take beside attackers: far more than it does, as the machine may be busy."""
MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Flood:
    """What attackers say: ``piece`` over and over, a megabyte of it in one write, after ``greeting``."""

    piece: bytes
    greeting: bytes = b""
    stranger: bool = False
    """They never log in."""

    @property
    def payload(self) -> bytes:
        return self.piece * (MEGABYTE // len(self.piece))


FLOODS = {
    "inline PING": Flood(b"PING\r\n"),
    "inline PING before AUTH": Flood(b"PING\r\n", stranger=True),
    "PING": Flood(pack("PING")),
    "PING before AUTH": Flood(pack("PING"), stranger=True),
    "AUTH that fails": Flood(pack("AUTH", "wrong"), stranger=True),
    "unknown commands": Flood(pack("NOSUCH", "x")),
    "wrong arity": Flood(pack("GET")),
    "PING in MULTI": Flood(pack("PING"), greeting=pack("MULTI")),
    "MULTI and DISCARD": Flood(pipeline(("MULTI",), ("DISCARD",))),
    "empty lines": Flood(b"\r\n"),
    "empty arrays": Flood(b"*0\r\n"),
    "replies off": Flood(pack("PING"), greeting=pack("CLIENT", "REPLY", "OFF")),
    "GET of a shard that is down": Flood(pack("GET", f"{{{SECOND}}}k")),
    "HELLO": Flood(pipeline(("HELLO", 3), ("HELLO", 2))),
    "SELECT": Flood(pipeline(("SELECT", 1), ("SELECT", 0))),
    "CLIENT INFO": Flood(pack("CLIENT", "INFO")),
    "PING while subscribed": Flood(pack("PING"), greeting=pack("SUBSCRIBE", "c")),
}
"""What the proxy answers itself: nobody but the proxy is busy."""
FEW = (
    "inline PING before AUTH",
    "GET of a shard that is down",
    "PING while subscribed",
)
"""Those that ``make test`` takes; the drills take all."""


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    """One shard: the other one of a test's proxy is not there."""
    with start_many(1, 0, binary=find_server()) as running:
        yield running


def before_two(shards: LocalShards, serve: Serve, *, password: str = "") -> ProxyProcess:
    """A proxy before two shards, of which the second is down."""
    users = f'[[users]]\nname = "default"\npassword = "{password}"\n' if password else ""
    tables = "".join(
        f'[[shards]]\nprimary = "{address}"\n' for address in (shards.primaries[0].address, f"{LOOPBACK}:{free_port()}")
    )
    backend = '[backend]\nretry_deadline = "300ms"\n'
    # The limits before the login are off: with them such floods end after ten requests.
    limits = "[limits]\nauth_commands = 0\nauth_bytes = '0b'\nauth_delay_max = '0s'\n"
    return serve(config=f"drain_timeout = '5s'\n{backend}{limits}{users}{tables}", ready=False)


@pytest.mark.parametrize(
    "flood",
    [pytest.param(FLOODS[name], id=name) if name in FEW else drilled(FLOODS[name], name=name) for name in FLOODS],
)
def test_who_floods_the_proxy_holds_up_nobody(shards: LocalShards, serve: Serve, flood: Flood) -> None:
    proxy = before_two(shards, serve, password="s3cret" if flood.stranger else "")
    with Wire(proxy.address) as innocent:
        if flood.stranger:
            assert innocent.ask("AUTH", "s3cret") == b"+OK\r\n"
        with Attack(proxy.address, flood.payload, greeting=flood.greeting) as attack:
            until = time.monotonic() + 1.0
            waits = [0.0]
            while time.monotonic() < until or attack.sent < MEGABYTE:
                before = time.monotonic()
                assert innocent.ask("SET", f"{{{FIRST}}}k", "1") == b"+OK\r\n"
                assert innocent.ask("PING") == b"+PONG\r\n"
                waits.append(time.monotonic() - before)
                time.sleep(0.01)
            assert max(waits) < 2 * PATIENCE
            before = time.monotonic()
            assert proxy.http("/healthz")[0] == 200
            assert time.monotonic() - before < 2 * PATIENCE
            proxy.stop()


@pytest.mark.drill
def test_a_crowd_that_floods_holds_up_nobody(shards: LocalShards, serve: Serve) -> None:
    proxy = before_two(shards, serve)
    payload = pack("PING") * 20_000
    with (
        contextlib.ExitStack() as stack,
        Wire(proxy.address) as innocent,
    ):
        for wire in [stack.enter_context(Wire(proxy.address)) for _ in range(200)]:
            wire.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    wire.socket.send(payload)
        waits = []
        for _ in range(20):
            before = time.monotonic()
            assert innocent.ask("SET", f"{{{FIRST}}}k", "1") == b"+OK\r\n"
            waits.append(time.monotonic() - before)
        assert max(waits) < 2 * PATIENCE
        before = time.monotonic()
        assert proxy.http("/healthz")[0] == 200
        assert time.monotonic() - before < 2 * PATIENCE


@pytest.mark.parametrize("cut", ["resp", "inline"])
def test_a_megabyte_in_one_write_is_answered_in_order(shards: LocalShards, serve: Serve, cut: str) -> None:
    """However often the client's turn comes: what the proxy answers and what servers answer, errors among them."""
    proxy = before_two(shards, serve)
    count = 12_000
    key = f"{{{FIRST}}}n"
    requests: list[bytes] = []
    for number in range(count):
        kind = number % 6
        words: tuple[str | int, ...] = (
            ("ECHO", number), ("INCR", key), ("NOSUCH", number), ("PING", number), ("GET",), ("ECHO", "x" * 40),
        )[kind]  # fmt: skip
        requests.append(pack(*words) if cut == "resp" else (" ".join(map(str, words)) + "\r\n").encode())
    with Wire(proxy.address) as client:
        client.ask("DEL", key)
        with Attack(proxy.address, b"".join(requests), clients=1):
            client.send(b"".join(requests))
            replies = client.replies(count)
    counted = 0
    for number, reply in enumerate(replies):
        match number % 6:
            case 0 | 3:
                assert reply == b"$%d\r\n%d\r\n" % (len(str(number)), number)
            case 1:
                assert int(reply[1:]) > counted
                counted = int(reply[1:])
            case 2:
                assert reply.startswith(b"-ERR unknown command 'NOSUCH', with args beginning with: '%d'" % number)
            case 4:
                assert reply == b"-ERR wrong number of arguments for 'get' command\r\n"
            case _:
                assert reply == b"$40\r\n" + b"x" * 40 + b"\r\n"


@pytest.mark.parametrize("request_", [pack("PING"), b"PING\r\n", pack("NOSUCH"), pack("GET"), pack("ECHO", "x")])
def test_a_pipeline_of_own_replies_takes_few_writes(shards: LocalShards, serve: Serve, request_: bytes) -> None:
    """One write a turn, not one a reply: the kernel's part of that would be most of what a reply costs."""
    proxy = before_two(shards, serve)
    count = 20_000
    with Wire(proxy.address) as client:
        client.send(request_)
        reply = client.reply()
        before = segments(client)
        client.send(request_ * count)
        assert client.exactly(len(reply) * count) == reply * count
        assert segments(client) - before < count / 20
        # One alone goes at once, and so do two that wait for each other.
        for _ in range(2):
            client.send(request_)
            assert client.reply() == reply


def segments(wire: Wire) -> int:
    """How many pieces with data have come over a connection (``tcpi_data_segs_in`` of linux/tcp.h)."""
    info = wire.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return int(struct.unpack_from("=I", info, 152)[0])


def test_who_is_killed_with_requests_left_leaves_nothing(shards: LocalShards, serve: Serve) -> None:
    proxy = before_two(shards, serve)
    with Wire(proxy.address) as victim, Wire(proxy.address) as killer:
        number = victim.value("CLIENT", "ID")
        assert isinstance(number, int)
        victim.send(pack("ECHO", "x" * 50) * 20_000)
        assert killer.ask("CLIENT", "KILL", "ID", number) == b":1\r\n"
        assert len(victim.rest()) < 20_000 * 58
        assert killer.ask("PING") == b"+PONG\r\n"
        assert f"id={number} " not in killer.ask("CLIENT", "LIST").decode()
