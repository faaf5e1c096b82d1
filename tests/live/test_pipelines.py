"""Many requests, many clients, large values, and requests cut anywhere."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.resp import encode
from tests.live.conftest import Serve
from tests.live.site import Site, shard_of
from tests.live.wire import Argument, Wire, pack

pytestmark = pytest.mark.live

MB = 1 << 20


def mixed(count: int) -> Iterator[tuple[tuple[Argument, ...], bytes]]:
    """Commands of all kinds with the replies they must get: one key, many keys in many shards, none at all."""
    for number in range(count):
        key = f"key:{number}"
        match number % 8:
            case 0 | 4:
                yield ("SET", key, number), b"+OK\r\n"
            case 1 | 5:
                yield ("GET", f"key:{number - 1}"), encode.bulk(str(number - 1))
            case 2:
                yield ("ECHO", number), encode.bulk(str(number))
            case 3:
                yield ("MSET", f"{key}a", 1, f"{key}b", 2, f"{key}c", 3), b"+OK\r\n"
            case 6:
                keys = [f"key:{number - 3}{letter}" for letter in "cabd"]
                yield ("MGET", *keys), encode.array([*map(encode.bulk, "312"), b"$-1\r\n"])
            case _:
                yield (
                    ("NOSUCH", number),
                    encode.error(f"ERR unknown command 'NOSUCH', with args beginning with: '{number}' "),
                )


def check_pipeline(site: Site, count: int) -> None:
    """``count`` commands in one write to the proxy come back whole and in order."""
    with site.client() as client:
        check_order(client, count)


def check_order(client: Wire, count: int) -> None:
    """``count`` commands in one write come back whole and in order."""
    commands = list(mixed(count))
    data = b"".join(encode.request(args) for args, _ in commands)
    writer = threading.Thread(target=client.send, args=(data,))
    writer.start()
    replies = client.replies(count)
    writer.join()
    assert client.ask("PING") == b"+PONG\r\n"
    wrong = [pair for pair in zip(commands, replies, strict=True) if pair[0][1] != pair[1]]
    assert not wrong, wrong[:3]


def test_ten_thousand_commands_in_one_write(site: Site) -> None:
    check_pipeline(site, 10_000)


def test_more_commands_than_may_be_in_flight(site: Site) -> None:
    check_pipeline(site, 40_000)


def test_order_over_several_connections_to_each_server(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config="[backend]\nconnections_per_node = 3\n")
    for _ in range(4):
        with Wire(proxy.address) as client:
            check_order(client, 3000)


def test_replies_larger_than_what_may_wait_for_a_client(site: Site) -> None:
    """A client that sends everything before it reads anything is stopped, not closed, and gets everything."""
    value = b"v" * MB
    commands = 100
    with site.client() as client:
        assert client.ask("SET", "large", value) == b"+OK\r\n"
        client.send(pack("GET", "large") * commands)
        time.sleep(0.3)
        assert set(client.replies(commands)) == {encode.bulk(value)}


def test_two_hundred_clients(site: Site) -> None:
    clients = [site.client(2 + number % 2) for number in range(200)]
    try:
        for turn in range(10):
            for number, client in enumerate(clients):
                keys = [f"client:{number}:{letter}" for letter in "abc"]
                client.send(
                    pack("SET", keys[0], turn)
                    + pack("INCR", f"count:{number}")
                    + pack("MSET", keys[1], turn, keys[2], number)
                    + pack("MGET", *keys)
                    + pack("INCR", "everybody")
                )
            for number, client in enumerate(clients):
                *replies, everybody = client.replies(5)
                assert replies == [
                    b"+OK\r\n",
                    encode.integer(turn + 1),
                    b"+OK\r\n",
                    encode.array(map(encode.bulk, (str(turn), str(turn), str(number)))),
                ]
                assert everybody.startswith(b":")
        assert clients[0].value("GET", "everybody") == b"2000"
    finally:
        for client in clients:
            client.close()


def test_a_client_in_a_hurry(site: Site) -> None:
    """What a client sends before it closes its side is answered."""
    with site.client() as client:
        client.send(b"".join(pack("INCR", f"n{number}") for number in range(1000)))
        client.socket.shutdown(1)
        assert client.rest() == b":1\r\n" * 1000


# ---- large values


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost(site: Site, work: Callable[[], None], times: int) -> float:
    """The proxy's CPU time for doing ``work`` so many times."""
    before = cpu_seconds(site.proxy.pid)
    for _ in range(times):
        work()
    return cpu_seconds(site.proxy.pid) - before


def check_linear(site: Site, work: Callable[[int], None], size: int) -> None:
    """Four times the size at once costs about what four times the work costs; quadratic would be four times that."""
    work(size)
    small = cost(site, lambda: work(size), 4)
    large = cost(site, lambda: work(size * 4), 1)
    assert large < 2.5 * small + 0.15, (small, large)


