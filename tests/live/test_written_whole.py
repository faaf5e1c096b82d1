"""Clients that write much before they read anything: it works as with Redis, within what may wait for them."""

import contextlib
import re
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from proxy.devservers.servers import LOOPBACK, LocalShards, find_server, start_many
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess, metric, resident
from tests.support.site import shard_tags
from tests.support.wire import Wire, pack

pytestmark = pytest.mark.live

TAGS = shard_tags(2)
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    """Two shards."""
    with start_many(2, 0, binary=find_server()) as running:
        yield running


def serving(shards: LocalShards, serve: Serve, limits: str = "write_timeout = '5s'") -> ProxyProcess:
    """A proxy whose patience with who does not read is short enough for a test."""
    tables = "".join(f'[[shards]]\nprimary = "{server.address}"\n' for server in shards.primaries)
    return serve(config=f"[limits]\n{limits}\n{tables}")


@pytest.mark.clients
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_pipeline_of_redis_py(shards: LocalShards, serve: Serve, protocol: int) -> None:
    proxy = serving(shards, serve)
    count = 6000
    value = b"v" * 10_000
    with redis.Redis(host=LOOPBACK, port=proxy.port, protocol=protocol, socket_timeout=30) as client:
        client.delete("n")
        pipeline = client.pipeline(transaction=False)
        for number in range(count):
            pipeline.incr("n")
            pipeline.set(f"k{number % 100}", value)
            pipeline.get(f"k{number % 100}")
        replies = pipeline.execute()
        assert replies[::3] == list(range(1, count + 1))
        assert replies[1::3] == [True] * count
        assert replies[2::3] == [value] * count
        assert client.get("n") == b"%d" % count
    assert "not read from" not in proxy.log


