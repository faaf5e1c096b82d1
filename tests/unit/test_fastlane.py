"""The fast lane forwards what the slow path would: the same bytes, to the same shard, to read or to write."""

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.client import ClientConnection
from proxy.commands.facts import Fact, Handling
from proxy.engine.window import ReplyWindow
from proxy.fastlane import MOST_ARGUMENTS, Head, heads, run, skip_bulks
from proxy.metrics import Counters
from proxy.planner import Forward, Planner
from proxy.resp import encode
from proxy.resp.limits import UNAUTHENTICATED, RequestLimits
from proxy.resp.requests import ProtocolError, RequestFramer, split_request
from proxy.slots import key_slot
from tests.unit.feeding import NOISE
from tests.unit.plans import TABLE, THREE

COUNTERS = Counters()
HEADS = heads(TABLE, COUNTERS)
PLANNER = Planner(THREE, "split")


def head_of(args: list[bytes]) -> Head | None:
    """The entry that a request's first bytes find."""
    return HEADS.get(b"*%d\r\n$%d\r\n%b\r\n$" % (len(args), len(args[0]), args[0]))


KEYS = [b"a", b"b", b"c", b"foo", b"{a}1", b"{}x", b"{", b"}{a}", b"\r\n", b""]
KEY = st.sampled_from(KEYS) | st.lists(st.sampled_from([b"{", b"}", b"a", b"b"]), max_size=6).map(b"".join)
WORD = KEY | st.sampled_from([b"1", b"0", b"2", b"STREAMS", b"STORE", b"BLOCK", b"BY", b"*", b"KEYS", b"x" * 100])


def agree(fact: Fact, args: list[bytes]) -> bool:
    """Whether the fast lane knows this call; if it does, the planner must say the same of it."""
    head = head_of(args)
    if head is None:
        return False
    assert TABLE.resolve(args) is fact
    assert fact.accepts(len(args))
    assert head.counter is COUNTERS.command(fact.name)
    assert head.bulks == len(args) - 2
    slot = key_slot(args[1])
    assert PLANNER.plan(fact, args, encode.request(args)) == Forward(THREE.slot_shard[slot], head.read)
    return True


@pytest.mark.parametrize("fact", list(TABLE), ids=lambda fact: fact.name)
def test_heads_agree_with_the_planner(fact: Fact) -> None:
    """Every command, with any number of arguments, in both cases."""
    for name in (fact.name.encode(), fact.name.upper().encode()):
        for count in range(1, MOST_ARGUMENTS + 3):
            known = {agree(fact, [name, *([key] * (count - 1))]) for key in KEYS}
            assert len(known) == 1  # it does not depend on the key
            if not fact.accepts(count) or fact.handling not in (Handling.KEYED, Handling.MULTI_SHARD):
                assert known == {False}


@given(st.sampled_from([fact for fact in TABLE if not fact.subcommands]), st.lists(WORD, max_size=8), st.booleans())
def test_heads_agree_with_the_planner_on_any_arguments(fact: Fact, words: list[bytes], upper: bool) -> None:
    name = fact.name.upper() if upper else fact.name
    agree(fact, [name.encode(), *words])


@pytest.mark.parametrize(
    "line",
    [
        "GET k",
        "get k",
        "SET k v",
        "SET k v EX 10",
        "SETEX k 10 v",
        "INCRBY k 2",
        "APPEND k v",
        "DEL k",
        "UNLINK k",
        "EXISTS k",
        "MGET k",
        "MSET k v",
        "EXPIRE k 10",
        "TTL k",
        "TYPE k",
        "HSET k f v",
        "HGET k f",
        "HGETALL k",
        "LPUSH k a b c",
        "RPOP k",
        "LRANGE k 0 -1",
        "SADD k a",
        "SISMEMBER k a",
        "ZADD k 1 a",
        "ZRANGEBYSCORE k 0 1",
        "XADD k * f v",
        "PFADD k a",
        "GETBIT k 1",
    ],
)
def test_everyday_commands_take_the_fast_lane(line: str) -> None:
    assert head_of(line.encode().split()) is not None


