"""What clients notice when servers die, hang and come back, when links break, and when clients misbehave."""

import contextlib
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from proxy.devservers.servers import LocalShards, find_server, start_many
from tests.live.busy_clients import BusyClients
from tests.support.fixtures import Serve
from tests.support.link_breaker import LinkBreaker
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess, metric, resident
from tests.support.site import shard_tags
from tests.support.wire import Argument, Wire, pack, pipeline, wait_until_refused

pytestmark = pytest.mark.live

FIRST, SECOND = shard_tags(2)
REQUEST_TIMEOUT = 1.5
RETRY_DEADLINE = 1.0
LARGE = 4_000_000


def configured(*shards: str | Sequence[str], head: str = "", limits: str = "", backend: str = "") -> str:
    """A configuration: each shard an address or (primary, replicas ...); times short enough for a test."""
    tables = []
    for shard in shards:
        primary, *replicas = [shard] if isinstance(shard, str) else shard
        tables.append(f"[[shards]]\nprimary = {primary!r}\nreplicas = {replicas!r}")
    return "\n".join(
        (
            head,
            "[backend]",
            'connect_timeout = "500ms"',
            f'request_timeout = "{REQUEST_TIMEOUT}s"',
            f'retry_deadline = "{RETRY_DEADLINE}s"',
            'backoff_min = "10ms"',
            'backoff_max = "100ms"',
            backend,
            "[limits]",
            limits,
            *tables,
        )
    )


@pytest.fixture
def shards() -> Iterator[LocalShards]:
    """Two shards without replicas."""
    with start_many(2, 0, binary=find_server()) as running:
        yield running


@pytest.fixture
def linked(shards: LocalShards, serve: Serve) -> Iterator[tuple[ProxyProcess, LinkBreaker]]:
    """A proxy before two shards, and the breakable link to the second one."""
    with LinkBreaker(shards.primaries[1].address) as link:
        # What primaries are asked every second would be late too, and hold up what comes behind it.
        head = "drain_timeout = '2s'\n[topology]\ncheck_roles = false"
        yield serve(config=configured(shards.primaries[0].address, link.address, head=head)), link


def reads(rng: random.Random) -> list[tuple[Argument, ...]]:
    """Some GETs on both shards."""
    return [("GET", f"{{{rng.choice((FIRST, SECOND))}}}{rng.randrange(100)}") for _ in range(rng.choice((1, 20)))]


def fill(address: str) -> None:
    """Give every key of ``reads`` its name as its value."""
    with Wire(address) as wire:
        keys = [f"{{{tag}}}{number}" for tag in (FIRST, SECOND) for number in range(100)]
        wire.send(pipeline(*(("SET", key, key) for key in keys)))
        assert set(wire.replies(len(keys))) == {b"+OK\r\n"}


def own_name(command: tuple[Argument, ...], reply: bytes) -> bool:
    """Whether a GET of a filled key was answered with that key."""
    key = str(command[1])
    return reply == b"$%d\r\n%b\r\n" % (len(key), key.encode())


# ---- servers


@pytest.mark.smoke
def test_a_killed_server_is_its_shards_trouble_only(shards: LocalShards, serve: Serve) -> None:
    proxy = serve(config=configured(*(server.address for server in shards.primaries)))
    victim = shards.primaries[1]

    def ask(tag: str) -> list[tuple[Argument, ...]]:
        return [("INCR", f"{{{tag}}}n"), ("GET", f"{{{tag}}}n")] * 5

    with (
        BusyClients(proxy.address, lambda _: ask(FIRST)) as first,
        BusyClients(proxy.address, lambda _: ask(SECOND)) as second,
    ):
        first.wait(500)
        second.wait(500)
        victim.kill()
        # Held first, refused then; the other shard does not notice.
        first.wait(2000)
        assert eventually(lambda: any(error.startswith("SHARDDOWN") for error in second.errors))
        status, text = proxy.http("/readyz?all")
        assert (status, "shard-2" in text) == (503, True)
        victim.start()
        second.wait(500)
        assert proxy.http("/readyz?all")[0] == 200
    assert not first.errors
    assert not first.broken
    assert not second.broken
    assert all(
        re.match(rf"(SHARDDOWN|UNCERTAIN) shard 'shard-2' \({victim.address}\)", error) for error in second.errors
    )


