"""What becomes of requests when a server refuses, hangs, breaks off or talks nonsense; one conversation a row."""

from collections.abc import Sequence

import pytest

from tests.simulation.playbook import (
    CONNECT_TIMEOUT,
    REQUEST_TIMEOUT,
    RETRY_DEADLINE,
    Step,
    answers,
    asked_to_leave,
    connected,
    cuts,
    door,
    drains,
    got_bytes,
    greeted,
    hears,
    leaves,
    listens,
    passes,
    play,
    reads,
    says,
    sees,
    sends,
    tries,
)

LARGE = 1_000_000
HEAD = b"$%d\r\n" % LARGE
MANY = ["GET k"] * 6
"""More than the server's side takes when it does not read."""
NOW = 0.1
"""Longer than the longest backoff."""
DOWN = "-SHARDDOWN shard 'alpha' (10.2.0.1:6379) can not be reached: {}. The command was not executed"
UNCERTAIN = "-UNCERTAIN shard 'alpha' (10.2.0.1:6379) {}: the command may or may not have been executed"
REFUSED = DOWN.format("Connection refused")
LOST = UNCERTAIN.format("closed the connection before it answered")
SILENT = UNCERTAIN.format("did not answer within 1 s")
TIMEOUT = "-TIMEOUT shard 'alpha' (10.2.0.1:6379) did not answer within 1 s"

CONNECTING = {
    "all is well": (
        says("a", "SET k 1", "GET k"), sees("SET k 1", "GET k"), answers(b"+OK\r\n", b"$1\r\n1\r\n"),
        hears("a", "OK", "1"),
    ),
    "requests are held while a server restarts": (
        door("shut"), cuts(), says("a", "SET k 1"), passes(RETRY_DEADLINE / 2), hears("a"),
        door("open"), passes(NOW), sees("SET k 1"), answers(b"+OK\r\n"), hears("a", "OK"),
    ),
    "held requests keep their order": (
        door("shut"), cuts(), says("a", "SET k 1"), says("b", "SET k 2"), says("a", "GET k"),
        door("open"), passes(NOW), sees("SET k 1", "SET k 2", "GET k"),
        answers(b"+OK\r\n+OK\r\n$1\r\n2\r\n"), hears("a", "OK", "2"), hears("b", "OK"),
    ),
    "a server that is down for long fails fast, and is used again once it is back": (
        door("shut"), cuts(), says("a", "SET k 1"), passes(RETRY_DEADLINE + NOW), hears("a", REFUSED),
        says("a", "GET k", "SET k 2"), hears("a", REFUSED, REFUSED), says("b", "GET k"), hears("b", REFUSED),
        door("open"), passes(NOW), sees(), says("a", "GET k"), sees("GET k"), answers(b"$-1\r\n"), hears("a", "None"),
    ),
    "a server that takes connections and says nothing": (
        door("deaf"), cuts(), passes(CONNECT_TIMEOUT + NOW), says("a", "GET k"), passes(RETRY_DEADLINE + NOW),
        hears("a", DOWN.format("no answer within 0.3 s")),
    ),
    "a server that closes every connection is not called in a circle": (
        door("open", b""), cuts(), passes(1.0), tries(3, 200),
    ),
    "a client that leaves while its request is held": (
        door("shut"), cuts(), says("a", "SET k 1"), says("b", "SET k 2"), leaves("a"), door("open"), passes(NOW),
        sees("SET k 1", "SET k 2"), answers(b"+OK\r\n+OK\r\n"), hears("b", "OK"),
    ),
}  # fmt: skip

GREETINGS = {
    "-NOAUTH Authentication required.": "the server asks for a password: set backend.password",
    "-LOADING Redis is loading": "the server answers PING with: LOADING Redis is loading",
    "-ERR max number of clients reached": "the server answers PING with: ERR max number of clients reached",
}

