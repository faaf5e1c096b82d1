"""Blocking commands through the proxy, beside the same ones straight at a server."""

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from tests.live.client_lists import until_blocked
from tests.support.processes import eventually
from tests.support.site import Site
from tests.support.wire import Wire, decode, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
PATIENCE = 30.0


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def ends(site: Site, request: pytest.FixtureRequest) -> Iterator[list[tuple[Wire, Wire]]]:
    """Two clients of a plain server, and two of the proxy."""
    protocol: int = request.param
    pairs = [(site.direct(protocol), site.direct(protocol)), (site.client(protocol), site.client(protocol))]
    yield pairs
    for pair in pairs:
        for wire in pair:
            wire.close()


@pytest.fixture
def hasty(site: Site) -> Iterator[None]:
    """Servers that look a hundred times a second whose time is over, not ten times."""
    for server in site.servers:
        assert server.ask("CONFIG", "SET", "hz", 100) == b"OK"
    yield
    for server in site.servers:
        server.ask("CONFIG", "SET", "hz", 10)


SERVED = [
    ("BLPOP {t}a {t}b 0", ["RPUSH {t}b 1 2"]),
    ("BLPOP {t}a 5.5", ["RPUSH {t}a 1 2"]),
    ("BRPOP {t}a {t}b 0", ["RPUSH {t}a 1 2"]),
    ("BLMOVE {t}a {t}b LEFT RIGHT 0", ["RPUSH {t}a 1 2"]),
    ("BRPOPLPUSH {t}a {t}b 0", ["RPUSH {t}a 1 2"]),
    ("BLMPOP 0 2 {t}a {t}b LEFT COUNT 2", ["RPUSH {t}b 1 2 3"]),
    ("BZPOPMIN {t}a {t}b 0", ["ZADD {t}b 1.5 x 2 y"]),
    ("BZPOPMAX {t}a 0", ["ZADD {t}a 1.5 x 2 y"]),
    ("BZMPOP 0 1 {t}a MAX COUNT 2", ["ZADD {t}a 1.5 x 2 y"]),
    ("XREAD BLOCK 0 STREAMS {t}a {t}b $ $", ["XADD {t}b 5-1 f v"]),
    ("XREAD COUNT 1 BLOCK 0 STREAMS {t}a 3", ["XADD {t}a 2-1 f v", "XADD {t}a 5-1 f v"]),
    ("BLPOP {t}a 0", ["SET {t}a x", "DEL {t}a", "RPUSH {t}a 1"]),
    ("BRPOPLPUSH {t}a {t}b 0", ["SET {t}b x", "RPUSH {t}a 1"]),
]


def words(line: str, tag: str) -> list[str]:
    return line.replace("{t}", "{" + tag + "}").split()


@pytest.mark.parametrize(("line", "others"), SERVED, ids=lambda value: value if isinstance(value, str) else "")
def test_served_by_another_client(site: Site, ends: list[tuple[Wire, Wire]], line: str, others: list[str]) -> None:
    tag = site.tags()[1]
    said = []
    for blocked, other in ends:
        blocked.send(pack(*words(line, tag)))
        until_blocked(other)
        replies = [other.ask(*words(each, tag)) for each in others]
        said.append([*replies, blocked.reply(), other.ask("EXISTS", f"{{{tag}}}a", f"{{{tag}}}b")])
        until_blocked(other, 0)
    assert said[0] == said[1]


AT_ONCE = [
    *("BLPOP {t}a -1", "BLPOP {t}a x", "BLPOP {t}a", "BLPOP {t}a 1e300", "BLPOP {t}a 0.01", "BRPOP {t}a 0.01"),
    *("BLMOVE {t}a {t}b LEFT RIGHT 0.01", "BLMOVE {t}a {t}b UP RIGHT 0.01", "BRPOPLPUSH {t}a {t}b 0.01"),
    *(
        "BLMPOP 0.01 1 {t}a LEFT",
        "BLMPOP 0.01 0 {t}a LEFT",
        "BLMPOP 0.01 x {t}a LEFT",
    ),
    *("BLMPOP x 1 {t}a LEFT", "BZPOPMIN {t}a 0.01", "BZPOPMAX {t}a 0.01", "BZMPOP 0.01 1 {t}a MIN"),
    *("BZMPOP 0.01 1 {t}a MIDDLE", "XREAD BLOCK 10 STREAMS {t}a $", "XREAD BLOCK x STREAMS {t}a $"),
    *("XREAD BLOCK -1 STREAMS {t}a $", "XREAD BLOCK 10 STREAMS {t}a {t}b $", "XREAD BLOCK 10", "XREAD STREAMS {t}a 0"),
    *("XREADGROUP GROUP g c BLOCK 10 STREAMS {t}a >", "SET {t}s x", "BLPOP {t}s 0", "BZPOPMIN {t}s 0"),
    *("RPUSH {t}l 1 2 3 4 5 6", "BLPOP {t}a {t}l 0", "BRPOP {t}l 0", "BLMOVE {t}l {t}m LEFT LEFT 0"),
    *("BLMPOP 0 2 {t}a {t}l RIGHT COUNT 2", "BRPOPLPUSH {t}l {t}l 0", "LRANGE {t}l 0 -1", "LRANGE {t}m 0 -1"),
    *("XADD {t}x 1-1 a b", "XGROUP CREATE {t}x g 0", "XREADGROUP GROUP g c BLOCK 10 STREAMS {t}x >"),
    *("XREADGROUP GROUP g c BLOCK 10 STREAMS {t}x >", "XREAD BLOCK 10 STREAMS {t}x 0", "XREAD BLOCK 10 STREAMS {t}x $"),
    *("WAIT x 0", "WAIT 0 x", "WAIT 0 -1", "WAIT", "WAIT 0 0", "WAIT 1 10", "SET {t}s 1", "WAIT 0 10", "WAIT 1 10"),
]


