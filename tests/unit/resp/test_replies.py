"""Where replies end, and where the elements of aggregates lie; hiredis is the oracle."""

import hiredis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.resp.replies import BadReply, ReplyFramer, elements, header, short_end, string_of
from tests.support.feeding import AGGREGATES, NOISE, PLACES, RESP2, RESP3, Fed, Watched, chunks, cut, single_bytes

CUT = object()
"""What hiredis gives for a reply that is not whole; its own choice, False, is also a reply."""

REPLIES = [
    b"+OK\r\n",
    b"+\r\n",
    b"-ERR no\r\n",
    b":-1\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$4\r\n\r\n\r\n\r\n",
    b"$5\r\n+OK\r\n\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2\r\n*2\r\n:1\r\n*-1\r\n$-1\r\n",
    b"_\r\n",
    b"#t\r\n",
    b",3.14\r\n",
    b"(3492890328409238509324850943850943825024385\r\n",
    b"!21\r\nSYNTAX invalid syntax\r\n",
    b"=15\r\ntxt:Some string\r\n",
    b"%2\r\n+first\r\n:1\r\n+second\r\n*1\r\n_\r\n",
    b"~3\r\n+orange\r\n#t\r\n:100\r\n",
    b">3\r\n+message\r\n+channel\r\n$2\r\nhi\r\n",
    b"|1\r\n+key-popularity\r\n%1\r\n$1\r\na\r\n,0.19\r\n*2\r\n:2039123\r\n:9543892\r\n",
    b"*2\r\n|1\r\n+ttl\r\n:3600\r\n:1\r\n:2\r\n",
    b"%0\r\n",
    b"|0\r\n:1\r\n",
    b"*1\r\n" * 200 + b":1\r\n",
]


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("trailing", [b"", b"*", b"$5\r\nhel", b"+O", b"\r"])
def test_a_reply_cut_anywhere(reply: bytes, trailing: bytes) -> None:
    data = reply + trailing
    for pieces in ([data], list(single_bytes(data)), *([data[:at], data[at:]] for at in range(1, len(data)))):
        fed = Fed(ReplyFramer(), [])
        try:
            for piece in pieces:
                fed.feed(piece)
        except BadReply:
            assert trailing == b"\r"
        assert fed.frames == [reply]


@pytest.mark.parametrize("reply", REPLIES)
def test_the_offset_counts_from_the_start_of_the_data(reply: bytes) -> None:
    assert ReplyFramer().frame(b"xyz" + reply + b"abc", 3) == 3 + len(reply)


@given(RESP2 | RESP3)
@example(b"*1\r\n*-1\r\n")
@example(b"#f\r\n")
def test_a_reply_ends_where_hiredis_says(frame: bytes) -> None:
    reader = hiredis.Reader(notEnoughData=CUT)
    reader.feed(frame[:-1])
    assert reader.gets() is CUT
    reader.feed(frame[-1:])
    assert reader.gets() is not CUT
    assert not reader.has_data()
    assert ReplyFramer().frame(frame, 0) == len(frame)
    assert ReplyFramer().frame(frame[:-1], 0) == -1


@given(st.lists(RESP2 | RESP3, min_size=1, max_size=5), PLACES)
def test_replies_as_servers_send_them(frames: list[bytes], places: list[int]) -> None:
    data = b"".join(frames)
    assert Fed(ReplyFramer(), cut(data, places)).frames == frames
    assert Fed(ReplyFramer(), single_bytes(data)).frames == frames


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"\r\n",
        b"PING\r\n",
        b"$\r\n",
        b"$x\r\n",
        b"*x\r\n",
        b"*?\r\n",
        b"$?\r\n",
        b"%1.5\r\n",
        b"*1\r\nx\r\n",
        b"*2\r\n:1\r\n\x00\r\n",
        b"$" + b"9" * 5000 + b"\r\n",
    ],
)
def test_what_is_no_reply(data: bytes) -> None:
    for pieces in ([data], single_bytes(data)):
        with pytest.raises(BadReply):
            Fed(ReplyFramer(), pieces)


