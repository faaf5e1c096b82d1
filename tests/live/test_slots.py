"""What may not go to several slots is refused with nothing executed; what is not built yet never reaches a server."""

import shlex
from collections.abc import Iterator

import pytest

from proxy.commands.facts import Fact, Handling
from proxy.commands.table import CommandTable
from proxy.devservers.servers import LocalServer
from tests.support.fixtures import Serve
from tests.support.site import SLOTS, Site, commands_seen
from tests.support.wire import Wire, decode, pack

pytestmark = pytest.mark.live

CROSSSLOT = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"

CROSSING = [
    shlex.split(line)
    for line in """
        MSETNX a 1 b 2
        RENAME a b
        RENAMENX a b
        COPY a b
        SMOVE a b m
        SINTER a b
        SUNION a b
        SDIFF a b
        SINTERCARD 2 a b
        SINTERSTORE a b
        SUNIONSTORE a b c
        SDIFFSTORE a b
        ZUNION 2 a b
        ZUNIONSTORE d 2 a b
        ZINTERSTORE d 1 a
        ZDIFFSTORE d 1 a
        ZRANGESTORE a b 0 1
        ZMPOP 2 a b MIN
        LMPOP 2 a b LEFT
        LMOVE a b LEFT RIGHT
        RPOPLPUSH a b
        BITOP AND a b c
        PFMERGE a b
        PFCOUNT a b
        LCS a b
        SORT a STORE b
        GEORADIUS a 1 1 1 km STORE b
        GEOSEARCHSTORE a b FROMLONLAT 1 1 BYRADIUS 1 km
        XREAD STREAMS a b 0 0
        XREADGROUP GROUP g c STREAMS a b > >
        EVAL "return redis.call('set', KEYS[1], 1)" 2 a b
        EVAL_RO "return 1" 2 a b
        EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 2 a b
        FCALL f 2 a b
        FCALL_RO f 2 a b
        MSETEX 2 a 1 b 2
    """.strip().splitlines()
]


@pytest.mark.parametrize("args", CROSSING, ids=" ".join)
def test_crossslot_executes_nothing(site: Site, args: list[str]) -> None:
    if site.plain.ask("COMMAND", "INFO", args[0]) == [None]:
        pytest.skip(f"{site.plain.binary} does not have it")
    with site.client() as client:
        assert client.ask("GET", "before") == b"$-1\r\n"
        assert client.ask(*args) == CROSSSLOT
        assert client.ask("PING") == b"+PONG\r\n"
    name = args[0].lower()
    assert all(name not in commands_seen(server) for server in site.shards.primaries)


def test_crossslot_holds_inside_one_shard_too(site: Site) -> None:
    """Two slots of one shard are two slots: an application does not depend on luck."""
    with site.client() as client:
        for tag in site.tags():
            slot = client.value("CLUSTER", "KEYSLOT", tag)
            assert isinstance(slot, int)
            other = next(
                f"n{number}"
                for number in range(10_000)
                if (found := client.value("CLUSTER", "KEYSLOT", f"n{number}")) != slot
                and isinstance(found, int)
                and found * 3 // SLOTS == slot * 3 // SLOTS
            )
            assert client.ask("MSETNX", tag, 1, other, 2) == CROSSSLOT
            assert client.ask("RENAME", tag, other) == CROSSSLOT
            assert client.ask("EXISTS", tag, other) == b":0\r\n"


def test_a_tag_brings_keys_together(site: Site) -> None:
    with site.client() as client:
        for tag in site.tags():
            a, b = f"{{{tag}}}a", f"b{{{tag}}}"
            assert client.ask("MSETNX", a, 1, b, 2) == b":1\r\n"
            assert client.ask("RENAME", a, b) == b"+OK\r\n"
            assert client.ask("EVAL", "return #KEYS", 2, a, b) == b":2\r\n"