def test_a_script_that_never_ends_can_be_killed(serve: Serve) -> None:
    """A server that answers BUSY is alive: clients get that answer, and SCRIPT KILL reaches it."""
    with start_many(2, 0, binary=find_server(), options=("lua-time-limit 100",)) as shards:
        proxy = serve(config=configured(*(server.address for server in shards.primaries)))
        with Wire(proxy.address) as stuck, Wire(proxy.address) as other:
            stuck.send(pack("EVAL", "while true do end", 1, f"{{{SECOND}}}k"))
            assert stuck.reply().startswith(b"-UNCERTAIN ")
            assert eventually(lambda: other.ask("GET", f"{{{SECOND}}}k").startswith(b"-BUSY "), 5)
            assert other.ask("SCRIPT", "KILL") == b"+OK\r\n"
            # It ends when it next looks whether it was killed.
            assert eventually(lambda: other.ask("GET", f"{{{SECOND}}}k") == b"$-1\r\n")


def test_a_hanging_server_times_out_and_late_replies_reach_nobody(shards: LocalShards, serve: Serve) -> None:
    proxy = serve(config=configured(*(server.address for server in shards.primaries)))
    fill(proxy.address)
    with Wire(proxy.address) as read, Wire(proxy.address) as write, Wire(proxy.address) as other:
        assert write.ask("SET", f"{{{SECOND}}}counter", 0) == b"+OK\r\n"
        shards.primaries[1].pause()
        started = time.monotonic()
        read.send(pack("GET", f"{{{SECOND}}}1"))
        write.send(pack("INCR", f"{{{SECOND}}}counter"))
        assert other.ask("GET", f"{{{FIRST}}}1") == b"$5\r\n{%b}1\r\n" % FIRST.encode()
        assert re.match(rb"-TIMEOUT shard 'shard-2' \(.+\) did not answer within 1\.5 s\r\n", read.reply())
        assert re.match(rb"-UNCERTAIN shard 'shard-2' \(.+\) did not answer within 1.5 s", write.reply())
        assert REQUEST_TIMEOUT <= time.monotonic() - started < REQUEST_TIMEOUT + 1.0
        assert re.match(
            rb"-SHARDDOWN shard 'shard-2' \(.+\) can not be reached: no answer within \S+ s\. ",
            other.ask("SCRIPT", "KILL"),
        )
        shards.primaries[1].resume()
        with BusyClients(proxy.address, reads, right=own_name) as load:
            load.wait(500)
        assert not load.wrong
        assert int(write.ask("GET", f"{{{SECOND}}}counter").split(b"\r\n")[1]) in (0, 1)
        assert read.ask("GET", f"{{{SECOND}}}2") == b"$5\r\n{%b}2\r\n" % SECOND.encode()


@pytest.mark.drill
def test_a_server_that_is_down_at_the_start(shards: LocalShards, serve: Serve) -> None:
    late = shards.primaries[1]
    late.kill()
    proxy = serve(config=configured(*(server.address for server in shards.primaries)), ready=False)
    status, text = proxy.http("/readyz?all")
    assert (status, text) == (503, "no reachable primary in: shard-2\n")
    with Wire(proxy.address) as wire:
        assert wire.ask("SET", f"{{{FIRST}}}k", 1) == b"+OK\r\n"
        assert wire.ask("SET", f"{{{SECOND}}}k", 1).startswith(
            b"-SHARDDOWN shard 'shard-2' (%b)" % late.address.encode()
        )
        assert wire.ask("MGET", f"{{{FIRST}}}k", f"{{{SECOND}}}k").startswith(b"-SHARDDOWN shard 'shard-2'")
        assert wire.ask("MSET", f"{{{FIRST}}}k", 2, f"{{{SECOND}}}k", 2).startswith(b"-UNCERTAIN partial: SHARDDOWN")
        assert wire.ask("DBSIZE").startswith(b"-SHARDDOWN shard 'shard-2'")
        late.start()
        assert eventually(lambda: proxy.http("/readyz?all")[0] == 200)
        assert wire.ask("SET", f"{{{SECOND}}}k", 1) == b"+OK\r\n"


def test_a_shard_holds_then_fails_fast_then_recovers(linked: tuple[ProxyProcess, LinkBreaker]) -> None:
    proxy, link = linked
    with Wire(proxy.address) as wire:
        assert wire.ask("SET", f"{{{SECOND}}}k", 1) == b"+OK\r\n"
        link.shut()
        threading.Timer(0.2, link.open).start()
        started = time.monotonic()
        assert wire.ask("SET", f"{{{SECOND}}}k", 2) == b"+OK\r\n"  # latency, no error
        assert 0.1 < time.monotonic() - started < RETRY_DEADLINE
        link.shut()
        started = time.monotonic()
        assert wire.ask("GET", f"{{{SECOND}}}k").startswith(b"-SHARDDOWN shard 'shard-2'")
        assert RETRY_DEADLINE * 0.9 <= time.monotonic() - started < RETRY_DEADLINE + 0.5
        started = time.monotonic()
        for _ in range(20):
            assert wire.ask("SET", f"{{{SECOND}}}k", 3).startswith(b"-SHARDDOWN shard 'shard-2'")
        assert time.monotonic() - started < RETRY_DEADLINE / 2
        link.open()
        assert eventually(lambda: wire.ask("GET", f"{{{SECOND}}}k") == b"$1\r\n2\r\n")


