"""Large values and large requests: they cost linear time, and nobody else waits."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.resp import encode
from tests.support.site import Site
from tests.support.wire import pack

pytestmark = pytest.mark.live

MB = 1 << 20


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


@pytest.mark.parametrize("name", ["SADD", "EXISTS"])
def test_more_arguments_than_before_redis_7(site: Site, name: str) -> None:
    """What is not split by key, and what is."""
    count = 1_050_000
    request = b"*%d\r\n" % (count + 2) + b"".join(encode.bulk(word) for word in (name, "set"))
    request += encode.bulk("set") * count
    with site.client() as client, site.direct() as server:
        for wire in (client, server):
            wire.send(request)
        assert client.reply() == server.reply()
        for wire in (client, server):
            wire.send(b"*2147483648\r\n")
            assert wire.reply() == b"-ERR Protocol error: invalid multibulk length\r\n"


def test_many_keys_in_many_shards_cost_linear_time(site: Site) -> None:
    with site.client() as client:

        def set_and_get(count: int) -> None:
            keys = [f"key:{number}" for number in range(count)]
            assert client.ask("MSET", *(word for key in keys for word in (key, key))) == b"+OK\r\n"
            assert client.ask("MGET", *keys) == encode.array(map(encode.bulk, keys))

        check_linear(site, set_and_get, 10_000)


@pytest.mark.smoke
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
