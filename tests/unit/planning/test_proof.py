"""Errors of code that clients write: what a server could have said, and the twin that shows whether it did."""

import pytest

from proxy.commands.facts import Fact
from proxy.commands.table import CommandTable
from proxy.planning import proof
from proxy.planning.proof import Doubt
from proxy.planning.refusals import Refusal, refusal
from proxy.sharding.topology import Node

TABLE = CommandTable.builtin()
NODE = Node("10.0.0.1", 7000)
SHA = b"a" * 40
FLAGGED = b"#!lua flags=no-writes\nreturn 1"
KEPT = {SHA: b"return 1", b"b" * 40: FLAGGED}


def fact(words: str) -> Fact:
    found = TABLE.resolve(words.encode().split())
    assert found is not None
    return found


MODULE = Fact("m.set", -2, frozenset({"write", "module"}))
READING = Fact("m.get", -2, frozenset({"readonly", "module"}))


@pytest.mark.parametrize("name", ["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro", "debug"])
def test_code_words_its_own_errors(name: str) -> None:
    assert proof.runs_code(fact(name))


def test_so_do_modules_and_what_nobody_knows() -> None:
    assert proof.runs_code(MODULE)
    assert proof.runs_code(None)


@pytest.mark.parametrize("name", ["get", "set", "mget", "script load", "script exists", "function load", "publish"])
def test_other_commands_do_not(name: str) -> None:
    assert not proof.runs_code(fact(name))


@pytest.mark.parametrize(
    ("error", "slots", "writing", "may_be"),
    [
        ("MOVED 5 a:1", (5,), False, True),
        ("MOVED 5 a:1", (5, 5), False, True),
        ("MOVED 6 a:1", (5,), False, False),
        ("MOVED 6 a:1", (5, 6), False, False),
        ("MOVED 5 a:1", (), True, False),
        ("ASK 5 a:1", (5,), False, True),
        ("ASK 6 a:1", (5,), False, False),
        ("TRYAGAIN x", (5, 5), False, True),
        ("TRYAGAIN x", (5,), False, False),
        ("CLUSTERDOWN x", (5,), False, True),
        ("CLUSTERDOWN x", (), False, False),
        ("READONLY x", (5,), True, True),
        ("READONLY x", (5,), False, False),
        ("LOADING x", (), False, True),
        ("MASTERDOWN x", (5,), False, True),
    ],
)
def test_what_a_server_could_have_said(error: str, slots: tuple[int, ...], writing: bool, may_be: bool) -> None:
    frame = f"-{error}\r\n".encode()
    found = refusal(frame, NODE, True, {})
    assert found is not None
    doubt = Doubt(found.kind, frame, b"", lambda reply, node: None, slots, writing)
    assert doubt.plausible(found) is may_be


@pytest.mark.parametrize(
    ("words", "writing"),
    [
        ((b"eval", b"return 1", b"0"), False),
        ((b"eval", FLAGGED, b"0"), True),
        ((b"eval_ro", FLAGGED, b"0"), False),
        ((b"evalsha", SHA, b"0"), False),
        ((b"evalsha", SHA.upper(), b"0"), False),
        ((b"evalsha", b"b" * 40, b"0"), True),
        ((b"evalsha", b"c" * 40, b"0"), True),
        ((b"fcall", b"f", b"0"), True),
        ((b"fcall_ro", b"f", b"0"), False),
    ],
)
def test_what_is_checked_for_writes(words: tuple[bytes, ...], writing: bool) -> None:
    """What no one has kept may be flagged."""
    assert proof.checked_for_writes(TABLE.resolve(words), words, KEPT.get) is writing


def test_modules_that_write_are_checked() -> None:
    assert proof.checked_for_writes(MODULE, (b"m.set", b"k"), KEPT.get)
    assert not proof.checked_for_writes(READING, (b"m.get", b"k"), KEPT.get)


@pytest.mark.parametrize(
    ("kind", "found", "writing", "twin"),
    [
        ("MOVED", fact("eval"), False, (b"EVAL", b"return 1", b"2", b"a", b"b")),
        ("MOVED", fact("eval"), True, (b"EVAL", b"#!lua\nreturn 1", b"2", b"a", b"b")),
        ("READONLY", fact("fcall"), True, (b"EVAL", b"#!lua\nreturn 1", b"2", b"a", b"b")),
        ("ASK", fact("fcall_ro"), False, (b"EVAL_RO", b"return 1", b"2", b"a", b"b")),
        ("TRYAGAIN", MODULE, True, (b"EVAL", b"return 1", b"2", b"a", b"b")),
        ("READONLY", MODULE, True, (b"ROLE",)),
    ],
)
def test_the_twin(kind: str, found: Fact, writing: bool, twin: tuple[bytes, ...]) -> None:
    frame = proof.twin(kind, found, (b"a", b"b"), writing)
    assert frame.split(b"\r\n")[2::2] == list(twin)


@pytest.mark.parametrize(
    ("found", "twin"),
    [
        (fact("eval"), ()),
        (fact("eval_ro"), ()),
        (fact("evalsha"), (b"EVALSHA", b"-", b"2", b"a", b"b")),
        (fact("evalsha_ro"), (b"EVALSHA_RO", b"-", b"2", b"a", b"b")),
        (fact("fcall"), (b"FCALL", b"-", b"2", b"a", b"b")),
        (fact("fcall_ro"), (b"FCALL_RO", b"-", b"2", b"a", b"b")),
        (MODULE, (b"EXISTS", b"a", b"b")),
        (READING, (b"EXISTS", b"a", b"b")),
        (None, ()),
    ],
)
def test_the_twin_of_a_user_that_may_not_send_eval(found: Fact | None, twin: tuple[bytes, ...]) -> None:
    frame = proof.allowed_twin(found, (b"a", b"b"))
    assert frame.split(b"\r\n")[2::2] == list(twin)
    assert proof.allowed_twin(found, ()) == b""
    doubt = Doubt("MOVED", b"-MOVED 1 a:1\r\n", b"TWIN", lambda reply, node: None, allowed=frame)
    assert doubt.denied(b"-MOVED 1 a:1\r\n") is None
    other = doubt.denied(b"-NOPERM this user has no permissions to run the 'eval' command\r\n")
    assert (other.twin if other else b"") == frame
    assert other is None or other.denied(b"-NOPERM no\r\n") is None


def test_what_proves() -> None:
    assert proof.missing(b"*1\r\n:0\r\n")
    assert not proof.missing(b"*1\r\n:1\r\n")
    assert not proof.missing(b"-LOADING x\r\n")
    assert not proof.missing(b"")
    assert proof.replicates(b"*5\r\n$5\r\nslave\r\n$1\r\nh\r\n")
    assert not proof.replicates(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")
    assert not proof.replicates(b"")


@pytest.mark.parametrize(
    "error",
    [
        "MOVED 866 127.0.0.1:\N{SUPERSCRIPT TWO}",
        "MOVED \N{SUPERSCRIPT TWO} 127.0.0.1:1",
        f"MOVED {'9' * 5000} a:1",
        f"MOVED 1 a:{'9' * 5000}",
        "MOVED 1  a:1",
        "MOVED 1 a:1 ",
    ],
)
def test_odd_numbers_are_no_redirection(error: str) -> None:
    """And no exception either."""
    assert refusal(f"-{error}\r\n".encode("latin-1"), NODE, True, {}) is None


def test_a_refusal_is_what_the_twin_was_told() -> None:
    assert refusal(b"-MOVED 1 b:2\r\n", NODE, True, {}) == Refusal("MOVED", b"-MOVED 1 b:2\r\n", Node("b", 2))
