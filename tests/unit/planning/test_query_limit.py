"""What follows from how much servers keep of what one connection sends."""

import pytest

from proxy.planning.query_limit import DEFAULT, QueryLimit
from proxy.resp import encode

MB = 1 << 20


@pytest.mark.parametrize(
    ("limit", "large", "unanswered"),
    [(DEFAULT, 16 * MB, 512 * MB), (128 * MB, 16 * MB, 64 * MB), (8 * MB, MB, 4 * MB), (MB, MB // 8, MB // 2)],
)
def test_what_is_large(limit: int, large: int, unanswered: int) -> None:
    query = QueryLimit()
    assert query.limit == DEFAULT
    query.set(limit)
    assert (query.limit, query.large, query.unanswered) == (limit, large, unanswered)
    assert query.large + query.unanswered < query.limit


@pytest.mark.parametrize(
    ("args", "refused"),
    [
        (["SET", "k", "x" * (MB - 32)], False),
        (["SET", "k", "x" * (MB - 31)], True),
        (["SET", "k" * MB, "x"], True),
        (["MSET", *["x" * (MB // 2)] * 10], False),
        (["MSET", *["x"] * MB], False),
        (["MSET", "a", "b", "c", "x" * MB], True),
    ],
)
def test_what_is_refused(args: list[str], refused: bool) -> None:
    query = QueryLimit()
    query.set(MB)
    assert query.refuses(encode.request(args), [arg.encode() for arg in args]) is refused
