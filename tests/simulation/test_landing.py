"""Large requests are read straight to where they will lie; one conversation a row."""

from collections.abc import Sequence
from random import Random

import pytest

from proxy.client.large_request import LANDS_FROM
from proxy.resp import encode
from tests.simulation.playbook import (
    Step,
    answers,
    drains,
    ends,
    hears,
    known,
    lands,
    leaves,
    listens,
    passes,
    play,
    says,
    sees,
    sends,
    took,
    word,
)

VALUE = Random(0).randbytes(300_000)
SET = encode.request([b"SET", b"k", VALUE])
HEAD = len(SET) - len(VALUE) - 2
SAW = f"SET k {word(VALUE)}"
OTHER = Random(1).randbytes(LANDS_FROM * 3)
SET_OTHER = encode.request([b"SET", b"k", OTHER])
SAW_OTHER = f"SET k {word(OTHER)}"
NOW = 0.1
OK = answers(b"+OK\r\n")
GET = encode.request([b"GET", b"k"])
PIECE = b"$80000\r\n" + b"v" * 80_000 + b"\r\n"
"""More than a client's side takes when it does not read."""

WHOLE = {
    "at once": (sends("a", SET), sees(SAW), OK, hears("a", "OK"), lands("a", False), took(len(SET))),
    "its head first": (
        sends("a", SET[:HEAD]), lands("a", True), sees(), sends("a", SET[HEAD:]), lands("a", False), sees(SAW),
        OK, hears("a", "OK"), took(len(SET)),
    ),
    "its head in two": (
        sends("a", SET[: HEAD - 3]), lands("a", False), sends("a", SET[HEAD - 3 : HEAD]), lands("a", True),
        sends("a", SET[HEAD:]), sees(SAW), OK, hears("a", "OK"), took(len(SET)),
    ),
    "all but its last byte first": (
        sends("a", SET[:-1]), lands("a", True), sees(), sends("a", SET[-1:]), sees(SAW), OK, hears("a", "OK"),
    ),
    "nothing begun of its line end": (
        sends("a", SET[:-2]), lands("a", True), sends("a", b"\r"), lands("a", True), sends("a", b"\n"), sees(SAW),
    ),
    "in many pieces": (
        *(sends("a", SET[at : at + 7001]) for at in range(0, len(SET), 7001)), sees(SAW), OK, hears("a", "OK"),
        took(len(SET)),
    ),
    "small ones before it": (
        sends("a", GET * 3 + SET[:1000]), lands("a", True), sees("GET k", "GET k", "GET k"), sends("a", SET[1000:]),
        sees(SAW), answers(b"$-1\r\n" * 3 + b"+OK\r\n"), hears("a", "None", "None", "None", "OK"),
    ),
    "small ones behind it": (
        sends("a", SET + GET * 3), sees(SAW, "GET k", "GET k", "GET k"), lands("a", False),
        answers(b"+OK\r\n" + b"$-1\r\n" * 3), hears("a", "OK", "None", "None", "None"), took(len(SET) + 3 * len(GET)),
    ),
    "one that is cut behind it": (
        sends("a", SET + GET[:-3]), sees(SAW), sends("a", GET[-3:]), sees("GET k"),
    ),
    "two in a row": (
        sends("a", SET + SET_OTHER), sees(SAW, SAW_OTHER), OK, OK, hears("a", "OK", "OK"), lands("a", False),
    ),
    "the second begun with the end of the first": (
        sends("a", SET[:-5]), lands("a", True), sends("a", SET[-5:] + SET_OTHER[:1000]), sees(SAW), lands("a", True),
        sends("a", SET_OTHER[1000:]), sees(SAW_OTHER), OK, OK, hears("a", "OK", "OK"), lands("a", False),
    ),
    "two clients at once": (
        sends("a", SET[:1000]), sends("b", SET_OTHER[:1000]), sends("a", SET[1000:]), sees(SAW),
        sends("b", SET_OTHER[1000:]), sees(SAW_OTHER), answers(b"+OK\r\n:1\r\n"), hears("a", "OK"), hears("b", "1"),
    ),
    "commands that the fast path does not take": (
        sends("a", encode.request([b"ECHO", VALUE])), hears("a", "300000 bytes"),
        sends("a", encode.request([b"MSET", b"x", b"1", b"k", VALUE])), sees(f"MSET x 1 k {word(VALUE)}"),
        sends("a", encode.request([b"set", b"k" * 200, VALUE])), sees(f"set {'k' * 200} {word(VALUE)}"),
        sends("a", encode.request([b"NoSuch", VALUE])), OK, OK, hears("a", "OK", "OK", "-ERR unknown*"),
    ),
    "only a last argument lands": (
        sends("a", b"*3\r\n$3\r\nSET\r\n$300000\r\n" + VALUE[:100]), lands("a", False),
        sends("a", VALUE[100:] + b"\r\n$300000\r\n"), lands("a", True), sends("a", VALUE + b"\r\n"),
        sees(f"SET {word(VALUE)} {word(VALUE)}"),
    ),
    "with other bytes where a line break should be": (
        sends("a", SET[:-2] + b"xx"), sees(SAW), OK, hears("a", "OK"), says("a", "GET k"), sees("GET k"),
    ),
}  # fmt: skip

