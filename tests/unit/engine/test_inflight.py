"""The FIFO of one backend connection, held against a model of two lists."""

from dataclasses import dataclass, replace
from itertools import permutations
from sys import getrefcount

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.engine.entry import Entry
from proxy.engine.inflight import LARGE, InFlight
from proxy.engine.sink import DISCARD, Sink
from tests.support.recording import Paper, Recorder


def push(fifo: InFlight, token: int, since: float = 0.0, sink: Sink | None = None, more: int = 0) -> bytes:
    """Push a request of its own, with ``more`` bytes in it; the request."""
    frame = b"<%d>" % token + b"." * more
    fifo.push(Recorder() if sink is None else sink, token, b"xx" + frame + b"yy", 2, 2 + len(frame), since)
    return frame


def written(fifo: InFlight) -> bytes:
    """What the FIFO writes now, in one call or none."""
    paper = Paper()
    fifo.write_to(paper)
    assert len(paper.writes) <= 1
    return paper.taken()


def test_requests_are_written_once_and_answered_in_order() -> None:
    fifo = InFlight()
    sink = Recorder()
    frames = [push(fifo, token, token / 10, sink) for token in range(3)]
    assert (len(fifo), fifo.unsent, fifo.written) == (3, 3, 0)
    assert written(fifo) == b"".join(frames)
    assert written(fifo) == b""
    assert (len(fifo), fifo.unsent, fifo.written) == (3, 0, 3)
    frames.append(push(fifo, 3, 0.3, sink))
    assert tuple(fifo.pop()) == (sink, 0, frames[0], 0.0)
    assert (len(fifo), fifo.unsent, fifo.written) == (3, 1, 2)
    assert written(fifo) == frames[3]
    assert [fifo.pop()[1] for _ in range(3)] == [1, 2, 3]
    assert len(fifo) == 0


def upto(fifo: InFlight, most: int) -> bytes:
    """What the FIFO writes now if only ``most`` bytes may be unanswered."""
    paper = Paper()
    fifo.write_upto(paper, most)
    return paper.taken()


def test_no_more_is_written_than_may_be_unanswered() -> None:
    fifo = InFlight()
    frames = [push(fifo, token, more=97) for token in range(5)]  # of 100 bytes each
    assert upto(fifo, 250) == frames[0] + frames[1]
    assert (fifo.unanswered, fifo.written, fifo.unsent) == (200, 2, 3)
    assert upto(fifo, 299) == b""
    fifo.pop()
    assert fifo.unanswered == 100
    assert upto(fifo, 299) == frames[2]
    assert upto(fifo, 10_000) == frames[3] + frames[4]
    assert fifo.unanswered == 400
    fifo.drain()
    assert fifo.unanswered == 0


def test_one_alone_is_written_whatever_its_size() -> None:
    fifo = InFlight()
    large = push(fifo, 1, more=LARGE)
    small = push(fifo, 2)
    assert upto(fifo, 10) == large
    assert upto(fifo, 10) == b""
    fifo.pop()
    assert upto(fifo, 10) == small


def test_a_block_is_not_divided() -> None:
    """What stands for the replies to its parts goes with it."""
    fifo = InFlight()
    first = push(fifo, 0, more=50)
    for _ in range(3):
        fifo.push(Recorder(), 0, b"", 0, 0, 0.0)
    block = push(fifo, 1, more=50)
    assert upto(fifo, 100) == first
    assert (fifo.written, fifo.unsent) == (1, 4)
    fifo.pop()
    assert upto(fifo, 100) == block
    assert (fifo.written, fifo.unsent) == (4, 0)


def test_what_nobody_waits_for_any_more_is_unanswered_all_the_same() -> None:
    fifo = InFlight()
    push(fifo, 0, since=0.0, more=97)
    written(fifo)
    fifo.expire(1.0)
    assert fifo.unanswered == 100
    push(fifo, 1, since=2.0, more=97)
    assert upto(fifo, 199) == b""
    fifo.pop()
    assert fifo.unanswered == 0
    assert len(upto(fifo, 199)) == 100


