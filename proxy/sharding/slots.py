"""The slot of a key, one of 16,384.

Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ (key distribution model, hash tags).
"""

from binascii import crc_hqx

SLOTS = 16384


def hashed_part(key: bytes) -> bytes:
    """The part of ``key`` that is hashed: what stands between the first ``{`` and the next ``}``, else all of it."""
    start = key.find(b"{")
    if start < 0:
        return key
    end = key.find(b"}", start + 1)
    if end <= start + 1:
        return key
    return key[start + 1 : end]


def key_slot(key: bytes) -> int:
    """The slot of ``key``, 0 to 16383: ``CRC16(hashed part) mod 16384``.

    The standard library's ``crc_hqx`` is the CRC16 that Redis uses (CCITT/XMODEM: polynomial 0x1021, start value 0).
    """
    if b"{" in key:
        key = hashed_part(key)
    return crc_hqx(key, 0) & 0x3FFF


def whole_slot(data: bytes, start: int, stop: int) -> int:
    """The slot of ``data[start:stop]``, which lies within ``data``, if all of it is hashed: hash tags do not count."""
    return crc_hqx(data[start:stop], 0) & 0x3FFF


def span_slot(data: bytes, start: int, stop: int) -> int:
    """The slot of the key at ``data[start:stop]``, which lies within ``data``."""
    return key_slot(data[start:stop])
