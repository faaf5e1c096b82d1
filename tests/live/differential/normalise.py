"""What two servers of the same version may answer differently, and how their answers are compared then.

Everything that is not named here is compared byte for byte.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.resp.replies import elements

Normaliser = Callable[[bytes], object]
_AGGREGATES = b"*~%>"


def exact(frame: bytes) -> object:
    """Every byte."""
    return frame


def error_code(frame: bytes) -> object:
    """Of an error its code, else what kind of reply it is."""
    return frame.partition(b" ")[0] if frame[:1] == b"-" else frame[:1]


def unordered(frame: bytes) -> object:
    """The elements of a set or array (and of those in it) in any order, its kind and size as they are."""
    if frame[:1] not in (b"*", b"~") or frame.startswith(b"*-1"):
        return frame
    parts = [unordered(part) for part in elements(frame)]
    return frame.partition(b"\r\n")[0], sorted(parts, key=repr)


def unordered_pairs(frame: bytes) -> object:
    """A map, or an array of keys and values in turn, its pairs in any order."""
    if frame[:1] not in (b"*", b"%"):
        return frame
    items = elements(frame)
    return frame.partition(b"\r\n")[0], sorted(zip(items[::2], items[1::2], strict=True))


def integers(frame: bytes) -> object:
    """The reply with every integer that is not negative replaced."""
    return re.sub(rb":\d+\r\n", b":N\r\n", frame)


def milliseconds(frame: bytes) -> object:
    """The reply with every integer of five or six digits replaced: a time to live of which a moment has passed."""
    return re.sub(rb":\d{5,6}\r\n", b":N\r\n", frame)


def shape(frame: bytes) -> object:
    """What kind of reply it is, and of an aggregate how many elements of what kind."""
    if frame[:1] in _AGGREGATES and frame[1:2] not in _AGGREGATES:
        return frame.partition(b"\r\n")[0], [part[:1] for part in elements(frame)]
    return frame[:1]


def kind_of(frame: bytes) -> object:
    """What kind of reply it is; errors as they are."""
    return frame if frame[:1] == b"-" else frame[:1]


def hello(frame: bytes) -> object:
    """Errors as they are; of the map the fields that are not about one server."""
    if frame[:1] not in (b"*", b"%"):
        return frame
    items = elements(frame)
    fields = dict(zip(items[::2], items[1::2], strict=True))
    wanted = (b"proto", b"mode", b"role")
    return frame[:1], [fields[b"$%d\r\n%b\r\n" % (len(name), name)] for name in wanted]


def transaction(frame: bytes) -> object:
    """The replies of a transaction without what TIME and HELLO say of one server."""
    frame = re.sub(rb"\*2\r\n\$10\r\n\d{10}\r\n\$\d\r\n\d+\r\n", b"TIME", frame)
    return re.sub(
        rb"([*%])\d+\r\n\$6\r\nserver\r\n.*?(:\d)\r\n.*?modules\r\n.*?\*0\r\n", rb"\1HELLO\2", frame, flags=re.DOTALL
    )


def watched(frame: bytes) -> object:
    """A line of MONITOR without the time and the address."""
    return re.sub(rb"\A\+[\d.]+ \[(\d+) [^\]]+\]", rb"+[\1]", frame)


def page(frame: bytes) -> object:
    """A page of SCAN without its cursor, its keys in any order; errors as they are."""
    return frame if frame[:1] == b"-" else unordered(elements(frame)[1])


@dataclass(frozen=True, slots=True)
class Rule:
    """Replies to ``commands`` (as facts name them) are compared by ``normaliser``, because of ``reason``.

    ``kind``: only with servers of this kind ("redis", "valkey"); with any if it is empty.
    """

    commands: Sequence[str]
    normaliser: Normaliser
    reason: str
    kind: str = ""


RULES = (
    Rule(("client|kill", "client|list"), error_code, "the proxy words errors as Redis does", "valkey"),
    Rule(
        ("smembers", "sinter", "sunion", "sdiff", "sscan", "hkeys", "hvals", "hrandfield"),
        unordered,
        "a hash table's order depends on the server's random seed",
    ),
    Rule(("hgetall",), unordered_pairs, "a hash table's order depends on the server's random seed"),
    Rule(("keys", "command|list", "acl|cat"), unordered, "in no order, and from several shards"),
    Rule(("scan",), page, "the cursor names a shard and what is left there"),
    Rule(("pubsub|channels", "pubsub|shardchannels"), unordered, "in no order"),
    Rule(("exec",), transaction, "as TIME and HELLO by themselves"),
    Rule(("monitor",), watched, "the server's clock, the client's port"),
    Rule(("client|getredir",), integers, "the id of a connection"),
    Rule(("config|get", "command|docs"), unordered_pairs, "a map in no order"),
    Rule(("pttl", "hpttl"), milliseconds, "a moment passes between setting and asking"),
    Rule(("object|idletime", "lastsave"), integers, "seconds on the server's own clock"),
    Rule(("object|freq",), integers, "a counter that grows by chance"),
    Rule(("xpending", "xinfo|stream", "xinfo|consumers"), integers, "milliseconds on the server's own clock"),
    Rule(("xadd",), lambda frame: re.sub(rb"\d{13}-\d", b"ID", frame), "'*' makes an id of the server's clock"),
    Rule(("time", "lolwut"), shape, "the server's clock, a random picture"),
    Rule(("hello",), hello, "id, version, modules and kind of server are the proxy's own"),
    Rule(
        ("info", "client|list", "client|info", "client|id", "role", "memory|stats", "memory|doctor"),
        kind_of,
        "about one server, or about its clients",
    ),
    Rule(
        ("memory|malloc-stats", "latency|doctor", "latency|histogram", "command", "acl|genpass"),
        kind_of,
        "about one server, or random",
    ),
)


def normaliser(command: str, kind: str) -> Normaliser:
    """How replies of servers of this kind to ``command`` are compared."""
    return next((rule.normaliser for rule in RULES if command in rule.commands and rule.kind in ("", kind)), exact)
