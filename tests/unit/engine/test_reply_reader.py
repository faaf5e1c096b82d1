"""A backend's bytes become replies, each at the sink whose turn it is, however they are cut."""

import sys
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engine.entry import Entry
from proxy.engine.inflight import InFlight
from proxy.engine.reply_reader import STREAM_FROM, ReplyReader
from proxy.engine.sink import DISCARD, Sink
from proxy.engine.window import ReplyWindow
from proxy.metrics import Counters
from proxy.resp.replies import BadReply
from tests.support.feeding import PLACES, RESP2, RESP3, chunks, cut, single_bytes
from tests.support.recording import Paper, Recorder


class Connection:
    """A reader behind a FIFO of requests; ``failed`` has those that an error answered, and who sent them."""

    def __init__(self, most: int = sys.maxsize) -> None:
        self.fifo = InFlight()
        self.counters = Counters()
        self.failed: list[tuple[Sink, bytes]] = []
        self.refused: list[bytes] = []
        self.reader = ReplyReader(self.fifo, self.counters, self._on_error, None, most, self._on_large)

    def _on_error(self, error: bytes) -> bool:
        if error.startswith(b"-MOVED"):
            self.refused.append(self.fifo.pop().frame)
            return True
        entry = self.fifo.peek()
        if entry.sink is not DISCARD:
            self.failed.append((entry.sink, entry.frame))
        return False

    def _on_large(self, entry: Entry) -> bytes:
        return b"-ERR too large %b\r\n" % entry.frame

    def send(self, sink: Sink, count: int = 1, since: float = 0.0) -> None:
        """Requests 0 to ``count`` of ``sink``, written."""
        for token in range(count):
            self.fifo.push(sink, token, b"<%d>" % token, 0, 3, since)
        self.fifo.write_to(Paper())

    def feed(self, pieces: Iterable[bytes], now: float = 0.0) -> None:
        for piece in pieces:
            self.reader.feed(piece, now)

    @property
    def observed(self) -> int:
        return sum(self.counters.latency_buckets())


@pytest.fixture
def connection() -> Connection:
    return Connection()


REPLIES = [
    b"+OK\r\n",
    b":1\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$9\r\n012345678\r\n",
    b"$10\r\n0123456789\r\n",
    b"$99\r\n" + b"\r\n" * 49 + b"x\r\n",
    b"$100\r\n" + b"$" * 100 + b"\r\n",
    b"-ERR no\r\n",
    b"*2\r\n$1\r\na\r\n*-1\r\n",
    b"_\r\n",
    b"%1\r\n+a\r\n:1\r\n",
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64, 10_000])
def test_replies_go_out_in_order(connection: Connection, size: int) -> None:
    sink = Recorder()
    connection.send(sink, len(REPLIES))
    connection.feed(chunks(b"".join(REPLIES), size), 0.5)
    assert sink.replies == list(enumerate(REPLIES))
    assert len(connection.fifo) == 0
    assert connection.observed == len(REPLIES)
    assert connection.counters.latency_sum == pytest.approx(0.5 * len(REPLIES))
    assert connection.failed == [(sink, b"<8>")]


@given(st.lists(RESP2 | RESP3, min_size=1, max_size=8), PLACES)
def test_any_replies_cut_anywhere(frames: list[bytes], places: list[int]) -> None:
    data = b"".join(frames)
    expected = [frame for frame in frames if not frame.startswith(b">")]  # pushes answer nothing
    for pieces in ([data], cut(data, places), list(single_bytes(data))):
        connection = Connection()
        sink = Recorder()
        connection.send(sink, len(expected))
        connection.feed(pieces, 1.0)
        assert [reply for _, reply in sink.replies] == expected
        assert connection.observed == len(expected)
        assert len(connection.failed) == sum(frame.startswith(b"-") for frame in expected)


def test_each_client_gets_its_own(connection: Connection) -> None:
    one, other = Recorder(), Recorder()
    for token, sink in enumerate((one, other, one)):
        connection.fifo.push(sink, token, b"x", 0, 1, float(token))
    connection.fifo.write_to(Paper())
    connection.reader.feed(b":0\r\n:1\r\n:2\r\n", 3.0)
    assert one.replies == [(0, b":0\r\n"), (2, b":2\r\n")]
    assert other.replies == [(1, b":1\r\n")]
    assert connection.counters.latency_sum == pytest.approx(3 + 2 + 1)


