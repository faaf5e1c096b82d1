"""The fast path sends what the slow path would: the same bytes, to the same shard, to read or to write."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.backends.long_replies import KEPT
from proxy.client.fast_commands import MOST_ARGUMENTS, CommandLookup, Head, Split
from proxy.client.fast_path import run
from proxy.client.registry import note_latest
from proxy.commands.facts import Fact, Handling
from proxy.commands.table import CommandTable
from proxy.metrics import Counters
from proxy.planning.planner import Forward, Planner, split_way
from proxy.planning.scatter import Part, Scatter
from proxy.resp import encode
from proxy.resp.limits import UNAUTHENTICATED, RequestLimits
from proxy.resp.requests import RequestFramer, split_request
from proxy.sharding.slots import key_slot
from tests.support.feeding import NOISE
from tests.support.idle_worker import DEADLINE, IdleWorker, Sent, idle_worker
from tests.support.plans import TABLE, THREE, topology
from tests.support.recording import Paper

COUNTERS = Counters()
LANE = CommandLookup(TABLE, COUNTERS, THREE, "split")
PLANNER = Planner(THREE, "split")


def head_of(args: list[bytes]) -> Head | None:
    """The entry that a request's first bytes find."""
    return LANE.heads.get(b"*%d\r\n$%d\r\n%b\r\n$" % (len(args), len(args[0]), args[0]))


def split_of(args: list[bytes]) -> Split | None:
    """The entry that the name of a request with several keys finds."""
    return LANE.splits.get(encode.bulk(args[0]))


KEYS = [b"a", b"b", b"c", b"foo", b"{a}1", b"{}x", b"{", b"}{a}", b"\r\n", b""]
KEY = st.sampled_from(KEYS) | st.lists(st.sampled_from([b"{", b"}", b"a", b"b"]), max_size=6).map(b"".join)
WORD = KEY | st.sampled_from([b"1", b"0", b"2", b"STREAMS", b"STORE", b"BLOCK", b"BY", b"*", b"KEYS", b"x" * 100])


def agree(fact: Fact, args: list[bytes]) -> bool:
    """Whether the fast path knows this call; if it does, the planner must say the same of it."""
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


def test_what_is_split_with_an_argument_behind_its_keys() -> None:
    """JSON.MGET, whose path goes with every part; with one key it is forwarded."""
    lookup = CommandLookup(CommandTable.with_modules(), COUNTERS, THREE, "split")
    assert {name: lookup.splits[encode.bulk(name)].way.tail for name in ("JSON.MGET", "json.mset", "TS.MADD")} == {
        "JSON.MGET": 1,
        "json.mset": 0,
        "TS.MADD": 0,
    }
    for head in (b"*3\r\n$9\r\nJSON.MGET\r\n$", b"*4\r\n$9\r\nJSON.MSET\r\n$"):
        assert head in lookup.heads
    for name in (b"JSON.MGET", b"TS.CREATERULE", b"CMS.MERGE", b"FT.SEARCH", b"TS.MGET"):
        assert b"*4\r\n$%d\r\n%b\r\n$" % (len(name), name) not in lookup.heads


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


@pytest.mark.parametrize("name", ["DEL", "UNLINK", "EXISTS", "TOUCH", "MGET", "mget"])
def test_commands_with_many_keys_are_split(name: str) -> None:
    found = split_of([name.encode()])
    assert found is not None
    assert found.step == 1
    fact = TABLE.resolve([name.encode()])
    assert fact is not None
    assert found.way == split_way(fact, 3)
    assert found.counter is COUNTERS.command(name.lower())


def test_mset_is_split_by_pairs() -> None:
    found = split_of([b"MSET"])
    assert found is not None
    assert found.step == 2


@pytest.mark.parametrize("name", ["Mget", "GET", "MSETNX", "DBSIZE", "KEYS", "SUNION", "NOSUCH"])
def test_what_is_not_split(name: str) -> None:
    assert split_of([name.encode()]) is None


def test_nothing_is_split_if_that_is_not_wanted() -> None:
    lookup = CommandLookup(TABLE, COUNTERS, THREE, "reject")
    assert not lookup.splits
    assert lookup.heads.keys() == LANE.heads.keys()