def outcome(pieces: list[bytes]) -> tuple[list[bytes], bytes | None]:
    """The frames, and what is left over; None if there is what is no reply."""
    fed = Fed(ReplyFramer(), [])
    try:
        for piece in pieces:
            fed.feed(piece)
    except BadReply:
        return fed.frames, None
    return fed.frames, bytes(fed.kept)


@given(NOISE | st.binary(max_size=100), PLACES)
def test_how_bytes_are_cut_changes_nothing(data: bytes, places: list[int]) -> None:
    frames, rest = outcome([data])
    assert outcome(cut(data, places)) == (frames, rest)
    assert outcome(list(single_bytes(data))) == (frames, rest)
    assert data.startswith(b"".join(frames))
    if rest is not None:
        assert b"".join(frames) + rest == data


def test_reset_forgets_a_cut_reply() -> None:
    it = ReplyFramer()
    assert it.frame(b"*3\r\n:1\r\n", 0) == -1
    it.reset()
    assert it.need == 0
    assert it.frame(b"+OK\r\n", 0) == 5


def test_a_million_elements_cost_linear_work() -> None:
    count = 1_000_000
    frame = b"*%d\r\n" % count + b":1\r\n" * count
    kept = Watched()
    fed = Fed(ReplyFramer(), chunks(frame, 4096), kept)
    assert fed.frames == [frame]
    assert kept.searches <= count + 2 * fed.calls
    assert kept.searched <= 8 * kept.searches


def test_a_large_value_is_looked_at_when_it_is_whole() -> None:
    frame = b"*2\r\n:1\r\n$%d\r\n%b\r\n" % (100_000, b"\r\n" * 50_000)
    kept = Watched()
    fed = Fed(ReplyFramer(), single_bytes(frame), kept)
    assert fed.frames == [frame]
    assert fed.calls < 50
    assert kept.searched < 1000


def test_a_long_line_is_searched_once() -> None:
    frame = b"-ERR %b\r\n" % (b"x" * 1_000_000)
    kept = Watched()
    fed = Fed(ReplyFramer(), chunks(frame, 1000), kept)
    assert fed.frames == [frame]
    assert kept.searched <= 2 * len(frame)


def test_depth_costs_nothing() -> None:
    frame = b"*1\r\n" * 200_000 + b":1\r\n"
    assert ReplyFramer().frame(frame, 0) == len(frame)
    assert elements(frame) == [frame[4:]]


@given(AGGREGATES)
def test_elements_of_an_aggregate(made: tuple[bytes, list[bytes]]) -> None:
    frame, items = made
    assert elements(frame) == items


@given(st.lists(RESP2, max_size=6))
def test_elements_decode_to_what_hiredis_decodes(items: list[bytes]) -> None:
    reader = hiredis.Reader()
    reader.feed(b"*%d\r\n%b" % (len(items), b"".join(items)))
    decoded = reader.gets()
    assert isinstance(decoded, list)
    for item, expected in zip(elements(b"*%d\r\n%b" % (len(items), b"".join(items))), decoded, strict=True):
        reader.feed(item)
        assert repr(reader.gets()) == repr(expected)


@given(AGGREGATES)
def test_the_header_of_an_aggregate(made: tuple[bytes, list[bytes]]) -> None:
    frame, items = made
    kind, count, at = header(frame)
    assert kind == frame[:1]
    assert count * (2 if kind == b"%" else 1) == len(items)
    assert frame[at:] == b"".join(items)


def test_the_header_of_a_null_array() -> None:
    assert header(b"*-1\r\n") == (b"*", 0, 5)


def test_an_attribute_belongs_to_the_element_behind_it() -> None:
    first = b"|1\r\n+ttl\r\n:3600\r\n:1\r\n"
    assert elements(b"*2\r\n" + first + b":2\r\n") == [first, b":2\r\n"]


def test_a_null_array_has_no_elements() -> None:
    assert elements(b"*-1\r\n") == []