LOSING = {
    "reads are sent again, writes never": (
        says("a", "GET x", "SET y 1", "INCR z", "GET w"), sees("GET x", "SET y 1", "INCR z", "GET w"), cuts(),
        passes(NOW), sees("GET x", "GET w"), hears("a"), answers(b"$1\r\nx\r\n", b"$1\r\nw\r\n"),
        hears("a", "x", LOST, LOST, "w"),
    ),
    "a read is not repeated behind a write of the same client to the same key": (
        says("a", "GET k", "SET k 2", "GET k"), says("b", "GET k"), cuts(), passes(NOW),
        sees("GET k", "SET k 2", "GET k", "GET k", "GET k", "GET k"), answers(b"$1\r\n2\r\n", b"$1\r\n2\r\n"),
        hears("a", "-UNCERTAIN shard 'alpha' * the read was not repeated", LOST, "2"), hears("b", "2"),
    ),
    "what was not written yet goes behind what was, and is no retry": (
        reads(False), says("a", *MANY), says("b", "SET k 1"), cuts(),
        passes(NOW), sees(*MANY, "SET k 1"),
        answers(b"$-1\r\n" * 6, b"+OK\r\n"), hears("b", "OK"),
    ),
    "a reply that was cut is asked for again": (
        says("a", "GET k"), answers(b"$5\r\nhel"), cuts(), passes(NOW), sees("GET k", "GET k"),
        answers(b"$5\r\nhello\r\n"), hears("a", "hello"),
    ),
    "a reply that was cut, of a write": (
        says("a", "INCR k"), answers(b":12"), cuts(), passes(NOW), hears("a", LOST),
        says("a", "GET k"), answers(b"$2\r\n12\r\n"), hears("a", "12"),
    ),
    "a large reply that breaks off closes its client, and nobody else": (
        says("a", "GET k"), says("b", "GET x"), answers(HEAD, b"v" * 10_000), got_bytes("a", 10_000),
        cuts(), passes(NOW), hears("a", "closed"), sees("GET k", "GET x", "GET x"), answers(b"$1\r\nx\r\n"),
        hears("b", "x"),
    ),
    "a large reply is passed on while it comes": (
        says("a", "GET k", "PING"), answers(HEAD, b"v" * 600_000), got_bytes("a", 600_000), hears("a"),
        answers(b"v" * 400_000, b"\r\n"), hears("a", "1000000 bytes", "PONG"),
    ),
    "a large reply that is not in its turn waits": (
        says("a", "GET k"), says("b", "ECHO 1", "GET k", "ECHO 2"), answers(b"$1\r\nk\r\n"),
        answers(HEAD, b"v" * LARGE, b"\r\n"), hears("a", "k"), hears("b", "1", "1000000 bytes", "2"),
    ),
    "a reply that nobody asked for closes the connection": (
        answers(b"+OK\r\n"), connected(False), passes(NOW), connected(True), says("a", "GET k"),
        answers(b"$1\r\nk\r\n"), hears("a", "k"),
    ),
    "one reply too many is nobody's": (
        says("a", "GET k"), answers(b"$1\r\n1\r\n", b"$1\r\n2\r\n"), hears("a", "1"), passes(NOW), says("a", "GET k"),
        sees("GET k", "GET k"), answers(b"$1\r\n3\r\n"), hears("a", "3"),
    ),
    "a server that does not speak RESP": (
        says("a", "SET k 1", "GET x"), answers(b"HTTP/1.1 400\r\n\r\n"), passes(NOW), hears("a", LOST),
        sees("SET k 1", "GET x", "GET x"), answers(b"$1\r\nx\r\n"), hears("a", "x"),
    ),
    "a push is no reply": (
        says("a", "GET k"), answers(b">2\r\n$10\r\ninvalidate\r\n*0\r\n", b"$1\r\nk\r\n", b">1\r\n+x\r\n"),
        hears("a", "k"), connected(True),
    ),
    "a client that left is not in the way": (
        says("a", "GET k", "GET k"), says("b", "GET k"), leaves("a"), hears("a", "closed"),
        answers(b"$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"), hears("b", "3"),
    ),
    "a client that left while a large reply came is not in the way": (
        says("a", "GET k"), says("b", "GET k"), answers(HEAD, b"v" * 1000), leaves("a"),
        answers(b"v" * (LARGE - 1000), b"\r\n$1\r\n3\r\n"), hears("b", "3"),
    ),
}  # fmt: skip