def test_a_replica_that_dies_is_not_noticed(serve: Serve) -> None:
    with start_many(1, 2, binary=find_server()) as shards:
        (primary,), (replicas,) = shards.primaries, shards.replicas
        addresses = (primary.address, *(replica.address for replica in replicas))
        proxy = serve(config=configured(addresses, head='read_from = "prefer_replica"'))
        fill(proxy.address)
        assert eventually(lambda: all(replica.ask("DBSIZE") == 200 for replica in replicas))
        with BusyClients(proxy.address, reads, right=own_name, clients=6) as load:
            load.wait(1000)
            for replica in replicas:
                replica.kill()
                load.wait(2000)
            replicas[0].start()
            load.wait(2000)
        assert not load.errors
        assert not load.wrong
        assert not load.broken


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("", "the server asks for a password: set backend.password"),
        ("wr0ng-one", "the server refuses the proxy's AUTH"),
    ],
)
def test_a_password_that_the_servers_refuse(serve: Serve, password: str, words: str) -> None:
    with start_many(1, 0, binary=find_server(), password="s3cret-one") as shards:
        backend = f"password = {password!r}" if password else ""
        proxy = serve(config=configured(shards.primaries[0].address, backend=backend), ready=False)
        with Wire(proxy.address) as wire:
            reply = wire.ask("GET", "k")
            assert reply.startswith(b"-SHARDDOWN shard 'shard-1'")
            assert words.encode() in reply
            assert words in proxy.log
            assert "wr0ng-one" not in proxy.log
            assert proxy.http("/readyz?all")[0] == 503
            shards.primaries[0].ask("CONFIG", "SET", "requirepass", password)
            assert eventually(lambda: wire.ask("SET", "k", 1) == b"+OK\r\n")


# ---- links


@pytest.mark.smoke
def test_reads_over_a_link_that_breaks_have_no_error(linked: tuple[ProxyProcess, LinkBreaker]) -> None:
    proxy, link = linked
    fill(proxy.address)
    with BusyClients(proxy.address, reads, right=own_name) as load:
        for _ in range(10):
            load.wait(200)
            link.cut()
        load.wait(200)
    assert not load.errors
    assert not load.wrong
    assert not load.broken
    assert metric(proxy, "slotgate_backend_reconnects_total", shard="shard-2") >= 5


def test_writes_over_a_link_that_breaks_are_never_done_twice(linked: tuple[ProxyProcess, LinkBreaker]) -> None:
    proxy, link = linked
    keys = [f"{{{tag}}}{number}" for tag in (FIRST, SECOND) for number in range(5)]
    sent: list[str] = []

    def ask(rng: random.Random) -> list[tuple[Argument, ...]]:
        commands: list[tuple[Argument, ...]] = [("INCR", rng.choice(keys)) for _ in range(rng.choice((1, 50)))]
        sent.extend(str(key) for _, key in commands)
        return commands

    with BusyClients(proxy.address, ask) as load:
        for _ in range(10):
            load.wait(200)
            link.cut()
        load.wait(200)
    uncertain = sum(count for error, count in load.errors.items() if error.startswith("UNCERTAIN shard 'shard-2'"))
    refused = sum(count for error, count in load.errors.items() if error.startswith("SHARDDOWN shard 'shard-2'"))
    assert uncertain + refused == sum(load.errors.values())
    assert uncertain > 0
    assert not load.broken
    assert load.replies + uncertain + refused == len(sent)
    with Wire(proxy.address) as wire:
        wire.send(pipeline(*(("GET", key) for key in keys)))
        total = sum(int(reply.split(b"\r\n")[1]) for reply in wire.replies(len(keys)))
    assert load.replies <= total <= load.replies + uncertain