CUT = {
    "no more is sent": (sends("a", SET[:1000]), lands("a", True), ends("a"), hears("a", "closed"), sees(), known(0)),
    "no more is sent, and a reply is awaited": (
        says("a", "GET k"), sends("a", SET[:1000]), lands("a", True), ends("a"), hears("a"), answers(b"$1\r\n1\r\n"),
        hears("a", "1", "closed"), sees("GET k"), known(0),
    ),
    "no more is sent behind it": (
        sends("a", SET), ends("a"), sees(SAW), hears("a"), OK, hears("a", "OK", "closed"), known(0),
    ),
    "it breaks off": (
        sends("a", SET[:1000]), leaves("a"), sees(), known(0), says("b", "GET k"), answers(b"$-1\r\n"),
        hears("b", "None"),
    ),
    "it breaks off, and a reply is on its way": (
        says("a", "GET k"), sends("a", SET[:1000]), leaves("a"), answers(b"$-1\r\n"), known(0), sees("GET k"),
    ),
    "the proxy drains": (
        says("a", "GET k"), sends("a", SET[:1000]), lands("a", True), drains(), sends("a", SET[1000:] + GET),
        hears("a"), answers(b"$-1\r\n"), hears("a", "None", "closed"), sees("GET k"), known(0),
    ),
    "the proxy drains, and nothing is awaited": (
        sends("a", SET[:1000]), lands("a", True), drains(), hears("a", "closed"), sees(), known(0),
    ),
    "the client is killed": (
        sends("a", SET[:1000]), lands("a", True), says("b", "CLIENT KILL ID 1"), hears("b", "1"), hears("a", "closed"),
        sees(), known(1),
    ),
}  # fmt: skip

STOPPED = {
    "it does not read": (
        says("a", "GET k"), sends("a", SET[:1000]), lands("a", True), listens("a", False), answers(PIECE),
        sends("a", SET[1000:]), passes(NOW), sees("GET k", SAW), lands("a", False), OK, hears("a"),
        listens("a", True), passes(NOW), hears("a", "80000 bytes", "OK"),
    ),
    "it does not read, and sends more behind it": (
        says("a", "GET k"), sends("a", SET[:1000]), listens("a", False), answers(PIECE),
        sends("a", SET[1000:] + GET), passes(NOW), sees("GET k", SAW, "GET k"), OK, answers(b"$-1\r\n"),
        listens("a", True), passes(NOW), hears("a", "80000 bytes", "OK", "None"),
    ),
    "it does not read, and more waits for it than may": (
        says("a", *["GET k"] * 3), sends("a", SET[:1000]), listens("a", False), answers(*[PIECE] * 3), passes(NOW),
        sees(*["GET k"] * 3), sends("a", SET[1000:]), lands("a", True), passes(NOW), sees(), listens("a", True),
        passes(NOW), sees(SAW), lands("a", False), OK, hears("a", *["80000 bytes"] * 3, "OK"),
    ),
    "it never reads": (
        says("a", "GET k"), sends("a", SET[:1000]), listens("a", False), answers(PIECE), passes(2.5),
        hears("a", "closed"), known(0), sees("GET k"),
    ),
    "commands are paused": (
        says("b", "CLIENT PAUSE 100"), hears("b", "OK"), sends("a", SET[:1000]), lands("a", True),
        sends("a", SET[1000:]), sees(), passes(0.2), sees(SAW), OK, hears("a", "OK"),
    ),
    "commands are paused while it comes": (
        sends("a", SET[:1000]), lands("a", True), says("b", "CLIENT PAUSE 100"), hears("b", "OK"),
        sends("a", SET[1000:] + GET), sees(), passes(0.2), sees(SAW, "GET k"), OK, answers(b"$-1\r\n"),
        hears("a", "OK", "None"),
    ),
    "a pause ends while it comes": (
        says("b", "CLIENT PAUSE 100"), hears("b", "OK"), sends("a", SET[:1000]), lands("a", True), passes(0.2),
        lands("a", True), sends("a", SET[1000:]), sees(SAW), OK, hears("a", "OK"),
    ),
    "too many are in flight": (
        says("a", *["GET k"] * 4), sees(*["GET k"] * 4), sends("a", SET[:1000]), sends("a", SET[1000:]), passes(NOW),
        sees(), answers(b"$-1\r\n" * 4), passes(NOW), sees(SAW), OK, hears("a", *["None"] * 4, "OK"),
    ),
}  # fmt: skip

LIMITS = {
    "max_in_flight": 4,
    "output_soft": "1kb",
    "output_hard": "1mb",
    "output_memory": "150kb",
    "write_timeout": "2s",
}


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in WHOLE.items()])
def test_a_large_request(steps: Sequence[Step]) -> None:
    play(steps)


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in CUT.items()])
def test_what_ends_while_a_large_request_comes(steps: Sequence[Step]) -> None:
    play(steps)


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in STOPPED.items()])
def test_what_stops_while_a_large_request_comes(steps: Sequence[Step]) -> None:
    play(steps, LIMITS)


@pytest.mark.parametrize(("missing", "yes"), [(LANDS_FROM, True), (LANDS_FROM - 1, False)])
def test_only_so_much_is_worth_it(missing: int, yes: bool) -> None:
    value = VALUE[: LANDS_FROM + 1000]
    request = encode.request([b"SET", b"k", value])
    play([
        sends("a", request[:-missing]), lands("a", yes), sends("a", request[-missing:]), sees(f"SET k {word(value)}"),
        OK, hears("a", "OK"),
    ])  # fmt: skip


def test_what_is_too_large_never_lands() -> None:
    play([
        sends("a", SET[:1000]), lands("a", False), hears("a", "-ERR Protocol error: invalid bulk length", "closed"),
    ], {"max_bulk": "256kb"})  # fmt: skip


@pytest.mark.parametrize("at", [*range(1, HEAD + 3), 1000, 65_536, len(SET) - 65_536, len(SET) - 2, len(SET) - 1])
def test_a_large_request_cut_anywhere(at: int) -> None:
    play([
        sends("a", SET[:at]), sends("a", SET[at:] + GET), sees(SAW, "GET k"), lands("a", False),
        OK, answers(b"$-1\r\n"), hears("a", "OK", "None"),
    ])  # fmt: skip
