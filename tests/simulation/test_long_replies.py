"""Long replies to readers that are slow, and what others notice of it: nothing. Virtual time, one server."""

from collections.abc import Sequence

import pytest

from proxy.resp import encode
from tests.simulation.playbook import (
    RETRY_DEADLINE,
    Stage,
    Step,
    answers,
    door,
    got_bytes,
    hears,
    leaves,
    listens,
    passes,
    play,
    says,
    sees,
    standing,
    tries,
)

NOW = 0.05
LIMITS = {"output_soft": "64kb", "output_hard": "8mb", "write_timeout": "2s"}
VALUE = b"v" * 100_000
ROWS = {
    "a bulk string": encode.bulk(VALUE * 40),
    "an array": encode.array(encode.bulk(VALUE) for _ in range(40)),
    "an array of small ones": encode.array(encode.bulk(b"%09d" % number) for number in range(200_000)),
    "a nested one": encode.array([encode.array([encode.bulk(VALUE * 20)] * 2), encode.integer(1)]),
}
kinds = pytest.mark.parametrize("reply", ROWS.values(), ids=list(ROWS))


def others_go_on(name: str) -> Sequence[Step]:
    """A client that has nothing to do with it is served at once."""
    return says(name, "SET y 1"), sees("SET y 1"), answers(encode.OK), hears(name, "OK")


@kinds
def test_it_comes_as_fast_as_it_is_read_and_others_go_on(reply: bytes) -> None:
    play(
        (
            says("a", "LRANGE k 0 -1"),
            listens("a", False),
            answers(reply),
            sees("LRANGE k 0 -1"),
            hears("a"),
            passes(NOW),
            *others_go_on("b"),
            *others_go_on("c"),
            listens("a", True),
            passes(NOW),
            got_bytes("a", len(reply)),
            says("a", "GET z"),
            sees("GET z"),
            answers(b"$1\r\nz\r\n"),
            tries(3, 3),  # one in its place, and one that is ready for the next
        ),
        {**LIMITS, "output_hard": "256kb"},
    )


@kinds
def test_who_waits_behind_it_is_answered(reply: bytes) -> None:
    """It is read on for them, and kept for its reader."""
    play(
        (
            says("a", "LRANGE k 0 -1"),
            says("b", "SET x 1"),
            says("c", "GET x"),
            listens("a", False),
            answers(reply, encode.OK, encode.bulk("1")),
            hears("b", "OK"),
            hears("c", "1"),
            hears("a"),
            listens("a", True),
            passes(NOW),
            got_bytes("a", len(reply)),
        ),
        LIMITS,
    )


@kinds
def test_who_keeps_too_much_waiting_is_closed_and_the_others_are_answered(reply: bytes) -> None:
    play(
        (
            says("a", "LRANGE k 0 -1"),
            says("b", "SET x 1"),
            listens("a", False),
            answers(reply, encode.OK),
            hears("a", "closed"),
            hears("b", "OK"),
            sees("LRANGE k 0 -1", "SET x 1"),
            *others_go_on("b"),
        ),
        {**LIMITS, "output_hard": "1mb"},
    )


@kinds
def test_no_fresh_connection_can_be_had(reply: bytes) -> None:
    """Then others use the one there is: it is read on as soon as one of them asks something."""
    play(
        (
            says("a", "LRANGE k 0 -1"),
            listens("a", False),
            door("shut"),
            answers(reply),
            passes(NOW),
            hears("a"),
            sees("LRANGE k 0 -1"),
            says("b", "SET y 1"),
            sees("SET y 1"),
            answers(encode.OK),
            passes(NOW),
            hears("b", "OK"),
            passes(2 * RETRY_DEADLINE),
            says("b", "SET y 2"),
            sees("SET y 2"),
            answers(encode.OK),
            passes(NOW),
            hears("b", "OK"),
            listens("a", True),
            passes(NOW),
            got_bytes("a", len(reply)),
        ),
        LIMITS,
    )


def test_so_many_connections_are_left_and_no_more() -> None:
    """The second slow reader's reply is kept for it, and all go on over the connection that made way for the first."""
    reply = ROWS["an array"]
    asks = says("c", "SET y 1"), answers(encode.OK), passes(NOW), hears("c", "OK")
    play(
        (
            says("a", "LRANGE k 0 -1"),
            listens("a", False),
            answers(reply),
            passes(NOW),
            tries(2, 2),
            says("b", "LRANGE k 0 -1"),
            listens("b", False),
            answers(reply),
            passes(NOW),
            *asks,
            *asks,
            tries(2, 2),
            listens("a", True),
            listens("b", True),
            passes(2 * NOW),
            got_bytes("a", len(reply)),
            got_bytes("b", len(reply)),
            says("b", "LRANGE k 0 -1"),
            listens("b", False),
            answers(reply),
            passes(NOW),
            tries(3, 3),
        ),
        LIMITS,
        long_reply_connections="1",
    )


