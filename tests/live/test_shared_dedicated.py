"""Connections that clients have for themselves: nobody takes all of them, and none for ever."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from proxy.devservers.servers import LocalShards, ServerBinary, start_many
from tests.live.client_lists import until_blocked
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.wire import Argument, Wire, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
USERS = """
[[users]]
name = "default"
nopass = true
admin = true
[[users]]
name = "other"
password = "secret"
"""


@pytest.fixture(scope="module")
def shard(binary: ServerBinary) -> Iterator[LocalShards]:
    """One shard."""
    with start_many(1, 0, binary=binary) as running:
        yield running


class Elsewhere(Wire):
    """A client at another address of this machine."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.close()
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 15, source_address=("127.0.0.2", 0))


def take(stack: ExitStack, address: str, count: int) -> list[Wire]:
    """Clients that watch a key each."""
    clients = [stack.enter_context(Wire(address)) for _ in range(count)]
    assert {client.ask("WATCH", "k") for client in clients} == {OK}
    return clients


@pytest.mark.parametrize("most", [1, 4])
@pytest.mark.parametrize("command", [("SCRIPT", "KILL"), ("FUNCTION", "KILL"), ("FUNCTION", "STATS")], ids=" ".join)
def test_what_is_watched_does_not_keep_a_script_alive(
    shard: LocalShards, serve: Serve, most: int, command: tuple[Argument, ...]
) -> None:
    share = 'dedicated_share = "100%"\n' if most > 1 else ""  # of one it is one
    config = f"[backend]\ndedicated_connections = {most}\n{share}{USERS}"
    proxy = serve("--static", shard.static, config=config)
    with ExitStack() as stack:
        take(stack, proxy.address, most)
        other = stack.enter_context(Wire(proxy.address))
        assert b"all %d connections" % most in other.ask("BLPOP", "list", 0)
        said = other.ask(*command)
        assert said.startswith((b"-NOTBUSY", b"*", b"%")), said
        if command == ("SCRIPT", "KILL"):
            shard.primaries[0].ask("CONFIG", "SET", "busy-reply-threshold", "50")
            runs = stack.enter_context(Wire(proxy.address))
            runs.send(pack("EVAL", "while true do end", 0, "k"))
            assert eventually(lambda: other.ask("SCRIPT", "KILL") == OK)
            assert b"killed by user" in runs.reply()


def test_others_get_some(shard: LocalShards, serve: Serve) -> None:
    """Those at another address, and other users at the same one."""
    config = f"[backend]\ndedicated_connections = 10\n{USERS}"
    proxy = serve("--static", shard.static, config=config)
    with ExitStack() as stack:
        held = take(stack, proxy.address, 8)
        for command in (("WATCH", "k"), ("BLPOP", "list", 0), ("WAIT", 1, 0)):
            with Wire(proxy.address) as client:
                said = client.ask(*command)
                assert said.startswith(b"-ERR shard 'shard-1' "), said
                assert b"default@127.0.0.1 has 8 of the 10 " in said
                assert b"(backend.dedicated_share)" in said
                assert client.ask("SET", "x", 1) == OK
        elsewhere = stack.enter_context(Elsewhere(proxy.address))
        assert elsewhere.ask("BLPOP", "list", "0.01") == b"*-1\r\n"
        user = stack.enter_context(Wire(proxy.address))
        assert user.ask("AUTH", "other", "secret") == OK
        assert user.ask("WATCH", "k") == OK
        held.pop().close()
        with Wire(proxy.address) as client:
            assert eventually(lambda: client.ask("WATCH", "k") == OK)
        assert "slotgate_dedicated_refused_total" in proxy.http("/metrics")[1]


def test_others_may_track(shard: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shard.static, config="[backend]\ndedicated_connections = 4\n")
    with ExitStack() as stack:
        clients = [stack.enter_context(Wire(proxy.address, protocol=3)) for _ in range(4)]
        said = [client.ask("CLIENT", "TRACKING", "ON") for client in clients]
        assert said[:3] == [OK] * 3
        assert b"backend.dedicated_share" in said[3]
        elsewhere = stack.enter_context(Elsewhere(proxy.address))
        elsewhere.ask("HELLO", 3)
        assert elsewhere.ask("CLIENT", "TRACKING", "ON") == OK


