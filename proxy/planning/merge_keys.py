"""Merges replies by key (MGET ...), each value at the position of its key, or by name, each time series once.

No I/O: frames go in, frames come out. ``proxy.planning.split`` cuts the requests.
"""

from collections.abc import Iterator, Sequence

from proxy.engine.jobs import MORE, Job
from proxy.planning.scatter import Part
from proxy.planning.split import array_header, joining
from proxy.resp.replies import BadReply, ReplyFramer, elements, header, short_end, some_elements

_STEP = 500
"""The number of keys or values after which a job may be interrupted."""
_FEW = 16
"""The number of values in pieces, or of time series, after which a job may be interrupted, since these may be long."""
_LARGE = 16 * 1024
"""The size in bytes above which an element, or a part of one, is not copied."""
_NAMES_ALONE = "ts.queryindex"


def merging_by_key(parts: Sequence[Part], replies: Sequence[bytes]) -> Job[bytes]:
    """The job that does the work of ``merge_by_key``. Raises ``BadReply``."""
    count = sum(len(part.positions) for part in parts)
    placed = [b""] * (count + 1)
    placed[0] = b"*%d\r\n" % count
    for part, reply in zip(parts, replies, strict=True):
        positions = part.positions
        _, number, at = header(reply)
        if number != len(positions):
            raise BadReply("not a value for each key")
        for begin in range(0, number, _STEP):
            values, at = some_elements(reply, at, min(_STEP, number - begin))
            place(placed, positions, begin, values)
            yield MORE
    yield from joining(placed)
    return b"".join(placed)


def place(placed: list[bytes], positions: list[int], begin: int, values: list[bytes]) -> None:
    """Put ``values`` into ``placed`` at ``positions``, from the position at ``begin`` on, behind the array's header."""
    for at, value in enumerate(values):
        placed[positions[begin + at] + 1] = value


def merge_by_key(parts: Sequence[Part], replies: Sequence[bytes]) -> bytes:
    """One array of the elements of the parts' replies, each at the position of its key. Raises ``BadReply``."""
    found: list[list[bytes]] = []
    count = 0
    for reply in replies:
        values = elements(reply)
        count += len(values)
        found.append(values)
    placed: list[bytes] = [b""] * (count + 1)
    placed[0] = array_header(count)
    for index, part in enumerate(parts):
        values = found[index]
        positions = part.positions
        if len(values) != len(positions):
            raise BadReply("not a value for each key")
        for at, position in enumerate(positions):
            placed[position + 1] = values[at]
    return b"".join(placed)


class JoinedPieces:
    """Collects bytes in order, as pieces; small pieces are joined."""

    __slots__ = ("_size", "_small", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._small: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Append ``data``."""
        if len(data) < _LARGE:
            self._small.append(data)
            self._size += len(data)
            if self._size >= _LARGE:
                self.seal()
            return
        self.seal()
        self.pieces.append(data)

    def seal(self) -> None:
        """Join the small pieces at the end."""
        if self._size:
            self.pieces.append(b"".join(self._small))
            self._small = []
            self._size = 0


class ElementReader:
    """Reads the elements of an array in ``pieces``, one after the other, and frees the pieces that were read."""

    __slots__ = ("_at", "_framer", "_index", "_piece", "_pieces", "count")

    def __init__(self, pieces: list[bytes]) -> None:
        _, self.count, self._at = header(pieces[0])
        self._framer = ReplyFramer()
        self._pieces = pieces
        self._piece = pieces[0]
        self._index = 0

    def move(self, joined: JoinedPieces) -> None:
        """Append the next element to ``joined``. Raises ``BadReply``."""
        piece = self._piece
        if self._at == len(piece):
            self._next(b"")
            piece = self._piece
        end = short_end(piece, self._at)
        if end < 0:
            end = self._framer.frame(piece, self._at)
        if end >= 0:
            joined.add(piece[self._at : end])
            self._at = end
            return
        # The element goes on in the next piece.
        self._piece = piece[self._at :]
        while True:
            end = self._framer.through(self._piece, 0)
            joined.add(self._piece if end == len(self._piece) else self._piece[:end])
            if self._framer.whole:
                break
            self._next(self._piece[end:])
        self._at = end

    def _next(self, begun: bytes) -> None:
        """Take the next piece, with ``begun`` in front of it."""
        self._pieces[self._index] = b""
        self._index += 1
        if self._index == len(self._pieces):
            raise BadReply("cut aggregate")
        self._piece = begun + self._pieces[self._index] if begun else self._pieces[self._index]
        self._at = 0


def merging_pieces_by_key(parts: Sequence[Part], replies: Sequence[list[bytes]]) -> Job[list[bytes]]:
    """The job of ``merging_by_key`` for replies in pieces; the result is pieces too. Raises ``BadReply``."""
    found = [ElementReader(pieces) for pieces in replies]
    order = [0] * sum([len(part.positions) for part in parts])
    for index, part in enumerate(parts):
        if found[index].count != len(part.positions):
            raise BadReply("not a value for each key")
        for begin in range(0, len(part.positions), _STEP):
            for position in part.positions[begin : begin + _STEP]:
                order[position] = index
            yield MORE
    joined = JoinedPieces()
    joined.add(b"*%d\r\n" % len(order))
    for at, index in enumerate(order):
        found[index].move(joined)
        if not at % _FEW:
            yield MORE
    joined.seal()
    return joined.pieces


def merging_series(command: str, replies: Sequence[bytes]) -> Job[bytes]:
    """Merge the ``replies`` to TS.MGET, TS.MRANGE, TS.MREVRANGE or TS.QUERYINDEX. Raises ``BadReply``.

    The reply is that of one server: each series once, in the order of the names' bytes. Servers of a cluster that know
    each other (TIMESERIES.REFRESHCLUSTER) answer for all of them, other servers for themselves, and the replies do not
    tell which. Source: https://redis.io/docs/latest/commands/ts.mget/
    """
    kind = replies[0][:1]
    found: dict[bytes, bytes] = {}
    for reply in replies:
        other, count, at = header(reply)
        if other != kind:
            raise BadReply("aggregates of different types")
        width = 2 if kind == b"%" else 1
        for left in range(count, 0, -_FEW):
            rows, at = some_elements(reply, at, width * min(_FEW, left))
            for name, row in _named(rows, width, command == _NAMES_ALONE):
                found.setdefault(name, row)
            yield MORE
    frames = [b"%b%d\r\n" % (kind, len(found)), *(found[name] for name in sorted(found))]
    yield from joining(frames)
    return b"".join(frames)


def _named(rows: Sequence[bytes], width: int, names: bool) -> Iterator[tuple[bytes, bytes]]:
    """The series with their names. A series is a pair of a map, a name alone, or an array that begins with its name."""
    for at in range(0, len(rows), width):
        name = rows[at]
        if width == 1 and not names:
            (name,), _ = some_elements(name, header(name)[2], 1)
        yield name[name.index(b"\r\n") + 2 : -2], b"".join(rows[at : at + width])