def test_nothing_to_pop() -> None:
    with pytest.raises(IndexError):
        InFlight().pop()


def test_the_oldest_can_be_looked_at() -> None:
    fifo = InFlight()
    with pytest.raises(IndexError):
        fifo.peek()
    for token in range(2):
        push(fifo, token)
    written(fifo)
    entry = fifo.peek()
    assert isinstance(entry, Entry)
    assert tuple(fifo.pop()) == entry
    assert fifo.peek().token == 1


def test_expired_requests_keep_their_place_if_they_were_written() -> None:
    fifo = InFlight()
    for token in range(4):
        push(fifo, token, since=float(token))
        if token == 1:
            written(fifo)
    late, unwritten = fifo.expire(2.5)
    assert [entry.token for entry in late] == [0, 1]
    assert [entry.token for entry in unwritten] == [2]
    assert (len(fifo), fifo.written, fifo.unsent) == (3, 2, 1)
    assert written(fifo) == b"<3>"
    assert [fifo.pop()[0] for _ in range(2)] == [DISCARD, DISCARD]
    assert fifo.pop()[1] == 3


def test_replies_go_to_other_sinks() -> None:
    fifo = InFlight()
    first, second = Recorder(), Recorder()
    for token in range(3):
        push(fifo, token, sink=first)
        if token == 1:
            written(fifo)
    fifo.rewire({0: second, 2: second})
    assert [(entry.sink, entry.token) for entry in fifo.entries()] == [(second, 0), (first, 1), (second, 2)]
    assert [(place, entry.token) for place, entry in fifo.of(second)] == [(0, 0), (2, 2)]
    with pytest.raises(IndexError):
        fifo.rewire({3: first})


def test_whose_requests_they_are() -> None:
    fifo = InFlight()
    first, second = Recorder(), Recorder()
    assert fifo.owners() == set()
    for sink in (first, first, DISCARD, first):
        push(fifo, 0, sink=sink)
    assert fifo.owners() == {first}
    assert not fifo.serves_others(first)
    assert fifo.serves_others(second)
    push(fifo, 0, sink=second)
    assert fifo.owners() == {first, second}
    assert fifo.serves_others(first)
    written(fifo)
    fifo.expire(1.0)
    assert not fifo.serves_others(None)


def test_what_is_not_written_can_be_taken_back() -> None:
    fifo = InFlight()
    for token in range(4):
        push(fifo, token)
        if token == 1:
            written(fifo)
    assert [(entry.token, entry.frame) for entry in fifo.recall()] == [(2, b"<2>"), (3, b"<3>")]
    assert (len(fifo), fifo.written, fifo.unsent) == (2, 2, 0)
    push(fifo, 9)
    assert written(fifo) == b"<9>"
    assert fifo.recall() == []


def test_nothing_expires_twice() -> None:
    fifo = InFlight()
    push(fifo, 0)
    written(fifo)
    assert [len(entries) for entries in fifo.expire(1.0)] == [1, 0]
    assert [len(entries) for entries in fifo.expire(1.0)] == [0, 0]
    assert fifo.oldest() is None
    assert len(fifo) == 1


def test_expiry_keeps_to_the_second() -> None:
    fifo = InFlight()
    push(fifo, 0, since=1.0)
    assert fifo.expire(1.0) == ([], [])
    assert fifo.oldest() == 1.0


def test_repr_shows_the_state() -> None:
    fifo = InFlight()
    push(fifo, 0)
    written(fifo)
    push(fifo, 1)
    assert repr(fifo) == "InFlight(2 requests, 1 not written)"


SMALL, LARGE_ONE, HUGE = b"s" * 100, b"l" * LARGE, b"h" * 300_000


