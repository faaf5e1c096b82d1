"""What one client sends never makes a server close a connection that others share (client-query-buffer-limit)."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.devservers.servers import LocalShards, ServerBinary, start_many
from proxy.resp import encode
from tests.support.drilled import drilled
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.wire import Argument, Wire, pack, pipeline

pytestmark = pytest.mark.live

KB, MB = 1 << 10, 1 << 20
OK = b"+OK\r\n"
SAYS = b"client-query-buffer-limit"


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    """Two shards that keep no more than 1 MB of what one connection sends, the least that there may be."""
    with start_many(2, 0, binary=binary, options=("client-query-buffer-limit 1mb",)) as running:
        yield running


def connections(shards: LocalShards) -> list[set[bytes]]:
    """The ids of those connections of the proxy that stand, of each server."""
    found = []
    for server in shards.primaries:
        listed = server.ask("CLIENT", "LIST", "TYPE", "normal")
        assert isinstance(listed, bytes)
        # Not those that ask here, nor those that are for one client.
        lines = [line.split() for line in listed.splitlines() if b"cmd=client" not in line]
        found.append({line[0] for line in lines})
    return found


def standing(shards: LocalShards) -> list[set[bytes]]:
    """The same, when those are closed that the servers were asked over at the start."""
    seen = connections(shards)
    for _ in range(50):
        time.sleep(0.2)
        before, seen = seen, connections(shards)
        if before == seen:
            break
    return seen


@contextmanager
def others(address: str) -> Iterator[list[bytes]]:
    """Clients that write all the while; the errors that they get."""
    wrong: list[bytes] = []
    over = threading.Event()
    counts = []

    def write(number: int) -> None:
        sent = 0
        with Wire(address) as client:
            while not over.is_set():
                client.send(pack("INCR", f"other:{number}") * 50)
                sent += 50
                wrong.extend(reply for reply in client.replies(50) if reply[:1] != b":")
            if client.ask("GET", f"other:{number}") != encode.bulk(str(sent)):
                wrong.append(b"lost or doubled")
        counts.append(sent)

    with Wire(address) as client:
        client.ask("DEL", *(f"other:{number}" for number in range(4)))
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert min(counts) > 0


TOO_LARGE: list[tuple[Argument, ...]] = [
    ("SET", "k", b"x" * (2 * MB)),
    ("SET", "k", b"x" * (MB - 10)),  # with its name and its key it is more
    ("SET", b"k" * (2 * MB), "x"),
    ("MSET", "a", 1, "b", b"x" * (2 * MB), "c", 3),
    ("GET", b"k" * (2 * MB)),
    ("MGET", "a", "b", b"k" * (2 * MB)),
    ("DEL", "a", "b", b"k" * (2 * MB)),
    ("RPUSH", "l", *[b"x" * 100] * 100, b"x" * (5 * MB)),
    ("EVAL", b"return 1 --" + b"x" * (2 * MB), 1, "k"),
    ("SCRIPT", "LOAD", b"return 1 --" + b"x" * (2 * MB)),
    ("PUBLISH", "channel", b"x" * (2 * MB)),
    ("BLPOP", b"k" * (2 * MB), 0),
    ("WATCH", b"k" * (2 * MB)),
    ("SUBSCRIBE", b"c" * (2 * MB)),
    ("KEYS", b"k" * (2 * MB)),
]


def test_what_no_server_takes_is_not_sent(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static)
    with Wire(proxy.address) as client, others(proxy.address) as wrong:
        client.ask("DBSIZE")
        before = standing(shards)
        for command in TOO_LARGE:
            for _ in range(2):
                said = client.ask(*command)
                assert said.startswith(b"-ERR "), (command[0], said[:200])
                assert SAYS in said, said
        assert client.ask("SET", "k", "still here") == OK
        # Servers are asked something now and then, over connections that are closed at once.
        assert eventually(lambda: connections(shards) == before)
    assert wrong == []


@pytest.mark.drill
def test_a_transaction_that_no_server_takes(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static)
    with Wire(proxy.address) as client, others(proxy.address) as wrong:
        before = standing(shards)
        client.send(pipeline(("MULTI",), *(("SET", f"{{t}}{n}", b"x" * (100 * KB)) for n in range(20)), ("EXEC",)))
        replies = client.replies(22)
        assert any(SAYS in reply for reply in replies)
        assert replies[-1].startswith(b"-EXECABORT")
        assert client.ask("EXISTS", "{t}0") == b":0\r\n"
        # Many small ones: they take more bytes on the way than the server keeps.
        client.send(pipeline(("MULTI",), *(("INCR", "{t}n") for _ in range(40_000)), ("EXEC",)))
        assert client.replies(40_002)[-1].startswith(b"*40000\r\n:1\r\n")
        # One that it takes.
        client.send(pipeline(("MULTI",), *(("SET", f"{{t}}{n}", b"x" * (100 * KB)) for n in range(9)), ("EXEC",)))
        assert client.replies(11)[-1] == b"*9\r\n" + OK * 9
        assert connections(shards)[0] >= before[0]
        assert connections(shards)[1] >= before[1]
    assert wrong == []


def test_large_ones_that_a_server_takes_keep_their_order(shards: LocalShards, serve: Serve) -> None:
    """Also where they are larger in all than it keeps, as long as no argument is."""
    proxy = serve("--static", shards.static)
    with Wire(proxy.address) as client, others(proxy.address) as wrong:
        for number in range(30):
            value = b"%d " % number * (30 * KB * (1 + number % 8))
            value = value[: 900 * KB]
            client.send(
                pipeline(
                    ("SET", "k", "small"),
                    ("SET", "k", value),
                    ("STRLEN", "k"),
                    ("APPEND", "k", "!"),
                    ("GETRANGE", "k", -1, -1),
                    ("SET", "k", "small again"),
                    ("GET", "k"),
                )
            )
            assert client.replies(7) == [
                OK,
                OK,
                encode.integer(len(value)),
                encode.integer(len(value) + 1),
                encode.bulk("!"),
                OK,
                encode.bulk("small again"),
            ]
        pairs = [word for n in range(60) for word in (f"key:{n}", b"x" * (100 * KB))]
        assert client.ask("MSET", *pairs) == OK
        assert client.value("MGET", *pairs[::2]) == pairs[1::2]
        assert client.ask("RPUSH", "list", *[b"x" * (90 * KB)] * 40) == b":40\r\n"
        assert client.ask("EVAL", b"return #ARGV[1]", 1, "k", b"x" * (800 * KB)) == encode.integer(800 * KB)
        body = b"return 7 --" + b"x" * (600 * KB)
        digest = client.value("SCRIPT", "LOAD", body)
        assert isinstance(digest, bytes)
        for key in "abcdef":
            assert client.ask("EVALSHA", digest, 1, key) == b":7\r\n"
        assert client.ask("PUBLISH", "channel", b"x" * (900 * KB)) == b":0\r\n"
        client.ask("DEL", *pairs[::2], "list")
    assert wrong == []
    assert "backend connection lost" not in proxy.log


@pytest.mark.parametrize("size", [1, drilled(100 * KB), drilled(400 * KB)])
@pytest.mark.parametrize("mode", [drilled("ALL"), "WRITE"])
def test_what_many_send_to_a_server_that_waits(shards: LocalShards, serve: Serve, size: int, mode: str) -> None:
    """A server whose clients are paused goes on reading, and keeps it: all together may not be more than it keeps."""
    proxy = serve("--static", shards.static)
    count = max(4 * MB // max(size, 40), 10) // 8
    clients = [Wire(proxy.address) for _ in range(8)]
    try:
        assert {client.ask("SET", f"start:{n}", 1) for n, client in enumerate(clients)} == {OK}
        for server in shards.primaries:
            server.ask("CLIENT", "PAUSE", 1500, mode)
        began = time.monotonic()

        def send(number: int) -> None:
            clients[number].send(
                pipeline(*(("SET", f"{number}:{n % 10}", b"x" * size) for n in range(count)), ("INCR", f"n:{number}"))
            )

        threads = [threading.Thread(target=send, args=(number,)) for number in range(len(clients))]
        for thread in threads:
            thread.start()
        for number, client in enumerate(clients):
            replies = client.replies(count + 1)
            assert set(replies[:-1]) == {OK}, set(replies)
            assert replies[-1] == b":1\r\n"
            client.ask("DEL", f"n:{number}")
        for thread in threads:
            thread.join()
        assert time.monotonic() - began > 1.0  # they were paused
    finally:
        for client in clients:
            client.close()
    assert "backend connection lost" not in proxy.log
    for server in shards.primaries:
        assert server.info("stats").get("client_query_buffer_limit_disconnections", "0") == "0"


def test_the_smallest_limit_counts(binary: ServerBinary, serve: Serve) -> None:
    """Of the servers; and one that does not say is taken for one with Redis's default."""
    with start_many(2, 0, binary=binary) as shards:
        shards.primaries[0].ask("CONFIG", "SET", "client-query-buffer-limit", "3mb")
        shards.primaries[1].ask("CONFIG", "SET", "client-query-buffer-limit", "2mb")
        proxy = serve("--static", shards.static)
        with Wire(proxy.address) as client:
            for key in "abcdef":
                assert b"the 2097152 bytes" in client.ask("SET", key, b"x" * (2 * MB))
                assert client.ask("SET", key, b"x" * (2 * MB - 100)) == OK
        proxy.stop()
        for server in shards.primaries:
            server.ask("ACL", "SETUSER", "default", "-config")
        proxy = serve("--static", shards.static)
        with Wire(proxy.address) as client:
            assert client.ask("SET", "k", b"x" * (MB // 2)) == OK
        for server in shards.primaries:
            server.ask("ACL", "SETUSER", "default", "+config")


def test_a_limit_that_was_lowered_meanwhile_is_learned(binary: ServerBinary, serve: Serve) -> None:
    """The connection that the server closes is connected again, and with that it is asked again."""
    with start_many(1, 0, binary=binary) as shards:
        proxy = serve("--static", shards.static)
        shards.primaries[0].ask("CONFIG", "SET", "client-query-buffer-limit", "1mb")
        with Wire(proxy.address) as client:
            client.ask("SET", "k", b"x" * (2 * MB))
            deadline = time.monotonic() + 10
            while SAYS not in (said := client.ask("SET", "k", b"x" * (2 * MB))):
                assert time.monotonic() < deadline, said
                time.sleep(0.05)
            assert client.ask("SET", "k", 1) == OK


@pytest.mark.parametrize("word", ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"])
def test_what_one_client_subscribes_to_while_a_server_waits(shards: LocalShards, serve: Serve, word: str) -> None:
    """Over the connection that all subscribers share: the names wait at the proxy, and it stands."""
    proxy = serve("--static", shards.static)
    with Wire(proxy.address) as listener, Wire(proxy.address) as client, Wire(proxy.address) as publisher:
        assert listener.ask("SUBSCRIBE", "others").startswith(b"*3")
        assert listener.ask("PSUBSCRIBE", "other?").startswith(b"*3")
        for server in shards.primaries:
            server.ask("CLIENT", "PAUSE", 1500, "ALL")
        names = [b"%d" % number + b"c" * (300 * KB) for number in range(12)]
        client.send(b"".join(pack(word, name) for name in names) + pack("PING"))
        time.sleep(2.0)
        assert len(client.replies(len(names) + 1)) == len(names) + 1
        client.send(pack(f"{word[:-9]}UNSUBSCRIBE", *names))
        client.replies(len(names))
        publisher.ask("PUBLISH", "others", "heard")
        assert b"heard" in listener.reply()
        assert b"heard" in listener.reply()
        assert "subscriber down" not in proxy.log
