"""Reads and writes the header of the PROXY protocol, versions 1 and 2: the first bytes of a connection, in which a
balancer tells the address of the client whose connection it forwards. No I/O.

::

    v1  PROXY TCP4 192.0.2.7 198.51.100.1 56324 6380\\r\\n                    a line of at most 107 bytes
    v2  signature (12) | version, command | family, transport | length (2) | addresses | TLVs

Source: https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

Endpoint = tuple[str, int] | str
"""An IP address with a port, or the path of a unix socket, which may be empty."""

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LINE = b"PROXY "
_LINE_MOST = 107
"""The bytes of the longest line, with its end."""
_FIXED = 16
"""The bytes of version 2 ahead of the addresses."""
HEADER_MOST = 16 * 1024
"""The bytes of the longest header that is read. A header of version 2 may announce 64 KB; HAProxy's own buffer, of
which its header is a part, is of this size."""

_TCP = re.compile(rb"PROXY (TCP4|TCP6) ([0-9.]+|[0-9A-Fa-f:.]+) ([0-9.]+|[0-9A-Fa-f:.]+) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_VERSION = 2
_LOCAL, _PROXY = 0, 1
_INET, _INET6, _UNIX = 1, 2, 3
_STREAM, _DATAGRAM = 1, 2
_SIZES = {_INET: 12, _INET6: 36, _UNIX: 216}
"""The bytes of both addresses, by family."""
_PATH = 108
_AUTHORITY, _CRC32C, _SSL = 0x02, 0x03, 0x20
"""The types of TLVs that are used. Any other is passed over, one that only pads (NOOP) too."""
_SSL_CN = 0x22
_SSL_HEAD = 5
_OVER_TLS = 0x01
_CERTIFICATE = 0x02 | 0x04
"""The client has shown a certificate, on this connection or in the TLS session that it resumed."""
_VERIFIED = bytes(4)

_UNKNOWN_LINE = b"PROXY UNKNOWN\r\n"
_LOCAL_HEADER = SIGNATURE + bytes((_VERSION << 4 | _LOCAL, 0, 0, 0))


class HeaderError(ValueError):
    """What arrived is no header of the PROXY protocol, or not a valid one. The text says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """The statements of a header about the client.

    ``source`` and ``destination`` are None if the header tells no addresses: then those of the connection itself hold.
    """

    source: Endpoint | None = None
    destination: Endpoint | None = None
    local: bool = False
    """Whether the connection is the balancer's own, such as a health check, and forwards no client."""
    authority: str = ""
    """The name that the client asked for, such as the name of a server in its TLS handshake (SNI)."""
    common_name: str = ""
    """The common name (CN) of the client's certificate, if the balancer has verified the certificate; else ""."""


def own_header(version: str) -> bytes:
    """The header of a connection that forwards no client, so that the server takes its real address; ``version`` is
    "v1", "v2" or, for no header, "off".

    Version 1 has no command for that, but "UNKNOWN", of which a server can use the real address too.
    """
    return {"off": b"", "v1": _UNKNOWN_LINE, "v2": _LOCAL_HEADER}[version]


def read_header(data: bytes | bytearray) -> tuple[Header, int] | None:
    """Return the header at the start of ``data`` and its size in bytes; None while it is incomplete.

    Raises ``HeaderError`` as soon as ``data`` can not become a valid header.
    """
    if data.startswith(SIGNATURE):
        return _read_v2(data)
    if data.startswith(_LINE):
        return _read_v1(data)
    if data in (SIGNATURE[: len(data)], _LINE[: len(data)]):
        return None
    raise HeaderError("it does not begin with a header")


def begins_header(data: bytes) -> bool:
    """Whether ``data`` begins as a header does."""
    return data.startswith((SIGNATURE, _LINE))


# ---- version 1


def _read_v1(data: bytes | bytearray) -> tuple[Header, int] | None:
    end = data.find(b"\r\n", 0, _LINE_MOST)
    if end < 0:
        if len(data) >= _LINE_MOST:
            raise HeaderError(f"the line of version 1 does not end within {_LINE_MOST} bytes")
        return None
    size = end + 2
    line = bytes(data[:size])
    if line == _UNKNOWN_LINE or line.startswith(b"PROXY UNKNOWN "):
        return Header(), size
    match = _TCP.fullmatch(line)
    if match is None:
        raise HeaderError("the line of version 1 is not as the protocol says")
    family, *words = (word.decode("ascii") for word in match.groups())
    source, destination = (_parse_ip(family, word) for word in words[:2])
    ports = [_parse_port(word) for word in words[2:]]
    return Header((source, ports[0]), (destination, ports[1])), size


def _parse_ip(family: str, word: str) -> str:
    try:
        return _shown(ipaddress.IPv4Address(word) if family == "TCP4" else ipaddress.IPv6Address(word))
    except ValueError:
        raise HeaderError(f"{word!r} is no address of {family}") from None


