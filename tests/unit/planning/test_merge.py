"""Parts' replies become one: each way to combine, in RESP2 and RESP3, with failed parts and with bad shapes."""

from collections.abc import Sequence, Set

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.commands.table import CommandTable
from proxy.planning.merge import MERGERS, merge
from proxy.planning.merge_context import Context
from proxy.planning.merge_info import common_events
from proxy.planning.planner import Forward
from proxy.planning.scan_cursor import Cursors
from proxy.planning.scatter import Part, Scatter, Way
from proxy.resp import encode
from proxy.resp.replies import elements
from proxy.resp.requests import split_request
from proxy.sharding.slots import key_slot
from tests.support.feeding import NOISE, RESP3
from tests.support.plans import THREE, plan, topology

NOTHING = Context()
NO_FIT = b"-ERR the shards' answers do not fit together\r\n"


def scatter(merge: str, count: int = 2, options: tuple[bytes, ...] = (), changes: bool = False) -> Scatter:
    return Scatter(Way("x", merge, count, changes=changes), [Part(shard, b"", []) for shard in range(count)], options)


def merged(way: str, *replies: bytes, options: tuple[bytes, ...] = (), changes: bool = False) -> bytes:
    return merge(scatter(way, len(replies), options, changes), list(replies), NOTHING)


def test_every_way_that_a_fact_names_is_there() -> None:
    facts = [fact for top in CommandTable.builtin() for fact in (top, *top.subcommands.values())]
    assert {fact.merge for fact in facts if fact.merge} <= set(MERGERS)