def test_without_another_client(site: Site, ends: list[tuple[Wire, Wire]], hasty: None) -> None:
    """What is answered at once, or when the time is over; one at a time, then all in one write."""
    (plain, _), (proxied, _) = ends
    for tag, together in zip(site.tags(), (False, True, True), strict=True):
        requests = [words(line, tag) for line in AT_ONCE]
        different = []
        for batch in [requests] if together else [[request] for request in requests]:
            for wire in (plain, proxied):
                wire.send(pipeline(*(tuple(request) for request in batch)))
            replies = zip(batch, plain.replies(len(batch)), proxied.replies(len(batch)), strict=True)
            different += [reply for reply in replies if reply[1] != reply[2]]
        assert not different


def test_in_a_transaction_nothing_blocks(site: Site, ends: list[tuple[Wire, Wire]]) -> None:
    lines = [
        *("MULTI", "BLPOP {t}a 0", "BLMOVE {t}a {t}b LEFT LEFT 0", "BZPOPMIN {t}a 0", "XREAD BLOCK 0 STREAMS {t}s $"),
        *("RPUSH {t}a 1 2", "BLPOP {t}a 0", "BLMPOP 0 1 {t}a LEFT", "WAIT 5 0", "BLPOP {t}a x", "EXEC", "PING"),
    ]
    for tag in site.tags():
        requests = [tuple(words(line, tag)) for line in lines]
        said = []
        for wire, _ in ends:
            wire.send(pipeline(*requests))
            said.append(wire.replies(len(requests)))
        assert said[0] == said[1]


def test_keys_of_several_shards(site: Site) -> None:
    one, two, _ = site.tags()
    with site.client() as client:
        for line in (f"BLPOP {one} {two} 0", f"XREAD BLOCK 0 STREAMS {one} {two} $ $", f"BLMPOP 0 2 {one} {two} LEFT"):
            assert client.ask(*line.split()).startswith(b"-CROSSSLOT ")


def test_what_follows_waits_in_order(site: Site) -> None:
    one, two, three = site.tags()
    with site.client() as client, site.client() as other:
        commands = [("SET", two, 1), ("BLPOP", one, 0), ("INCR", two), ("BRPOP", three, 0), ("GET", two)]
        client.send(pipeline(*commands))
        until_blocked(other)
        client.send(pack("ECHO", "later"))
        assert client.replies(1) == [OK]
        assert other.ask("SET", two, 10) == OK
        assert client.silent()
        assert other.ask("RPUSH", three, "x") == b":1\r\n"
        assert client.silent()
        other.ask("RPUSH", one, "y")
        replies = client.replies(5)
        assert replies[1:2] + replies[3:] == [b":11\r\n", b"$2\r\n11\r\n", b"$5\r\nlater\r\n"]
        assert replies[0].endswith(b"y\r\n")
        assert replies[2].endswith(b"x\r\n")


def test_much_follows(site: Site) -> None:
    """More than is carried out in one go: small and large requests, and more that block."""
    first = site.tags()[0]
    large = b"x" * 700000
    some = pipeline(("SET", "k", large), ("BLPOP", first, 0), *[("PING",)] * 20000, ("STRLEN", "k"))
    replies = [OK, b"*2\r\n$%d\r\n%b\r\n$1\r\nx\r\n" % (len(first), first.encode())]
    replies += [b"+PONG\r\n"] * 20000 + [b":700000\r\n"]
    with site.client() as client, site.client() as other:
        client.send(pack("BLPOP", first, 0))
        until_blocked(other)
        thread = threading.Thread(target=client.send, args=(some * 4,))
        thread.start()
        other.ask("RPUSH", first, *"xxxxx")
        assert client.replies(1 + 4 * len(replies)) == [replies[1], *replies * 4]
        thread.join()


def test_who_waits_longest_is_served_first(site: Site) -> None:
    key = site.tags()[0]
    waiting = [site.client() for _ in range(5)]
    with site.client() as other:
        for count, client in enumerate(waiting, 1):
            client.send(pack("BLPOP", key, 0))
            until_blocked(other, count)
            deadline = time.monotonic() + PATIENCE
            while site.shards.primaries[0].info("clients")["blocked_clients"] != str(count):
                assert time.monotonic() < deadline
        other.ask("RPUSH", key, *range(5))
        for number, client in enumerate(waiting):
            assert client.reply().endswith(b"\r\n%d\r\n" % number)
            client.close()


