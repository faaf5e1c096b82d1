"""Long replies and slow readers: what they cost is theirs, in time and in memory."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, start_many
from proxy.resp import encode
from tests.support.busy_threads import BusyThreads
from tests.support.drilled import drilled
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess, metric
from tests.support.site import shard_tags
from tests.support.wire import Argument, Wire, pack, pipeline

pytestmark = pytest.mark.live

MB = 1 << 20
OK = b"+OK\r\n"
TAGS = shard_tags(3)
SPLIT = [f"{{{TAGS[number % 3]}}}split{number}" for number in range(12)]
"""Keys of all shards in turn."""
TOGETHER = [f"{{{TAGS[0]}}}{number}" for number in range(12)]
"""Keys of one shard."""
LIST, HASH = f"{{{TAGS[0]}}}list", f"{{{TAGS[0]}}}hash"
VALUE = 8 * MB
WHOLE = len(SPLIT) * VALUE
TOO_LARGE = b"is larger than 1048576 bytes (limits.max_reply)"


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    """Three shards, with large values under all these keys."""
    with start_many(3, 0, binary=binary) as running:
        proxy = ProxyProcess(running.directory, "--static", running.static)
        with proxy.serving(), Wire(proxy.address) as wire:
            for number, key in enumerate((*SPLIT, *TOGETHER)):
                assert wire.ask("SET", key, bytes([65 + number]) * VALUE) == OK
            rows = [f"row {number}" for number in range(100_000)]
            for at in range(0, len(rows), 10_000):
                some = rows[at : at + 10_000]
                wire.ask("RPUSH", LIST, *some)
                wire.ask("HSET", HASH, *(word for row in some for word in (row, "x" * 50)))
        yield running


def configured(shards: LocalShards, limits: str = "", backend: str = "") -> str:
    tables = "".join(f'[[shards]]\nprimary = "{server.address}"\n' for server in shards.primaries)
    return f"[backend]\n{backend}\n[limits]\n{limits}\n{tables}"


def resident(proxy: ProxyProcess, name: str = "VmRSS") -> int:
    """Bytes of memory that the proxy holds; ``VmHWM``: has held at most."""
    status = Path(f"/proc/{proxy.pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


@contextmanager
def growth(proxy: ProxyProcess, least: int, most: int) -> Iterator[None]:
    """By how much the proxy grows at most meanwhile."""
    with Wire(proxy.address) as wire:  # what the first commands leave behind
        wire.ask("MGET", *(f"{{{tag}}}none" for tag in TAGS))
    before = resident(proxy)
    Path(f"/proc/{proxy.pid}/clear_refs").write_text("5")
    yield
    grown = resident(proxy, "VmHWM") - before
    assert least <= grown <= most, f"it grew by {grown / MB:.0f} MB"


def values(keys: list[str]) -> bytes:
    """The reply to MGET of them."""
    first = 65 if keys is SPLIT else 65 + len(SPLIT)
    return encode.array(encode.bulk(bytes([first + number]) * VALUE) for number in range(len(keys)))


class Innocents(BusyThreads):
    """Clients that have nothing to do with it, and write on all shards all the time, ``depth`` at once."""

    def __init__(self, proxy: ProxyProcess, clients: int = 4, depth: int = 10) -> None:
        self.slowest = 0.0
        self.errors: list[bytes] = []
        self.asked = 0
        super().__init__([partial(self._run, proxy, number, depth) for number in range(clients)])

    def _run(self, proxy: ProxyProcess, number: int, depth: int) -> None:
        with Wire(proxy.address) as wire:
            while not self.over.is_set():
                began = time.monotonic()
                wire.send(pipeline(*(("SET", f"{{{TAGS[at % 3]}}}i{number}", at) for at in range(depth))))
                self.errors += [reply for reply in wire.replies(depth) if reply != OK]
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.asked += depth
                time.sleep(0.002)

    def go_on(self, count: int = 200) -> None:
        """Until they were answered so many times more."""
        goal = self.asked + count
        assert eventually(lambda: self.asked >= goal), self.asked


@pytest.mark.parametrize("command", [("MGET", *TOGETHER), ("GET", TOGETHER[0]), ("LRANGE", LIST, 0, -1)])
@pytest.mark.parametrize("protocol", [drilled(2), 3])
def test_who_does_not_read_hurts_nobody(
    shards: LocalShards, serve: Serve, command: tuple[Argument, ...], protocol: int
) -> None:
    proxy = serve(config=configured(shards, 'output_soft = "256kb"', 'request_timeout = "3s"'))
    with Wire(shards.primaries[0].address, protocol=protocol) as straight:
        wanted = straight.ask(*command)
    with Innocents(proxy) as innocents, Wire(proxy.address, protocol=protocol) as slow:
        innocents.go_on()
        slow.send(pack(*command))
        time.sleep(1.0)
        innocents.go_on()
        assert slow.reply() == wanted
        innocents.go_on()
    assert not innocents.errors
    assert metric(proxy, "slotgate_uncertain_total") == 0
    assert metric(proxy, "slotgate_timeouts_total") == 0
    assert metric(proxy, "slotgate_backend_reconnects_total") == 0


def test_replies_of_all_kinds_pass_in_pieces(shards: LocalShards, serve: Serve) -> None:
    """Byte for byte as from the server; what follows on the connection too."""
    proxy = serve(config=configured(shards, 'output_soft = "128kb"'))
    nested = "local t = {} for i = 1, 300 do t[i] = {string.rep('n', i * 10), {i, {'x', i}}} end return t"
    commands: list[tuple[Argument, ...]] = [
        ("MGET", *TOGETHER[:3]),
        ("LRANGE", LIST, 0, -1),
        ("HGETALL", HASH),
        ("EVAL", nested, 1, f"{{{TAGS[0]}}}k"),
        ("GET", TOGETHER[1]),
    ]
    server = shards.primaries[0].address
    for protocol in 2, 3:
        with Wire(proxy.address, protocol=protocol) as wire, Wire(server, protocol=protocol) as straight:
            for _ in range(2):
                wire.send(pipeline(*commands, ("ECHO", "behind them")))
                for command in commands:
                    assert wire.reply() == straight.ask(*command)
                assert wire.reply() == encode.bulk("behind them")
            block = (("MULTI",), *commands, ("EXEC",))
            wire.send(pipeline(*block))
            straight.send(pipeline(*block))
            assert wire.replies(len(block)) == straight.replies(len(block))


def test_an_array_streams_through_little_memory(shards: LocalShards, serve: Serve) -> None:
    proxy = serve(config=configured(shards))
    with growth(proxy, 0, WHOLE // 3), Wire(proxy.address) as wire:
        wire.send(pack("MGET", *TOGETHER))
        assert wire.reply() == values(TOGETHER)


@pytest.mark.parametrize("keys", [TOGETHER, SPLIT], ids=["one shard", "three shards"])
def test_what_is_kept_for_a_slow_reader_is_kept_once(shards: LocalShards, serve: Serve, keys: list[str]) -> None:
    proxy = serve(config=configured(shards))
    with growth(proxy, 0, int(1.2 * WHOLE) + 8 * MB), Innocents(proxy) as innocents, Wire(proxy.address) as slow:
        innocents.go_on()
        slow.send(pack("MGET", *keys))
        time.sleep(1.0)
        innocents.go_on()
        assert slow.reply() == values(keys)
    assert not innocents.errors


@pytest.mark.parametrize(("soft", "block"), [("256kb", False), ("8mb", True)], ids=["alone", "in a transaction"])
def test_nobody_waits_long_behind_it(shards: LocalShards, serve: Serve, soft: str, block: bool) -> None:
    """The best of three, as the machine may be busy: some 100 ms is what the server itself and the memory take."""
    proxy = serve(config=configured(shards, f'output_soft = "{soft}"'))
    waits = []
    with ExitStack() as stack:
        for _ in range(3):
            slow = stack.enter_context(Wire(proxy.address))
            with Innocents(proxy) as innocents:
                innocents.go_on(40)
                if block:
                    slow.send(pipeline(("MULTI",), ("MGET", *TOGETHER[:6]), ("EXEC",)))
                else:
                    slow.send(pack("MGET", *TOGETHER[:6]))
                innocents.go_on(400)
            assert not innocents.errors
            waits.append(innocents.slowest)
            if waits[-1] < 1.0:
                break
    assert min(waits) < 1.0, waits


# ---- slow readers share their connections


def asked(server: LocalServer, *command: str) -> bytes:
    """What it says, as bytes."""
    with Wire(server.address) as wire:
        return wire.ask(*command)


def connections(shards: LocalShards) -> int:
    """How many the first shard's primary has from the proxy: those that have asked a GET or SET last."""
    lines = asked(shards.primaries[0], "CLIENT", "LIST").splitlines()
    return sum(b"cmd=get" in line or b"cmd=set" in line or b"cmd=ping" in line for line in lines)


