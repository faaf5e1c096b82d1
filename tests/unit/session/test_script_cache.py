"""Scripts by their body: what is kept, for how long, and what is sent ahead of which call."""

from collections.abc import Hashable
from hashlib import sha1

import pytest

from proxy.engine.jobs import at_once
from proxy.engine.sink import DISCARD, Sink
from proxy.planning import exec_block
from proxy.planning.refusals import NOSCRIPT, Refusal
from proxy.resp import encode
from proxy.session.script_cache import NOT_FOUND, Scripts, calls_by_digest

REDIS, VALKEY = sorted(NOT_FOUND, key=len, reverse=True)


def digest(body: bytes) -> bytes:
    return sha1(body).hexdigest().encode()


def load(body: bytes) -> bytes:
    return encode.request((b"SCRIPT", b"LOAD", body))


def called(scripts: Scripts, body: bytes, connection: Hashable | None = None) -> list[bytes]:
    return scripts.ahead(connection, [("evalsha", [b"EVALSHA", digest(body), b"0"])])


class Wired:
    """A connection that keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, sink: Sink, token: int, frame: bytes, since: float, holder: None) -> None:
        assert sink is DISCARD
        assert (token, since) == (0, 7.5)
        self.sent.append(frame)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("eval", [b"EVAL", b"body", b"0"]),
        ("eval_ro", [b"EVAL_RO", b"body", b"0"]),
        ("script|load", [b"SCRIPT", b"LOAD", b"body"]),
    ],
)
def test_what_brings_a_script(name: str, args: list[bytes]) -> None:
    scripts = Scripts(10, 1000)
    scripts.prepare(name, args, (), 7.5)
    assert called(scripts, b"body") == [load(b"body")]


@pytest.mark.parametrize("name", ["fcall", "function|load", "script|kill", "eval_x"])
def test_what_brings_none(name: str) -> None:
    scripts = Scripts(10, 1000)
    scripts.prepare(name, [b"X", b"body", b"body"], (Wired(),), 7.5)
    assert not len(scripts)


def test_a_connection_is_sent_it_once() -> None:
    scripts, one, other = Scripts(10, 1000), Wired(), Wired()
    scripts.keep(b"body")
    for _ in range(2):
        scripts.prepare("evalsha", [b"EVALSHA", digest(b"body").upper()], (one, None, other), 7.5)
    assert one.sent == other.sent == [load(b"body")]
    scripts.forget(one)
    scripts.prepare("evalsha_ro", [b"evalsha_ro", digest(b"body")], (one, other), 7.5)
    assert (len(one.sent), len(other.sent)) == (2, 1)
    assert scripts.loads == 3


def test_of_nobody_nothing_is_remembered() -> None:
    scripts = Scripts(10, 1000)
    scripts.keep(b"body")
    assert called(scripts, b"body") == called(scripts, b"body") == [load(b"body")]


def test_a_block_brings_its_own_and_is_sent_each_once() -> None:
    scripts, one, two = Scripts(10, 1000), b"one", b"two"
    calls = [
        ("evalsha", [b"EVALSHA", digest(one), b"0"]),
        ("eval", [b"EVAL", one, b"0"]),
        ("evalsha", [b"EVALSHA", digest(one), b"0"]),
        ("script|load", [b"SCRIPT", b"LOAD", two]),
        ("get", [b"GET", digest(two)]),
        ("script|exists", [b"SCRIPT", b"EXISTS", digest(one), digest(two), b"x"]),
    ]
    assert scripts.ahead(None, calls) == [load(one), load(two)]
    assert scripts.ahead("it", calls[:1]) == [load(one)]
    assert scripts.ahead("it", calls) == [load(two)]


def test_very_many_calls_are_looked_at_some_at_a_time() -> None:
    scripts, connection = Scripts(10, 1000), Wired()
    scripts.keep(b"body")
    calls = [("eval", [b"EVAL", b"return %d" % number, b"0"]) for number in range(500)]
    calls.append(("evalsha", [b"EVALSHA", digest(b"body"), b"0"]))
    steps = 0
    for enough in scripts.preparing(calls[-1:] + calls, connection, 7.5):
        assert not enough
        assert not connection.sent
        steps += 1
    assert steps > 5
    assert connection.sent == [load(b"body")]


def test_of_very_many_digests_those_of_kept_scripts() -> None:
    scripts = Scripts(10, 1000)
    scripts.keep(b"body")
    wanted = digest(b"body").upper()
    job = scripts.kept_among([b"SCRIPT", b"EXISTS", *[b"x"] * 500, wanted, *[b"x"] * 500])
    assert len(list(job)) > 5
    assert at_once(scripts.kept_among([b"SCRIPT", b"EXISTS", b"x", wanted])) == [b"SCRIPT", b"EXISTS", wanted]


class TestBounds:
    def test_in_number_the_one_not_used_longest_goes(self) -> None:
        scripts = Scripts(2, 1000)
        for body in (b"a", b"b", b"a", b"c"):
            scripts.keep(body)
        assert [bool(called(scripts, body)) for body in (b"a", b"b", b"c")] == [True, False, True]
        assert called(scripts, b"a")
        scripts.keep(b"d")
        assert [bool(called(scripts, body)) for body in (b"a", b"c", b"d")] == [True, False, True]

    def test_in_bytes(self) -> None:
        scripts = Scripts(100, 10)
        for body in (b"1234", b"5678", b"9abc"):
            scripts.keep(body)
        assert [bool(called(scripts, body)) for body in (b"1234", b"5678", b"9abc")] == [False, True, True]
        scripts.keep(b"x" * 11)
        assert len(scripts) == 2
        scripts.keep(b"y" * 10)
        assert repr(scripts) == "Scripts(1 of 10 bytes, 2 loaded)"

    def test_of_what_a_connection_has_had(self) -> None:
        """A connection that has had more than are kept may be sent one again."""
        scripts = Scripts(2, 1000)
        for number in range(100):
            scripts.keep(b"%d" % number)
            assert called(scripts, b"%d" % number, "it") == [load(b"%d" % number)]
        assert len(scripts._had["it"]) <= 5


class TestRefusals:
    @pytest.mark.parametrize("error", [REDIS, VALKEY])
    def test_of_a_script_that_is_kept(self, error: bytes) -> None:
        scripts, one, other = Scripts(10, 1000), Wired(), Wired()
        scripts.keep(b"body")
        frame = encode.request((b"evalSHA", digest(b"body"), b"0"))
        scripts.prepare_all(calls_by_digest(frame), one, 7.5)
        scripts.prepare_all(calls_by_digest(frame), other, 7.5)
        assert scripts.refusal(error, frame, (one,)) == Refusal(NOSCRIPT, error)
        scripts.prepare_all(calls_by_digest(frame), one, 7.5)
        scripts.prepare_all(calls_by_digest(frame), other, 7.5)
        assert (one.sent, other.sent) == ([load(b"body")] * 2, [load(b"body")])

    @pytest.mark.parametrize(
        "frame",
        [
            encode.request((b"EVALSHA", digest(b"other"), b"0")),
            encode.request((b"EVALSHA",)),
            encode.request((b"EVAL", digest(b"body"), b"0")),
            encode.request((b"FCALL", b"evalsha", b"0")),
            b"*2\r\n$7\r\nEVALSHA\r\n$1",
        ],
    )
    def test_of_nothing_else(self, frame: bytes) -> None:
        scripts, one = Scripts(10, 1000), Wired()
        scripts.keep(b"body")
        assert scripts.refusal(REDIS, frame, (one,)) is None
        scripts.prepare_all(calls_by_digest(frame), one, 7.5)
        assert not one.sent

    def test_in_a_block(self) -> None:
        args = [b"EvalSha_ro", digest(b"body"), b"0"]
        frames = [encode.request((b"GET", b"evalsha")), encode.request(args), encode.request((b"EVAL", b"x", b"0"))]
        assert calls_by_digest(exec_block.block(frames)) == [("evalsha", args)]
        assert calls_by_digest(exec_block.block(frames[2:])) == []

    def test_it_is_sent_again_without_a_wait(self) -> None:
        assert Refusal(NOSCRIPT, REDIS).wait(1) == 0


@pytest.mark.parametrize(
    ("args", "gone"),
    [([], True), ([b"SYNC"], True), ([b"aSync"], True), ([b"NOW"], False), ([b"SYNC", b"SYNC"], False)],
)
def test_flush(args: list[bytes], gone: bool) -> None:
    scripts = Scripts(10, 1000)
    scripts.keep(b"body")
    assert called(scripts, b"body", "it")
    scripts.prepare("script|flush", [b"SCRIPT", b"FLUSH", *args], (Wired(),), 7.5)
    assert not called(scripts, b"body", "it")
    assert (len(scripts) == 0) == gone
    scripts.keep(b"body")
    assert called(scripts, b"body", "it") == [load(b"body")] * gone