@pytest.mark.parametrize(
    "line",
    [
        "Get k",
        "PING",
        "ECHO k",
        "SELECT 1",
        "INFO",
        "DBSIZE",
        "KEYS *",
        "GET",
        "GET k x",
        "DEL k k",
        "MGET k k",
        "MSET k v k v",
        "MSET k",
        "RENAME k k2",
        "BLPOP k 0",
        "BLMOVE k d LEFT RIGHT 0",
        "EVAL script 0",
        "SORT k",
        "XREAD STREAMS k 0",
        "ZUNIONSTORE d 1 k",
        "OBJECT ENCODING k",
        "WATCH k",
        "SUBSCRIBE c",
        "PUBLISH c m",
        "MIGRATE h 1 k 0 1",
        "HMSET k f1 v f2 v f3 v f4 v f5 v",
        "NOSUCH k",
    ],
)
def test_what_does_not(line: str) -> None:
    assert head_of(line.encode().split()) is None


def test_counters_are_those_of_the_commands() -> None:
    counters = Counters()
    made = heads(TABLE, counters)
    assert made[b"*2\r\n$3\r\nGET\r\n$"].counter is made[b"*2\r\n$3\r\nget\r\n$"].counter is counters.command("get")


# ---- skip_bulks


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 12345])
@pytest.mark.parametrize("trailing", [b"", b"$", b"*2\r\n"])
def test_bulks_are_skipped_by_their_length(size: int, trailing: bytes) -> None:
    bulk = encode.bulk(b"$" * size)
    assert skip_bulks(b"xx" + bulk + trailing, 2, 1) == 2 + len(bulk)
    assert skip_bulks(bulk * 3 + trailing, 0, 3) == 3 * len(bulk)
    assert skip_bulks(bulk + trailing, 0, 0) == 0


@given(st.lists(st.binary(max_size=150), min_size=1, max_size=5))
def test_a_cut_bulk_is_never_taken_for_a_whole_one(values: list[bytes]) -> None:
    data = b"".join(map(encode.bulk, values))
    assert skip_bulks(data, 0, len(values)) == len(data)
    for at in range(len(data)):
        end = skip_bulks(data[:at], 0, len(values))
        assert end == -1 or end > at


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"$",
        b"$\r\n\r\nxx",
        b"$\r\r\r\r\r",
        b"$-1\r\nxx",
        b"$01\r\nx\r\n",
        b"$00\r\n\r\n",
        b"$001\r\nx\r\n",
        b"$+1\r\nx\r\n",
        b"$x\r\nx\r\n",
        b"$1x\r\nx\r\n",
        b"$12x\r\nx\r\n",
        b"$ 1\r\nx\r\n",
        b"$\x00\r\nx\r\n",
        b"$\x00\x00\r\nx\r\n",
        b"$/\r\nx\r\n",
        b"$:\r\nx\r\n",
        b"$1/\r\nx\r\n",
        b"$1:\r\nx\r\n",
        b":1\r\nx\r\n",
        b"*1\r\nx\r\n",
        b"$" + b"9" * 20 + b"\r\n",
        b"$" + b"9" * 12,
    ],
)
def test_what_is_no_bulk(data: bytes) -> None:
    for padding in (b"", b"x" * 50, b"\r\n" * 25):
        assert skip_bulks(data + padding, 0, 1) == -1


# ---- run


class Backend:
    """Takes requests; a held one stops the client that sends to it."""

    def __init__(self, shard: int, read: bool, held: bool = False) -> None:
        self.dirty = False
        self.place = shard, read
        self.held = held
        self.pushed: list[tuple[object, int, bytes, float]] = []
        self.scheduled = 0

    def push(self, sink: object, token: int, data: bytes, start: int, end: int, since: float) -> None:
        self.pushed.append((sink, token, data[start:end], since))

    def schedule(self, flow: SimpleNamespace) -> None:
        self.scheduled += 1
        if self.held:
            flow.stopped = True
        else:
            self.dirty = True


