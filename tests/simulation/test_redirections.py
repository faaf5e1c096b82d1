"""Requests that a cluster's node refuses, and slots that move under traffic; one conversation a row."""

from collections.abc import Sequence

import pytest

from tests.simulation.two_nodes import (
    BAR,
    DOWN,
    NOBODY,
    SOON,
    TRYAGAIN,
    Step,
    adopts,
    answers,
    ask,
    cuts,
    hears,
    holds,
    moved,
    passes,
    play,
    says,
    sees,
)

CONVERSATIONS = {
    "a redirection is followed": (
        says("a", "SET bar 1"), sees("A", "SET bar 1"), answers("A", moved(BAR, "B")), sees("B", "SET bar 1"),
        answers("B", "+OK"), hears("a", "OK"), says("a", "GET bar"), sees("A", "GET bar"), answers("A", "=1"),
        hears("a", "1"),
    ),
    "two on one key that are both redirected keep their order": (
        says("a", "SET bar 1", "SET bar 2"), sees("A", "SET bar 1", "SET bar 2"),
        answers("A", moved(BAR, "B"), moved(BAR, "B")), sees("B", "SET bar 1", "SET bar 2"),
        answers("B", "+OK", "+OK"), hears("a", "OK", "OK"),
    ),
    "nothing is sent again before it is known what became of what is behind": (
        says("a", "SET bar 1", "SET bar 2"), answers("A", moved(BAR, "B")), passes(SOON), sees("B"),
        answers("A", moved(BAR, "B")), sees("B", "SET bar 1", "SET bar 2"), answers("B", "+OK", "+OK"),
        hears("a", "OK", "OK"),
    ),
    "what a later one on its slot has overtaken is not sent again": (
        says("a", "SET bar 1", "SET bar 2"), answers("A", moved(BAR, "B"), "+OK"), passes(SOON), sees("B"),
        hears("a", "-SHARDDOWN shard 'A' (10.2.0.1:6379) redirected the command by 'MOVED", "OK"),
    ),
    "what ran on another slot does not matter": (
        says("a", "SET bar 1", "SET hello 2"), answers("A", moved(BAR, "B"), "+OK"), sees("B", "SET bar 1"),
        answers("B", "+OK"), hears("a", "OK", "OK"),
    ),
    "what another client does does not matter": (
        says("a", "SET bar 1"), says("b", "SET bar 2"), answers("A", moved(BAR, "B"), "+OK"), sees("B", "SET bar 1"),
        hears("b", "OK"), answers("B", "+OK"), hears("a", "OK"),
    ),
    "two reads may swap, a read and a write may not": (
        says("a", "GET bar", "GET bar"), answers("A", moved(BAR, "B"), "=1"), sees("B", "GET bar"), answers("B", "=1"),
        hears("a", "1", "1"), says("a", "GET bar", "SET bar 2"), answers("A", moved(BAR, "B"), "+OK"), sees("B"),
        hears("a", "-SHARDDOWN", "OK"),
    ),
    "a multi-key command on a half moved slot does not overwrite what follows": (
        says("a", "MSET {bar}1 1 {bar}2 2", "SET {bar}1 3"), answers("A", TRYAGAIN, "+OK"), passes(SOON),
        sees("A", "MSET {bar}1 1 {bar}2 2", "SET {bar}1 3"), hears("a", TRYAGAIN, "OK"),
    ),
    "a command that can not be split waits until its slot has moved": (
        says("a", "MSETNX {bar}1 1 {bar}2 2"), answers("A", TRYAGAIN), passes(SOON),
        sees("A", *["MSETNX {bar}1 1 {bar}2 2"] * 2), answers("A", moved(BAR, "B")),
        sees("B", "MSETNX {bar}1 1 {bar}2 2"), answers("B", ":1"), hears("a", "1"),
    ),
    "one that can be goes to where each of its keys is": (
        says("a", "MSET {bar}1 1 {bar}2 2"), answers("A", TRYAGAIN), passes(SOON),
        sees("A", "MSET {bar}1 1 {bar}2 2", "MSET {bar}1 1", "MSET {bar}2 2"), answers("A", "+OK", ask(BAR, "B")),
        sees("B", "ASKING", "MSET {bar}2 2"), answers("B", "+OK", "+OK"), hears("a", "OK"),
    ),
    "of a part that may have been written the rest is not known": (
        says("a", "MSET {bar}1 1 {bar}2 2"), answers("A", TRYAGAIN), passes(SOON),
        answers("A", "+OK", "-OOM command not allowed"),
        hears("a", "-UNCERTAIN partial: OOM command not allowed"),
    ),
    "asking goes before each request that was asked for": (
        says("a", "SET bar 1", "GET bar"), answers("A", ask(BAR, "B"), ask(BAR, "B")),
        sees("B", "ASKING", "SET bar 1", "ASKING", "GET bar"), answers("B", "+OK", "+OK", "+OK", "=1"),
        hears("a", "OK", "1"),
    ),
    "a slot that has moved meanwhile is found by the last redirection": (
        says("a", "SET bar 1", "GET bar"), answers("A", ask(BAR, "B"), moved(BAR, "B")),
        sees("B", "ASKING", "SET bar 1", "GET bar"), answers("B", "+OK", "+OK", "=1"), hears("a", "OK", "1"),
    ),
    "what follows waits for what is redirected": (
        says("a", "SET bar 1"), answers("A", moved(BAR, "B")), says("a", "GET bar", "GET foo"), passes(SOON),
        sees("A", "SET bar 1"), sees("B", "SET bar 1"), answers("B", "+OK"), hears("a", "OK"),
        sees("A", "GET bar"), sees("B", "GET foo"), answers("A", "=1"), answers("B", "=x"), hears("a", "1", "x"),
    ),
    "others do not wait": (
        says("a", "SET bar 1"), answers("A", moved(BAR, "B")), says("b", "GET bar"), sees("A", "SET bar 1", "GET bar"),
        answers("A", "=x"), hears("b", "x"), answers("B", "+OK"), hears("a", "OK"),
    ),
    "different slots go their own ways": (
        says("a", "SET bar 1", "SET hello 2"), answers("A", TRYAGAIN, moved(866, "B")), sees("B", "SET hello 2"),
        answers("B", "+OK"), passes(SOON), sees("A", "SET bar 1", "SET hello 2", "SET bar 1"), answers("A", "+OK"),
        hears("a", "OK", "OK"),
    ),
    "a part of a split command is redirected by itself": (
        says("a", "MGET bar foo"), sees("A", "MGET bar"), sees("B", "MGET foo"), answers("A", moved(BAR, "B")),
        sees("B", "MGET bar"), answers("B", "*1", "=f", "*1", "=b"), hears("a", "[b'b', b'f']"),
    ),
    "a part that gets TRYAGAIN is cut by key": (
        says("a", "MGET {bar}1 foo {bar}2"), sees("A", "MGET {bar}1 {bar}2"), sees("B", "MGET foo"),
        answers("B", "*1", "=f"), answers("A", TRYAGAIN), passes(SOON), sees("A", "MGET {bar}1", "MGET {bar}2"),
        answers("A", "*1", "=1", ask(BAR, "B")), sees("B", "ASKING", "MGET {bar}2"), answers("B", "+OK", "*1", "=2"),
        hears("a", "[b'1', b'f', b'2']"),
    ),
    "a cluster that is down for a moment is latency": (
        says("a", "SET bar 1", "GET bar"), answers("A", DOWN, DOWN), passes(SOON),
        sees("A", "SET bar 1", "GET bar", "SET bar 1", "GET bar"), answers("A", "+OK", "=1"), hears("a", "OK", "1"),
    ),
    "and for long an error": (
        says("a", "GET bar"), *[step for _ in range(4) for step in (answers("A", DOWN), passes(0.2))], hears("a", DOWN),
    ),
    "nodes that name each other end somewhere": (
        says("a", "GET bar"),
        *[step for _ in range(3) for step in (
            answers("A", moved(BAR, "B")), passes(0.1), answers("B", moved(BAR, "A")), passes(0.1),
        )],
        hears("a", "-SHARDDOWN shard 'B' (10.2.0.2:6379) and others redirected the command 6 times, at last by 'MOVED"),
    ),
    "when the connection is lost behind a refusal": (
        says("a", "SET bar 1", "SET bar 2"), answers("A", moved(BAR, "B")), cuts("A"), passes(SOON), sees("B"),
        hears("a", "-SHARDDOWN", "-UNCERTAIN"),
    ),
    "a read that is lost behind a refusal is sent again behind what was refused": (
        says("a", "SET bar 1", "GET bar"), answers("A", moved(BAR, "B")), cuts("A"), passes(SOON),
        sees("B", "SET bar 1"), answers("B", "+OK"), sees("A", "SET bar 1", "GET bar", "GET bar"),
        answers("A", moved(BAR, "B")), sees("B", "GET bar"), answers("B", "=1"), hears("a", "OK", "1"),
    ),
    "what was not sent yet does not overtake what was refused when its slot has moved": (
        says("a", "SET bar 1"), holds("A"), says("a", "APPEND bar 2"), sees("A", "SET bar 1"),
        answers("A", moved(BAR, "B")), passes(SOON), adopts(bar="B"), passes(SOON),
        sees("B", "SET bar 1", "APPEND bar 2"), answers("B", "+OK", ":2"), hears("a", "OK", "2"),
    ),
    "nor when its connection is lost": (
        says("a", "SET bar 1"), holds("A"), says("a", "APPEND bar 2"), answers("A", moved(BAR, "B")), cuts("A"),
        passes(SOON), holds("A", on=False), passes(SOON), sees("B", "SET bar 1"), answers("B", "+OK"),
        sees("A", "SET bar 1", "APPEND bar 2"), answers("A", moved(BAR, "B")), sees("B", "APPEND bar 2"),
        answers("B", ":2"), hears("a", "OK", "2"),
    ),
    "nor when it is sent after all": (
        says("a", "SET bar 1"), holds("A"), says("a", "APPEND bar 2"), answers("A", moved(BAR, "B")), passes(SOON),
        holds("A", on=False), sees("A", "SET bar 1", "APPEND bar 2"), answers("A", moved(BAR, "B")),
        sees("B", "SET bar 1", "APPEND bar 2"), answers("B", "+OK", ":2"), hears("a", "OK", "2"),
    ),
    "a request that is lost on its detour may have run": (
        says("a", "SET bar 1"), answers("A", ask(BAR, "B")), sees("B", "ASKING", "SET bar 1"), cuts("B"), passes(SOON),
        sees("B"), hears("a", "-UNCERTAIN shard 'B'"),
    ),
    "a read that is lost on its detour is sent again": (
        says("a", "GET bar"), answers("A", moved(BAR, "B")), cuts("B"), passes(SOON), sees("B", "GET bar"),
        sees("A", "GET bar", "GET bar"), answers("A", moved(BAR, "B")), sees("B", "GET bar"), answers("B", "=1"),
        hears("a", "1"),
    ),
    "a client that went away on its detour": (
        says("a", "SET bar 1"), answers("A", moved(BAR, "B")), lambda stage: stage.client("a").wire.cut(),
        answers("B", "+OK"), passes(SOON), says("b", "GET foo"), answers("B", "=x"), hears("b", "x"),
    ),
    "slots that move make a client wait for what it has in flight there": (
        says("a", "SET bar 1"), sees("A", "SET bar 1"), adopts(bar="B"), says("a", "GET bar"), passes(SOON), sees("B"),
        answers("A", "+OK"), hears("a", "OK"), sees("B", "GET bar"), answers("B", "=1"), hears("a", "1"),
    ),
    "and not those who have nothing there": (
        says("a", "SET bar 1"), says("b", "SET foo 1"), sees("B", "SET foo 1"), adopts(bar="B"), says("b", "GET bar"),
        sees("B", "GET bar"), answers("A", "+OK"), answers("B", "+OK", "=1"), hears("a", "OK"), hears("b", "OK", "1"),
    ),
    "what was not sent to a node that is gone goes where its slot is now": (
        cuts("A", shut=True), passes(SOON), says("a", "SET bar 1", "GET bar"), passes(SOON), adopts(bar="B"),
        sees("B", "SET bar 1"), answers("B", "+OK"), sees("B", "GET bar"), answers("B", "=1"), hears("a", "OK", "1"),
    ),
    "a slot that nobody serves is waited for": (
        adopts(gap=True), says("a", "SET bar 1", "GET foo"), passes(0.2), hears("a"), sees("A"), adopts(),
        passes(0.3), sees("A", "SET bar 1"), answers("A", "+OK"), answers("B", "=x"), hears("a", "OK", "x"),
    ),
    "but not for ever, and then no more": (
        adopts(gap=True), says("a", "SET bar 1"), passes(1.0), hears("a", NOBODY), says("a", "GET bar", "GET foo"),
        answers("B", "=x"), hears("a", NOBODY, "x"), says("a", "DBSIZE", "MGET bar foo"), answers("B", "*1", "=x"),
        hears("a", "-CLUSTERDOWN some slots", NOBODY), adopts(), says("a", "GET bar"), answers("A", "=1"),
        hears("a", "1"),
    ),
    "many that are redirected": (
        says("a", *[f"SET bar {number}" for number in range(500)]), answers("A", *[moved(BAR, "B")] * 500),
        sees("B", *[f"SET bar {number}" for number in range(500)]), answers("B", *["+OK"] * 500),
        hears("a", *["OK"] * 500),
    ),
    "an error that only looks like one": (
        says("a", "GET bar"), answers("A", "-MOVEDX 1 a:1"), hears("a", "-MOVEDX 1 a:1"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("steps", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_conversation(steps: Sequence[Step]) -> None:
    play(steps)
