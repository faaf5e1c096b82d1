"""A script that runs too long: whoever uses its shard is told so as Redis says it, and it can be killed."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from proxy.devservers.cluster import start_cluster
from proxy.devservers.sentinel import start_watched
from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, start_many
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import shard_tags
from tests.support.wire import Argument, Wire, pack, pipeline

pytestmark = pytest.mark.live

TAG, OTHER = shard_tags(2)
KEY = f"{{{TAG}}}k"
ENDLESS = "while true do end"
WRITING = "redis.call('set', KEYS[1], 1) while true do end"
LASTING = """
local began = redis.call('time')
repeat
    local now = redis.call('time')
until (now[1] - began[1]) * 1000000 + now[2] - began[2] > tonumber(ARGV[1])
return {ok = 'OK'}
"""
BUSY = b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
OK = b"+OK\r\n"
THRESHOLD = 300
"""Milliseconds."""
PATIENCE = THRESHOLD / 1000 + 1.0
LIBRARY = "#!lua name=endless\nredis.register_function('endless', function() while true do end end)"


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    """Two shards."""
    with start_many(2, 0, binary=binary) as running:
        yield running


@pytest.fixture(scope="module")
def running(shards: LocalShards, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy before them, that waits longer than a second for none."""
    with ProxyProcess(tmp_path_factory.mktemp("proxy"), "--static", shards.static).serving() as proxy:
        yield proxy


@pytest.fixture
def proxy(running: ProxyProcess, shards: LocalShards) -> Iterator[ProxyProcess]:
    """The proxy; no script runs when the test is over."""
    threshold(shards.primaries, THRESHOLD)
    yield running
    with Wire(running.address) as admin:
        for kill in ("SCRIPT", "FUNCTION"):
            admin.ask(kill, "KILL")
    for server in shards.primaries:
        assert eventually(lambda server=server: server.ask("PING") == b"PONG")  # type: ignore[misc]


def threshold(servers: Sequence[LocalServer], milliseconds: int) -> None:
    for server in servers:
        assert server.ask("CONFIG", "SET", "lua-time-limit", milliseconds) == b"OK"


@contextlib.contextmanager
def endless(proxy: ProxyProcess, *command: Argument) -> Iterator[Wire]:
    """A client whose script has begun to run for ever."""
    with Wire(proxy.address, timeout=60) as client:
        client.send(pack(*(command or ("EVAL", ENDLESS, 1, KEY))))
        time.sleep(0.1)
        yield client


def timed(client: Wire, *command: Argument) -> tuple[bytes, float]:
    """The reply, and how many seconds it took."""
    began = time.monotonic()
    return redis_words(client.ask(*command)), time.monotonic() - began


def redis_words(reply: bytes) -> bytes:
    """A reply as Redis words it: Valkey names itself."""
    return reply.replace(b"-BUSY Valkey", b"-BUSY Redis")


