"""Redis's glob patterns, as PSUBSCRIBE and KEYS have them, matched in a time that no pattern can make long.

Source: https://redis.io/docs/latest/commands/keys/ and what Redis 7 matches (util.c, stringmatchlen).
"""

import re
from collections.abc import Callable

_SPECIAL = re.compile(rb"[*?[\\]")
LONGEST = 1024
"""Bytes of a pattern that is taken apart: with more of them that would hold up all others."""


def literal_prefix(pattern: bytes) -> tuple[bytes, bool]:
    """What all that ``pattern`` matches begins with, as far as it is plain text, and whether that is all of it."""
    found = _SPECIAL.search(pattern)
    return (pattern, True) if found is None else (pattern[: found.start()], False)


def matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """Tells whether a text matches ``pattern``; of one that is longer than ``LONGEST``, whether it is the same."""
    if len(pattern) > LONGEST:
        return lambda text: text == pattern
    # Between stars everything has one length, so the first place where a part fits is as good as any other: each is
    # atomic, which keeps the regular expression from trying others.
    first, *parts = _parts(pattern)
    if not parts:
        expression = first
    else:
        inner = b"".join(b"(?>.*?%b)" % part for part in parts[:-1] if part)
        expression = b"%b%b.*%b" % (first, inner, parts[-1])
    compiled = re.compile(expression, re.DOTALL)

    def matches(text: bytes) -> bool:
        # Redis looks at no pattern, a star neither, where there is no text.
        return compiled.fullmatch(text) is not None if text else not pattern

    return matches


def _parts(pattern: bytes) -> list[bytes]:
    """The regular expressions of what stands between the stars."""
    parts = [b""]
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        at += 1
        if char == b"*":
            parts.append(b"")
        elif char == b"?":
            parts[-1] += b"."
        elif char == b"[":
            chars, at = _class(pattern, at)
            parts[-1] += chars
        else:
            if char == b"\\" and at < len(pattern):
                char = pattern[at : at + 1]
                at += 1
            parts[-1] += re.escape(char)
    return parts


def _class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The regular expression of the class whose inside begins at ``at``, and where the pattern goes on."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    chars: set[int] = set()
    while at < len(pattern) and pattern[at] != ord("]"):
        if pattern[at] == ord("\\") and at + 1 < len(pattern):
            chars.add(pattern[at + 1])
            at += 2
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            chars.update(range(min(pattern[at], pattern[at + 2]), max(pattern[at], pattern[at + 2]) + 1))
            at += 3
        else:
            chars.add(pattern[at])
            at += 1
    if negated:
        chars = set(range(256)) - chars
    if not chars:
        return b"(?!)", at + 1
    return b"[%b]" % b"".join(b"\\x%02x" % char for char in sorted(chars)), at + 1
