"""One request, one reply: what the proxy sends over a connection that clients share is answered by exactly one frame,
by every version of servers at hand; and through the proxy nobody hears a frame more than was asked for.

Requests are made from a seed: every command that the server has, with arguments that are hostile to those who put them
into an error line. Where one is answered by more frames than one, ``proxy.planning.reply_counts`` must know it.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Self

import pytest

from proxy.backends.handshake import Credentials
from proxy.commands.facts import Fact, Handling
from proxy.commands.table import CommandTable, UnknownSubcommand
from proxy.config import Config
from proxy.devservers.servers import LocalServer
from proxy.discovery.learn import learn
from proxy.planning import reply_counts
from proxy.planning.planner import Forward, Planner
from proxy.planning.scatter import Scatter
from proxy.resp import encode
from proxy.resp.replies import BadReply
from proxy.sharding.topology import Node, build_topology
from tests.support.binaries import FULL, MORE, SMOKE, Source, modules
from tests.support.fixtures import Serve, find
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire

pytestmark = pytest.mark.live

SEED = 20
ROUNDS = 6
"""How often each command is asked directly."""
SECONDS = 4.0
"""More is not asked of one server, however slow the machine is."""
THROUGH = 500
"""Requests of an attacker, through the proxy."""

INJECTED = "\r\n+INJECTED\r\n$3\r\nabc\r\n-MOVED 1 127.0.0.1:1"
KEYS = ("string", "list", "hash", "set", "zset", "stream", "none")
WORDS: Sequence[bytes] = (
    b"",
    b"0",
    b"1",
    b"-1",
    b"2",
    b"3",
    b"nan",
    b"9" * 400,
    b"*",
    b"$",
    b"x" * 5000,
    b"LOAD",
    b"GET",
    b"COUNT",
    b"MATCH",
    b"BY",
    b"STORE",
    b"WITHSCORES",
    b"TYPE",
    b"EX",
    b"NX",
    INJECTED.encode(),
    b"a" + INJECTED.encode(),
    b"\r\n",
    b"\n",
    b"\r",
    b"a\0" + INJECTED.encode(),
    b'"' + INJECTED.encode() + b'"',
    b'"\\r\\n+INJECTED"',
    b"'\\r\\n+INJECTED'",
    b"\\r\\n+INJECTED",
    b"%s%n\r\n+INJECTED",
    b"\xff\xfe\r\n+INJECTED",
    b"[" + INJECTED.encode(),
    b"{" + INJECTED.encode() + b"}",
)
ESCAPED = r"\r\n+INJECTED\r\n$3\r\nabc"
HOSTILE = ("x" + ESCAPED, r"x\0" + ESCAPED, r"\0" + ESCAPED, ESCAPED)
LUA = (
    *(f"error('{word}')" for word in HOSTILE),
    *(f"error({{err='{word}'}})" for word in HOSTILE),
    *(f"return redis.error_reply('{word}')" for word in HOSTILE),
    *(f"return redis.status_reply('{word}')" for word in HOSTILE),
    *(f"return {{ok='{word}'}}" for word in HOSTILE),
    *(f"return {{1, {{err='{word}'}}, 2}}" for word in HOSTILE),
    *(f"redis.setresp(3) return {{map={{a={{err='{word}'}}}}}}" for word in HOSTILE),
    *(f"return {{big_number='{word}'}}" for word in HOSTILE),
    *(f"return {{verbatim_string={{format='{word}', string='{word}'}}}}" for word in HOSTILE),
    *(f"return nothing['{word}']" for word in HOSTILE),
    *(f"local t = {{}} t['{word}']()" for word in HOSTILE),
    *(f"return redis.call('{word}')" for word in HOSTILE),
    *(f"return redis.pcall('{word}', '{word}')" for word in HOSTILE),
    *(f"return redis.call('xadd', 'k', '{word}', 'a', 'b')" for word in HOSTILE),
    *(f'local "{word}"' for word in HOSTILE),
    *(f'#!lua "{word}"\nreturn 1' for word in HOSTILE),
    *(f'#!lua flags="{word}"\nreturn 1' for word in HOSTILE),
    *(f'#!"lua{word}"\nreturn 1' for word in HOSTILE),
    *(f'#!lua name=lib "{word}"\nreturn 1' for word in HOSTILE),
    *(f"#!lua name=lib\nlocal t = {{}} t['{word}']()" for word in HOSTILE),
    *(f'#!lua name=lib\nlocal "{word}"' for word in HOSTILE),
    f"#!lua zz{INJECTED}\nreturn 1",
    f"#!lua{INJECTED}",
    "error(ARGV[1])",
    "return redis.error_reply(ARGV[1])",
    "return redis.call(ARGV[1])",
    "return ARGV[1]",
    "return 1",
    "#!lua flags=no-writes\nreturn 1",
    "#!lua name=lib\nredis.register_function('say', function(keys, args) return redis.error_reply(args[1]) end)",
    "#!lua name=lib\nredis.register_function('say', function(keys, args) error(args[1]) end)",
)
NEVER_ASKED = {
    "flushall": "would empty the keys that others are asked for",
    "flushdb": "would empty the keys that others are asked for",
    "save": "writes files",
    "bgsave": "writes files",
    "bgrewriteaof": "writes files",
    "pfselftest": "takes seconds",
    "swapdb": "would swap the keys that others are asked for",
    "config|set": "asked by hand: it could change what the server is",
    "config|rewrite": "writes files",
    "lolwut": "draws for as long as it is told",
    "post": "HTTP: the proxy closes the connection, as Redis does",
    "host:": "HTTP: the proxy closes the connection, as Redis does",
}
"""What a seed must not try."""
INTERNAL = ("timeseries.", "ft.debug", "_ft.debug")
"""Commands of modules for their own use, which end the process when they are asked otherwise."""


@dataclass(frozen=True)
class Target:
    """A server that is asked, what it has, and whether it passes on what scripts raise."""

    server: LocalServer
    table: CommandTable
    raises: bool
    planner: Planner

    @classmethod
    def of(cls, server: LocalServer) -> Self:
        """What the proxy learns of a server before which it stands alone."""
        learned = asyncio.run(learn(Node(server.host, server.port), Credentials(), None))
        assert learned is not None
        assert learned.commands is not None
        config = Config.model_validate({"shards": [{"name": "alpha", "primary": server.address}]})
        table = CommandTable.builtin().learn(learned.commands)
        return cls(server, table, learned.raises, Planner(build_topology(config), "split"))

    def facts(self) -> list[Fact]:
        """All its commands, with a container's subcommands in its place."""
        reply = self.server.ask("COMMAND")
        assert isinstance(reply, list)
        known = {str(entry[0], "ascii").lower() for entry in reply}
        tops = [fact for fact in self.table if fact.name in known]
        found = [fact for top in tops for fact in (top.subcommands.values() or (top,))]
        return [fact for fact in found if not (fact.name in NEVER_ASKED or fact.name.startswith(INTERNAL))]

    def shared(self, args: Sequence[bytes], frame: bytes) -> bool:
        """Whether the proxy sends the request over a connection that clients share."""
        try:
            fact = self.table.resolve(args)
        except UnknownSubcommand:
            return False
        if fact is None or not fact.accepts(len(args)):
            return False
        fact = fact.for_admins or fact
        if fact.handling is Handling.MODE:
            return fact.name in ("publish", "spublish")
        if fact.handling in (Handling.SESSION, Handling.REFUSED):
            return False
        plan = self.planner.plan(fact, args, frame)
        if not isinstance(plan, Forward | Scatter):
            return False
        return not reply_counts.of_its_own(fact.name, args, self.raises)