@pytest.mark.drill
def test_replies_that_are_late_are_dropped_and_the_connection_kept(linked: tuple[ProxyProcess, LinkBreaker]) -> None:
    proxy, link = linked
    fill(proxy.address)
    wires = [Wire(proxy.address) for _ in range(30)]
    for number, wire in enumerate(wires):
        # First late enough to be awaited, then too late; in between the connection is never silent for long.
        link.delay(0.9 if number < 6 else 1.9)
        wire.send(pack("GET", f"{{{SECOND}}}{number}"))
        time.sleep(0.1)
    for number, wire in enumerate(wires):
        reply = wire.reply()
        if number < 6:
            assert own_name(("GET", f"{{{SECOND}}}{number}"), reply)
        else:
            assert reply.startswith(b"-TIMEOUT shard 'shard-2'")
    link.delay(0.0)
    for number, wire in enumerate(wires):
        wire.send(pack("GET", f"{{{SECOND}}}{number + 50}"))
    for number, wire in enumerate(wires):
        assert own_name(("GET", f"{{{SECOND}}}{number + 50}"), wire.reply())
        wire.close()
    assert metric(proxy, "slotgate_backend_reconnects_total", shard="shard-2") == 0


def test_a_large_reply_that_breaks_off_closes_the_client(linked: tuple[ProxyProcess, LinkBreaker]) -> None:
    proxy, link = linked
    fill(proxy.address)
    with Wire(proxy.address) as wire, Wire(proxy.address) as other:
        assert wire.ask("SET", f"{{{SECOND}}}large", b"v" * LARGE) == b"+OK\r\n"
        link.cut_after(LARGE // 2)
        wire.send(pipeline(("GET", f"{{{SECOND}}}large"), ("GET", f"{{{SECOND}}}1"), ("PING",)))
        got = wire.rest()
        head = b"$%d\r\n" % LARGE
        assert got == (head + b"v" * LARGE)[: len(got)]
        assert len(head) < len(got) < LARGE
        assert own_name(("GET", f"{{{SECOND}}}2"), other.ask("GET", f"{{{SECOND}}}2"))
        assert len(other.ask("GET", f"{{{SECOND}}}large")) > LARGE


@pytest.mark.drill
def test_a_stalled_link_holds_up_nobody_else(linked: tuple[ProxyProcess, LinkBreaker]) -> None:
    proxy, link = linked
    fill(proxy.address)
    link.stall()
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(Wire(proxy.address)) for _ in range(20)]
        for wire in waiting:
            wire.send(pipeline(*[("SET", f"{{{SECOND}}}big", b"v" * 500_000)] * 4))
        with BusyClients(proxy.address, lambda _: [("GET", f"{{{FIRST}}}1")]) as load:
            load.wait(1000)
        assert not load.errors
        for wire in waiting:
            errors = {reply.split()[0] for reply in wire.replies(4)}
            assert errors <= {b"-UNCERTAIN", b"-SHARDDOWN"}
        link.flow()
        assert eventually(lambda: waiting[0].ask("SET", f"{{{SECOND}}}big", 1) == b"+OK\r\n")
    assert eventually(lambda: metric(proxy, "slotgate_backend_in_flight") == 0)
    assert eventually(lambda: metric(proxy, "slotgate_clients") == 0)


# ---- clients


@pytest.mark.drill
def test_a_client_that_does_not_read_is_not_read_from(shards: LocalShards, serve: Serve) -> None:
    limits = 'max_in_flight = 16\noutput_soft = "1mb"'
    proxy = serve(config=configured(*(server.address for server in shards.primaries), limits=limits))
    fill(proxy.address)
    size, count = 1_000_000, 300
    with Wire(proxy.address) as slow:
        assert slow.ask("SET", f"{{{SECOND}}}large", b"v" * size) == b"+OK\r\n"
        before = resident(proxy)
        slow.send(pipeline(*[("GET", f"{{{SECOND}}}large")] * count))
        with BusyClients(proxy.address, reads, right=own_name) as load:
            load.wait(5000)
        assert resident(proxy) - before < 100_000_000
        assert not load.errors
        assert not load.wrong
        assert all(len(reply) == size + len(b"$1000000\r\n\r\n") for reply in slow.replies(count))


@pytest.mark.drill
def test_a_client_that_lets_too_much_pile_up_is_closed(shards: LocalShards, serve: Serve) -> None:
    limits = 'output_soft = "1mb"\noutput_hard = "32mb"'
    proxy = serve(config=configured(*(server.address for server in shards.primaries), limits=limits))
    fill(proxy.address)
    with Wire(proxy.address) as slow:
        # Too small to be passed on in pieces at the reader's speed.
        assert slow.ask("SET", f"{{{SECOND}}}large", b"v" * 50_000) == b"+OK\r\n"
        before = resident(proxy)
        slow.send(pipeline(*[("GET", f"{{{SECOND}}}large")] * 3000))
        with BusyClients(proxy.address, reads, right=own_name) as load:
            assert eventually(lambda: metric(proxy, "slotgate_clients_rejected_total", reason="output limit") == 1)
            load.wait(1000)
        assert "reason='output limit'" in proxy.log
        assert resident(proxy) - before < 100_000_000
        assert not load.errors
        assert len(slow.rest()) < 64_000_000


