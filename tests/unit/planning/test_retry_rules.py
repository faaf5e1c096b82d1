"""What becomes of requests whose connection was lost, told by their commands alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engine.entry import Entry
from proxy.engine.jobs import at_once
from proxy.planning.retry_rules import Look, Outcome, judge, movable, repeatable
from tests.support.recording import Recorder

SINKS = {name: Recorder() for name in "xy"}


def look(frame: bytes) -> Look:
    """Of ``r5``, ``w5``, ``r*``, ``w*``: a read or write of slot 5, or of any."""
    text = frame.decode()
    return Look(text[0] == "r", None if text[1:] == "*" else frozenset(int(slot) for slot in text[1:].split("+")))


def lost(line: str) -> list[Entry]:
    """Of words such as ``x:r5``: who asked, and what."""
    words = [word.split(":") for word in line.split()]
    return [Entry(SINKS[who], index, what.encode(), 0.0) for index, (who, what) in enumerate(words)]


def judged(line: str) -> str:
    """One letter a request: a(gain), u(ncertain), s(tale)."""
    verdict = at_once(judge(lost(line), look))
    found = {entry.token: "a" for entry in verdict.again}
    found |= {entry.token: "u" for entry in verdict.uncertain}
    found |= {entry.token: "s" for entry in verdict.stale}
    for entries in (verdict.again, verdict.uncertain, verdict.stale):
        assert [entry.token for entry in entries] == sorted(entry.token for entry in entries)
    assert len(found) == len(verdict.again) + len(verdict.uncertain) + len(verdict.stale)
    return "".join(found[token] for token in sorted(found))


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("", ""),
        ("x:r5", "a"),
        ("x:w5", "u"),
        ("x:w5 x:r5", "ua"),  # the read comes after the write anyway
        ("x:r5 x:w5", "su"),  # it would see what the write made
        ("x:r5 y:w5", "au"),  # of another client's order nobody knows
        ("x:r5 x:w6", "au"),
        ("x:r5 x:w6 x:w5", "suu"),
        ("x:r5+6 x:w6+7", "su"),
        ("x:r* x:w6", "su"),
        ("x:r5 x:w*", "su"),
        ("x:r5 x:w* x:w5 x:r5", "suua"),
        ("x:r1 y:r1 x:w1 y:r1 x:r1", "sauaa"),
        ("x:r5 x:r5 x:r6", "aaa"),
    ],
)
def test_only_reads_without_a_later_write_are_repeated(line: str, verdict: str) -> None:
    assert judged(line) == verdict


WORDS = st.tuples(st.sampled_from("xy"), st.sampled_from("rw"), st.sampled_from(["1", "2", "1+2", "*"]))


@given(st.lists(WORDS.map(lambda word: f"{word[0]}:{word[1]}{word[2]}"), max_size=10))
def test_no_request_is_forgotten_and_no_write_repeated(words: list[str]) -> None:
    found = judged(" ".join(words))
    assert len(found) == len(words)
    for index, (word, letter) in enumerate(zip(words, found, strict=True)):
        who, what = word.split(":")
        assert (letter == "u") == what.startswith("w")
        if letter == "a":
            later = [other for other in words[index + 1 :] if other.startswith(f"{who}:w")]
            slots = set(what[1:].split("+"))
            assert all("*" not in other + what and not slots & set(other.split(":w")[1].split("+")) for other in later)


RAN, REFUSED = Outcome.RAN, Outcome.REFUSED
READ_1, WRITE_1 = Look(True, frozenset({1})), Look(False, frozenset({1}))
WRITE_2, ANYWHERE = Look(False, frozenset({2})), Look(False, None)


@pytest.mark.parametrize(
    ("requests", "may"),
    [
        ([(REFUSED, WRITE_1)], [True]),
        ([(RAN, WRITE_1)], [False]),
        # MSET {t}1 {t}2 was refused, SET {t}1 behind it ran: the MSET must not overwrite it.
        ([(REFUSED, WRITE_1), (RAN, WRITE_1)], [False, False]),
        ([(RAN, WRITE_1), (REFUSED, WRITE_1)], [False, True]),
        ([(REFUSED, WRITE_1), (REFUSED, WRITE_1)], [True, True]),
        ([(REFUSED, WRITE_1), (RAN, WRITE_2)], [True, False]),
        ([(REFUSED, WRITE_1), (RAN, READ_1)], [False, False]),
        ([(REFUSED, READ_1), (RAN, READ_1)], [True, False]),
        ([(REFUSED, READ_1), (RAN, WRITE_1)], [False, False]),
        ([(REFUSED, READ_1), (RAN, ANYWHERE)], [False, False]),
        ([(REFUSED, ANYWHERE), (RAN, WRITE_1)], [False, False]),
        ([(REFUSED, ANYWHERE), (REFUSED, WRITE_1)], [True, True]),
        ([(REFUSED, WRITE_1), (REFUSED, WRITE_2), (RAN, WRITE_1)], [False, True, False]),
    ],
)
def test_what_was_refused_is_sent_again_unless_a_later_one_ran(
    requests: list[tuple[Outcome, Look]], may: list[bool]
) -> None:
    assert repeatable([(outcome, look, object()) for outcome, look in requests]) == may


def test_parts_of_one_request_may_run_in_any_order() -> None:
    whole, other = object(), object()
    parts = [(REFUSED, WRITE_1, whole), (RAN, WRITE_1, whole)]
    assert repeatable(parts) == [True, False]
    assert repeatable([*parts, (RAN, WRITE_1, other)]) == [False, False, False]
    assert repeatable([(REFUSED, WRITE_1, other), *parts]) == [False, True, False]


READ_2, READ_BOTH, READ_ALL = Look(True, frozenset({2})), Look(True, frozenset({1, 2})), Look(True, frozenset())


@pytest.mark.parametrize(
    ("looks", "may"),
    [
        ([READ_1, READ_2], [True, True]),
        # A write in front may come too late for the read, one behind it too early.
        ([WRITE_1, READ_1, READ_2], [False, False, True]),
        ([READ_1, READ_2, WRITE_1], [False, True, False]),
        ([READ_1, READ_2, ANYWHERE], [False, False, False]),
        ([READ_ALL, READ_1, WRITE_2], [False, False, False]),
        ([READ_ALL, READ_1], [True, True]),
        # What stays holds what reads the same: a later read would see an earlier time.
        ([READ_2, WRITE_1, READ_BOTH], [False, False, False]),
    ],
)
def test_a_read_is_sent_elsewhere_unless_something_of_its_client_on_its_slot_stays(
    looks: list[Look], may: list[bool]
) -> None:
    me, other = object(), object()
    assert movable([(me, look, look.readonly) for look in looks]) == may
    assert movable([(me, look, look.readonly) for look in looks] + [(other, READ_1, True)]) == [*may, True]


LOOKS = st.builds(Look, st.booleans(), st.sampled_from([None, *map(frozenset, ((), (1,), (2,), (3,), (1, 2), (2, 3)))]))


@given(st.lists(st.tuples(st.sampled_from("xy"), LOOKS, st.booleans()), max_size=12))
def test_what_moves_shares_no_slot_with_what_stays_and_nothing_else_stays(
    requests: list[tuple[str, Look, bool]],
) -> None:
    moves = movable(requests)
    stay = [request for request, moved in zip(requests, moves, strict=True) if not moved]
    for (owner, look, free), moved in zip(requests, moves, strict=True):
        others = [other for whose, other, _ in stay if whose == owner and other is not look]
        meets = any(not other.slots or not look.slots or other.slots & look.slots for other in others)
        assert free or not moved
        assert not (moved and meets)
        assert moved or meets or not free