def test_a_reply_that_is_read_makes_way_when_it_is_very_long() -> None:
    """Others should not wait until all of it has passed, however fast that is."""
    play(
        (
            says("a", "GET k"),
            answers(b"$20000000\r\n", b"v" * 9_000_000),
            passes(NOW),
            tries(2, 3),
            sees("GET k"),
            *others_go_on("b"),
            got_bytes("a", 9_000_000),
        ),
        {**LIMITS, "output_soft": "64mb", "output_hard": "64mb"},
    )


def test_a_reader_that_leaves_takes_nobody_along() -> None:
    reply = ROWS["an array"]
    play(
        (
            says("a", "LRANGE k 0 -1"),
            says("b", "SET x 1"),
            listens("a", False),
            door("shut"),
            answers(reply[: len(reply) // 2]),
            leaves("a"),
            answers(reply[len(reply) // 2 :], encode.OK),
            hears("b", "OK"),
            sees("LRANGE k 0 -1", "SET x 1"),
            *others_go_on("b"),
        ),
        LIMITS,
    )


def test_a_reply_makes_way_as_soon_as_its_length_is_known() -> None:
    for begun in (
        b"$20000000\r\nv",
        b"*3\r\n:1\r\n$20000000\r\nv",
        b"*4000000\r\n" + b":1\r\n" * 20_000,
    ):
        play(
            (
                says("a", "MGET k l m"),
                answers(begun),
                passes(NOW),
                sees("MGET k l m"),
                *others_go_on("b"),
                got_bytes("a", len(begun)),
            ),
            {**LIMITS, "output_soft": "64mb", "output_hard": "64mb"},
        )


def test_the_next_long_reply_makes_way_at_once() -> None:
    """A connection was made ready for it: none could be made now."""
    reply = ROWS["a bulk string"]
    play(
        (
            says("a", "GET k"),
            listens("a", False),
            answers(reply),
            passes(NOW),
            tries(3, 3),
            door("deaf"),
            says("b", "GET k"),
            listens("b", False),
            answers(reply),
            sees("GET k", "GET k"),
            *others_go_on("c"),
            *others_go_on("d"),
            listens("a", True),
            listens("b", True),
            passes(NOW),
            got_bytes("a", len(reply)),
            got_bytes("b", len(reply)),
        ),
        LIMITS,
    )


def test_what_is_ready_and_not_needed_is_let_go() -> None:
    reply = ROWS["a bulk string"]
    play(
        (
            says("a", "GET k"),
            answers(reply[:2_000_000]),
            listens("a", False),
            passes(NOW),
            answers(reply[2_000_000:]),
            passes(NOW),
            tries(3, 3),
            listens("a", True),
            passes(10.0),
            standing(1),
            sees("GET k"),
            *others_go_on("b"),
        ),
        {**LIMITS, "output_soft": "64kb"},
    )


@kinds
def test_replies_fill_the_memory_for_all(reply: bytes) -> None:
    """One client is closed, and nobody else notices: not who waits behind it, nor who reads slowly and has less."""
    play(
        (
            *(says(name, "LRANGE k 0 -1") for name in "abc"),
            says("d", "SET x 1"),
            *(listens(name, False) for name in "abc"),
            answers(reply, reply, reply, encode.OK),
            hears("d", "OK"),
            sees(*["LRANGE k 0 -1"] * 3, "SET x 1"),
            *others_go_on("d"),
            hears("a", "closed"),
            hears("b"),
            hears("c"),
            listens("b", True),
            listens("c", True),
            passes(NOW),
            got_bytes("b", len(reply)),
            got_bytes("c", len(reply)),
        ),
        {**LIMITS, "output_memory": "8mb" if len(reply) > 3_500_000 else "5mb"},
    )


def renews() -> Step:
    """Connections are made anew, as when a server's name leads to another one."""

    async def step(stage: Stage) -> None:
        stage.service.upstream.replace(list(stage.service.upstream.pool))

    return step


def holds(seconds: float) -> Step:
    """A failover is about to begin: nothing is sent to the primary for so long."""

    async def step(stage: Stage) -> None:
        stage.service.upstream.hold_shard("alpha", seconds)

    return step


one_is_ready = (says("a", "GET k"), answers(b"$20000000\r\nv"), passes(NOW), tries(3, 3), standing(3))
rest_comes = answers(b"v" * 19_999_999 + b"\r\n")
ROOMY = {**LIMITS, "output_soft": "64mb", "output_hard": "64mb"}


def test_what_is_ready_is_of_no_use_when_connections_are_made_anew() -> None:
    play((*one_is_ready, rest_comes, renews(), passes(1.0), standing(1), sees("GET k"), *others_go_on("b")), ROOMY)


def test_what_is_ready_holds_back_what_the_others_do() -> None:
    play(
        (
            *one_is_ready,
            rest_comes,
            says("b", "GET k"),
            holds(0.2),
            answers(b"$20000000\r\nv"),
            says("c", "SET x 1"),
            passes(NOW),
            sees("GET k", "GET k"),
            passes(0.2),
            sees("SET x 1"),
            answers(encode.OK),
            hears("c", "OK"),
        ),
        ROOMY,
    )
