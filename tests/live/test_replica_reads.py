"""Replicas that die, hang, lag, lose their link, or are far away: reads go where they should, and nobody gets an error.

The link between a primary and its replica is one that the test can slow down, stall and cut.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from proxy.devservers.sentinel import start_watched
from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, start_many
from tests.live.busy_clients import BusyClients
from tests.support.drilled import drilled
from tests.support.fixtures import Serve
from tests.support.link_breaker import LinkBreaker
from tests.support.processes import within
from tests.support.proxy_process import ProxyProcess
from tests.support.site import commands_seen, shard_tags
from tests.support.wire import Argument, Wire, pack

pytestmark = pytest.mark.live

MOST = 1.0
"""``max_replica_lag`` here, in seconds."""
SOON = MOST + 1.0
"""By then reads have moved away."""
OK = b"+OK\r\n"
KEYS = 100
TAGS = shard_tags(2)


class Pair:
    """A primary, a replica, and the ``link`` by which the replica follows."""

    def __init__(self, primary: LocalServer, replica: LocalServer, link: LinkBreaker) -> None:
        self.primary = primary
        self.replica = replica
        self.link = link

    @property
    def static(self) -> str:
        return f"{self.primary.address}/{self.replica.address}"


@contextlib.contextmanager
def paired(binary: ServerBinary, directory: Path, password: str = "") -> Iterator[Pair]:
    with ExitStack() as stack:
        primary = LocalServer(binary, directory, password=password, options=["enable-debug-command yes"])
        stack.callback(primary.stop)
        primary.start()
        link = stack.enter_context(LinkBreaker(primary.address))
        host, _, port = link.address.rpartition(":")
        options = [f"replicaof {host} {port}"]
        replica = LocalServer(binary, directory, password=password, options=options)
        stack.callback(replica.stop)
        replica.start()
        replica.wait_link_up()
        yield Pair(primary, replica, link)


@pytest.fixture
def pair(binary: ServerBinary, tmp_path: Path) -> Iterator[Pair]:
    with paired(binary, tmp_path) as made:
        yield made


@pytest.fixture
def flock(binary: ServerBinary) -> Iterator[LocalShards]:
    """One primary and two replicas, which may be maltreated."""
    with start_many(1, 2, binary=binary) as shards:
        yield shards


def reading(serve: Serve, static: str, policy: str = "prefer_replica", **settings: str) -> ProxyProcess:
    environment = {f"SLOTGATE_{name.upper()}": value for name, value in settings.items()}
    environment.setdefault("SLOTGATE_MAX_REPLICA_LAG", f"{MOST}s")
    return serve("--static", static, "--read-from", policy, environment=environment)


def gets(server: LocalServer) -> int:
    """How many keys were read there one by one."""
    return commands_seen(server).get("get", 0)


def takes(proxy: ProxyProcess, server: LocalServer) -> bool:
    """Whether ``server`` is asked by one of many new clients."""
    before = gets(server)
    for _ in range(6):
        with Wire(proxy.address) as wire:
            wire.ask("GET", "k")
    return gets(server) > before


def lag(proxy: ProxyProcess, server: LocalServer) -> float:
    """As /metrics has it; infinite until it is known."""
    lines = proxy.http("/metrics")[1].splitlines()
    sample = f'slotgate_replica_lag_seconds{{address="{server.address}",shard="shard-1",worker="0"}} '
    return next((float(line.removeprefix(sample)) for line in lines if line.startswith(sample)), math.inf)


def settle(primary: LocalServer, replicas: int) -> None:
    """Wait until so many replicas have all that was written."""
    with Wire(primary.address) as wire:
        # WAIT waits for what was written over its own connection, and so for all that came before.
        assert wire.ask("SET", "settled", 1) == OK
        assert wire.value("WAIT", replicas, 5000) == replicas


def fill(primary: LocalServer, replicas: int) -> None:
    """Write keys that say their own number."""
    with Wire(primary.address) as wire:
        wire.send(b"".join(pack("SET", f"k{number}", number) for number in range(KEYS)))
        assert wire.replies(KEYS) == [OK] * KEYS
    settle(primary, replicas)


def reads(rng: Random) -> list[tuple[Argument, ...]]:
    return [("GET", f"k{rng.randrange(KEYS)}") for _ in range(10)]


def own_number(command: tuple[Argument, ...], reply: bytes) -> bool:
    number = str(command[1])[1:]
    return reply == f"${len(number)}\r\n{number}\r\n".encode()


def clean(load: BusyClients) -> None:
    assert not load.errors
    assert not load.wrong
    assert not load.broken


# ---- death and silence


@pytest.mark.parametrize("policy", ["prefer_replica", drilled("any"), drilled("nearest")])
def test_a_replica_that_hangs(flock: LocalShards, serve: Serve, policy: str) -> None:
    """What it was asked is answered by others, and what it says after all by nobody's reply."""
    (replicas,) = flock.replicas
    proxy = reading(serve, flock.static, policy)
    fill(flock.primaries[0], 2)
    with BusyClients(proxy.address, reads, right=own_number, clients=6) as load:
        load.wait(2000)
        replicas[0].pause()
        try:
            time.sleep(SOON)
            load.wait(2000, timeout=1.0)
            assert f"address={replicas[0].address} reason='it has not answered for" in proxy.log
        finally:
            replicas[0].resume()
        if policy != "nearest":
            within(lambda: gets(replicas[0]) > 0 and takes(proxy, replicas[0]))
        load.wait(2000)
    clean(load)