def test_a_lane_knows_how_many_shards_there_are() -> None:
    assert [CommandLookup([], COUNTERS, topology(count), "split").shards for count in (1, 3)] == [1, 3]


def test_counters_are_those_of_the_commands() -> None:
    counters = Counters()
    made = CommandLookup(TABLE, counters, THREE, "split")
    assert made.heads[b"*2\r\n$3\r\nGET\r\n$"].counter is counters.command("get")
    assert made.heads[b"*2\r\n$3\r\nget\r\n$"].counter is counters.command("get")
    assert made.splits[b"$4\r\nMGET\r\n"].counter is counters.command("mget")


# ---- run


@pytest.fixture(scope="module")
def shared() -> Iterator[IdleWorker]:
    with idle_worker() as made:
        assert made.service.topology.slot_shard == THREE.slot_shard
        yield made


@pytest.fixture
def lookup(shared: IdleWorker) -> IdleWorker:
    """A new client, and its counters at zero."""
    for counter in shared.service.counters.commands.values():
        counter.calls = 0
    shared.do(shared.enter)
    return shared


def drive(idle_worker: IdleWorker, data: bytes, pos: int = 0) -> tuple[int, Sent]:
    """Where the fast path ends in ``data``, and what it sent."""

    def both() -> tuple[int, Sent]:
        return run(idle_worker.client, data, pos, 7.5, 1 << 40), idle_worker.sent()

    return idle_worker.do(both)


def request(line: str) -> bytes:
    return encode.request(line.split())


READ, WRITE = True, False


def calls(idle_worker: IdleWorker) -> dict[str, int]:
    """How often each command was counted."""
    return {name: counter.calls for name, counter in idle_worker.service.counters.commands.items() if counter.calls}


@pytest.fixture
def watching(lookup: IdleWorker) -> Iterator[IdleWorker]:
    """Some requests have had very long replies."""
    service = lookup.service

    def remember() -> None:
        for line in ("GET a", "LRANGE a 0 -1", "MGET a {a}1"):
            service.upstream.events.remember_long(request(line))  # what a backend connection has called

    lookup.do(remember)
    assert service.upstream.longs.names == {"get", "lrange", "mget"}
    yield lookup
    lookup.passes(KEPT + 1.0)
    lookup.do(service.upstream.forget_long_replies)
    assert not service.upstream.longs.names
    assert not service.fast_paths.lookups.current.watching


@pytest.mark.parametrize(
    "line", ["GET b", "get a", "GET {c}x", "LRANGE a 0 1", "LRANGE b 0 -1", "SET a v", "GET " + "x" * 99, "MGET a {a}2"]
)
def test_what_is_like_those_of_very_long_replies_goes_where_it_went(watching: IdleWorker, line: str) -> None:
    frame = request(line)
    end, sent = drive(watching, frame * 3)
    watched = calls(watching)
    watching.do(lambda: watching.service.fast_paths.lookups.current.watch(()))
    assert drive(watching, frame * 3) == (end, sent)
    assert end == 3 * len(frame)
    assert calls(watching) == {name: 2 * calls for name, calls in watched.items()}


@pytest.mark.parametrize("line", ["GET a", "LRANGE a 0 -1", "MGET a {a}1"])
def test_those_of_very_long_replies_are_not_the_fast_lanes(watching: IdleWorker, line: str) -> None:
    first = request("GET b")
    end, sent = drive(watching, first + request(line) + first)
    assert end == len(first)
    assert sent == {(0, READ): [first]}


@pytest.mark.parametrize("line", ["GET b", "LRANGE a 0 1", "LRANGE b 0 -1"])
def test_what_is_cut_is_left_while_some_are_looked_at(watching: IdleWorker, line: str) -> None:
    frame = request(line)
    for size in range(len(frame)):
        assert drive(watching, frame[:size]) == (0, {})


