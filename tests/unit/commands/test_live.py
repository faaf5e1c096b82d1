"""The data file and the key positions against real servers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest

from proxy.commands import datafile, generate, reply
from proxy.commands.categories import categories_of_redis_7_0
from proxy.commands.facts import Handling
from proxy.commands.keys import KeysError, key_indexes
from proxy.commands.table import CommandTable
from proxy.devservers.servers import LocalServer, ServerBinary, find_server, inspect_server, wheel_server
from tests.unit.commands.commandreply import command_info

pytestmark = pytest.mark.live
TABLE = CommandTable.builtin()

LINES = """
GET k|SET k v|GETEX k EX 5|SET k v GET|APPEND k v|MGET a b c|MSET a 1 b 2 c 3|MSETNX a 1 b 2|DEL a b|EXISTS a a
BITOP AND d a b c|BITFIELD k GET u8 0|BITFIELD_RO k GET u8 0|PFCOUNT a b|PFMERGE d a b|PFMERGE d|LCS a b|COPY a b
RENAME a b|RENAMENX a b|MOVE k 1|TOUCH a b|UNLINK a b|OBJECT ENCODING k|OBJECT FREQ k|MEMORY USAGE k|DUMP k
RESTORE k 0 v|EXPIRE k 5|TYPE k|SORT k|SORT k BY w_* GET # GET o_*|SORT k LIMIT 0 5 STORE d|SORT k STORE a STORE b
SORT k BY STORE GET store ASC|SORT_RO k BY w_* GET #|LPUSH k a b|LMOVE a b LEFT RIGHT|RPOPLPUSH a b|LMPOP 2 a b LEFT
BLMPOP 0 2 a b LEFT COUNT 3|BLPOP a b 0|BRPOPLPUSH a b 0|BLMOVE a b LEFT RIGHT 0|BZPOPMIN a b 0|BZMPOP 0 1 a MIN
SINTERCARD 2 a b LIMIT 1|SINTER a b|SINTERSTORE d a b|SUNIONSTORE d a|SDIFF a b c|SMOVE a b m|HSET k f v|HSCAN k 0
ZADD k 1 m|ZUNION 2 a b WEIGHTS 1 2|ZUNIONSTORE d 2 a b AGGREGATE MAX|ZINTERSTORE d 1 a|ZDIFFSTORE d 2 a b|ZDIFF 1 a
ZINTERCARD 2 a b|ZMPOP 2 a b MIN|ZRANGESTORE d s 0 1|ZRANDMEMBER k|GEOADD k 0 0 m
GEOSEARCHSTORE d s FROMMEMBER m BYBOX 1 1 km
GEORADIUS k 0 0 1 km|GEORADIUS k 0 0 1 km STORE d|GEORADIUS k 0 0 1 km ASC STOREDIST d|GEORADIUS_RO k 0 0 1 km
GEORADIUSBYMEMBER k m 1 km STORE d|GEORADIUSBYMEMBER_RO k m 1 km|XADD k * f v|XREAD STREAMS a b 0 0
XREAD COUNT 1 BLOCK 0 STREAMS a 0|XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a b > >
XREADGROUP GROUP streams c STREAMS a >
XGROUP CREATE k g $|XINFO STREAM k|XINFO CONSUMERS k g|XCLAIM k g c 0 1-1|XAUTOCLAIM k g c 0 0|XACK k g 1-1
EVAL s 2 a b c|EVALSHA s 1 a c|EVAL_RO s 1 a|FCALL f 2 a b|FCALL_RO f 1 a|MIGRATE h 1 k 0 5|MIGRATE h 1 k 0 5 KEYS a
MIGRATE h 1 "" 0 5 COPY AUTH p KEYS a b|MIGRATE h 1 "" 0 5 AUTH2 u KEYS KEYS a b|WATCH a b|RESTORE-ASKING k 0 v
EVAL s 0|EVAL s x|EVAL s -1|EVAL s 9 a|ZUNION x a|ZUNION 9 a|LMPOP 3 a LEFT|XREAD STREAMS a|PING|FLUSHALL|SPUBLISH c m
"""
COMMANDS = [shlex.split(line) for row in LINES.strip().splitlines() for line in row.split("|")]
NEWER = [line.split() for line in ("MSETEX 2 a 1 b 2 NX", "DELIFEQ k v", "HSETEX k EX 5 FIELDS 1 f v")]


def _binaries() -> list[ServerBinary]:
    paths = [find_server().path, wheel_server()]
    return [inspect_server(path) for path in dict.fromkeys(paths) if path is not None]


@pytest.fixture(scope="module", params=_binaries(), ids=lambda b: f"{b.kind}-{b.version}")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    server = LocalServer(request.param, tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def reply_of(server: LocalServer) -> list[object]:
    answer = server.ask("COMMAND")
    assert isinstance(answer, list)
    return answer


def canonical(value: object) -> object:
    """Sets are sent in any order."""
    return sorted((canonical(item) for item in value), key=repr) if isinstance(value, list) else value


def asked(server: LocalServer, args: list[str]) -> list[bytes] | None:
    """The keys that the server finds; None where it says that there are none or that the arguments are wrong."""
    try:
        answer = server.ask("COMMAND", "GETKEYS", *args)
    except hiredis.ReplyError:
        return None
    assert isinstance(answer, list)
    return answer or None


def found(args: list[str]) -> list[bytes] | None:
    line = [arg.encode() for arg in args]
    fact = TABLE.resolve(line)
    assert fact is not None
    try:
        return [line[position] for position in key_indexes(fact, line)] or None
    except KeysError:
        return None


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_key_positions_are_the_servers(server: LocalServer, args: list[str]) -> None:
    assert found(args) == asked(server, args)


@pytest.mark.parametrize("args", NEWER, ids=" ".join)
def test_key_positions_of_newer_commands(server: LocalServer, args: list[str]) -> None:
    known = server.ask("COMMAND", "INFO", args[0])
    if known == [None]:
        pytest.skip(f"{server.binary} does not know it")
    assert found(args) == asked(server, args)


def test_key_positions_where_the_servers_differ(server: LocalServer) -> None:
    """Redis 7.0 names both stores, Valkey the last one, as the command itself does."""
    line = shlex.split("GEORADIUS k 0 0 1 km STORE a STOREDIST b")
    assert found(line) == [b"k", b"b"]
    assert asked(server, line) in ([b"k", b"b"], [b"k", b"a", b"b"])


def test_a_group_named_streams(server: LocalServer) -> None:
    """COMMAND GETKEYS is misled by its key spec; the command is not, and neither is the proxy."""
    server.ask("XGROUP", "CREATE", "stream", "STREAMS", "$", "MKSTREAM")
    server.ask("XADD", "stream", "1-1", "f", "v")
    line = shlex.split("XREADGROUP COUNT 1 GROUP STREAMS c STREAMS stream >")
    assert server.ask(*line) == [[b"stream", [[b"1-1", [b"f", b"v"]]]]]
    assert found(line) == [b"stream"]
    assert asked(server, line) != [b"stream"]


def test_a_reply_is_understood_whole(reply_of: list[object]) -> None:
    """What is parsed and written again is what the server sent, the legacy range of its key specs included."""
    for entry in reply_of:
        (fact,) = reply.parse([entry])
        assert canonical(command_info(fact)) == canonical(entry)


def test_the_data_file_covers_the_server(reply_of: list[object]) -> None:
    assert list(TABLE.learn(reply_of)) == list(TABLE)


def test_the_generator_writes_what_the_server_says(server: LocalServer, reply_of: list[object]) -> None:
    text = generate.document([server.address])
    assert f"{server.binary.kind.title()} {server.binary.version}" in text.splitlines()[0]
    assert {fact.name: fact for fact in datafile.load(text)} == {fact.name: fact for fact in reply.parse(reply_of)}


def test_the_categories_are_those_of_redis_7_0(server: LocalServer) -> None:
    if server.binary.kind != "redis" or server.binary.version_info[:2] != (7, 0):
        pytest.skip("the file is about Redis 7.0")
    assert json.loads(generate.categories(server.address))["commands"] == {
        name: " ".join(sorted(categories)) for name, categories in categories_of_redis_7_0().items()
    }


def test_replicas_take_what_goes_to_all_nodes(server: LocalServer, tmp_path: Path) -> None:
    nodes = {fact.name for top in TABLE for fact in top.subcommands.values() if fact.handling is Handling.ALL_NODES}
    asked = {"script|load": ["return 1"], "commandlog|len": ["slow"], "commandlog|reset": ["slow"]}
    replica = LocalServer(server.binary, tmp_path, replica_of=server)
    replica.start()
    try:
        for name in nodes:
            if replica.ask("COMMAND", "INFO", name) != [None]:
                replica.ask(*name.split("|"), *asked.get(name, []))
    finally:
        replica.kill()
