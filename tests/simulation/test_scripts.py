"""Scripts that are called by their digest: where they are loaded ahead, and what becomes of NOSCRIPT; one conversation
a row. The nodes and the steps are those of ``two_nodes``."""

from hashlib import sha1

import pytest

from tests.simulation.two_nodes import (
    BAR,
    SOON,
    TRYAGAIN,
    Step,
    TwoNodes,
    adopts,
    answers,
    ask,
    cuts,
    hears,
    moved,
    passes,
    play,
    says,
    sees,
)

LOAD, SHA = "SCRIPT LOAD return1", sha1(b"return1").hexdigest()
CALL = f"EVALSHA {SHA} 1 bar"
UPPER = CALL.replace(SHA, SHA.upper())
NOSCRIPT = "-NOSCRIPT No matching script. Please use EVAL."
EXISTS, ABSENT, THERE = f"SCRIPT EXISTS {SHA}", "*1\r\n:0", "*1\r\n:1"
"""What shows whether the server says so, or the script itself."""
CALLED = "EVAL return1 1 bar"
EXECABORT = f"-EXECABORT Transaction discarded because of: MOVED {BAR} 10.2.0.2:6379"
TWIN = "EVAL return 1 1 bar"
"""What shows whether a redirection is the server's."""
KNOWN = (says("a", "EVAL return1 1 bar"), sees("A", "EVAL return1 1 bar"), answers("A", "=1"), hears("a", "1"))
BOTH = (says("b", CALLED), sees("A", CALLED), answers("A", "=1"), hears("b", "1"))
"""Both clients call scripts, so they share a connection."""
LOADED = (*KNOWN, says("a", CALL), sees("A", LOAD, CALL), answers("A", f"={SHA}", "=1"), hears("a", "1"))


def redirected(nodes: TwoNodes) -> None:
    """The topology is not looked at for a script that is missing."""
    assert nodes.service.counters.redirections == {"NOSCRIPT": 1}