def test_slow_readers_have_so_many_connections_and_no_more(shards: LocalShards, serve: Serve) -> None:
    proxy = serve(config=configured(shards, 'output_soft = "256kb"', "long_reply_connections = 2"))
    with Innocents(proxy) as innocents, ExitStack() as stack:
        slow = [stack.enter_context(Wire(proxy.address)) for _ in range(12)]
        for number, wire in enumerate(slow):
            wire.send(pack("GET", TOGETHER[number]))
            innocents.go_on(40)
        assert eventually(lambda: "too many connections left" in proxy.log)
        time.sleep(0.5)
        assert connections(shards) <= 3
        innocents.go_on()
        for number, wire in enumerate(slow):
            assert wire.reply() == encode.bulk(bytes([65 + len(SPLIT) + number]) * VALUE)
        innocents.go_on()
    assert not innocents.errors
    assert eventually(lambda: connections(shards) <= 1)


def test_who_keeps_more_waiting_than_is_allowed_is_closed_alone(shards: LocalShards, serve: Serve) -> None:
    limits = 'output_soft = "256kb"\noutput_hard = "16mb"'
    proxy = serve(config=configured(shards, limits, "long_reply_connections = 0"))
    with growth(proxy, 0, 80 * MB), Innocents(proxy) as innocents, Wire(proxy.address) as slow:
        innocents.go_on()
        slow.send(pack("MGET", *TOGETHER))
        assert eventually(lambda: metric(proxy, "slotgate_clients_rejected_total", reason="output limit") == 1)
        innocents.go_on()
    assert not innocents.errors
    assert metric(proxy, "slotgate_backend_reconnects_total") == 0
    assert "reason='output limit'" in proxy.log


