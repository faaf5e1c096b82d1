"""Framing of what backends send: where a reply ends, and where the elements of an aggregate lie.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2 and RESP3).
"""

_DOLLAR = 36
_CR = 13
_ZERO = 48
_BULK = frozenset(b"$=!")
_LINE = frozenset(b"+-:_#,(")
_TWICE = frozenset(b"%|")
_AGGREGATE = frozenset(b"*~>%|")
_ATTRIBUTE = ord("|")


class BadReply(Exception):
    """A backend sent bytes that are no RESP: the connection can not be used any more."""


class ReplyFramer:
    """Finds where a reply ends, without decoding it, and resumes where it stopped.

    The same contract as ``RequestFramer``: ``frame(data, start)`` gives the end or -1; then the caller keeps the bytes
    from ``start`` on and calls again with ``frame(kept, 0)`` once ``len(kept) >= need``. Nested aggregates need no
    stack: only the number of values still to come is kept, so depth costs nothing.
    """

    __slots__ = ("_at", "_left", "_searched", "need")

    def __init__(self) -> None:
        self._at = 0
        self._searched = 0
        self._left = 1
        self.need = 0

    def frame(self, data: bytes | bytearray, start: int) -> int:
        """The end of the reply at ``start``, or -1 for "need more". Raises ``BadReply``."""
        size = len(data)
        at = start + self._at
        left = self._left
        while left:
            # By hand: bulks whose length has one or two digits, with all that follows at hand.
            if at + 6 <= size and data[at] == _DOLLAR:
                first = data[at + 1]
                second = data[at + 2]
                after = 0
                if second == _CR:
                    after = at + first - _ZERO + 6
                elif data[at + 3] == _CR and first > _ZERO:
                    after = at + (first - _ZERO) * 10 + second - _ZERO + 7
                if at < after <= size and first >= _ZERO:
                    at = after
                    left -= 1
                    continue
            end = data.find(b"\r\n", max(at, start + self._searched))
            if end < 0:
                self._searched = max(size - start - 1, 0)
                return self._more(at - start, left, size - start + 1)
            kind = data[at]
            if kind in _LINE:
                at = end + 2
                left -= 1
            elif kind in _BULK:
                length = _length(data, at, end)
                after = end + 2 if length < 0 else end + 4 + length
                if after > size:
                    return self._more(at - start, left, after - start)
                at = after
                left -= 1
            elif kind in _AGGREGATE:
                count = max(_length(data, at, end), 0)
                left += count * 2 if kind in _TWICE else count
                left -= kind != _ATTRIBUTE
                at = end + 2
            else:
                raise BadReply(f"unexpected byte {kind:#04x} where a reply should begin")
        self.reset()
        return at

    def reset(self) -> None:
        """Forget an unfinished reply (the connection is gone)."""
        self._at = 0
        self._left = 1
        self._searched = 0
        self.need = 0

    def _more(self, at: int, left: int, need: int) -> int:
        self._at = at
        self._left = left
        self.need = need
        return -1


def _length(data: bytes | bytearray, at: int, end: int) -> int:
    try:
        return int(data[at + 1 : end])
    except ValueError as error:
        raise BadReply(f"bad length {bytes(data[at:end])!r}") from error


def header(frame: bytes) -> tuple[bytes, int, int]:
    """Of an aggregate: its type byte, how many elements it has (pairs of a map; none if it is null), where they begin.

    Raises ``BadReply`` if ``frame`` does not begin with the header of an aggregate.
    """
    end = frame.find(b"\r\n")
    if end < 0 or frame[0] not in _AGGREGATE:
        raise BadReply(f"not an aggregate: {frame[:32]!r}")
    return frame[:1], max(_length(frame, 0, end), 0), end + 2


def elements(frame: bytes) -> list[bytes]:
    """The frames of the direct elements of an array, set or push ``frame`` (of a map: keys and values in turn).

    A null array has no elements. Raises ``BadReply`` if ``frame`` is no complete aggregate.
    """
    kind, count, at = header(frame)
    framer = ReplyFramer()
    found: list[bytes] = []
    for _ in range(count * 2 if kind[0] in _TWICE else count):
        after = framer.frame(frame, at)
        if after < 0:
            raise BadReply("cut aggregate")
        found.append(frame[at:after])
        at = after
    return found
