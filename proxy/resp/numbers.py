"""Parsing of the integers that clients and servers write."""

_DIGITS = 19
"""The largest signed integer of 64 bits has so many digits."""


def parse_integer(text: bytes) -> int | None:
    """The signed decimal integer of at most 64 bits in ``text``, as Redis's string2ll reads it; None if there is none.

    A ``+``, blanks and leading zeros are not allowed.
    """
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > _DIGITS or (digits[:1] == b"0" and text != b"0"):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None