@pytest.fixture(scope="module", params=(*SMOKE, *FULL, *MORE), ids=lambda source: source.name)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Each server at hand, with the modules that came with it."""
    source: Source = request.param
    binary = find(source)
    options = ["slowlog-log-slower-than -1", *(f"loadmodule {path}" for path in modules(source))]
    server = LocalServer(binary, tmp_path_factory.mktemp("frames"), options=options)
    server.start()
    try:
        yield Target.of(server)
    finally:
        server.stop()


def fill(wire: Wire) -> None:
    """A key of each type."""
    wire.ask("SET", "string", "1")
    wire.ask("RPUSH", "list", "a", "b")
    wire.ask("HSET", "hash", "f", "v")
    wire.ask("SADD", "set", "a", "b")
    wire.ask("ZADD", "zset", "1", "a")
    wire.ask("XADD", "stream", "1-1", "a", "b")


def request(rng: Random, fact: Fact) -> list[bytes]:
    """A call of ``fact``: its arity is right more often than not, and little else."""
    name = [part.encode() for part in fact.name.split("|")]
    if fact.scripting and rng.random() < 0.8:
        lead = [b"REPLACE"] if fact.name == "function|load" and rng.random() < 0.5 else []
        word = b"say" if fact.name.startswith("fcall") else rng.choice(LUA).encode()
        keys = [b"1", b"string"] if rng.random() < 0.7 else [b"0"]
        tail = [*keys, rng.choice(WORDS)] if "|" not in fact.name else []
        return [*name, *lead, word, *tail]
    least = abs(fact.arity)
    more = rng.choice((0, 0, 0, 1, 2, 3)) if fact.arity < 0 else 0
    args = [
        rng.choice(KEYS).encode() if rng.random() < 0.4 else rng.choice(WORDS) for _ in range(least - len(name) + more)
    ]
    return [*name, *args]


def block(frame: bytes) -> bytes:
    """The request in a transaction: three replies."""
    return b"".join((encode.request(("MULTI",)), frame, encode.request(("EXEC",))))


def answered(wire: Wire, data: bytes, replies: int, nonce: bytes) -> bool:
    """Whether so many frames answer ``data``, and then ``nonce`` its sentinel; what is pushed (RESP3) is no answer."""
    wire.send(data + encode.request((b"ECHO", nonce)))
    left = replies + 1
    last = b""
    try:
        while left:
            last = wire.reply()
            left -= last[:1] != b">"
    except (BadReply, TimeoutError, ConnectionError):
        return False
    return last == encode.bulk(nonce)


def test_what_is_shared_is_answered_by_one_frame(target: Target) -> None:
    rng = Random(SEED)
    facts = target.facts()
    deadline = time.monotonic() + SECONDS
    asked = 0
    wrong: list[list[bytes]] = []
    wires: dict[int, Wire] = {}
    for _ in range(ROUNDS):
        rng.shuffle(facts)
        for fact in facts:
            args = request(rng, fact)
            frame = encode.request(args)
            if time.monotonic() > deadline or not target.shared(args, frame):
                continue
            protocol = rng.choice((2, 3))
            if protocol not in wires:
                wires[protocol] = Wire(target.server.address, protocol=protocol, timeout=5)
                fill(wires[protocol])
            asked += 1
            queued = rng.random() < 0.2
            data, replies = (block(frame), 3) if queued else (frame, 1)
            if not answered(wires[protocol], data, replies, b"%x" % rng.getrandbits(128)):
                wrong.append(args)
                wires.pop(protocol).close()
    for wire in wires.values():
        wire.close()
    assert not wrong
    assert asked > 200, asked


@pytest.mark.parametrize(
    "args",
    [
        ("EVAL", f'#!lua "x{ESCAPED}"\nreturn 1', "0"),
        ("EVAL_RO", f'#!lua "x{ESCAPED}"\nreturn 1', "0"),
        ("SCRIPT", "LOAD", f'#!lua "x{ESCAPED}"\nreturn 1'),
        ("FUNCTION", "LOAD", f'#!lua name=lib "x{ESCAPED}"\nreturn 1'),
        ("FUNCTION", "LOAD", f'#!lua name=lib\nlocal "x{ESCAPED}"'),
        ("FUNCTION", "LOAD", f"#!lua name=lib\nlocal t = {{}} t['x{ESCAPED}']()"),
        ("FUNCTION", "LIST", INJECTED),
        ("EVAL", f"error('x{ESCAPED}')", "0"),
        ("CONFIG", "SET", INJECTED, INJECTED),
        ("CONFIG", "SET", "maxmemory-policy", INJECTED),
        ("DEBUG", "PROTOCOL", "attrib"),
    ],
    ids=[
        "eval",
        "eval_ro",
        "script load",
        "first line",
        "compiled",
        "registered",
        "function list",
        "raised",
        "no such setting",
        "setting",
        "debug",
    ],
)
def test_the_table_names_what_is_answered_by_more(target: Target, args: tuple[str, ...]) -> None:
    """Where a server answers these with more frames than one, they are not shared."""
    sent = [arg.encode() for arg in args]
    frame = encode.request(sent)
    with Wire(target.server.address, timeout=5) as wire:
        once = answered(wire, frame, 1, b"nonce")
    assert once or not target.shared(sent, frame)


# ---- through the proxy


@pytest.fixture(scope="module")
def proxy(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy before the server."""
    with ProxyProcess(tmp_path_factory.mktemp("proxy"), "--static", target.server.address).serving() as started:
        yield started