@pytest.mark.parametrize(
    ("way", "replies", "whole"),
    [
        ("sum", [b":2\r\n", b":0\r\n", b":40\r\n"], b":42\r\n"),
        ("sum", [b":-1\r\n"], b":-1\r\n"),
        ("min", [b":2\r\n", b":-7\r\n", b":40\r\n"], b":-7\r\n"),
        ("max", [b":2\r\n", b":-7\r\n", b":40\r\n"], b":40\r\n"),
        ("all_ok", [b"+OK\r\n", b"+OK\r\n"], b"+OK\r\n"),
        ("all_ok", [b"$3\r\nsha\r\n", b"$3\r\nsha\r\n"], b"$3\r\nsha\r\n"),
        ("one_ok", [b"-NOTBUSY no\r\n", b"+OK\r\n"], b"+OK\r\n"),
        ("one_ok", [b"-NOTBUSY no\r\n", b"-NOTBUSY no\r\n"], b"-NOTBUSY no\r\n"),
        ("one_ok", [b"-NOTBUSY no\r\n", b"-UNKILLABLE it wrote\r\n"], b"-UNKILLABLE it wrote\r\n"),
        ("logical_and", [b":1\r\n", b":1\r\n"], b":1\r\n"),
        ("logical_and", [b":1\r\n", b":0\r\n"], b":0\r\n"),
        ("logical_or", [b":0\r\n", b":1\r\n"], b":1\r\n"),
        ("logical_or", [b":0\r\n", b":0\r\n"], b":0\r\n"),
        ("logical_and", [b"*3\r\n:1\r\n:0\r\n:1\r\n", b"*3\r\n:1\r\n:1\r\n:0\r\n"], b"*3\r\n:1\r\n:0\r\n:0\r\n"),
        ("logical_and", [b"*0\r\n", b"*0\r\n"], b"*0\r\n"),
        (
            "concat",
            [b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*0\r\n", b"*1\r\n$-1\r\n"],
            b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n",
        ),
        ("concat", [b"~1\r\n+a\r\n", b"~1\r\n+b\r\n"], b"~2\r\n+a\r\n+b\r\n"),
        (
            "concat",
            [b"%1\r\n+a\r\n:1\r\n", b"%0\r\n", b"%1\r\n+b\r\n*1\r\n:2\r\n"],
            b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n",
        ),
        ("randomkey", [b"$-1\r\n", b"$1\r\nk\r\n", b"$-1\r\n"], b"$1\r\nk\r\n"),
        ("randomkey", [b"$-1\r\n", b"$-1\r\n"], b"$-1\r\n"),
        ("randomkey", [b"_\r\n", b"$1\r\nk\r\n"], b"$1\r\nk\r\n"),
        ("randomkey", [b"_\r\n", b"_\r\n"], b"_\r\n"),
        ("text", [b"$3\r\none\r\n", b"$3\r\ntwo\r\n"], b"$7\r\none\ntwo\r\n"),
        ("text", [b"=7\r\ntxt:one\r\n", b"=7\r\ntxt:two\r\n"], b"=11\r\ntxt:one\ntwo\r\n"),
        ("latency_history", [b"*0\r\n", b"*0\r\n"], b"*0\r\n"),
        ("series", [b"*0\r\n", b"*0\r\n"], b"*0\r\n"),
        (
            "series",
            [b"*1\r\n*2\r\n$1\r\nb\r\n:1\r\n", b"*2\r\n*2\r\n$2\r\naa\r\n:2\r\n*2\r\n$1\r\nb\r\n:1\r\n"],
            b"*2\r\n*2\r\n$2\r\naa\r\n:2\r\n*2\r\n$1\r\nb\r\n:1\r\n",
        ),
        (
            "series",
            [b"%1\r\n$1\r\nb\r\n:1\r\n", b"%2\r\n$1\r\nb\r\n:1\r\n$1\r\na\r\n*1\r\n:2\r\n"],
            b"%2\r\n$1\r\na\r\n*1\r\n:2\r\n$1\r\nb\r\n:1\r\n",
        ),
    ],
)
def test_replies_that_fit(way: str, replies: list[bytes], whole: bytes) -> None:
    assert merged(way, *replies) == whole


@pytest.mark.parametrize(
    ("way", "replies"),
    [
        ("sum", [b":1\r\n", b"+OK\r\n"]),
        ("min", [b"$1\r\n1\r\n", b":1\r\n"]),
        ("max", [b"*0\r\n", b":1\r\n"]),
        ("logical_and", [b"*1\r\n:1\r\n", b"*2\r\n:1\r\n:1\r\n"]),
        ("logical_and", [b"*1\r\n:1\r\n", b":1\r\n"]),
        ("logical_or", [b":1\r\n", b"*1\r\n:1\r\n"]),
        ("concat", [b"*1\r\n:1\r\n", b"+OK\r\n"]),
        ("concat", [b"_\r\n", b"_\r\n"]),
        ("concat", [b"|1\r\n+k\r\n+v\r\n*1\r\n:1\r\n"] * 2),
        ("concat", [b"%1\r\n+a\r\n:1\r\n", b"*1\r\n:1\r\n"]),
        ("mget", [b"*1\r\n:1\r\n", b"+OK\r\n"]),
        ("mget", [b"*2\r\n:1\r\n:1\r\n", b"*0\r\n"]),
        ("scan", [b"*1\r\n$1\r\n0\r\n"]),
        ("scan", [b"*2\r\n:0\r\n*0\r\n"]),
        ("scan", [b"*2\r\n$1\r\nx\r\n*0\r\n"]),
        ("scan", [b"+OK\r\n"]),
        ("config_get", [b"*1\r\n$1\r\na\r\n", b"*0\r\n"]),
        ("slowlog", [b"*1\r\n*1\r\n:1\r\n", b"*0\r\n"]),
        ("slowlog", [b"*1\r\n:1\r\n", b"*0\r\n"]),
        ("latency_latest", [b"*1\r\n*1\r\n$1\r\na\r\n", b"*0\r\n"]),
        ("latency_history", [b"*1\r\n+x\r\n", b"*0\r\n"]),
        ("latency_histogram", [b"*2\r\n$3\r\nget\r\n*0\r\n", b"*0\r\n"]),
        ("memory_stats", [b"*1\r\n$1\r\na\r\n", b"*0\r\n"]),
        ("series", [b"*1\r\n:1\r\n", b"*0\r\n"]),
        ("series", [b"*0\r\n", b"%0\r\n"]),
        ("series", [b"*1\r\n*0\r\n", b"*0\r\n"]),
    ],
)
def test_replies_that_do_not_fit(way: str, replies: list[bytes]) -> None:
    assert merged(way, *replies) == NO_FIT


ANY_REPLY = RESP3 | NOISE.filter(bool).map(lambda noise: encode.bulk(noise))


@given(st.sampled_from(sorted(MERGERS)), st.lists(ANY_REPLY, min_size=1, max_size=3))
def test_any_replies_make_one_reply(way: str, replies: list[bytes]) -> None:
    """Whatever servers answer, a merge neither raises nor answers what is no reply."""
    parts = [Part(shard, b"", [shard]) for shard in range(len(replies))]
    whole = merge(Scatter(Way("x", way, 3), parts), replies, NOTHING)
    cut = object()
    reader = hiredis.Reader(notEnoughData=cut)
    reader.feed(whole)
    assert reader.gets() is not cut
    assert not reader.has_data()


# ---- parts that fail

DOWN = b"-SHARDDOWN shard 's1' (h:1) can not be reached: refused. The command was not executed\r\n"
LOST = b"-UNCERTAIN shard 's2' (h:2) closed the connection: the command may or may not have been executed\r\n"


@pytest.mark.parametrize("way", sorted(set(MERGERS) - {"one_ok", "info", "config_get"}))
def test_a_read_of_which_a_part_fails_answers_that_parts_error(way: str) -> None:
    assert merged(way, b":1\r\n", DOWN) == DOWN
    assert merged(way, DOWN, b":1\r\n") == DOWN


@pytest.mark.parametrize("way", ["sum", "all_ok"])
def test_a_write_of_which_a_part_fails_is_uncertain(way: str) -> None:
    assert merged(way, b":1\r\n", DOWN, changes=True) == b"-UNCERTAIN partial: " + DOWN[1:]
    assert merged(way, DOWN, b"+OK\r\n", LOST, changes=True) == b"-UNCERTAIN partial: " + LOST[1:]


def test_a_write_of_which_all_parts_fail() -> None:
    assert merged("all_ok", DOWN, DOWN, changes=True) == DOWN
    assert merged("all_ok", DOWN, LOST, changes=True) == LOST
    assert merged("sum", b"-OOM no\r\n", b"-READONLY no\r\n", changes=True) == b"-OOM no\r\n"


def test_the_bytes_of_an_error_are_kept() -> None:
    assert merged("sum", b":1\r\n", b"-ERR \xe9\xff\r\n", changes=True) == b"-UNCERTAIN partial: ERR \xe9\xff\r\n"


def test_of_what_needs_one_success_a_failed_part_hides_none() -> None:
    assert merged("one_ok", DOWN, b"+OK\r\n", changes=True) == b"+OK\r\n"
    assert merged("one_ok", b"-NOTBUSY no\r\n", DOWN, changes=True) == DOWN


# ---- split commands: what one server would have said


class Server:
    """What a server with these values answers to the commands that are split."""

    def __init__(self, values: dict[bytes, bytes], protocol: int) -> None:
        self.values = values
        self.null = encode.null(protocol)

    def answer(self, args: list[bytes]) -> bytes:
        name, keys = args[0].lower(), args[1:]
        match name:
            case b"mget":
                found = (self.values.get(key) for key in keys)
                return encode.array(self.null if value is None else encode.bulk(value) for value in found)
            case b"mset":
                self.values.update(zip(keys[::2], keys[1::2], strict=True))
                return encode.OK
            case b"exists" | b"touch":
                return encode.integer(sum(key in self.values for key in keys))
            case _:
                return encode.integer(sum(self.values.pop(key, None) is not None for key in keys))


KEY = st.sampled_from([b"a", b"b", b"c", b"foo", b"bar", b"hello", b"{a}1", b"{b}1", b""])
SPLIT = st.one_of(
    st.tuples(st.sampled_from([b"MGET", b"EXISTS", b"TOUCH", b"DEL", b"UNLINK"]), st.lists(KEY, min_size=1)).map(
        lambda made: [made[0], *made[1]]
    ),
    st.lists(st.tuples(KEY, st.binary(max_size=3)), min_size=1).map(
        lambda pairs: [b"MSET", *(word for pair in pairs for word in pair)]
    ),
)


@given(st.lists(SPLIT, max_size=8), st.sampled_from([2, 3]), st.integers(1, 5))
def test_many_shards_answer_as_one_server(commands: list[list[bytes]], protocol: int, count: int) -> None:
    on = topology(count)
    single = Server({}, protocol)
    shards = [Server({}, protocol) for _ in range(count)]
    for args in commands:
        expected = single.answer(args)
        made = plan(args, on)
        if isinstance(made, Forward):
            assert shards[made.shard].answer(args) == expected
        else:
            assert isinstance(made, Scatter)
            replies = [shards[part.shard].answer(split_request(part.frame)) for part in made.parts]
            assert merge(made, replies, NOTHING) == expected
    for index, shard in enumerate(shards):
        assert all(on.slot_shard[key_slot(key)] == index for key in shard.values)


def test_mget_puts_replies_where_their_keys_stood() -> None:
    parts = [Part(2, b"", [0, 3]), Part(0, b"", [1]), Part(1, b"", [2, 4])]
    replies = [b"*2\r\n$1\r\na\r\n$-1\r\n", b"*1\r\n$1\r\nb\r\n", b"*2\r\n_\r\n$1\r\ne\r\n"]
    whole = merge(Scatter(Way("mget", "mget", 3), parts), replies, NOTHING)
    assert elements(whole) == [b"$1\r\na\r\n", b"$1\r\nb\r\n", b"_\r\n", b"$-1\r\n", b"$1\r\ne\r\n"]


# ---- SCAN


def scan(cursor: int, shards: int = 3, shard: int = 0) -> bytes:
    part = Scatter(Way("scan", "scan", shards), [Part(shard, b"")], Cursors(topology(shards)).marks(shard, 0))
    return merge(part, [b"*2\r\n%b*1\r\n$1\r\nk\r\n" % encode.bulk(str(cursor))], NOTHING)


@pytest.mark.parametrize(
    ("inner", "shard", "outer"), [(0, 0, 1), (0, 1, 2), (0, 2, 0), (1, 0, 4), (5, 2, 22), (2**61 - 1, 1, 2**63 - 3)]
)
def test_the_cursor_carries_the_shard(inner: int, shard: int, outer: int) -> None:
    assert scan(inner, shard=shard) == b"*2\r\n%b*1\r\n$1\r\nk\r\n" % encode.bulk(str(outer))


def test_a_cursor_that_has_no_room_for_the_shard() -> None:
    assert scan(2**61, shard=0).startswith(b"-ERR the shard's cursor is too large")
    assert scan(2**63 - 1, shards=1) == b"*2\r\n$19\r\n9223372036854775807\r\n*1\r\n$1\r\nk\r\n"


def test_a_scan_that_fails_answers_its_shards_error() -> None:
    assert merged("scan", b"-ERR value is not an integer or out of range\r\n") == (
        b"-ERR value is not an integer or out of range\r\n"
    )


@given(st.lists(st.lists(st.integers(1, 2**60 - 1), max_size=4, unique=True), min_size=2, max_size=5))
def test_a_scan_visits_every_shard_to_its_end(walks: list[list[int]]) -> None:
    """``walks``: the cursors that each shard hands out before it ends."""
    on = topology(len(walks))
    visited: list[tuple[int, int]] = []
    cursor = b"0"
    for _ in range(100):
        made = plan([b"SCAN", cursor], on)
        assert isinstance(made, Scatter)
        (part,) = made.parts
        inner = int(split_request(part.frame)[1])
        visited.append((part.shard, inner))
        walk = [*walks[part.shard], 0]
        following = walk[walk.index(inner) + 1] if inner else walk[0]
        keys = encode.array((encode.bulk(f"{part.shard}:{inner}"),))
        reply = merge(made, [encode.array((encode.bulk(str(following)), keys))], NOTHING)
        frame, found = elements(reply)
        assert found == keys
        cursor = frame.split(b"\r\n")[1]
        if cursor == b"0":
            break
    assert visited == [(shard, inner) for shard, walk in enumerate(walks) for inner in (0, *walk)]


# ---- what servers tell of themselves


def info(
    *documents: str, protocol: int = 2, overlay: dict[str, dict[str, str]] | None = None, asked: tuple[bytes, ...] = ()
) -> bytes:
    replies = [encode.verbatim(document, protocol) for document in documents]
    return merge(scatter("info", len(replies), options=asked), replies, Context(lambda cluster: overlay or {}))


def test_info_is_one_document() -> None:
    one = "# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n"
    two = "# Keyspace\r\ndb0:keys=2,expires=0,avg_ttl=0\r\n"
    whole = "# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\n"
    assert info(one, two) == encode.bulk(whole)
    assert info(one, two, protocol=3) == encode.verbatim(whole, 3)


def test_info_of_what_there_is_not() -> None:
    assert info("", "") == b"$0\r\n\r\n"


def test_info_tells_of_the_proxy() -> None:
    overlay = {"Clients": {"connected_clients": "7"}, "Slotgate": {"slotgate_version": "1"}}
    server = "# Server\r\nredis_version:7.0.15\r\n\r\n# Clients\r\nconnected_clients:3\r\n"
    whole = server.replace("clients:3", "clients:7") + "\r\n# Slotgate\r\nslotgate_version:1\r\n"
    assert info(server, server, overlay=overlay) == encode.bulk(whole)
    assert info("", "", overlay=overlay, asked=(b"SLOTGATE",)) == encode.bulk("# Slotgate\r\nslotgate_version:1\r\n")
    assert info("", "", overlay=overlay, asked=(b"\xff",)) == encode.bulk("")


def test_info_of_the_shards_that_answer() -> None:
    one = "# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n"
    replies = [DOWN, encode.bulk(one), b"-LOADING Redis is loading the dataset in memory\r\n"]
    said = merge(scatter("info", 3), replies, NOTHING).decode()
    assert one in said
    missing = "shard 's1' (h:1) can not be reached: refused; LOADING Redis is loading the dataset in memory\r\n"
    assert f"# Slotgate\r\nslotgate_missing:SHARDDOWN {missing}" in said


def test_info_of_no_shard() -> None:
    """Clients ask it before they do anything."""
    overlay: dict[str, dict[str, str]] = {"Clients": {"maxclients": "9"}}
    context = Context(lambda cluster: overlay, version=lambda: "7.2.4")
    said = merge(scatter("info", 2), [DOWN, DOWN], context).decode()
    assert "redis_version:7.2.4\r\n" in said
    assert "maxclients:9\r\n" in said
    assert "loading:0\r\n" in said
    assert "slotgate_missing:SHARDDOWN shard 's1'" in said
    said = merge(scatter("info", 1, options=(b"keyspace",)), [DOWN], context).decode()
    assert "Server" not in said
    assert "# Keyspace\r\n" in said
    wrong = b"-ERR syntax error\r\n"
    assert merge(scatter("info", 2), [wrong, wrong], context) == wrong


class Servers:
    """Notes what differs."""

    def __init__(self) -> None:
        self.told: dict[str, list[tuple[str, str]]] = {}

    def oldest(self) -> Set[int]:
        return frozenset()

    def name(self, shard: int) -> str:
        return f"s{shard}"

    def differ(self, setting: str, values: Sequence[tuple[str, str]]) -> None:
        self.told[setting] = list(values)


def test_config_get_of_settings_that_differ() -> None:
    servers = Servers()
    replies = [
        pairs(("port", "1"), ("maxmemory", "100"), ("notify-keyspace-events", "AKE"), ("requirepass", "a")),
        DOWN,
        pairs(("port", "2"), ("maxmemory", "200"), ("notify-keyspace-events", "gxE"), ("requirepass", "b")),
    ]
    said = merge(scatter("config_get", 3), replies, Context(servers=servers))
    assert said == pairs(("port", "1"), ("maxmemory", "100"), ("notify-keyspace-events", "gxE"), ("requirepass", ""))
    assert servers.told == {
        "maxmemory": [("s0", "100"), ("s2", "200")],
        "notify-keyspace-events": [("s0", "AKE"), ("s2", "gxE")],
    }
    assert merge(scatter("config_get", 2), [DOWN, DOWN], Context(servers=servers)) == DOWN


@pytest.mark.parametrize(
    ("settings", "common"),
    [
        (["AKE", "AKE"], "AKE"),
        (["KEA", "g$lshzxetdE"], "AE"),
        (["AKE", ""], ""),
        (["xE", "xgK"], "x"),
        (["AKEmn", "Kmn"], "nKm"),
        (["Kl", "lKs", "AK"], "lK"),
    ],
)
def test_events_that_all_shards_send(settings: list[str], common: str) -> None:
    assert common_events(settings) == common


def pairs(*items: tuple[str, str], protocol: int = 2) -> bytes:
    return encode.mapping({encode.bulk(name): encode.bulk(value) for name, value in items}, protocol)


@pytest.mark.parametrize("protocol", [2, 3])
def test_config_get(protocol: int) -> None:
    one = pairs(("maxmemory", "0"), ("requirepass", "secret"), protocol=protocol)
    two = pairs(("maxmemory", "100"), ("masterauth", "secret"), ("io-threads", "1"), protocol=protocol)
    assert merged("config_get", one, two) == pairs(
        ("maxmemory", "0"), ("requirepass", ""), ("masterauth", ""), ("io-threads", "1"), protocol=protocol
    )


def test_config_get_shows_no_password() -> None:
    for name in (
        "requirepass",
        "masterauth",
        "primaryauth",
        "tls-key-file-pass",
        "tls-client-key-file-pass",
        "RequirePass",
    ):
        assert b"secret" not in merged("config_get", pairs((name, "secret")))


def entry(number: int, time: int) -> bytes:
    args = encode.array((encode.bulk("GET"), encode.bulk("k")))
    return encode.array((encode.integer(number), encode.integer(time), encode.integer(9), args))


def test_slowlog_is_newest_first() -> None:
    one = encode.array((entry(2, 30), entry(1, 10)))
    two = encode.array((entry(7, 40), entry(6, 20), entry(5, 5)))
    newest = [entry(7, 40), entry(2, 30), entry(6, 20), entry(1, 10), entry(5, 5)]
    for options, count in (((), 10), ((b"5",), 5), ((b"2",), 2), ((b"0",), 0), ((b"-1",), 5), ((b"3", b"slow"), 3)):
        assert merged("slowlog", one, two, options=(b"GET", *options)) == encode.array(newest[:count])
    many = encode.array(entry(number, number) for number in range(20))
    assert len(elements(merged("slowlog", many, many, options=(b"GET",)))) == 10
    assert len(elements(merged("slowlog", many, many, options=(b"get", b"30")))) == 30
    assert merged("slowlog", b"*0\r\n", b"*0\r\n") == b"*0\r\n"


def event(name: str, *numbers: int) -> bytes:
    return encode.array((encode.bulk(name), *map(encode.integer, numbers)))


def test_latency_latest_has_one_row_an_event() -> None:
    one = encode.array((event("command", 100, 5, 50), event("fork", 90, 1, 1)))
    two = encode.array((event("command", 200, 7, 20),))
    assert merged("latency_latest", one, two) == encode.array((event("command", 200, 7, 50), event("fork", 90, 1, 1)))
    assert merged("latency_latest", two, one) == encode.array((event("command", 200, 7, 50), event("fork", 90, 1, 1)))
    # Valkey 9 has two columns more.
    one, two = encode.array((event("x", 1, 2, 3, 4, 5),)), encode.array((event("x", 2, 2, 2, 2, 2),))
    assert merged("latency_latest", one, two) == encode.array((event("x", 2, 2, 3, 2, 2),))


def sample(time: int, value: int) -> bytes:
    return encode.array((encode.integer(time), encode.integer(value)))


def test_latency_history_is_in_order_of_time() -> None:
    one, two = encode.array((sample(1, 9), sample(4, 8))), encode.array((sample(2, 7), sample(4, 1)))
    assert merged("latency_history", one, two) == encode.array((sample(1, 9), sample(2, 7), sample(4, 8), sample(4, 1)))


def histogram(protocol: int, commands: dict[str, tuple[int, dict[int, int]]]) -> bytes:
    return encode.mapping(
        {
            encode.bulk(name): encode.mapping(
                {
                    encode.bulk("calls"): encode.integer(calls),
                    encode.bulk("histogram_usec"): encode.mapping(
                        {encode.integer(bound): encode.integer(count) for bound, count in buckets.items()}, protocol
                    ),
                },
                protocol,
            )
            for name, (calls, buckets) in commands.items()
        },
        protocol,
    )


@pytest.mark.parametrize("protocol", [2, 3])
def test_latency_histograms_are_added_up(protocol: int) -> None:
    one = histogram(protocol, {"get": (10, {1: 4, 4: 10}), "set": (1, {8: 1})})
    two = histogram(protocol, {"get": (5, {2: 3, 4: 4, 8: 5})})
    whole = histogram(protocol, {"get": (15, {1: 4, 2: 7, 4: 14, 8: 15}), "set": (1, {8: 1})})
    assert merged("latency_histogram", one, two) == whole
    assert merged("latency_histogram", two, one) == histogram(
        protocol, {"get": (15, {1: 4, 2: 7, 4: 14, 8: 15}), "set": (1, {8: 1})}
    )


@given(st.lists(st.lists(st.integers(0, 10), max_size=20), min_size=1, max_size=4))
def test_added_histograms_count_every_call(shards: list[list[int]]) -> None:
    """Each shard's calls with their exponents; cumulative counts at powers of two, as Redis gives them."""

    def buckets(calls: list[int]) -> dict[int, int]:
        return {2**power: sum(call <= power for call in calls) for power in sorted(set(calls))}

    replies = [histogram(3, {"get": (len(calls), buckets(calls))}) for calls in shards]
    everything = [call for calls in shards for call in calls]
    assert merged("latency_histogram", *replies) == histogram(3, {"get": (len(everything), buckets(everything))})


@pytest.mark.parametrize("protocol", [2, 3])
def test_memory_stats(protocol: int) -> None:
    def stats(peak: int, ratio: bytes, *more: tuple[str, bytes]) -> bytes:
        known = {encode.bulk("peak.allocated"): encode.integer(peak), encode.bulk("peak.percentage"): ratio}
        return encode.mapping(known | {encode.bulk(name): value for name, value in more}, protocol)

    ratio, other = (b",99.5\r\n", b",12.5\r\n") if protocol == 3 else (b"$4\r\n99.5\r\n", b"$4\r\n12.5\r\n")
    one, two = stats(100, ratio), stats(50, other, ("keys.count", b":3\r\n"))
    assert merged("memory_stats", one, two) == stats(150, ratio, ("keys.count", b":3\r\n"))


def test_the_plans_of_three_shards_merge() -> None:
    """From the planner to the merge: what is scattered has as many parts as shards."""
    made = plan("DBSIZE", THREE)
    assert isinstance(made, Scatter)
    assert merge(made, [b":1\r\n", b":2\r\n", b":3\r\n"], NOTHING) == b":6\r\n"
