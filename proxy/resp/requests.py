"""Framing of the requests that clients send, and splitting them into arguments.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ and the behaviour of Redis 7's networking.c
(processMultibulkBuffer, processInlineBuffer), which the error texts are taken from.
"""

import re

import hiredis

from proxy.resp.limits import RequestLimits
from proxy.resp.numbers import parse_integer

_CR = 13
_LF = 10
_STAR = 42
_DOLLAR = 36
_ZERO = 48
_NINE = 57
_SHORTEST = 6
"""The size in bytes of the shortest argument, the empty one: ``$0`` and two line breaks."""


class ProtocolError(Exception):
    """The client's bytes are not RESP; the text is Redis's own, without the ``-ERR`` before it."""


class RequestFramer:
    """Finds the end of a request without decoding it, and resumes where it stopped when more bytes come.

    ``frame(data, start)`` returns the offset behind the request that begins at ``start``, or -1 when more bytes are
    needed. After a -1 the caller keeps the bytes from ``start`` on, adds the ones that come, and calls
    ``frame(kept, 0)`` once ``len(kept) >= need``: no byte is read twice, so a request costs linear time however it is
    cut. ``inline`` says that the request just framed is an inline command; ``empty`` says that it holds no command
    (a blank line, ``*0``, ``*-1``), which Redis skips without a reply. ``ragged`` says that other bytes stand where a
    line break belongs: Redis does not check them, but newer servers close the connection, so such a request is split
    by ``split_ragged`` and encoded anew. After a -1 ``last`` says that the whole request has ``need`` bytes.
    """

    __slots__ = (
        "_at",
        "_authenticated",
        "_left",
        "_most_arguments",
        "_most_bulk",
        "_most_inline",
        "_most_request",
        "_strict_arguments",
        "_strict_bulk",
        "empty",
        "inline",
        "last",
        "need",
        "ragged",
    )

    def __init__(self, limits: RequestLimits, unauthenticated: RequestLimits) -> None:
        self._most_arguments = limits.arguments
        self._most_bulk = limits.bulk
        self._most_inline = limits.inline
        self._most_request = limits.request
        self._strict_arguments = unauthenticated.arguments
        self._strict_bulk = unauthenticated.bulk
        self._authenticated = True
        self._at = 0
        self._left = -1
        self.need = 0
        self.last = False
        self.inline = False
        self.empty = False
        self.ragged = False

    def set_authenticated(self, authenticated: bool) -> None:
        """Apply the limits of clients that have authenticated, or those of clients that have not."""
        self._authenticated = authenticated

    def reset(self) -> None:
        """Forget the unfinished request."""
        self._done(0)

    def frame(self, data: bytes | bytearray, start: int) -> int:
        """The end of the request at ``start``, or -1 for "need more". Raises ``ProtocolError``."""
        view = data
        size = len(data)
        at = self._at + start
        left = self._left
        if left < 0:
            if start >= size:
                return self._more(0, -1, 1)
            self.inline = view[start] != _STAR
            self.empty = False
            self.ragged = False
            if self.inline:
                return self._inline(data, start, at)
            if start + 4 <= size and view[start + 2] == _CR and _ZERO < view[start + 1] <= _NINE:
                left = view[start + 1] - _ZERO
                end = start + 2
                if left > self._most_arguments:
                    raise ProtocolError("invalid multibulk length")
            else:
                end = data.find(b"\r", at)
                if end < 0 or end + 2 > size:
                    if size - start > self._most_inline:
                        raise ProtocolError("too big mbulk count string")
                    return self._more(0, -1, size - start + 1)
                count = parse_integer(bytes(data[start + 1 : end]))
                if count is None or count > self._most_arguments:
                    raise ProtocolError("invalid multibulk length")
                left = max(count, 0)
            if left > self._strict_arguments and not self._authenticated:
                raise ProtocolError("unauthenticated multibulk length")
            if view[end + 1] != _LF:
                self.ragged = True
            at = end + 2
            if not left:
                self.empty = True
                return self._done(at)
        while left:
            # Nearly all lengths have one or two digits; such an argument is parsed in place if all of it has come.
            if at + _SHORTEST <= size and view[at] == _DOLLAR:
                first = view[at + 1]
                second = view[at + 2]
                after = 0
                if second == _CR and _ZERO <= first <= _NINE:
                    after = at + first - _ZERO + 6
                elif view[at + 3] == _CR and _ZERO < first <= _NINE and _ZERO <= second <= _NINE:
                    after = at + (first - _ZERO) * 10 + second - _ZERO + 7
                if at < after <= size and after - at <= self._most_bulk:
                    if (
                        view[after - 1] != _LF
                        or view[after - 2] != _CR
                        or view[at + (3 if second == _CR else 4)] != _LF
                    ):
                        self.ragged = True
                    at = after
                    left -= 1
                    continue
            if at - start > self._most_request:
                raise ProtocolError("too big request")
            if at >= size:
                return self._more(at - start, left, at - start + 1)
            if view[at] != _DOLLAR:
                raise ProtocolError(f"expected '$', got '{chr(view[at])}'")
            end = data.find(b"\r", at + 1, at + 1 + self._most_inline)
            if end < 0 or end + 2 > size:
                if size - at > self._most_inline:
                    raise ProtocolError("too big bulk count string")
                return self._more(at - start, left, size - start + 1)
            number = parse_integer(bytes(data[at + 1 : end]))
            if number is None or number < 0 or number > self._most_bulk:
                raise ProtocolError("invalid bulk length")
            length = number
            if length > self._strict_bulk and not self._authenticated:
                raise ProtocolError("unauthenticated bulk length")
            after = end + 2 + length + 2
            if after - start > self._most_request:
                raise ProtocolError("too big request")
            if after > size:
                # The header, a few bytes, is read again when the rest has come: once per argument.
                self._more(at - start, left, after - start)
                self.last = left == 1
                return -1
            if view[end + 1] != _LF or view[after - 2] != _CR or view[after - 1] != _LF:
                self.ragged = True
            at = after
            left -= 1
        if at - start > self._most_request:
            raise ProtocolError("too big request")
        return self._done(at)

    def _inline(self, data: bytes | bytearray, start: int, at: int) -> int:
        end = data.find(b"\n", at)
        if end < 0:
            if len(data) - start > self._most_inline:
                raise ProtocolError("too big inline request")
            return self._more(len(data) - start, -1, len(data) - start + 1)
        self.empty = not bytes(data[start:end]).strip()
        return self._done(end + 1)

    def _more(self, at: int, left: int, need: int) -> int:
        self._at = at
        self._left = left
        self.need = need
        self.last = False
        return -1

    def _done(self, end: int) -> int:
        self._at = 0
        self._left = -1
        self.need = 0
        self.last = False
        return end


