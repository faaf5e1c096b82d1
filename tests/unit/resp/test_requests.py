"""Where requests end: whole, cut anywhere, with more behind them, and when they are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.resp import encode
from proxy.resp.limits import UNAUTHENTICATED, RequestLimits
from proxy.resp.requests import ProtocolError, RequestFramer, split_request
from tests.support.feeding import COMMANDS, NOISE, PLACES, Fed, Watched, chunks, cut, single_bytes

LIMITS = RequestLimits()


def framer(limits: RequestLimits = LIMITS) -> RequestFramer:
    return RequestFramer(limits, UNAUTHENTICATED)


REQUESTS = [
    b"*1\r\n$4\r\nPING\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$14\r\n*1\r\n$4\r\nPING\r\n\r\n",  # a value that looks like a request
    b"*2\r\n$4\r\nECHO\r\n$10\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
    b"*2\r\n$3\r\nGET\r\n$5\r\n\x00\xff\r\n\x01\r\n",
    b"*11\r\n$3\r\nDEL\r\n" + b"$1\r\nk\r\n" * 10,
    b"*1\rX$4\rXPING\r\n",  # Redis looks for the \r only
    b"*1\r\n$4\r\nPINGXX",  # nor does it look at what ends an argument
    b"*0\r\n",
    b"*-1\r\n",
    b"*-5\r\n",
    b"PING\r\n",
    b"PING\n",
    b'SET k "a b"\r\n',
    b"\r\n",
    b" \n",
]


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("trailing", [b"", b"*", b"P", b"*2\r\n$3\r\nGE", b"PIN", b"\r"])
def test_a_request_cut_anywhere(request_: bytes, trailing: bytes) -> None:
    data = request_ + trailing
    for pieces in ([data], list(single_bytes(data)), *([data[:at], data[at:]] for at in range(1, len(data)))):
        fed = Fed(framer(), pieces)
        assert fed.frames == [request_]
        assert fed.kept == trailing


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_offset_counts_from_the_start_of_the_data(request_: bytes) -> None:
    data = b"xyz" + request_ + b"abc"
    assert framer().frame(data, 3) == 3 + len(request_)


@pytest.mark.parametrize(
    ("request_", "inline", "empty"),
    [
        (b"*1\r\n$4\r\nPING\r\n", False, False),
        (b"*0\r\n", False, True),
        (b"*-1\r\n", False, True),
        (b"PING\r\n", True, False),
        (b" \t \r\n", True, True),
    ],
)
def test_what_kind_of_request_it_is(request_: bytes, inline: bool, empty: bool) -> None:
    for pieces in ([request_], single_bytes(request_)):
        it = framer()
        assert Fed(it, pieces).frames == [request_]
        assert (it.inline, it.empty) == (inline, empty)


def test_the_kind_is_that_of_the_last_request() -> None:
    it = framer()
    seen = []
    data = b"\r\n*0\r\nPING\r\n*1\r\n$4\r\nPING\r\n"
    at = 0
    while at < len(data):
        at = it.frame(data, at)
        seen.append((it.inline, it.empty))
    assert seen == [(True, True), (False, True), (True, False), (False, False)]


@given(COMMANDS, PLACES)
def test_requests_as_clients_send_them(commands: list[list[bytes]], places: list[int]) -> None:
    frames = [encode.request(args) for args in commands]
    fed = Fed(framer(), cut(b"".join(frames), places))
    assert fed.frames == frames
    assert not fed.kept
    assert [split_request(frame) for frame in fed.frames] == commands


# What Redis 7.0.15 answers to these bytes.
ERRORS = [
    (b"*x\r\n", "invalid multibulk length"),
    (b"*\r\n", "invalid multibulk length"),
    (b"*+1\r\n", "invalid multibulk length"),
    (b"* 1\r\n", "invalid multibulk length"),
    (b"*01\r\n", "invalid multibulk length"),
    (b"*1_0\r\n", "invalid multibulk length"),
    (b"*-0\r\n", "invalid multibulk length"),
    (b"*99999999999\r\n", "invalid multibulk length"),
    (b"*-9999999999999999999\r\n", "invalid multibulk length"),
    (b"*" + b"9" * 400 + b"\r\n", "invalid multibulk length"),
    (b"*1\r\n:4\r\n", "expected '$', got ':'"),
    (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
    (b"*1\r\n*1\r\n", "expected '$', got '*'"),
    (b"*1\r\n\xff\r\n", "expected '$', got '\xff'"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$x\r\n", "invalid bulk length"),
    (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
    (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
    (b"*2\r\n$4\r\nPING\r\n$\x00\r\n", "invalid bulk length"),
]


@pytest.mark.parametrize(("data", "words"), ERRORS)
def test_what_is_no_request(data: bytes, words: str) -> None:
    for pieces in ([data], single_bytes(data), [data + b"*1\r\n$4\r\nPING\r\n"]):
        with pytest.raises(ProtocolError) as caught:
            Fed(framer(), pieces)
        assert str(caught.value) == words


SMALL = RequestLimits(arguments=3, bulk=10, inline=16, request=40)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"*4\r\n", "invalid multibulk length"),
        (b"*1\r\n$11\r\n", "invalid bulk length"),
        (b"*3\r\n" + b"$10\r\n0123456789\r\n" * 3, "too big request"),
        (b"*" + b"1" * 17, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 17, "too big bulk count string"),
        (b"x" * 17, "too big inline request"),
    ],
)
def test_limits(data: bytes, words: str) -> None:
    for pieces in ([data], single_bytes(data)):
        with pytest.raises(ProtocolError) as caught:
            Fed(framer(SMALL), pieces)
        assert str(caught.value) == words


def test_what_just_fits_the_limits() -> None:
    data = b"*3\r\n$10\r\n0123456789\r\n$2\r\nab\r\n$1\r\nc\r\n"
    assert len(data) <= SMALL.request
    assert Fed(framer(SMALL), single_bytes(data)).frames == [data]
    assert Fed(framer(SMALL), [b"x" * 15 + b"\n"]).frames == [b"x" * 15 + b"\n"]


def test_who_has_not_authenticated_may_send_little() -> None:
    for data, words in (
        (b"*11\r\n", "unauthenticated multibulk length"),
        (b"*1\r\n$16385\r\n", "unauthenticated bulk length"),
    ):
        it = framer()
        it.set_authenticated(False)
        with pytest.raises(ProtocolError, match=words):
            it.frame(data, 0)
        it = framer()
        it.set_authenticated(False)
        it.set_authenticated(True)
        assert it.frame(data, 0) == -1
    it = framer()
    it.set_authenticated(False)
    assert it.frame(b"*10\r\n" + b"$1\r\nx\r\n" * 10, 0) > 0


def outcome(pieces: list[bytes]) -> tuple[list[bytes], str | bytes]:
    """The frames, and how it ended: the error, or what is left over."""
    fed = Fed(framer(), [])
    try:
        for piece in pieces:
            fed.feed(piece)
    except ProtocolError as error:
        return fed.frames, str(error)
    return fed.frames, bytes(fed.kept)


@given(NOISE, PLACES)
def test_how_bytes_are_cut_changes_nothing(data: bytes, places: list[int]) -> None:
    whole = outcome([data])
    assert outcome(cut(data, places)) == whole
    assert outcome(list(single_bytes(data))) == whole
    frames, rest = whole
    assert data.startswith(b"".join(frames))
    if isinstance(rest, bytes):
        assert b"".join(frames) + rest == data


@given(st.binary(max_size=200))
def test_random_bytes_are_framed_or_refused(data: bytes) -> None:
    frames, rest = outcome([data])
    assert outcome(list(single_bytes(data))) == (frames, rest)


@given(st.binary(max_size=60), NOISE)
def test_nothing_behind_a_request_is_looked_at(value: bytes, behind: bytes) -> None:
    frame = encode.request((b"SET", b"k", value))
    assert framer().frame(frame + behind, 0) == len(frame)
    assert framer().frame(frame[:-1], 0) == -1


def test_need_is_enough_to_go_on() -> None:
    it = framer()
    assert it.frame(b"", 0) == -1
    assert it.need == 1
    assert it.frame(b"*2\r\n$3\r\nGET\r\n$1000\r\nabc", 0) == -1
    assert it.need == len(b"*2\r\n$3\r\nGET\r\n$1000\r\n") + 1000 + 2


def test_a_large_value_is_looked_at_when_it_is_whole() -> None:
    value = b"\r\n" * 50_000
    frame = encode.request((b"SET", b"k", value))
    kept = Watched()
    fed = Fed(framer(), single_bytes(frame), kept)
    assert fed.frames == [frame]
    assert fed.calls < 100
    assert kept.searched < 1000


def test_a_million_arguments_cost_linear_work() -> None:
    count = 1_000_000
    frame = b"*%d\r\n" % count + b"$1\r\nx\r\n" * count
    kept = Watched()
    fed = Fed(framer(), chunks(frame, 4096), kept)
    assert fed.frames == [frame]
    assert kept.searches <= count + 2 * fed.calls
    assert kept.searched <= 4 * kept.searches


def test_a_long_inline_command_is_searched_once() -> None:
    line = b"x" * 60_000 + b"\n"
    kept = Watched()
    assert Fed(framer(), chunks(line, 100), kept).frames == [line]
    assert kept.searched <= len(line)


@pytest.mark.parametrize(
    "frame",
    [b"", b"*2\r\n$3\r\nGET\r\n", b"*1\rX$4\rXPING\r\n", b"*2\r\n$4\r\nINCR\r\n$1\rXk\r\n", b"+OK\r\n", b"$1\r\nx\r\n"],
)
def test_what_hiredis_can_not_split_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match="invalid request"):
        split_request(frame)