def test_unblock(ends: list[tuple[Wire, Wire]]) -> None:
    said = []
    for blocked, other in ends:
        number = blocked.value("CLIENT", "ID")
        assert isinstance(number, int)
        heard = [other.ask("CLIENT", "UNBLOCK", number), other.ask("CLIENT", "UNBLOCK", 10**9)]
        for command in (("BLPOP", "k", 0), ("XREAD", "BLOCK", 0, "STREAMS", "k", "$"), ("WAIT", 1, 0)):
            for how in ((), ("TIMEOUT",), ("ERROR",)):
                blocked.send(pack(*command))
                until_blocked(other)
                heard += [other.ask("CLIENT", "UNBLOCK", number, *how), blocked.reply()]
                heard.append(other.ask("CLIENT", "UNBLOCK", number, *how))
        said.append(heard)
    assert said[0] == said[1]


def test_a_client_that_waits_is_shown_so(site: Site) -> None:
    with site.client() as blocked, site.client() as other:
        number = blocked.value("CLIENT", "ID")
        blocked.send(pack("BLPOP", "k", 0))
        until_blocked(other)
        shown = other.ask("CLIENT", "LIST", "ID", str(number))
        assert b" flags=b " in shown
        assert b" cmd=blpop " in shown
        assert other.ask("CLIENT", "KILL", "ID", str(number)) == b":1\r\n"
        assert blocked.closed()
        until_blocked(other, 0)
        assert other.ask("RPUSH", "k", 1) == b":1\r\n"
        assert other.ask("LLEN", "k") == b":1\r\n"


def test_no_answer_is_wanted(site: Site) -> None:
    with site.client() as client, site.client() as other:
        client.send(pipeline(("CLIENT", "REPLY", "OFF"), ("BLPOP", "k", 0), ("CLIENT", "REPLY", "ON"), ("ECHO", "on")))
        until_blocked(other)
        other.ask("RPUSH", "k", 1)
        assert client.replies(2) == [OK, b"$2\r\non\r\n"]


@pytest.mark.parametrize("command", [("BLPOP", "k", 0), ("XREAD", "BLOCK", 0, "STREAMS", "k", "$"), ("WAIT", 9, 0)])
def test_who_leaves_is_not_waited_for(site: Site, command: tuple[str | int, ...]) -> None:
    with site.client() as other:
        client = site.client()
        client.send(pack("SET", "x", 1) + pack(*command) + pack("PING"))
        until_blocked(other)
        client.close()
        until_blocked(other, 0)
        # Each server learns of it by a close of its own.
        shards = site.shards.primaries
        assert eventually(lambda: all(server.info("clients")["blocked_clients"] == "0" for server in shards))


def test_nothing_is_popped_for_nobody(site: Site) -> None:
    """Clients block and leave, and elements are pushed: each is popped by one who is there, or is still there."""
    keys = site.tags()
    popped: list[bytes] = []

    def live(key: str) -> None:
        with site.client() as client:
            while not (reply := client.ask("BLPOP", key, 0)).endswith(b"end\r\n"):
                popped.append(reply)

    threads = [threading.Thread(target=live, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    pushed = 0
    with site.client() as other:
        for _ in range(20):
            leaving = [site.client() for _ in range(6)]
            for index, client in enumerate(leaving):
                client.send(pack("BLPOP", keys[index % 3], 0) + pack("PING"))
            until_blocked(other, len(threads) + len(leaving))
            for index, client in enumerate(leaving):
                if index % 2:  # it does not say goodbye
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            until_blocked(other, len(threads))
            other.send(b"".join(pack("RPUSH", key, "a", "b", "c") for key in keys))
            other.replies(len(keys))
            pushed += 3 * len(keys)
            deadline = time.monotonic() + PATIENCE
            while len(popped) < pushed:  # else one who comes to leave would be given one
                assert time.monotonic() < deadline, (len(popped), pushed)
                time.sleep(0.001)
        for key in keys:
            other.ask("RPUSH", key, "end")
        for thread in threads:
            thread.join()
        assert len(popped) == pushed
        assert [other.ask("LLEN", key) for key in keys] == [b":0\r\n"] * len(keys)


def test_many_wait_and_nobody_else_is_delayed(site: Site) -> None:
    """500 clients that block beside one that does not; then each gets what was pushed for it."""
    waiting = [site.client() for _ in range(500)]
    with site.client() as other:
        for index, client in enumerate(waiting):
            client.send(pack("BLPOP", f"key-{index}", 0))
        until_blocked(other, len(waiting))
        other.send(b"".join(pack("SET", f"other-{n}", n) + pack("GET", f"other-{n}") for n in range(1000)))
        assert other.replies(2000)[-1] == b"$3\r\n999\r\n"
        other.send(b"".join(pack("RPUSH", f"key-{index}", index) for index in range(len(waiting))))
        assert set(other.replies(len(waiting))) == {b":1\r\n"}
        for index, client in enumerate(waiting):
            assert decode(client.reply()) == [b"key-%d" % index, b"%d" % index]
            client.close()