@pytest.mark.parametrize("pattern", ["w_*", "{*}w", "w_{other}*"])
@pytest.mark.parametrize("option", ["BY", "GET"])
def test_sort_by_keys_of_other_slots(site: Site, option: str, pattern: str) -> None:
    with site.client() as client:
        client.ask("RPUSH", "{t}list", 1, 2, 3)
        for command in ("SORT", "SORT_RO"):
            reply = client.ask(command, "{t}list", option, pattern)
            assert reply.startswith(b"-ERR %b option of SORT denied" % option.encode())
    assert all("sort" not in commands_seen(server) for server in site.shards.primaries)


def test_cross_slot_reject(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config='cross_slot = "reject"\n')
    with Wire(proxy.address) as client:
        for args in (
            ("MGET", "a", "b"),
            ("MSET", "a", 1, "b", 2),
            ("DEL", "a", "b"),
            ("UNLINK", "a", "b"),
            ("EXISTS", "a", "b"),
            ("TOUCH", "a", "b"),
        ):
            assert client.ask(*args) == CROSSSLOT
        assert client.ask("EXISTS", "a") == b":0\r\n"
        assert client.ask("MSET", "{t}a", 1, "{t}b", 2) == b"+OK\r\n"
        assert client.value("MGET", "{t}a", "{t}b") == [b"1", b"2"]
        assert client.ask("DEL", "{t}a", "{t}b", "{t}a") == b":2\r\n"


def test_a_write_that_one_shard_refuses(site: Site) -> None:
    """Others may have run, and that is what the client is told; alone it is that shard's own error."""
    full = site.shards.primaries[1]
    keys = [f"{{{tag}}}key" for tag in site.tags()]
    words = [word for key in keys for word in (key, "x")]
    full.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        with site.client() as client:
            reply = client.ask("MSET", *words)
            assert reply.startswith(b"-UNCERTAIN partial: OOM command not allowed"), reply
            assert client.ask("SET", keys[1], "x").startswith(b"-OOM command not allowed")
            assert client.ask("MSET", keys[1], "x").startswith(b"-OOM command not allowed")
            assert client.value("MGET", *keys) == [b"x", None, b"x"]
            assert client.ask("DEL", *keys) == b":2\r\n"
    finally:
        full.ask("CONFIG", "SET", "maxmemory", 0)


# ---- what never reaches a server


def never_sent() -> Iterator[tuple[Fact, list[str]]]:
    """Every command that the proxy does not pass on, with enough arguments."""
    for top in CommandTable.builtin():
        for fact in top.subcommands.values() or (top,):
            if fact.handling is Handling.REFUSED and fact.name not in ("post", "host:"):
                words = fact.name.split("|")
                yield fact, words + ["1"] * (abs(fact.arity) - len(words))


def counts(server: LocalServer, names: set[str]) -> dict[str, int]:
    """How often a server was sent any of these commands."""
    return {name: calls for name, calls in commands_seen(server).items() if name in names}


@pytest.mark.parametrize("protocol", [2, 3])
def test_what_is_refused_reaches_no_server(site: Site, protocol: int) -> None:
    commands = [args for _, args in never_sent()]
    assert len(commands) > 40
    names = {fact.name for fact, _ in never_sent()}
    before = [counts(server, names) for server in site.shards.primaries]
    with site.client(protocol) as client:
        for args in commands:
            reply = client.ask(*args)
            assert reply.startswith(b"-ERR "), (args, reply)
            assert client.ask("ECHO", args[0]) == pack(args[0])[4:], args
        client.send(b"".join(pack(*args) + pack("PING") for args in commands))
        replies = client.replies(2 * len(commands))
        assert all(reply.startswith(b"-ERR ") for reply in replies[::2])
        assert set(replies[1::2]) == {b"+PONG\r\n"}
    assert [counts(server, names) for server in site.shards.primaries] == before


def test_the_error_says_what_it_is(site: Site) -> None:
    with site.client() as client:
        assert "'config|set' is refused by the proxy" in str(decode(client.ask("CONFIG", "SET", "maxmemory", 1)))
        assert "'shutdown' is refused by the proxy" in str(decode(client.ask("SHUTDOWN", "NOSAVE")))
    assert all(server.running for server in site.servers)