class Innocent(threading.Thread):
    """A client that writes and reads keys of its own, in pipelines, and knows what it has to hear."""

    def __init__(self, address: str, number: int) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._number = number
        self.over = threading.Event()
        self.heard = 0
        self.wrong: list[bytes] = []

    def run(self) -> None:
        with Wire(self._address, timeout=20) as wire:
            turn = 0
            while not self.over.is_set() and not self.wrong:
                turn += 1
                pairs = [(f"innocent:{self._number}:{at}", f"{self._number}-{turn}-{at}") for at in range(25)]
                wire.send(b"".join(encode.request(("SET", *pair)) + encode.request(("GET", pair[0])) for pair in pairs))
                expected = [frame for _, value in pairs for frame in (encode.OK, encode.bulk(value))]
                found = wire.replies(len(expected))
                self.wrong += [reply for reply, wanted in zip(found, expected, strict=True) if reply != wanted]
                self.heard += len(found)


def attempts(target: Target) -> Iterator[list[bytes]]:
    """What an attacker sends: all but what changes what its own connection says."""
    rng = Random(SEED + 1)
    facts = [fact for fact in target.facts() if fact.handling not in (Handling.SESSION, Handling.MODE)]
    scripts = [fact for fact in facts if fact.scripting and "kill" not in fact.name]
    while True:
        fact = rng.choice(scripts if rng.random() < 0.4 else facts)
        if not fact.blocking and fact.name not in ("script|kill", "function|kill"):
            yield request(rng, fact)


