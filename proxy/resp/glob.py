"""Redis's glob patterns, as PSUBSCRIBE and KEYS have them, matched in a time that no pattern can make long.

Source: https://redis.io/docs/latest/commands/keys/ and what Redis 7 matches (util.c, stringmatchlen).
"""

import re

_SPECIAL = re.compile(rb"[*?[\\]")
LONGEST = 1024
"""Bytes of a pattern that is looked into; a longer one matches what is the same."""
_MOST_STEPS = 100_000
"""Looks at a byte of a pattern, until it is given up: under a millisecond, and more than any pattern needs that people
write. What is given up does not match."""
_STAR = 42
_ANY = 63
_OPEN = 91
_CLOSE = 93
_BACKSLASH = 92
_NOT = 94
_TO = 45


def literal_prefix(pattern: bytes) -> tuple[bytes, bool]:
    """What all that ``pattern`` matches begins with, as far as it is plain text, and whether that is all of it."""
    found = _SPECIAL.search(pattern)
    return (pattern, True) if found is None else (pattern[: found.start()], False)


def matches(pattern: bytes, text: bytes) -> bool:
    """Whether ``text`` matches ``pattern``."""
    size = len(pattern)
    length = len(text)
    if not length:
        # Redis looks at no pattern, a star neither, where there is no text.
        return not size
    if size > LONGEST:
        return text == pattern
    view = pattern
    other = text
    steps = _MOST_STEPS
    at = 0
    place = 0
    star = -1
    """Behind the latest star: between stars everything has one length, so the first place where it fits is as good as
    any other, and earlier stars need not be tried again."""
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
    """Whether ``char`` is in the class whose inside begins at ``at``: the offset behind the class, negative if not."""
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
