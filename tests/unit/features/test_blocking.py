"""How long a command may block, and how it is asked again for the time that remains."""

import math

import pytest

from proxy.features.blocking import seconds, shortened
from proxy.resp.requests import split_inline


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("BLPOP a b 0", math.inf),
        ("BLPOP a b 0.25", 0.25),
        ("BRPOP a 1e2", 100.0),
        ("BLMOVE a b LEFT RIGHT 3", 3.0),
        ("BRPOPLPUSH a b 4", 4.0),
        ("BZPOPMIN a 5", 5.0),
        ("BZPOPMAX a 6", 6.0),
        ("BLMPOP 7.5 1 a LEFT COUNT 9", 7.5),
        ("BZMPOP 0 1 a MIN", math.inf),
        ("XREAD COUNT 5 BLOCK 250 STREAMS a $", 0.25),
        ("XREAD BLOCK 1 BLOCK 2000 STREAMS block $", 2.0),
        ("XREADGROUP GROUP block c BLOCK 0 STREAMS a >", math.inf),
        ("BLPOP a -1", math.inf),  # the server says what is wrong with it
        ("BLPOP a x", math.inf),
        ("BLPOP a nan", math.inf),
        ("MODULE.BLOCK a 5", math.inf),
    ],
)
def test_seconds(line: str, wanted: float) -> None:
    args = split_inline(line.encode())
    assert seconds(args[0].decode().lower(), args) == wanted


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("BLPOP a b 10", "BLPOP a b 1.250"),
        ("BLMOVE a b LEFT RIGHT 10", "BLMOVE a b LEFT RIGHT 1.250"),
        ("BLMPOP 10 1 a LEFT", "BLMPOP 1.250 1 a LEFT"),
        ("XREAD BLOCK 10000 COUNT 1 STREAMS a $", "XREAD BLOCK 1250 COUNT 1 STREAMS a $"),
    ],
)
def test_the_time_that_remains(line: str, wanted: str) -> None:
    args = split_inline(line.encode())
    assert shortened(args[0].decode().lower(), args, 1.25) == split_inline(wanted.encode())


def test_no_time_is_ever_that_of_for_ever() -> None:
    assert shortened("blpop", [b"BLPOP", b"a", b"5"], 0.001)[-1] == b"0.001"
    assert shortened("xread", [b"XREAD", b"BLOCK", b"5", b"STREAMS", b"a", b"$"], 0.001)[2] == b"1"
