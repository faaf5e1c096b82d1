"""Framing of the replies that servers send: where a reply ends, and where the elements of an aggregate lie.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2 and RESP3).
"""

from collections.abc import Iterator

_DOLLAR = 36
_STAR = 42
_PLUS = 43
_MINUS = 45
_COLON = 58
_UNDERSCORE = 95
_HASH = 35
_CR = 13
_LF = 10
_ZERO = 48
_ONE = 49
_NINE = 57
_BULK = frozenset(b"$=!")
_LINE = frozenset(b"+-:_#,(")
_TWICE = frozenset(b"%|")
_AGGREGATE = frozenset(b"*~>%|")
_ATTRIBUTE = ord("|")
_LONGEST = 12
"""The type and the digits of a length that is parsed in place have fewer bytes; such a length fits in 64 bits."""
_LONGEST_HEADER = 32
"""The type and the length of any value have fewer bytes."""
_LEAST = 3
"""The smallest value has so many bytes: its type and a line break."""
_MOST = 2**40
"""The largest length accepted: servers send none so large, and sums of such lengths fit in C integers."""


class BadReply(Exception):
    """A server sent bytes that are not RESP; its connection can not be used any more."""


def short_end(data: bytes, at: int) -> int:
    """The end of the reply at ``at`` if it is a common short one and complete, else -1; then ``ReplyFramer`` decides.

    The common ones are null, bulk strings of less than 1000 bytes, ``+OK`` and integers of one digit.
    """
    view = data
    size = len(data)
    if at + 6 > size:
        if at + 5 == size and view[at + 3] == _CR and view[at + 4] == _LF:
            first = view[at]
            second = view[at + 2]
            known = (first == _PLUS and second != _LF) or (
                first == _DOLLAR and view[at + 1] == _MINUS and second == _ONE
            )
            return size if known else -1
        return size if at + 4 == size and view[at] == _COLON and view[at + 2] == _CR and view[at + 3] == _LF else -1
    first = view[at]
    second = view[at + 2]
    if first == _DOLLAR:
        first = view[at + 1] - _ZERO
        if first < 0:
            null = first == _MINUS - _ZERO and second == _ONE and view[at + 3] == _CR and view[at + 4] == _LF
            return at + 5 if null else -1
        if first > 9:
            return -1
        if second == _CR:
            at += first + 6
        elif not first or not _ZERO <= second <= _NINE:
            return -1
        else:
            third = view[at + 3]
            if third == _CR:
                at += first * 10 + second - _ZERO + 7
            elif _ZERO <= third <= _NINE and view[at + 4] == _CR and view[at + 5] == _LF:
                at += first * 100 + second * 10 + third - _ZERO * 11 + 8
            else:
                return -1
        return at if at <= size else -1
    if first == _COLON:
        return at + 4 if second == _CR and view[at + 3] == _LF else -1
    if first == _PLUS:
        return at + 5 if second != _LF and view[at + 3] == _CR and view[at + 4] == _LF else -1
    return -1


class ReplyFramer:
    """Finds the end of a reply without decoding it, and resumes where it stopped when more bytes come.

    The contract is that of ``RequestFramer``: ``frame(data, start)`` returns the end or -1; after a -1 the caller keeps
    the bytes from ``start`` on and calls ``frame(kept, 0)`` once ``len(kept) >= need``. Nested aggregates need no
    stack: only the number of values still to come is kept, so depth costs nothing.

    A long aggregate or bulk string need not be kept: once ``frame`` has returned -1, ``through`` takes the reply piece
    by piece.
    """

    __slots__ = ("_at", "_cut", "_in_line", "_left", "_searched", "need", "whole")

    def __init__(self) -> None:
        self._at = 0
        self._searched = 0
        self._left = 1
        self._cut = False
        """Whether the value at ``_at`` is cut before its first line break."""
        self._in_line = False
        """Whether the previous piece ended within a simple value, whose line break is still to come."""
        self.need = 0
        self.whole = False
        """Whether the part that ``through`` returned last ends the reply."""

    def frame(self, data: bytes | bytearray, start: int) -> int:
        """The end of the reply at ``start``, or -1 for "need more". Raises ``BadReply``."""
        view = data
        size = len(data)
        at = start + self._at
        left = self._left
        while left:
            # Bulk strings and arrays whose length has come whole are parsed in place.
            kind = view[at] if at < size else 0
            if kind == _DOLLAR or kind == _STAR:  # noqa: SIM109 - a tuple costs more, once per value
                if at + 5 <= size and view[at + 1] == _MINUS and view[at + 2] == _ONE and view[at + 3] == _CR:
                    at += 5
                    left -= 1
                    continue
                length = 0
                end = at + 1
                most = min(size, at + _LONGEST)
                while end < most and _ZERO <= view[end] <= _NINE:
                    length = length * 10 + view[end] - _ZERO
                    end += 1
                if end > at + 1 and end + 1 < size and view[end] == _CR and view[end + 1] == _LF:
                    if kind == _STAR:
                        at = end + 2
                        left += length - 1
                        continue
                    after = end + 4 + length
                    if after > size:
                        return self._more(at - start, left, after - start)
                    at = after
                    left -= 1
                    continue
            elif kind == _COLON or kind == _UNDERSCORE or kind == _PLUS or kind == _HASH:  # noqa: SIM109
                # So are short numbers, nulls, simple strings and booleans.
                end = at + 1
                most = min(size - 1, at + _LONGEST)
                while end < most and view[end] != _CR:
                    end += 1
                if end < most and view[end + 1] == _LF:
                    at = end + 2
                    left -= 1
                    continue
            end = data.find(b"\r\n", max(at, start + self._searched))
            if end < 0:
                self._searched = max(size - start - 1, 0)
                self._more(at - start, left, size - start + 1)
                self._cut = True
                return -1
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
                if kind != _ATTRIBUTE:
                    left -= 1
                at = end + 2
            else:
                raise BadReply(f"unexpected byte {kind:#04x} where a reply should begin")
        self.reset()
        return at

    def through(self, data: bytes, start: int) -> int:
        """The end of the part of ``data[start:]`` that belongs to the reply and can be passed on.

        The first piece is what ``frame`` was given last; every other piece begins where the previous part ended. The
        bytes behind a part begin the next reply if ``whole`` is set, else the caller puts them at the head of the next
        piece. Raises ``BadReply``.
        """
        size = len(data)
        self.whole = False
        if self._in_line:
            end = data.find(b"\r\n", start)
            if end < 0:
                return _line_so_far(data)
            self._in_line = False
            self._left -= 1
            self._at = end + 2 - start
        if self._left and self._at < size - start:
            self._searched = 0
            end = self.frame(data, start)
            if end >= 0:
                self.whole = True
                return end
            if self._at < size - start:
                return self._within(data, start)
        end = start + self._at
        if end > size or self._left:
            self._at = end - size
            return size
        self.reset()
        self.whole = True
        return end

    @property
    def ahead(self) -> int:
        """How many bytes of the reply, at least, are still to come behind the part that ``through`` returned last."""
        return self._at + self._left * _LEAST

    def _within(self, data: bytes, start: int) -> int:
        """The end of a part that ends within a value."""
        at = start + self._at
        size = len(data)
        self._at = 0
        if not self._cut:  # the value is a bulk string, some of whose bytes are still to come
            self._at = self.need - (size - start)
            self._left -= 1
            return size
        if data[at] in _LINE:
            self._in_line = True
            return _line_so_far(data)
        if size - at > _LONGEST_HEADER:
            raise BadReply(f"bad length {data[at : at + _LONGEST_HEADER]!r}")
        return at

    def reset(self) -> None:
        """Forget the unfinished reply of a connection that is closed."""
        self._at = 0
        self._left = 1
        self._searched = 0
        self._cut = False
        self._in_line = False
        self.need = 0

    def _more(self, at: int, left: int, need: int) -> int:
        self._cut = False
        self._at = at
        self._left = left
        self.need = need
        return -1


