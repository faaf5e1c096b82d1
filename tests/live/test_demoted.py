"""A server that is used as a primary and is a replica: behind a name that leads elsewhere now, or from the start."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.devservers.servers import LocalServer, ServerBinary, find_server, free_port, kept_directory, stop_all
from tests.live.counting import Counting
from tests.live.names import Names
from tests.support.drilled import drilled
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import commands_seen
from tests.support.wire import Wire, pack, pipeline

pytestmark = pytest.mark.live

NAME = "db.test"
KEYS = [f"key:{number}" for number in range(4)]
OLD, NEW = "127.0.0.2", "127.0.0.3"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two servers with one port at two addresses, the second a replica of the first, and the name of the first."""

    old: LocalServer
    new: LocalServer
    names: Names

    @property
    def name(self) -> str:
        """What the proxy is told."""
        return f"{NAME}:{self.old.port}"

    def configured(self, head: str = "", topology: str = "", replicas: str = "") -> str:
        """A configuration with one shard."""
        return f"""
            {head}
            [topology]
            {topology}
            [backend]
            connect_timeout = "1s"
            retry_deadline = "10s"
            [[shards]]
            primary = "{self.name}"
            {replicas}
        """

    def hand_over(self, *, told: bool = True) -> None:
        """The replica is promoted without the loss of a write, the old primary stays as its replica; ``told``: the name
        leads to the new one."""
        self.old.ask("FAILOVER", "TO", self.new.host, self.new.port)
        assert eventually(lambda: self.old.info("replication")["role"] == "slave")
        assert eventually(self.old.link_is_up)
        if told:
            self.tell()

    def tell(self) -> None:
        """The name leads to the new primary."""
        self.names.set(NAME, NEW)


@contextmanager
def paired(binary: ServerBinary, tmp_path: Path) -> Iterator[Pair]:
    """A pair of this kind of servers."""
    with kept_directory() as directory:
        port = free_port()
        servers: list[LocalServer] = []
        try:
            for host in (OLD, NEW):
                folder = directory / host
                folder.mkdir()
                primary = servers[0] if servers else None
                server = LocalServer(
                    binary, folder, port=port, replica_of=primary, options=(f"replica-announce-ip {host}",)
                )
                server.host = host
                servers.append(server)
                server.start()
            servers[1].wait_link_up()
            names = Names(tmp_path)
            names.set(NAME, OLD)
            yield Pair(servers[0], servers[1], names)
        finally:
            stop_all(servers)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with paired(find_server(), tmp_path) as found:
        yield found


def ready(proxy: ProxyProcess) -> bool:
    return proxy.http("/readyz?all")[0] == 200


# ---- behind a name


@pytest.mark.parametrize(
    ("workers", "topology"),
    [
        pytest.param(1, "", id="one worker"),
        drilled(1, "discover_replicas = true", name="replicas looked for"),
        drilled(2, 'refresh = "1h"', name="two workers"),
    ],
)
def test_a_handover_behind_a_name(pair: Pair, serve: Serve, workers: int, topology: str) -> None:
    """Latency, no error, no write lost, and nothing is read from the old one any more."""
    proxy = serve(config=pair.configured(f"workers = {workers}", topology), environment=pair.names.environment)
    with Counting(proxy.address, KEYS) as load, Wire(proxy.address) as reader:
        reader.ask("GET", KEYS[0])
        load.wait()
        pair.hand_over()
        load.wait()
        assert eventually(lambda: ready(proxy))
        # A worker in which nobody writes asks each second, however seldom the topology is looked at.
        time.sleep(1.5)
        pair.old.ask("CONFIG", "RESETSTAT")
        for key in KEYS * 10:
            assert reader.ask("GET", key).startswith(b"$")
        load.wait()
    assert not load.errors
    assert not load.wrong
    # What it replicates counts too, but nobody reads there.
    assert "get" not in commands_seen(pair.old)


