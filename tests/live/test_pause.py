"""CLIENT PAUSE through the proxy, beside the same straight at a server."""

import contextlib
import re
import time
from collections.abc import Iterator

import pytest

from tests.live.client_lists import until_blocked
from tests.support.processes import eventually
from tests.support.site import Site
from tests.support.wire import Argument, Wire, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
READING = "#!lua flags=no-writes\nreturn 1"
WRITING = "#!lua\nreturn 2"
PLAIN = "return 3"
LIBRARY = """#!lua name=lib
redis.register_function{function_name='reads', callback=function() return 4 end, flags={'no-writes'}}
redis.register_function('writes', function() return 5 end)
"""


@pytest.fixture
def pairs(site: Site) -> Iterator[list[tuple[Wire, Wire]]]:
    """Two clients of a plain server, and two of the proxy; no pause is left."""
    made = [(site.direct(), site.direct()), (site.client(), site.client())]
    yield made
    for one, other in made:
        for wire in (one, other):
            wire.close()
    for wire in (site.direct(), site.client()):
        with wire:
            assert wire.ask("CLIENT", "UNPAUSE") == OK


THROUGH: list[list[Argument]] = [
    ["GET", "{t}k"],
    ["SET", "{t}k"],
    ["SET"],
    ["NOSUCH", "{t}k"],
    ["MGET", "{t}k", "{t}l"],
    ["EVAL", READING, 1, "{t}k"],
    ["EVAL", "#!lua flags=allow-oom,no-writes\nreturn 1", 1, "{t}k"],
    ["EVAL_RO", PLAIN, 1, "{t}k"],
    ["FCALL", "reads", 1, "{t}k"],
    ["FCALL_RO", "reads", 1, "{t}k"],
    ["WATCH", "{t}k"],
    ["UNWATCH"],
    ["PING"],
    ["SELECT", 0],
    ["DBSIZE"],
    ["BLPOP", "{t}k"],
    ["XREAD", "BLOCK", 10, "STREAMS", "{t}s", "$"],
    ["EXEC"],
    ["CONFIG", "GET", "maxmemory"],
]
"""What a PAUSE WRITE does not hold."""

HELD: list[list[Argument]] = [
    ["SET", "{t}k", 1],
    ["DEL", "{t}k", "{t}l"],
    ["BLPOP", "{t}k", 1],
    ["EVAL", WRITING, 1, "{t}k"],
    ["EVAL", "#!lua name=x flags=no-writes\nreturn 1", 1, "{t}k"],
    ["EVAL", "#!lua flags=no-writes,nosuch\nreturn 1", 1, "{t}k"],
    ["EVAL", "#!other flags=no-writes\nreturn 1", 1, "{t}k"],
    ["EVAL", PLAIN, 1, "{t}k"],
    ["FCALL", "writes", 1, "{t}k"],
    ["PUBLISH", "{t}c", "x"],
    ["PFCOUNT", "{t}p"],
    ["FLUSHALL"],
]
"""And what it holds."""


def filled(command: list[Argument], tag: str) -> list[Argument]:
    return [part.replace("{t}", "{" + tag + "}") if isinstance(part, str) else part for part in command]


def load(pairs: list[tuple[Wire, Wire]]) -> None:
    for _, other in pairs:
        assert other.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY) == b"$3\r\nlib\r\n"


def test_what_a_pause_of_writes_lets_through(site: Site, pairs: list[tuple[Wire, Wire]]) -> None:
    """Reads, by scripts and functions too; and what is wrong in any case."""
    load(pairs)
    said = []
    for client, other in pairs:
        assert other.ask("CLIENT", "PAUSE", 60_000, "WRITE") == OK
        said.append([client.ask(*filled(command, site.tags()[1])) for command in THROUGH])
        for command in THROUGH[5:10]:
            client.send(pipeline(("MULTI",), tuple(filled(command, site.tags()[1])), ("EXEC",)))
            said[-1] += client.replies(3)
        assert other.ask("CLIENT", "UNPAUSE") == OK
    assert said[0] == said[1]


@pytest.mark.parametrize("inside", [False, True], ids=["", "MULTI"])
def test_what_it_holds_counts_as_blocked(site: Site, pairs: list[tuple[Wire, Wire]], inside: bool) -> None:
    load(pairs)
    tag = site.tags()[1]
    said = []
    for client, other in pairs:
        number = client.value("CLIENT", "ID")
        assert isinstance(number, int)
        heard: list[bytes] = []
        for command in HELD:
            request = tuple(filled(command, tag))
            if inside and request[0] in ("FLUSHALL", "PUBLISH"):
                continue
            if site.plain.binary.kind == "valkey" and "#!other" in str(request):
                continue  # Valkey says at once that it has no such engine
            if inside:
                client.send(pipeline(("MULTI",), request))
                heard += client.replies(2)
            assert other.ask("CLIENT", "PAUSE", 60_000, "WRITE") == OK
            client.send(pack("EXEC") if inside else pack(*request))
            until_blocked(other)
            heard.append(flags(other, number))
            if client is pairs[1][0]:  # Redis 7.0 crashes at that
                assert other.ask("CLIENT", "UNBLOCK", number) == b":0\r\n"
            assert client.silent(0.02)
            assert other.ask("CLIENT", "UNPAUSE") == OK
            if request[0] == "BLPOP" and not inside:
                until_blocked(other)
                other.ask("RPUSH", str(request[1]), "x")
            heard += [client.reply(), flags(other, number)]
            until_blocked(other, 0)
            other.ask("DEL", f"{{{tag}}}k")
        said.append(heard)
    assert said[0] == said[1]