@pytest.mark.parametrize("place", range(24))
def test_a_refused_request_is_taken_out(connection: Connection, place: int) -> None:
    sink = Recorder()
    connection.send(sink, 3)
    connection.feed(cut(b"+a\r\n-MOVED 1 a:2\r\n+c\r\n", [place]))
    assert connection.refused == [b"<1>"]
    assert [token for token, _ in sink.replies] == [0, 2]
    assert len(connection.fifo) == 0


def test_a_late_error_of_a_request_that_was_given_up_is_dropped(connection: Connection) -> None:
    sink = Recorder()
    connection.send(sink, 2)
    connection.fifo.expire(1.0)
    connection.reader.feed(b"-ERR late\r\n", 2.0)
    connection.feed(single_bytes(b"-ERR late\r\n"), 2.0)
    assert sink.replies == []
    assert connection.failed == []
    assert len(connection.fifo) == 0


@pytest.mark.parametrize("size", [1, 1000])
def test_a_reply_that_nobody_asked_for(connection: Connection, size: int) -> None:
    sink = Recorder()
    connection.send(sink)
    connection.fifo.push(sink, 1, b"not written", 0, 11, 0.0)
    with pytest.raises(BadReply):
        connection.feed(chunks(b"+OK\r\n+OK\r\n", size))
    assert sink.replies == [(0, b"+OK\r\n")]
    assert connection.fifo.unsent == 1


@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_no_reply(connection: Connection, size: int) -> None:
    connection.send(Recorder(), 3)
    with pytest.raises(BadReply):
        connection.feed(chunks(b"+OK\r\nwhat?\r\n", size))


