"""SLOTGATE and what else is for users with ``admin = true``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.devservers.servers import LocalServer, LocalShards, start_many
from proxy.sharding.slots import key_slot
from tests.support.binaries import FULL
from tests.support.fixtures import Serve, find
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire, decode

pytestmark = pytest.mark.live

USERS = """
[[users]]
name = "default"
nopass = true

[[users]]
name = "root"
password = "sesame-and-poppy"
admin = true
"""
OK = b"+OK\r\n"


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    """Two shards, each with a replica."""
    options = ("enable-debug-command yes",)
    with start_many(2, 1, binary=find(FULL[0]), options=options) as shards:
        yield shards


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def proxy(
    request: pytest.FixtureRequest, shards: LocalShards, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """Before them."""
    arguments = ["--static", shards.static, "--workers", str(request.param), "--read-from", "prefer_replica"]
    proxy = ProxyProcess(tmp_path_factory.mktemp("slotgate"), *arguments, config=USERS)
    with proxy.serving():
        yield proxy


@pytest.fixture
def anybody(proxy: ProxyProcess) -> Iterator[Wire]:
    """A client whose user may not."""
    with Wire(proxy.address) as wire:
        yield wire


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def root(proxy: ProxyProcess, request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A client whose user may."""
    with Wire(proxy.address) as wire:
        assert wire.ask("HELLO", request.param, "AUTH", "root", "sesame-and-poppy")[:1] in b"*%"
        yield wire


def maps(frame: bytes) -> list[dict[bytes, Any]]:
    """An array of maps of either protocol."""
    rows = decode(frame)
    assert isinstance(rows, list)
    return [row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True)) for row in rows]


def test_who_may_not(anybody: Wire) -> None:
    for command in ("NODES", "WHERE k", "SEND shard-1 PING", "CLIENTS", "CONFIG", "HELP"):
        name = command.split()[0].lower()
        reply = b"-NOPERM this user has no permissions to run the 'slotgate|%b' command\r\n" % name.encode()
        assert anybody.ask("SLOTGATE", *command.split()) == reply
    assert anybody.ask("SLOTGATE", "NOTHING") == b"-ERR unknown subcommand 'NOTHING'. Try SLOTGATE HELP.\r\n"
    assert anybody.ask("SLOTGATE") == b"-ERR wrong number of arguments for 'slotgate' command\r\n"
    assert anybody.ask("CONFIG", "SET", "hz", "10") == (
        b"-NOPERM this user has no permissions to run the 'config|set' command\r\n"
    )


def test_nodes(root: Wire, shards: LocalShards) -> None:
    def settled() -> bool:
        # The proxy's own question for a server's role may be in flight.
        rows[:] = maps(root.ask("SLOTGATE", "NODES"))
        return all((row[b"state"], row[b"in-flight"]) == (b"ready", 0) and row[b"lag-ms"] != -1 for row in rows)

    rows: list[dict[bytes, Any]] = []
    root.ask("EXISTS", "a", "b", "c", "d")
    assert eventually(settled)
    assert [row[b"address"] for row in rows] == [
        server.address.encode()
        for primary, replicas in zip(shards.primaries, shards.replicas, strict=True)
        for server in (primary, *replicas)
    ]
    assert [row[b"role"] for row in rows] == [b"primary", b"replica"] * 2
    assert [row[b"shard"] for row in rows] == [b"shard-1", b"shard-1", b"shard-2", b"shard-2"]
    assert [row[b"slots"] for row in rows] == [b"0-8191", b"0-8191", b"8192-16383", b"8192-16383"]


def test_where(root: Wire, shards: LocalShards) -> None:
    rows = maps(root.ask("SLOTGATE", "WHERE", "foo", "{foo}bar", "a"))
    assert [row[b"slot"] for row in rows] == [key_slot(b"foo"), key_slot(b"foo"), key_slot(b"a")]
    for row in rows:
        index = [b"shard-1", b"shard-2"].index(row[b"shard"])
        assert row[b"slot"] in (range(8192), range(8192, 16384))[index]
        assert row[b"address"] == shards.primaries[index].address.encode()