def _shown(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """The address as text; an IPv4 address that is written as one of IPv6 becomes what it is."""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _parse_port(word: str) -> int:
    if (word.startswith("0") and word != "0") or int(word) > 65535:
        raise HeaderError(f"{word!r} is no port")
    return int(word)


# ---- version 2


def _read_v2(data: bytes | bytearray) -> tuple[Header, int] | None:
    if len(data) > 12 and data[12] >> 4 != _VERSION:
        raise HeaderError(f"it is of version {data[12] >> 4}, not 1 or 2")
    if len(data) > 12 and data[12] & 15 > _PROXY:
        raise HeaderError(f"the command {data[12] & 15} is neither LOCAL nor PROXY")
    if len(data) < _FIXED:
        return None
    size = _FIXED + int.from_bytes(data[14:16], "big")
    if size > HEADER_MOST:
        raise HeaderError(f"it announces {size} bytes, more than {HEADER_MOST}")
    if len(data) < size:
        return None
    if data[12] & 15 == _LOCAL:
        return Header(local=True), size  # the rest of it has no meaning then
    family, transport = data[13] >> 4, data[13] & 15
    if family > _UNIX or transport > _DATAGRAM:
        raise HeaderError(f"the family 0x{data[13]:02x} is none of the protocol's")
    if family not in _SIZES or transport != _STREAM:
        return Header(), size  # the address of the client is not known, or can not be that of a connection
    begin = _FIXED + _SIZES[family]
    if size < begin:
        raise HeaderError(f"it has {size - _FIXED} bytes, too few for its addresses")
    header = bytes(data[:size])
    source, destination = _addresses(family, header[_FIXED:begin])
    authority, common_name = _read_tlvs(header, begin)
    return Header(source, destination, False, authority, common_name), size


def _addresses(family: int, block: bytes) -> tuple[Endpoint, Endpoint]:
    if family == _UNIX:
        return _path(block[:_PATH]), _path(block[_PATH:])
    length = len(block) // 2 - 2
    hosts = (_shown(ipaddress.ip_address(block[at : at + length])) for at in (0, length))
    ports = (int.from_bytes(block[at : at + 2], "big") for at in (2 * length, 2 * length + 2))
    source, destination = zip(hosts, ports, strict=True)
    return source, destination


def _path(field: bytes) -> str:
    """The path of a unix socket; "" for a socket without a name, or with one that would break a line of CLIENT LIST."""
    return _printable(field.partition(b"\0")[0])


def _printable(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() and " " not in text else ""


def _read_tlvs(header: bytes, begin: int) -> tuple[str, str]:
    """Return the authority and the common name in the TLVs from ``begin`` on, and check the checksum if there is one.

    Raises ``HeaderError``, also for a TLV that is there twice: which one is meant can not be known.
    """
    found: dict[int, bytes] = {}
    for kind, value, at in _tlvs(header, begin):
        if kind not in (_AUTHORITY, _CRC32C, _SSL):
            continue
        if kind in found:
            raise HeaderError(f"the TLV 0x{kind:02x} is there twice")
        found[kind] = value
        if kind == _CRC32C:
            _check(header, value, at)
    return _printable(found.get(_AUTHORITY, b"")), _common_name(found.get(_SSL))


def _tlvs(block: bytes, begin: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield the type, the value and the position of the value of each TLV from ``begin`` on. Raises ``HeaderError``."""
    while begin < len(block):
        at = begin + 3
        end = at + int.from_bytes(block[begin + 1 : at], "big")
        if at > len(block) or end > len(block):
            raise HeaderError("a TLV is longer than what is left")
        yield block[begin], block[at:end], at
        begin = end


def _check(header: bytes, value: bytes, at: int) -> None:
    """Compare the checksum ``value``, which is at ``at``, with that of ``header``. Raises ``HeaderError``."""
    if len(value) != 4 or crc32c(header[:at] + bytes(4) + header[at + 4 :]) != int.from_bytes(value, "big"):
        raise HeaderError("the checksum is wrong")


def _common_name(value: bytes | None) -> str:
    """The common name in the TLV about TLS; "" if the balancer has not verified a certificate. Raises
    ``HeaderError``."""
    if value is None:
        return ""
    if len(value) < _SSL_HEAD:
        raise HeaderError("the TLV 0x20 is too short")
    names = [name for kind, name, _ in _tlvs(value, _SSL_HEAD) if kind == _SSL_CN]
    if len(names) > 1:
        raise HeaderError("the TLV 0x22 is there twice")
    verified = value[0] & _OVER_TLS and value[0] & _CERTIFICATE and value[1:_SSL_HEAD] == _VERIFIED
    return _printable(names[0]) if names and verified else ""


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return tuple(table)


def crc32c(data: bytes) -> int:
    """The checksum of RFC 4960, appendix B (Castagnoli's polynomial)."""
    table = _crc_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
