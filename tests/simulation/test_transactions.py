"""Transactions when servers refuse, move slots, break off or fall silent; one conversation a row."""

from collections.abc import Sequence

import pytest

from tests.simulation import two_nodes as nodes
from tests.simulation.playbook import (
    REQUEST_TIMEOUT,
    RETRY_DEADLINE,
    Stage,
    Step,
    answers,
    cuts,
    door,
    ends,
    hears,
    leaves,
    passes,
    play,
    reads,
    says,
    sees,
)
from tests.simulation.two_nodes import BAR, TRYAGAIN, adopts, ask, moved

NOW = 0.1
"""Longer than the longest backoff."""
MANY = ["GET k"] * 6
"""More than the server's side takes when it does not read."""
DONE = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:2\r\n"
BLOCK = ("MULTI", "SET k 1", "INCR k", "EXEC")
"""What a client says, and a server sees."""
QUEUED = ("OK", "QUEUED", "QUEUED")
UNCERTAIN = "-UNCERTAIN shard 'alpha' (10.2.0.1:6379) {}: the command may or may not have been executed"
LOST = UNCERTAIN.format("closed the connection before it answered")
SILENT = UNCERTAIN.format("did not answer within 1 s")
TIMEOUT = "-TIMEOUT shard 'alpha' (10.2.0.1:6379) did not answer within 1 s"
GONE = "-SHARDDOWN shard 'alpha' *"

