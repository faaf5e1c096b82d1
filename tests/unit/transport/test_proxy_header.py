"""Headers of the PROXY protocol as bytes: what is read from them, whole and byte by byte, and what is refused."""

import ipaddress
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.transport.proxy_header import (
    HEADER_MOST,
    Header,
    HeaderError,
    begins_header,
    crc32c,
    own_header,
    read_header,
)
from tests.support import proxy_headers as make

HERE, THERE = ("192.0.2.7", 56324), ("198.51.100.1", 6380)
HERE6, THERE6 = ("2001:db8::7", 56324), ("2001:db8::1", 6380)
SAID = Header(HERE, THERE)
TCP = make.tcp("192.0.2.7", "198.51.100.1")
SHOWN = 0x01 | 0x02
"""The client speaks TLS and has shown a certificate."""


def tlvs(*more: bytes) -> bytes:
    return make.tcp("192.0.2.7", "198.51.100.1", b"".join(more))


def cn(name: str) -> tuple[int, bytes]:
    return make.SSL_CN, name.encode()


GOOD = {
    "tcp4": (make.v1("192.0.2.7"), SAID),
    "tcp6": (make.v1("2001:db8::7", "2001:db8::1"), Header(HERE6, THERE6)),
    "capital letters": (make.v1("2001:DB8::7", "2001:db8:0:0::1"), Header(HERE6, THERE6)),
    "ipv4 in ipv6": (make.v1("::ffff:192.0.2.7", "::FFFF:c633:6401"), SAID),
    "longest tcp6": (
        make.v1("ffff:f3f3:ffff:ffff:ffff:ffff:ffff:fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", (65535, 65535)),
        Header(("ffff:f3f3:ffff:ffff:ffff:ffff:ffff:fffe", 65535), ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535)),
    ),
    "port 0": (make.v1("192.0.2.7", ports=(0, 0)), Header(("192.0.2.7", 0), ("198.51.100.1", 0))),
    "unknown": (b"PROXY UNKNOWN\r\n", Header()),
    "unknown with addresses": (b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 56324 6380\r\n", Header()),
    "longest unknown": (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", Header()),
    "v2 tcp4": (TCP, SAID),
    "v2 tcp6": (make.tcp("2001:db8::7", "2001:db8::1"), Header(HERE6, THERE6)),
    "v2 ipv4 in ipv6": (make.tcp("::ffff:192.0.2.7", "::ffff:198.51.100.1"), SAID),
    "v2 unix": (make.unix(b"/run/a", b"/run/b"), Header("/run/a", "/run/b")),
    "v2 unix without names": (make.unix(b"", b""), Header("", "")),
    "v2 unix, the longest path": (make.unix(b"/" * 108, b"/b"), Header("/" * 108, "/b")),
    "v2 unix, paths that break a line": (make.unix(b"/a b", b"/a\nuser=admin"), Header("", "")),
    "v2 unix, abstract and not UTF-8": (make.unix(b"\0abstract", b"/\xff"), Header("", "")),
    "local": (make.v2(command=make.LOCAL, family=make.UNSPEC), Header(local=True)),
    "local, with what has no meaning": (make.v2(b"\1\2\3" * 9, 0xFF, make.LOCAL), Header(local=True)),
    "unspec": (make.v2(family=make.UNSPEC), Header()),
    "unspec, with what has no meaning": (make.v2(b"\x20\xff", make.UNSPEC), Header()),
    "datagram": (make.v2(bytes(12), make.UDP4), Header()),
    "authority": (tlvs(make.tlv(make.AUTHORITY, b"cache.example")), Header(HERE, THERE, False, "cache.example")),
    "authority that is no text": (tlvs(make.tlv(make.AUTHORITY, b"\xff\n")), SAID),
    "other TLVs": (
        tlvs(
            *(make.tlv(make.NOOP, bytes(size)) for size in (0, 1, 2)),
            make.tlv(make.ALPN, b"h2"),
            make.tlv(make.UNIQUE, b"\0"),
            make.tlv(make.UNIQUE, b"\1"),
            make.tlv(0xEA, b"\x01vpce-0123"),
            make.tlv(0x30, b"ns"),
        ),
        SAID,
    ),
    "checksum": (make.summed(TCP), SAID),
    "checksum ahead of others": (
        make.summed(tlvs(make.tlv(make.AUTHORITY, b"a"), make.tlv(make.NOOP, b""))),
        Header(HERE, THERE, False, "a"),
    ),
    "certificate": (tlvs(make.ssl(SHOWN, 0, cn("app"))), Header(HERE, THERE, common_name="app")),
    "certificate of a resumed session": (tlvs(make.ssl(0x05, 0, cn("app"))), Header(HERE, THERE, common_name="app")),
    "certificate beside other facts": (
        tlvs(make.ssl(SHOWN, 0, (make.SSL_VERSION, b"TLSv1.3"), cn("é"), (0x23, b"AES"))),
        Header(HERE, THERE, common_name="é"),
    ),
    "certificate that is not verified": (tlvs(make.ssl(SHOWN, 1, cn("admin"))), SAID),
    "certificate that is not verified, high byte": (tlvs(make.ssl(SHOWN, 1 << 24, cn("admin"))), SAID),
    "no certificate": (tlvs(make.ssl(0x01, 0, cn("admin"))), SAID),
    "no TLS": (tlvs(make.ssl(0x06, 0, cn("admin"))), SAID),
    "no name": (tlvs(make.ssl(SHOWN, 0)), SAID),
    "a name that can be no user": (tlvs(make.ssl(SHOWN, 0, cn("app default"))), SAID),
    "a name with a line break": (tlvs(make.ssl(SHOWN, 0, cn("app\nadmin"))), SAID),
    "TLS 1.3 to the balancer": (tlvs(make.ssl(0x01, 1, (make.SSL_VERSION, b"TLSv1.3"))), SAID),
    "as long as may be": (tlvs(make.tlv(0xEA, bytes(HEADER_MOST - len(TCP) - 3))), SAID),
}

WRONG = {
    "RESP": b"*1\r\n$4\r\nPING\r\n",
    "inline": b"PING\r\n",
    "other case": b"proxy TCP4 192.0.2.7 198.51.100.1 56324 6380\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP": b"GET / HTTP/1.1\r\n",
    "nearly the signature": b"\r\n\r\n\0\r\nQUIT\r",
    "line feed only": b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 6380\n" + bytes(100),
    "two spaces": b"PROXY  TCP4 192.0.2.7 198.51.100.1 56324 6380\r\n",
    "tab": b"PROXY TCP4\t192.0.2.7 198.51.100.1 56324 6380\r\n",
    "space at the end": b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 6380 \r\n",
    "too few words": b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
    "too many words": b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 6380 1\r\n",
    "no words": b"PROXY \r\n",
    "family": b"PROXY UDP4 192.0.2.7 198.51.100.1 56324 6380\r\n",
    "family that begins so": b"PROXY UNKNOWNS\r\n",
    "name": b"PROXY TCP4 localhost 198.51.100.1 56324 6380\r\n",
    "zero ahead": b"PROXY TCP4 192.0.02.7 198.51.100.1 56324 6380\r\n",
    "three numbers": b"PROXY TCP4 192.0.2 198.51.100.1 56324 6380\r\n",
    "IPv6 for TCP4": b"PROXY TCP4 ::1 ::1 56324 6380\r\n",
    "IPv4 for TCP6": b"PROXY TCP6 192.0.2.7 198.51.100.1 56324 6380\r\n",
    "scope": b"PROXY TCP6 fe80::1%eth0 fe80::2 56324 6380\r\n",
    "brackets": b"PROXY TCP6 [::1] [::2] 56324 6380\r\n",
    "port too large": b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 6380\r\n",
    "port with a zero ahead": b"PROXY TCP4 192.0.2.7 198.51.100.1 080 6380\r\n",
    "negative port": b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 6380\r\n",
    "port that is no number": b"PROXY TCP4 192.0.2.7 198.51.100.1 \xd9\xa5\xd9\xa6 6380\r\n",
    "no end": b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    "control characters": b"PROXY TCP4 192.0.2.7\x00 198.51.100.1 56324 6380\r\n",
    "version 1 in the form of 2": make.v2(bytes(12), make.TCP4, 0x11),
    "version 3": make.v2(bytes(12), make.TCP4, 0x31),
    "command": make.v2(bytes(12), make.TCP4, 0x22),
    "address family": make.v2(bytes(216), 0x41),
    "transport": make.v2(bytes(216), 0x13),
    "too short for IPv4": make.v2(bytes(11), make.TCP4),
    "too short for IPv6": make.v2(bytes(35), make.TCP6),
    "too short for unix": make.v2(bytes(215), make.UNIX),
    "too long": make.v2(bytes(HEADER_MOST - 15), make.TCP4),
    "longest announcement": make.v2(bytes(65535), make.UNSPEC, make.LOCAL),
    "half a TLV": tlvs(b"\x02\x00"),
    "TLV beyond the end": tlvs(b"\x02\x00\x05abcd"),
    "TLV of a TLV beyond the end": tlvs(make.tlv(make.SSL, b"\x03\0\0\0\0\x22\x00\x05app")),
    "TLS without its flags": tlvs(make.tlv(make.SSL, b"\x03\0\0\0")),
    "two names": tlvs(make.ssl(SHOWN, 0, cn("app"), cn("admin"))),
    "two facts about TLS": tlvs(make.ssl(SHOWN, 1), make.ssl(SHOWN, 0, cn("admin"))),
    "two authorities": tlvs(make.tlv(make.AUTHORITY, b"a"), make.tlv(make.AUTHORITY, b"b")),
    "wrong checksum": make.summed(TCP)[:-1] + bytes((make.summed(TCP)[-1] ^ 1,)),
    "checksum of other bytes": make.summed(TCP).replace(b"\xc0\x00\x02\x07", b"\xc0\x00\x02\x08"),
    "checksum of 3 bytes": tlvs(make.tlv(make.CRC32C, bytes(3))),
    "two checksums": make.summed(make.summed(TCP)),
}


def fed(data: bytes) -> tuple[Header, int] | None:
    """What is read when ``data`` comes byte by byte, each of them needed."""
    whole = bytearray()
    for byte in data:
        whole.append(byte)
        if (found := read_header(whole)) is not None:
            return found
    return None


@pytest.mark.parametrize("name", GOOD)
def test_what_is_read(name: str) -> None:
    data, header = GOOD[name]
    assert read_header(data) == (header, len(data))
    assert fed(data) == (header, len(data))
    assert read_header(data + b"*1\r\n$4\r\nPING\r\n") == (header, len(data))
    assert begins_header(data)


@pytest.mark.parametrize("name", GOOD)
def test_no_part_of_a_header_is_one(name: str) -> None:
    data, _ = GOOD[name]
    sizes = range(len(data)) if len(data) < 300 else random.Random(1).sample(range(len(data)), 200)
    for size in sizes:
        assert read_header(data[:size]) is None


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name: str) -> None:
    with pytest.raises(HeaderError):
        read_header(WRONG[name])
    with pytest.raises(HeaderError):
        fed(WRONG[name])