OTHERS: dict[str, tuple[Argument, ...]] = {
    "GET": ("GET", KEY),
    "SET": ("SET", KEY, 1),
    "DEL": ("DEL", KEY),
    "BLPOP": ("BLPOP", KEY, 0),
    "EVAL": ("EVAL", "return 1", 1, KEY),
    "DBSIZE": ("DBSIZE",),
    "SUBSTR": ("SUBSTR", KEY, 0, 1),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("protocol", [2, 3])
def test_others_are_told_so(proxy: ProxyProcess, case: str, protocol: int) -> None:
    """Within the server's threshold and a second; whatever is on another shard goes on."""
    with Wire(proxy.address, protocol=protocol) as other, Wire(proxy.address) as elsewhere, endless(proxy) as caller:
        reply, seconds = timed(other, *OTHERS[case])
        assert reply == BUSY
        assert seconds < PATIENCE
        assert other.ask("PING") == b"+PONG\r\n"
        assert elsewhere.ask("SET", f"{{{OTHER}}}k", 1) == OK
        reply, seconds = timed(other, *OTHERS[case])
        assert reply == BUSY
        assert seconds < PATIENCE
        assert other.ask("SCRIPT", "KILL") == OK
        assert caller.reply().startswith(b"-ERR ")
        assert other.ask("SET", KEY, 1) == OK


def test_who_is_in_the_middle_of_much(proxy: ProxyProcess) -> None:
    """Clients that send one command after the other as the script begins."""
    said: list[tuple[bytes, float]] = []

    def work(number: int) -> None:
        with Wire(proxy.address) as client:
            for _ in range(100_000):
                reply, seconds = timed(client, "SET" if number % 2 else "GET", f"{KEY}{number}", *[1] * (number % 2))
                if reply.startswith(b"-"):
                    said.append((reply, seconds))
                    return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    with endless(proxy):
        for thread in threads:
            thread.join()
        assert {reply for reply, _ in said} == {BUSY}
        assert max(seconds for _, seconds in said) < PATIENCE


@pytest.mark.parametrize("database", [0, 1])
def test_those_who_call_scripts_too(proxy: ProxyProcess, database: int) -> None:
    with Wire(proxy.address) as other:
        other.ask("SELECT", database)
        assert other.ask("EVAL", "return 1", 1, KEY) == b":1\r\n"
        with endless(proxy):
            for command in (OTHERS["GET"], OTHERS["SET"], OTHERS["EVAL"]):
                reply, seconds = timed(other, *command)
                assert reply == BUSY
                assert seconds < PATIENCE
            assert other.ask("SCRIPT", "KILL") == OK
            assert eventually(lambda: other.ask("SET", KEY, 1) == OK)


def test_a_connection_that_has_to_be_made(proxy: ProxyProcess) -> None:
    """In a database that nobody has used yet."""
    with Wire(proxy.address) as other, endless(proxy):
        assert other.ask("SELECT", 7) == OK
        for command in (OTHERS["SET"], OTHERS["BLPOP"]):
            reply, seconds = timed(other, *command)
            assert reply == BUSY
            assert seconds < PATIENCE + 1
        assert other.ask("SCRIPT", "KILL") == OK
        assert eventually(lambda: other.ask("SET", KEY, 1) == OK)


def test_a_transaction(proxy: ProxyProcess) -> None:
    with Wire(proxy.address) as other, endless(proxy) as caller:
        other.send(pipeline(("MULTI",), ("SET", KEY, 2), ("EXEC",)))
        replies = other.replies(3)
        assert replies[2].startswith(b"-EXECABORT Transaction discarded because of: BUSY ")
        assert other.ask("SCRIPT", "KILL") == OK
        assert caller.reply().startswith(b"-ERR ")
        caller.send(pipeline(("MULTI",), ("EVAL", ENDLESS, 1, KEY), ("EXEC",)))
        time.sleep(0.1)
        assert timed(other, "SET", KEY, 1)[0] == BUSY
        assert other.ask("SCRIPT", "KILL") == OK
        assert caller.replies(3)[2].startswith(b"*1\r\n-ERR ")


@pytest.mark.parametrize(("protocol", "milliseconds"), [(2, 100), (3, 1500)])
@pytest.mark.parametrize("kind", ["SCRIPT", "FUNCTION"])
def test_a_kill_before_the_threshold_waits_for_it(
    proxy: ProxyProcess, shards: LocalShards, kind: str, milliseconds: int, protocol: int
) -> None:
    """No connection for it stands yet."""
    threshold(shards.primaries, milliseconds)
    command: tuple[Argument, ...] = ("EVAL", ENDLESS, 1, KEY)
    with Wire(proxy.address, protocol=protocol) as other:
        if kind == "FUNCTION":
            if not other.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY).startswith(b"$"):
                pytest.skip("the server knows no functions")
            command = ("FCALL", "endless", 1, KEY)
        with endless(proxy, *command) as caller:
            reply, seconds = timed(other, kind, "KILL")
            assert reply == OK
            assert seconds < milliseconds / 1000 + 3.0
            assert caller.reply().startswith(b"-ERR ")
        assert other.ask(kind, "KILL").startswith(b"-NOTBUSY ")
        assert other.ask("SET", KEY, 1) == OK


def test_what_wrote_can_not_be_killed(proxy: ProxyProcess, shards: LocalShards) -> None:
    with (
        Wire(proxy.address) as other,
        endless(proxy, "EVAL", "redis.call('set', KEYS[1], 1) while true do end", 1, KEY),
    ):
        assert other.ask("SCRIPT", "KILL").startswith(b"-UNKILLABLE ")
        assert timed(other, "GET", KEY)[0] == BUSY
    _restart(shards, proxy)


def _restart(shards: LocalShards, proxy: ProxyProcess) -> None:
    """End the server that nothing else ends."""
    for server in shards.primaries:
        if _busy(server):
            server.kill()
            server.start()
    with Wire(proxy.address) as client:
        assert eventually(lambda: client.ask("SET", KEY, 1) == OK)


def _busy(server: LocalServer) -> bool:
    with Wire(server.address) as direct:
        return timed(direct, "PING")[0] == BUSY


@pytest.mark.parametrize("protocol", [2, 3])
def test_reads_behind_the_script(proxy: ProxyProcess, protocol: int) -> None:
    """Of clients that share its connection: they are told so too, but for those behind a write that waits."""
    with contextlib.ExitStack() as stack:
        reader, writer, behind, caller = (
            stack.enter_context(Wire(proxy.address, protocol=protocol, timeout=60)) for _ in range(4)
        )
        for client in (reader, writer, behind, caller):
            assert client.ask("EVAL", "return 1", 1, KEY) == b":1\r\n"
        assert eventually(lambda: caller.ask("SET", KEY, 1) == OK)  # nothing runs there any more
        caller.send(pack("EVAL", ENDLESS, 1, KEY))
        time.sleep(0.01)  # it is on its way; soon nobody else is sent over its connection any more
        reader.send(pipeline(("GET", KEY), ("MGET", KEY, f"{{{OTHER}}}k"), ("STRLEN", KEY)))
        writer.send(pack("SET", KEY, 22))
        behind.send(pipeline(("SET", KEY, 333), ("GET", KEY)))
        assert set(map(redis_words, reader.replies(3))) == {BUSY}
        assert reader.ask("SCRIPT", "KILL") == OK
        assert caller.reply().startswith(b"-ERR ")
        assert {redis_words(writer.reply())} <= {OK, BUSY}
        said = behind.replies(2)
        assert said == [OK, b"$3\r\n333\r\n"] or BUSY in map(redis_words, said)


