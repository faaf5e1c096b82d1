"""Encoding of replies in RESP2 and RESP3, and of requests.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from collections.abc import Iterable, Mapping

import hiredis

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
EMPTY_ARRAY = b"*0\r\n"
ZERO = b":0\r\n"
_IN_A_LINE = bytes.maketrans(b"\r\n", b"  ")


def request(args: Iterable[bytes | str | int]) -> bytes:
    """A command as a client sends it: an array of bulk strings."""
    # The type stub of hiredis declares a tuple of one element; the function takes a tuple of any length.
    frame: bytes = hiredis.pack_command(tuple(args))  # type: ignore[arg-type]
    return frame


def simple(text: str) -> bytes:
    """A simple string; ``text`` holds no line break."""
    return b"+%b\r\n" % text.encode()


def error(text: str) -> bytes:
    """An error reply from its code and words (``ERR unknown ...``); line breaks become blanks, as in Redis.

    ``text`` quotes a client's bytes decoded as Latin-1, one character a byte, so that they are sent back unchanged.
    """
    return b"-%b\r\n" % text.encode("latin-1", "replace").translate(_IN_A_LINE)


def integer(value: int) -> bytes:
    """An integer reply."""
    return b":%d\r\n" % value


def bulk(value: bytes | str) -> bytes:
    """A bulk string."""
    data = value.encode() if isinstance(value, str) else value
    return b"$%d\r\n%b\r\n" % (len(data), data)


def verbatim(value: str, protocol: int) -> bytes:
    """A text for people to read: a verbatim string in RESP3, a bulk string in RESP2."""
    if protocol < 3:
        return bulk(value)
    data = value.encode()
    return b"=%d\r\ntxt:%b\r\n" % (len(data) + 4, data)


def null(protocol: int) -> bytes:
    """The null of a missing string."""
    return b"_\r\n" if protocol >= 3 else b"$-1\r\n"


def array(frames: Iterable[bytes]) -> bytes:
    """An array of encoded ``frames``."""
    items = list(frames)
    return b"*%d\r\n%b" % (len(items), b"".join(items))


def mapping(pairs: Mapping[bytes, bytes], protocol: int) -> bytes:
    """A map of encoded keys to encoded values; RESP2 has a flat array in its place."""
    items = b"".join(key + value for key, value in pairs.items())
    if protocol >= 3:
        return b"%%%d\r\n%b" % (len(pairs), items)
    return b"*%d\r\n%b" % (len(pairs) * 2, items)


def set_of(frames: Iterable[bytes], protocol: int) -> bytes:
    """A set of encoded ``frames``; RESP2 has an array in its place."""
    items = list(frames)
    return b"%b%d\r\n%b" % (b"~" if protocol >= 3 else b"*", len(items), b"".join(items))