TIME = {
    "a late reply is dropped, and the next one reaches who asked for it": (
        says("a", "GET one", "GET two"), passes(0.6), answers(b"$3\r\none\r\n"), passes(0.5),
        hears("a", "one", TIMEOUT),
        says("b", "GET three"), connected(True), answers(b"$4\r\nlate\r\n", b"$5\r\nthree\r\n"), hears("b", "three"),
        says("a", "GET four"), answers(b"$4\r\nfour\r\n"), hears("a", "four"),
    ),
    "a late error is dropped": (
        says("a", "GET one", "INCR two"), passes(0.6), answers(b"$3\r\none\r\n"), passes(0.5),
        hears("a", "one", SILENT),
        says("b", "GET three"), answers(b"-ERR late\r\n", b"$5\r\nthree\r\n"), hears("b", "three"),
    ),
    "a late large reply is dropped": (
        says("a", "GET one", "GET two"), passes(0.6), answers(b"$3\r\none\r\n"), passes(0.5),
        hears("a", "one", TIMEOUT),
        says("b", "GET three"), answers(HEAD, b"v" * 1000), answers(b"v" * (LARGE - 1000), b"\r\n"),
        hears("b"), answers(b"$5\r\nthree\r\n"), hears("b", "three"), hears("a"),
    ),
    "a reply that is half there when its time is up": (
        says("a", "GET one", "GET two"), passes(0.6), answers(b"$3\r\none\r\n$4\r\nla"), passes(0.5),
        hears("a", "one", TIMEOUT),
        answers(b"te\r\n"), says("a", "GET three"), answers(b"$5\r\nthree\r\n"), hears("a", "three"),
    ),
    "a silent connection is closed, and nothing is lost or done twice": (
        says("a", "SET k 1", "GET k"), passes(0.5), says("b", "GET x", "SET y 1"), passes(REQUEST_TIMEOUT - 0.4),
        hears("a", SILENT, TIMEOUT), passes(NOW), sees("SET k 1", "GET k", "GET x", "SET y 1", "GET x"),
        answers(b"$1\r\nx\r\n"), hears("b", "x", LOST),
    ),
    "a connection that was silent before it was asked anything is kept": (
        passes(10.0), says("a", "GET k"), passes(0.9), answers(b"$1\r\nk\r\n"), hears("a", "k"), tries(1, 1),
    ),
    "a large reply that stops coming": (
        says("a", "GET k"), answers(HEAD, b"v" * 1000), passes(REQUEST_TIMEOUT + NOW),
        hears("a", "closed"), connected(True), says("b", "GET x"), answers(b"$1\r\nx\r\n"), hears("b", "x"),
    ),
    "a large reply may take longer than a request": (
        says("a", "GET k"), answers(HEAD, b"v" * 400_000), passes(0.8),
        answers(b"v" * 400_000), passes(0.8),
        answers(b"v" * 200_000, b"\r\n"), hears("a", "1000000 bytes"), connected(True),
    ),
    "holding counts as waiting": (
        door("shut"), cuts(), says("a", "SET k 1"), passes(RETRY_DEADLINE - NOW), door("open"), passes(NOW / 2),
        passes(REQUEST_TIMEOUT - RETRY_DEADLINE + 2 * NOW), hears("a", SILENT),
    ),
}  # fmt: skip

