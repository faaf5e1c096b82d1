"""Patterns: what they match by hand; tests/live/test_pubsub.py has a server's own word on many more."""

import time

import pytest

from proxy.glob import literal_prefix, matcher


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
    matches = matcher(pattern.encode())
    assert [text for text in matching if not matches(text.encode())] == []
    assert [text for text in others if matches(text.encode())] == []


def test_no_pattern_takes_long() -> None:
    began = time.process_time()
    assert not matcher(b"*a" * 50 + b"*b")(b"a" * 5000)
    assert not matcher(b"*?a*[a-z]" * 20 + b"b")(b"a" * 5000)
    assert time.process_time() - began < 5


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
        matches = matcher(pattern)
        assert matches(pattern)
        assert not matches(b"a" * 1000)
        assert time.process_time() - began < 1.0
