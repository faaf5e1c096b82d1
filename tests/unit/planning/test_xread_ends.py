"""What stands for XREAD's ``$`` in a call that is made twice."""

import pytest

from proxy.planning.xread_ends import closed, end_said, open_ends, question
from proxy.resp import encode
from proxy.resp.requests import split_inline


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("XREAD BLOCK 0 STREAMS a $", {5: b"a"}),
        ("XREAD COUNT 2 BLOCK 0 STREAMS a b c $ 5 $", {9: b"a", 11: b"c"}),
        ("XREAD BLOCK 0 STREAMS a 0", {}),
        ("XREAD BLOCK 0 STREAMS $ 0", {}),
        ("XREAD BLOCK 0 STREAMS a b $", {}),  # the server says what is wrong with it
    ],
)
def test_where_it_stands(line: str, found: dict[int, bytes]) -> None:
    assert open_ends(split_inline(line.encode())) == found


def test_it_is_replaced() -> None:
    args = split_inline(b"XREAD BLOCK 0 STREAMS a b $ $")
    assert closed(args, {6: b"1-2"}) == split_inline(b"XREAD BLOCK 0 STREAMS a b 1-2 $")
    assert question(b"a") == encode.request(("XINFO", "STREAM", "a"))


FIELDS = {encode.bulk("length"): encode.ZERO, encode.bulk("last-generated-id"): encode.bulk("12-3")}


@pytest.mark.parametrize(
    ("reply", "end"),
    [
        (encode.mapping(FIELDS, 2), b"12-3"),
        (encode.mapping(FIELDS, 3), b"12-3"),
        (b"-ERR no such key\r\n", b"0-0"),
        (b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", None),
        (b"-NOPERM no permissions\r\n", None),
        (b"*2\r\n$6\r\nlength\r\n:0\r\n", None),
        (b"*1\r\n$17\r\nlast-generated-id\r\n", None),
    ],
)
def test_what_a_server_says(reply: bytes, end: bytes | None) -> None:
    assert end_said(reply) == end