def test_send(root: Wire, shards: LocalShards) -> None:
    for shard, primary in enumerate(shards.primaries, start=1):
        assert root.ask("SLOTGATE", "SEND", f"shard-{shard}", "SET", "who", shard) == OK
        assert root.ask("SLOTGATE", "SEND", primary.address, "GET", "who") == b"$1\r\n%d\r\n" % shard
        assert root.ask("SLOTGATE", "SEND", primary.address, "DEL", "who") == b":1\r\n"
    (replica,) = shards.replicas[0]
    assert root.ask("SLOTGATE", "SEND", replica.address, "SET", "who", 1).startswith(b"-READONLY")
    unknown = root.ask("SLOTGATE", "SEND", "nobody", "PING")
    assert unknown.startswith(b"-ERR no server or shard is called 'nobody'. There are shard-1, 127.0.0.1:")
    assert root.ask("SLOTGATE", "SEND", "shard-1", "NONSENSE").startswith(b"-ERR unknown command 'NONSENSE'")


def test_send_is_in_order_and_leaves_nothing_behind(root: Wire) -> None:
    """It may do anything to its connection; the next one has another."""
    root.send(b"".join(b"*2\r\n$4\r\nINCR\r\n$1\r\n%c\r\n" % key for key in b"abcd"))
    assert root.replies(4)[0][:1] == b":"
    assert root.ask("SLOTGATE", "SEND", "shard-1", "MULTI") == OK
    assert root.ask("SLOTGATE", "SEND", "shard-1", "EXEC") == b"-ERR EXEC without MULTI\r\n"
    assert root.ask("SLOTGATE", "SEND", "shard-1", "SUBSCRIBE", "news")[:1] in b"*>-"
    assert root.ask("PING") == b"+PONG\r\n"


