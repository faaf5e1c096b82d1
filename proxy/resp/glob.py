"""Matching of Redis's glob patterns (PSUBSCRIBE, KEYS) in a time that is bounded whatever the pattern.

Source: https://redis.io/docs/latest/commands/keys/ and Redis 7's stringmatchlen (util.c).
"""

import re

_SPECIAL = re.compile(rb"[*?[\\]")
LONGEST = 1024
"""The size in bytes of the longest pattern that is interpreted; a longer one matches only a text equal to it."""
_MOST_STEPS = 100_000
"""Comparisons with a byte of the pattern after which matching is given up, with no match as its result. They take less
than a millisecond, and no pattern that people write needs so many."""
_STAR = 42
_ANY = 63
_OPEN = 91
_CLOSE = 93
_BACKSLASH = 92
_NOT = 94
_TO = 45


def literal_prefix(pattern: bytes) -> tuple[bytes, bool]:
    """The plain text that every match of ``pattern`` begins with, and whether the whole pattern is plain text."""
    found = _SPECIAL.search(pattern)
    return (pattern, True) if found is None else (pattern[: found.start()], False)


def matches(pattern: bytes, text: bytes) -> bool:
    """Whether ``text`` matches ``pattern``."""
    size = len(pattern)
    length = len(text)
    if not length:
        # Redis does not interpret the pattern of an empty text: not even a star matches it.
        return not size
    if size > LONGEST:
        return text == pattern
    view = pattern
    other = text
    steps = _MOST_STEPS
    at = 0
    place = 0
    star = -1
    """The offset behind the latest star. What stands between two stars has a fixed length, so its first match is as
    good as any other, and earlier stars need not be tried again."""
    after = 0
    while place < length or at < size:
        following = -1
        if at < size:
            if view[at] == _STAR:
                at += 1
                star = at
                after = place
                if at == size:
                    return True
                continue
            if place < length:
                char = other[place]
                first = view[at]
                if first == _ANY:
                    following = at + 1
                elif first == _OPEN:
                    following = _class(pattern, at + 1, char)
                    steps -= abs(following) - at
                    if following < 0:
                        following = -1
                else:
                    if first == _BACKSLASH and at + 1 < size:
                        at += 1
                        first = view[at]
                    if first == char:
                        following = at + 1
        steps -= 1
        if following >= 0:
            at = following
            place += 1
        elif star < 0 or place >= length or steps < 0:
            return False
        else:
            after += 1
            at = star
            place = after
    return True


def _class(pattern: bytes, at: int, char: int) -> int:
    """The offset behind the character class whose content begins at ``at``, negative if ``char`` is not in it."""
    view = pattern
    size = len(pattern)
    negated = at < size and view[at] == _NOT
    if negated:
        at += 1
    found = False
    while at < size and view[at] != _CLOSE:
        first = view[at]
        if first == _BACKSLASH and at + 1 < size:
            found = found or view[at + 1] == char
            at += 2
        elif at + 2 < size and view[at + 1] == _TO:
            last = view[at + 2]
            found = found or first <= char <= last or last <= char <= first
            at += 3
        else:
            found = found or first == char
            at += 1
    return at + 1 if found != negated else -at - 1
