"""Random RESP, mostly right and often not: what both engines are fed. All chance comes from the generator given."""

from collections.abc import Callable
from random import Random

WORDS = (
    b"a", b"b", b"c", b"foo", b"{a}1", b"{}x", b"{", b"}{a}", b"", b"\r\n", b"$1\r\n", b"*2\r\n", b"x" * 9,
    b"x" * 10, b"x" * 99, b"x" * 100, b"x" * 101,
)  # fmt: skip
NAMES = (b"GET", b"get", b"SET", b"MGET", b"MSET", b"DEL", b"EXISTS", b"PING", b"ECHO", b"HSET", b"Nope", b"EXPIRE",
         b"UNLINK", b"INCR", b"SETEX", b"LRANGE")  # fmt: skip
_NOISE = (
    b"*", b"$", b":", b"-", b"+", b"%", b"~", b">", b"|", b"_", b"=", b"!", b"(", b",", b"#", b"\r\n", b"\r\n",
    b"\r", b"\n", b"0", b"1", b"2", b"3", b"10", b"-1", b"99", b" ", b"x", b"GET", b'"', b"'", b"\0", b"\xff",
)  # fmt: skip


def word(rng: Random) -> bytes:
    """An argument."""
    chance = rng.random()
    if chance < 0.6:
        return rng.choice(WORDS)
    if chance < 0.95:
        return rng.randbytes(rng.randrange(24))
    if chance < 0.999:
        return b"%d;" % rng.randrange(1000) * rng.choice((50, 300, 1500))
    return b"v" * rng.choice((5_000, 20_000, 70_000))


def noise(rng: Random, most: int = 24) -> bytes:
    """Bytes that look like RESP, and mostly are none."""
    return b"".join(rng.choices(_NOISE, k=rng.randrange(most)))


def bulk(content: bytes, kind: bytes = b"$") -> bytes:
    """A bulk string."""
    return b"%b%d\r\n%b\r\n" % (kind, len(content), content)


def request(rng: Random) -> bytes:
    """One request as clients send it: mostly right, sometimes inline, empty, ragged or broken."""
    chance = rng.random()
    if chance < 0.7:
        args = [rng.choice(NAMES), *(word(rng) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5, 9, 12))))]
        return b"*%d\r\n%b" % (len(args), b"".join(map(bulk, args)))
    if chance < 0.8:
        return rng.choice((
            b"PING\r\n", b"\r\n", b"\n", b"SET a 'b c'\r\n", b'GET "a\\x41\\n"\n', b"*0\r\n", b"*-1\r\n", b" \t\r\n",
            b"ECHO 'unbalanced\r\n", b'ECHO "a"b\r\n', b"ECHO '\\''\r\n", b"GET\0a b\r\n", b"\0\r\n",
        ))  # fmt: skip
    if chance < 0.85:
        return b"*2\r\n$3\r%cGET\r\n$1\r\na%b" % (rng.choice(b"\nx\r"), rng.choice((b"\r\n", b"xx", b"\n\r", b"\rx")))
    if chance < 0.9:
        return mutated(rng, b"*3\r\n$3\r\nSET\r\n" + bulk(word(rng)) + bulk(word(rng)))
    if chance < 0.92:
        # As long as a limit, give or take a byte.
        return rng.choice((b"*", b"*1\r\n$", b"GET ")) + b"1" * (
            rng.choice((16, 64)) + rng.choice((-5, -4, -2, -1, 0, 1))
        )
    if chance < 0.95:
        return rng.choice((
            b"*1\r\n$-1\r\n", b"*1\r\nx", b"*x\r\n", b"*01\r\n$4\r\nPING\r\n", b"*1\r\n$04\r\nPING\r\n",
            b"*99999999999\r\n", b"*1\r\n$99999999999\r\n", b"*" + b"1" * 40, b"*1\r\n$" + b"1" * 40,
            b"*+1\r\n$4\r\nPING\r\n", b"*1 \r\n", b"*1\r\n$ 4\r\nPING\r\n", b"*9\r\n" * 2, b"*-5\r\n", b"*20\r\n",
            b"*1\r\n$16384\r\n", b"*1\r\n$16385\r\n", b"*10\r\n", b"*11\r\n", b"*\r\n", b"*1\r\n$\r\n",
            b"*18446744073709551617\r\n", b"*1\r\n$18446744073709551617\r\n", b"*1\r\n$-0\r\n\r\n",
        ))  # fmt: skip
    return noise(rng)