def test_until_the_name_leads_elsewhere_nothing_is_served_and_readiness_says_why(pair: Pair, serve: Serve) -> None:
    proxy = serve(config=pair.configured(), environment=pair.names.environment)
    with Wire(proxy.address) as writer, Wire(proxy.address) as reader:
        assert writer.ask("SET", "k", "1") == b"+OK\r\n"
        pair.hand_over(told=False)
        before = int(pair.old.info("stats")["total_connections_received"])
        writer.send(pack("SET", "k", "2"))
        assert eventually(lambda: not ready(proxy))
        assert eventually(lambda: "no primary" in proxy.http("/readyz?all")[1])
        status, text = proxy.http("/readyz?all")
        assert (status, "shard-1: the server is no primary, it replicates 127.0.0.3" in text) == (503, True)
        reader.send(pack("GET", "k"))
        others = [Wire(proxy.address) for _ in range(30)]
        for each in others:
            each.send(pack("INCR", "n"))
        time.sleep(2)
        # Neither a write nor a read is answered; nor is the server asked all the time.
        writer.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            writer.reply()
        reader.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            reader.reply()
        assert int(pair.old.info("stats")["total_connections_received"]) - before < 40
        pair.tell()
        for wire in (writer, reader):
            wire.socket.settimeout(10)
        assert writer.reply() == b"+OK\r\n"
        assert reader.reply() in (b"$1\r\n1\r\n", b"$1\r\n2\r\n")
        assert sorted(each.reply() for each in others) == sorted(b":%d\r\n" % (n + 1) for n in range(30))
        for each in others:
            each.close()
        assert eventually(lambda: ready(proxy))
    assert pair.new.ask("GET", "k") == b"2"
    assert proxy.log.count("a server used as a primary says that it is a replica") < 5


def test_reads_leave_it_though_nobody_writes(pair: Pair, serve: Serve) -> None:
    proxy = serve(config=pair.configured("", 'refresh = "300ms"'), environment=pair.names.environment)
    with Wire(proxy.address) as wire:
        wire.ask("SET", "k", "1")
        pair.hand_over()
        pair.new.ask("SET", "k", "2")
        log = "a server used as a primary says that it is a replica"
        assert eventually(lambda: log in proxy.log)
        assert eventually(lambda: ready(proxy))
        pair.old.ask("CONFIG", "RESETSTAT")
        assert wire.ask("GET", "k") == b"$1\r\n2\r\n"
        assert "get" not in commands_seen(pair.old)


def test_every_kind_of_connection_leaves_it(pair: Pair, serve: Serve) -> None:
    head = "connections_per_node = 3"
    config = pair.configured("", 'refresh = "1h"').replace("[backend]", f"[backend]\n{head}")
    proxy = serve(config=config, environment=pair.names.environment)
    plain = [Wire(proxy.address) for _ in range(4)]
    third = Wire(proxy.address, protocol=3)
    other, tracker, tracker2, hears, watcher, blocked, listener = (Wire(proxy.address) for _ in range(7))
    try:
        other.ask("SELECT", 5)
        tracker.ask("HELLO", 3)
        assert tracker.ask("CLIENT", "TRACKING", "ON") == b"+OK\r\n"
        number = hears.value("CLIENT", "ID")
        assert isinstance(number, int)
        assert tracker2.ask("CLIENT", "TRACKING", "ON", "REDIRECT", number) == b"+OK\r\n"
        listener.ask("SUBSCRIBE", "news")
        for wire in (*plain, third, other, tracker, tracker2):
            assert wire.ask("SET", "k", "1") == b"+OK\r\n"
        watcher.ask("WATCH", "k")
        blocked.send(pack("BLPOP", "list", 10))
        assert eventually(lambda: pair.old.info("clients")["blocked_clients"] == "1")
        pair.hand_over()
        assert plain[0].ask("SET", "k", "2") == b"+OK\r\n"
        assert pair.new.ask("GET", "k") == b"2"
        pair.old.ask("CONFIG", "RESETSTAT")
        assert watcher.ask("MULTI") == b"+OK\r\n"
        watcher.ask("SET", "k", "never")
        assert watcher.ask("EXEC") == b"*-1\r\n"
        for wire in (*plain, third, other, tracker, tracker2):
            assert _unpushed(wire, "GET", "k") in (b"$1\r\n2\r\n", b"$1\r\n1\r\n")
            assert _unpushed(wire, "INCR", "n").startswith(b":")
        assert plain[1].ask("RPUSH", "list", "x") == b":1\r\n"
        assert blocked.reply() == b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n"
        assert plain[2].ask("EVAL", "return redis.call('SET', KEYS[1], 'y')", 1, "k") == b"+OK\r\n"
        assert plain[2].ask("MULTI") == b"+OK\r\n"
        plain[2].ask("INCR", "n")
        assert plain[2].ask("EXEC").startswith(b"*1\r\n:")
        assert eventually(lambda: _subscribed(pair.new))
        assert plain[3].ask("PUBLISH", "news", "hello") == b":1\r\n"
        assert listener.reply() == b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n"
        assert not {"get", "eval", "blpop"} & commands_seen(pair.old).keys()
    finally:
        for wire in (*plain, third, other, tracker, tracker2, hears, watcher, blocked, listener):
            wire.close()


