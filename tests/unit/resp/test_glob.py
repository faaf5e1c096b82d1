"""Patterns: what they match by hand; tests/live/test_pubsub.py has a server's own word on many more."""

import time

import pytest

from proxy.resp.glob import literal_prefix, matches


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("", [""], ["a"]),
        ("*", ["a", "abc", "\n"], [""]),
        ("**", ["a", "abc"], [""]),
        ("a*", ["a", "ab", "a\nb"], ["", "ba"]),
        ("*a", ["a", "ba", "aa"], ["ab"]),
        ("*a*b*", ["ab", "xaxbx"], ["ba"]),
        ("a?c", ["abc", "a\nc"], ["ac", "abbc"]),
        ("a[bc]d", ["abd", "acd"], ["aed", "ad"]),
        ("a[^bc]d", ["aed"], ["abd", "acd", "ad"]),
        ("[a-c]", ["a", "b", "c"], ["d", "-"]),
        ("[c-a]", ["a", "b", "c"], ["d"]),
        ("[a-]", ["a", "]", "^"], ["-"]),
        ("[a\\]b]", ["a", "]", "b"], ["\\"]),
        ("[abc", ["a", "b", "c"], ["d"]),
        ("[]", [], ["", "]", "a"]),
        ("[^]", ["a", "]"], [""]),
        ("a\\*", ["a*"], ["ab", "a\\*"]),
        ("a\\", ["a\\"], ["a"]),
        ("\\[a]", ["[a]"], ["a"]),
        ("(a|b)", ["(a|b)"], ["a"]),
        ("^a$", ["^a$"], ["a"]),
    ],
)
def test_patterns(pattern: str, matching: list[str], others: list[str]) -> None:
    assert [text for text in matching if not matches(pattern.encode(), text.encode())] == []
    assert [text for text in others if matches(pattern.encode(), text.encode())] == []


def test_no_pattern_takes_long() -> None:
    began = time.process_time()
    assert not matches(b"*a" * 50 + b"*b", b"a" * 5000)
    assert not matches(b"*?a*[a-z]" * 20 + b"b", b"a" * 5000)
    assert time.process_time() - began < 5


def test_patterns_are_not_taken_apart_beforehand() -> None:
    began = time.process_time()
    for number in range(5000):
        assert not matches(b"p%d*[a-z]?x*y" % number, b"none")
    for _ in range(2000):
        assert not matches(b"*a" * 500 + b"*b", b"a" * 500)
    assert time.process_time() - began < 60


@pytest.mark.parametrize(
    "pattern",
    [b"*a" * 500 + b"*b", b"*?a" * 300 + b"*b", b"*[^z]a" * 150 + b"b", b"*" + b"[a-b]" * 200 + b"c", b"*" * 1024],
)
def test_a_match_is_given_up_in_time(pattern: bytes) -> None:
    began = time.process_time()
    for _ in range(20):
        matches(pattern, b"a" * 1_000_000)
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("pattern", "prefix", "whole"),
    [("", "", True), ("abc", "abc", True), ("ab*c", "ab", False), ("a[b]", "a", False), ("a\\b", "a", False)],
)
def test_what_a_pattern_begins_with(pattern: str, prefix: str, whole: bool) -> None:
    assert literal_prefix(pattern.encode()) == (prefix.encode(), whole)


def test_a_long_pattern_is_not_taken_apart() -> None:
    for pattern in (b"a" * 10_000_000, b"*?[ab]" * 1_000_000):
        began = time.process_time()
        literal_prefix(pattern)
        assert matches(pattern, pattern)
        assert not matches(pattern, b"a" * 1000)
        assert time.process_time() - began < 1.0
