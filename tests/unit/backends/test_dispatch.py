"""The sink of a split command's parts: replies that come in pieces, and how much of them is kept."""

import pytest

from proxy.backends.dispatch import Gather, Muted
from proxy.engine.jobs import Job, at_once
from proxy.engine.window import ReplyWindow
from proxy.metrics import Counters
from proxy.planning.merge_context import Context
from proxy.planning.scatter import Part, Scatter, Way
from proxy.planning.split import by_key, cut
from proxy.resp import encode
from proxy.transport.job_runner import Slices
from tests.support.plans import THREE
from tests.support.recording import Paper, Recorder

LIMIT = 1_000_000
VALUES = {b"a": b"A" * 300_000, b"b": b"B", b"bar": b"C" * 200_000, b"c": b"D" * 100_000}
MGET = Way("mget", "mget", 3, read=True)
KEYS = Way("keys", "concat", 3, read=True)


class AtOnce(Slices):
    """There is always time."""

    def __init__(self) -> None:
        """No loop."""

    def run(self, job: Job[None], owner: object = None) -> bool:
        at_once(job)
        return True


def plan(keys: list[bytes]) -> Scatter:
    """MGET of these keys."""
    name = encode.bulk(b"MGET")
    data = name + b"".join(map(encode.bulk, keys))
    found = cut(data, 0, len(name), len(keys), 1, THREE.slot_shard, 3, False, None)
    assert found is not None
    return Scatter(MGET, found.parts)


def reply(part: Part, keys: list[bytes]) -> bytes:
    """What a shard answers to its part."""
    return encode.array(encode.bulk(VALUES[keys[position]]) for position in part.positions)


def pieces(frame: bytes, size: int = 50_000) -> list[bytes]:
    return [frame[at : at + size] for at in range(0, len(frame), size)]


def gather(
    scatter: Scatter, sink: Recorder | ReplyWindow | Muted | Gather, limit: int = LIMIT, token: int = 0
) -> Gather:
    return Gather(scatter, sink, token, Context(), Counters(), AtOnce(), limit)


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("whole", [0, 1, 2])
def test_parts_that_come_in_pieces(streams: bool, whole: int) -> None:
    keys = [b"a", b"b", b"bar", b"c", b"a"]
    scatter = plan(keys)
    sink = Recorder(streams=streams)
    parts = gather(scatter, sink)
    for token, part in enumerate(scatter.parts):
        frame = reply(part, keys)
        if token == whole:
            parts.deliver(token, frame, 0, len(frame))
        else:
            parts.deliver_pieces(token, pieces(frame))
    assert sink.replies == [(0, encode.array(encode.bulk(VALUES[key]) for key in keys))]
    assert len(sink.pieces if streams else sink.joined) > 1


def test_a_part_that_fails_is_the_answer() -> None:
    keys = [b"a", b"b"]
    scatter = plan(keys)
    sink = Recorder()
    parts = gather(scatter, sink)
    parts.deliver_pieces(0, pieces(reply(scatter.parts[0], keys)))
    parts.deliver(1, b"-ERR no\r\n", 0, 9)
    assert sink.replies == [(0, b"-ERR no\r\n")]


def test_elements_of_all_shards_in_pieces() -> None:
    scatter = Scatter(KEYS, [Part(0, b""), Part(1, b""), Part(2, b"")])
    rows = [encode.bulk(b"k%d" % number) for number in range(20_000)]
    sink = Recorder()
    parts = gather(scatter, sink)
    parts.deliver_pieces(1, pieces(encode.array(rows[:9000])))
    parts.deliver(0, b"*0\r\n", 0, 4)
    parts.deliver_pieces(2, pieces(encode.array(rows[9000:])))
    assert sink.replies == [(0, encode.array(rows))]


def test_merges_that_need_whole_replies_get_them() -> None:
    scatter = Scatter(Way("scan", "scan", 3), [Part(0, b"")], [b"2", b"1", b""])
    rows = encode.array(encode.bulk(b"k%d" % number) for number in range(20_000))
    sink = Recorder()
    gather(scatter, sink).deliver_pieces(0, pieces(encode.array((encode.bulk(b"5"), rows))))
    assert sink.replies == [(0, encode.array((encode.bulk(b"21"), rows)))]


