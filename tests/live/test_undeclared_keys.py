"""Scripts that declare no keys over several static shards: refused, or run on the shard that is named for them."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha1

import pytest

from proxy.devservers.servers import LocalShards, ServerBinary, start_many
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import shard_of
from tests.support.wire import Wire, pack, pipeline
from tests.support.worker_clients import one_of_each

pytestmark = pytest.mark.live

USES = "return redis.call('set', 'foo', ARGV[1])"
ALIAS = "local call = redis['call'] return call('get', 'foo')"
PURE = (
    ("return 1", b":1\r\n"),
    ("-- redis.call('get', 'x')\nreturn 'redis.call'", b"$10\r\nredis.call\r\n"),
    ("return redis.sha1hex('')", b"$40\r\nda39a3ee5e6b4b0d3255bfef95601890afd80709\r\n"),
    ("return redis.status_reply('FINE')", b"+FINE\r\n"),
    ("return redis.call('PING')", b"+PONG\r\n"),
)
REFUSED = b"-ERR 'eval' of a script that may call Redis with 0 keys is refused: there are several shards"
LIBRARY = "#!lua name=lib\nredis.register_function('one', function() return 1 end)"
ADMIN = '[[users]]\nname = "default"\nnopass = true\nadmin = true\n'


def digest(body: str) -> str:
    return sha1(body.encode()).hexdigest()


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    with start_many(3, 0, binary=binary) as started:
        yield started


@pytest.fixture
def proxy(shards: LocalShards, serve: Serve) -> ProxyProcess:
    for server in shards.primaries:
        server.ask("FLUSHALL")
        server.ask("SCRIPT", "FLUSH")
    return serve("--static", shards.static)


def keys(shards: LocalShards) -> list[int]:
    return [int(str(server.ask("DBSIZE"))) for server in shards.primaries]


class TestRefused:
    @pytest.mark.parametrize("body", [USES, ALIAS, "return _G['redis']", "#!js\nreturn 1"])
    def test_a_script_that_may_use_any_key(self, shards: LocalShards, proxy: ProxyProcess, body: str) -> None:
        with Wire(proxy.address) as client:
            assert client.ask("EVAL", body, 0, "x").startswith(REFUSED)
            assert client.ask("EVAL_RO", body, 0, "x").startswith(b"-ERR 'eval_ro' of a script")
            # The proxy knows the script from now on.
            assert client.ask("EVALSHA", digest(body).upper(), 0, "x").startswith(b"-ERR 'evalsha' of a script")
            assert client.ask("PING") == b"+PONG\r\n"
        assert keys(shards) == [0, 0, 0]

    @pytest.mark.parametrize(("body", "reply"), PURE)
    def test_not_one_that_touches_no_data(self, proxy: ProxyProcess, body: str, reply: bytes) -> None:
        with Wire(proxy.address) as client:
            assert client.ask("EVALSHA", digest(body), 0).startswith(b"-NOSCRIPT ")
            assert client.ask("EVAL", body, 0) == reply
            assert client.ask("EVALSHA", digest(body), 0) == reply

    def test_not_one_that_declares_its_key(self, proxy: ProxyProcess) -> None:
        with Wire(proxy.address) as client:
            assert client.ask("EVAL", USES, 1, "foo", "x") == b"+OK\r\n"

    @pytest.mark.parametrize("asked", ["0 ", "-1", "x"])
    def test_a_wrong_number_of_keys_is_the_servers_error(self, proxy: ProxyProcess, asked: str) -> None:
        with Wire(proxy.address) as client:
            reply = client.ask("EVAL", USES, asked)
        assert reply[:5] == b"-ERR "
        assert b"refused" not in reply

    def test_a_script_that_only_the_servers_know(self, shards: LocalShards, proxy: ProxyProcess) -> None:
        """The client is told to send it, as if no server had it: only its text says what it does."""
        for server in shards.primaries:
            server.ask("SCRIPT", "LOAD", USES)
        with Wire(proxy.address) as client:
            assert client.ask("EVALSHA", digest(USES), 0, "x").startswith(b"-NOSCRIPT ")
            assert client.ask("SCRIPT", "LOAD", USES) == b"$40\r\n%b\r\n" % digest(USES).encode()
            assert client.ask("EVALSHA", digest(USES), 0, "x").startswith(b"-ERR 'evalsha' of a script")
        assert keys(shards) == [0, 0, 0]

    @pytest.mark.parametrize("call", ["EVALSHA", "EVALSHA_RO"])
    def test_the_words_are_the_servers(self, shards: LocalShards, proxy: ProxyProcess, call: str) -> None:
        """They differ between Redis and Valkey."""
        with Wire(shards.primaries[0].address) as server, Wire(proxy.address) as client:
            said = server.ask(call, "f" * 40, 0)
            assert said.startswith(b"-NOSCRIPT ")
            assert client.ask(call, "f" * 40, 0) == said
            assert client.ask("MULTI") == b"+OK\r\n"
            assert client.ask(call, "f" * 40, 0) == said

    def test_in_a_transaction(self, shards: LocalShards, proxy: ProxyProcess) -> None:
        with Wire(proxy.address) as client:
            for call in (("EVAL", USES, 0, "x"), ("EVALSHA", "f" * 40, 0)):
                client.send(pipeline(("MULTI",), ("SET", "a", 1), call, ("EXEC",)))
                replies = client.replies(4)
                assert replies[:2] == [b"+OK\r\n", b"+QUEUED\r\n"]
                assert replies[2].startswith(b"-ERR 'eval'" if call[0] == "EVAL" else b"-NOSCRIPT ")
                assert replies[3] == b"-EXECABORT Transaction discarded because of previous errors.\r\n"
            client.send(pipeline(("MULTI",), ("EVAL", "return 1", 0), ("SET", "a", 1), ("EXEC",)))
            assert client.replies(4)[3] == b"*2\r\n:1\r\n+OK\r\n"
        assert sum(keys(shards)) == 1

    def test_a_function(self, proxy: ProxyProcess) -> None:
        with Wire(proxy.address) as client:
            client.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY)
            assert client.ask("FCALL", "one", 0).startswith(b"-ERR 'fcall' of functions with 0 keys is refused")
            assert client.ask("FCALL_RO", "one", 0).startswith(b"-ERR 'fcall_ro' of functions with 0 keys is refused")
            assert client.ask("FCALL", "one", 1, "k") == b":1\r\n"

    def test_one_shard_takes_all(self, shards: LocalShards, serve: Serve) -> None:
        proxy = serve("--static", shards.primaries[0].address)
        with Wire(proxy.address) as client:
            assert client.ask("EVAL", USES, 0, "x") == b"+OK\r\n"
            assert client.ask("EVALSHA", digest(ALIAS), 0).startswith(b"-NOSCRIPT ")

    def test_a_script_that_another_worker_knows(self, shards: LocalShards, serve: Serve) -> None:
        proxy = serve("--static", shards.static, "--workers", "2")
        with ExitStack() as stack:
            clients = one_of_each(proxy.address, stack)
            assert clients[0].ask("SCRIPT", "LOAD", USES)[:1] == b"$"
            assert clients[0].ask("EVAL", "return 7", 0) == b":7\r\n"
            for client in clients:
                # Both are found, whichever worker is asked, also in the middle of a pipeline.
                client.send(
                    pipeline(("EVALSHA", digest(USES), 0, "x"), ("EVALSHA", digest("return 7"), 0), ("PING",))
                    + pipeline(("MULTI",), ("EVALSHA", digest("return 7"), 0), ("EXEC",))
                )
                replies = client.replies(6)
                assert replies[0].startswith(b"-ERR 'evalsha' of a script")
                assert replies[1:] == [b":7\r\n", b"+PONG\r\n", b"+OK\r\n", b"+QUEUED\r\n", b"*1\r\n:7\r\n"]

    def test_a_script_that_another_worker_knows_in_a_pause(self, shards: LocalShards, serve: Serve) -> None:
        """The call is held: the other workers are asked afterwards."""
        proxy = serve("--static", shards.static, "--workers", "2")
        with ExitStack() as stack:
            clients = one_of_each(proxy.address, stack)
            assert clients[0].ask("SCRIPT", "LOAD", "return 8")[:1] == b"$"
            assert clients[0].ask("CLIENT", "PAUSE", 1000, "ALL") == b"+OK\r\n"
            began = time.monotonic()
            for client in clients:
                client.send(pack("EVALSHA", digest("return 8"), 0))
            assert [client.reply() for client in clients] == [b":8\r\n"] * len(clients)
            assert time.monotonic() - began > 0.8


ALLOW = {"SLOTGATE_UNDECLARED_KEYS": "allow", "SLOTGATE_KEYLESS_SHARD": "shard-2"}


class TestAllowed:
    def test_on_the_shard_that_is_named(self, shards: LocalShards, proxy: ProxyProcess, serve: Serve) -> None:
        proxy = serve("--static", shards.static, environment=ALLOW)
        with Wire(proxy.address) as client:
            assert client.ask("EVAL", USES, 0, "x") == b"+OK\r\n"
            assert keys(shards) == [0, 1, 0]
            for server in shards.primaries:
                server.ask("SCRIPT", "LOAD", ALIAS)
            assert client.ask("EVALSHA", digest(ALIAS), 0) == b"$1\r\nx\r\n"
            client.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY)
            assert client.ask("FCALL", "one", 0) == b":1\r\n"

    def test_in_a_transaction(self, shards: LocalShards, proxy: ProxyProcess, serve: Serve) -> None:
        proxy = serve("--static", shards.static, environment=ALLOW)
        there = next(f"k{n}" for n in range(99) if _shard(f"k{n}") == b"shard-2")
        elsewhere = next(f"k{n}" for n in range(99) if _shard(f"k{n}") == b"shard-1")
        with Wire(proxy.address) as client:
            client.send(pipeline(("MULTI",), ("EVAL", USES, 0, "x"), ("EVAL", ALIAS, 0), ("EXEC",)))
            assert client.replies(4)[3] == b"*2\r\n+OK\r\n$1\r\nx\r\n"
            client.send(pipeline(("WATCH", there), ("MULTI",), ("SET", there, 1), ("EVAL", ALIAS, 0), ("EXEC",)))
            assert client.replies(5)[4] == b"*2\r\n+OK\r\n$1\r\nx\r\n"
            client.send(pipeline(("MULTI",), ("SET", elsewhere, 1), ("EVAL", ALIAS, 0), ("EXEC",)))
            assert client.replies(4)[3].startswith(b"-CROSSSLOT The transaction has keys on one shard, and a script")
        assert keys(shards) == [0, 2, 0]


def _shard(key: str) -> bytes:
    """The shard of a key when the slots are divided evenly over three shards."""
    return b"shard-%d" % (shard_of(key) + 1)


class TestWhatScriptsUse:
    @pytest.mark.parametrize("protocol", [2, 3])
    def test_beyond_their_keys(self, shards: LocalShards, serve: Serve, protocol: int) -> None:
        proxy = serve("--static", shards.static, config=ADMIN)
        body = "redis.call('set', KEYS[1], 'a') redis.call('get', KEYS[1] .. ':\\n') return redis.call('dbsize')"
        good = "return redis.call('get', KEYS[1])"
        ended = threading.Event()

        def load() -> None:
            with Wire(proxy.address) as client:
                while not ended.is_set():
                    assert client.ask("EVAL", body, 1, "{t}k")[:1] == b":"
                    assert client.ask("EVALSHA", digest(body), 1, "{t}k")[:1] == b":"
                    assert client.ask("EVAL", good, 1, "k")[:1] == b"$"
                    assert client.ask("SET", "plain", 'lua] "get" "x"') == b"+OK\r\n"
                    time.sleep(0.01)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            with Wire(proxy.address, protocol=protocol) as admin:
                found = admin.value("SLOTGATE", "SCRIPTS")
                assert admin.ask("PING") == b"+PONG\r\n"
        finally:
            ended.set()
            thread.join()
        assert isinstance(found, list)
        rows = [each if isinstance(each, dict) else dict(zip(each[::2], each[1::2], strict=True)) for each in found]
        by_name = {row[b"script"]: row for row in rows}
        assert set(by_name) == {digest(body).encode(), digest(good).encode()}
        row = by_name[digest(body).encode()]
        assert row[b"calls"] > 1
        assert abs(row[b"undeclared"] - row[b"calls"]) <= 1
        assert (row[b"elsewhere"], row[b"keys"], row[b"commands"]) == (0, [b"{t}k:\n"], [b"dbsize"])
        row = by_name[digest(good).encode()]
        assert (row[b"undeclared"], row[b"keys"], row[b"commands"]) == (0, [], [])

    def test_for_admins_and_for_a_minute_at_most(self, shards: LocalShards, serve: Serve, proxy: ProxyProcess) -> None:
        with Wire(proxy.address) as client:
            assert client.ask("SLOTGATE", "SCRIPTS").startswith(b"-NOPERM ")
        admins = serve("--static", shards.static, config=ADMIN)
        with Wire(admins.address) as client:
            for wrong in (("0",), ("61",), ("x",), ("1", "2")):
                assert client.ask("SLOTGATE", "SCRIPTS", *wrong).startswith(b"-ERR the servers are watched for 1 to 60")

    def test_not_longer_than_its_client_is_there(self, shards: LocalShards, serve: Serve) -> None:
        proxy = serve("--static", shards.static, config=ADMIN)

        def watched() -> bool:
            # A server names a connection's last command in CLIENT LIST.
            return any(" cmd=monitor" in str(server.ask("CLIENT", "LIST")) for server in shards.primaries)

        with Wire(proxy.address) as client, Wire(proxy.address) as other:
            number = str(client.value("CLIENT", "ID"))
            client.send(pack("SLOTGATE", "SCRIPTS", "60"))
            assert eventually(watched, 15)
            assert other.ask("CLIENT", "KILL", "ID", number) == b":1\r\n"
            assert eventually(lambda: not watched(), 15)

    def test_a_server_that_ends_the_connection_is_named(self, shards: LocalShards, serve: Serve) -> None:
        """What is missing is no proof that nothing was called. A server also drops a reader that is too slow."""
        proxy = serve("--static", shards.static, config=ADMIN)
        server = shards.primaries[1]

        def monitors() -> list[bytes]:
            lines = server.ask("CLIENT", "LIST")
            assert isinstance(lines, bytes)
            return re.findall(rb"^id=(\d+) .* cmd=monitor", lines, re.MULTILINE)

        with Wire(proxy.address) as client:
            client.send(pack("SLOTGATE", "SCRIPTS", "60"))
            assert eventually(lambda: bool(monitors()), 15)
            time.sleep(0.3)  # the other servers are asked as well
            assert server.ask("CLIENT", "KILL", "ID", monitors()[0].decode()) == 1
            reply = client.reply()
            assert reply.startswith(b"-ERR a server can not be watched by MONITOR: "), reply
            assert server.address.encode() in reply
            assert client.ask("PING") == b"+PONG\r\n"