def flags(client: Wire, number: int) -> bytes:
    return client.ask("CLIENT", "LIST", "ID", number).partition(b" flags=")[2].partition(b" ")[0]


def test_many_are_held_and_go_on(site: Site, pairs: list[tuple[Wire, Wire]]) -> None:
    """What each sent behind that comes in order; who leaves is held no more, and what it sent is not carried out."""
    for key, (_, other) in zip(("{a}", "{b}"), pairs, strict=True):
        with contextlib.ExitStack() as stack:
            make = site.direct if other is pairs[0][1] else site.client
            waiting = [stack.enter_context(make()) for _ in range(20)]
            assert other.ask("CLIENT", "PAUSE", 60_000, "WRITE") == OK
            for client in waiting:
                client.send(pipeline(("INCR", key), ("PING",), ("INCR", key)))
            until_blocked(other, 20)
            for client in waiting[:5]:
                client.close()
            until_blocked(other, 15)
            assert other.ask("CLIENT", "UNPAUSE") == OK
            for client in waiting[5:]:
                assert client.replies(3)[1] == b"+PONG\r\n"
            assert other.ask("GET", key) == b"$2\r\n30\r\n"
            until_blocked(other, 0)


def test_much_is_sent_meanwhile(site: Site) -> None:
    """It is read up to a bound, and all of it is carried out when the pause is over."""
    with site.client() as client, site.client() as other:
        assert other.ask("CLIENT", "PAUSE", 1500, "WRITE") == OK
        value = "x" * 100_000
        began = time.monotonic()
        client.send(pipeline(*[("SET", "k", value)] * 100))
        assert client.replies(100) == [OK] * 100
        assert time.monotonic() - began > 1.0
        assert other.ask("STRLEN", "k") == b":100000\r\n"
        assert eventually(lambda: b"blocked_clients:0\r\n" in other.ask("INFO", "clients"))


def test_a_pause_of_all(site: Site, pairs: list[tuple[Wire, Wire]]) -> None:
    """Whoever sends anything is held, and counted when it is over."""
    for client, other in pairs:
        assert other.ask("CLIENT", "PAUSE", 300) == OK
        client.send(pack("GET", "k"))
        began = time.monotonic()
        assert client.reply() == b"$-1\r\n"
        assert time.monotonic() - began > 0.1
        until_blocked(other, 0)


def test_several_slots_are_refused_at_once(site: Site) -> None:
    one, two, _ = site.tags()
    with site.client() as client, site.client() as other:
        assert other.ask("CLIENT", "PAUSE", 60_000, "WRITE") == OK
        assert client.ask("RENAME", one, two).startswith(b"-CROSSSLOT ")
        assert other.ask("CLIENT", "UNPAUSE") == OK


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_connection_itself_is_not_held(site: Site, protocol: int) -> None:
    """Nobody is kept from logging in, from finding out whether the proxy is alive, or from leaving."""
    connecting: list[list[Argument]] = [
        ["PING"],
        ["PING", "x"],
        ["AUTH", "default", "any"],
        ["AUTH", "nobody", "any"],
        ["HELLO"],
        ["HELLO", protocol],
        ["HELLO", protocol, "AUTH", "default", "any", "SETNAME", "me"],
        ["CLIENT", "GETNAME"],
        ["RESET"],
        ["HELLO", protocol],
        ["QUIT"],
    ]
    with site.client() as other, site.client(protocol) as subscribed:
        subscribed.ask("SUBSCRIBE", "c")
        with site.client(protocol) as client:
            expected = [client.ask(*command) for command in connecting]
        assert other.ask("CLIENT", "PAUSE", 60_000) == OK
        try:
            with site.client(protocol) as client:
                for command, reply in zip(connecting, expected, strict=True):
                    assert without_id(client.ask(*command)) == without_id(reply), command
                assert client.closed()
            assert b"pong" in subscribed.ask("PING").lower()
            for name in (("ECHO", "x"), ("SELECT", 0), ("COMMAND", "COUNT"), ("MULTI",)):
                with site.client(protocol) as client:
                    client.send(pack(*name))
                    assert client.silent(0.05)
        finally:
            assert other.ask("CLIENT", "UNPAUSE") == OK


@pytest.mark.parametrize("mode", ["ALL", "WRITE"])
def test_they_wait_behind_what_is_held(site: Site, pairs: list[tuple[Wire, Wire]], mode: str) -> None:
    said = []
    for client, other in pairs:
        assert other.ask("CLIENT", "PAUSE", 400, mode) == OK
        client.send(
            pipeline(
                ("PING",), ("SET", "k", 1), ("PING",), ("GET", "k"), ("HELLO", 2), ("RESET",), ("PING",), ("QUIT",)
            )
        )
        if client is pairs[1][0]:
            assert client.reply() == b"+PONG\r\n"
            assert client.silent(0.1)
        replies = [*([b"+PONG\r\n"] if client is pairs[1][0] else []), *client.replies(7 + (client is pairs[0][0]))]
        assert client.closed()
        said.append([without_id(reply) for reply in replies])
        until_blocked(other, 0)
    assert len(said[0]) == len(said[1])
    assert said[0][4][:3] == said[1][4][:3]  # Valkey says another name and version of itself
    assert said[0][:4] + said[0][5:] == said[1][:4] + said[1][5:]


def without_id(reply: bytes) -> bytes:
    """The reply to HELLO without the client's id."""
    return re.sub(rb"\bid\r\n:\d+", b"id", reply)