class Lane:
    """A client in its plain state, with a writer and a reader for each of three shards."""

    def __init__(self, held: int | None = None, down: int | None = None, most: int = 1000) -> None:
        self.counters = Counters()
        self.writers = [Backend(shard, False, shard == held) for shard in range(3)]
        self.readers = [Backend(shard, True, shard == held) for shard in range(3)]
        self.window = ReplyWindow(lambda: None, 0)
        self.client = SimpleNamespace(
            service=SimpleNamespace(heads=heads(TABLE, self.counters)),
            window=self.window,
            most=most,
            routes=SimpleNamespace(
                writers=[None if backend.place[0] == down else backend for backend in self.writers],
                readers=[None if backend.place[0] == down else backend for backend in self.readers],
                slot_shard=THREE.slot_shard,
            ),
            flow=SimpleNamespace(stopped=False),
            session=SimpleNamespace(last_command="NULL"),
        )

    def run(self, data: bytes, pos: int = 0) -> int:
        return run(cast(ClientConnection, self.client), data, pos, 7.5)

    @property
    def sent(self) -> list[tuple[bytes, int, bool]]:
        """(frame, shard, read) in the order of the requests."""
        pushed = [(token, frame, *backend.place) for backend in self.writers + self.readers
                  for _, token, frame, _ in backend.pushed]  # fmt: skip
        assert sorted(token for token, *_ in pushed) == list(range(self.window.issued))
        return [(frame, shard, read) for _, frame, shard, read in sorted(pushed)]


def request(line: str) -> bytes:
    return encode.request(line.split())


def test_requests_go_to_their_shards() -> None:
    lane = Lane()
    frames = [request(line) for line in ("SET a v", "GET b", "GET {c}x", "get a", "DEL b", "SET foo " + "x" * 500)]
    assert lane.run(b"".join(frames)) == sum(map(len, frames))
    assert lane.sent == [
        (frame, shard, read)
        for frame, (shard, read) in zip(
            frames, [(2, False), (0, True), (1, True), (2, True), (0, False), (2, False)], strict=True
        )
    ]
    assert lane.client.latest is lane.counters.command("set")
    assert {name: counter.calls for name, counter in lane.counters.commands.items() if counter.calls} == {
        "set": 2,
        "get": 3,
        "del": 1,
    }
    assert {(sink, since) for backend in lane.writers for sink, _, _, since in backend.pushed} == {(lane.window, 7.5)}
    assert [backend.scheduled for backend in lane.writers] == [1, 0, 1]


@pytest.mark.parametrize("line", ["PING", "MGET a b", "Get a", "SET " + "k" * 100 + " v", "NOSUCH a", "GET a b"])
def test_it_stops_at_what_is_not_its_own(line: str) -> None:
    lane = Lane()
    first = request("GET a")
    assert lane.run(first + request(line) + first) == len(first)
    assert [frame for frame, _, _ in lane.sent] == [first]
    lane = Lane()
    assert lane.run(request(line)) == 0
    assert lane.client.session.last_command == "NULL"


def test_it_stops_at_what_is_cut() -> None:
    frame = request("SET a " + "v" * 30)
    for at in range(len(frame)):
        lane = Lane()
        assert lane.run(frame + frame[:at]) == len(frame)
        assert len(lane.sent) == 1


def test_it_starts_where_it_is_told() -> None:
    lane = Lane()
    frame = request("GET a")
    assert lane.run(b"xyz" + frame, 3) == 3 + len(frame)
    assert lane.sent == [(frame, 2, True)]


def test_it_stops_when_a_backend_holds_the_client() -> None:
    lane = Lane(held=0)
    first, second, third = request("SET a v"), request("SET b v"), request("SET c v")
    assert lane.run(first + second + third) == len(first + second)  # what was sent to the held one is kept there
    assert [frame for frame, _, _ in lane.sent] == [first, second]


