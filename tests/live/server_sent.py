"""What servers may send that is long to take: by the request that a client sends, and the bytes that answer it."""

from dataclasses import dataclass, field

from tests.support.wire import Argument, pack, pipeline

MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Sent:
    """``requests`` of one client, ``command`` among them is answered by ``reply``; ``greeting`` comes before them."""

    command: bytes
    reply: bytes = field(repr=False)
    requests: bytes
    greeting: bytes = b""


def _one(reply: bytes, *command: Argument, greeting: bytes = b"") -> Sent:
    name = command[0]
    assert isinstance(name, str)
    return Sent(name.encode(), reply, pack(*command), greeting)


def _array(count: int, element: bytes) -> bytes:
    return b"*%d\r\n" % count + element * count


def _bulk(content: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(content), content)


def _numbered(count: int, form: bytes) -> bytes:
    return b"".join(form % (number, number) for number in range(count))


_KEY = b"$1\r\nk\r\n"
_NAMES = b"".join(_bulk(b"%d" % number) for number in range(300_000))
_ROWS = _array(100_000, b"*4\r\n$1\r\ne\r\n:1\r\n:2\r\n:3\r\n")
_BUCKETS = b"*4\r\n$5\r\ncalls\r\n:1\r\n$14\r\nhistogram_usec\r\n*40000\r\n" + _numbered(20_000, b":%d\r\n:%d\r\n")
_DOCUMENT = b"# Stats\r\n" + _numbered(50_000, b"field%d:%d\r\n")
_KEYSPACE = b"# Keyspace\r\n" + _numbered(20_000, b"db%d:keys=%d,expires=0,avg_ttl=0\r\n")
SENT = {
    "an array of 5,000,000": _one(_array(5_000_000, _KEY), "LRANGE", "k", 0, -1),
    "an array of 5,000,000 nulls": _one(_array(5_000_000, b"_\r\n"), "LRANGE", "k", 0, -1),
    "arrays in arrays": _one(b"*1\r\n" * 2_000_000 + b":1\r\n", "LRANGE", "k", 0, -1),
    "a map of 2,000,000": _one(b"%2000000\r\n" + b":1\r\n:2\r\n" * 2_000_000, "HGETALL", "k"),
    "a line of 64 MB": _one(b"+" + b"x" * 64 * MEGABYTE + b"\r\n", "GET", "k"),
    "an error of 32 MB": _one(b"-ERR " + b"x" * 32 * MEGABYTE + b"\r\n", "GET", "k"),
    "a number of 32 MB": _one(b":" + b"1" * 32 * MEGABYTE + b"\r\n", "GET", "k"),
    "a page of 5,000,000 keys": _one(b"*2\r\n$1\r\n0\r\n" + _array(5_000_000, _KEY), "SCAN", 0),
    "a page of 5,000,000 nulls": _one(b"*2\r\n$1\r\n0\r\n" + _array(5_000_000, b"_\r\n"), "SCAN", 0),
    "KEYS of 2,000,000": _one(_array(2_000_000, _KEY), "KEYS", "*"),
    "MGET of 100,000": Sent(b"MGET", _array(100_000, _KEY), pack("MGET", *range(100_000))),
    "MEMORY STATS of 300,000": _one(b"*600000\r\n" + _NAMES * 2, "MEMORY", "STATS"),
    "MEMORY STATS of 2 MB": _one(b"*200000\r\n" + _numbered(100_000, b"+%d\r\n:%d\r\n"), "MEMORY", "STATS"),
    "LATENCY LATEST of 100,000": _one(_ROWS, "LATENCY", "LATEST"),
    "LATENCY LATEST of 2 MB": _one(_array(40_000, b"*4\r\n$1\r\ne\r\n:1\r\n:2\r\n:3\r\n"), "LATENCY", "LATEST"),
    "LATENCY HISTORY of 100,000": _one(_array(100_000, b"*2\r\n:1\r\n:2\r\n"), "LATENCY", "HISTORY", "e"),
    "LATENCY HISTOGRAM of 20,000": _one(b"*2\r\n$3\r\nget\r\n" + _BUCKETS, "LATENCY", "HISTOGRAM"),
    "INFO of 1 MB": _one(_bulk(_DOCUMENT), "INFO"),
    "INFO of 20,000 databases": _one(_bulk(_KEYSPACE), "INFO"),
    "INFO of 32 MB": _one(_bulk(b"a:b\r\n" * 6_000_000), "INFO"),
    "CONFIG GET of 40,000": _one(_array(80_000, b"$3\r\nabc\r\n"), "CONFIG", "GET", "*"),
    "CONFIG GET of 300,000": _one(b"*600000\r\n" + _NAMES * 2, "CONFIG", "GET", "*"),
    "SLOWLOG of 100,000": _one(_ROWS, "SLOWLOG", "GET", -1),
    "PUBSUB CHANNELS of 300,000": _one(b"*300000\r\n" + _NAMES, "PUBSUB", "CHANNELS"),
    "FUNCTION STATS of 1,000,000": _one(_array(1_000_000, _KEY), "FUNCTION", "STATS"),
    "MEMORY DOCTOR of 8 MB": _one(_bulk(b"x" * 8 * MEGABYTE), "MEMORY", "DOCTOR"),
    "RANDOMKEY of 32 MB": _one(_bulk(b"x" * 32 * MEGABYTE), "RANDOMKEY"),
    "20,000 errors": Sent(b"GET", b"-ERR no\r\n", pipeline(*[("GET", "k")] * 20_000)),
    "10,000 refusals": Sent(b"GET", b"-LOADING wait\r\n", pipeline(*[("GET", "k")] * 10_000)),
    "20,000 redirections": Sent(b"GET", b"-MOVED 1 127.0.0.1:1\r\n", pipeline(*[("GET", "k")] * 20_000)),
    "an EXEC of 1,000,000": Sent(b"EXEC", _array(1_000_000, _KEY), pipeline(("MULTI",), ("GET", "k"), ("EXEC",))),
    "WAIT of 1,000,000": _one(_array(1_000_000, _KEY), "WAIT", 1, 10),
    "BLPOP of 2,000,000": _one(_array(2_000_000, _KEY), "BLPOP", "k", 1),
    "BLPOP of 8 MB": _one(_array(2, _bulk(b"x" * 4 * MEGABYTE)), "BLPOP", "k", 1),
    "2,000,000 replies that nobody asked for": _one(b":1234\r\n" * 2_000_000, "GET", "k"),
    "500,000 push messages": _one(b">2\r\n+a\r\n+b\r\n" * 500_000 + b"+OK\r\n", "GET", "k", greeting=pack("HELLO", 3)),
    "500,000 invalidations": _one(
        b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n" * 500_000 + b"+OK\r\n",
        "GET",
        "k",
        greeting=pipeline(("HELLO", 3), ("CLIENT", "TRACKING", "ON")),
    ),
    "an invalidation of 500,000": _one(
        b">2\r\n$10\r\ninvalidate\r\n" + _array(500_000, _KEY) + b"+OK\r\n",
        "GET",
        "k",
        greeting=pipeline(("HELLO", 3), ("CLIENT", "TRACKING", "ON")),
    ),
    "200,000 messages": _one(
        b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n" + b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n" * 200_000,
        "SUBSCRIBE",
        "c",
    ),
    "a message of 4 MB": _one(
        b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n" + _bulk(b"x" * 4 * MEGABYTE),
        "SUBSCRIBE",
        "c",
    ),
}
"""By what is long."""