def test_garbage_disturbs_nobody(shards: LocalShards, serve: Serve) -> None:
    proxy = serve(config=configured(*(server.address for server in shards.primaries)))
    fill(proxy.address)
    rng = random.Random(1)
    whole = pipeline(("SET", f"{{{FIRST}}}x", "v" * 50), ("MGET", "a", "b"), ("EVAL", "return 1", 0), ("HELLO", 3))
    with BusyClients(proxy.address, reads, right=own_name) as load:
        for number in range(300):
            garbage = bytearray(whole * 3)
            for _ in range(rng.randrange(1, 8)):
                garbage[rng.randrange(len(garbage))] = rng.randrange(256)
            if number % 3 == 0:
                garbage = bytearray(rng.randbytes(rng.randrange(1, 3000)))
            with contextlib.suppress(ConnectionError), Wire(proxy.address) as wire:
                wire.send(bytes(garbage[: rng.randrange(1, len(garbage) + 1)]))
                if rng.random() < 0.5:
                    wire.silent(0.005)
        load.wait(500)
    assert not load.errors
    assert not load.wrong
    assert not load.broken
    assert metric(proxy, "slotgate_clients_rejected_total", reason="protocol error") > 10
    assert eventually(lambda: metric(proxy, "slotgate_clients") == 0)
    assert metric(proxy, "slotgate_backend_reconnects_total") == 0


def test_clients_that_vanish_leave_nothing_behind(linked: tuple[ProxyProcess, LinkBreaker]) -> None:
    proxy, link = linked
    fill(proxy.address)
    link.delay(0.2)
    for number in range(50):
        with Wire(proxy.address) as wire:
            wire.send(pipeline(*[("GET", f"{{{tag}}}{number}") for tag in (FIRST, SECOND)] * 10))
    link.delay(0.0)
    with BusyClients(proxy.address, reads, right=own_name) as load:
        load.wait(500)
    assert not load.wrong
    assert not load.errors
    assert eventually(lambda: metric(proxy, "slotgate_backend_in_flight") == 0)
    assert eventually(lambda: metric(proxy, "slotgate_clients") == 0)


# ---- the proxy


@pytest.mark.smoke
def test_sigterm_answers_what_is_in_flight(linked: tuple[ProxyProcess, LinkBreaker]) -> None:
    proxy, link = linked
    with Wire(proxy.address) as busy, Wire(proxy.address) as idle, Wire(proxy.address) as half:
        assert idle.ask("PING") == b"+PONG\r\n"
        link.delay(0.4)
        busy.send(pipeline(*[("INCR", f"{{{SECOND}}}n")] * 500))
        half.send(pack("INCR", f"{{{SECOND}}}m") + b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$999999\r\n" + b"v" * 1000)
        time.sleep(0.1)
        stopping = threading.Thread(target=proxy.stop)
        stopping.start()
        wait_until_refused(proxy.address)
        assert idle.closed()
        assert busy.rest() == b"".join(b":%d\r\n" % number for number in range(1, 501))
        assert half.rest() == b":1\r\n"
        stopping.join()


def test_a_killed_proxy_is_started_again(shards: LocalShards, serve: Serve) -> None:
    arguments = ("--static", shards.static)
    proxy = serve(*arguments)
    fill(proxy.address)
    with Wire(proxy.address) as before:
        assert before.ask("PING") == b"+PONG\r\n"
        proxy.kill()
        assert before.closed()
    again = serve(*arguments, listen=proxy.address)
    with BusyClients(again.address, reads, right=own_name) as load:
        load.wait(500)
    assert not load.errors
    assert not load.wrong


def test_a_proxy_ends_although_a_server_hangs_and_a_client_does_not_read(shards: LocalShards, serve: Serve) -> None:
    head = 'drain_timeout = "500ms"'
    proxy = serve(config=configured(*(server.address for server in shards.primaries), head=head))
    with Wire(proxy.address) as held, Wire(proxy.address) as deaf:
        assert deaf.ask("SET", f"{{{FIRST}}}large", b"v" * LARGE) == b"+OK\r\n"
        shards.primaries[1].pause()
        held.send(pack("INCR", f"{{{SECOND}}}n"))
        deaf.send(pipeline(*[("GET", f"{{{FIRST}}}large")] * 20))
        time.sleep(0.2)
        started = time.monotonic()
        proxy.stop()
        assert time.monotonic() - started < 3.0