def test_who_sends_no_header_is_found_out_at_the_first_byte() -> None:
    for first in range(256):
        if first in b"P\r":
            assert read_header(bytes((first,))) is None
        else:
            with pytest.raises(HeaderError, match="does not begin with a header"):
                read_header(bytes((first,)))


def test_a_length_is_judged_before_the_bytes_come() -> None:
    with pytest.raises(HeaderError, match="it announces 65551 bytes"):
        read_header(make.v2(bytes(65535))[:16])


def test_the_checksum() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(("version", "header"), [("v1", Header()), ("v2", Header(local=True))])
def test_the_proxys_own_header(version: str, header: Header) -> None:
    assert read_header(own_header(version)) == (header, len(own_header(version)))


def outcome(data: bytes) -> object:
    """What comes of ``data``, whose first byte decides of errors as all do."""
    try:
        return read_header(data)
    except HeaderError:
        return HeaderError


def stepwise(data: bytes) -> object:
    try:
        return fed(data)
    except HeaderError:
        return HeaderError


SEEDS = [data for data, _ in GOOD.values() if len(data) < 1000] + [data for data in WRONG.values() if len(data) < 1000]


@given(st.sampled_from(SEEDS), st.data())
def test_damaged_headers_are_read_the_same_in_any_pieces(seed: bytes, data: st.DataObject) -> None:
    """And are valid, invalid or incomplete, whatever is done to them: nothing else comes of them."""
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        size = data.draw(st.integers(0, 4))
        damaged[at : at + size] = data.draw(st.binary(max_size=4))
    assert outcome(bytes(damaged)) == stepwise(bytes(damaged))


