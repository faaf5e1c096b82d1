"""Feeds framers with data: whole, cut, or byte by byte, as connections do, and makes such data."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Protocol

from hypothesis import strategies as st


class Framer(Protocol):
    """The methods that both framers have."""

    need: int

    def frame(self, data: bytes | bytearray, start: int) -> int: ...


class Watched(bytearray):
    """A bytearray that counts the searched bytes, to show that a framer does linear work."""

    def __init__(self) -> None:
        super().__init__()
        self.searches = 0
        self.searched = 0

    def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]  # narrower
        stop = len(self) if end is None else min(end, len(self))
        found = super().find(sub, start, stop)
        self.searches += 1
        self.searched += (found if found >= 0 else stop) - start
        return found


class Fed:
    """The frames that came out of the pieces, the bytes that are left over, and the number of calls of the framer."""

    def __init__(self, framer: Framer, pieces: Iterable[bytes], kept: bytearray | None = None) -> None:
        self.frames: list[bytes] = []
        self.calls = 0
        self.kept = bytearray() if kept is None else kept
        self._framer = framer
        for piece in pieces:
            self.feed(piece)

    def feed(self, piece: bytes) -> None:
        """Take the next piece; the framer is called only when it has the bytes that it needs."""
        self.kept += piece
        at = 0
        while at < len(self.kept) and (at or len(self.kept) >= self._framer.need):
            self.calls += 1
            end = self._framer.frame(self.kept, at)
            if end < 0:
                break
            assert at < end <= len(self.kept)
            self.frames.append(bytes(self.kept[at:end]))
            at = end
        del self.kept[:at]


def single_bytes(data: bytes) -> Iterator[bytes]:
    """``data`` byte by byte."""
    return (data[at : at + 1] for at in range(len(data)))


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    """``data`` in pieces of ``size`` bytes."""
    return (data[at : at + size] for at in range(0, len(data), size))


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` cut at ``places``, which are taken modulo its length."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


PLACES = st.lists(st.integers(0, 2**20), max_size=8)
"""The places at which data is cut."""

NOISE = st.lists(
    st.sampled_from([b"*", b"$", b":", b"-", b"+", b"%", b"~", b">", b"|", b"_", b"=", b"!", b"(", b",", b"#"])
    | st.sampled_from([b"\r\n", b"\r", b"\n", b"0", b"1", b"2", b"3", b"10", b"-1", b" ", b"x", b"GET", b'"', b"'"])
    | st.binary(max_size=3),
    max_size=24,
).map(b"".join)
"""Bytes that look like RESP, and mostly are not."""

_LINE = st.binary(max_size=8).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b""))
_NUMBER = st.integers(-(2**63), 2**63 - 1)
_DOUBLE = st.floats(allow_nan=False).map(lambda value: repr(value).encode())


def _bulk(kind: bytes, content: bytes) -> bytes:
    return b"%b%d\r\n%b\r\n" % (kind, len(content), content)


def _aggregate(kind: bytes, items: list[bytes]) -> bytes:
    count = len(items) // 2 if kind in b"%|" else len(items)
    return b"%b%d\r\n%b" % (kind, count, b"".join(items))


_RESP2_SCALAR = st.one_of(
    _LINE.map(lambda text: b"+%b\r\n" % text),
    _LINE.map(lambda text: b"-ERR %b\r\n" % text),
    _NUMBER.map(lambda value: b":%d\r\n" % value),
    st.binary(max_size=40).map(lambda content: _bulk(b"$", content)),
    st.sampled_from([b"$-1\r\n", b"*-1\r\n", b"$0\r\n\r\n", b"*0\r\n", b"$2\r\n\r\n\r\n"]),
)
_RESP3_SCALAR = st.one_of(
    _RESP2_SCALAR,
    _DOUBLE.map(lambda text: b",%b\r\n" % text),
    _NUMBER.map(lambda value: b"(%d\r\n" % (value * 2**64)),
    st.binary(max_size=20).map(lambda content: _bulk(b"=", b"txt:" + content)),
    st.sampled_from([b"_\r\n", b"#t\r\n", b"#f\r\n", b",inf\r\n", b",nan\r\n", b"~0\r\n", b"%0\r\n", b">0\r\n"]),
)


def _map_items(children: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    # Keys are strings: hiredis, with which the results are compared, can not decode other keys.
    pairs = st.lists(st.tuples(_LINE.map(lambda text: b"+%b\r\n" % text), children), max_size=4)
    return pairs.map(lambda found: [frame for pair in found for frame in pair])


RESP2 = st.recursive(
    _RESP2_SCALAR,
    lambda children: st.lists(children, max_size=5).map(lambda items: _aggregate(b"*", items)),
    max_leaves=12,
)
"""Frames of any RESP2 value."""

RESP3 = st.recursive(
    _RESP3_SCALAR,
    lambda children: st.one_of(
        st.tuples(st.sampled_from([b"*", b"~", b">"]), st.lists(children, max_size=5)).map(lambda v: _aggregate(*v)),
        _map_items(children).map(lambda items: _aggregate(b"%", items)),
    ),
    max_leaves=12,
)
"""Frames of any RESP3 value that hiredis can decode."""

AGGREGATES = st.one_of(
    st.tuples(st.sampled_from([b"*", b"~", b">"]), st.lists(RESP3, max_size=6)),
    st.tuples(st.just(b"%"), _map_items(RESP3)),
).map(lambda made: (_aggregate(*made), made[1]))
"""Tuples of a frame and the frames of its direct elements."""

COMMANDS = st.lists(st.lists(st.binary(max_size=30), min_size=1, max_size=6), min_size=1, max_size=6)
"""Lists of commands, each a list of its arguments."""