def test_they_share_the_memory_of_the_process(shards: LocalShards, serve: Serve) -> None:
    """Those with the most are closed, and nobody else is: not who waits behind them, nor who reads at last."""
    limits = 'output_soft = "256kb"\noutput_memory = "16mb"'
    proxy = serve(config=configured(shards, limits, "long_reply_connections = 0"))
    with growth(proxy, 0, 72 * MB), Innocents(proxy) as innocents, ExitStack() as stack:
        innocents.go_on(40)
        slow = [stack.enter_context(Wire(proxy.address)) for _ in range(12)]
        for number, wire in enumerate(slow):
            wire.send(pack("GET", TOGETHER[number]))
        assert eventually(lambda: metric(proxy, "slotgate_clients_rejected_total", reason="output memory") >= 2)
        innocents.go_on()
        assert metric(proxy, "slotgate_client_waiting_bytes") <= 20 * MB
        whole = 0
        for number, wire in enumerate(slow):
            with suppress(OSError):
                assert wire.reply() == encode.bulk(bytes([65 + len(SPLIT) + number]) * VALUE)
                whole += 1
        innocents.go_on(40)
    assert whole >= 1
    assert metric(proxy, "slotgate_clients_rejected_total") == 12 - whole
    assert not innocents.errors
    assert metric(proxy, "slotgate_uncertain_total") == 0
    assert metric(proxy, "slotgate_backend_reconnects_total") == 0
    assert eventually(lambda: metric(proxy, "slotgate_client_waiting_bytes") == 0)


def test_a_servers_own_limit_hits_only_the_slow_reader(shards: LocalShards, serve: Serve) -> None:
    """``client-output-buffer-limit``: a server closes the connection that is left to him, and nobody else uses that."""
    proxy = serve(config=configured(shards, 'output_soft = "256kb"'))
    server = shards.primaries[0]
    with Wire(proxy.address) as slow, Wire(proxy.address) as other:
        other.ask("GET", TOGETHER[0] + "none")
        slow.send(pack("MGET", *TOGETHER))
        first = f"address={server.address}"
        assert eventually(lambda: proxy.log.count(first) >= 2)
        with Innocents(proxy) as innocents:
            innocents.go_on(40)
            server.ask("CONFIG", "SET", "client-output-buffer-limit", "normal 0 1mb 1")
            try:
                assert eventually(lambda: b"cmd=mget" not in asked(server, "CLIENT", "LIST"))
            finally:
                server.ask("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")
            innocents.go_on(40)
            with pytest.raises(ConnectionError):
                slow.reply()
            innocents.go_on(40)
    assert metric(proxy, "slotgate_clients_rejected_total", reason="broken reply") == 1
    assert not innocents.errors
    assert metric(proxy, "slotgate_uncertain_total") == 0