# ---- how much is kept


def test_the_parts_count_together() -> None:
    scatter = plan([b"a", b"b", b"c"])
    parts = gather(scatter, Recorder())
    assert parts.kept(0, 300) == 300
    assert parts.kept(1, 200) == 500
    assert parts.kept(0, 900) == 1100
    parts.deliver(0, b"-ERR\r\n", 0, 6)
    assert parts.kept(1, 201) == 201 + 6


def test_parts_that_are_too_much_together_are_not_kept() -> None:
    keys = [b"a", b"c"]
    scatter = plan(keys)
    sink = Recorder()
    parts = gather(scatter, sink, 350_000)
    for token, part in enumerate(scatter.parts):
        frame = reply(part, keys)
        assert parts.kept(token, len(frame)) <= 350_000 or token
        parts.deliver_pieces(token, pieces(frame))
    ((_, said),) = sink.replies
    assert said.startswith(b"-ERR the reply is larger than 350000 bytes (limits.max_reply)")


def test_many_small_parts_that_are_too_much_together() -> None:
    scatter = Scatter(KEYS, [Part(0, b"") for _ in range(100)])
    sink = Recorder()
    parts = gather(scatter, sink, 50_000)
    frame = encode.array([encode.bulk(b"k" * 1000)])
    for token in range(100):
        parts.deliver(token, frame, 0, len(frame))
    ((_, said),) = sink.replies
    assert said.startswith(b"-ERR the reply is larger than 50000 bytes")


def test_parts_of_parts_count_for_the_whole() -> None:
    keys = [b"a", b"a", b"c"]
    scatter = plan(keys)
    sink = Recorder()
    parts = gather(scatter, sink)
    several = next(token for token, part in enumerate(scatter.parts) if len(part.positions) > 1)
    again = gather(Scatter(MGET, by_key(scatter.parts[several])), parts, token=several)
    inner = [(again, 0), (again, 1)]
    assert parts.kept(1 - several, 1000) == 1000
    assert inner[0][0].kept(inner[0][1], 500) == 1500
    assert inner[1][0].kept(inner[1][1], 700) == 2200
    for one, token in inner:
        one.deliver_pieces(token, pieces(encode.array([encode.bulk(VALUES[b"a"])])))
    parts.deliver_pieces(1 - several, pieces(encode.array([encode.bulk(VALUES[b"c"])])))
    assert sink.replies == [(0, encode.array(encode.bulk(VALUES[key]) for key in keys))]


# ---- where the merged reply goes


@pytest.mark.parametrize("early", [False, True])
def test_a_merged_reply_waits_for_its_turn(early: bool) -> None:
    keys = [b"a", b"c"]
    scatter = plan(keys)
    window = ReplyWindow(lambda: None, 100)
    first, token, third = (window.reserve() for _ in range(3))
    whole = encode.array(encode.bulk(VALUES[key]) for key in keys)
    parts = gather(scatter, window, token=token)
    if not early:
        window.deliver(first, b":1\r\n", 0, 4)
    window.deliver(third, b":3\r\n", 0, 4)
    for number, part in enumerate(scatter.parts):
        parts.deliver_pieces(number, pieces(reply(part, keys)))
    assert (window.parked_bytes >= len(whole)) is early
    assert window.overflowing is early
    if early:
        window.deliver(first, b":1\r\n", 0, 4)
    assert window.parked_bytes == 0
    paper = Paper()
    window.write_to(paper)
    assert paper.taken() == b":1\r\n" + whole + b":3\r\n"
    assert window.idle


def test_nothing_is_said_to_who_wants_no_reply() -> None:
    window = ReplyWindow(lambda: None, 100)
    Muted(window).deliver_pieces(window.reserve(), [b"$5\r\nab", b"cde\r\n"])
    paper = Paper()
    window.write_to(paper)
    assert paper.taken() == b""
    assert window.idle


def test_a_closed_window_takes_pieces_and_keeps_none() -> None:
    window = ReplyWindow(lambda: None, 100)
    tokens = [window.reserve() for _ in range(2)]
    window.deliver_pieces(tokens[1], [b"x" * 1000, b"y"])
    window.close()
    window.deliver_pieces(tokens[0], [b"x" * 1000, b"y"])
    assert window.parked_bytes == 0
