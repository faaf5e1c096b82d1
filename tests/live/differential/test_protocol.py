"""Bytes that are no RESP, or odd RESP: answered and closed as the server does (networking.c, processInputBuffer)."""

import contextlib

import pytest

from tests.support.site import Site
from tests.support.wire import pack

pytestmark = pytest.mark.live

PING = pack("PING")
QUIT = pack("QUIT")
LONG = 200_000
"""Past every limit by more than one read of the server, so that it makes no difference how the bytes are cut."""

CASES: dict[str, bytes] = {
    "no number of arguments": b"*\r\n",
    "arguments not a number": b"*x\r\n" + PING,
    "arguments with a plus": b"*+1\r\n$4\r\nPING\r\n",
    "arguments with a leading zero": b"*01\r\n$4\r\nPING\r\n",
    "arguments with a blank": b"* 1\r\n$4\r\nPING\r\n",
    "arguments with a fraction": b"*1.0\r\n$4\r\nPING\r\n",
    "far too many arguments": b"*2147483648\r\n",
    "arguments past 64 bits": b"*99999999999999999999999\r\n",
    "no arguments": b"*0\r\n" + PING,
    "minus one argument": b"*-1\r\n" + PING,
    "minus many arguments": b"*-99\r\n" + PING,
    "argument without a dollar": b"*1\r\nPING\r\n" + PING,
    "argument is an integer": b"*2\r\n$3\r\nGET\r\n:1\r\n",
    "argument is an array": b"*2\r\n$3\r\nGET\r\n*1\r\n$1\r\nx\r\n",
    "argument begins with a line break": b"*1\r\n\r\n",
    "argument begins with a byte of the upper half": b"*1\r\n\xff4\r\nPING\r\n",
    "no length": b"*1\r\n$\r\nPING\r\n",
    "length not a number": b"*1\r\n$x\r\nPING\r\n",
    "length with a plus": b"*1\r\n$+4\r\nPING\r\n",
    "length with a leading zero": b"*1\r\n$04\r\nPING\r\n",
    "length negative": b"*1\r\n$-1\r\n",
    "length very negative": b"*1\r\n$-2147483648\r\n",
    "length past the limit": b"*2\r\n$3\r\nGET\r\n$536870913\r\n",
    "length past 64 bits": b"*2\r\n$3\r\nGET\r\n$99999999999999999999\r\n",
    "length minus zero": b"*1\r\n$-0\r\n\r\n",
    "an empty name": b"*1\r\n$0\r\n\r\n" + PING,
    "a key's length with a leading zero": b"*2\r\n$3\r\nGET\r\n$01\r\nk\r\n" + PING,
    "a key's length not a number": b"*2\r\n$3\r\nGET\r\n$x\r\nk\r\n" + PING,
    "a key's length half a number": b"*2\r\n$3\r\nGET\r\n$1x\r\nk\r\n" + PING,
    "a key's length negative": b"*2\r\n$3\r\nGET\r\n$-1\r\n" + PING,
    "a key's length too short": b"*2\r\n$3\r\nGET\r\n$\r\nk\r\n" + PING,
    "a value's length with a leading zero": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$01\r\nv\r\n" + PING,
    "a value's length not a number": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0x1\r\nv\r\n" + PING,
    "a value's length negative": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$-1\r\n" + PING,
    "a value that is an integer": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n:5\r\n" + PING,
    "a name's length too long": b"*2\r\n$4\r\nGET\r\n$1\r\nk\r\n" + PING,
    "a name's length too short": b"*2\r\n$2\r\nGET\r\n$1\r\nk\r\n" + PING,
    "a key's length too long by one": b"*2\r\n$3\r\nGET\r\n$2\r\nk\r\n" + PING,
    "bytes behind a key are not looked at": b"*2\r\n$3\r\nGET\r\n$1\r\nkXX" + PING,
    "bytes behind an argument are not looked at": b"*2\r\n$4\r\nECHO\r\n$2\r\nhiXX" + PING,
    "a line feed is not needed": b"*1\rX$4\rXPING\r\n",
    "a key's header without a line feed": b"*2\r\n$3\r\nGET\r\n$1\rXk\r\n" + PING,
    "bytes behind a value are not looked at": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nvXX" + PING,
    "too big a count of arguments": b"*" + b"1" * LONG,
    "too big a length": b"*1\r\n$" + b"1" * LONG,
    "too big a line": b"x" * LONG,
    "a line": b"PING\r\n",
    "a line without a carriage return": b"PING\n",
    "a line with blanks around": b"   PING   hello  \r\n",
    "a line with tabs": b"\tECHO\thi\r\n",
    "empty lines": b"\r\n\r\n\n" + PING,
    "a blank line": b"   \r\n" + PING,
    "lines and requests mixed": b"PING\r\n" + PING + b"ECHO x\r\n" + PING,
    "many lines": b"INCR counter\r\n" * 50,
    "a quoted line": b'ECHO "a b\\x41\\n\\r\\t\\b\\a\\\\\\"\\q"\r\n',
    "a single-quoted line": b"ECHO 'a b\\'c\\n'\r\n",
    "an empty quoted argument": b'ECHO ""\r\n',
    "half an escape": b'ECHO "\\x4"\r\n',
    "unbalanced double quotes": b'ECHO "abc\r\n' + PING,
    "unbalanced single quotes": b"ECHO 'abc\r\n" + PING,
    "text behind a closing quote": b'ECHO "a"b\r\n' + PING,
    "a quote inside a word": b'ECHO a"b c"\r\n',
    "bytes of the upper half in a line": b"ECHO \xff\xfe\r\n",
    "an unknown line": b"NOSUCH one two\r\n",
    "a line with wrong arity": b"GET\r\n",
    "a line with a key": b"SET inline-key 5\r\nGET inline-key\r\nMSET a 1 b 2 c 3\r\nMGET a b c\r\n",
    "requests before the error": PING + b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n" + b"*x\r\n" + PING,
    "QUIT ends it": PING + QUIT + PING,
    "QUIT on a line": b"QUIT\r\nPING\r\n",
    "QUIT with arguments": pack("QUIT", "now") + PING,
}