def test_no_client_waits_longer_than_it_takes_to_see_that_a_replica_hangs(flock: LocalShards, serve: Serve) -> None:
    (replicas,) = flock.replicas
    proxy = reading(serve, flock.static)
    fill(flock.primaries[0], 2)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(proxy.address)) for _ in range(8)]
        within(lambda: all(takes(proxy, replica) for replica in replicas))
        replicas[0].pause()
        stack.callback(replicas[0].resume)
        begun = time.monotonic()
        for wire in wires:
            wire.send(b"".join(pack("GET", f"k{number}") for number in range(KEYS)))
        for wire in wires:
            found = wire.replies(KEYS)
            assert found == [f"${len(str(number))}\r\n{number}\r\n".encode() for number in range(KEYS)]
        assert MOST / 2 < time.monotonic() - begun < SOON


def test_replicas_that_die_one_after_the_other(flock: LocalShards, serve: Serve) -> None:
    (replicas,) = flock.replicas
    proxy = reading(serve, flock.static)
    fill(flock.primaries[0], 2)
    with BusyClients(proxy.address, reads, right=own_number, clients=6) as load:
        load.wait(1000)
        for replica in replicas:
            replica.kill()
            load.wait(2000, timeout=SOON)
        replicas[1].start()
        within(lambda: takes(proxy, replicas[1]))
        load.wait(1000)
    clean(load)


# ---- lag


def test_a_replica_that_lags(pair: Pair, serve: Serve) -> None:
    """Its link stands and it answers, only its data is old: it is not read from until it has caught up."""
    proxy = reading(serve, pair.static)
    with Wire(proxy.address) as wire:
        wire.ask("SET", "k", "old")
        settle(pair.primary, 1)
        assert takes(proxy, pair.replica)
        within(lambda: lag(proxy, pair.replica) == 0.0)
        pair.link.stall()
        assert wire.ask("SET", "k", "new") == OK
        assert wire.value("GET", "k") == b"old"
        took = within(lambda: wire.value("GET", "k") == b"new")
        assert MOST / 2 < took < SOON
        assert not takes(proxy, pair.replica)
        assert pair.replica.info("replication")["master_link_status"] == "up"
        assert lag(proxy, pair.replica) > MOST
        assert f"address={pair.replica.address} reason='it is 1." in proxy.log
        pair.link.flow()
        within(lambda: takes(proxy, pair.replica))
        assert wire.value("GET", "k") == b"new"
        assert lag(proxy, pair.replica) < MOST
        assert f"server is fit for reads again shard=shard-1 address={pair.replica.address}" in proxy.log


@pytest.mark.drill
def test_a_replica_that_is_always_a_little_behind_is_read_from(pair: Pair, serve: Serve) -> None:
    pair.link.delay(0.3)
    proxy = reading(serve, pair.static)
    with BusyClients(proxy.address, lambda rng: [("SET", f"k{rng.randrange(KEYS)}", 1)], clients=2) as load:
        for _ in range(8):
            load.wait(10)
            time.sleep(0.2)
            assert takes(proxy, pair.replica)
        assert 0.0 < lag(proxy, pair.replica) < MOST
    clean(load)
    assert "not fit" not in proxy.log


def test_a_replica_without_its_link(pair: Pair, serve: Serve) -> None:
    """Nobody writes, so its data is not old; but nobody knows for how long."""
    proxy = reading(serve, pair.static)
    within(lambda: takes(proxy, pair.replica))
    pair.link.shut()
    assert within(lambda: not takes(proxy, pair.replica)) < SOON
    assert "reason='its link to its primary is down'" in proxy.log
    pair.link.open()
    within(lambda: takes(proxy, pair.replica))


