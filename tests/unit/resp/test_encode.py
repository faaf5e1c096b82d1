"""Replies written in RESP2 and RESP3; hiredis reads them back."""

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.resp import encode
from proxy.resp.replies import ReplyFramer
from proxy.resp.requests import split_request


def decoded(frame: bytes) -> object:
    """What a client sees; the frame must be whole and nothing more."""
    assert ReplyFramer().frame(frame, 0) == len(frame)
    reader = hiredis.Reader()
    reader.feed(frame)
    reply = reader.gets()
    assert not reader.has_data()
    return reply


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_requests(args: list[bytes]) -> None:
    frame = encode.request(args)
    assert frame == b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)
    assert split_request(frame) == args


def test_requests_take_text_and_numbers() -> None:
    assert encode.request(("SELECT", 3, b"x")) == b"*3\r\n$6\r\nSELECT\r\n$1\r\n3\r\n$1\r\nx\r\n"


@given(st.binary(max_size=30))
def test_bulks(value: bytes) -> None:
    assert decoded(encode.bulk(value)) == value


def test_bulks_of_text_are_counted_in_bytes() -> None:
    assert encode.bulk("é") == b"$2\r\n\xc3\xa9\r\n"


def test_lines() -> None:
    assert encode.simple("RESET") == b"+RESET\r\n"
    assert encode.integer(-7) == b":-7\r\n"
    assert (encode.OK, encode.PONG) == (b"+OK\r\n", b"+PONG\r\n")
    assert (encode.ZERO, encode.EMPTY_ARRAY) == (b":0\r\n", b"*0\r\n")


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("ERR no", b"-ERR no\r\n"),
        ("ERR a\r\nb\nc", b"-ERR a  b c\r\n"),
        ("ERR \xe9\xff", b"-ERR \xe9\xff\r\n"),
        ("ERR \u20ac", b"-ERR ?\r\n"),
    ],
)
def test_errors_are_one_line(text: str, frame: bytes) -> None:
    assert encode.error(text) == frame


@given(st.text(max_size=50))
def test_any_text_makes_one_error(text: str) -> None:
    assert isinstance(decoded(encode.error("ERR " + text)), hiredis.ReplyError)


def test_texts_for_people() -> None:
    assert encode.verbatim("é\n", 2) == b"$3\r\n\xc3\xa9\n\r\n"
    assert encode.verbatim("é\n", 3) == b"=7\r\ntxt:\xc3\xa9\n\r\n"


def test_nulls() -> None:
    assert encode.null(2) == b"$-1\r\n"
    assert encode.null(3) == b"_\r\n"


def test_aggregates() -> None:
    one, two = encode.bulk("a"), encode.integer(2)
    assert encode.array(iter((one, two))) == b"*2\r\n$1\r\na\r\n:2\r\n"
    assert encode.set_of(iter((one, two)), 2) == b"*2\r\n$1\r\na\r\n:2\r\n"
    assert encode.set_of((one, two), 3) == b"~2\r\n$1\r\na\r\n:2\r\n"
    assert encode.mapping({one: two}, 2) == b"*2\r\n$1\r\na\r\n:2\r\n"
    assert encode.mapping({one: two}, 3) == b"%1\r\n$1\r\na\r\n:2\r\n"
    assert decoded(encode.mapping({}, 3)) == {}
    assert decoded(encode.array(())) == []
