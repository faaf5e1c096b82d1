"""The FIFO of one backend connection, held against a model of two lists."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.engine.entry import Entry
from proxy.engine.inflight import InFlight
from proxy.engine.sink import DISCARD, Sink
from tests.unit.recording import Recorder


def push(fifo: InFlight, token: int, since: float = 0.0, sink: Sink | None = None) -> bytes:
    frame = b"<%d>" % token
    fifo.push(Recorder() if sink is None else sink, token, b"xx" + frame + b"yy", 2, 2 + len(frame), since)
    return frame


def test_requests_are_written_once_and_answered_in_order() -> None:
    fifo = InFlight()
    sink = Recorder()
    frames = [push(fifo, token, token / 10, sink) for token in range(3)]
    assert (len(fifo), fifo.unsent, fifo.written) == (3, 3, 0)
    assert fifo.take() == b"".join(frames)
    assert fifo.take() == b""
    assert (len(fifo), fifo.unsent, fifo.written) == (3, 0, 3)
    frames.append(push(fifo, 3, 0.3, sink))
    assert tuple(fifo.pop()) == (sink, 0, frames[0], 0.0)
    assert (len(fifo), fifo.unsent, fifo.written) == (3, 1, 2)
    assert fifo.take() == frames[3]
    assert [fifo.pop()[1] for _ in range(3)] == [1, 2, 3]
    assert len(fifo) == 0


def test_nothing_to_pop() -> None:
    with pytest.raises(IndexError):
        InFlight().pop()


def test_the_oldest_can_be_looked_at() -> None:
    fifo = InFlight()
    with pytest.raises(IndexError):
        fifo.peek()
    for token in range(2):
        push(fifo, token)
    fifo.take()
    entry = fifo.peek()
    assert isinstance(entry, Entry)
    assert tuple(fifo.pop()) == entry
    assert fifo.peek().token == 1


def test_expired_requests_keep_their_place_if_they_were_written() -> None:
    fifo = InFlight()
    for token in range(4):
        push(fifo, token, since=float(token))
        if token == 1:
            fifo.take()
    late, unwritten = fifo.expire(2.5)
    assert [entry.token for entry in late] == [0, 1]
    assert [entry.token for entry in unwritten] == [2]
    assert (len(fifo), fifo.written, fifo.unsent) == (3, 2, 1)
    assert fifo.take() == b"<3>"
    assert [fifo.pop()[0] for _ in range(2)] == [DISCARD, DISCARD]
    assert fifo.pop()[1] == 3


def test_nothing_expires_twice() -> None:
    fifo = InFlight()
    push(fifo, 0)
    fifo.take()
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
    fifo.take()
    push(fifo, 1)
    assert repr(fifo) == "InFlight(2 requests, 1 not written)"


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

    @rule(seconds=st.floats(0, 2), discard=st.sampled_from([False, False, False, True]))
    def push(self, seconds: float, discard: bool) -> None:
        self.clock += seconds
        sink: Sink = DISCARD if discard else self.sink
        frame = push(self.fifo, self.count, self.clock, sink)
        self.unwritten.append(Request(sink, self.count, frame, self.clock, discard))
        self.count += 1

    @rule()
    def take(self) -> None:
        assert self.fifo.take() == b"".join(request.frame for request in self.unwritten)
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
