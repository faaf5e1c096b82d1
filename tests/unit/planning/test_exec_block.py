"""A transaction as bytes: blocks, their requests, and what the server's errors mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.commands.table import CommandTable
from proxy.engine.inflight import LARGE, InFlight
from proxy.engine.sink import QUEUED
from proxy.planning import exec_block
from proxy.planning.exec_block import TRANSITIONS, Queue, Queued, TransactionEvent, TransactionState
from proxy.planning.retry_rules import Look, together
from proxy.resp import encode
from proxy.resp.requests import split_request
from tests.support.recording import Paper, Recorder

TABLE = CommandTable.builtin()
REQUESTS = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=12), max_size=8)


def item(line: str) -> Queued:
    args = [word.encode() for word in line.split()]
    fact = TABLE.resolve(args)
    assert fact is not None
    return Queued(fact, args, encode.request(args))


@given(REQUESTS)
def test_a_block_is_taken_apart_again(requests: list[list[bytes]]) -> None:
    frames = [encode.request(args) for args in requests]
    block = exec_block.block(frames)
    assert exec_block.is_block(block)
    assert exec_block.queued(block) == frames
    assert exec_block.replies(block) == len(frames) + 2
    assert [split_request(frame) for frame in exec_block.requests(block)] == [[b"MULTI"], *requests, [b"EXEC"]]


@pytest.mark.parametrize("line", ["GET MULTI", "EXEC", "MULTIPLE", "ECHO x"])
def test_no_other_request_is_taken_for_a_block(line: str) -> None:
    assert not exec_block.is_block(encode.request(line.split()))


def test_what_is_no_request_is_a_fault_of_ours() -> None:
    with pytest.raises(AssertionError):
        exec_block.replies(exec_block.MULTI + b"*2\r\n$3\r\nGET\r\n$9\r\nk\r\n")


@pytest.mark.parametrize(
    ("error", "first", "why", "told"),
    [
        (b"-EXECABORT because of previous errors.\r\n", b"-MOVED 1 a:1\r\n", b"-MOVED 1 a:1\r\n", None),
        (
            b"-EXECABORT Transaction discarded because of previous errors.\r\n",
            b"-OOM no memory\r\n",
            b"-OOM no memory\r\n",
            b"-EXECABORT Transaction discarded because of: OOM no memory\r\n",
        ),
        (
            b"-EXECABORT Transaction discarded because of: READONLY no\r\n",
            b"",
            b"-READONLY no\r\n",
            b"-EXECABORT Transaction discarded because of: READONLY no\r\n",
        ),
        (b"-EXECABORT what\r\n", b"", b"-EXECABORT what\r\n", b"-EXECABORT what\r\n"),
        (b"-MOVED 1 a:1\r\n", b"-ASK 1 b:1\r\n", b"-MOVED 1 a:1\r\n", None),
    ],
)  # fmt: skip
def test_why_nothing_was_executed(error: bytes, first: bytes, why: bytes, told: bytes | None) -> None:
    assert exec_block.reason(error, first) == why
    if told is not None:
        assert exec_block.aborted(why) == told


def test_the_queue() -> None:
    queue = Queue()
    assert (queue.moves, queue.spoiled, queue.size) == (False, False, 0)
    for line, slots in (("SET k 1", {5}), ("PING", set[int]()), ("SELECT 1", set[int]())):
        queue.add(item(line), slots)
    assert [one.own for one in queue.items] == [False, True, True]
    assert queue.moves
    assert queue.slots == {5}
    assert queue.size == sum(one.size for one in queue.items)
    queue.drop()
    assert (queue.items, queue.slots, queue.size, queue.spoiled) == ([], set(), 0, True)


def test_what_can_happen_to_a_transaction() -> None:
    """Whatever is not in the table raises, and leaves the transaction as it was."""
    for state in TransactionState:
        for event in TransactionEvent:
            queue = in_state(state)
            if (following := TRANSITIONS.get((state, event))) is None:
                with pytest.raises(RuntimeError, match=f"{state.value} can not be {event.value}"):
                    queue.happened(event)
                following = state
            else:
                queue.happened(event)
            assert (queue.state, queue.spoiled) == (following, following is TransactionState.SPOILED)


@pytest.mark.parametrize("state", [TransactionState.SPOILED, TransactionState.EXECUTING])
def test_nothing_is_queued_any_more(state: TransactionState) -> None:
    queue = in_state(state)
    with pytest.raises(RuntimeError, match="can not be queued"):
        queue.add(item("SET k 1"), {5})
    assert not queue.items


def test_what_is_executed_can_not_be_refused() -> None:
    queue = Queue()
    queue.add(item("SET k 1"), {5})
    queue.happened(TransactionEvent.EXECUTED)
    with pytest.raises(RuntimeError, match="can not be refused"):
        queue.drop()
    assert len(queue.items) == 1


def in_state(state: TransactionState) -> Queue:
    queue = Queue()
    if state is TransactionState.SPOILED:
        queue.drop()
    elif state is TransactionState.EXECUTING:
        queue.happened(TransactionEvent.EXECUTED)
    return queue


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([], Look(True, frozenset())),
        ([Look(True, frozenset({1}), replica_ok=True)], Look(True, frozenset({1}))),
        ([Look(True, frozenset({1})), Look(False, frozenset({1}))], Look(False, frozenset({1}))),
        ([Look(True, frozenset())], Look(True, frozenset())),
        ([Look(False, None)], Look(False, None)),
        ([Look(False, None), Look(False, frozenset({7}))], Look(False, frozenset({7}))),
    ],
)
def test_what_a_block_is(looks: list[Look], expected: Look) -> None:
    """It reads only if all do; it is where its keys are; it never goes to a replica."""
    assert together(looks) == expected


@pytest.mark.parametrize("size", [10, LARGE - 1, LARGE, 2 * LARGE])
@pytest.mark.parametrize("before", [0, 10, LARGE])
def test_requests_without_bytes_stand_before_the_one_that_has_them(size: int, before: int) -> None:
    """As a block is pushed: no empty piece is written, and each reply finds its sink."""
    fifo = InFlight()
    sink = Recorder()
    frame = b"x" * size
    if before:
        fifo.push(sink, 0, b"b" * before, 0, before, 0.0)
    for _ in range(3):
        fifo.push(QUEUED, 0, b"", 0, 0, 1.0)
    fifo.push(sink, 1, frame, 0, size, 1.0)
    fifo.push(sink, 2, b"behind", 0, 6, 2.0)
    frames = [entry.frame for entry in fifo.entries()]
    assert frames == [b"b" * before][: before > 0] + [b""] * 3 + [frame, b"behind"]
    paper = Paper()
    fifo.write_to(paper)
    (pieces,) = paper.writes
    assert all(pieces)
    assert b"".join(pieces) == b"b" * before + frame + b"behind"
    assert (fifo.written, fifo.unsent) == (len(frames), 0)
    assert [entry.frame for entry in fifo.entries()] == frames
    for number in range(len(frames)):
        fifo.answer(b"%d" % number, 0, 1)
    first = int(before > 0)
    assert [int(reply) for _, reply in sink.replies] == [*range(first), first + 3, first + 4]


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_block_that_is_not_written_is_taken_back_and_expires_whole(size: int) -> None:
    fifo = InFlight()
    sink = Recorder()
    for since in (1.0, 5.0):
        fifo.push(QUEUED, 0, b"", 0, 0, since)
        fifo.push(sink, int(since), b"x" * size, 0, size, since)
    late, unwritten = fifo.expire(3.0)
    assert (late, [(entry.sink, entry.token) for entry in unwritten]) == ([], [(QUEUED, 0), (sink, 1)])
    assert [(entry.sink, entry.token, len(entry.frame)) for entry in fifo.recall()] == [(QUEUED, 0, 0), (sink, 5, size)]
    assert len(fifo) == 0