@pytest.mark.parametrize(
    ("size", "count"),
    [
        pytest.param(10, 400_000, id="small"),
        pytest.param(10_000, 10_000, id="10 KB"),
        pytest.param(100_000, 1000, id="100 KB: replies are passed on in pieces"),
        pytest.param(1_000_000, 100, id="1 MB"),
    ],
)
def test_a_hundred_megabytes_before_a_byte_is_read(shards: LocalShards, serve: Serve, size: int, count: int) -> None:
    proxy = serving(shards, serve)
    keys = [f"{{{tag}}}{size}" for tag in TAGS]
    value = "v" * size
    with Wire(proxy.address, timeout=60) as client:
        count_up = pack("INCR", f"{{{TAGS[0]}}}n{size}")
        requests = b"".join(count_up + pack("SET", key, value) + pack("GET", key) for key in keys)
        whole = requests * (count // 2)
        client.send(whole)
        # All of it was taken, and all of it is answered in order.
        for number in range(count):
            first, second, third = client.replies(3)
            assert first == b":%d\r\n" % (number + 1)
            assert second == b"+OK\r\n"
            assert third == b"$%d\r\n%s\r\n" % (size, value.encode())
        assert client.ask("PING") == b"+PONG\r\n"


def test_what_is_never_read_is_carried_out_all_the_same(shards: LocalShards, serve: Serve) -> None:
    proxy = serving(shards, serve)
    count = 3000
    with Wire(proxy.address, timeout=60) as writer, Wire(proxy.address) as other:
        other.ask("DEL", "never")
        other.ask("SET", f"{{{TAGS[0]}}}k", "v" * 10_000)
        writer.send((pack("INCR", "never") + pack("GET", f"{{{TAGS[0]}}}k")) * count)
        assert eventually(lambda: other.value("GET", "never") == b"%d" % count)


def test_who_never_reads_is_stopped_at_its_limit_with_a_reason_and_closed_later(
    shards: LocalShards, serve: Serve
) -> None:
    proxy = serving(shards, serve, "output_hard = '16mb'\nwrite_timeout = '2s'")
    key = f"{{{TAGS[0]}}}k"
    with Wire(proxy.address, timeout=1.0) as writer, Wire(proxy.address) as other:
        writer.ask("CLIENT", "SETNAME", "greedy")
        other.ask("SET", key, "v" * 10_000)
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while True:
                writer.send(pack("GET", key) * 100)
        stopped = r"not read from until .* address=\S+ name='greedy' waiting=1\d{7} all=\d+: limits.output_hard"
        assert eventually(lambda: re.search(stopped, proxy.log) is not None, 1.0)
        assert time.monotonic() - began < 30
        assert metric(proxy, "slotgate_clients_not_read_total", limit="output_hard") >= 1
        assert eventually(lambda: metric(proxy, "slotgate_clients") == 1, 15.0)
        assert metric(proxy, "slotgate_clients_rejected_total") == 1
        assert other.ask("PING") == b"+PONG\r\n"


def test_who_reads_after_all_goes_on(shards: LocalShards, serve: Serve) -> None:
    proxy = serving(shards, serve, "output_hard = '8mb'\noutput_soft = '1mb'\nwrite_timeout = '30s'")
    key = f"{{{TAGS[0]}}}k"
    count = 4000
    with Wire(proxy.address, timeout=60) as client:
        client.ask("SET", key, "v" * 10_000)
        writing = threading.Thread(target=client.send, args=(pack("GET", key) * count,))
        writing.start()
        assert eventually(lambda: "limits.output_hard" in proxy.log or not writing.is_alive(), 30.0)
        for reply in client.replies(count):
            assert reply == b"$10000\r\n" + b"v" * 10_000 + b"\r\n"
        writing.join()
    assert eventually(lambda: metric(proxy, "slotgate_client_waiting_bytes") == 0)


@pytest.mark.drill
def test_fifty_that_never_read_share_the_memory_of_the_process(shards: LocalShards, serve: Serve) -> None:
    proxy = serving(shards, serve, "output_memory = '64mb'\noutput_soft = '1mb'\nwrite_timeout = '3s'")
    key = f"{{{TAGS[0]}}}k"
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(Wire(proxy.address))
        other.ask("SET", key, "v" * 10_000)
        idle = resident(proxy)
        wires = [stack.enter_context(Wire(proxy.address)) for _ in range(50)]
        piece = pack("GET", key) * 3000
        for wire in wires:
            wire.socket.setblocking(False)
        most = 0
        end = time.monotonic() + 30.0
        while time.monotonic() < end and proxy.log.count("limits.output_memory") < 25:
            for wire in wires:
                with contextlib.suppress(OSError):
                    wire.socket.send(piece)
            most = max(most, resident(proxy) - idle)
            before = time.monotonic()
            assert other.ask("GET", key)[:8] == b"$10000\r\n"
            assert time.monotonic() - before < 5.0
        assert "limits.output_memory" in proxy.log
        assert metric(proxy, "slotgate_clients_not_read_total", limit="output_memory") > 0
        # What was in flight when they were stopped comes on top.
        assert most < 64 * MEGABYTE * 8
        assert eventually(lambda: metric(proxy, "slotgate_clients") == 1, 20.0)
        assert metric(proxy, "slotgate_client_waiting_bytes") == 0


def test_a_large_reply_goes_at_its_readers_speed_all_the_same(shards: LocalShards, serve: Serve) -> None:
    """And so do large replies behind it, however many are asked for."""
    proxy = serving(shards, serve, "output_soft = '1mb'\nwrite_timeout = '30s'")
    key = f"{{{TAGS[0]}}}large"
    value = b"v" * (32 * MEGABYTE)
    with Wire(proxy.address, timeout=60) as reader:
        reader.ask("SET", key, value)
        time.sleep(3.0)
        idle = resident(proxy)
        reader.send(pack("GET", key) * 4)
        time.sleep(1.0)
        assert resident(proxy) - idle < 24 * MEGABYTE
        for reply in reader.replies(4):
            assert reply == b"$%d\r\n%s\r\n" % (len(value), value)