def test_it_stops_when_a_shard_is_down() -> None:
    lane = Lane(down=0)
    first, second = request("SET a v"), request("SET b v")
    assert lane.run(first + second + first) == len(first)


def test_it_stops_when_enough_is_in_flight() -> None:
    lane = Lane(most=3)
    frame = request("GET a")
    assert lane.run(frame * 5) == 3 * len(frame)
    assert lane.run(frame * 2) == 0
    lane.window.deliver(0, b":1\r\n", 0, 4)
    assert lane.run(frame * 2) == len(frame)
    assert lane.window.pending == 3


def reference(data: bytes) -> list[tuple[bytes, int, bool]]:
    """What the slow path does with ``data``, up to the first request that is not forwarded to one shard."""
    framer = RequestFramer(RequestLimits(), UNAUTHENTICATED)
    found: list[tuple[bytes, int, bool]] = []
    at = 0
    try:
        while at < len(data) and (end := framer.frame(data, at)) > 0:
            frame = data[at:end]
            args = split_request(frame)
            fact = TABLE.resolve(args)
            if fact is None or not fact.accepts(len(args)):
                break
            made = PLANNER.plan(fact, args, frame)
            if not isinstance(made, Forward):
                break
            found.append((frame, made.shard, made.read))
            at = end
    except (ProtocolError, IndexError):
        pass
    return found


CALL = st.lists(
    st.tuples(st.sampled_from(sorted({head.counter.name for head in HEADS.values()})), st.lists(WORD, max_size=6)).map(
        lambda call: encode.request((call[0].upper(), *call[1]))
    ),
    max_size=6,
).map(b"".join)


@given(CALL, st.integers(0, 400))
def test_what_it_forwards_is_what_the_slow_path_forwards(data: bytes, cut: int) -> None:
    data = data[: max(len(data) - cut, 0)] if cut < 200 else data
    lane = Lane()
    end = lane.run(data)
    sent = lane.sent
    assert sent == reference(data)[: len(sent)]
    assert end == sum(len(frame) for frame, _, _ in sent)


HEAD_BYTES = st.sampled_from(sorted(HEADS))
BROKEN = st.one_of(
    st.tuples(HEAD_BYTES, NOISE | st.binary(max_size=40)).map(b"".join),
    st.tuples(HEAD_BYTES, st.binary(max_size=2), st.just(b"\r\n"), NOISE, st.just(b"x" * 30)).map(b"".join),
    st.binary(max_size=60),
    st.tuples(st.just(b"*"), st.binary(min_size=20, max_size=60)).map(b"".join),
)


@given(BROKEN)
@example(b"*3\r\n$3\r\nSET\r\n$\x00\raaaaaaa")
@example(b"*3\r\n$3\r\nSET\r\n$\x00\x00\raaaaaaaaaaaaaaa")
@example(b"*3\r\n$3\r\nSET\r\n$\xff\r\naaaaaaaaaaaaaaa")
@example(b"*3\r\n$3\r\nSET\r\n$-1\r\naaaaaaaaaaaaaaa")
@example(b"*2\r\n$3\r\nGET\r\n$00\r\n\r\naaaaaaaaaaaa")
@example(b"*2\r\n$\x00\x00GET\r\n$1\r\nk\r\n")
@example(b"*2\r\n$\xff\xffGET\r\n$1\r\nk\r\n")
def test_broken_requests_do_no_harm(data: bytes) -> None:
    """What it forwards of them, the framer takes for requests too; hiredis need not."""
    lane = Lane()
    end = lane.run(data)
    framer = RequestFramer(RequestLimits(), UNAUTHENTICATED)
    at = 0
    for frame, shard, _ in lane.sent:
        assert framer.frame(data, at) == at + len(frame)
        assert 0 <= shard < 3
        at += len(frame)
    assert at == end
