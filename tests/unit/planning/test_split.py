"""Requests with many keys, cut by their bytes, and their replies merged: held against doing it with the arguments."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.engine.jobs import at_once
from proxy.planning.merge_keys import merge_by_key, merging_pieces_by_key
from proxy.planning.scatter import Part
from proxy.planning.split import Cut, by_key, count_of, cut, skip_bulks
from proxy.resp import encode
from proxy.resp.replies import BadReply, elements
from proxy.resp.requests import split_request
from proxy.sharding.slots import key_slot
from tests.support.feeding import NOISE, RESP3
from tests.support.plans import ONE, THREE

NAME = encode.bulk(b"MSET")
KEYS = st.sampled_from([b"a", b"b", b"c", b"foo", b"{b}1", b"{}", b"", b"k" * 99, b"\r\n"]) | st.binary(max_size=120)


def cut_of(
    args: list[bytes], step: int, trailing: bytes = b"", before: bytes = b"", shards: int = 3, by_slot: bool = False
) -> Cut | None:
    """The arguments behind a name, cut; they stand between ``before`` and ``trailing``."""
    data = before + NAME + b"".join(map(encode.bulk, args)) + trailing
    slot_shard = THREE.slot_shard if shards == 3 else ONE.slot_shard
    return cut(data, len(before), len(before) + len(NAME), len(args) // step, step, slot_shard, shards, by_slot, None)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 9, 200])
def test_parts_by_slot(step: int, count: int) -> None:
    """For servers that check slots themselves: a part has the keys of one slot, and goes to its shard."""
    args = [b"k%d" % (number // step % max(1, count // 2)) for number in range(count * step)]
    found = cut_of(args, step, by_slot=True)
    assert found is not None
    slots = [{key_slot(key) for key in split_request(part.frame)[1::step]} for part in found.parts]
    assert all(len(each) == 1 for each in slots)
    assert len(set(map(frozenset, slots))) == len(found.parts) == len({key_slot(key) for key in args[::step]})
    assert [part.shard for part in found.parts] == [THREE.slot_shard[min(each)] for each in slots]
    assert sorted(place for part in found.parts for place in part.positions) == list(range(count))


def test_nobodys_slots_are_a_part_too() -> None:
    nobody = (-1,) * len(THREE.slot_shard)
    data = NAME + encode.bulk(b"a") + encode.bulk(b"b")
    found = cut(data, 0, len(NAME), 2, 1, nobody, 0, True, None)
    assert found is not None
    assert [(part.shard, part.positions) for part in found.parts] == [(-1, [0]), (-1, [1])]
    found = cut(data, 0, len(NAME), 2, 1, nobody, 3, False, None)
    assert found is not None
    assert [(part.shard, part.positions) for part in found.parts] == [(-1, [0, 1])]


@pytest.mark.parametrize("step", [1, 2])
def test_a_part_by_its_keys(step: int) -> None:
    args = [b"a" * number for number in range(1, 5 * step + 1)]
    whole = cut_of(args, step, shards=1)
    assert whole is not None
    parts = by_key(whole.parts[0])
    wanted = [args[at : at + step] for at in range(0, len(args), step)]
    assert [split_request(part.frame)[1:] for part in parts] == wanted
    assert [part.positions for part in parts] == [[0], [1], [2], [3], [4]]


@given(st.lists(KEYS, min_size=1, max_size=12), KEYS, st.booleans(), NOISE)
def test_what_stands_behind_the_keys_goes_with_every_part(
    keys: list[bytes], path: bytes, by_slot: bool, trailing: bytes
) -> None:
    """JSON.MGET: the path is in each part, and in each part of a part."""
    data = NAME + b"".join(map(encode.bulk, (*keys, path))) + trailing
    found = cut(data, 0, len(NAME), len(keys), 1, THREE.slot_shard, 3, by_slot, None, 1)
    assert found is not None
    assert found.end == len(data) - len(trailing)
    for part in found.parts:
        mine = [keys[position] for position in part.positions]
        assert part.frame == encode.request([b"MSET", *mine, path])
        inner = [Part(part.shard, encode.request([b"MSET", key, path]), [at]) for at, key in enumerate(mine)]
        assert by_key(part, 1) == inner
    for cutter_at in (len(data) - len(trailing) - 1, len(NAME)):
        assert cut(data[:cutter_at], 0, len(NAME), len(keys), 1, THREE.slot_shard, 3, by_slot, None, 1) is None


def by_hand(args: list[bytes], step: int) -> list[Part]:
    """The same parts from the arguments, encoded anew."""
    words: dict[int, list[bytes]] = {}
    positions: dict[int, list[int]] = {}
    for position in range(len(args) // step):
        key, *more = args[position * step : (position + 1) * step]
        shard = THREE.slot_shard[key_slot(key)]
        words.setdefault(shard, []).extend((key, *more))
        positions.setdefault(shard, []).append(position)
    return [Part(shard, encode.request([b"MSET", *words[shard]]), positions[shard]) for shard in words]


@given(st.integers(1, 3), st.data(), NOISE)
def test_parts_are_those_of_the_arguments(step: int, data: st.DataObject, trailing: bytes) -> None:
    args = data.draw(st.lists(KEYS, min_size=step, max_size=12).map(lambda args: args[: len(args) // step * step]))
    found = cut_of(args, step, trailing, b"*1\r\n")
    assert found is not None
    assert found.parts == by_hand(args, step)
    assert found.end == 4 + len(NAME) + sum(len(encode.bulk(arg)) for arg in args)


@pytest.mark.parametrize("count", [1, 126, 127, 128, 129, 130, 1000])
def test_parts_of_any_number_of_keys(count: int) -> None:
    args = [b"{a}%d" % number for number in range(count)]
    found = cut_of(args, 1)
    assert found is not None
    (part,) = found.parts
    assert part.shard == 2
    assert part.frame == encode.request([b"MSET", *args])
    assert split_request(part.frame) == [b"MSET", *args]


def test_one_shard_gets_everything() -> None:
    found = cut_of([b"a", b"b", b"c"], 1, shards=1)
    assert found is not None
    assert found.parts == [Part(0, encode.request([b"MSET", b"a", b"b", b"c"]), [0, 1, 2])]


@pytest.mark.parametrize("step", [1, 2])
def test_a_cut_request_is_not_cut(step: int) -> None:
    """At every split point: nothing comes of it until it is whole."""
    args = [b"a", b"1", b"k" * 101, b"22", b"b", b""]
    whole = NAME + b"".join(map(encode.bulk, args))
    for at in range(len(NAME), len(whole)):
        assert cut(whole[:at], 0, len(NAME), len(args) // step, step, THREE.slot_shard, 3, False, None) is None
    assert cut(whole, 0, len(NAME), len(args) // step, step, THREE.slot_shard, 3, False, None) is not None


@given(NOISE | st.binary(max_size=60), st.integers(1, 4), st.integers(1, 2))
def test_what_is_cut_is_well_formed(noise: bytes, count: int, step: int) -> None:
    data = NAME + noise
    found = cut(data, 0, len(NAME), count, step, THREE.slot_shard, 3, False, None)
    if found is None:
        return
    assert found.end == skip_bulks(data, len(NAME), count * step) <= len(data)
    args = split_request(b"*%d\r\n" % (count * step + 1) + data[: found.end])[1:]
    assert found.parts == by_hand(args, step)


def test_parts_can_be_compared_and_shown() -> None:
    part = Part(1, b"x", [0, 2])
    assert repr(part) == "Part(1, b'x', [0, 2])"
    assert part == Part(1, b"x", [0, 2])
    assert part != Part(1, b"x", [0, 1])
    assert part != Part(0, b"x", [0, 2])
    assert part != "Part(1, b'x', [0, 2])"
    assert Part(1, b"x").positions == []


# ---- merge_by_key


def test_elements_stand_where_their_keys_stood() -> None:
    parts = [Part(2, b"", [0, 3]), Part(0, b"", [1]), Part(1, b"", [2])]
    replies = [b"*2\r\n$1\r\na\r\n$-1\r\n", b"*1\r\n$1\r\nb\r\n", b"*1\r\n*1\r\n:1\r\n"]
    assert merge_by_key(parts, replies) == b"*4\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n:1\r\n$-1\r\n"


@given(st.lists(st.tuples(st.integers(0, 3), RESP3), min_size=1, max_size=150))
def test_any_elements_in_any_places(values: list[tuple[int, bytes]]) -> None:
    shards = sorted({shard for shard, _ in values})
    places = {shard: [place for place, (on, _) in enumerate(values) if on == shard] for shard in shards}
    parts = [Part(shard, b"", places[shard]) for shard in shards]
    replies = [encode.array(values[place][1] for place in places[shard]) for shard in shards]
    merged = merge_by_key(parts, replies)
    assert merged == encode.array(value for _, value in values)
    assert elements(merged) == [value for _, value in values]


@pytest.mark.parametrize(
    "replies",
    [
        [b"*2\r\n:1\r\n:2\r\n", b"*1\r\n:3\r\n"],  # one too many in the first
        [b"*1\r\n:1\r\n", b"*2\r\n:2\r\n:3\r\n"],
        [b"*1\r\n:1\r\n", b"*0\r\n"],
        [b"*1\r\n:1\r\n", b"*-1\r\n"],
        [b"*1\r\n:1\r\n", b"+OK\r\n"],
        [b"*1\r\n:1\r\n", b"*1\r\n"],
        [b"*1\r\n:1\r\n", b""],
        [b"*1\r\n:1\r\n", b"*2\r\n:2\r\n"],
    ],
)
def test_replies_that_do_not_fit(replies: list[bytes]) -> None:
    with pytest.raises(BadReply):
        merge_by_key([Part(0, b"", [0]), Part(1, b"", [1])], replies)


LARGE = encode.bulk(b"0123456789" * 10_000)


@given(
    st.lists(st.tuples(st.integers(0, 3), RESP3 | st.just(LARGE)), min_size=1, max_size=60),
    st.lists(st.integers(0, 5000), max_size=20),
)
@example([(0, LARGE), (0, LARGE), (1, LARGE)], [5])  # a piece ends within the header of an element
def test_replies_in_pieces_merge_to_the_same(values: list[tuple[int, bytes]], places: list[int]) -> None:
    shards = sorted({shard for shard, _ in values})
    where = {shard: [place for place, (on, _) in enumerate(values) if on == shard] for shard in shards}
    parts = [Part(shard, b"", where[shard]) for shard in shards]
    replies = [encode.array(values[place][1] for place in where[shard]) for shard in shards]
    pieces = [_pieces(reply, places) for reply in replies]
    merged = at_once(merging_pieces_by_key(parts, pieces))
    assert b"".join(merged) == merge_by_key(parts, replies)
    assert all(merged)


def _pieces(reply: bytes, places: list[int]) -> list[bytes]:
    """A reply cut here and there, but not in its header."""
    head = reply.index(b"\n") + 1
    edges = sorted({0, len(reply), *(place for place in places if head <= place < len(reply))})
    return [reply[begin:end] for begin, end in pairwise(edges)]


def test_what_is_long_is_not_copied_to_be_merged() -> None:
    """And what has been merged is let go of, but for what is passed on."""
    pieces = [b"*2\r\n" + LARGE[:20_000], LARGE[20_000:70_000], LARGE[70_000:] + LARGE[:20], LARGE[20:]]
    inner = pieces[1]
    merged = at_once(merging_pieces_by_key([Part(0, b"", [0, 2]), Part(1, b"", [1])], [pieces, [b"*1\r\n:1\r\n"]]))
    assert any(piece is inner for piece in merged)
    assert b"".join(merged) == b"*3\r\n" + LARGE + b":1\r\n" + LARGE
    assert pieces[:3] == [b"", b"", b""]


@pytest.mark.parametrize("cut_at", [6, 50])
def test_replies_in_pieces_that_do_not_fit(cut_at: int) -> None:
    for reply in (b"*2\r\n:1\r\n" + LARGE, b"*1\r\n" + LARGE[:-9], b"*-1\r\n", b"+OK\r\n", b"*1\r\n" + b"$x\r\n" * 20):
        with pytest.raises(BadReply):
            at_once(
                merging_pieces_by_key(
                    [Part(0, b"", [0])], [[piece for piece in (reply[:cut_at], reply[cut_at:]) if piece]]
                )
            )


# ---- count_of


@pytest.mark.parametrize("count", [1, 2, 9, 10, 99, 100, 9999])
def test_a_count(count: int) -> None:
    header = b"*%d\r\n" % count
    assert count_of(b"xx" + header + b"yy", 2, 2 + len(header)) == count


@pytest.mark.parametrize(
    "header",
    [b"*\r\n", b"*0\r\n", b"*01\r\n", b"*-1\r\n", b"*1x\r\n", b"*x1\r\n", b"*1 \n", b"*10000\r\n", b"*\xff\r\n"],
)
def test_what_is_no_count(header: bytes) -> None:
    assert count_of(header, 0, len(header)) == -1


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


@given(NOISE | st.binary(max_size=60), st.integers(0, 4))
@example(b"$-1\r\n" + b"x" * 20, 1)
def test_skipping_goes_forward_and_stays_inside(data: bytes, count: int) -> None:
    for at in range(min(len(data), 3) + 1):
        end = skip_bulks(data, at, count)
        assert end == -1 or at + 5 * count <= end <= len(data)