def test_requests_go_to_their_shards(lookup: IdleWorker) -> None:
    frames = [request(line) for line in ("SET a v", "GET b", "GET {c}x", "get a", "DEL b", "SET foo " + "x" * 500)]
    set_a, get_b, get_c, get_a, del_b, set_foo = frames
    end, sent = drive(lookup, b"".join(frames))
    assert end == sum(map(len, frames))
    assert sent == {
        (2, WRITE): [set_a, set_foo],
        (0, READ): [get_b],
        (1, READ): [get_c],
        (2, READ): [get_a],
        (0, WRITE): [del_b],
    }
    assert lookup.client.window.issued == lookup.client.window.pending == 6
    commands = lookup.service.counters.commands
    assert lookup.client.latest is commands["set"]
    assert {name: counter.calls for name, counter in commands.items() if counter.calls} == {
        "set": 2,
        "get": 3,
        "del": 1,
    }
    note_latest(lookup.client)
    assert lookup.client.session.last_command == "set"


def test_requests_with_many_keys_go_to_all_their_shards(lookup: IdleWorker) -> None:
    data = b"".join(map(request, ("MGET a b foo", "GET a", "MSET a 1 c 2", "DEL b bar", "EXISTS c")))
    end, sent = drive(lookup, data)
    assert end == len(data)
    assert sent == {
        (2, READ): [request("MGET a foo"), request("GET a")],
        (0, READ): [request("MGET b")],
        (2, WRITE): [request("MSET a 1")],
        (1, WRITE): [request("MSET c 2")],
        (0, WRITE): [request("DEL b bar")],
        (1, READ): [request("EXISTS c")],
    }
    assert lookup.client.window.pending == 5
    calls = {name: counter.calls for name, counter in lookup.service.counters.commands.items() if counter.calls}
    assert calls == {"mget": 1, "get": 1, "mset": 1, "del": 1, "exists": 1}


def test_what_is_split_is_answered_as_one(lookup: IdleWorker) -> None:
    """The parts' replies, whichever comes first, make one reply in the client's window."""
    window = lookup.client.window
    data = request("MGET a b a") + request("DEL c a")

    def sequence() -> bytes:
        assert run(lookup.client, data, 0, 7.5, 1 << 40) == len(data)
        entries = [entry for backend in lookup.service.upstream.pool for entry in backend.inflight.entries()]
        replies = {request("MGET a a"): b"*2\r\n$1\r\n1\r\n$1\r\n3\r\n", request("MGET b"): b"*1\r\n$-1\r\n"}
        for entry in reversed(entries):
            reply = replies.get(entry.frame, b":1\r\n")
            entry.sink.deliver(entry.token, reply, 0, len(reply))
        lookup.sent()
        paper = Paper()
        window.write_to(paper)
        return paper.taken()

    assert lookup.do(sequence) == b"*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n3\r\n:2\r\n"
    assert window.idle


@pytest.mark.parametrize(
    "line",
    [
        "PING",
        "Get a",
        "SET " + "k" * 100 + " v",
        "NOSUCH a",
        "GET a b",
        "MSET a",
        "MSET a b c",
        "MGET",
        "MSETNX a b c d",
    ],
)
def test_it_stops_at_what_is_not_its_own(lookup: IdleWorker, line: str) -> None:
    first = request("GET a")
    assert drive(lookup, first + request(line) + first) == (len(first), {(2, READ): [first]})
    lookup.do(lookup.enter)
    assert drive(lookup, request(line)) == (0, {})
    assert lookup.client.latest is None


@pytest.mark.parametrize(
    "line", ["SET a " + "v" * 30, "MSET a 1 b 2 c " + "v" * 30, "MGET a b c", "DEL a " + "k" * 120]
)
def test_it_stops_at_what_is_cut(lookup: IdleWorker, line: str) -> None:
    frame = request(line)
    _, once = drive(lookup, frame)
    for at in range(len(frame)):
        assert drive(lookup, frame + frame[:at]) == (len(frame), once)


@pytest.mark.parametrize("length", [b":", b"1;", b"0:", b"00", b"01", b"/:", b"1/", b"+1"])
def test_it_stops_at_a_length_that_is_none(lookup: IdleWorker, length: bytes) -> None:
    """Even where as many bytes follow as its characters would mean: a server would close the shared connection."""
    for size in range(25):
        data = b"*2\r\n$3\r\nGET\r\n$%b\r\n%b\r\n" % (length, b"k" * size)
        assert drive(lookup, data) == (0, {})


def test_it_starts_where_it_is_told(lookup: IdleWorker) -> None:
    frame = request("GET a")
    assert drive(lookup, b"xyz" + frame, 3) == (3 + len(frame), {(2, READ): [frame]})


