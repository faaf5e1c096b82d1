"""Makes headers of the PROXY protocol, valid ones and others."""

import ipaddress
from collections.abc import Sequence

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX, UNIX_DATAGRAM = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE, SSL = 0x01, 0x02, 0x03, 0x04, 0x05, 0x20
SSL_VERSION, SSL_CN = 0x21, 0x22


def v1(source: str, destination: str = "198.51.100.1", ports: tuple[int, int] = (56324, 6380)) -> bytes:
    """A line of version 1."""
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {destination} {ports[0]} {ports[1]}\r\n".encode()


def v2(block: bytes = b"", family: int = TCP4, command: int = PROXY) -> bytes:
    """A header of version 2 with ``block`` behind its fixed part."""
    return SIGNATURE + bytes((command, family)) + len(block).to_bytes(2, "big") + block


def tcp(source: str, destination: str, tlvs: bytes = b"", ports: tuple[int, int] = (56324, 6380)) -> bytes:
    """A header of version 2 for a TCP connection."""
    pair = [ipaddress.ip_address(host).packed for host in (source, destination)]
    block = b"".join(pair) + b"".join(port.to_bytes(2, "big") for port in ports)
    return v2(block + tlvs, TCP6 if ":" in source else TCP4)


def unix(source: bytes, destination: bytes) -> bytes:
    """A header of version 2 for a connection to a unix socket."""
    return v2(source.ljust(108, b"\0") + destination.ljust(108, b"\0"), UNIX)


def tlv(kind: int, value: bytes) -> bytes:
    """A TLV."""
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def ssl(client: int, verify: int, *more: tuple[int, bytes]) -> bytes:
    """The TLV about the client's TLS."""
    return tlv(SSL, bytes((client,)) + verify.to_bytes(4, "big") + b"".join(tlv(*each) for each in more))


def summed(header: bytes) -> bytes:
    """The header with a TLV for its checksum at its end, computed bit by bit."""
    whole = bytearray(header + tlv(CRC32C, bytes(4)))
    whole[14:16] = (len(whole) - 16).to_bytes(2, "big")
    whole[-4:] = crc32c(whole).to_bytes(4, "big")
    return bytes(whole)


def crc32c(data: Sequence[int]) -> int:
    """The checksum of RFC 4960, by its definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF
