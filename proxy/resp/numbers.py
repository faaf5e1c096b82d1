"""Integers as clients and servers write them."""

_DIGITS = 19
"""Digits of the largest signed integer of 64 bits."""


def parse_integer(text: bytes) -> int | None:
    """A signed decimal integer of at most 64 bits, as Redis's string2ll reads it; None if it is none.

    No ``+``, no blanks, no leading zeros.
    """
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > _DIGITS or (digits[:1] == b"0" and text != b"0"):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None
