"""Replies without end or measure, as a broken or hostile server may send them: each is small, or is sent in part."""

MEGABYTE = 1024 * 1024
ENDLESS = {
    "a bulk string of 512 MB is announced": b"$536870912\r\n" + b"x" * MEGABYTE,
    "a bulk string of 64 MB comes": b"$67108864\r\n" + b"x" * 64 * MEGABYTE + b"\r\n",
    "a verbatim string is announced": b"=536870912\r\ntxt:" + b"x" * MEGABYTE,
    "a line does not end": b"+" + b"x" * 8 * MEGABYTE,
    "an error does not end": b"-ERR " + b"x" * 8 * MEGABYTE,
    "a number does not end": b":" + b"1" * 8 * MEGABYTE,
    "a length does not end": b"$" + b"1" * 8 * MEGABYTE,
    "lines of line feeds": b"+" + b"\n" * 2 * MEGABYTE,
    "arrays in arrays": b"*1\r\n" * 2 * MEGABYTE,
    "wide arrays in arrays": b"*1000\r\n" * 200_000,
    "maps in maps": b"%1\r\n+k\r\n" * MEGABYTE,
    "a million elements": b"*1000000\r\n" + b":1\r\n" * 1_000_000,
    "five million elements": b"*5000000\r\n" + b"_\r\n" * 5_000_000,
    "two thousand million elements are announced": b"*2147483647\r\n" + b":1\r\n" * 1000,
    "more elements than memory are announced": b"*4294967295\r\n" + b":1\r\n" * 1000,
    "more pairs than memory are announced": b"%4294967295\r\n" + b":1\r\n" * 1000,
    "attributes without a value": b"|1\r\n+a\r\n+b\r\n" * 500_000,
    "a negative length": b"$-5\r\n",
    "no RESP": b"HTTP/1.1 400 Bad Request\r\n" * 10_000,
}
"""By what is wrong with each."""