PAUSING = {
    "clients wait while the server does not read, and go on when it does": (
        reads(False), says("a", *MANY), says("b", "SET x 1", "SET x 2", "SET x 3"), says("c", "GET k"), passes(NOW),
        sees(), reads(True), passes(NOW), sees(*MANY, "SET x 1", "GET k", "SET x 2", "SET x 3"),
        answers(b"$-1\r\n" * 6, b"+OK\r\n", b"$-1\r\n", b"+OK\r\n+OK\r\n"), hears("b", "OK", "OK", "OK"),
        hears("c", "None"), hears("a", *["None"] * 6),
    ),
    "what the server did not take in time was not executed": (
        reads(False), says("a", *MANY), says("b", "SET x 1"), passes(REQUEST_TIMEOUT + NOW),
        hears("b", "-SHARDDOWN shard 'alpha' * did not take the command within 1 s. The command was not executed"),
        passes(NOW), sees(), says("b", "SET x 2"), sees("SET x 2"),
    ),
    "clients of a server that stopped reading and never comes back are answered": (
        reads(False), says("a", *MANY), says("b", "SET x 1"), says("c", "SET x 3"), door("deaf"),
        passes(REQUEST_TIMEOUT + NOW), hears("b", "-SHARDDOWN*"), says("b", "SET x 2"), says("c", "GET x"),
        passes(RETRY_DEADLINE + 2 * NOW), hears("b", "-SHARDDOWN*"), hears("c", "-SHARDDOWN*", "-SHARDDOWN*"),
        says("b", "GET x"), hears("b", "-SHARDDOWN*"),
    ),
    "a held client that leaves is forgotten": (
        reads(False), says("a", *MANY), says("b", "SET x 1", "SET x 2"), leaves("b"), reads(True), passes(NOW),
        sees(*MANY, "SET x 1"), answers(b"$-1\r\n" * 6, b"+OK\r\n"), hears("b", "closed"),
        hears("a", *["None"] * 6),
    ),
}  # fmt: skip

LIMITS = {"max_in_flight": 4, "output_soft": "1kb", "output_hard": "150kb", "write_timeout": "2s"}
PIECE = b"$80000\r\n" + b"v" * 80_000 + b"\r\n"
"""More than a client's side takes when it does not read."""
LONG = (b"$1200000\r\n", b"v" * 1_200_000, b"\r\n")
"""So much that it is passed on while it comes."""

