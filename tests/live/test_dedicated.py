"""Connections that clients have for themselves: how many, and what is said when there are no more."""

import contextlib
import re
import time
from collections.abc import Iterator

import pytest

from proxy.devservers.servers import LocalShards, find_server, start_many
from tests.live.client_lists import until_blocked
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.wire import Wire, pack, pipeline

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    """Two shards."""
    with start_many(2, 0, binary=find_server()) as running:
        yield running


FIRST = "t0"
THREE = '[backend]\ndedicated_connections = 3\ndedicated_share = "100%"\nconnect_timeout = "10s"\n'
"""A connection that comes to nothing, as the machine is busy, would make room for another."""


def test_no_more_than_allowed(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static, config=THREE)
    blocked = [Wire(proxy.address) for _ in range(3)]
    with Wire(proxy.address) as other:
        for count, client in enumerate(blocked, 1):
            client.send(pack("BLPOP", FIRST, 0))
            until_blocked(other, count)
        for command in (("BLPOP", FIRST, 0), ("XREAD", "BLOCK", 0, "STREAMS", FIRST, "$")):
            said = other.ask(*command)
            assert re.match(
                rb"-ERR shard '.*' \(.*\): all 3 connections .* \(backend.dedicated_connections\). The command was not",
                said,
            ), said
        assert other.ask("SET", FIRST + "x", 1) == b"+OK\r\n"  # who needs none is not concerned
        blocked.pop().close()
        until_blocked(other, 2)
        assert other.ask("BLPOP", FIRST, "0.01") == b"*-1\r\n"
        metrics = proxy.http("/metrics")[1]
        assert "slotgate_dedicated_refused_total 2.0" in metrics
        assert re.search(r'slotgate_dedicated_connections\{.*state="used".*\} 2\.0', metrics)
        assert re.search(r'slotgate_dedicated_connections\{.*state="idle".*\} 1\.0', metrics)
    for client in blocked:
        client.close()