def test_where_only_replicas_may_answer_a_lost_link_is_an_error_once_the_data_is_old(pair: Pair, serve: Serve) -> None:
    proxy = reading(serve, pair.static, "replica")
    with Wire(proxy.address) as wire:
        wire.ask("SET", "k", "v")
        within(lambda: wire.value("GET", "k") == b"v")
        pair.link.shut()
        within(lambda: pair.replica.info("replication")["master_link_status"] == "down")
        assert wire.value("GET", "k") == b"v"
        took = within(lambda: wire.ask("GET", "k")[:1] == b"-")
        assert MOST / 2 < took < SOON
        assert wire.ask("GET", "k") == (
            b"-SHARDDOWN shard 'shard-1' has no replica that is fit for reads and read_from is \"replica\": "
            b"%b: its link to its primary is down. Nothing was executed\r\n" % pair.replica.address.encode()
        )
        assert wire.ask("SET", "k", "w") == OK
        pair.link.open()
        within(lambda: wire.value("GET", "k") == b"w")


def test_a_replica_that_follows_nobody_any_more(pair: Pair, serve: Serve) -> None:
    proxy = reading(serve, pair.static)
    within(lambda: takes(proxy, pair.replica))
    pair.replica.ask("REPLICAOF", "NO", "ONE")
    assert within(lambda: not takes(proxy, pair.replica)) < SOON
    assert "reason='it says that it is a primary and follows nobody'" in proxy.log


# ---- passwords


def test_servers_with_a_password_are_watched(binary: ServerBinary, tmp_path: Path, serve: Serve) -> None:
    with paired(binary, tmp_path, "s3cret") as pair:
        proxy = reading(serve, pair.static, backend__password="s3cret")
        within(lambda: lag(proxy, pair.replica) == 0.0)
        pair.link.shut()
        within(lambda: "reason='its link to its primary is down'" in proxy.log)


def test_a_user_who_may_not_ask_for_the_role(pair: Pair, serve: Serve) -> None:
    """The lag is not known, which the log says once; the replica is used."""
    for server in (pair.primary, pair.replica):
        server.ask("ACL", "SETUSER", "reader", "on", ">word", "~*", "+@all", "-role")
    proxy = reading(serve, pair.static, backend__username="reader", backend__password="word")
    assert takes(proxy, pair.replica)
    time.sleep(1.0)
    assert takes(proxy, pair.replica)
    assert proxy.log.count("does not tell its role") == 2  # one line each for the primary and the replica


# ---- nearest


@pytest.mark.drill
def test_the_nearest_is_read_from(flock: LocalShards, serve: Serve) -> None:
    with ExitStack() as stack:
        links = [stack.enter_context(LinkBreaker(server.address)) for server in flock.servers]
        delays = (0.06, 0.03, 0.0)
        for link, delay in zip(links, delays, strict=True):
            link.delay(delay)
        proxy = reading(serve, "/".join(link.address for link in links), "nearest")

        def asked() -> list[bool]:
            before = [gets(server) for server in flock.servers]
            for _ in range(8):
                with Wire(proxy.address) as wire:
                    wire.ask("GET", "k")
            return [gets(server) > count for server, count in zip(flock.servers, before, strict=True)]

        within(lambda: asked() == [False, False, True])
        assert asked() == [False, False, True]
        # One that becomes nearer, the primary too, is read from; those that are as near share.
        links[2].delay(0.1)
        links[0].delay(0.0)
        within(lambda: asked() == [True, False, False])
        links[1].delay(0.0)
        within(lambda: asked() == [True, True, False])
        # The nearest replica that is not fit is no use.
        links[0].delay(0.05)
        within(lambda: asked() == [False, True, False])
        flock.servers[1].pause()
        stack.callback(flock.servers[1].resume)
        begun = time.monotonic()
        with Wire(proxy.address) as wire:
            assert wire.ask("GET", "k") == b"$-1\r\n"
        assert time.monotonic() - begun < SOON


# ---- read_your_writes


@pytest.fixture
def pairs(binary: ServerBinary, tmp_path: Path) -> Iterator[list[Pair]]:
    """Two shards whose replicas are 300 ms behind."""
    with ExitStack() as stack:
        made = [stack.enter_context(paired(binary, tmp_path)) for _ in range(2)]
        for pair in made:
            pair.link.delay(0.3)
        yield made