BOUNDS = {
    "only so many requests of a client are in flight": (
        says("a", *["GET k"] * 9), says("b", "GET x"), sees(*["GET k"] * 4, "GET x"), answers(b"$-1\r\n" * 4),
        passes(NOW), sees(*["GET k"] * 4), answers(b"$-1\r\n" * 5), passes(NOW), sees("GET k"), answers(b"$-1\r\n"),
        hears("a", *["None"] * 9), hears("b", "None"),
    ),
    "who does not read yet is carried out all the same": (
        says("a", "GET k"), listens("a", False), answers(PIECE), says("a", "SET k 1"), says("b", "GET x"),
        sees("GET k", "SET k 1", "GET x"), answers(b"+OK\r\n$-1\r\n"), hears("b", "None"), hears("a"),
        listens("a", True), passes(NOW), hears("a", "80000 bytes", "OK"),
    ),
    "who lets as much wait as may is not read from, and goes on when it reads": (
        # The third reply may be as large as the first two.
        says("a", *["GET k"] * 3), listens("a", False), answers(PIECE, PIECE), says("a", "SET k 1"),
        says("b", "GET x"), sees(*["GET k"] * 3, "GET x"), answers(b"$-1\r\n$-1\r\n"), hears("b", "None"), hears("a"),
        listens("a", True), passes(NOW), sees("SET k 1"), answers(b"+OK\r\n"),
        hears("a", "80000 bytes", "80000 bytes", "None", "OK"),
    ),
    "who reads nothing for long is closed": (
        says("a", "GET k"), listens("a", False), answers(PIECE), passes(1.9), listens("b", True), says("b", "PING"),
        hears("b", "PONG"), hears("a"), passes(0.3), hears("a", "closed"),
    ),
    "who lets too much pile up is closed, and its requests are let go of": (
        says("a", *["GET k"] * 4), listens("a", False), answers(PIECE, PIECE), hears("a"),
        answers(PIECE), hears("a", "closed"), answers(b"$-1\r\n"),
        says("b", "GET k"), answers(b"$1\r\n1\r\n"), hears("b", "1"),
    ),
    "a large reply comes as fast as it is read, and others go on": (
        says("a", "GET k"), listens("a", False), answers(*LONG), sees("GET k"), hears("a"),
        says("c", "GET y"), sees("GET y"), answers(b"$1\r\ny\r\n"), hears("c", "y"),
        listens("a", True), passes(NOW), hears("a", "1200000 bytes"), says("a", "GET z"), sees("GET z"),
        answers(b"$1\r\nz\r\n"), hears("a", "z"), tries(3, 3),
    ),
    "who does not read a large reply is closed, and that is all": (
        says("a", "GET k"), listens("a", False), answers(*LONG), passes(1.9), hears("a"), passes(0.3),
        hears("a", "closed"), says("b", "GET y"), sees("GET k", "GET y"), answers(b"$1\r\ny\r\n"), hears("b", "y"),
    ),
    "who does not read a large reply holds up nobody who waits behind it": (
        says("a", "GET k"), says("b", "SET x 1"), listens("a", False), answers(*LONG, b"+OK\r\n"),
        hears("a", "closed"), hears("b", "OK"), says("b", "GET y"), sees("GET k", "SET x 1", "GET y"),
        answers(b"$1\r\ny\r\n"), hears("b", "y"),
    ),
}  # fmt: skip

LEAVING = {
    "who waits for nothing leaves at once": (
        says("a", "PING"), hears("a", "PONG"), asked_to_leave(), hears("a", "closed"),
    ),
    "who has requests in flight leaves behind the last reply": (
        says("a", "SET k 1"), asked_to_leave(), says("a", "GET k"), answers(b"+OK\r\n"), hears("a", "OK"),
        answers(b"$1\r\n1\r\n"), hears("a", "1", "closed"), sees("SET k 1", "GET k"),
    ),
    "who has begun a request is heard out": (
        sends("a", b"*2\r\n$3\r\nGET\r\n$1\r"), asked_to_leave(), hears("a"), sends("a", b"\nk\r\n"),
        answers(b"$-1\r\n"), hears("a", "None", "closed"),
    ),
    "who is in a transaction leaves behind its end": (
        says("a", "MULTI"), hears("a", "OK"), asked_to_leave(), says("a", "SET k 1"), hears("a", "QUEUED"),
        says("a", "DISCARD"), hears("a", "OK", "closed"),
    ),
    "who is asked twice leaves all the same": (
        says("a", "MULTI"), hears("a", "OK"), asked_to_leave(), asked_to_leave(), says("a", "DISCARD"),
        hears("a", "OK", "closed"),
    ),
    "who does not leave is closed at the end": (
        says("a", "MULTI"), hears("a", "OK"), asked_to_leave(), drains(), hears("a", "closed"),
    ),
    "who quits meanwhile hears it": (
        says("a", "MULTI"), hears("a", "OK"), asked_to_leave(), says("a", "QUIT"), hears("a", "OK", "closed"),
    ),
}  # fmt: skip