def split_ragged(frame: bytes) -> list[bytes]:
    """The arguments of a whole ``ragged`` request, which hiredis would refuse."""
    at = frame.index(b"\r") + 2
    args: list[bytes] = []
    while at < len(frame):
        end = frame.index(b"\r", at)
        length = int(frame[at + 1 : end])
        args.append(frame[end + 2 : end + 2 + length])
        at = end + 2 + length + 2
    return args


def split_short(frame: bytes) -> list[bytes] | None:
    """The arguments of a whole request of at most nine arguments, none longer than 99 bytes; None for any other."""
    view = frame
    size = len(frame)
    if size < 4 or view[0] != _STAR or view[2] != _CR or not _ZERO < view[1] <= _NINE:
        return None
    count = view[1] - _ZERO
    args: list[bytes] = []
    at = 4
    for _ in range(count):
        if at + _SHORTEST > size or view[at] != _DOLLAR:
            return None
        length = view[at + 1] - _ZERO
        start = at + 4
        if view[at + 2] != _CR:
            length = length * 10 + view[at + 2] - _ZERO
            start = at + 5
            if view[at + 3] != _CR:
                return None
        at = start + length + 2
        if length < 0 or at > size or view[start - 1] != _LF or view[at - 2] != _CR or view[at - 1] != _LF:
            return None
        args.append(view[start : start + length])
    return args if at == size else None


def split_request(frame: bytes) -> list[bytes]:
    """The arguments of a whole request that is not an inline command. Raises ``ProtocolError``."""
    reader = hiredis.Reader()
    try:
        reader.feed(frame)
        args = reader.gets()
    except hiredis.ProtocolError as error:
        raise ProtocolError("invalid request") from error
    if not isinstance(args, list):
        raise ProtocolError("invalid request")
    return args


_ESCAPES = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
_ENDS_WORD = b" \n\r\t"
_PLAIN = re.compile(rb"[^\"'\0\x0b\x0c]*\Z").match
"""Whether a line consists of words and blanks only, without quotes."""
_HEX = b"0123456789abcdefABCDEF"


def split_inline(line: bytes) -> list[bytes]:
    """The arguments of an inline command, quoted as in redis-cli (sds.c, sdssplitargs). Raises ``ProtocolError``.

    A NUL ends the line, as in C.
    """
    if _PLAIN(line):
        return line.split()
    line = line.partition(b"\0")[0]
    args: list[bytes] = []
    at = 0
    size = len(line)
    while True:
        while at < size and line[at : at + 1].isspace():
            at += 1
        if at >= size:
            return args
        argument = bytearray()
        while at < size and line[at] not in _ENDS_WORD:
            char = line[at]
            if char in b"\"'":
                at = _quoted(line, at, argument)
                break
            argument.append(char)
            at += 1
        args.append(bytes(argument))


def _quoted(line: bytes, at: int, argument: bytearray) -> int:
    """Append the quoted text that opens at ``at`` to ``argument``; return the offset behind the closing quote."""
    quote = line[at]
    at += 1
    size = len(line)
    while at < size:
        char = line[at]
        if char == quote:
            if at + 1 < size and not line[at + 1 : at + 2].isspace():
                break
            return at + 1
        if char == ord("\\") and at + 1 < size:
            at, char = _escaped(line, at, quote)
        argument.append(char)
        at += 1
    raise ProtocolError("unbalanced quotes in request")


def _escaped(line: bytes, at: int, quote: int) -> tuple[int, int]:
    """The byte that the backslash at ``at`` stands for, and the offset of the last byte read."""
    after = line[at + 1]
    if quote == ord("'"):
        return (at + 1, after) if after == quote else (at, line[at])
    digits = line[at + 2 : at + 4]
    if after == ord("x") and len(digits) == 2 and digits[0] in _HEX and digits[1] in _HEX:
        return at + 3, int(digits, 16)
    return at + 1, _ESCAPES.get(after, after)