@pytest.mark.parametrize(
    "frame",
    [b"", b"+OK\r\n", b"$3\r\nabc\r\n", b"_\r\n", b"*2\r\n:1\r\n", b"*x\r\n", b"*1\r\n", b"*1", b"%1\r\n+a\r\n"],
)
def test_what_has_no_elements(frame: bytes) -> None:
    with pytest.raises(BadReply):
        elements(frame)


@pytest.mark.parametrize("frame", [b"", b"+OK\r\n", b"$3\r\nabc\r\n", b"*1", b"*x\r\n"])
def test_what_has_no_header(frame: bytes) -> None:
    with pytest.raises(BadReply):
        header(frame)


# ---- short_end


def framed(data: bytes, at: int) -> int | None:
    """What the framer says: the end, -1 for "need more", None for what is no reply."""
    try:
        return ReplyFramer().frame(data, at)
    except BadReply:
        return None


SHORT = [
    b"+OK\r\n", b":0\r\n", b":7\r\n", b"$-1\r\n", b"$0\r\n\r\n", b"$2\r\n\r\n\r\n",
    *(b"$%d\r\n%b\r\n" % (size, b"\r" * size) for size in (1, 9, 10, 11, 99, 100, 101, 999)),
]  # fmt: skip


@pytest.mark.parametrize("reply", SHORT)
@pytest.mark.parametrize("before", [b"", b"+OK\r\n", b"$"])
@pytest.mark.parametrize("trailing", [b"", b"$", b":1\r\n", b"\r\n", b"+OK\r\n+OK\r\n"])
def test_short_replies_need_no_framer(reply: bytes, before: bytes, trailing: bytes) -> None:
    end = short_end(before + reply + trailing, len(before))
    if end < 0:
        assert len(reply + trailing) < 6  # with so little behind it, it may be left to the framer
    else:
        assert end == len(before) + len(reply)


@given(RESP2 | RESP3, st.sampled_from([b"", b"+OK\r\n", b"x"]), NOISE)
def test_a_short_end_is_where_the_framer_ends(frame: bytes, before: bytes, trailing: bytes) -> None:
    at = len(before)
    assert short_end(before + frame + trailing, at) in (-1, at + len(frame))
    for cut_at in range(len(frame)):
        assert short_end(before + frame[:cut_at], at) == -1


@given(NOISE | st.binary(max_size=30) | st.tuples(st.sampled_from(SHORT), st.binary(max_size=20)).map(b"".join))
@example(b"$1\x00\x00\r\n" + b"x" * 30)
@example(b"$0\x00\r\n" + b"x" * 30)
@example(b"$00\r\n" + b"x" * 30)
@example(b"$1x\r\n" + b"x" * 200)
@example(b"$\xff\r\n" + b"x" * 300)
@example(b"$-2\r\n" + b"x" * 30)
@example(b"+ab\rcd\r\n")
@example(b"+ab\rc")
@example(b":1\r1\r\n")
@example(b"+\r\n\r\n")
def test_a_short_end_is_never_one_that_the_framer_does_not_see(data: bytes) -> None:
    """Anything at all: bytes that are no reply are the framer's to refuse, wherever they are cut."""
    for at in range(min(len(data), 4)):
        end = short_end(data, at)
        if end >= 0:
            assert at < end <= len(data)
            assert framed(data, at) == end


@pytest.mark.parametrize("frame", [b"$1\r\nx\r\n", b"=5\r\ntxt:x\r\n", b"+x\r\n"])
def test_strings(frame: bytes) -> None:
    assert string_of(frame) == b"x"


@pytest.mark.parametrize(
    "frame", [b"*1\r\n$1\r\nx\r\n", b"%1\r\n+x\r\n+y\r\n", b":1\r\n", b">1\r\n+x\r\n", b"-ERR x\r\n"]
)
def test_what_is_no_string(frame: bytes) -> None:
    with pytest.raises(BadReply):
        string_of(frame)