DRAINING = {
    "what is in flight is answered, then the client is closed": (
        says("a", "SET k 1", "GET k"), drains(), hears("a"), answers(b"+OK\r\n$1\r\n1\r\n"),
        hears("a", "OK", "1", "closed"),
    ),
    "who waits for nothing is closed at once": (says("a", "PING"), hears("a", "PONG"), drains(), hears("a", "closed")),
    "nothing new is taken": (
        says("a", "GET k"), drains(), says("a", "SET k 1"), answers(b"$-1\r\n"), hears("a", "None", "closed"),
        sees("GET k"),
    ),
    "the rest of a value that was half read is never taken for a request": (
        says("a", "GET k"), sends("a", b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$400\r\n"), drains(),
        sends("a", b"*3\r\n$3\r\nSET\r\n$1\r\ny\r\n$1\r\n1\r\n" * 20), answers(b"$-1\r\n"),
        hears("a", "None", "closed"), sees("GET k"),
    ),
    "who is held is answered too": (
        door("shut"), cuts(), says("a", "SET k 1"), drains(), door("open"), passes(NOW), sees("SET k 1"),
        answers(b"+OK\r\n"), hears("a", "OK", "closed"),
    ),
    "who quits hears the end first": (
        says("a", "GET k", "QUIT", "SET k 1"), hears("a"), answers(b"$-1\r\n"), hears("a", "None", "OK", "closed"),
        sees("GET k"),
    ),
    "who talks nonsense hears the end first": (
        says("a", "GET k"), sends("a", b"*1\r\nx"), hears("a"), answers(b"$-1\r\n"),
        hears("a", "None", "-ERR Protocol error: expected '$', got 'x'", "closed"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in CONNECTING.items()])
def test_connecting(steps: Sequence[Step]) -> None:
    play(steps)


@pytest.mark.parametrize("reply", GREETINGS)
def test_a_refused_greeting_is_told(reply: str) -> None:
    play([
        door("open", f"{reply}\r\n".encode()), cuts(), says("a", "SET k 1"), passes(RETRY_DEADLINE + NOW), sees(),
        hears("a", DOWN.format(GREETINGS[reply])), door("open"), passes(NOW), says("a", "SET k 1"), sees("SET k 1"),
    ])  # fmt: skip


@pytest.mark.parametrize("reply", ["WRONGPASS invalid username-password pair", "ERR AUTH called without any password"])
def test_a_refused_password_is_told_and_not_shown(reply: str, caplog: pytest.LogCaptureFixture) -> None:
    told = f"the server refuses the proxy's AUTH: {reply}"
    play([
        greeted("AUTH proxy s3cret", "PING"), door("open", f"-{reply}\r\n-NOAUTH\r\n".encode()), cuts(),
        says("a", "GET k"), passes(RETRY_DEADLINE + NOW), sees(), hears("a", DOWN.format(told)),
    ], username="proxy", password="s3cret")  # fmt: skip
    assert told in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in LOSING.items()])
def test_losing_the_connection(steps: Sequence[Step]) -> None:
    play(steps)


@pytest.mark.parametrize("request_", ["EVAL return 0", "GETEX k PERSIST", "APPEND k v", "SORT k STORE k"])
def test_what_may_write_is_never_sent_twice(request_: str) -> None:
    play([says("a", request_), sees(request_), cuts(), passes(NOW), sees(), hears("a", LOST)])


@pytest.mark.parametrize("request_", ["MGET k l", "EXISTS k", "HGETALL k", "SORT_RO k", "EVAL_RO s 0", "DBSIZE"])
def test_what_only_reads_is_sent_again(request_: str) -> None:
    play([says("a", request_), sees(request_), cuts(), passes(NOW), sees(request_), hears("a")])


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in TIME.items()])
def test_time(steps: Sequence[Step]) -> None:
    play(steps)


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in PAUSING.items()])
def test_a_server_that_does_not_read(steps: Sequence[Step]) -> None:
    play(steps)


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in BOUNDS.items()])
def test_bounds(steps: Sequence[Step]) -> None:
    play(steps, LIMITS)


@pytest.mark.parametrize("steps", [pytest.param(row, id=name) for name, row in (LEAVING | DRAINING).items()])
def test_the_end(steps: Sequence[Step]) -> None:
    play(steps)