def mutated(rng: Random, data: bytes) -> bytes:
    """``data`` with a byte or two changed, missing, or doubled."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2))):
        if not out:
            break
        at = rng.randrange(len(out))
        match rng.randrange(4):
            case 0:
                out[at] = rng.choice(b"*$:+-\r\n0129x\0\xff")
            case 1:
                del out[at]
            case 2:
                out.insert(at, rng.choice(b"*$\r\n0129x"))
            case 3:
                del out[at:]
    return bytes(out)


def _line(rng: Random) -> bytes:
    return rng.choice((b"", b"OK", b"1", b"QUEUED", b"ab\rcd", b"x\ny", b"-1", b"long " * 9))


def _scalar(rng: Random) -> bytes:
    chance = rng.random()
    if chance < 0.45:
        return bulk(word(rng))
    if chance < 0.65:
        return rng.choice((b"+OK\r\n", b":1\r\n", b":12\r\n", b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n"))
    if chance < 0.75:
        return b"-%b\r\n" % rng.choice((b"ERR no", b"MOVED 1 a:1", b"", b"x"))
    if chance < 0.85:
        return b"%b%b\r\n" % (rng.choice((b"+", b":", b"(", b",")), _line(rng))
    return rng.choice((b"*0\r\n", b"%0\r\n", b"~0\r\n", b"$0\r\n\r\n", bulk(b"txt:a", b"="), bulk(b"ERR x", b"!")))


def reply(rng: Random, depth: int = 0) -> bytes:
    """One reply as servers send it: right, of any kind."""
    if depth > 3 or rng.random() < 0.75:
        return _scalar(rng)
    kind = rng.choice((b"*", b"*", b"*", b"~", b">", b"%", b"|"))
    count = rng.choice((0, 1, 1, 2, 3, 9, 10, 12))
    items = b"".join(reply(rng, depth + 1) for _ in range(count * 2 if kind in b"%|" else count))
    # An attribute stands before the value that it is about.
    return b"%b%d\r\n%b%b" % (kind, count, items, reply(rng, depth + 1) if kind == b"|" else b"")


def broken_reply(rng: Random) -> bytes:
    """What no server sends."""
    chance = rng.random()
    if chance < 0.4:
        return mutated(rng, reply(rng))
    if chance < 0.7:
        return noise(rng)
    return rng.choice((
        b"$-2\r\n", b"$01\r\nx\r\n", b"$1x\r\n", b"$\xff\r\n", b"$1\0\0\r\n", b"*-2\r\n", b"*x\r\n", b"x\r\n",
        b"$ 1\r\n", b"$" + b"9" * 30 + b"\r\n", b"*1099511627777\r\n", b"*1099511627776\r\n", b"%1099511627776\r\n",
        b"$+1\r\nx\r\n", b"$1_0\r\n" + b"x" * 12, b"*" + b"1" * 11, b"*" + b"1" * 13 + b"\r\n", b"$-1\rx", b"$-\r\n",
        b"*\r\n", b"$\r\n",
    ))  # fmt: skip


def stream(rng: Random, one: Callable[[Random], bytes], most: int = 6) -> bytes:
    """Some of them, one behind the other, perhaps cut at the end."""
    data = b"".join(one(rng) for _ in range(rng.randrange(1, most)))
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data


def pieces(rng: Random, data: bytes) -> list[bytes]:
    """``data`` cut anywhere."""
    chance = rng.random()
    if chance < 0.3 or not data:
        return [data]
    if chance < 0.5:
        size = rng.choice((1, 1, 2, 3, 7, 16)) if len(data) < 1000 else rng.choice((100, 4096))
        return [data[at : at + size] for at in range(0, len(data), size)]
    edges = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 6)))
    return [data[start:end] for start, end in zip([0, *edges], [*edges, len(data)], strict=True) if start < end]