@pytest.mark.parametrize("kind", ["resp2", "resp3", "tracking"])
def test_nobody_hears_a_frame_too_many(target: Target, proxy: ProxyProcess, kind: str) -> None:
    """Neither the attacker nor those who share its connection; and nobody's write becomes uncertain."""
    innocents = [Innocent(proxy.address, number) for number in range(2)]
    rng = Random(SEED)
    deadline = time.monotonic() + SECONDS / 2
    wrong: list[list[bytes]] = []
    with Wire(proxy.address, protocol=2 if kind == "resp2" else 3, timeout=10) as attacker:
        fill(attacker)
        if kind == "tracking":
            assert attacker.ask("CLIENT", "TRACKING", "ON", "OPTIN") == b"+OK\r\n"
        for innocent in innocents:
            innocent.start()
        for args in islice(attempts(target), THROUGH):
            if time.monotonic() > deadline or wrong:
                break
            frame = encode.request(args)
            data, replies = (block(frame), 3) if rng.random() < 0.2 else (frame, 1)
            if not answered(attacker, data, replies, b"%x" % rng.getrandbits(128)):
                wrong.append(args)
    for innocent in innocents:
        innocent.over.set()
        innocent.join(20)
    assert not wrong
    assert [innocent.wrong for innocent in innocents] == [[], []]
    assert min(innocent.heard for innocent in innocents) > 0
    assert "can not be read" not in proxy.log


def test_a_replica_that_makes_two_of_what_a_script_raises(tmp_path: Path, serve: Serve) -> None:
    """Behind a primary that does not, as in an upgrade that begins with the replicas: it gets scripts that read."""
    mended, other = find(FULL[0]), find(MORE[1])
    primary, replica = LocalServer(mended, tmp_path), LocalServer(other, tmp_path)
    busy = "for number = 1, 5000000 do end "
    try:
        for server in primary, replica:
            server.start()
        replica.ask("REPLICAOF", primary.host, primary.port)
        replica.wait_link_up()
        proxy = serve("--static", f"{primary.address}/{replica.address}", "--read-from", "replica")

        def reads() -> int:
            return int(replica.info("stats")["keyspace_hits"])

        with Wire(proxy.address) as attacker, Wire(proxy.address) as innocent:
            assert attacker.ask("SET", "k", "mine") == b"+OK\r\n"
            assert eventually(lambda: attacker.ask("GET", "k") == b"$4\r\nmine\r\n" and reads() > 0)
            digest = attacker.ask("SCRIPT", "LOAD", busy + "error('a\\r\\n+INJECTED')")[5:45]
            for name, script in (("EVAL_RO", busy + "error('x\\r\\n+INJECTED')"), ("EVALSHA_RO", digest.decode())):
                for _ in range(3):
                    attacker.send(encode.request((name, script, "1", "k")))
                    time.sleep(0.01)
                    innocent.send(encode.request(("GET", "k")))
                    assert innocent.reply() == b"$4\r\nmine\r\n"
                    assert attacker.reply()[:1] == b"-"
            assert attacker.silent()
            assert innocent.silent()
        assert "can not be read" not in proxy.log
    finally:
        replica.stop()
        primary.stop()