def _unpushed(wire: Wire, *args: str) -> bytes:
    """The reply; who tracks is told some time that its connection was lost."""
    reply = wire.ask(*args)
    return wire.reply() if reply.startswith(b">2\r\n$10\r\ninvalidate") else reply


def _subscribed(server: LocalServer) -> bool:
    return server.ask("PUBSUB", "NUMSUB", "news") == [b"news", 1]


def test_a_pipeline_that_writes_and_reads(pair: Pair, serve: Serve) -> None:
    """What is read behind a refused write sees that write."""
    proxy = serve(config=pair.configured("", 'refresh = "1h"'), environment=pair.names.environment)
    with Wire(proxy.address) as wire:
        wire.ask("SET", "k", "0")
        pair.hand_over()
        for first in (1, 101):
            wire.send(
                pipeline(*(command for n in range(first, first + 50) for command in (("SET", "k", n), ("GET", "k"))))
            )
            expected = [
                reply for n in range(first, first + 50) for reply in (b"+OK\r\n", b"$%d\r\n%d\r\n" % (len(str(n)), n))
            ]
            assert wire.replies(100) == expected


def test_transactions_and_blocking_commands_meet_it_first(pair: Pair, serve: Serve) -> None:
    """The first to be refused need not be a plain command."""
    proxy = serve(config=pair.configured("", 'refresh = "1h"'), environment=pair.names.environment)
    with Wire(proxy.address) as wire, Wire(proxy.address) as other:
        wire.ask("SET", "k", "0")
        pair.hand_over()
        wire.send(pipeline(("MULTI",), ("INCR", "k"), ("GET", "k"), ("EXEC",)))
        assert wire.replies(4)[3] == b"*2\r\n:1\r\n$1\r\n1\r\n"
        # And back again, met by who blocks.
        pair.new.ask("FAILOVER", "TO", pair.old.host, pair.old.port)
        assert eventually(lambda: pair.new.info("replication")["role"] == "slave")
        pair.names.set(NAME, OLD)
        other.send(pack("BLPOP", "list", 10))
        assert eventually(lambda: pair.old.info("clients")["blocked_clients"] == "1")
        assert wire.ask("RPUSH", "list", "x") == b":1\r\n"
        assert other.reply() == b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n"


@pytest.mark.drill
def test_every_address_of_a_name_is_tried(pair: Pair, serve: Serve) -> None:
    """The first is a replica; the first is not there; the first does not answer."""
    pair.names.set(NAME, NEW, OLD)
    proxy = serve(config=pair.configured(), environment=pair.names.environment)
    with Wire(proxy.address) as wire:
        assert wire.ask("SET", "k", "1") == b"+OK\r\n"
    pair.names.set(NAME, "127.0.0.9", OLD)
    proxy = serve(config=pair.configured(), environment=pair.names.environment)
    with Wire(proxy.address) as wire:
        assert wire.ask("SET", "k", "2") == b"+OK\r\n"
    with closing(socket.create_server(("127.0.0.4", pair.old.port), backlog=64)):
        pair.names.set(NAME, "127.0.0.4", OLD)
        started = time.monotonic()
        proxy = serve(config=pair.configured(), environment=pair.names.environment)
        with Wire(proxy.address) as wire:
            assert wire.ask("SET", "k", "3") == b"+OK\r\n"
        assert time.monotonic() - started < 30


# ---- at the start


def started(pair: Pair, serve: Serve, topology: str = "", head: str = "") -> ProxyProcess:
    """A proxy whose primary is the pair's replica."""
    pair.names.set(NAME, NEW)
    return serve(config=pair.configured(head, topology), environment=pair.names.environment, ready=False)


