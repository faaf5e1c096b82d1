"""Scripts through the proxy: whoever has sent one can call it by its digest, whatever happens to the servers."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha1

import hiredis
import pytest

from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, start_many
from tests.support.fixtures import Serve
from tests.support.site import Site, commands_seen, shard_of
from tests.support.wire import Wire, pipeline
from tests.support.worker_clients import one_of_each

pytestmark = pytest.mark.live

BODY = "return redis.call('append', KEYS[1], ARGV[1])"
SHA = sha1(BODY.encode()).hexdigest()
READY = "ready: every slot has a reachable primary\n"
NOSCRIPT = b"-NOSCRIPT No matching script."
LIBRARY = "#!lua name=lib\nredis.register_function('twice', function(keys, args) return args[1] .. args[1] end)"

FOREVER = "#!lua name=endless\nredis.register_function('forever', function() while true do end end)"


def eventually(happens: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Whether it happens in time."""
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def has(server: LocalServer, sha: str = SHA) -> bool:
    return server.ask("SCRIPT", "EXISTS", sha) == [1]


FOLLOWING = {"SLOTGATE_TOPOLOGY__DISCOVER_REPLICAS": "true", "SLOTGATE_TOPOLOGY__REFRESH": "200ms"}


@pytest.fixture
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    """Three servers of a test's own."""
    with start_many(3, 0, binary=binary, options=("busy-reply-threshold 100",)) as started:
        yield started


