"""Function libraries: which are in a server's answer, and who lacks what."""

import hiredis
import pytest

from proxy.backends.query import Reply
from proxy.discovery.functions import libraries_of, missing

A, B = frozenset("a"), frozenset("b")


@pytest.mark.parametrize(
    ("libraries", "found"),
    [
        ({}, {}),
        ({"one": A}, {}),
        ({"one": A, "two": A}, {}),
        ({"one": A, "two": frozenset()}, {"two": ("a",)}),
        ({"one": A, "two": B, "three": A | B}, {"one": ("b",), "two": ("a",)}),
        ({"one": A | B, "two": frozenset(), "old": None}, {"two": ("a", "b")}),
        ({"old": None}, {}),
    ],
)
def test_who_lacks_what(libraries: dict[str, frozenset[str] | None], found: dict[str, tuple[str, ...]]) -> None:
    assert missing(libraries) == found


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ([], frozenset()),
        ([[b"library_name", b"a", b"engine", b"LUA", b"functions", []]], A),
        ([[b"engine", b"LUA", b"library_name", b"b"], [b"library_name", b"a"]], A | B),
        ([[b"engine"], b"?", [b"library_name", 1]], frozenset()),
        (hiredis.ReplyError("ERR unknown command 'FUNCTION'"), None),
        (None, None),
    ],
)
def test_the_libraries_in_an_answer(reply: Reply, names: frozenset[str] | None) -> None:
    assert libraries_of(reply) == names