@pytest.mark.parametrize("frames", list(permutations((SMALL, LARGE_ONE, HUGE, SMALL))), ids=lambda frames: "-".join(
    str(len(frame)) for frame in frames
))  # fmt: skip
def test_large_requests_go_out_in_their_place(frames: tuple[bytes, ...]) -> None:
    fifo = InFlight()
    for token, frame in enumerate(frames):
        fifo.push(DISCARD, token, b"xx" + frame + b"yy", 2, 2 + len(frame), 0.0)
    assert [entry.frame for entry in fifo.entries()] == list(frames)
    assert written(fifo) == b"".join(frames)
    assert [entry.frame for entry in fifo.entries()] == list(frames)
    assert [fifo.pop().frame for _ in frames] == list(frames)


def test_a_large_request_that_is_a_whole_piece_is_not_copied() -> None:
    fifo = InFlight()
    fifo.push(DISCARD, 0, HUGE, 0, len(HUGE), 0.0)
    paper = Paper()
    fifo.write_to(paper)
    ((piece,),) = paper.writes
    assert piece is HUGE
    assert fifo.pop().frame is HUGE


def test_large_requests_are_let_go_of_when_they_are_answered() -> None:
    """And no sooner: what is lost can be sent again."""
    fifo = InFlight()
    before = getrefcount(HUGE)
    for token in range(3):
        fifo.push(DISCARD, token, HUGE, 0, len(HUGE), 0.0)
    written(fifo)
    assert getrefcount(HUGE) > before
    fifo.answer(b"+OK\r\n", 0, 5)
    fifo.pop()
    assert getrefcount(HUGE) > before
    fifo.answer(b"+OK\r\n", 0, 5)
    assert getrefcount(HUGE) == before
    fifo.push(DISCARD, 0, HUGE, 0, len(HUGE), 0.0)
    fifo.drain()
    assert getrefcount(HUGE) == before


def test_sinks_are_let_go_of() -> None:
    """When they are answered, given up, drained, or the FIFO is gone."""
    sink = Recorder()
    before = getrefcount(sink)
    fifo = InFlight()
    for _ in range(50):
        push(fifo, 0, 0.0, sink)
    written(fifo)
    push(fifo, 1, 0.0, sink)
    push(fifo, 2, 5.0, sink)
    assert getrefcount(sink) >= before + 52
    fifo.answer(b"+OK\r\n", 0, 5)
    fifo.pop()
    fifo.expire(1.0)
    assert getrefcount(sink) == before + 1
    fifo.drain()
    assert getrefcount(sink) == before
    push(fifo, 3, 0.0, sink)
    written(fifo)
    push(fifo, 4, 0.0, sink)
    del fifo
    sink.replies.clear()
    assert getrefcount(sink) == before


def test_an_answer_reaches_its_sink() -> None:
    fifo = InFlight()
    one, other = Recorder(), Recorder()
    push(fifo, 7, 1.5, one)
    push(fifo, 8, 2.5, other)
    with pytest.raises(IndexError):
        fifo.answer(b"+OK\r\n", 0, 5)  # not written yet
    written(fifo)
    assert fifo.answer(b"xx:1\r\nyy", 2, 6) == 1.5
    assert fifo.answer(b":2\r\n", 0, 4) == 2.5
    assert (one.replies, other.replies) == ([(7, b":1\r\n")], [(8, b":2\r\n")])
    with pytest.raises(IndexError):
        fifo.answer(b"+OK\r\n", 0, 5)


class Again(Recorder):
    """A sink that sends again as soon as it is answered."""

    def __init__(self, fifo: InFlight) -> None:
        super().__init__()
        self.fifo = fifo

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        super().deliver(token, data, start, end)
        assert len(self.fifo) == self.fifo.written  # its own request is gone by now
        for more in range(40):
            push(self.fifo, 100 + more, 0.0, DISCARD)


def test_an_answered_sink_may_push() -> None:
    fifo = InFlight()
    sink = Again(fifo)
    for token in range(16):
        push(fifo, token, float(token), sink)
    written(fifo)
    assert fifo.answer(b":0\r\n", 0, 4) == 0.0
    assert (fifo.written, fifo.unsent) == (15, 40)
    assert [entry.token for entry in fifo.entries()] == [*range(1, 16), *range(100, 140)]