BLOCKS = {
    "nothing is sent before EXEC": (
        says("a", "MULTI", "SET k 1", "INCR k"), hears("a", *QUEUED), sees(), says("a", "EXEC"), sees(*BLOCK),
        answers(DONE), hears("a", "[[]b'OK', 2]"),
    ),
    "its replies may come in pieces": (
        says("a", *BLOCK), hears("a", *QUEUED), answers(DONE[:7]), answers(DONE[7:30]), hears("a"), answers(DONE[30:]),
        hears("a", "[[]b'OK', 2]"),
    ),
    "what stands before and behind keeps its place": (
        says("a", "SET k 0", *BLOCK, "GET k"), says("b", "GET x"), sees("SET k 0", *BLOCK, "GET k", "GET x"),
        answers(b"+OK\r\n", DONE, b"$1\r\n2\r\n", b"$1\r\nx\r\n"), hears("a", "OK", *QUEUED, "[[]b'OK', 2]", "2"),
        hears("b", "x"),
    ),
    "two in one write": (
        says("a", *BLOCK, *BLOCK), sees(*BLOCK, *BLOCK), answers(DONE, DONE),
        hears("a", *QUEUED, "[[]b'OK', 2]", *QUEUED, "[[]b'OK', 2]"),
    ),
    "others' requests do not come in between": (
        says("a", "MULTI", "SET k 1"), says("b", "SET x 1"), says("a", "INCR k", "EXEC"), sees("SET x 1", *BLOCK),
        answers(b"+OK\r\n", DONE), hears("b", "OK"), hears("a", *QUEUED, "[[]b'OK', 2]"),
    ),
    "what a server refuses to queue is told by EXEC": (
        says("a", *BLOCK), answers(b"+OK\r\n-OOM out of memory\r\n-ERR other\r\n-EXECABORT because of previous\r\n"),
        hears("a", *QUEUED, "-EXECABORT Transaction discarded because of: OOM out of memory"),
        says("a", "GET k"), answers(b"-ERR no\r\n"), hears("a", "-ERR no"),
    ),
    "a server that loads is asked again, with all of it": (
        says("a", *BLOCK), answers(b"+OK\r\n", b"-LOADING Redis\r\n" * 2, b"-EXECABORT because of previous\r\n"),
        passes(NOW), sees(*BLOCK, *BLOCK), answers(DONE), hears("a", *QUEUED, "[[]b'OK', 2]"),
    ),
    "a server that loads when EXEC comes": (
        says("a", *BLOCK),
        answers(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of: LOADING Redis\r\n"),
        passes(NOW), sees(*BLOCK, *BLOCK), answers(DONE), hears("a", *QUEUED, "[[]b'OK', 2]"),
    ),
    "a replica that has been a primary": (
        says("a", *BLOCK), answers(b"+OK\r\n", b"-READONLY You can't\r\n" * 2, b"-EXECABORT because of previous\r\n"),
        passes(NOW), sees(*BLOCK, *BLOCK), answers(DONE), hears("a", *QUEUED, "[[]b'OK', 2]"),
    ),
    "a server whose user may not use MULTI": (
        says("a", *BLOCK), answers(b"-NOPERM multi\r\n+OK\r\n:2\r\n-ERR EXEC without MULTI\r\n"),
        hears("a", *QUEUED, UNCERTAIN.format("refused MULTI with 'NOPERM multi'")),
    ),
    "one that may have run is not sent again": (
        says("a", *BLOCK, "GET x"), answers(b"+OK\r\n+QUEUED\r\n"), cuts(), passes(NOW), sees(*BLOCK, "GET x", "GET x"),
        answers(b"$1\r\nx\r\n"), hears("a", *QUEUED, LOST, "x"),
    ),
    "one that only reads is": (
        says("a", "MULTI", "GET k", "EXEC"), answers(b"+OK\r\n"), cuts(), passes(NOW),
        sees(*["MULTI", "GET k", "EXEC"] * 2), answers(b"+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n"),
        hears("a", "OK", "QUEUED", "[[]b'1']"),
    ),
    "one that was not written yet is sent whole": (
        reads(False), says("b", *MANY), says("a", *BLOCK), cuts(), passes(NOW), sees(*MANY, *BLOCK),
        answers(b"$-1\r\n" * 6, DONE), hears("a", *QUEUED, "[[]b'OK', 2]"), hears("b", *["None"] * 6),
    ),
    "one that is held while a server restarts": (
        door("shut"), cuts(), says("a", *BLOCK), hears("a", *QUEUED), door("open"), passes(NOW), sees(*BLOCK),
        answers(DONE), hears("a", "[[]b'OK', 2]"),
    ),
    "a server that is down for long": (
        door("shut"), cuts(), says("a", *BLOCK), passes(RETRY_DEADLINE + NOW), hears("a", *QUEUED, GONE),
        says("a", *BLOCK), hears("a", *QUEUED, GONE), sees(),
    ),
    "late replies are dropped, and those that follow reach who asked": (
        says("a", *BLOCK), passes(0.6), answers(b"+OK\r\n"), passes(0.5), hears("a", *QUEUED, SILENT),
        says("b", "GET x"), answers(b"-ERR late\r\n+QUEUED\r\n-EXECABORT late\r\n$1\r\nx\r\n"), hears("b", "x"),
        says("a", *BLOCK), answers(DONE), hears("a", *QUEUED, "[[]b'OK', 2]"),
    ),
    "what the server did not take in time was not executed": (
        reads(False), says("b", *MANY), says("a", *BLOCK), passes(REQUEST_TIMEOUT + NOW), hears("a", *QUEUED, GONE),
        hears("b", *[TIMEOUT] * 6), passes(NOW), says("b", "GET x"), passes(NOW), reads(True),
    ),
    "a client that leaves in the middle of one": (
        says("a", "MULTI", "SET k 1"), leaves("a"), says("b", "GET x"), sees("GET x"), answers(b"$1\r\nx\r\n"),
        hears("b", "x"),
    ),
    "a client that leaves behind EXEC": (
        says("a", *BLOCK), leaves("a"), says("b", "GET x"), sees(*BLOCK, "GET x"), answers(DONE, b"$1\r\nx\r\n"),
        hears("b", "x"),
    ),
    "a client that says no more behind EXEC hears the end": (
        says("a", *BLOCK), ends("a"), answers(DONE), hears("a", *QUEUED, "[[]b'OK', 2]", "closed"),
    ),
    "a large one": (
        says("a", "GET k", "MULTI", "SET k " + "v" * 50_000, "EXEC", "GET k"), passes(NOW),
        answers(b"$-1\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$1\r\n1\r\n"),
        hears("a", "None", "OK", "QUEUED", "[[]b'OK']", "1"),
    ),
}  # fmt: skip

OWN = {
    "what the proxy does itself is done when EXEC is answered": (
        says("a", "MULTI", "CLIENT SETNAME x", "GET k", "CLIENT GETNAME", "EXEC", "CLIENT GETNAME"),
        hears("a", *["OK"], *["QUEUED"] * 3), sees("MULTI", "GET k", "EXEC"),
        answers(b"+OK\r\n+QUEUED\r\n*1\r\n$-1\r\n"), hears("a", "[[]b'OK', None, b'x']", "x"),
    ),
    "and not at all when it is aborted": (
        says("a", "MULTI", "CLIENT SETNAME x", "GET k", "EXEC", "CLIENT GETNAME"),
        answers(b"+OK\r\n-OOM no\r\n-EXECABORT because of previous\r\n"),
        hears("a", "OK", "QUEUED", "QUEUED", "-EXECABORT Transaction discarded because of: OOM no", "None"),
    ),
    "nor when nobody knows": (
        says("a", "MULTI", "CLIENT SETNAME x", "INCR k", "EXEC", "CLIENT GETNAME"), cuts(), passes(NOW),
        hears("a", "OK", "QUEUED", "QUEUED", LOST, "None"),
    ),
    "nothing for a server": (
        says("a", "MULTI", "PING", "ECHO x", "EXEC", "MULTI", "EXEC"), sees(),
        hears("a", "OK", "QUEUED", "QUEUED", "[[]b'PONG', b'x']", "OK", "[[]]"),
    ),
}  # fmt: skip


def replaced(seconds: float) -> Step:
    """A failover of the shard is about to begin."""

    async def step(stage: Stage) -> None:
        stage.service.upstream.hold_shard("alpha", seconds)

    return step


WATCHED = ("WATCH k", "MULTI", "SET k 1", "EXEC")
WON = b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"

WATCHES = {
    "what follows waits until the watch stands": (
        says("a", *WATCHED), sees("WATCH k"), hears("a"), answers(b"+OK\r\n"),
        sees("MULTI", "SET k 1", "EXEC"), hears("a", "OK", "OK", "QUEUED"), answers(WON), hears("a", "[[]b'OK']"),
    ),
    "a watch waits for what was sent before it": (
        says("a", "SET k 1", "WATCH k"), sees("SET k 1"), passes(NOW), sees(), answers(b"+OK\r\n"),
        sees("WATCH k"), answers(b"+OK\r\n"), hears("a", "OK", "OK"),
    ),
    "a key that was changed": (
        says("a", *WATCHED), answers(b"+OK\r\n"), answers(b"+OK\r\n+QUEUED\r\n*-1\r\n"),
        hears("a", "OK", "OK", "QUEUED", "None"),
    ),
    "lost before EXEC": (
        says("a", "WATCH k"), answers(b"+OK\r\n"), cuts(), says("a", "MULTI", "SET k 1", "EXEC"),
        hears("a", "OK", "OK", "QUEUED", "None"), passes(NOW), sees("WATCH k"),
    ),
    "lost behind EXEC": (
        says("a", *WATCHED), answers(b"+OK\r\n"), sees("WATCH k", "MULTI", "SET k 1", "EXEC"), cuts(),
        passes(NOW), hears("a", "OK", "OK", "QUEUED", LOST), sees(),
    ),
    "lost behind EXEC of what only reads": (
        says("a", "WATCH k", "MULTI", "GET k", "EXEC"), answers(b"+OK\r\n"), cuts(), passes(NOW),
        hears("a", "OK", "OK", "QUEUED", "None"),
    ),
    "a watch that is lost is tried again": (
        says("a", "WATCH k"), sees("WATCH k"), cuts(), passes(NOW), sees("WATCH k"),
        answers(b"+OK\r\n"), hears("a", "OK"),
    ),
    "a server that loads is asked again": (
        says("a", "WATCH k"), answers(b"-LOADING Redis\r\n"), passes(NOW), sees("WATCH k", "WATCH k"),
        answers(b"+OK\r\n"), hears("a", "OK"),
    ),
    "a server that is down for long": (
        door("shut"), cuts(), says("a", "WATCH k", "MULTI", "PING", "EXEC"), passes(RETRY_DEADLINE + 3 * NOW),
        hears("a", GONE, "OK", "QUEUED", "[[]b'PONG']"),
    ),
    "a server that does not answer WATCH": (
        says("a", "WATCH k"), passes(REQUEST_TIMEOUT + NOW), hears("a", TIMEOUT),
    ),
    "a server that does not answer EXEC": (
        says("a", *WATCHED), answers(b"+OK\r\n"), passes(REQUEST_TIMEOUT + NOW),
        hears("a", "OK", "OK", "QUEUED", SILENT),
    ),
    "a server whose user may watch, and may not use MULTI": (
        says("a", *WATCHED), answers(b"+OK\r\n"), answers(b"-NOPERM multi\r\n+OK\r\n-ERR EXEC without MULTI\r\n"),
        hears("a", "OK", "OK", "QUEUED", UNCERTAIN.format("refused MULTI with 'NOPERM multi'")),
    ),
    "an error of WATCH is the client's": (
        says("a", "WATCH k", "MULTI", "PING", "EXEC"), answers(b"-NOPERM watch\r\n"),
        hears("a", "-NOPERM watch", "OK", "QUEUED", "[[]b'PONG']"),
    ),
    "what a server refuses to queue": (
        says("a", *WATCHED), answers(b"+OK\r\n"),
        answers(b"+OK\r\n-OOM no\r\n-EXECABORT because of previous\r\n"),
        hears("a", "OK", "OK", "QUEUED", "-EXECABORT Transaction discarded because of: OOM no"),
    ),
    "a server that became a replica": (
        says("a", *WATCHED), answers(b"+OK\r\n"),
        answers(b"+OK\r\n-READONLY You can't\r\n-EXECABORT because of previous\r\n"),
        hears("a", "OK", "OK", "QUEUED", "None"),
    ),
    "an empty transaction asks the server": (
        says("a", "WATCH k", "MULTI", "EXEC"), answers(b"+OK\r\n"), sees("WATCH k", "MULTI", "EXEC"),
        answers(b"+OK\r\n*-1\r\n"), hears("a", "OK", "OK", "None"),
    ),
    "more keys over the same connection": (
        says("a", "WATCH k", "WATCH l"), answers(b"+OK\r\n"), sees("WATCH k", "WATCH l"),
        answers(b"+OK\r\n"), hears("a", "OK", "OK"),
    ),
    "more keys when the first are lost": (
        says("a", "WATCH k"), answers(b"+OK\r\n"), cuts(), passes(NOW), sees("WATCH k"),
        says("a", "WATCH l", "MULTI", "SET k 1", "EXEC"), sees(), hears("a", "OK", "OK", "OK", "QUEUED", "None"),
    ),
    "a client that leaves before its watch stands": (
        says("a", "WATCH k"), sees("WATCH k"), leaves("a"), passes(NOW), says("b", "GET x"), sees("GET x"),
    ),
    "a client that leaves lets its watch go": (
        says("a", "WATCH k"), answers(b"+OK\r\n"), sees("WATCH k"), leaves("a"), sees("UNWATCH", "CLIENT INFO"),
    ),
    "a watch while the primary is about to be replaced": (
        replaced(0.3), says("a", "WATCH k"), passes(NOW), sees(), passes(0.3), sees("WATCH k"), answers(b"+OK\r\n"),
        hears("a", "OK"),
    ),
    "a primary that is about to be replaced under a watch": (
        says("a", "WATCH k"), answers(b"+OK\r\n"), replaced(0.3), says("a", "MULTI", "SET k 1", "EXEC"),
        hears("a", "OK", "OK", "QUEUED", "None"), sees("WATCH k", "UNWATCH", "CLIENT INFO"),
    ),
    "a database is chosen inside": (
        says("a", "MULTI", "SELECT 3", "SET k 1", "EXEC"), sees("MULTI", "SET k 1", "EXEC"),
        answers(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n"),
        hears("a", "OK", "QUEUED", "QUEUED", "[[]b'OK', b'OK']"),
    ),
    "a database that is not chosen, as it is aborted": (
        says("a", "MULTI", "SELECT 3", "SET k 1", "EXEC"),
        answers(b"+OK\r\n+QUEUED\r\n-OOM no\r\n-EXECABORT because of previous\r\n"), says("a", "CLIENT INFO"),
        hears("a", "OK", "QUEUED", "QUEUED", "-EXECABORT Transaction discarded because of: OOM no", "* db=0 *"),
    ),
}  # fmt: skip


AT_BAR = ("MULTI", "SET bar 1", "INCR bar", "EXEC")
PREVIOUS = "-EXECABORT Transaction discarded because of previous errors."
RESULT = ("*2", "+OK", ":2")
TOOK = ("+OK", "+QUEUED", "+QUEUED", *RESULT)
SOON = 0.05
HEARD = ("OK", "QUEUED", "QUEUED")

MOVING = {
    "a transaction is redirected as a whole": (
        nodes.says("a", *AT_BAR), nodes.sees("A", *AT_BAR),
        nodes.answers("A", "+OK", moved(BAR, "B"), moved(BAR, "B"), PREVIOUS), nodes.sees("B", *AT_BAR),
        nodes.answers("B", *TOOK), nodes.hears("a", *HEARD, "[b'OK', 2]"),
    ),
    "and when EXEC is": (
        nodes.says("a", *AT_BAR), nodes.answers("A", "+OK", "+QUEUED", "+QUEUED", moved(BAR, "B")),
        nodes.sees("B", *AT_BAR), nodes.answers("B", *TOOK), nodes.hears("a", *HEARD, "[b'OK', 2]"),
    ),
    "asking goes before all of it": (
        nodes.says("a", *AT_BAR), nodes.answers("A", "+OK", "+QUEUED", ask(BAR, "B"), PREVIOUS),
        nodes.sees("B", "ASKING", *AT_BAR), nodes.answers("B", "+OK", *TOOK), nodes.hears("a", *HEARD, "[b'OK', 2]"),
    ),
    "half moved keys are waited for": (
        nodes.says("a", *AT_BAR), nodes.answers("A", "+OK", "+QUEUED", TRYAGAIN, PREVIOUS), nodes.passes(SOON),
        nodes.sees("A", *AT_BAR, *AT_BAR), nodes.answers("A", *TOOK), nodes.hears("a", *HEARD, "[b'OK', 2]"),
    ),
    "two of one client, and what is between them, keep their order": (
        nodes.says("a", *AT_BAR, "SET bar 5", *AT_BAR),
        nodes.answers("A", "+OK", moved(BAR, "B"), moved(BAR, "B"), PREVIOUS, moved(BAR, "B")),
        nodes.answers("A", "+OK", moved(BAR, "B"), moved(BAR, "B"), PREVIOUS),
        nodes.sees("B", *AT_BAR, "SET bar 5", *AT_BAR), nodes.answers("B", *TOOK, "+OK", *TOOK),
        nodes.hears("a", *HEARD, "[b'OK', 2]", "OK", *HEARD, "[b'OK', 2]"),
    ),
    "what a later one has overtaken is not sent again": (
        nodes.says("a", *AT_BAR, "SET bar 5"), nodes.answers("A", "+OK", moved(BAR, "B"), moved(BAR, "B"), PREVIOUS),
        nodes.answers("A", "+OK"), nodes.passes(SOON), nodes.sees("B"),
        nodes.hears("a", *HEARD, "-SHARDDOWN shard 'A'", "OK"),
    ),
    "another client's between its parts and others' behind it": (
        nodes.says("a", *AT_BAR), nodes.says("b", "GET bar"),
        nodes.answers("A", "+OK", moved(BAR, "B"), moved(BAR, "B"), PREVIOUS, "=0"), nodes.hears("b", "0"),
        nodes.sees("B", *AT_BAR), nodes.answers("B", *TOOK), nodes.hears("a", *HEARD, "[b'OK', 2]"),
    ),
    "one that is lost on its detour may have run": (
        nodes.says("a", *AT_BAR), nodes.answers("A", "+OK", "+QUEUED", ask(BAR, "B"), PREVIOUS),
        nodes.sees("B", "ASKING", *AT_BAR), nodes.cuts("B"), nodes.passes(SOON), nodes.sees("B"),
        nodes.hears("a", *HEARD, "-UNCERTAIN shard 'B'"),
    ),
    "one whose slot moved before it was written": (
        nodes.cuts("A", shut=True), nodes.passes(SOON), nodes.says("a", *AT_BAR), nodes.passes(SOON), adopts(bar="B"),
        nodes.sees("B", *AT_BAR), nodes.answers("B", *TOOK), nodes.hears("a", *HEARD, "[b'OK', 2]"),
    ),
    "keys in several slots": (
        nodes.says("a", "MULTI", "SET bar 1", "SET foo 1", "EXEC"), nodes.sees("A"), nodes.sees("B"),
        nodes.hears("a", *HEARD, "-CROSSSLOT"),
    ),
    "without keys": (
        nodes.says("a", "MULTI", "TIME", "EXEC"), nodes.sees("A", "MULTI", "TIME", "EXEC"),
        nodes.answers("A", "+OK", "+QUEUED", "*1", ":1"), nodes.hears("a", "OK", "QUEUED", "[1]"),
    ),
    "a slot that nobody serves is waited for": (
        adopts(gap=True), nodes.says("a", *AT_BAR), nodes.passes(0.2), nodes.sees("A"), adopts(), nodes.passes(0.3),
        nodes.sees("A", *AT_BAR), nodes.answers("A", *TOOK), nodes.hears("a", *HEARD, "[b'OK', 2]"),
    ),
    "a watch follows a redirection": (
        nodes.says("a", "WATCH bar", *AT_BAR), nodes.sees("A", "WATCH bar"), nodes.answers("A", moved(BAR, "B")),
        nodes.passes(SOON), nodes.sees("B", "WATCH bar"), nodes.answers("B", "+OK"), nodes.sees("B", *AT_BAR),
        nodes.answers("B", *TOOK), nodes.hears("a", "OK", *HEARD, "[b'OK', 2]"),
    ),
    "what the proxy learns behind a redirection does not break a watch": (
        nodes.says("a", "WATCH bar"), nodes.answers("A", moved(BAR, "B")), nodes.passes(SOON),
        nodes.sees("B", "WATCH bar"), nodes.answers("B", "+OK"), adopts(bar="B"), nodes.says("a", *AT_BAR),
        nodes.sees("B", *AT_BAR), nodes.answers("B", *TOOK), nodes.hears("a", "OK", *HEARD, "[b'OK', 2]"),
    ),
    "a watch on a key that is on its way": (
        nodes.says("a", "WATCH bar", *AT_BAR), nodes.answers("A", ask(BAR, "B")), nodes.passes(SOON),
        nodes.sees("B", "ASKING", "WATCH bar"), nodes.answers("B", "+OK", "+OK"), nodes.sees("B", "ASKING", *AT_BAR),
        nodes.answers("B", "+OK", *TOOK), nodes.hears("a", "OK", *HEARD, "[b'OK', 2]"),
    ),
    "a watch that is sent to a node that is gone": (
        nodes.cuts("B", shut=True), nodes.passes(SOON), nodes.says("a", "WATCH bar"),
        nodes.answers("A", moved(BAR, "B")), nodes.passes(SOON), nodes.sees("A", "WATCH bar", "WATCH bar"),
        nodes.answers("A", "+OK"), nodes.hears("a", "OK"),
    ),
    "nodes that name each other end somewhere": (
        nodes.says("a", "WATCH bar"),
        *[step for _ in range(4) for step in (
            nodes.answers("A", moved(BAR, "B")), nodes.passes(0.1), nodes.answers("B", moved(BAR, "A")),
            nodes.passes(0.1),
        )][:-3],
        nodes.hears("a", "-SHARDDOWN shard 'B' (10.2.0.2:6379) and others redirected the command 6 times"),
    ),
    "a watch waits until its slot is served": (
        adopts(gap=True), nodes.says("a", "WATCH bar"), nodes.passes(0.2), adopts(), nodes.passes(0.3),
        nodes.sees("A", "WATCH bar"), nodes.answers("A", "+OK"), nodes.hears("a", "OK"),
    ),
    "a slot that moved under a watch": (
        nodes.says("a", "WATCH bar"), nodes.answers("A", "+OK"), nodes.hears("a", "OK"), adopts(bar="B"),
        nodes.sees("A", "WATCH bar"), nodes.says("a", *AT_BAR), nodes.hears("a", *HEARD, "None"), nodes.sees("B"),
        nodes.sees("A", "UNWATCH", "CLIENT INFO"),
    ),
    "a slot that moved under a watch, as the node knows first": (
        nodes.says("a", "WATCH bar", *AT_BAR), nodes.answers("A", "+OK"),
        nodes.answers("A", "+OK", "+QUEUED", "+QUEUED", moved(BAR, "B")), nodes.hears("a", "OK", *HEARD, "None"),
    ),
    "keys that are half moved under a watch": (
        nodes.says("a", "WATCH bar", *AT_BAR), nodes.answers("A", "+OK"),
        nodes.answers("A", "+OK", "+QUEUED", TRYAGAIN, PREVIOUS), nodes.hears("a", "OK", *HEARD, "None"),
    ),
    "reads behind a watch go to the primary of their own slot": (
        nodes.says("a", "WATCH bar", "GET foo"), nodes.answers("A", "+OK"), nodes.sees("B", "GET foo"),
        nodes.answers("B", "=f"), nodes.hears("a", "OK", "f"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in BLOCKS.items()])
def test_a_block_on_a_shared_connection(steps: Sequence[Step]) -> None:
    play(steps)


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in OWN.items()])
def test_what_the_proxy_does_itself(steps: Sequence[Step]) -> None:
    play(steps)


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in WATCHES.items()])
def test_a_connection_of_its_own(steps: Sequence[Step]) -> None:
    play(steps)


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in MOVING.items()])
def test_slots_that_move(steps: Sequence[nodes.Step]) -> None:
    nodes.play(steps)