class TestByItsDigest:
    def test_what_one_client_sent_to_one_shard_others_call_on_all(self, site: Site) -> None:
        one, two, three = site.tags()
        with site.client() as first, site.client(3) as second:
            assert second.ask("EVALSHA", SHA, 1, one, "x").startswith(NOSCRIPT)
            assert first.ask("EVAL", BODY, 1, one, "x") == b":1\r\n"
            assert [has(server) for server in site.shards.primaries] == [True, False, False]
            assert [second.ask("EVALSHA", SHA.upper(), 1, tag, "x") for tag in (one, two, three)] == [
                b":2\r\n", b":1\r\n", b":1\r\n",
            ]  # fmt: skip
            assert second.value("SCRIPT", "EXISTS", SHA, "f" * 40) == [1, 0]
        # Once over each connection: the second call finds it.
        with site.client(3) as third:
            before = commands_seen(site.shards.primaries[1])["script|load"]
            assert third.ask("EVALSHA", SHA, 1, two, "x") == b":2\r\n"
            assert commands_seen(site.shards.primaries[1])["script|load"] == before

    def test_it_exists_where_it_would_be_called(self, site: Site) -> None:
        with site.client() as client:
            assert client.ask("EVAL", BODY, 1, site.tags()[2], "x") == b":1\r\n"
            assert client.value("SCRIPT", "EXISTS", SHA) == [1]
            assert client.ask("EVAL", "no script (", 0).startswith(b"-ERR Error compiling script")
            assert client.value("SCRIPT", "EXISTS", sha1(b"no script (").hexdigest()) == [0]
            assert client.ask("EVALSHA", sha1(b"no script (").hexdigest(), 0).startswith(NOSCRIPT)
            assert client.ask("SCRIPT", "FLUSH", "ASYNC") == b"+OK\r\n"
            assert client.value("SCRIPT", "EXISTS", SHA) == [0]
            assert client.ask("EVALSHA", SHA, 1, site.tags()[0], "x").startswith(NOSCRIPT)
        assert not any(map(has, site.shards.primaries))

    def test_a_pipeline_behind_writes_of_the_same_key(self, site: Site) -> None:
        """In order, the first time and when the servers' own have been flushed behind the proxy's back."""
        with site.client() as client:
            assert client.ask("EVAL", BODY, 1, "k", "") == b":0\r\n"
            for _ in range(2):
                client.send(
                    pipeline(*[("SET", "k", "abc"), ("EVALSHA", SHA, 1, "k", "d"), ("EVALSHA", SHA, 1, "k", "e")] * 50)
                )
                assert client.replies(150) == [b"+OK\r\n", b":4\r\n", b":5\r\n"] * 50
                assert client.ask("GET", "k") == b"$5\r\nabcde\r\n"
                for server in site.shards.primaries:
                    assert server.ask("SCRIPT", "FLUSH") == b"OK"
                client.send(pipeline(("SET", "k", "abc"), ("EVALSHA", SHA, 1, "k", "d"), ("EVALSHA", SHA, 1, "k", "e")))
                assert client.replies(3) == [b"+OK\r\n", b":4\r\n", b":5\r\n"]

    @pytest.mark.parametrize(
        "begin", [(), (("WATCH", "{t}x"),), (("MULTI",), ("SELECT", 0))], ids=["plain", "watched", "select"]
    )
    def test_in_a_transaction(self, site: Site, begin: tuple[tuple[str | int, ...], ...]) -> None:
        """Loaded before MULTI, over whatever connection that goes; what it brings is known afterwards."""
        other = "return redis.call('strlen', KEYS[1])"
        queued = (("EVALSHA", SHA, 1, "{t}k", "x"), ("EVAL", other, 1, "{t}k"))
        multi = () if ("MULTI",) in begin else (("MULTI",),)
        commands = (*begin, *multi, *queued, ("EXEC",))
        with site.client() as client:
            elsewhere = next(tag for tag in site.tags() if shard_of(tag) != shard_of("t"))
            assert client.ask("EVAL", BODY, 1, elsewhere, "x") == b":1\r\n"
            client.send(pipeline(*commands))
            exec_reply = client.replies(len(commands))[-1]
            assert exec_reply.endswith(b":1\r\n:1\r\n"), exec_reply
            for tag in site.tags():
                assert client.ask("EVALSHA", sha1(other.encode()).hexdigest(), 1, tag)[:1] == b":"

    def test_without_keys_it_is_one_shards(self, site: Site) -> None:
        with site.client() as client:
            for _ in range(3):
                assert client.ask("EVAL", "return redis.call('incr', 'n')", 0)[:1] == b":"
        assert sorted(commands_seen(server).get("eval", 0) for server in site.shards.primaries) == [0, 0, 3]

    def test_keys_in_several_slots(self, site: Site) -> None:
        one, two, _ = site.tags()
        with site.client() as client:
            assert client.ask("EVAL", BODY, 2, one, two, "x").startswith(b"-CROSSSLOT ")
            assert client.ask("EVALSHA", SHA, 2, one, two, "x").startswith(b"-CROSSSLOT ")
            assert client.ask("FCALL", "twice", 2, one, two).startswith(b"-CROSSSLOT ")


class TestServersThatLoseIt:
    def test_a_server_that_was_started_again(self, shards: LocalShards, serve: Serve) -> None:
        proxy = serve("--static", shards.static)
        tag = "t"
        with Wire(proxy.address) as client:
            assert client.ask("EVAL", BODY, 1, tag, "x")[:1] == b":"
            for server in shards.primaries:
                server.kill()
                server.start()
                assert not has(server)
            for _ in range(2):
                assert client.ask("EVALSHA", SHA, 1, tag, "x")[:1] == b":"
            assert client.value("SCRIPT", "EXISTS", SHA) == [1]

    def test_a_shard_that_is_away_takes_part_when_it_is_back(self, shards: LocalShards, serve: Serve) -> None:
        proxy = serve("--static", shards.static)
        victim = shards.primaries[1]
        with Wire(proxy.address) as client:
            assert client.ask("EVAL", BODY, 1, "b", "x") == b":1\r\n"
            victim.kill()
            assert eventually(lambda: "backend connection lost" in proxy.log)  # else they are sent, and uncertain
            client.send(pipeline(*(("EVALSHA", SHA, 1, "c", "x"),) * 5))
            victim.start()
            assert client.replies(5) == [b":%d\r\n" % count for count in range(1, 6)]

    def test_a_replica_that_becomes_primary(self, binary: ServerBinary, serve: Serve) -> None:
        with start_many(1, 1, binary=binary) as site:
            proxy = serve("--static", site.primaries[0].address, environment=FOLLOWING)
            [primary], [[replica]] = site.primaries, site.replicas
            with Wire(proxy.address) as client:
                assert client.ask("EVAL", BODY, 1, "k", "x") == b":1\r\n"
                assert eventually(lambda: replica.ask("GET", "k") == b"x")
                assert not has(replica)
                assert replica.ask("REPLICAOF", "NO", "ONE") == b"OK"
                assert primary.ask("REPLICAOF", replica.host, replica.port) == b"OK"
                assert eventually(lambda: client.ask("EVALSHA", SHA, 1, "k", "x") == b":2\r\n")
                assert replica.ask("GET", "k") == b"xx"