def test_who_comes_then_waits_if_so_configured(shards: LocalShards, serve: Serve) -> None:
    config = '[backend]\ndedicated_connections = 1\ndedicated_wait = "10s"\n'
    proxy = serve("--static", shards.static, config=config)
    first, second = Wire(proxy.address), Wire(proxy.address)
    with Wire(proxy.address) as other:
        first.send(pack("BLPOP", FIRST, 0))
        until_blocked(other)
        second.send(pack("BLPOP", FIRST, 0))  # it does not block yet: no server has its command
        assert second.silent()
        assert b"blocked_clients:1\r\n" in other.ask("INFO", "clients")
        other.ask("RPUSH", FIRST, "a", "b")
        assert first.reply().endswith(b"a\r\n")
        assert second.reply().endswith(b"b\r\n")
        # One that is unblocked while it waits for a connection is told so by the proxy.
        first.send(pack("BLPOP", FIRST, 0))
        until_blocked(other)
        number = second.value("CLIENT", "ID")
        assert isinstance(number, int)
        for how, reply in (("TIMEOUT", b"*-1\r\n"), ("ERROR", b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")):
            second.send(pack("BLPOP", FIRST, 0))
            assert eventually(lambda: other.ask("CLIENT", "UNBLOCK", number, how) == b":1\r\n")  # noqa: B023
            assert second.reply() == reply
    first.close()
    second.close()


def test_the_only_one_makes_room_for_one_in_another_state(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static, config="[backend]\ndedicated_connections = 1\n")
    with Wire(proxy.address) as client:
        for database in (0, 1, 1, 0):
            client.ask("SELECT", database)
            assert client.ask("BLPOP", FIRST, "0.01") == b"*-1\r\n"


def test_a_server_that_does_not_unblock_clients(shards: LocalShards, serve: Serve) -> None:
    """The proxy's user may not, or the server does not know how: nobody stays blocked for that."""
    proxy = serve("--static", shards.static, config="drain_timeout = '1s'\n")
    for server in shards.primaries:
        server.ask("ACL", "SETUSER", "default", "-client|unblock")
    with Wire(proxy.address) as client, Wire(proxy.address) as other:
        number = client.value("CLIENT", "ID")
        assert isinstance(number, int)
        for command, reply in (
            (("XREAD", "BLOCK", 0, "STREAMS", FIRST, "$"), b"*-1\r\n"),
            (("BLPOP", FIRST, 0), b"-UNCERTAIN shard"),
        ):
            client.send(pack(*command))
            assert eventually(
                lambda: any(server.info("clients")["blocked_clients"] == "1" for server in shards.primaries)
            )
            assert other.ask("CLIENT", "UNBLOCK", number) == b":1\r\n"
            assert client.reply().startswith(reply)
        assert eventually(lambda: all(server.info("clients")["blocked_clients"] == "0" for server in shards.primaries))
        client.send(pack("BLPOP", FIRST, 0))
        assert eventually(lambda: any(server.info("clients")["blocked_clients"] == "1" for server in shards.primaries))
        proxy.stop()
    for server in shards.primaries:
        server.ask("ACL", "SETUSER", "default", "+client|unblock")


def test_they_are_used_again_and_clean(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static)
    server = next(server for server in shards.primaries if _has(server.address, proxy.address))
    with Wire(proxy.address) as client:
        assert client.ask("BLPOP", FIRST, "0.01") == b"*-1\r\n"
        before = int(server.info("stats")["total_connections_received"])
        for number in range(50):
            client.send(pipeline(("RPUSH", FIRST, number), ("BLPOP", FIRST, 0)))
            client.replies(2)
            client.send(pipeline(("WATCH", FIRST), ("MULTI",), ("GET", FIRST), ("EXEC",)))
            client.replies(4)
        # Each INFO here is a connection too.
        assert int(server.info("stats")["total_connections_received"]) - before < 10
    assert "not clean" not in proxy.log

    def flags() -> set[str]:
        listed = server.ask("CLIENT", "LIST", "TYPE", "normal")
        assert isinstance(listed, bytes)
        return set(re.findall(r"flags=(\w+)", listed.decode()))

    # "e": the shared ones are not closed to save memory.
    assert eventually(lambda: flags() == {"N", "e"})


def _has(server: str, proxy: str) -> bool:
    """Whether this server has the key."""
    with Wire(proxy) as client, Wire(server) as direct:
        client.ask("SET", FIRST, 1)
        found = direct.ask("EXISTS", FIRST) == b":1\r\n"
        client.ask("DEL", FIRST)
        return found


def test_who_sends_on_and_on_while_it_waits_is_closed(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.static, config='[limits]\nmax_bulk = "1mb"\nmax_request_size = "1mb"\n')
    with Wire(proxy.address) as client, Wire(proxy.address) as other:
        client.send(pack("BLPOP", FIRST, 0))
        until_blocked(other)
        client.send(pack("SET", FIRST + "late", "x" * 500_000))
        assert client.silent()
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                client.send(pack("SET", FIRST + "late", "x" * 500_000))
        assert client.closed()
        until_blocked(other, 0)
        assert other.ask("EXISTS", FIRST + "late") == b":0\r\n"
    assert "reason='request limit'" in proxy.log


def test_a_proxy_that_stops_waits_for_them_until_its_deadline(shards: LocalShards, serve: Serve) -> None:
    """Then they are closed, and nothing is popped for them any more."""
    proxy = serve("--static", shards.static, config="drain_timeout = '1s'\n")
    clients = [Wire(proxy.address) for _ in range(2)]
    clients[0].send(pack("BLPOP", FIRST, 0))
    clients[1].send(pack("SET", FIRST + "x", 1) + pack("WAIT", 1, 0))
    with Wire(proxy.address) as other:
        until_blocked(other, 2)
    began = time.monotonic()
    proxy.stop()
    assert 1 < time.monotonic() - began < 10
    assert [client.rest() for client in clients] == [b"", b"+OK\r\n"]
    for server in shards.primaries:
        assert eventually(lambda server=server: server.info("clients")["blocked_clients"] == "0")  # type: ignore[misc]
    for client in clients:
        client.close()


def test_two_workers(shards: LocalShards, serve: Serve) -> None:
    """One unblocks the other's clients, and counts them."""
    proxy = serve("--static", shards.static, "--workers", "2", config="drain_timeout = '1s'\n")
    clients = [Wire(proxy.address) for _ in range(12)]
    numbers = [client.value("CLIENT", "ID") for client in clients]
    assert {int(str(number)) % 2 for number in numbers} == {0, 1}
    with Wire(proxy.address) as other:
        for client in clients:
            client.send(pack("BLPOP", FIRST, 0))
        until_blocked(other, len(clients))
        for client, number in zip(clients, numbers, strict=True):
            assert other.ask("CLIENT", "UNBLOCK", str(number)) == b":1\r\n"
            assert client.reply() == b"*-1\r\n"
            assert other.ask("CLIENT", "UNBLOCK", str(number)) == b":0\r\n"
        until_blocked(other, 0)
    for client in clients:
        client.close()