def test_a_large_value_costs_linear_time(site: Site) -> None:
    with site.client() as client:

        def set_and_get(size: int) -> None:
            value = os.urandom(MB) * (size // MB)
            assert client.ask("SET", "large", value) == b"+OK\r\n"
            reply = client.ask("GET", "large")
            assert len(reply) == size + len(f"${size}\r\n\r\n")
            assert reply[-size - 2 : -2] == value

        check_linear(site, set_and_get, 16 * MB)


def test_a_value_in_small_pieces_costs_linear_time(site: Site) -> None:
    with site.client() as client:

        def trickle(size: int) -> None:
            data = pack("SET", "trickled", b"x" * size)
            for at in range(0, len(data), 2000):
                client.send(data[at : at + 2000])
            assert client.reply() == b"+OK\r\n"
            assert client.ask("STRLEN", "trickled") == encode.integer(size)

        check_linear(site, trickle, 2 * MB)


def test_many_arguments_cost_linear_time(site: Site) -> None:
    with site.client() as client:

        def push_and_range(count: int) -> None:
            client.ask("DEL", "list")
            assert client.ask("RPUSH", "list", *map(str, range(count))) == encode.integer(count)
            assert client.ask("LRANGE", "list", 0, -1) == encode.array(encode.bulk(str(n)) for n in range(count))

        check_linear(site, push_and_range, 30_000)


def test_many_keys_in_many_shards_cost_linear_time(site: Site) -> None:
    with site.client() as client:

        def set_and_get(count: int) -> None:
            keys = [f"key:{number}" for number in range(count)]
            assert client.ask("MSET", *(word for key in keys for word in (key, key))) == b"+OK\r\n"
            assert client.ask("MGET", *keys) == encode.array(map(encode.bulk, keys))

        check_linear(site, set_and_get, 10_000)


def test_large_values_from_several_shards_in_one_reply(site: Site) -> None:
    values = {f"large:{number}": os.urandom(MB) * (number + 1) for number in range(6)}
    with site.client() as client:
        assert client.ask("MSET", *(word for pair in values.items() for word in pair)) == b"+OK\r\n"
        assert client.ask("MGET", *values) == encode.array(map(encode.bulk, values.values()))


def test_a_large_value_does_not_mix_with_others(site: Site) -> None:
    """While one client reads slowly, others of the same shard are served, and everybody gets their own."""
    value = os.urandom(MB) * 32
    with site.client() as slow, site.client() as quick:
        assert slow.ask("SET", "{t}large", value) == b"+OK\r\n"
        slow.send(pack("GET", "{t}large") + pack("ECHO", "behind it"))
        for number in range(200):
            assert quick.ask("SET", "{t}small", number) == b"+OK\r\n"
            assert quick.ask("GET", "{t}small") == encode.bulk(str(number))
        assert slow.reply() == encode.bulk(value)
        assert slow.reply() == encode.bulk("behind it")


@pytest.mark.parametrize("command", ["SET", "set", "SeT"])
def test_keys_and_values_of_every_length(site: Site, command: str) -> None:
    """Lengths of one, two, three and more digits; all in one write, and each key lies in its shard."""
    lengths = [*range(120), 998, 999, 1000, 1001, 9999, 10_000]
    keys = [bytes(33 + (length + at) % 90 for at in range(length)) for length in lengths]
    with site.client() as client:
        client.send(b"".join(pack(command, key, key[::-1]) + pack("GET", key) for key in keys))
        assert client.replies(2 * len(keys)) == [
            reply for key in keys for reply in (b"+OK\r\n", encode.bulk(key[::-1]))
        ]
        assert client.value("DBSIZE") == len(keys)
    for number, server in enumerate(site.shards.primaries):
        listed = server.ask("KEYS", "*")
        assert isinstance(listed, list)
        assert sorted(listed) == sorted(key for key in keys if shard_of(key) == number)


# ---- requests cut anywhere

SPLIT = {
    "the fast lane": (pack("SET", "key", "value"), b"+OK\r\n"),
    "the fast lane, many arguments": (pack("RPUSH", "list", "a", "", "ccc"), b":3\r\n"),
    "a long value": (pack("SET", "key", "v" * 120), b"+OK\r\n"),
    "many shards": (pack("MSET", "a", 1, "b", 2, "c", 3), b"+OK\r\n"),
    "a script": (pack("EVAL", "return ARGV[1]", 1, "k", "x\r\ny"), b"$4\r\nx\r\ny\r\n"),
    "the proxy's own": (pack("ECHO", "hello\r\n"), b"$7\r\nhello\r\n\r\n"),
    "a line": (b"ECHO 'one two'\r\n", b"$7\r\none two\r\n"),
    "unknown": (pack("NOSUCH"), b"-ERR unknown command 'NOSUCH', with args beginning with: \r\n"),
    "several": (
        pack("SET", "n", 1) + pack("INCR", "n") + pack("MGET", "n", "none") + b"PING\r\n" + pack("GET", "n"),
        b"+OK\r\n:2\r\n*2\r\n$1\r\n2\r\n$-1\r\n+PONG\r\n$1\r\n2\r\n",
    ),
}


def turn(other: Wire) -> None:
    """When it returns, the proxy has read all that was sent to it before: its event loop has gone round."""
    assert other.ask("PING") == b"+PONG\r\n"


@pytest.mark.parametrize(("request_bytes", "expected"), SPLIT.values(), ids=SPLIT.keys())
def test_a_request_cut_at_every_byte(site: Site, request_bytes: bytes, expected: bytes) -> None:
    with site.client() as client, site.client() as other:
        for at in range(1, len(request_bytes)):
            client.ask("DEL", "list")
            client.send(request_bytes[:at])
            turn(other)
            client.send(request_bytes[at:])
            assert b"".join(client.replies(expected_count(expected))) == expected, request_bytes[:at]


@pytest.mark.parametrize(("request_bytes", "expected"), SPLIT.values(), ids=SPLIT.keys())
def test_a_request_byte_by_byte(site: Site, request_bytes: bytes, expected: bytes) -> None:
    with site.client() as client, site.client() as other:
        for at in range(len(request_bytes)):
            client.send(request_bytes[at : at + 1])
            turn(other)
        assert b"".join(client.replies(expected_count(expected))) == expected


def expected_count(replies: bytes) -> int:
    """How many replies of the table above: one, but for "several"."""
    return 5 if replies == SPLIT["several"][1] else 1
