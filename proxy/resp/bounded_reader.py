"""Reads the replies to the proxy's own questions, each within bounds on its bytes and its values.

The data path passes replies on as bytes, within ``limits.max_reply``. The proxy's own questions (the facts of a server,
the topology, handshakes) are decoded into Python objects instead, so a broken or hostile server could make the proxy
keep any amount, or be busy with one reply for seconds. The sizes and counts that a reply announces are checked before
anything is decoded: nothing is reserved for a value of 512 MB, and no line is searched that does not end.
"""

from collections.abc import Iterable
from typing import NamedTuple

import hiredis

from proxy.resp.replies import BadReply

LONGEST_LINE = 64 * 1024
"""The most bytes of a line: a simple string, an error, a number, or the header of another value."""

_LINES = frozenset(b"+-:_#,(")
_BULKS = frozenset(b"$=!")
_AGGREGATES = frozenset(b"*~>%")
_MAP = ord("%")
_LENGTH_MOST = 2**40


class ReplyBounds(NamedTuple):
    """The most that one reply may be: its bytes, and its values (the elements of all aggregates, and these)."""

    size: int
    values: int


SHORT = ReplyBounds(64 * 1024, 10_000)
"""The bounds of the reply to an ordinary question: a role, a setting, a section of INFO, an id."""


class ReplyTooLong(BadReply):
    """A reply exceeds its bounds; the connection has to be closed, as the rest of the reply is still to come."""


class BoundedReader:
    """Decodes replies like ``hiredis.Reader``. Each reply has bounds of its own, in the order of ``bounds``.

    ``extra`` says that the server sent more than the replies for which there are bounds. These bytes are not read.
    """

    def __init__(self, bounds: Iterable[ReplyBounds]) -> None:
        self.extra = False
        self.complete = 0
        """The number of replies that have come whole."""
        self._bounds = iter(bounds)
        self._of = next(self._bounds, None)
        """The bounds of the reply that is being read; None if no further reply is expected."""
        self._reader = hiredis.Reader()
        self._left = 1
        """The number of values of the reply that are still to come, as far as their number is known."""
        self._skip = 0
        """The number of bytes still to come of the bulk string that is cut."""
        self._line = b""
        """The beginning of a line that is cut."""
        self._size = 0
        """The number of bytes of the reply that have come."""
        self._values = 0
        """The number of values of the reply that have come or begun."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises ``BadReply`` for bytes that are no reply, ``ReplyTooLong`` for a reply that is,
        or will be, larger than its bounds."""
        end = self._check(data)
        if end:
            self._reader.feed(data[:end] if end < len(data) else data)

    def gets(self) -> object:
        """The next reply, decoded; False if it is not complete. Raises ``hiredis.ProtocolError``."""
        return self._reader.gets()

    def _check(self, data: bytes) -> int:
        """Check ``data``, and return the offset behind the part of it that belongs to expected replies."""
        size = len(data)
        at = min(self._skip, size)
        if self._skip:
            self._skip -= at
            if self._skip:
                return at
            self._value_ended()
        while at < size:
            of = self._of
            if of is None:
                self.extra = True
                break
            end = data.find(b"\n", at)
            if end < 0:
                self._cut_line(data[at:], of)
                return size
            line = data[at : end + 1]
            at = end + 1
            if self._line or line[-2:] != b"\r\n" or len(line) > LONGEST_LINE:
                line = self._whole_line(line, of)
                if not line:
                    continue
            else:
                self._size += len(line)
            self._values += 1
            kind = line[0]
            if kind in _LINES:
                self._left -= 1
            elif kind in _BULKS:
                length = _length(line)
                self._left -= 1
                if length >= 0:
                    self._size += length + 2
                    at += length + 2
                    if at > size:
                        self._bound(of)
                        self._skip = at - size
                        self._left += 1  # as the value has not ended
                        return size
            elif kind in _AGGREGATES:
                self._left += max(_length(line), 0) * (2 if kind == _MAP else 1) - 1
            else:
                raise BadReply(f"unexpected byte {kind:#04x} where a reply should begin")
            if self._size > of.size or self._values + self._left > of.values:
                self._bound(of)
            if not self._left:
                self._next()
        return at

    def _whole_line(self, part: bytes, of: ReplyBounds) -> bytes:
        """The line that ``part`` ends, whose beginning came before; empty if ``part`` ends in a bare line feed."""
        self._cut_line(part, of)
        if not self._line.endswith(b"\r\n"):
            return b""
        line, self._line = self._line, b""
        return line

    def _cut_line(self, part: bytes, of: ReplyBounds) -> None:
        """Keep ``part`` of a line whose end is still to come."""
        self._line += part
        self._size += len(part)
        if len(self._line) > LONGEST_LINE:
            raise ReplyTooLong(f"a line has more than {LONGEST_LINE} bytes")
        self._bound(of)

    def _bound(self, of: ReplyBounds) -> None:
        """Raise ``ReplyTooLong`` if the reply is larger than its bounds, as far as is known or announced."""
        if self._size > of.size:
            raise ReplyTooLong(f"it has more than {of.size} bytes")
        if self._values + self._left > of.values:
            raise ReplyTooLong(f"it has more than {of.values} values")

    def _value_ended(self) -> None:
        """Take notice that a bulk string is complete."""
        self._left -= 1
        if not self._left:
            self._next()

    def _next(self) -> None:
        """Begin the next reply."""
        self._left = 1
        self._size = self._values = 0
        self.complete += 1
        self._of = next(self._bounds, None)


def _length(line: bytes) -> int:
    """The number in a header, -1 for null. Raises ``BadReply``."""
    digits = line[1:-2]
    if digits == b"-1":
        return -1
    if not digits.isdigit() or len(digits) > 13 or int(digits) > _LENGTH_MOST:
        raise BadReply(f"bad length {line[:32]!r}")
    return int(digits)