def test_a_hard_limit_of_a_server_is_said(binary: ServerBinary, serve: Serve) -> None:
    with start_many(1, 0, binary=binary, options=("client-output-buffer-limit normal 64mb 0 0",)) as running:
        proxy = serve("--static", running.static)
        assert eventually(lambda: "have client-output-buffer-limit normal 0 0 0 there" in proxy.log)
        assert "limit=67108864" in proxy.log


# ---- what is kept of one reply is bounded


def limited(shards: LocalShards) -> str:
    return configured(shards, 'max_reply = "1mb"')


def test_a_merged_reply_that_is_too_large(shards: LocalShards, serve: Serve) -> None:
    proxy = serve(config=limited(shards))
    with growth(proxy, 0, 40 * MB), Innocents(proxy) as innocents, Wire(proxy.address) as wire:
        for _ in range(3):
            wire.send(pack("MGET", *SPLIT) + pack("PING"))
            reply = wire.reply()
            assert reply.startswith(b"-ERR the reply ")
            assert TOO_LARGE in reply
            assert wire.reply() == b"+PONG\r\n"
        assert wire.ask("MGET", SPLIT[0] + "none", SPLIT[1] + "none") == b"*2\r\n$-1\r\n$-1\r\n"
        # Of one shard it streams.
        assert wire.ask("MGET", *TOGETHER[:2]) == encode.array(
            encode.bulk(bytes([65 + len(SPLIT) + number]) * VALUE) for number in range(2)
        )
        innocents.go_on()
    assert not innocents.errors
    assert metric(proxy, "slotgate_backend_reconnects_total") == 0


def test_a_reply_whose_turn_has_not_come(shards: LocalShards, serve: Serve) -> None:
    proxy = serve(config=limited(shards))
    busy = "local t = redis.call('TIME') repeat local n = redis.call('TIME') until n[1] - t[1] > 1 return 'over'"
    with growth(proxy, 0, 40 * MB), Wire(proxy.address) as wire:
        wire.send(pack("EVAL", busy, 1, f"{{{TAGS[1]}}}k") + pack("GET", TOGETHER[0]) + pack("GET", SPLIT[1] + "none"))
        assert wire.reply() == encode.bulk("over")
        reply = wire.reply()
        assert reply.startswith(b"-ERR the reply ")
        assert TOO_LARGE in reply
        assert wire.reply() == b"$-1\r\n"
        # In its turn it is passed on.
        assert wire.ask("GET", TOGETHER[0]) == encode.bulk(b"M" * VALUE)


def test_a_reply_over_a_dedicated_connection(shards: LocalShards, serve: Serve) -> None:
    """A transaction after WATCH, and what it did is not undone."""
    proxy = serve(config=limited(shards))
    one = f"{{{TAGS[0]}}}"
    with growth(proxy, 0, 40 * MB), Wire(proxy.address) as wire:
        assert wire.ask("SET", f"{one}n", 1) == OK
        assert wire.ask("WATCH", f"{one}n") == OK
        wire.send(pipeline(("MULTI",), ("INCR", f"{one}n"), ("MGET", *TOGETHER), ("EXEC",)))
        reply = wire.replies(4)[-1]
        assert reply.startswith(b"-ERR the command was carried out, but its reply ")
        assert TOO_LARGE in reply
        assert wire.ask("GET", f"{one}n") == encode.bulk("2")
        for _ in range(3):
            assert wire.ask("WATCH", f"{one}n") == OK
            wire.send(pipeline(("MULTI",), ("INCR", f"{one}n"), ("EXEC",)))
            assert wire.replies(3)[-1].startswith(b"*1\r\n:")


@pytest.mark.parametrize("name", ["KEYS", "MGET"])
def test_many_small_values_of_all_shards(shards: LocalShards, serve: Serve, name: str) -> None:
    proxy = serve(config=configured(shards))
    command = ("KEYS", "*") if name == "KEYS" else ("MGET", *(f"k{number}" for number in range(50_000)))
    with Wire(proxy.address) as wire:
        wire.send(pipeline(*(("SET", f"k{number}", f"value {number}") for number in range(50_000))))
        wire.replies(50_000)
        reply = wire.value(*command)
        assert isinstance(reply, list)
        if command[0] == "KEYS":
            assert {f"k{number}".encode() for number in range(50_000)} <= set(reply)
            assert len(reply) == len(set(reply))
        else:
            assert reply == [f"value {number}".encode() for number in range(50_000)]
        wire.ask("DEL", *(f"k{number}" for number in range(50_000)))
