"""A client's replies are written in the order of its requests, in whatever order they come."""

from collections.abc import Iterator
from itertools import permutations
from sys import getrefcount
from tracemalloc import get_traced_memory, start, stop

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engine.window import LARGE, ReplyWindow
from tests.support.recording import Paper

LIMIT = 1024 * 1024


class Client:
    """A window, the bytes that it wrote, and how often it woke its client since then."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.wakes = 0
        self.written = b""
        self.window = ReplyWindow(self._wake, limit)

    def _wake(self) -> None:
        self.wakes += 1

    def flush(self) -> bytes:
        """What a turn of the loop does: write the output, in one call or none."""
        self.wakes = 0
        paper = Paper()
        before = self.window.written
        size = self.window.write_to(paper)
        assert len(paper.writes) == bool(size)
        piece = paper.taken()
        assert len(piece) == size == self.window.written - before
        self.written += piece
        return piece

    def deliver(self, token: int, reply: bytes) -> None:
        self.window.deliver(token, b"<" + reply + b">", 1, 1 + len(reply))


@pytest.fixture
def client() -> Client:
    return Client()


def test_a_reply_in_turn_goes_straight_out(client: Client) -> None:
    window = client.window
    assert window.idle
    assert [window.reserve(), window.reserve()] == [0, 1]
    assert (window.issued, window.head, window.pending, window.idle) == (2, 0, 2, False)
    client.deliver(0, b"a")
    assert client.wakes == 1
    assert (window.head, window.pending) == (1, 1)
    client.deliver(1, b"b")
    assert client.wakes == 1  # output was waiting already
    assert not window.idle
    assert client.flush() == b"ab"
    assert window.idle
    assert client.flush() == b""


def test_an_early_reply_waits_for_its_turn(client: Client) -> None:
    window = client.window
    for _ in range(3):
        window.reserve()
    client.deliver(2, b"c")
    client.deliver(1, b"b")
    assert client.wakes == 0
    assert window.pending == 3
    client.deliver(0, b"a")
    assert client.wakes == 1
    assert window.pending == 0
    assert client.flush() == b"abc"


def test_an_answer_waits_for_the_requests_before_it(client: Client) -> None:
    window = client.window
    token = window.reserve()
    window.answer(b"+OK\r\n")
    assert client.flush() == b""
    client.deliver(token, b":1\r\n")
    assert client.flush() == b":1\r\n+OK\r\n"


def test_nothing_can_be_a_reply(client: Client) -> None:
    """CLIENT REPLY OFF: the turn passes, nothing is written."""
    window = client.window
    first = window.reserve()
    window.answer(b"")
    window.answer(b"b")
    client.deliver(first, b"")
    assert client.flush() == b"b"
    assert window.idle


def test_a_stream_passes_through_piece_by_piece(client: Client) -> None:
    window = client.window
    first, second = window.reserve(), window.reserve()
    assert window.accepts_stream(first)
    assert not window.accepts_stream(second)
    window.stream(first, b"ab", last=False)
    assert client.wakes == 1
    assert client.flush() == b"ab"
    assert window.pending == 2
    client.deliver(second, b"z")
    window.stream(first, b"cd", last=False)
    assert client.flush() == b"cd"
    window.stream(first, b"e", last=True)
    assert client.wakes == 1
    assert client.flush() == b"ez"
    assert window.idle
    assert not window.broken


def test_a_stream_that_breaks_off_breaks_the_client(client: Client) -> None:
    window = client.window
    first, second = window.reserve(), window.reserve()
    window.stream(first, b"ab", last=False)
    client.deliver(second, b"z")
    client.flush()
    window.abort_stream(first)
    assert client.wakes == 1  # to be closed
    assert window.broken
    assert client.flush() == b""
    window.answer(b"+OK\r\n")
    assert client.flush() == b""


def test_a_closed_window_keeps_nothing_and_takes_everything(client: Client) -> None:
    window = client.window
    tokens = [window.reserve() for _ in range(4)]
    client.deliver(tokens[1], b"x" * 10_000)
    window.close()
    assert window.parked_bytes == 0
    assert not window.broken
    assert not window.idle
    client.deliver(tokens[0], b"a")
    client.deliver(tokens[3], b"x" * 10_000)
    assert window.accepts_stream(tokens[2])
    window.stream(tokens[2], b"b", last=False)
    window.stream(tokens[2], b"b", last=True)
    window.answer(b"c")
    assert client.flush() == b""
    assert window.parked_bytes == 0


def test_what_is_parked_is_bounded() -> None:
    client = Client(limit=50_000)
    window = client.window
    for _ in range(12):
        window.reserve()
    for token in range(1, 6):
        client.deliver(token, b"x" * 10_000)
    assert window.parked_bytes == 50_000
    assert not window.overflowing
    assert client.wakes == 0
    client.deliver(6, b"x" * 10_000)
    assert window.overflowing
    assert client.wakes == 1
    client.deliver(0, b"a")
    assert window.parked_bytes == 0
    assert not window.overflowing
    assert len(client.flush()) == 60_001


SIZES = (10, LARGE, LARGE + 1, 100_000)


@pytest.mark.parametrize("sizes", [*permutations(SIZES), (LARGE + 1,) * 4, (10,) * 4, (0, LARGE + 1, 0, 10)])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_large_replies_come_in_their_turn(client: Client, sizes: tuple[int, ...], order: tuple[int, ...]) -> None:
    replies = [b"%d" % number * size for number, size in enumerate(sizes)]
    for _ in replies:
        client.window.reserve()
    for token in order:
        client.deliver(token, replies[token])
    assert client.flush() == b"".join(replies)
    assert client.window.idle
    assert client.window.parked_bytes == 0
    assert client.window.written == sum(sizes)


def test_only_large_parked_replies_are_counted(client: Client) -> None:
    for _ in range(4):
        client.window.reserve()
    client.deliver(1, b"x" * LARGE)
    assert client.window.parked_bytes == 0
    client.deliver(2, b"x" * (LARGE + 1))
    client.deliver(3, b"x" * (LARGE + 2))
    assert client.window.parked_bytes == 2 * LARGE + 3
    client.deliver(0, b"")
    assert client.window.parked_bytes == 0


def test_a_large_reply_is_let_go_of_when_it_is_written(client: Client) -> None:
    window = client.window
    reply = b"x" * 200_000
    before = getrefcount(reply)
    for _ in range(3):
        window.reserve()
    window.deliver(1, reply, 0, len(reply))
    window.deliver(2, reply, 0, len(reply))
    assert getrefcount(reply) == before + 2  # parked, and not copied
    window.deliver(0, reply, 0, len(reply))
    assert getrefcount(reply) == before + 3
    client.flush()
    assert getrefcount(reply) == before
    window.reserve()
    window.answer(reply)
    assert getrefcount(reply) == before + 1
    window.close()
    assert getrefcount(reply) == before


def test_what_is_parked_is_let_go_of_with_the_window() -> None:
    reply = b"x" * 200_000
    before = getrefcount(reply)
    window = ReplyWindow(lambda: None, LIMIT)
    for token in range(40):
        window.reserve()
        if token:
            window.deliver(token, reply, 0, len(reply))
    assert getrefcount(reply) == before + 39
    del window
    assert getrefcount(reply) == before


def test_nothing_is_kept_after_a_burst(client: Client) -> None:
    """However much a client once had to wait for: what is written is given back."""
    window = client.window

    def burst(count: int) -> None:
        tokens = [window.reserve() for _ in range(count)]
        for token in reversed(tokens):
            window.deliver(token, b"x" * 1000, 0, 1000)
        client.flush()
        client.written = b""
        assert window.idle

    burst(10)
    start()
    before, _ = get_traced_memory()
    burst(5000)
    after, _ = get_traced_memory()
    stop()
    assert after - before < 2000


@pytest.mark.parametrize("early", [1, 15, 16, 17, 31, 32, 33, 5000])
def test_any_number_may_be_early(client: Client, early: int) -> None:
    for first in range(0, 3 * (early + 1), early + 1):
        tokens = [client.window.reserve() for _ in range(early + 1)]
        for token in reversed(tokens):
            client.deliver(token, b"%d," % token)
        assert client.flush() == b"".join(b"%d," % token for token in range(first, first + early + 1))


def test_a_lone_reply_is_written_at_once(client: Client) -> None:
    window = client.window
    direct: list[bytes] = []
    window.direct = direct.append
    first = window.reserve()
    client.deliver(first, b"a")
    assert (direct, client.wakes, window.idle, window.written) == ([b"a"], 0, True, 1)
    first, second = window.reserve(), window.reserve()
    client.deliver(first, b"b")  # another one is on its way: they may share a write
    client.deliver(second, b"c")
    assert (direct, client.wakes) == ([b"a"], 1)
    assert client.flush() == b"bc"
    window.answer(b"d")
    assert direct == [b"a", b"d"]
    first, second = window.reserve(), window.reserve()
    client.deliver(second, b"f")
    client.deliver(first, b"e")
    assert client.flush() == b"ef"
    window.direct = None
    window.answer(b"g")
    assert client.flush() == b"g"
    assert direct == [b"a", b"d"]
    assert window.written == 7


def test_replies_share_a_write_while_more_requests_are_at_hand(client: Client) -> None:
    window = client.window
    direct: list[bytes] = []
    window.direct = direct.append
    window.gathers = True
    window.answer(b"a")
    window.answer(b"b")
    window.gathers = False
    window.answer(b"c")
    assert (direct, client.wakes) == ([], 1)
    assert client.flush() == b"abc"
    window.answer(b"d")
    assert direct == [b"d"]


@pytest.mark.parametrize("early", [0, 1, 3])
def test_a_stream_is_written_at_once_and_brings_what_waited_behind_it(client: Client, early: int) -> None:
    window = client.window
    direct: list[bytes] = []
    window.direct = direct.append
    tokens = [window.reserve() for _ in range(1 + early)]
    window.stream(tokens[0], b"ab", last=False)
    for token in tokens[1:]:
        client.deliver(token, b"%d" % token)
    window.stream(tokens[0], b"cd", last=False)
    assert (b"".join(direct), client.wakes, window.written) == (b"abcd", 0, 4)
    window.stream(tokens[0], b"e", last=True)
    assert bool(client.wakes) is bool(early)  # what is not written yet has called for it
    assert b"".join(direct) + client.flush() == b"abcde" + b"".join(b"%d" % token for token in tokens[1:])
    assert window.idle
    assert window.written == 5 + early


def test_a_slow_client_holds_a_stream_back(client: Client) -> None:
    window = client.window
    resumed: list[str] = []
    assert not window.holds_back(lambda: resumed.append("too early"))
    window.set_slow(True)
    assert window.holds_back(lambda: resumed.append("first"))
    window.set_slow(True)
    assert resumed == []
    window.set_slow(False)
    assert resumed == ["first"]
    window.set_slow(False)
    assert resumed == ["first"]
    assert not window.holds_back(lambda: resumed.append("too late"))
    window.set_slow(True)
    assert window.holds_back(lambda: resumed.append("gone"))
    window.close()
    assert resumed == ["first", "gone"]
    assert not window.holds_back(lambda: resumed.append("closed"))


def test_a_closed_window_writes_nothing_at_once(client: Client) -> None:
    direct: list[bytes] = []
    client.window.direct = direct.append
    first = client.window.reserve()
    client.window.close()
    client.deliver(first, b"a")
    assert direct == []


def test_repr_shows_the_state(client: Client) -> None:
    window = client.window
    window.reserve()
    window.reserve()
    client.deliver(1, b"b")
    assert repr(window) == "ReplyWindow(next 0 of 2, 1 parked)"


@given(st.data())
def test_replies_come_out_in_the_order_of_the_requests(data: st.DataObject) -> None:
    """Requests, completions in any order, streams, answers and flushes: the output is the replies in request order."""
    client = Client()
    window = client.window
    expected: list[bytes] = []
    waiting: list[int] = []
    streaming: tuple[int, Iterator[bytes], int] | None = None
    for step in range(data.draw(st.integers(0, 60), label="steps")):
        action = data.draw(st.sampled_from(["request", "request", "deliver", "deliver", "answer", "stream", "flush"]))
        reply = b"%d;" % step * data.draw(st.sampled_from([0, 1, 2, 3000]), label="size")
        if action == "request":
            waiting.append(window.reserve())
            expected.append(b"")
        elif action == "answer":
            expected.append(reply)
            window.answer(reply)
        elif action == "deliver" and waiting:
            token = data.draw(st.sampled_from(waiting), label="token")
            waiting.remove(token)
            expected[token] = reply
            client.deliver(token, reply)
        elif action == "stream":
            if streaming is None and waiting and window.accepts_stream(waiting[0]):
                token = waiting.pop(0)
                expected[token] = reply + b"<1><2>"
                window.stream(token, reply, last=False)
                streaming = token, iter((b"<1>", b"<2>")), 2
            elif streaming is not None:
                token, pieces, left = streaming
                window.stream(token, next(pieces), last=left == 1)
                streaming = (token, pieces, left - 1) if left > 1 else None
        elif action == "flush":
            client.flush()
        # Whatever is there to be written has called for it.
        done = b"".join(expected[: window.head])
        assert window.head == min([*waiting, *([streaming[0]] if streaming else []), window.issued])
        if len(done) > len(client.written) and not streaming:
            assert client.wakes == 1
        assert window.pending == window.issued - window.head
    if streaming is not None:
        token, pieces, _ = streaming
        *rest, last = pieces
        for piece in rest:
            window.stream(token, piece, last=False)
        window.stream(token, last, last=True)
    for token in data.draw(st.permutations(waiting), label="the rest"):
        expected[token] = b"last%d;" % token
        client.deliver(token, expected[token])
    client.flush()
    assert client.written == b"".join(expected)
    assert window.idle
    assert window.parked_bytes == 0


@given(st.permutations(range(30)))
def test_any_order_of_completion(order: list[int]) -> None:
    client = Client()
    for _ in order:
        client.window.reserve()
    for token in order:
        client.deliver(token, b"%d," % token)
    assert client.flush() == b"".join(b"%d," % token for token in range(30))


def test_what_is_pushed_goes_behind_what_is_ready(client: Client) -> None:
    window = client.window
    window.reserve()
    window.reserve()
    client.deliver(1, b"b")
    window.push(b"!")
    assert client.wakes == 1
    client.deliver(0, b"a")
    window.push(b"?")
    assert client.flush() == b"!ab?"


def test_what_is_pushed_does_not_cut_a_streaming_reply(client: Client) -> None:
    window = client.window
    token = window.reserve()
    window.stream(token, b"begun,", last=False)
    window.push(b"pushed")
    assert window.parked_bytes == 6
    assert client.flush() == b"begun,"
    window.stream(token, b"ended,", last=True)
    assert window.parked_bytes == 0
    assert client.flush() == b"ended,pushed"


def test_what_is_pushed_while_a_reply_streams_is_counted() -> None:
    client = Client(limit=100)
    window = client.window
    token = window.reserve()
    window.stream(token, b"begun,", last=False)
    client.flush()
    window.push(b"p" * 100)
    assert not window.overflowing
    assert client.wakes == 0
    window.push(b"p")
    assert window.overflowing
    assert client.wakes == 1
    window.stream(token, b"ended,", last=True)
    assert not window.overflowing
    window.close()
    window.push(b"too late")
    assert client.flush() == b""
