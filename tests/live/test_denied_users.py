"""Users of the servers that may do less than the proxy does on a connection, or that a server refuses: nothing runs in
another database or at another's server because of that, and other users notice nothing."""

import threading
import time
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path

import pytest

from proxy.devservers.cluster import LocalCluster, start_cluster
from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, start_many
from proxy.sharding.slots import key_slot
from tests.live.strangers import ClusterStranger
from tests.support.binaries import MORE
from tests.support.clusters import half_moved, move_slot
from tests.support.fixtures import Serve, find
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Argument, Wire, pack, pipeline

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"
USERS = """
[backend]
retry_deadline = "1s"
[[users]]
name = "default"
nopass = true
[[users]]
name = "few"
password = "few"
backend_user = "at-few"
backend_password = "secret-of-few"
"""
INCREMENTS = "return redis.call('incr', KEYS[1])"
LIBRARY = "#!lua name=adds\nredis.register_function('inc', function(keys) return redis.call('incr', keys[1]) end)"


def allow(server: LocalServer, *rules: str) -> None:
    server.ask("ACL", "SETUSER", "at-few", "reset", "on", ">secret-of-few", "~*", "&*", "+@all", *rules)


def few(proxy: ProxyProcess, protocol: int = 2) -> Wire:
    """A client of the user that may do little."""
    client = Wire(proxy.address, protocol=protocol)
    assert client.ask("AUTH", "few", "few") == OK
    return client


def replies(client: Wire, count: int) -> list[bytes]:
    """So many replies, without what is pushed."""
    found: list[bytes] = []
    while len(found) < count:
        reply = client.reply()
        found += [] if reply[:1] == b">" else [reply]
    return found


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    with start_many(2, 0, binary=binary, options=("lua-time-limit 100",)) as started:
        yield started


@pytest.fixture(scope="module")
def cluster(binary: ServerBinary) -> Iterator[LocalCluster]:
    with start_cluster(2, 0, binary=binary) as started:
        for node in started.nodes:
            node.ask("FUNCTION", "LOAD", LIBRARY)
        yield started


class TestADatabaseThatCanNotBeChosen:
    """SELECT is answered by the proxy; what a server does not select is not used."""

    @pytest.mark.parametrize("way", ["plain", "watch", "multi", "blocking", "script", "tracking", "tracking later"])
    def test_nothing_runs_in_another(self, shards: LocalShards, serve: Serve, way: str) -> None:
        for server in shards.primaries:
            allow(server, "-select")
            server.ask("FLUSHALL")
        proxy = serve("--static", shards.static, config=USERS)
        ways: dict[str, list[tuple[Argument, ...]]] = {
            "watch": [("WATCH", "k"), ("MULTI",), ("SET", "k", "of 5"), ("EXEC",)],
            "multi": [("MULTI",), ("SELECT", 6), ("SET", "k", "of 5"), ("EXEC",)],
            "blocking": [("BLMOVE", "{list}", "{list}2", "LEFT", "LEFT", "0.01")],
            "script": [("EVAL", "return redis.call('set', KEYS[1], 'of 5')", 1, "k")],
        }
        tracks = "tracking" in way
        with few(proxy, 3 if tracks else 2) as client:
            assert client.ask("SET", "k", "of 0") == OK
            assert client.ask("RPUSH", "{list}", "of 0") == b":1\r\n"
            if way == "tracking":
                assert client.ask("CLIENT", "TRACKING", "ON") == OK
            assert client.ask("SELECT", 5) == OK
            if way == "tracking later":
                assert client.ask("CLIENT", "TRACKING", "ON") == OK
            requests = ways.get(way, [("SET", "k", "of 5"), ("APPEND", "k", "more")])
            client.send(pipeline(*requests))
            said = replies(client, len(requests))
            assert b"SELECT" in said[-1] or said[-1].startswith((b"-SHARDDOWN", b"-EXECABORT")), said
        with Wire(proxy.address) as other:
            assert other.ask("GET", "k") == b"$4\r\nof 0\r\n"
            assert other.ask("LLEN", "{list}") == b":1\r\n"

    @pytest.mark.parametrize("piped", [False, True])
    def test_of_a_tracking_client_while_a_script_keeps_the_server_busy(
        self, shards: LocalShards, serve: Serve, piped: bool
    ) -> None:
        """SELECT is answered BUSY by the server: the connection is made anew, and then in the right database."""
        (server, _), proxy = shards.primaries, serve("--static", shards.primaries[0].address)
        server.ask("FLUSHALL")
        with Wire(proxy.address, protocol=3) as client, Wire(server.address) as script, Wire(server.address) as direct:
            assert client.ask("CLIENT", "TRACKING", "ON") == OK
            assert client.ask("SET", "k", "of 0") == OK
            script.send(pack("EVAL", "while true do end", 0))
            time.sleep(0.4)
            assert direct.ask("PING").startswith(b"-BUSY")
            if piped:
                client.send(pipeline(("SELECT", 5), ("SET", "k", "of 5")))
                time.sleep(0.1)
            else:
                assert client.ask("SELECT", 5) == OK
            assert direct.ask("SCRIPT", "KILL") == OK
            said = [] if not piped else replies(client, 2)
            assert not said or said[1] == OK or said[1].startswith(b"-BUSY")
            deadline = time.monotonic() + 10
            while said[-1:] != [OK]:
                assert time.monotonic() < deadline
                client.send(pack("SET", "k", "of 5"))
                said = replies(client, 1)
            assert direct.ask("GET", "k") == b"$4\r\nof 0\r\n"
            direct.ask("SELECT", 5)
            assert direct.ask("GET", "k") == b"$4\r\nof 5\r\n"


