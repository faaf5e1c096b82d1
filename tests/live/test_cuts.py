"""A request may be cut at any byte."""

import pytest

from tests.support.site import Site
from tests.support.wire import Wire, pack

pytestmark = pytest.mark.live

SPLIT = {
    "the fast path": (pack("SET", "key", "value"), b"+OK\r\n"),
    "the fast path, many arguments": (pack("RPUSH", "list", "a", "", "ccc"), b":3\r\n"),
    "a long value": (pack("SET", "key", "v" * 120), b"+OK\r\n"),
    "many shards": (pack("MSET", "a", 1, "b", 2, "c", 3), b"+OK\r\n"),
    "a script": (pack("EVAL", "return ARGV[1]", 1, "k", "x\r\ny"), b"$4\r\nx\r\ny\r\n"),
    "the proxy's own": (pack("ECHO", "hello\r\n"), b"$7\r\nhello\r\n\r\n"),
    "a line": (b"ECHO 'one two'\r\n", b"$7\r\none two\r\n"),
    "unknown": (pack("NOSUCH"), b"-ERR unknown command 'NOSUCH', with args beginning with: \r\n"),
    "several": (
        pack("SET", "n", 1) + pack("INCR", "n") + pack("MGET", "n", "none") + b"PING\r\n" + pack("GET", "n"),
        b"+OK\r\n:2\r\n*2\r\n$1\r\n2\r\n$-1\r\n+PONG\r\n$1\r\n2\r\n",
    ),
}


def turn(other: Wire) -> None:
    """When it returns, the proxy has read all that was sent to it before: its event loop has gone round."""
    assert other.ask("PING") == b"+PONG\r\n"


@pytest.mark.parametrize(("request_bytes", "expected"), SPLIT.values(), ids=SPLIT.keys())
def test_a_request_cut_at_every_byte(site: Site, request_bytes: bytes, expected: bytes) -> None:
    with site.client() as client, site.client() as other:
        for at in range(1, len(request_bytes)):
            client.ask("DEL", "list")
            client.send(request_bytes[:at])
            turn(other)
            client.send(request_bytes[at:])
            assert b"".join(client.replies(expected_count(expected))) == expected, request_bytes[:at]


@pytest.mark.parametrize(("request_bytes", "expected"), SPLIT.values(), ids=SPLIT.keys())
def test_a_request_byte_by_byte(site: Site, request_bytes: bytes, expected: bytes) -> None:
    with site.client() as client, site.client() as other:
        for at in range(len(request_bytes)):
            client.send(request_bytes[at : at + 1])
            turn(other)
        assert b"".join(client.replies(expected_count(expected))) == expected


def expected_count(replies: bytes) -> int:
    """How many replies of the table above: one, but for "several"."""
    return 5 if replies == SPLIT["several"][1] else 1
