"""Random conversations from a seed, cut anywhere: the server's and the proxy's replies are the same stream of bytes."""

import random
import threading
from collections.abc import Iterator

import pytest

from proxy.resp import encode
from tests.live.differential.normalise import hello
from tests.support.site import Site
from tests.support.wire import Wire, frames

pytestmark = pytest.mark.live

LENGTH = 2500
KEYS = [f"k{number}" for number in range(24)] + ["{t}a", "{t}b", "{t}c", "", "\r\n", "k" * 150]
VALUES = ["", "1", "-7", "3.5", "text", "x" * 60, "\r\n$3\r\n", "v" * 5000]
ONE_KEY = """
    GET K|SET K V|SET K V NX|SET K V GET|GETDEL K|INCR K|INCRBY K N|APPEND K V|STRLEN K|SETRANGE K N V|GETRANGE K 0 N
    LPUSH K V V V|RPUSH K V|LPOP K|RPOP K N|LLEN K|LRANGE K 0 -1|LINDEX K N|LSET K 0 V|LREM K 0 V
    HSET K f V|HGET K f|HGETALL K|HDEL K f|HINCRBY K n N|HLEN K|SADD K 1 2 3 N|SREM K N|SCARD K|SISMEMBER K N
    ZADD K N m|ZADD K N n N o|ZRANGE K 0 -1 WITHSCORES|ZSCORE K m|ZREM K m|ZPOPMIN K|ZINCRBY K N m|ZCARD K
    TYPE K|EXPIRE K 1000|TTL K|PERSIST K|EXISTS K|DEL K|UNLINK K|SETBIT K N 1|BITCOUNT K|PFADD K V|DUMP none
    OBJECT ENCODING none|XADD K 1-1 f V|XLEN K|EVAL return(redis.call('exists',KEYS[1])) 1 K
    GET|SET K|NOSUCH K V|INCR K K|LPUSH K|OBJECT NOSUCH K|get K|sEt K V|SUBSTR K 0 N
"""
MANY_KEYS = """
    MGET K K K K K|MSET K V K V K V|DEL K K K|UNLINK K K|EXISTS K K K K|TOUCH K K|MSET K V K|MGET K|MSETNX {t}a V {t}b V
    RENAME {t}a {t}b|COPY {t}b {t}c|LMOVE {t}a {t}b LEFT RIGHT|SUNIONSTORE {t}a {t}b {t}c|MGET {t}a {t}b {t}c K
    DBSIZE|PING|ECHO V|PING V|KEYS nothing*|FLUSHDB
"""
COMMON = [line.strip() for row in ONE_KEY.strip().splitlines() for line in row.split("|")]
OTHER = [line.strip() for row in MANY_KEYS.strip().splitlines() for line in row.split("|")]


def conversation(seed: int) -> Iterator[bytes]:
    """Requests; about one in thirty changes the session."""
    dice = random.Random(seed)
    for _ in range(LENGTH):
        roll = dice.random()
        if roll < 0.01:
            yield encode.request(("SELECT", dice.choice([0, 0, 1, 2, 99])))
        elif roll < 0.02:
            yield encode.request(("HELLO", dice.choice([2, 3])))
        elif roll < 0.03:
            yield encode.request(("CLIENT", "REPLY", dice.choice(["SKIP", "SKIP", "OFF", "ON", "ON", "WHAT"])))
        elif roll < 0.035:
            yield encode.request(("RESET",))
        elif roll < 0.05:
            yield dice.choice([b"PING\r\n", b"\r\n", b"*0\r\n", b"GET k1\n", b"MGET k1 k2 'k3'\r\n", b"*-1\r\n"])
        else:
            template = dice.choice(COMMON if roll < 0.75 else OTHER)
            yield encode.request(_fill(word, dice) for word in template.split())
    yield encode.request(("CLIENT", "REPLY", "ON")) + encode.request(("QUIT",))


def _fill(word: str, dice: random.Random) -> str | int:
    match word:
        case "K":
            return dice.choice(KEYS)
        case "V":
            return dice.choice(VALUES)
        case "N":
            return dice.choice([0, 1, 2, 5, -1, 100])
        case _:
            return word


def replies(wire: Wire, data: bytes, seed: int) -> list[bytes]:
    """What comes back when ``data`` is sent in pieces of random sizes."""
    dice = random.Random(seed)

    def send() -> None:
        at = 0
        while at < len(data):
            size = dice.choice([1, 7, 100, 1000, 5000, 70_000])
            wire.send(data[at : at + size])
            at += size

    sender = threading.Thread(target=send)
    sender.start()
    found = frames(wire.rest())
    sender.join()
    return found


def comparable(frame: bytes) -> object:
    """A reply without what HELLO says of one server."""
    return hello(frame) if b"\r\nserver\r\n" in frame[:30] else frame


@pytest.mark.parametrize("seed", range(12))
def test_the_same_stream(site: Site, seed: int) -> None:
    requests = list(conversation(seed))
    data = b"".join(requests)
    with site.direct() as server, site.client() as proxy:
        expected = [comparable(frame) for frame in replies(server, data, seed)]
        found = [comparable(frame) for frame in replies(proxy, data, seed + 1000)]
    for number, (left, right) in enumerate(zip(expected, found, strict=False)):
        assert right == left, f"reply {number} of {len(expected)}"
    assert len(found) == len(expected)