def test_send_to_a_server_that_closes_the_connection(root: Wire) -> None:
    reply = root.ask("SLOTGATE", "SEND", "shard-1", "QUIT")
    assert reply == OK
    reply = root.ask("SLOTGATE", "SEND", "shard-1", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
    assert reply[:1] in b":-"


def test_clients(root: Wire, anybody: Wire) -> None:
    anybody.ask("CLIENT", "SETNAME", "somebody")
    text = decode(root.ask("SLOTGATE", "CLIENTS"))
    lines = text.decode().removeprefix("txt:").splitlines() if isinstance(text, bytes) else str(text).splitlines()
    (line,) = [line for line in lines if "name=somebody" in line]
    assert line.endswith(" in-flight=0 unread=0 parked=0")
    assert any("user=root" in line for line in lines)


def test_config(root: Wire) -> None:
    frame = root.ask("SLOTGATE", "CONFIG")
    assert b"sesame" not in frame
    (settings,) = maps(b"*1\r\n" + frame)
    assert settings[b"read_from"] == b"prefer_replica"
    assert settings[b"backend.request_timeout"] == b"15.0"
    assert settings[b"users[1].name"] == b"root"
    assert settings[b"users[1].admin"] == b"true"
    assert not any(b"password_sha256" in name or name.endswith(b".password") for name in settings)
    (pair,) = maps(b"*1\r\n" + root.ask("SLOTGATE", "CONFIG", "limits.max_cl?ents"))
    assert pair == {b"limits.max_clients": b"10000"}


def test_help(root: Wire) -> None:
    lines = decode(root.ask("SLOTGATE", "HELP"))
    assert isinstance(lines, list)
    assert lines[0].startswith(b"SLOTGATE <subcommand>")
    assert {line.split()[0] for line in lines[1:] if not line.startswith(b" ")} == {
        *(b"CLIENTS", b"CONFIG", b"NODES", b"RELOAD", b"SCRIPTS", b"SEND", b"WHERE", b"HELP")
    }


SHUT_OUT = (
    *("requirepass", "REQUIREPASS", "masteruser", "masterauth", "port", "bind", "protected-mode", "maxclients"),
    *("tls-port", "tls-cert-file", "tls-auth-clients", "cluster-announce-ip", "replica-announce-port"),
)
"""What could leave the proxy outside of its servers."""


def test_what_could_shut_the_proxy_out_of_its_servers(root: Wire, shards: LocalShards) -> None:
    """Nothing of it is carried out, whatever else it sets, and what to do is said; to one server it may be sent."""
    before = [server.ask("CONFIG", "GET", "*") for server in shards.servers]
    for name in SHUT_OUT:
        for words in ([name, "1"], ["maxmemory-samples", "9", name, "1"]):
            answer = root.ask("CONFIG", "SET", *words).decode()
            assert answer.startswith(f"-ERR CONFIG SET {name.lower()} at all servers at once could shut the proxy out")
            assert "SLOTGATE SEND <node>" in answer
    assert [server.ask("CONFIG", "GET", "*") for server in shards.servers] == before
    assert root.ask("SET", "k", "v") == OK


def test_passwords_are_set_and_changed_as_the_refusal_says(tmp_path: Path, serve: Serve) -> None:
    """The first one, and then another: the servers' clients are never without one that both take."""
    server = LocalServer(find(FULL[0]), tmp_path)
    server.start()
    try:

        def root(password: str) -> Wire:
            backend = f'[backend]\nusername = "default"\npassword = "{password}"\n'
            wire = Wire(serve("--static", server.address, config=USERS + backend).address)
            assert wire.ask("AUTH", "root", "sesame-and-poppy") == OK
            return wire

        with root("one") as first:
            assert first.ask("SLOTGATE", "SEND", server.address, "CONFIG", "SET", "requirepass", "one") == OK
            assert first.ask("SLOTGATE", "SEND", server.address, "ACL", "SETUSER", "default", ">two") == OK
            assert first.ask("BLPOP", "list", "0.01") == b"*-1\r\n"  # over a connection that is made now
        with root("two") as second:
            assert second.ask("SLOTGATE", "SEND", server.address, "ACL", "SETUSER", "default", "<one") == OK
            assert second.ask("BLPOP", "list", "0.01") == b"*-1\r\n"
            assert second.ask("SET", "k", "v") == OK
        with Wire(server.address) as wire:
            assert wire.ask("AUTH", "one").startswith(b"-WRONGPASS")
    finally:
        server.kill()


def test_it_is_refused_in_a_transaction_too(shards: LocalShards, serve: Serve) -> None:
    proxy = serve("--static", shards.primaries[0].address, config=USERS)
    with Wire(proxy.address) as wire:
        assert wire.ask("AUTH", "root", "sesame-and-poppy") == OK
        assert wire.ask("MULTI") == OK
        assert wire.ask("CONFIG", "SET", "requirepass", "x").startswith(b"-ERR CONFIG SET requirepass at all servers")
        assert wire.ask("EXEC").startswith(b"-EXECABORT")
        assert wire.ask("CONFIG", "SET", "Port", "1").startswith(b"-ERR CONFIG SET port")
    assert shards.primaries[0].ask("PING") == b"PONG"


def test_settings_reach_all_servers(root: Wire, shards: LocalShards) -> None:
    assert root.ask("CONFIG", "SET", "slowlog-max-len", "77") == OK

    def everywhere() -> bool:
        found = [root.ask("SLOTGATE", "SEND", server.address, "CONFIG", "GET", "slowlog-max-len") for server in servers]
        return all(reply.endswith(b"$2\r\n77\r\n") for reply in found)

    servers = shards.servers
    assert eventually(everywhere)
    assert root.ask("CONFIG", "SET", "slowlog-max-len", "128") == OK
    assert root.ask("CONFIG", "SET", "nonsense", "1").startswith(b"-ERR Unknown option")
    assert root.ask("CONFIG", "RESETSTAT") == OK
    root.ask("SET", "somewhere", "x")
    assert root.ask("DEBUG", "OBJECT", "somewhere").startswith(b"+Value at:")
    assert root.ask("DEBUG", "OBJECT", "nowhere") == b"-ERR no such key\r\n"
    assert root.ask("SHUTDOWN") == (
        b"-ERR 'shutdown' is refused by the proxy: it would stop a server that other clients use. "
        b"Run it on one server, by SLOTGATE SEND <address> ...\r\n"
    )


def test_who_tracks_keys_may_ask_a_server_to_sleep(proxy: ProxyProcess, anybody: Wire) -> None:
    """DEBUG SLEEP goes over the connection that tracks: nothing is forgotten there, and NOLOOP still holds."""
    with Wire(proxy.address) as root:
        assert root.ask("HELLO", 3, "AUTH", "root", "sesame-and-poppy")[:1] == b"%"
        assert root.ask("CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP") == OK
        for command in (("SET", "{t}own", 1), ("DEBUG", "SLEEP", 0), ("SET", "{t}own", 2)):
            assert root.ask(*command) == OK
        assert anybody.ask("SET", "{t}other", 1) == OK
        assert root.reply() == b">2\r\n$10\r\ninvalidate\r\n*1\r\n$8\r\n{t}other\r\n"
        assert root.ask("PING") == b"+PONG\r\n"