def test_a_watch_that_was_forgotten(shard: LocalShards, serve: Serve) -> None:
    """It ends as if a key had been changed, and its connection is another's."""
    config = '[backend]\ndedicated_connections = 1\nwatch_timeout = "1s"\n'
    proxy = serve("--static", shard.static, config=config)
    with Wire(proxy.address) as client, Wire(proxy.address) as other:
        for queued in (False, True):
            assert client.ask("SET", "k", 1) == OK
            assert client.ask("WATCH", "k") == OK
            if queued:
                client.send(pipeline(("MULTI",), ("SET", "k", 2)))
                assert client.replies(2) == [OK, b"+QUEUED\r\n"]
            assert b"all 1 connections" in other.ask("BLPOP", "list", "0.01")
            assert eventually(lambda: other.ask("BLPOP", "list", "0.01") == b"*-1\r\n")
            if not queued:
                client.send(pipeline(("MULTI",), ("SET", "k", 2)))
                client.replies(2)
            assert client.ask("EXEC") == b"*-1\r\n"
            assert client.ask("GET", "k") == b"$1\r\n1\r\n"
        # In time it is as ever.
        client.send(pipeline(("WATCH", "k"), ("MULTI",), ("SET", "k", 2), ("EXEC",)))
        assert client.replies(4)[-1] == b"*1\r\n" + OK
        # What was watched since is ended with the first.
        assert client.ask("WATCH", "k") == OK
        time.sleep(0.6)
        assert client.ask("WATCH", "l") == OK
        assert eventually(lambda: other.ask("BLPOP", "list", "0.01") == b"*-1\r\n", 5)
        assert client.ask("UNWATCH") == OK
        client.send(pipeline(("MULTI",), ("SET", "k", 3), ("EXEC",)))
        assert client.replies(3)[-1] == b"*1\r\n" + OK
    assert proxy.log.count("watch ended as it is too old address=127.0.0.1:") == 3


@pytest.mark.drill
def test_a_watch_may_last_where_that_is_said(shard: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shard.static, config='[backend]\nwatch_timeout = "0s"\n')
    with Wire(proxy.address) as client, Wire(proxy.address) as other:
        assert client.ask("WATCH", "k") == OK
        assert client.silent(1.5)
        assert client.ask("MULTI") == OK
        assert client.ask("GET", "k") == b"+QUEUED\r\n"
        assert client.ask("EXEC").startswith(b"*1\r\n")
        other.send(pack("BLPOP", "list", 0))
        until_blocked(client)


def test_a_server_that_saves_memory_closes_no_shared_connection(binary: ServerBinary, serve: Serve) -> None:
    """``maxmemory-clients`` closes those connections first that take the most."""
    with start_many(1, 0, binary=binary, options=("maxmemory-clients 1mb",)) as shards:
        server = shards.primaries[0]
        proxy = serve("--static", shards.static)
        value = b"x" * 200_000
        with ExitStack() as stack:
            clients = [stack.enter_context(Wire(proxy.address)) for _ in range(20)]
            hears = stack.enter_context(Wire(proxy.address))
            hears.ask("SUBSCRIBE", "channel")
            listed = server.ask("CLIENT", "LIST")
            assert isinstance(listed, bytes)
            flags = [line.split(b"flags=")[1].split()[0] for line in listed.splitlines() if b"cmd=client" not in line]
            assert all(b"e" in flag for flag in flags), listed  # "e": excluded from eviction
            assert b"T" not in b"".join(flags)
            for _ in range(5):
                for number, client in enumerate(clients):
                    client.send(pipeline(*(("SET", f"k{number}", value) for _ in range(5)), ("GET", f"k{number}")))
                for client in clients:
                    assert client.replies(6)[:5] == [OK] * 5
                assert clients[0].ask("PUBLISH", "channel", value) == b":1\r\n"
                assert hears.reply().endswith(value + b"\r\n")
            assert server.info("stats")["evicted_clients"] == "0"
        assert "lost" not in proxy.log
        assert "subscriber down" not in proxy.log