VALKEYS_OWN = {
    "a line feed is not needed": "Valkey 9 looks for it",
    "a key's header without a line feed": "Valkey 9 looks for it",
    "bytes behind a value are not looked at": "Valkey 9 looks at them",
    "bytes behind an argument are not looked at": "Valkey 9 looks at them",
    "bytes behind a key are not looked at": "Valkey 9 looks at them",
    "a name's length too long": "Valkey 9 says that the line break is missing",
    "a name's length too short": "Valkey 9 says that the line break is missing",
    "a key's length too long by one": "Valkey 9 says that the line break is missing",
    "text behind a closing quote": "Valkey 9 takes it as part of the argument",
    "bytes of the upper half in a line": "Valkey 9 passes over a byte of the value 255",
}
"""Where Valkey answers otherwise than Redis, which is the reference."""


def compare(site: Site, name: str) -> bytes:
    """The bytes to send; skips the test where the two servers themselves are not of one mind."""
    if site.plain.binary.kind == "valkey" and name in VALKEYS_OWN:
        pytest.skip(VALKEYS_OWN[name])
    return CASES[name]


@pytest.mark.parametrize("name", CASES)
def test_odd_bytes(site: Site, name: str) -> None:
    """Both sides say the same up to the close, which a QUIT brings about where the bytes themselves do not."""
    data = compare(site, name)
    with site.direct() as server, site.client() as proxy:
        server.send(data + QUIT)
        proxy.send(data + QUIT)
        assert proxy.rest() == server.rest()


@pytest.mark.parametrize("name", [name for name, data in CASES.items() if len(data) < LONG])
def test_odd_bytes_one_by_one(site: Site, name: str) -> None:
    """It does not matter how the bytes are cut."""
    data = compare(site, name)
    with site.direct() as server, site.client() as proxy:
        server.send(data + QUIT)
        for offset in range(len(data)):
            with contextlib.suppress(OSError):  # it may have closed already
                proxy.send(data[offset : offset + 1])
        with contextlib.suppress(OSError):
            proxy.send(QUIT)
        assert proxy.rest() == server.rest()


@pytest.mark.parametrize("name", ["POST", "post", "Host:", "host:"])
def test_http_is_closed_without_a_word(site: Site, name: str) -> None:
    """A browser that was made to talk to this port gets nothing done (Redis: securityWarningCommand)."""
    request = f"{name} /index.html HTTP/1.1\r\nContent-Length: 30\r\n\r\nSET attacked yes\r\n".encode()
    with site.direct() as server, site.client() as proxy:
        server.send(request)
        proxy.send(request)
        assert proxy.rest() == server.rest() == b""
        assert site.proxy.running
    with site.client() as proxy:
        assert proxy.value("EXISTS", "attacked") == 0


def test_half_a_request_and_a_close(site: Site) -> None:
    """What is not whole is not carried out."""
    with site.client() as proxy:
        proxy.send(pack("SET", "half", "value")[:-3])
    with site.client() as proxy:
        assert proxy.value("EXISTS", "half") == 0