LARGE = b"$%d\r\n%b\r\n" % (3 * STREAM_FROM, b"0123456789ab" * (STREAM_FROM // 4))


@pytest.mark.parametrize("size", [1000, STREAM_FROM, 2 * STREAM_FROM])
def test_a_large_reply_streams_to_a_sink_that_takes_it(connection: Connection, size: int) -> None:
    sink = Recorder(streams=True)
    connection.send(sink, 3)
    data = b"+OK\r\n" + LARGE + b":1\r\n"
    pieces = list(chunks(data, size))
    for index, piece in enumerate(pieces):
        connection.reader.feed(piece, 1.0)
        if index == 0:
            assert connection.reader.streaming
    assert not connection.reader.streaming
    assert [reply for _, reply in sink.replies] == [b"+OK\r\n", LARGE, b":1\r\n"]
    assert len(sink.pieces) > 1
    assert max(len(piece) for _, piece, _ in sink.pieces) <= size
    assert connection.observed == 3


def test_a_stream_that_ends_with_its_piece(connection: Connection) -> None:
    sink = Recorder(streams=True)
    connection.send(sink, 1)
    connection.reader.feed(LARGE[:100], 0.0)
    connection.reader.feed(LARGE[100:], 0.0)
    assert sink.replies == [(0, LARGE)]
    assert not connection.reader.streaming
    assert len(connection.fifo) == 0


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_a_header_that_is_cut_does_not_keep_a_reply_from_streaming(connection: Connection, size: int) -> None:
    sink = Recorder(streams=True)
    connection.send(sink, 1)
    connection.feed((LARGE[:size], LARGE[size:100]))
    assert connection.reader.streaming
    connection.feed(chunks(LARGE[100:], 10_000))
    assert sink.replies == [(0, LARGE)]
    assert len(sink.pieces) > 10


def test_a_large_reply_streams_as_soon_as_its_turn_comes(connection: Connection) -> None:
    sink = Recorder(streams=False)
    connection.send(sink, 1)
    connection.feed(chunks(LARGE[:50_000], 1000))
    assert sink.pieces == []
    sink.streams = True
    connection.feed((LARGE[50_000:51_000],))
    assert b"".join(piece for _, piece, _ in sink.pieces) == LARGE[:51_000]
    connection.feed((LARGE[51_000:],))
    assert sink.replies == [(0, LARGE)]
    assert len(connection.fifo) == 0
    assert connection.observed == 1


SMALL = b"$%d\r\n%b\r\n" % (STREAM_FROM // 2, b"x" * (STREAM_FROM // 2))
LONG = {
    "one large value in an array": b"*1\r\n" + LARGE,
    "many small values": b"*20000\r\n" + b"$7\r\nabcdefg\r\n" * 20_000,
    "integers and nulls": b"*60000\r\n" + b":1\r\n$-1\r\n*-1\r\n" * 20_000,
    "a map": b"%10000\r\n" + b"+field\r\n,3.14\r\n" * 10_000,
    "a set": b"~9000\r\n" + b"$10\r\n0123456789\r\n" * 9000,
    "a verbatim string": b"=%d\r\ntxt:%b\r\n" % (2 * STREAM_FROM + 4, b"v" * (2 * STREAM_FROM)),
    "nested": b"*3\r\n*2\r\n" + LARGE + b"*2\r\n:1\r\n" + LARGE + b"%1\r\n+k\r\n" + LARGE + b"*1\r\n*1\r\n*0\r\n",
    "a long line within": b"*3\r\n:1\r\n+" + b"l" * (2 * STREAM_FROM) + b"\r\n-ERR " + b"e" * STREAM_FROM + b"\r\n",
    "attributes within": b"*2\r\n|1\r\n+ttl\r\n:3600\r\n" + LARGE + b"|1\r\n+a\r\n" + LARGE + b"_\r\n",
}


@pytest.mark.parametrize("size", [999, 16 * 1024, STREAM_FROM + 1, 10**7])
@pytest.mark.parametrize("reply", LONG.values(), ids=list(LONG))
@pytest.mark.parametrize("streams", [True, False])
def test_a_long_reply_of_any_kind_goes_in_pieces(
    connection: Connection, reply: bytes, size: int, streams: bool
) -> None:
    sink = Recorder(streams=streams)
    connection.send(sink, 3)
    connection.feed(chunks(b"+OK\r\n" + reply + b":1\r\n", size))
    assert sink.replies == [(0, b"+OK\r\n"), (1, reply), (2, b":1\r\n")]
    assert connection.observed == 3
    assert len(connection.fifo) == 0
    assert not connection.reader.taken
    if size < STREAM_FROM:
        assert len(sink.pieces if streams else sink.joined) > 2
        assert max(len(piece) for _, piece, _ in sink.pieces) <= 2 * STREAM_FROM if streams else True


@pytest.mark.parametrize("reply", LONG.values(), ids=list(LONG))
def test_a_long_reply_byte_by_byte(connection: Connection, reply: bytes) -> None:
    sink = Recorder(streams=True)
    connection.send(sink, 2)
    at = len(reply) - 300
    connection.feed([*chunks(reply[:at], 50_000), *single_bytes(reply[at:] + b"+OK\r\n")])
    assert sink.replies == [(0, reply), (1, b"+OK\r\n")]


@given(st.lists(RESP2 | RESP3, min_size=1, max_size=5), st.lists(st.integers(0, 4 * STREAM_FROM), max_size=12))
def test_long_aggregates_of_anything_cut_anywhere(items: list[bytes], places: list[int]) -> None:
    items = [item for item in items if not item.startswith((b">", b"|"))]
    reply = b"*%d\r\n" % (3 * len(items) + 1) + LARGE + b"".join(items) * 3
    for streams in True, False:
        connection = Connection()
        sink = Recorder(streams=streams)
        connection.send(sink, 2)
        connection.feed(cut(reply + b":7\r\n", places))
        assert sink.replies == [(0, reply), (1, b":7\r\n")]


def test_a_long_reply_is_kept_in_pieces_for_a_sink_that_takes_no_stream(connection: Connection) -> None:
    sink = Recorder(streams=False)
    connection.send(sink, 2)
    connection.feed(chunks(LARGE + b":1\r\n", 1000))
    assert sink.replies == [(0, LARGE), (1, b":1\r\n")]
    assert sink.pieces == []
    assert len(sink.joined) > 100


def test_small_replies_are_not_taken_in_pieces(connection: Connection) -> None:
    sink = Recorder(streams=True)
    connection.send(sink, 4)
    error = b"-ERR " + b"e" * (2 * STREAM_FROM) + b"\r\n"
    connection.feed(chunks(SMALL + b"*1\r\n" + SMALL + error, 1000))
    assert sink.pieces == []
    assert sink.replies == [(0, SMALL), (1, b"*1\r\n" + SMALL), (2, error)]
    assert connection.failed == [(sink, b"<2>")]


@pytest.mark.parametrize("garbage", [b"*2\r\n:1\r\n$" + b"1" * 40, b"*2\r\n:1\r\n$x\r\n", b"*2\r\n:1\r\nwhat\r\n"])
def test_what_is_no_reply_within_a_long_one(connection: Connection, garbage: bytes) -> None:
    connection.send(Recorder(streams=True), 1)
    connection.feed(chunks(b"*2\r\n" + LARGE, 1000))
    with pytest.raises(BadReply):
        connection.feed(chunks(garbage, 1000))


# ---- how much is kept


@pytest.mark.parametrize("reply", LONG.values(), ids=list(LONG))
@pytest.mark.parametrize("size", [1000, STREAM_FROM, 10**7])
def test_no_more_is_kept_of_a_reply_than_is_allowed(reply: bytes, size: int) -> None:
    connection = Connection(most=STREAM_FROM + 5000)
    sink = Recorder(streams=False)
    connection.send(sink, 3)
    connection.feed(chunks(b"+OK\r\n" + reply + b":1\r\n", size))
    if size < len(reply):
        assert sink.replies == [(0, b"+OK\r\n"), (1, b"-ERR too large <1>\r\n"), (2, b":1\r\n")]
    assert len(connection.fifo) == 0
    assert not connection.reader.taken
    connection.reader.reset()
    assert sink.aborted == []


def test_what_streams_is_not_kept() -> None:
    connection = Connection(most=STREAM_FROM)
    sink = Recorder(streams=True)
    connection.send(sink, 1)
    connection.feed(chunks(LARGE, 1000))
    assert sink.replies == [(0, LARGE)]


def test_a_reply_of_which_too_much_came_is_lost_with_its_connection() -> None:
    connection = Connection(most=STREAM_FROM)
    sink = Recorder(streams=False)
    connection.send(sink, 2)
    connection.feed(chunks(LARGE[: 2 * STREAM_FROM], 1000))
    assert sink.replies == [(0, b"-ERR too large <0>\r\n")]
    assert connection.reader.streaming
    assert connection.reader.owner is None
    connection.reader.reset()
    assert sink.aborted == []
    assert [entry.token for entry in connection.fifo.drain()[0]] == [1]


def test_a_request_that_was_given_up_while_its_reply_came_is_dropped(connection: Connection) -> None:
    sink = Recorder(streams=False)
    connection.send(sink, 1)
    connection.feed(chunks(LARGE[:STREAM_FROM], 1000))
    assert len(connection.fifo.expire(1.0)[0]) == 1
    connection.feed(chunks(LARGE[STREAM_FROM:], 1000))
    assert sink.replies == []
    assert len(connection.fifo) == 0


def test_a_lost_connection_leaves_a_kept_reply_unanswered(connection: Connection) -> None:
    """So that it can be asked for again, if it is a read."""
    sink = Recorder(streams=False)
    connection.send(sink, 1)
    connection.feed(chunks(LARGE[: 2 * STREAM_FROM], 1000))
    connection.reader.reset()
    assert sink.aborted == []
    assert [entry.token for entry in connection.fifo.drain()[0]] == [0]


def test_a_lost_connection_breaks_the_stream_off(connection: Connection) -> None:
    sink = Recorder(streams=True)
    connection.send(sink, 2)
    connection.reader.feed(LARGE[:1000], 0.0)
    connection.reader.reset()
    assert sink.aborted == [0]
    assert not connection.reader.streaming
    connection.reader.reset()
    assert sink.aborted == [0]


def test_a_new_connection_begins_with_a_new_reply(connection: Connection) -> None:
    sink = Recorder()
    connection.send(sink, 1)
    connection.reader.feed(b"*3\r\n:1\r\n", 0.0)
    connection.reader.reset()
    connection.reader.feed(b"+OK\r\n", 0.0)
    assert sink.replies == [(0, b"+OK\r\n")]


def test_two_backends_answer_one_client() -> None:
    """Two readers, one window: the faster shard's replies wait, a large one in turn streams past them."""
    wakes: list[None] = []
    window = ReplyWindow(lambda: wakes.append(None), 1024 * 1024)
    paper = Paper()

    def written() -> bytes:
        window.write_to(paper)
        return paper.taken()

    one, other = Connection(), Connection()
    for connection in (one, other, one, other):
        connection.fifo.push(window, window.reserve(), b"x", 0, 1, 0.0)
    one.fifo.write_to(Paper())
    other.fifo.write_to(Paper())
    other.reader.feed(b":1\r\n:3\r\n", 0.0)
    assert written() == b""
    half = len(LARGE) // 2
    one.reader.feed(LARGE[:half], 0.0)
    assert written() == LARGE[:half]
    one.reader.feed(LARGE[half:] + b":2\r\n", 0.0)
    assert written() == LARGE[half:] + b":1\r\n:2\r\n:3\r\n"
    assert window.idle


def test_what_nobody_waits_for_streams_away(connection: Connection) -> None:
    connection.send(DISCARD, 1)
    connection.feed(chunks(LARGE, 1000))
    assert len(connection.fifo) == 0
