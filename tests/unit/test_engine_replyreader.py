"""A backend's bytes become replies, each at the sink whose turn it is, however they are cut."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engine.inflight import InFlight
from proxy.engine.replyreader import STREAM_FROM, ReplyReader
from proxy.engine.sink import DISCARD, Sink
from proxy.engine.window import ReplyWindow
from proxy.metrics import Counters
from proxy.resp.replies import BadReply
from tests.unit.feeding import PLACES, RESP2, RESP3, chunks, cut, single_bytes
from tests.unit.recording import Paper, Recorder


class Connection:
    """A reader behind a FIFO of requests; ``failed`` has those that an error answered, and who sent them."""

    def __init__(self) -> None:
        self.fifo = InFlight()
        self.counters = Counters()
        self.failed: list[tuple[Sink, bytes]] = []
        self.refused: list[bytes] = []
        self.reader = ReplyReader(self.fifo, self.counters, self._on_error)

    def _on_error(self, error: bytes) -> bool:
        if error.startswith(b"-MOVED"):
            self.refused.append(self.fifo.pop().frame)
            return True
        entry = self.fifo.peek()
        if entry.sink is not DISCARD:
            self.failed.append((entry.sink, entry.frame))
        return False

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
    assert sink.pieces == [(0, LARGE[:51_000], False)]
    connection.feed((LARGE[51_000:],))
    assert sink.replies == [(0, LARGE)]
    assert len(connection.fifo) == 0
    assert connection.observed == 1


def test_a_large_reply_is_kept_whole_for_a_sink_that_does_not(connection: Connection) -> None:
    sink = Recorder(streams=False)
    connection.send(sink, 2)
    connection.feed(chunks(LARGE + b":1\r\n", 1000))
    assert sink.replies == [(0, LARGE), (1, b":1\r\n")]
    assert sink.pieces == []


def test_small_and_nested_replies_are_not_streamed(connection: Connection) -> None:
    sink = Recorder(streams=True)
    connection.send(sink, 2)
    small = b"$%d\r\n%b\r\n" % (STREAM_FROM // 2, b"x" * (STREAM_FROM // 2))
    connection.feed(chunks(small + b"*1\r\n" + LARGE, 1000))
    assert sink.pieces == []
    assert sink.replies == [(0, small), (1, b"*1\r\n" + LARGE)]


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