def test_many_requests() -> None:
    """Rings grow, wrap and are given back, and nothing is mixed up."""
    fifo = InFlight()
    pushed = popped = 0
    for round_ in range(60):
        for _ in range(round_ * 7):
            push(fifo, pushed, float(pushed))
            pushed += 1
        written(fifo)
        for _ in range(round_ * 5):
            entry = fifo.pop()
            assert (entry.token, entry.frame, entry.since) == (popped, b"<%d>" % popped, float(popped))
            popped += 1
    while fifo.written:
        assert fifo.pop().frame == b"<%d>" % popped
        popped += 1
    for token in range(10_000):
        push(fifo, token)
    written(fifo)
    assert [fifo.pop().token for _ in range(10_000)] == list(range(10_000))
    frame = push(fifo, 1)
    assert written(fifo) == frame


@dataclass(frozen=True)
class Request:
    """A request in the model; nobody waits for a ``lost`` one."""

    sink: Sink
    token: int
    frame: bytes
    since: float
    lost: bool = False


class AgainstTwoLists(RuleBasedStateMachine):
    """Written and unwritten requests in two lists must always tell the same as the FIFO."""

    def __init__(self) -> None:
        super().__init__()
        self.fifo = InFlight()
        self.sink = Recorder()
        self.written: list[Request] = []
        self.unwritten: list[Request] = []
        self.count = 0
        self.clock = 0.0

    @rule(
        seconds=st.floats(0, 2),
        discard=st.sampled_from([False, False, False, True]),
        size=st.sampled_from([0, 0, 0, 500, LARGE]),
    )
    def push(self, seconds: float, discard: bool, size: int) -> None:
        self.clock += seconds
        sink: Sink = DISCARD if discard else self.sink
        frame = push(self.fifo, self.count, self.clock, sink, size)
        self.unwritten.append(Request(sink, self.count, frame, self.clock, discard))
        self.count += 1

    @rule()
    def take(self) -> None:
        assert written(self.fifo) == b"".join(request.frame for request in self.unwritten)
        self.written += self.unwritten
        self.unwritten = []

    @precondition(lambda self: self.written)
    @rule()
    def pop(self) -> None:
        request = self.written.pop(0)
        assert self.fifo.peek().since == request.since
        sink, token, frame, since = self.fifo.pop()
        assert since == request.since
        if not request.lost:
            assert (sink, token, frame) == (request.sink, request.token, request.frame)
        else:
            assert sink is DISCARD

    @rule(age=st.floats(0, 3))
    def expire(self, age: float) -> None:
        before = self.clock - age
        late, unwritten = self.fifo.expire(before)
        assert all(isinstance(entry, Entry) for entry in late + unwritten)
        gone = [request for request in self.written if request.since < before and not request.lost]
        assert [(entry.token, entry.frame) for entry in late] == [(request.token, request.frame) for request in gone]
        self.written = [
            replace(request, sink=DISCARD, lost=True) if request in gone else request for request in self.written
        ]
        gone = [request for request in self.unwritten if request.since < before and not request.lost]
        assert [entry.token for entry in unwritten] == [request.token for request in gone]
        self.unwritten = [request for request in self.unwritten if request not in gone]

    @rule()
    def drain(self) -> None:
        for entries, model in zip(self.fifo.drain(), (self.written, self.unwritten), strict=True):
            wanted = [request.token for request in model if not request.lost]
            assert [entry.token for entry in entries if entry.sink is not DISCARD] == wanted
        assert (len(self.fifo), self.fifo.unsent, self.fifo.written) == (0, 0, 0)
        self.written = []
        self.unwritten = []

    @invariant()
    def agrees(self) -> None:
        assert (self.fifo.written, self.fifo.unsent) == (len(self.written), len(self.unwritten))
        assert len(self.fifo) == len(self.written) + len(self.unwritten)
        waited_for = [request.since for request in self.written + self.unwritten if not request.lost]
        assert self.fifo.oldest() == (waited_for[0] if waited_for else None)
        assert self.fifo.first() == (self.written[0].since if self.written else None)


TestAgainstTwoLists = AgainstTwoLists.TestCase
