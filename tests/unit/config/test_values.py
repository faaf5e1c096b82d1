"""Durations, sizes, counts, addresses and slot ranges: what is taken, and the words for what is not."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.values import (
    Address,
    parse_address_map,
    parse_count,
    parse_duration,
    parse_listen,
    parse_server,
    parse_size,
    parse_slots,
    parse_workers,
    shown,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("2s", 2.0), ("1.5s", 1.5), ("1m", 60.0), ("1h", 3600.0), ("0s", 0.0), (" 10 s ", 10.0)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100b", 100),
        ("1k", 1000),
        ("1kb", 1024),
        ("64KB", 65536),
        ("1m", 1000000),
        ("512mb", 512 * 1024**2),
        ("1g", 10**9),
        ("1gb", 1024**3),
    ],
)
def test_sizes_are_redis_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("value", "count"), [(7, 7), ("7", 7), ("-1", -1), (0, 0)])
def test_counts(value: object, count: int) -> None:
    assert parse_count(value) == count


@pytest.mark.parametrize(("value", "workers"), [(1, 1), ("4", 4), (1024, 1024), ("auto", "auto"), (" auto ", "auto")])
def test_workers(value: object, workers: object) -> None:
    assert parse_workers(value) == workers


@pytest.mark.parametrize(
    ("text", "address", "written"),
    [
        ("127.0.0.1:6380", Address("127.0.0.1", 6380), "127.0.0.1:6380"),
        ("Redis-A.internal:1", Address("redis-a.internal", 1), "redis-a.internal:1"),
        ("[0:0::1]:65535", Address("::1", 65535), "[::1]:65535"),
        ("unix:/run/redis.sock", Address("/run/redis.sock", 0, unix=True), "unix:/run/redis.sock"),
    ],
)
def test_addresses(text: str, address: Address, written: str) -> None:
    assert parse_server(text) == address
    assert parse_listen(text) == address
    assert str(address) == written


def test_only_a_listener_has_port_0() -> None:
    assert parse_listen("127.0.0.1:0").chosen_by_system
    with pytest.raises(ValueError, match="it is a number from 1 to 65535"):
        parse_server("127.0.0.1:0")


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("0-5460", ((0, 5460),)),
        ("7000", ((7000, 7000),)),
        (" 7000 , 0 - 10 ", ((0, 10), (7000, 7000))),
        ("0-16383", ((0, 16383),)),
    ],
)
def test_slot_ranges_ascend(text: str, ranges: tuple[tuple[int, int], ...]) -> None:
    assert parse_slots(text) == ranges


@pytest.mark.parametrize(
    ("parse", "value", "words"),
    [
        (parse_duration, 5, '5 has no unit: write "5s" or "5ms"'),
        (parse_duration, "5", '"5" has no unit: write "5s" or "5ms"'),
        (parse_duration, 0.5, '0.5 has no unit: write "0.5s" or "0.5ms"'),
        (
            parse_duration,
            "5 seconds",
            '"5 seconds" is not a duration: write a number and ms, s, m or h, as in "500ms" or "2s"',
        ),
        (parse_duration, True, 'true is not a duration: write a number and ms, s, m or h, as in "500ms" or "2s"'),
        (parse_duration, "-1s", '"-1s" is not a duration: write a number and ms, s, m or h, as in "500ms" or "2s"'),
        (parse_size, 512, '512 has no unit: write "512b", "512kb" or "512mb"'),
        (
            parse_size,
            "1.5gb",
            '"1.5gb" is not a size: write a whole number and b, kb, mb or gb, as in "64kb" or "512mb"',
        ),
        (parse_count, True, "true is not a whole number: write it without quotes, as in 1000"),
        (parse_count, 1.0, "1.0 is not a whole number: write it without quotes, as in 1000"),
        (parse_count, "many", '"many" is not a whole number: write it without quotes, as in 1000'),
        (parse_server, "", '"" is not an address: write "host:port", "[::1]:port" or "unix:/path"'),
        (parse_server, "redis", '"redis" is not an address: write "host:port", "[::1]:port" or "unix:/path"'),
        (parse_server, ":6379", '":6379" is not an address: write "host:port", "[::1]:port" or "unix:/path"'),
        (parse_server, 6379, '6379 is not an address: write "host:port", "[::1]:port" or "unix:/path"'),
        (parse_server, "a:65536", '"a:65536" has no good port: it is a number from 1 to 65535'),
        (parse_server, "a:b", '"a:b" has no good port: it is a number from 1 to 65535'),
        (parse_server, "a b:1", '"a b:1" has no good host: a name or an IP address stands before the port'),
        (parse_server, "*:1", '"*:1" has no good host: a name or an IP address stands before the port'),
        (parse_server, "1.2.3:1", '"1.2.3:1" has no good host: an IPv4 address is four numbers, 0 to 255'),
        (parse_server, "::1:6379", '"::1:6379" needs brackets around its IPv6 part: write "[::1]:6379"'),
        (parse_server, "[::g]:1", '"[::g]:1" is not an address: write "host:port" or "[::1]:port"'),
        (
            parse_listen,
            "unix:run/x.sock",
            '"unix:run/x.sock" is not a unix socket: write the full path of a file, as in "unix:/run/x.sock"',
        ),
        (
            parse_listen,
            "unix:/" + "x" * 107,
            "the path of a unix socket is at most 107 bytes long: choose a shorter one",
        ),
        (parse_slots, "", "names no slots: leave it out on every shard to divide them evenly"),
        (parse_slots, "5460-0", "5460-0 is reversed: write 0-5460"),
        (parse_slots, "0-16384", "0-16384 is out of range: slots are 0 to 16383"),
        (parse_slots, "20000", "20000 is out of range: slots are 0 to 16383"),
        (parse_slots, "0-10,5-7", "5-7 is named twice: name each slot once"),
        (
            parse_slots,
            "0..10",
            '"0..10" is not a slot range: write "0-5460" or "7000", with commas between several',
        ),
        (parse_slots, 7, '7 names no slots: write ranges in quotes, as in "0-5460" or "0-99,7000"'),
    ],
)
def test_words(parse: Callable[[object], object], value: object, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        parse(value)


def test_a_url_is_refused_without_showing_its_password() -> None:
    with pytest.raises(ValueError, match="is a URL") as caught:
        parse_server("redis://user:hunter2@10.0.0.1:6379")
    assert "hunter2" not in str(caught.value)
    assert shown("user:hunter2@host") == "this value"


def test_shown_is_one_short_line() -> None:
    assert shown("a\nb") == '"a\\nb"'
    assert len(shown("x" * 1000)) == 63


def words_of(parse: Callable[[object], object], value: object) -> str:
    """The words against a value, "" when it is taken."""
    try:
        parse(value)
    except ValueError as error:
        return str(error)
    return ""


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())))
def test_whatever_is_written_is_a_value_or_one_line(value: object) -> None:
    for parse in (parse_duration, parse_size, parse_count, parse_listen, parse_server, parse_slots):
        assert len(words_of(parse, value).splitlines()) <= 1


@pytest.mark.parametrize(
    ("announced", "reached", "found"),
    [
        ("10.0.0.5:6379", "Example.org:7000", ("10.0.0.5:6379", "example.org:7000")),
        ("10.0.0.5", "203.0.113.5", ("10.0.0.5", "203.0.113.5")),
        ("0::1", "[::2]", ("::1", "::2")),
        ("[0::1]:1", "[::2]:2", ("[::1]:1", "[::2]:2")),
    ],
)
def test_address_maps_are_as_addresses_are_written(announced: str, reached: str, found: tuple[str, str]) -> None:
    assert parse_address_map({announced: reached}) == dict([found])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "is not a table"),
        ({"a": 5}, "write it in quotes"),
        ({"a:1": "b"}, "write both with a port, or both without"),
        ({"[::1]": "[::1]:1"}, "write both with a port, or both without"),
        ({"a:0": "b:1"}, "has no good port"),
        ({"a b": "c"}, "has no good host"),
        ({"::g": "c"}, "is not an address"),
    ],
)
def test_what_is_no_address_map(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_address_map(value)