class TestAScriptThatNeverEnds:
    @pytest.mark.parametrize("what", ["SCRIPT", "FUNCTION"])
    def test_it_can_be_killed_at_once(self, shards: LocalShards, serve: Serve, what: str) -> None:
        """Over connections of its own: the shared one is not read while the script runs. The client that asks may have
        something in flight there too."""
        proxy = serve("--static", shards.static)
        with Wire(proxy.address) as stuck, Wire(proxy.address) as other:
            assert other.ask(what, "KILL") == b"-NOTBUSY No scripts in execution right now.\r\n"
            if what == "FUNCTION":
                assert other.value("FUNCTION", "LOAD", FOREVER) == b"endless"
                stuck.send(pipeline(("FCALL", "forever", 1, "k"), ("GET", "k")))
            else:
                stuck.send(pipeline(("EVAL", "while true do end", 1, "k"), ("GET", "k")))
            other.send(pipeline(("GET", "k")))
            started = time.monotonic()
            assert eventually(lambda: kill(proxy.address, what))
            assert b"killed by user" in stuck.reply()
            assert stuck.reply() == b"$-1\r\n"
            assert other.reply() == b"$-1\r\n"
            assert time.monotonic() - started < 10

    def test_function_stats_tells_which_runs(self, shards: LocalShards, serve: Serve) -> None:
        proxy = serve("--static", shards.static)
        with Wire(proxy.address) as stuck, Wire(proxy.address) as other:
            assert other.value("FUNCTION", "LOAD", FOREVER) == b"endless"
            stuck.send(pipeline(("FCALL", "forever", 1, "k")))

            def running() -> object:
                stats = other.value("FUNCTION", "STATS")
                assert isinstance(stats, list)
                return stats[1]

            assert eventually(lambda: running() is not None)
            assert kill(proxy.address, "FUNCTION")
            assert eventually(lambda: running() is None)


def kill(address: str, what: str) -> bool:
    with Wire(address) as client:
        return client.ask(what, "KILL") == b"+OK\r\n"


def test_functions_are_managed_everywhere(site: Site) -> None:
    with site.client() as client:
        assert client.value("FUNCTION", "LOAD", LIBRARY) == b"lib"
        assert [client.value("FCALL", "twice", 1, tag, "x") for tag in site.tags()] == [b"xx"] * 3
        site.shards.primaries[1].ask("FUNCTION", "DELETE", "lib")
        failed = client.ask("FUNCTION", "DELETE", "lib")
        assert failed == b"-UNCERTAIN partial: ERR Library not found\r\n"
        assert client.ask("FUNCTION", "DELETE", "lib") == b"-ERR Library not found\r\n"


