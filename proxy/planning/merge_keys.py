"""Replies that are merged by key (MGET ...), each value where its key stood, or by name, each time series once.

Pure: frames in, frames out. ``proxy.planning.split`` has cut the requests.
"""

from collections.abc import Iterator, Sequence

from proxy.engine.jobs import MORE, Job
from proxy.planning.scatter import Part
from proxy.planning.split import array_header, joining
from proxy.resp.replies import BadReply, ReplyFramer, elements, header, short_end, some_elements

_STEP = 500
"""Keys or values until a job may be interrupted."""
_FEW = 16
"""Values in pieces, or time series, until a job may be interrupted: they may be long."""
_LARGE = 16 * 1024
"""An element, or a part of one, of more bytes is not copied where it need not be."""
_NAMES_ALONE = "ts.queryindex"


def merging_by_key(parts: Sequence[Part], replies: Sequence[bytes]) -> Job[bytes]:
    """What ``merge_by_key`` does, some elements at a time. Raises ``BadReply``."""
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
    """Put ``values`` where ``positions`` say, from the one at ``begin`` on; the first place is the heading's."""
    for at, value in enumerate(values):
        placed[positions[begin + at] + 1] = value


def merge_by_key(parts: Sequence[Part], replies: Sequence[bytes]) -> bytes:
    """One array of the elements of the parts' replies, each where its key stood. Raises ``BadReply``."""
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
    """Collects bytes one behind the other, in pieces; small ones are copied together."""

    __slots__ = ("_size", "_small", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._small: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Put ``data`` at the end."""
        if len(data) < _LARGE:
            self._small.append(data)
            self._size += len(data)
            if self._size >= _LARGE:
                self.seal()
            return
        self.seal()
        self.pieces.append(data)

    def seal(self) -> None:
        """Make a piece of the small ones."""
        if self._size:
            self.pieces.append(b"".join(self._small))
            self._small = []
            self._size = 0


class ElementReader:
    """Reads the elements of an array that is in ``pieces``, one after the other; a piece that was read is let go of."""

    __slots__ = ("_at", "_framer", "_index", "_piece", "_pieces", "count")

    def __init__(self, pieces: list[bytes]) -> None:
        _, self.count, self._at = header(pieces[0])
        self._framer = ReplyFramer()
        self._pieces = pieces
        self._piece = pieces[0]
        self._index = 0

    def move(self, joined: JoinedPieces) -> None:
        """Put the next element behind what is ``joined``. Raises ``BadReply``."""
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
        # It goes on in the next piece.
        self._piece = piece[self._at :]
        while True:
            end = self._framer.through(self._piece, 0)
            joined.add(self._piece if end == len(self._piece) else self._piece[:end])
            if self._framer.whole:
                break
            self._next(self._piece[end:])
        self._at = end

    def _next(self, begun: bytes) -> None:
        """Go on with the next piece; ``begun`` comes before it."""
        self._pieces[self._index] = b""
        self._index += 1
        if self._index == len(self._pieces):
            raise BadReply("cut aggregate")
        self._piece = begun + self._pieces[self._index] if begun else self._pieces[self._index]
        self._at = 0


def merging_pieces_by_key(parts: Sequence[Part], replies: Sequence[list[bytes]]) -> Job[list[bytes]]:
    """As ``merging_by_key``, of replies in pieces, and in pieces. Raises ``BadReply``."""
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

    The reply is as one server gives it: each series once, in the order of the names' bytes. Servers of a cluster that
    have been told of each other (TIMESERIES.REFRESHCLUSTER) answer for all, the others for themselves, and the replies
    do not tell which. Source: https://redis.io/docs/latest/commands/ts.mget/.
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
    """Each series by its name. A series is a pair of a map, a name alone, or an array that begins with the name."""
    for at in range(0, len(rows), width):
        name = rows[at]
        if width == 1 and not names:
            (name,), _ = some_elements(name, header(name)[2], 1)
        yield name[name.index(b"\r\n") + 2 : -2], b"".join(rows[at : at + width])