@given(st.binary(max_size=300))
@example(b"")
@example(b"PROXY ")
def test_any_bytes(tail: bytes) -> None:
    for start in (b"", b"PROXY ", b"PROXY TCP4 ", make.SIGNATURE, make.SIGNATURE + b"\x21\x11\x00\x40"):
        assert outcome(start + tail) == stepwise(start + tail)


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(0, 65535), st.integers(0, 65535))
def test_every_ipv4_address(source: ipaddress.IPv4Address, to: ipaddress.IPv4Address, port: int, other: int) -> None:
    expected = Header((str(source), port), (str(to), other))
    for data in (make.v1(str(source), str(to), (port, other)), make.tcp(str(source), str(to), b"", (port, other))):
        assert read_header(data) == (expected, len(data))


@given(st.ip_addresses(v=6), st.ip_addresses(v=6), st.integers(0, 65535))
def test_every_ipv6_address(source: ipaddress.IPv6Address, to: ipaddress.IPv6Address, port: int) -> None:
    shown = [str(each.ipv4_mapped or each) for each in (source, to)]
    expected = Header((shown[0], port), (shown[1], port))
    for data in (
        make.v1(source.exploded, to.compressed, (port, port)),
        make.tcp(str(source), str(to), b"", (port, port)),
    ):
        assert read_header(data) == (expected, len(data))
