"""Inline commands, split as Redis's sdssplitargs splits them. What is expected here is what Redis 7.0.15 does."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.resp.requests import ProtocolError, split_inline
from tests.support.feeding import NOISE


@pytest.mark.parametrize(
    ("line", "args"),
    [
        (b"PING\r\n", [b"PING"]),
        (b"PING\n", [b"PING"]),
        (b"", []),
        (b" \t\r\n", []),
        (b"  SET\tk   v \r\n", [b"SET", b"k", b"v"]),
        (b'SET k "a b"\r\n', [b"SET", b"k", b"a b"]),
        (b"SET k 'a b'\r\n", [b"SET", b"k", b"a b"]),
        (b'SET k ""\r\n', [b"SET", b"k", b""]),
        (b"ECHO ''\r\n", [b"ECHO", b""]),
        (rb'PING "a\x41\n"', [b"PING", b"aA\n"]),
        (rb'ECHO "\r\n\t\b\a\"\\"', [b"ECHO", b'\r\n\t\b\a"\\']),
        (rb'ECHO "\q\t"', [b"ECHO", b"q\t"]),
        (rb'ECHO "\xff\x00"', [b"ECHO", b"\xff\x00"]),
        (rb'ECHO "\x4"', [b"ECHO", b"x4"]),
        (rb'ECHO "\xg0"', [b"ECHO", b"xg0"]),
        (rb"ECHO 'a\nb'", [b"ECHO", rb"a\nb"]),
        (rb"ECHO 'a\'b'", [b"ECHO", b"a'b"]),
        (rb"ECHO a\nb", [b"ECHO", rb"a\nb"]),
        (b'ECHO a"b"\r\n', [b"ECHO", b"ab"]),
        (b'PI"NG"\r\n', [b"PING"]),
        (b"ECHO '\"' \"'\"\r\n", [b"ECHO", b'"', b"'"]),
        (b"$1\r\n", [b"$1"]),
        (b"\xff\xfe\r\n", [b"\xff\xfe"]),
        (b"ECHO a\x0bb\r\n", [b"ECHO", b"a\x0bb"]),
        (b"\x0b\x0cECHO a\r\n", [b"ECHO", b"a"]),
        (b'ECHO "a"\x0b\r\n', [b"ECHO", b"a"]),
    ],
)
def test_words_and_quotes(line: bytes, args: list[bytes]) -> None:
    assert split_inline(line) == args


@pytest.mark.parametrize(
    "line", [b'"a\r\n', b"PING 'a\r\n", b'ECHO "a"b\r\n', b"ECHO 'a'b\r\n", b'ECHO "a\\', b'ECHO "\\"', b"ECHO 'a\\'"]
)
def test_unbalanced_quotes(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="unbalanced quotes in request"):
        split_inline(line)


WORD = st.text(st.characters(codec="ascii", exclude_characters="\r\n\x00\x0b\x0c"), max_size=12)


@given(st.lists(WORD, min_size=1, max_size=5))
def test_single_quotes_as_a_shell_writes_them(words: list[str]) -> None:
    """Where sdssplitargs and a POSIX shell agree: words in single quotes, without quotes or backslashes in them."""
    plain = [word.replace("'", "").replace("\\", "") for word in words]
    line = " ".join(f"'{word}'" for word in plain)
    assert split_inline(line.encode()) == [word.encode() for word in shlex.split(line)]


def quoted(argument: bytes) -> bytes:
    """As redis-cli writes any bytes in double quotes."""
    return b'"%b"' % b"".join(b"\\x%02x" % byte for byte in argument)


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=5))
def test_any_bytes_in_double_quotes(args: list[bytes]) -> None:
    assert split_inline(b" ".join(map(quoted, args)) + b"\r\n") == args


@given(NOISE)
def test_noise_is_split_or_refused(line: bytes) -> None:
    try:
        args = split_inline(line)
    except ProtocolError:
        return
    assert len(args) + sum(map(len, args)) <= len(line) + 1


@pytest.mark.parametrize("line", [b"\x00\r\n", b"ECHO a\x00b\r\n", b"ECHO \x00\x00 b\r\n"])
def test_a_nul_does_no_harm(line: bytes) -> None:
    """Redis, which reads C strings, would wait for the rest of such a line for ever."""
    assert len(split_inline(line)) <= 4
