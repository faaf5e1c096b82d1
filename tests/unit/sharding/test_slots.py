"""Slots of keys, after the cluster specification."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.sharding.slots import SLOTS, hashed_part, key_slot, span_slot, whole_slot


def crc16(data: bytes) -> int:
    """CRC16 of appendix A, bit by bit: polynomial 0x1021, initial value 0, nothing reflected, nothing added."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1
            crc &= 0xFFFF
    return crc


def plain_slot(key: str | bytes) -> int:
    """The specification's example code (HASH_SLOT), in Python."""
    raw = key.encode() if isinstance(key, str) else key
    start = raw.find(b"{")
    if start >= 0:
        end = raw.find(b"}", start + 1)
        if end >= 0 and end != start + 1:
            raw = raw[start + 1 : end]
    return crc16(raw) % 16384


def test_the_specifications_checksum() -> None:
    assert crc16(b"123456789") == 0x31C3
    assert key_slot(b"123456789") == 0x31C3 % SLOTS


# What `CLUSTER KEYSLOT` of Redis answers.
@pytest.mark.parametrize(
    ("key", "slot"),
    [(b"", 0), (b"a", 15495), (b"b", 3300), (b"c", 7365), (b"foo", 12182), (b"bar", 5061), (b"hello", 866)],
)
def test_known_slots(key: bytes, slot: int) -> None:
    assert key_slot(key) == slot


@pytest.mark.parametrize("size", [*range(55, 90), 1000, 1001, 1007])
def test_long_keys_of_all_ends(size: int) -> None:
    key = random.Random(size).randbytes(size).replace(b"{", b"(")
    assert key_slot(key) == plain_slot(key)
    assert key_slot(b"{%b}x" % key.replace(b"}", b")")) == plain_slot(key.replace(b"}", b")"))
    assert span_slot(b"SET " + key + b" 1", 4, 4 + size) == plain_slot(key)


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"{user1000}.followers", b"user1000"),
        (b"foo{}{bar}", b"foo{}{bar}"),
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
        (b"foo{bar", b"foo{bar"),
        (b"foo}bar{", b"foo}bar{"),
        (b"}{bar}", b"bar"),
        (b"{}bar", b"{}bar"),
        (b"{}", b"{}"),
        (b"{", b"{"),
        (b"{a}", b"a"),
        (b"{\x00}", b"\x00"),
        (b"", b""),
    ],
)
def test_hash_tags(key: bytes, hashed: bytes) -> None:
    assert hashed_part(key) == hashed
    assert key_slot(key) == crc16(hashed) % SLOTS


BRACED = st.lists(st.sampled_from([b"{", b"}", b"a", b"b", b"\xff"]), max_size=10).map(b"".join)


@given(st.binary(max_size=40) | BRACED)
@example(b"{}")
@example(b"{a}{b}")
def test_as_the_specification_computes_it(key: bytes) -> None:
    assert key_slot(key) == plain_slot(key)
    assert 0 <= key_slot(key) < SLOTS


@given(st.binary(min_size=1, max_size=10).filter(lambda tag: b"}" not in tag), st.binary(max_size=10), st.data())
def test_keys_of_one_tag_share_their_slot(tag: bytes, behind: bytes, data: st.DataObject) -> None:
    before = data.draw(st.binary(max_size=10).filter(lambda text: b"{" not in text))
    assert key_slot(b"%b{%b}%b" % (before, tag, behind)) == crc16(tag) % SLOTS


@given(st.binary(max_size=12) | BRACED, st.binary(max_size=40) | BRACED, st.binary(max_size=12) | BRACED)
@example(b"{", b"a", b"}")
@example(b"{x", b"{a}", b"}")
@example(b"", b"{a", b"}b")
def test_a_key_is_found_where_it_stands(before: bytes, key: bytes, behind: bytes) -> None:
    """What stands around it, braces too, is none of its own."""
    data = before + key + behind
    assert span_slot(data, len(before), len(before) + len(key)) == plain_slot(key)
    assert hashed_part(key) == data[len(before) : len(before) + len(key)] or b"{" in key


@pytest.mark.parametrize("size", [1000, 100_000])
def test_long_keys(size: int) -> None:
    key = bytes(number * 7 % 256 for number in range(size)).replace(b"{", b"x")
    assert key_slot(key) == plain_slot(key)
    assert key_slot(b"{" + key + b"}") == plain_slot(key.partition(b"}")[0])


@given(st.binary(max_size=100), st.binary(max_size=20))
@example(b"a{b}c", b"{x}")
def test_the_slot_of_all_bytes(key: bytes, before: bytes) -> None:
    assert whole_slot(before + key + before, len(before), len(before) + len(key)) == crc16(key) % SLOTS