def test_a_client_reads_its_writes(pairs: list[Pair], serve: Serve) -> None:
    """By whatever commands it writes and reads, one by one or pipelined; the others read the replicas."""
    proxy = reading(serve, ",".join(pair.static for pair in pairs), read_your_writes="1s")
    one, two = (f"{{{tag}}}k" for tag in TAGS)
    stale = 0
    with Wire(proxy.address) as writer, Wire(proxy.address) as other:
        for number in range(8):
            value = str(number).encode()
            assert writer.ask("SET", one, number) == OK
            assert writer.value("GET", one) == value
            stale += other.value("GET", one) != value
            assert writer.ask("MSET", one, -number, two, number) == OK
            assert writer.value("MGET", two, one, two) == [value, b"%d" % -number, value]
            stale += other.value("MGET", one, two) != [b"%d" % -number, value]
            assert writer.ask("EVAL", "return redis.call('APPEND', KEYS[1], ARGV[1])", 1, two, "x")[:1] == b":"
            assert writer.value("GETRANGE", two, 0, -1) == value + b"x"
            writer.send(pack("SET", two, "y") + pack("STRLEN", two) + pack("DEL", one, two) + pack("EXISTS", one, two))
            assert writer.replies(4) == [OK, b":1\r\n", b":2\r\n", b":0\r\n"]
            writer.send(b"set %b 7\r\n" % one.encode())
            assert writer.reply() == OK
            assert writer.value("GET", one) == b"7"
            time.sleep(0.1)
    assert stale > 4


def test_reads_of_other_shards_and_later_reads_go_to_replicas(pairs: list[Pair], serve: Serve) -> None:
    proxy = reading(serve, ",".join(pair.static for pair in pairs), read_your_writes="700ms")
    one, two = (f"{{{tag}}}k" for tag in TAGS)
    seen = [gets(pair.replica) for pair in pairs]
    with Wire(proxy.address) as wire:
        assert wire.ask("SET", one, 1) == OK
        for key in (one, two):
            wire.ask("GET", key)
        assert [gets(pair.replica) - count for pair, count in zip(pairs, seen, strict=True)] == [0, 1]
        time.sleep(0.8)
        assert wire.value("GET", one) == b"1"
        assert [gets(pair.replica) - count for pair, count in zip(pairs, seen, strict=True)] == [1, 1]


def test_without_it_a_client_may_read_what_was_before(pairs: list[Pair], serve: Serve) -> None:
    proxy = reading(serve, ",".join(pair.static for pair in pairs))
    with Wire(proxy.address) as wire:
        assert wire.ask("SET", "fresh", 1) == OK
        assert wire.value("GET", "fresh") is None


def test_a_write_that_was_held_is_read_by_who_wrote_it(pairs: list[Pair], serve: Serve) -> None:
    """The while begins when the write is answered, however long that took."""
    pair = pairs[0]
    proxy = reading(serve, pair.static, read_your_writes="500ms")
    with Wire(proxy.address) as wire:
        for number in range(3):
            # The primary does nothing for longer than the while is.
            with Wire(pair.primary.address) as hog:
                hog.send(pack("DEBUG", "SLEEP", "0.8"))
                time.sleep(0.1)
                assert wire.ask("SET", "k", number) == OK
                assert wire.value("GET", "k") == b"%d" % number
                assert hog.reply() == OK


@pytest.mark.drill
def test_a_replica_that_hangs_and_is_dropped_by_the_sentinels(binary: ServerBinary, serve: Serve) -> None:
    """What it was asked waits neither for the greatest lag nor for the request's timeout."""
    with start_watched(1, 2, binary=binary, down_after=1.0) as watched, ExitStack() as stack:
        (name,) = watched.names
        replica = watched.replicas(name)[0]
        fill(watched.primary(name), 2)
        environment = {"SLOTGATE_MAX_REPLICA_LAG": "60s"}
        flags = ("--sentinel", watched.sentinel_addresses, "--masters", watched.masters)
        proxy = serve(*flags, "--read-from", "prefer_replica", environment=environment)
        wires = [stack.enter_context(Wire(proxy.address)) for _ in range(6)]
        within(lambda: takes(proxy, replica))
        replica.pause()
        stack.callback(replica.resume)
        begun = time.monotonic()
        for wire in wires:
            wire.send(b"".join(pack("GET", f"k{number}") for number in range(KEYS)))
        for wire in wires:
            found = wire.replies(KEYS)
            assert found == [f"${len(str(number))}\r\n{number}\r\n".encode() for number in range(KEYS)]
        assert 0.5 < time.monotonic() - begun < 8.0
        assert "not fit" not in proxy.log
