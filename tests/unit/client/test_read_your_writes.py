"""``read_your_writes``: which reads of a client go to the primary, as its writes are sent and answered."""

from collections.abc import Iterator

import pytest

from proxy.backends.dispatch import Muted
from proxy.client.read_your_writes import OwnWrites
from proxy.engine.window import ReplyWindow
from proxy.sharding.topology import NOBODY
from proxy.transport.write_batch import Turn
from tests.support.clocks import Told
from tests.support.recording import Paper
from tests.support.virtual_loop import VirtualLoop

SECONDS = 0.5
BEFORE = (0, 1, 2)
AFTER = (0, 2, 1)


class Client:
    """A client's writes and its window, at a time that is told."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.clock = Told(loop)
        turn = Turn(loop, self.clock)
        self.window = ReplyWindow(lambda: None, 1000)
        self.own = OwnWrites(self.window, turn, SECONDS)

    def lately(self, shard: int, slot_shard: tuple[int, ...] = BEFORE) -> bool:
        return self.own.lately(shard, slot_shard, self.clock.time)


@pytest.fixture
def client() -> Iterator[Client]:
    loop = VirtualLoop()
    yield Client(loop)
    loop.close()


OK = b"+OK\r\n"


def test_a_write_sends_reads_of_its_shard_to_the_primary_for_a_while(client: Client) -> None:
    assert not client.lately(1)
    token = client.window.reserve()
    sink = client.own.sink(1, BEFORE)
    assert [client.lately(shard) for shard in (NOBODY, 0, 1, 2, 7)] == [False, False, True, False, False]
    sink.deliver(token, OK, 0, len(OK))
    client.clock.time += SECONDS - 0.01
    assert [client.lately(shard) for shard in (0, 1, 2)] == [False, True, False]
    client.clock.time += 0.02
    assert not client.lately(1)


def test_the_while_begins_with_the_answer(client: Client) -> None:
    first, second = client.window.reserve(), client.window.reserve()
    sinks = [client.own.sink(1, BEFORE) for _ in range(2)]
    client.clock.time += 60  # it was held for a failover
    assert client.lately(1)
    sinks[0].deliver(first, OK, 0, len(OK))
    client.clock.time += 2 * SECONDS
    assert client.lately(1)  # the other one is on its way
    sinks[1].deliver(second, OK, 0, len(OK))
    client.clock.time += SECONDS - 0.01
    assert client.lately(1)
    client.clock.time += 0.02
    assert not client.lately(1)


def test_replies_reach_the_window(client: Client) -> None:
    """In their turn, whole or in pieces, under the client's name."""
    window = client.window
    tokens = [window.reserve() for _ in range(4)]
    one = client.own.sink(0, BEFORE)
    assert one.owner is window
    assert one.counted
    several = client.own.relay((0, 1, 0), BEFORE, window)
    assert several.owner is window
    several.deliver(tokens[1], b"x:2\r\ny", 1, 5)
    client.own.sink(0, BEFORE).deliver(tokens[0], OK, 0, len(OK))
    streamed = client.own.sink(2, BEFORE)
    assert streamed.accepts_stream(tokens[2])
    streamed.stream(tokens[2], b"$6\r\nabc", last=False)
    client.clock.time += 60
    assert client.lately(2)
    streamed.stream(tokens[2], b"def\r\n", last=True)
    muted = client.own.relay((0,), BEFORE, Muted(window))
    muted.deliver(tokens[3], OK, 0, len(OK))
    paper = Paper()
    window.write_to(paper)
    assert paper.taken() == b"+OK\r\n:2\r\n$6\r\nabcdef\r\n"
    assert window.idle
    assert [client.lately(shard) for shard in (1, 2)] == [False, True]


def test_a_write_on_several_shards(client: Client) -> None:
    token = client.window.reserve()
    sink = client.own.relay((0, 2), BEFORE, client.window)
    assert not sink.accepts_stream(token)
    assert [client.lately(shard) for shard in (0, 1, 2)] == [True, False, True]
    client.clock.time += 60
    assert client.lately(2)
    sink.deliver(token, OK, 0, len(OK))
    client.clock.time += SECONDS + 0.01
    assert not any(client.lately(shard) for shard in (0, 1, 2))


def test_a_slot_that_nobody_serves(client: Client) -> None:
    """Its write waits until somebody does, and then the numbers are others."""
    sink = client.own.sink(NOBODY, BEFORE)
    assert [client.lately(shard) for shard in (0, 1)] == [False, False]
    assert client.lately(NOBODY)
    assert [client.lately(shard, AFTER) for shard in (0, 1)] == [True, True]
    sink.deliver(client.window.reserve(), OK, 0, len(OK))
    client.clock.time += SECONDS + 0.01
    assert not client.lately(0, AFTER)


def test_other_numbers_of_shards_mean_all_of_them(client: Client) -> None:
    """Where it wrote may be anywhere now; what was not answered, too."""
    first, second = client.window.reserve(), client.window.reserve()
    client.own.sink(0, BEFORE).deliver(first, OK, 0, len(OK))
    late = client.own.sink(1, BEFORE)
    assert all(client.lately(shard, AFTER) for shard in (0, 1, 2, 3))
    client.clock.time += 60
    assert all(client.lately(shard, AFTER) for shard in (0, 1, 2, 3))
    late.deliver(second, OK, 0, len(OK))
    assert client.lately(2, AFTER)
    client.clock.time += SECONDS + 0.01
    assert not any(client.lately(shard, AFTER) for shard in (0, 1, 2, 3))


def test_a_client_that_wrote_long_ago_reads_where_it_likes_after_a_change(client: Client) -> None:
    client.own.sink(0, BEFORE).deliver(client.window.reserve(), OK, 0, len(OK))
    client.clock.time += SECONDS + 0.01
    assert not client.lately(0, AFTER)


def test_a_reply_that_breaks_off(client: Client) -> None:
    """The client is closed for it; the count of what is unanswered stays right."""
    token = client.window.reserve()
    sink = client.own.sink(0, BEFORE)
    sink.stream(token, b"$9\r\nabc", last=False)
    sink.abort_stream(token)
    assert client.window.broken
    client.clock.time += SECONDS + 0.01
    assert not client.lately(0)


def test_a_detour_halts_the_client(client: Client) -> None:
    halted: list[bool] = []
    client.window.on_halt = lambda: halted.append(True)
    client.own.sink(0, BEFORE).halt()
    client.own.relay((0, 1), BEFORE, client.window).halt()
    assert halted == [True, True]