def test_a_shard_without_a_library_is_reported(shards: LocalShards, serve: Serve) -> None:
    """At the start, and when a server comes back empty; a report is over when the library is there."""
    for server in shards.primaries[1:]:
        assert server.ask("FUNCTION", "LOAD", LIBRARY) == b"lib"
    proxy = serve("--static", shards.static, environment=FOLLOWING)
    assert eventually(lambda: "lacks" in proxy.http("/readyz")[1])
    assert proxy.http("/readyz") == (200, READY + "function libraries: shard shard-1 lacks lib\n")
    assert 'slotgate_missing_library{library="lib",shard="shard-1"} 1.0' in proxy.http("/metrics")[1]
    assert "functions missing shard=shard-1 libraries=lib" in proxy.log
    assert shards.primaries[0].ask("FUNCTION", "LOAD", LIBRARY) == b"lib"
    assert eventually(lambda: proxy.http("/readyz") == (200, READY))
    shards.primaries[2].kill()
    shards.primaries[2].start()
    assert eventually(lambda: proxy.http("/readyz") == (200, READY + "function libraries: shard shard-3 lacks lib\n"))


def test_workers_know_each_others_scripts(shards: LocalShards, serve: Serve) -> None:
    """One that was sent through one worker can be called through the others; SCRIPT FLUSH is for all."""
    proxy = serve("--static", shards.static, "--workers", "2")
    with ExitStack() as stack:
        one, other = one_of_each(proxy.address, stack)
        assert one.ask("EVALSHA", SHA, 1, "b", "x").startswith(NOSCRIPT)
        assert one.ask("EVAL", BODY, 1, "b", "x") == b":1\r\n"
        other.send(pipeline(("EVALSHA", SHA, 1, "c", "x"), ("EVALSHA", SHA, 1, "c", "x")))
        assert other.replies(2) == [b":1\r\n", b":2\r\n"]

        def flushed() -> bool:
            """The others hear of it a moment later."""
            assert other.ask("SCRIPT", "FLUSH") == b"+OK\r\n"
            return one.ask("EVALSHA", SHA, 1, "a", "x").startswith(NOSCRIPT)

        assert eventually(flushed)


def test_a_script_is_loaded_into_a_server_that_comes_back_slowly(shards: LocalShards, serve: Serve) -> None:
    """What was to be sent ahead is lost with each attempt to connect, and sent ahead again."""
    server = shards.primaries[0]
    config = '[backend]\nretry_deadline = "10s"\nbackoff_max = "100ms"\n'
    proxy = serve(config=f'{config}[[shards]]\nprimary = "{server.address}"\n')
    with Wire(proxy.address) as wire:
        wire.ask("SCRIPT", "LOAD", BODY)
        server.kill()
        assert eventually(lambda: "backend connection lost" in proxy.log)
        with socket.create_server((server.host, server.port)) as loading:
            loading.settimeout(10)
            wire.send(pipeline(("MULTI",), ("EVALSHA", SHA, 1, "k", "x"), ("EXEC",)))
            for _ in range(8):
                connection, _ = loading.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"-LOADING Redis is loading the dataset in memory\r\n" * 4)
        server.start()
        assert wire.replies(3)[-1] == b"*1\r\n:1\r\n"


def test_debug_is_refused_with_the_reason(site: Site) -> None:
    with site.client() as client:
        assert b"takes over its connection" in client.ask("SCRIPT", "DEBUG", "YES")


def test_only_so_many_are_kept(shards: LocalShards, serve: Serve) -> None:
    """The one that was not used for the longest time goes first."""
    proxy = serve("--static", shards.static, environment={"SLOTGATE_LIMITS__MAX_SCRIPTS": "2"})
    bodies = [f"return {number}" for number in range(3)]
    shas = [sha1(body.encode()).hexdigest() for body in bodies]
    with Wire(proxy.address) as client:
        for body in bodies:
            assert client.ask("EVAL", body, 1, "b")[:1] == b":"
        first, *others = (client.ask("EVALSHA", sha, 1, "c") for sha in shas)
        assert first.startswith(NOSCRIPT)
        assert others == [b":1\r\n", b":2\r\n"]


def test_the_reference_is_asked_the_same(site: Site) -> None:
    """What plain servers answer is what these tests expect."""
    with pytest.raises(hiredis.ReplyError, match="NOSCRIPT No matching script"):
        site.plain.ask("EVALSHA", SHA, 0)