def test_a_replica_as_a_primary_is_said_at_the_start(pair: Pair, serve: Serve) -> None:
    proxy = started(pair, serve)
    words = "a replica is configured as a primary, and nothing is sent to it: name the primary in its place"
    assert eventually(lambda: words in proxy.log)
    status, text = proxy.http("/readyz?all")
    assert status == 503
    assert re.search(r"shard-1: the server is no primary, it replicates 127\.0\.0\.2:\d+", text)
    assert proxy.log.count(words) == 1
    pair.new.ask("REPLICAOF", "NO", "ONE")
    assert eventually(lambda: ready(proxy))


def test_a_replica_that_is_meant_to_be_used_as_it_is(pair: Pair, serve: Serve) -> None:
    proxy = started(pair, serve, "check_roles = false")
    assert eventually(lambda: ready(proxy))
    with Wire(proxy.address) as wire:
        assert wire.ask("GET", "k") == b"$-1\r\n"


def test_a_replica_that_takes_writes_is_a_primary(pair: Pair, serve: Serve) -> None:
    pair.new.ask("CONFIG", "SET", "replica-read-only", "no")
    proxy = started(pair, serve, 'refresh = "200ms"')
    assert eventually(lambda: ready(proxy))
    with Wire(proxy.address) as wire:
        assert wire.ask("SET", "k", "v") == b"+OK\r\n"
        time.sleep(1)
        assert wire.ask("GET", "k") == b"$1\r\nv\r\n"
    assert "says that it is a replica" not in proxy.log


@pytest.mark.parametrize("rules", [drilled("-role"), drilled("-info"), "-@dangerous"])
def test_a_user_that_may_not_ask(pair: Pair, serve: Serve, rules: str) -> None:
    """Whoever may log in hears the role in the answer to HELLO."""
    for server in (pair.old, pair.new):
        server.ask("ACL", "SETUSER", "proxy", "on", ">secret", "~*", "&*", "+@all", rules)
    head = ""
    config = pair.configured(head).replace("[backend]", '[backend]\nusername = "proxy"\npassword = "secret"')
    proxy = serve(config=config, environment=pair.names.environment)
    with Wire(proxy.address) as wire:
        assert wire.ask("SET", "k", "1") == b"+OK\r\n"
        pair.hand_over()
        assert wire.ask("SET", "k", "2") == b"+OK\r\n"
    proxy.stop()
    pair.names.set(NAME, OLD)
    proxy = serve(config=config, environment=pair.names.environment, ready=False)
    assert eventually(lambda: "the server is no primary" in proxy.http("/readyz?all")[1])


@pytest.mark.parametrize("slots", [0, 5461, 16384])
def test_a_node_of_a_cluster_as_a_static_shard(tmp_path: Path, serve: Serve, slots: int) -> None:
    with kept_directory() as directory:
        # Its bus has the port 10000 above.
        port = next(port for port in iter(free_port, 0) if port < 55536)
        node = LocalServer(find_server(), directory, port=port, options=("cluster-enabled yes",))
        try:
            node.start()
            for first in range(0, slots, 1000):
                node.ask("CLUSTER", "ADDSLOTS", *range(first, min(first + 1000, slots)))
            if slots == 16384:
                proxy = serve("--static", node.address)
                assert eventually(lambda: "is in cluster mode, and serves all slots by itself" in proxy.log)
                assert ready(proxy)
                return
            # It says what to write, with one worker and with several.
            for workers in ("1", "2"):
                with pytest.raises(AssertionError, match="static shards are nodes of a Redis Cluster") as refused:
                    serve("--static", node.address, "--workers", workers, ready=False)
                words = str(refused.value)
                assert f"({node.address} serves {slots} of the 16384 slots)" in words
                assert f"--cluster {node.address} in place of --static" in words
                assert f'topology.kind = "cluster" and cluster.seeds = ["{node.address}"]' in words
                assert "Traceback" not in words
            # One that could not be asked at the start is said later.
            node.pause()
            proxy = serve("--static", node.address, ready=False)
            node.resume()
            words = f"it is a node of a Redis Cluster and serves {slots} of the 16384 slots"
            assert eventually(lambda: words in proxy.http("/readyz?all")[1])
            assert proxy.http("/readyz?all")[0] == 503
            assert 'set topology.kind = "cluster"' in proxy.log
        finally:
            node.stop()
