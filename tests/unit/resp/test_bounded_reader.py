"""The reader of the proxy's own questions: what hiredis decodes, within bounds."""

import tracemalloc

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.resp.bounded_reader import LONGEST_LINE, SHORT, BoundedReader, ReplyBounds, ReplyTooLong
from proxy.resp.replies import BadReply
from tests.support.endless import ENDLESS
from tests.support.feeding import PLACES, RESP2, RESP3, chunks, cut, single_bytes

WIDE = ReplyBounds(2**40, 2**40)


def read(reader: BoundedReader, pieces: list[bytes]) -> list[object]:
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (reply := reader.gets()) is not False:
            found.append(reply)
    return found


def decoded(frames: list[bytes]) -> list[object]:
    """The frames as hiredis decodes them; its errors in words, as they do not compare."""
    reader = hiredis.Reader()
    reader.feed(b"".join(frames))
    return [repr(reader.gets()) for _ in frames]


@given(st.lists(RESP2 | RESP3, min_size=1, max_size=6), PLACES, st.booleans())
def test_replies_are_what_hiredis_decodes_however_they_are_cut(
    frames: list[bytes], places: list[int], extra: bool
) -> None:
    try:
        expected = decoded(frames)
    except hiredis.ProtocolError:
        return  # a line that hiredis does not accept
    data = b"".join(frames) + b"+more\r\n" * extra
    for pieces in ([data], cut(data, places), list(single_bytes(data))):
        reader = BoundedReader([WIDE] * len(frames))
        assert list(map(repr, read(reader, list(pieces)))) == expected
        assert reader.extra == extra
        assert reader.complete == len(frames)


@pytest.mark.parametrize("bounds", [SHORT, ReplyBounds(4 * 1024 * 1024, 200_000)])
@pytest.mark.parametrize("size", [5, 16 * 1024])
@pytest.mark.parametrize("name", ENDLESS)
def test_a_reply_without_measure_is_refused_early(name: str, size: int, bounds: ReplyBounds) -> None:
    reader = BoundedReader([bounds])
    pieces = list(chunks(ENDLESS[name][: 8 * 1024 * 1024 if size > 5 else 256 * 1024], size))
    tracemalloc.start()
    try:
        with pytest.raises((BadReply, hiredis.ProtocolError)):
            read(reader, pieces)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * bounds.size


@pytest.mark.parametrize(
    ("reply", "bounds", "fits"),
    [
        (b"$5\r\nvalue\r\n", ReplyBounds(11, 1), True),
        (b"$5\r\nvalue\r\n", ReplyBounds(10, 1), False),
        (b"*2\r\n:1\r\n:2\r\n", ReplyBounds(100, 3), True),
        (b"*2\r\n:1\r\n:2\r\n", ReplyBounds(100, 2), False),
        (b"%1\r\n:1\r\n:2\r\n", ReplyBounds(100, 3), True),
        (b"%1\r\n:1\r\n:2\r\n", ReplyBounds(100, 2), False),
        (b"*1\r\n*1\r\n*0\r\n", ReplyBounds(100, 3), True),
        (b"*1\r\n*1\r\n*0\r\n", ReplyBounds(100, 2), False),
        (b"+" + b"x" * (LONGEST_LINE - 3) + b"\r\n", WIDE, True),
        (b"+" + b"x" * (LONGEST_LINE - 2) + b"\r\n", WIDE, False),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1_000_000])
def test_the_bounds_are_exact(reply: bytes, bounds: ReplyBounds, fits: bool, size: int) -> None:
    reader = BoundedReader([WIDE, bounds])
    pieces = list(chunks(b"+OK\r\n" + reply, size))
    if fits:
        assert len(read(reader, pieces)) == 2
    else:
        with pytest.raises(ReplyTooLong):
            read(reader, pieces)


def test_what_is_announced_is_refused_before_it_comes() -> None:
    for header in (b"$65537\r\n", b"*10000\r\n", b"%5000\r\n"):
        with pytest.raises(ReplyTooLong):
            BoundedReader([SHORT]).feed(header)