def test_one_that_a_server_refuses_holds_up_no_other(shards: LocalShards, serve: Serve) -> None:
    """Its clients go on asking for connections; new connections of others are made as ever."""
    config = USERS.replace('backend_password = "secret-of-few"', 'backend_password = "wr0ng-one"')
    for server in shards.primaries:
        allow(server)
    proxy = serve("--static", shards.static, config=config)
    over = threading.Event()

    def insist() -> None:
        while not over.is_set():
            with few(proxy) as client:
                for number in range(4):
                    client.ask("SET", f"k{number}", 1)
                    client.ask("WATCH", f"k{number}")
                    over.wait(0.05)

    threads = [threading.Thread(target=insist) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1.0)
        with Wire(proxy.address) as client:
            for number in range(1, 12):
                began = time.monotonic()
                assert client.ask("SELECT", number) == OK
                assert [client.ask("SET", key, 1) for key in ("a", "b", "c", "d")] == [OK] * 4
                assert client.ask("WATCH", "a") == OK
                assert client.ask("UNWATCH") == OK
                assert client.ask("BLPOP", "none", "0.01") == b"*-1\r\n"
                assert time.monotonic() - began < 0.9
    finally:
        over.set()
        for thread in threads:
            thread.join()


class TestRedirections:
    """Of scripts, functions and commands of modules, for users that may not send what usually proves them."""

    @pytest.mark.parametrize("denied", [("-eval", "-eval_ro"), ("-@scripting", "+fcall", "+evalsha")])
    def test_of_scripts(self, cluster: LocalCluster, serve: Serve, denied: tuple[str, ...]) -> None:
        for node in cluster.nodes:
            allow(node, *denied)
            node.ask("SCRIPT", "LOAD", INCREMENTS)
        proxy = serve("--cluster", cluster.seeds, config=USERS)
        digest = sha1(INCREMENTS.encode()).hexdigest()
        calls: list[tuple[Argument, ...]] = [("FCALL", "inc", 1, "{t}f"), ("EVALSHA", digest, 1, "{t}s")]
        with few(proxy) as client:
            client.send(pipeline(*(("SET", key, 0) for key in ("{t}f", "{t}s", "{t}stays"))))
            assert client.replies(3) == [OK] * 3
            with half_moved(cluster, "{t}f", "{t}s"):
                for call in calls:
                    assert [client.ask(*call) for _ in range(3)] == [b":1\r\n", b":2\r\n", b":3\r\n"]
                    client.send(pipeline(*[call] * 5))
                    assert client.replies(5) == [b":%d\r\n" % number for number in range(4, 9)]
                    client.send(pipeline(("MULTI",), call, ("EXEC",)))
                    assert client.replies(3) == [OK, QUEUED, b"*1\r\n:9\r\n"]
                    client.send(pipeline(("WATCH", call[3]), ("MULTI",), call, ("EXEC",)))
                    assert client.replies(4)[3] == b"*1\r\n:10\r\n"
            self.move(cluster, client, calls)

    @staticmethod
    def move(cluster: LocalCluster, client: Wire, calls: list[tuple[Argument, ...]]) -> None:
        """The slot moves to the other node, which nothing but the request's own error tells."""
        client.ask("SET", "{t}stays", 1)
        source, target = cluster.primaries()
        if not source.ask("CLUSTER", "COUNTKEYSINSLOT", key_slot(b"t")):
            source, target = target, source
        for number, call in enumerate(calls):
            time.sleep(2.5)  # until nothing counts as refused lately
            move_slot(key_slot(b"t"), *((source, target) if number % 2 == 0 else (target, source)))
            assert client.ask(*call) == b":1\r\n"

    def test_of_commands_of_modules(self, serve: Serve) -> None:
        with start_cluster(2, 0, binary=find(MORE[1])) as cluster:
            for node in cluster.nodes:
                allow(node, "-@scripting")
            proxy = serve("--cluster", cluster.seeds, config=USERS)
            call = ("VADD", "{t}v", "VALUES", 2, 1, 1)
            with few(proxy) as client:
                assert client.ask(*call, "a") == b":1\r\n"
                assert client.ask("SET", "{t}stays", 1) == OK
                with half_moved(cluster, "{t}v"):
                    assert client.ask(*call, "b") == b":1\r\n"
                    assert client.ask("VCARD", "{t}v") == b":2\r\n"
                self.move(cluster, client, [(*call, "c"), (*call, "d")])


@pytest.mark.drill
def test_a_stranger_gets_nothing_of_one_that_may_not_ask_who_it_is(
    binary: ServerBinary, serve: Serve, tmp_path: Path
) -> None:
    """A node of another cluster, which has the same users, at the address of a primary."""
    with start_cluster(2, 0, binary=binary, node_timeout=1.0) as cluster:
        for node in cluster.nodes:
            allow(node, "-cluster", "-role", "-info")
        proxy = serve("--cluster", cluster.nodes[0].address, config=USERS)
        keys = [f"key:{number}" for number in range(20)]
        with few(proxy) as client, few(proxy, 3) as other:
            assert {client.ask("SET", key, "ours") for key in keys} == {OK}
            victim = cluster.nodes[1]
            victim.kill()
            stranger = ClusterStranger(cluster.binary, tmp_path, victim)
            try:
                stranger.start()
                stranger.own_all(3)
                allow(stranger, "-cluster")
                for wire in client, other:
                    assert {wire.ask("SET", key, "ours")[:9] for key in keys} <= {
                        OK,
                        b"-SHARDDOW",
                        b"-CLUSTERD",
                        b"-UNCERTAI",
                    }
                    assert wire.ask("BLPOP", "none", "0.01")[:1] in (b"*", b"-", b"_")
                assert stranger.ask("DBSIZE") == 0
                assert "unknown to the cluster" in proxy.log
            finally:
                stranger.kill()