def _line_so_far(data: bytes) -> int:
    """The end of ``data`` without the first half of a line break."""
    size = len(data)
    return size - 1 if data[size - 1] == _CR else size


def _length(data: bytes | bytearray, at: int, end: int) -> int:
    """The number between ``at`` and ``end``, -1 for null. Raises ``BadReply``."""
    try:
        length = int(data[at + 1 : end])
    except ValueError as error:
        raise BadReply(f"bad length {bytes(data[at:end])!r}") from error
    if not -1 <= length <= _MOST:
        raise BadReply(f"bad length {length}")
    return length


def header(frame: bytes) -> tuple[bytes, int, int]:
    """The type byte of an aggregate, the number of its elements (pairs in a map, 0 for null), and their offset.

    Raises ``BadReply`` if ``frame`` does not begin with the header of an aggregate.
    """
    end = frame.find(b"\r\n")
    if end < 0 or frame[0] not in _AGGREGATE:
        raise BadReply(f"not an aggregate: {frame[:32]!r}")
    return frame[:1], max(_length(frame, 0, end), 0), end + 2


def some_elements(frame: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """The frames of the ``count`` elements that begin at ``at``, and the offset behind them. Raises ``BadReply``."""
    framer = ReplyFramer()
    found: list[bytes] = []
    view = frame
    while count:
        after = short_end(frame, at)
        if after < 0:
            after = framer.frame(frame, at)
            if after < 0:
                raise BadReply("cut aggregate")
        found.append(view[at:after])
        at = after
        count -= 1
    return found, at


def element_steps(frame: bytes, step: int) -> Iterator[list[bytes]]:
    """The frames of the direct elements of an aggregate, ``step`` of them at a time, for jobs; see ``elements``."""
    kind, number, at = header(frame)
    for left in range(number * 2 if kind in (b"%", b"|") else number, 0, -step):
        some, at = some_elements(frame, at, min(step, left))
        yield some


def elements(frame: bytes) -> list[bytes]:
    """The frames of the direct elements of an array, set or push ``frame`` (of a map: keys and values in turn).

    A null array has no elements. Raises ``BadReply`` if ``frame`` is not a complete aggregate.
    """
    view = frame
    if len(frame) >= 4 and view[0] == _STAR and view[2] == _CR and _ZERO <= view[1] <= _NINE:
        count = view[1] - _ZERO
        at = 4
    else:
        kind, number, at = header(frame)
        count = number * 2 if kind in (b"%", b"|") else number
    found, _ = some_elements(frame, at, count)
    return found


def integer_of(frame: bytes) -> int:
    """The number of an integer reply. Raises ``BadReply`` for any other reply."""
    if frame[:1] != b":":
        raise BadReply(f"not an integer: {frame[:32]!r}")
    return int(frame[1:-2])


def string_of(frame: bytes) -> bytes:
    """The content of a bulk, verbatim or simple string, all of which is in ``frame``. Raises ``BadReply``."""
    if frame[:1] == b"+":
        return frame[1:-2]
    if frame[:1] not in (b"$", b"="):
        raise BadReply(f"not a string: {frame[:32]!r}")
    body = frame[frame.index(b"\r\n") + 2 : -2]
    return body[4:] if frame[:1] == b"=" else body