CONVERSATIONS: dict[str, tuple[Step, ...]] = {
    "a script is loaded ahead of its first call": LOADED,
    "and not again": (*LOADED, says("b", CALL, CALL.upper()[:7] + CALL[7:]), sees("A", CALL, CALL)),
    "a digest may be in upper case": (*KNOWN, says("a", UPPER), sees("A", LOAD, UPPER)),
    "on every node": (
        *LOADED, says("a", f"EVALSHA {SHA} 1 foo", f"EVALSHA_RO {SHA} 1 foo"),
        sees("B", LOAD, f"EVALSHA {SHA} 1 foo", f"EVALSHA_RO {SHA} 1 foo"), answers("B", f"={SHA}", "=1", "=2"),
        hears("a", "1", "2"),
    ),
    "what nobody has sent is not loaded": (
        says("a", CALL), sees("A", CALL), answers("A", NOSCRIPT), hears("a", NOSCRIPT), passes(SOON), sees("A"),
    ),
    "what SCRIPT LOAD brought is known": (
        says("a", LOAD), sees("A", LOAD), sees("B", LOAD), answers("A", f"={SHA}"), answers("B", f"={SHA}"),
        hears("a", SHA), says("a", CALL), sees("A", LOAD, CALL), answers("A", f"={SHA}", "=1"), hears("a", "1"),
    ),
    "what SCRIPT FLUSH took away is not": (
        *LOADED, says("a", "SCRIPT FLUSH"), answers("A", "+OK"), answers("B", "+OK"), hears("a", "OK"),
        sees("A", "SCRIPT FLUSH"), says("a", CALL), sees("A", CALL), answers("A", NOSCRIPT), hears("a", NOSCRIPT),
    ),
    "SCRIPT FLUSH with an argument that is wrong takes nothing": (
        *KNOWN, says("a", "SCRIPT FLUSH WHAT"), answers("A", "-ERR x"), answers("B", "-ERR x"), hears("a", "-ERR x"),
        sees("A", "SCRIPT FLUSH WHAT"), says("a", CALL), sees("A", LOAD, CALL),
    ),
    "SCRIPT EXISTS is asked where it would be called": (
        *KNOWN, says("a", f"SCRIPT EXISTS {SHA} x"), sees("A", LOAD, f"SCRIPT EXISTS {SHA} x"),
        sees("B", LOAD, f"SCRIPT EXISTS {SHA} x"), answers("A", f"={SHA}", "*2\r\n:1\r\n:0"),
        answers("B", f"={SHA}", "*2\r\n:1\r\n:0"), hears("a", "[1, 0]"),
    ),
    "a connection that is lost has had nothing": (
        *LOADED, cuts("A"), passes(SOON), says("a", CALL), sees("A", LOAD, CALL), answers("A", f"={SHA}", "=1"),
        hears("a", "1"),
    ),
    "a script that a server lost is loaded again": (
        *LOADED, says("a", CALL), sees("A", CALL), answers("A", NOSCRIPT), sees("A", EXISTS), answers("A", ABSENT),
        sees("A", LOAD, CALL), answers("A", f"={SHA}", "=1"), hears("a", "1"), redirected,
    ),
    "one that says so itself has run": (
        *LOADED, says("a", CALL), sees("A", CALL), answers("A", NOSCRIPT), sees("A", EXISTS), hears("a"),
        answers("A", THERE), hears("a", NOSCRIPT), passes(SOON), sees("A"),
    ),
    "in order": (
        *LOADED, says("a", "SET bar 1", CALL, CALL), sees("A", "SET bar 1", CALL, CALL),
        answers("A", "+OK", NOSCRIPT, NOSCRIPT), sees("A", EXISTS, EXISTS), answers("A", ABSENT, ABSENT),
        sees("A", LOAD, CALL, CALL), answers("A", f"={SHA}", "=1", "=2"), hears("a", "OK", "1", "2"),
    ),
    "but not behind what has run": (
        *LOADED, says("a", CALL, "GET bar"), sees("A", CALL, "GET bar"), answers("A", NOSCRIPT, "=1"),
        sees("A", EXISTS), answers("A", ABSENT), hears("a", NOSCRIPT, "1"), passes(SOON), sees("A"),
    ),
    "what can not be loaded is given up": (
        *LOADED, says("a", CALL), sees("A", CALL), answers("A", NOSCRIPT), sees("A", EXISTS), answers("A", ABSENT),
        sees("A", LOAD, CALL), answers("A", "-ERR Error compiling script", NOSCRIPT), sees("A", EXISTS),
        answers("A", ABSENT), hears("a", NOSCRIPT), passes(SOON), sees("A"),
    ),
    "a redirection has it loaded there": (
        *LOADED, says("a", CALL), sees("A", CALL), answers("A", moved(BAR, "B")), sees("A", TWIN), sees("B"),
        answers("A", moved(BAR, "B")), sees("B", LOAD, TWIN, CALL), answers("B", f"={SHA}", ":1", "=1"),
        hears("a", "1"),
    ),
    "not between ASKING and what is asked": (
        *LOADED, says("a", CALL), sees("A", CALL), answers("A", ask(BAR, "B")), sees("A", TWIN),
        answers("A", ask(BAR, "B")), sees("B", LOAD, "ASKING", TWIN, "ASKING", CALL),
        answers("B", f"={SHA}", "+OK", ":1", "+OK", "=1"), hears("a", "1"),
    ),
    "what a script says of a redirection is data": (
        *KNOWN, says("a", CALLED), sees("A", CALLED), answers("A", moved(BAR, "B")), sees("A", TWIN), hears("a"),
        answers("A", ":1"), hears("a", moved(BAR, "B")), passes(SOON), sees("A"), sees("B"),
    ),
    "at once if it is of another slot": (
        *KNOWN, says("a", CALLED), sees("A", CALLED), answers("A", moved(BAR + 1, "B")),
        hears("a", moved(BAR + 1, "B")), sees("A"), sees("B"),
    ),
    "or needs more keys than there are": (
        *KNOWN, says("a", CALLED), sees("A", CALLED), answers("A", TRYAGAIN), hears("a", TRYAGAIN), sees("A"),
    ),
    "as why EXEC failed": (
        *KNOWN, says("a", CALLED), sees("A", CALLED), answers("A", EXECABORT), hears("a", EXECABORT), sees("A"),
    ),
    "what the client sends meanwhile waits": (
        *KNOWN, says("a", CALLED, "GET bar"), sees("A", CALLED, "GET bar"), answers("A", moved(BAR, "B")),
        says("a", "GET foo"), sees("B"), sees("A", TWIN), answers("A", "=2", ":1"), hears("a", moved(BAR, "B"), "2"),
        sees("B", "GET foo"), answers("B", "=3"), hears("a", "3"),
    ),
    "and goes with it if it is the server's": (
        *KNOWN, says("a", CALLED, CALLED), sees("A", CALLED, CALLED), answers("A", moved(BAR, "B"), moved(BAR, "B")),
        sees("A", TWIN, TWIN), answers("A", moved(BAR, "B"), moved(BAR, "B")), sees("B", TWIN, CALLED, TWIN, CALLED),
        answers("B", ":1", "=2", ":1", "=3"), hears("a", "2", "3"),
    ),
    "others do not wait for it": (
        *KNOWN, *BOTH, says("a", CALLED), answers("A", moved(BAR, "B")), says("b", "GET bar"),
        sees("A", CALLED, TWIN, "GET bar"), answers("A", ":1", "=2"), hears("a", moved(BAR, "B")), hears("b", "2"),
    ),
    "what can not be proven is passed on": (
        *KNOWN, says("a", CALLED), answers("A", moved(BAR, "B")), sees("A", CALLED, TWIN), cuts("A"),
        hears("a", moved(BAR, "B")), passes(SOON), sees("B"),
    ),
    "where the redirection goes is what the twin was told": (
        *KNOWN, says("a", CALLED), answers("A", moved(BAR, "A")), sees("A", CALLED, TWIN), answers("A", ask(BAR, "B")),
        sees("B", "ASKING", TWIN, "ASKING", CALLED), answers("B", "+OK", ":1", "+OK", "=2"), hears("a", "2"),
    ),
    "while slots move the twin goes ahead": (
        *KNOWN, *BOTH, says("b", "GET bar"), sees("A", "GET bar"), answers("A", moved(BAR, "B")), sees("B", "GET bar"),
        answers("B", "=1"), hears("b", "1"), says("a", CALLED), sees("A", TWIN, CALLED),
        answers("A", moved(BAR, "B"), moved(BAR, "B")), sees("A"), sees("B", TWIN, CALLED),
        answers("B", ":1", "=2"), hears("a", "2"), says("a", CALLED), sees("A", TWIN, CALLED),
        answers("A", ":1", moved(BAR, "B")), sees("A", TWIN), answers("A", ":1"), hears("a", moved(BAR, "B")),
        passes(3.0), says("a", CALLED), sees("A", CALLED), answers("A", "=3"), hears("a", "3"),
    ),
    "nothing is made of it inside EXEC": (
        *KNOWN, says("a", "MULTI", CALLED, "EXEC"), sees("A", "MULTI", CALLED, "EXEC"),
        answers("A", "+OK", "+QUEUED", "*1", moved(BAR, "B")), hears("a", "OK", "QUEUED", "["), sees("A"), sees("B"),
    ),
    "a new primary has it loaded": (
        *LOADED, adopts(bar="B"), says("a", CALL), sees("B", LOAD, CALL), answers("B", f"={SHA}", "=1"),
        hears("a", "1"),
    ),
    "what waited for a lost server too": (
        *LOADED, cuts("A", shut=True), says("a", CALL, "GET bar"), passes(SOON), adopts(bar="B"), passes(SOON),
        sees("B", LOAD, CALL), answers("B", f"={SHA}", "=1"), sees("B", "GET bar"), answers("B", "=2"),
        hears("a", "1", "2"),
    ),
    "what may have run is not sent again": (
        *LOADED, says("a", CALL), sees("A", CALL), cuts("A"), passes(SOON), hears("a", "-UNCERTAIN"), sees("A"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("steps", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_conversation(steps: tuple[Step, ...]) -> None:
    play(steps)