@pytest.mark.parametrize("second", ["SET b v", "MSET c v b v"])
def test_it_stops_when_a_backend_holds_the_client(second: str) -> None:
    """What was sent to the one that is away is kept there."""
    with idle_worker(away=[0]) as lookup:
        first, third = request("SET a v"), request("SET c v")
        end, sent = drive(lookup, first + request(second) + third)
        assert end == len(first + request(second))
        assert sent[2, WRITE] == [first]
        assert sent[0, WRITE] == [request(second.replace("c v ", ""))]
        assert lookup.client.flow.stopped


def test_it_stops_when_a_shard_is_down() -> None:
    with idle_worker(away=[0]) as lookup:
        first, second = request("SET a v"), request("SET b v")
        lookup.do(lambda: run(lookup.client, second, 0, 0.0, 1 << 40))
        lookup.passes(2 * DEADLINE)
        lookup.do(lookup.enter)
        assert drive(lookup, first + second + first) == (len(first), {(2, WRITE): [first]})


def test_it_stops_when_enough_is_in_flight(lookup: IdleWorker) -> None:
    lookup.do(lambda: lookup.enter(most=3))
    frame = request("GET a")
    assert drive(lookup, frame * 5) == (3 * len(frame), {(2, READ): [frame] * 3})
    assert drive(lookup, frame * 2) == (0, {})
    lookup.client.window.deliver(0, b":1\r\n", 0, 4)
    assert drive(lookup, frame * 2) == (len(frame), {(2, READ): [frame]})
    assert lookup.client.window.pending == 3


def reference(data: bytes) -> tuple[int, Sent]:
    """What the slow path does with ``data``: how many requests it sends, and what where."""
    framer = RequestFramer(RequestLimits(), UNAUTHENTICATED)
    found: Sent = {}
    count = 0
    at = 0
    while at < len(data):
        end = framer.frame(data, at)
        assert end > at, "a request that is not whole was carried out"
        frame = data[at:end]
        args = split_request(frame)
        fact = TABLE.resolve(args)
        assert fact is not None
        assert fact.accepts(len(args))
        made = PLANNER.plan(fact, args, frame)
        assert isinstance(made, Forward | Scatter)
        read = made.read if isinstance(made, Forward) else made.way.read
        parts = [Part(made.shard, frame)] if isinstance(made, Forward) else made.parts
        for part in parts:
            found.setdefault((part.shard, read), []).append(part.frame)
        count += 1
        at = end
    return count, found


NAMES = sorted({head.counter.name for head in LANE.heads.values()} | {entry.way.name for entry in LANE.splits.values()})
CALL = st.lists(
    st.tuples(st.sampled_from(NAMES) | st.sampled_from(["mget", "mset", "del"]), st.lists(WORD, max_size=6)).map(
        lambda call: encode.request((call[0].upper(), *call[1]))
    ),
    max_size=6,
).map(b"".join)


@given(CALL, st.integers(0, 400))
def test_what_it_sends_is_what_the_slow_path_sends(shared: IdleWorker, data: bytes, cut: int) -> None:
    data = data[: max(len(data) - cut, 0)] if cut < 200 else data
    client = shared.do(shared.enter)
    end, sent = drive(shared, data)
    assert (client.window.issued, sent) == reference(data[:end])


HEAD_BYTES = st.sampled_from(sorted(LANE.heads)) | st.sampled_from(
    [b"*%d\r\n%b$" % (count, name) for name in sorted(LANE.splits) for count in (2, 3, 5)]
)
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
def test_broken_requests_do_no_harm(shared: IdleWorker, data: bytes) -> None:
    """What it sends of them, the framer takes for requests too; hiredis need not."""
    client = shared.do(shared.enter)
    end, sent = drive(shared, data)
    framer = RequestFramer(RequestLimits(), UNAUTHENTICATED)
    at = 0
    for _ in range(client.window.issued):
        at = framer.frame(data, at)
    assert at == end
    frames = [frame for frames in sent.values() for frame in frames]
    assert len(frames) >= client.window.issued
    for frame in frames:
        assert framer.frame(frame, 0) == len(frame)