def test_a_client_behind_the_script_sees_its_own_writes_in_order(proxy: ProxyProcess, shards: LocalShards) -> None:
    """What it reads in front of a write is what was there before, whichever connections the server reads first."""
    threshold(shards.primaries, 10_000)
    with contextlib.ExitStack() as stack:
        caller, *others = (stack.enter_context(Wire(proxy.address, timeout=60)) for _ in range(9))
        for client in (caller, *others):
            assert client.ask("EVAL", "return 1", 1, KEY) == b":1\r\n"
        for turn in range(4):
            caller.send(pack("EVAL", LASTING, 1, KEY, 150_000))
            time.sleep(0.01)
            for number, client in enumerate(others):
                mine, whole = f"{KEY}:{number}", f"{KEY}:{number}:whole"
                client.send(
                    pipeline(
                        ("GET", mine),
                        ("MGET", mine, f"{{{OTHER}}}k"),
                        ("GET", whole),
                        ("SET", mine, f"turn {turn}"),
                        ("DBSIZE",),
                        ("GET", mine),
                    )
                )
            before = b"$-1\r\n" if not turn else b"$6\r\nturn %d\r\n" % (turn - 1)
            for client in others:
                got = client.replies(6)
                assert got[0] == before, got
                assert got[1].startswith(b"*2\r\n" + before), got
                assert got[5] == b"$6\r\nturn %d\r\n" % turn, got
            assert caller.reply() == b"+OK\r\n"


def test_a_script_that_runs_at_a_replica(binary: ServerBinary, serve: Serve) -> None:
    """Who reads there, and calls scripts too, is told so; whoever writes goes on, and it can be killed."""
    if binary.kind == "redis" and binary.version_info < (7,):
        pytest.skip("no EVAL_RO")
    with start_many(1, 1, binary=binary) as shards:
        threshold(shards.servers, THRESHOLD)
        proxy = serve("--static", shards.static, "--read-from", "replica")
        with Wire(proxy.address) as other:
            assert other.ask("EVAL_RO", "return 1", 1, KEY) == b":1\r\n"
            with endless(proxy, "EVAL_RO", ENDLESS, 1, KEY) as caller:
                assert eventually(lambda: _busy(shards.servers[1]))
                for command in (OTHERS["GET"], ("EVAL_RO", "return 1", 1, KEY)):
                    reply, seconds = timed(other, *command)
                    assert reply == BUSY
                    assert seconds < PATIENCE + 1
                assert other.ask("SET", KEY, 1) == OK
                assert shards.primaries[0].ask("PING") == b"PONG"
                assert other.ask("SCRIPT", "KILL") == OK
                assert caller.reply().startswith(b"-ERR ")


@pytest.fixture(scope="module", params=["cluster", "sentinel"])
def where_roles_change(
    request: pytest.FixtureRequest, binary: ServerBinary, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """A proxy that asks each server who it is, or what, before it uses a connection."""
    with contextlib.ExitStack() as stack:
        primaries: Sequence[LocalServer]
        arguments: tuple[str, ...]
        if request.param == "cluster":
            cluster = stack.enter_context(start_cluster(2, 0, binary=binary))
            primaries, arguments = cluster.primaries(), ("--cluster", cluster.seeds)
        else:
            watched = stack.enter_context(start_watched(2, 0, 1, binary=binary, down_after=60.0))
            primaries = [watched.primary(name) for name in watched.names]
            arguments = ("--sentinel", watched.sentinels[0].address, "--masters", watched.masters)
        threshold(primaries, THRESHOLD)
        directory = tmp_path_factory.mktemp(request.param)
        yield stack.enter_context(ProxyProcess(directory, *arguments).serving())


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_server_that_is_too_busy_to_say_who_it_is(where_roles_change: ProxyProcess, protocol: int) -> None:
    """Whose connection has to be made meanwhile is told that it is busy, and the script can be killed."""
    proxy = where_roles_change
    with Wire(proxy.address, protocol=protocol) as other:
        assert other.ask("EVAL", "return 1", 1, KEY) == b":1\r\n"
        with endless(proxy) as caller:
            for case in ("SET", "GET", "EVAL", "DBSIZE", "BLPOP"):
                reply, seconds = timed(other, *OTHERS[case])
                assert reply == BUSY, case
                assert seconds < PATIENCE + 1
            assert other.ask("SCRIPT", "KILL") == OK
            assert caller.reply().startswith(b"-ERR ")
        assert eventually(lambda: other.ask("SET", KEY, 1) == OK)
