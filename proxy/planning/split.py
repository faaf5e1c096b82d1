"""Cuts the requests of commands with many keys by shard (MGET, MSET, DEL ...), without parsing them.

``proxy.planning.merge_keys`` merges the replies by key. No I/O: bytes go in, frames come out.
"""

from collections.abc import Sequence

from proxy.engine.jobs import MORE, Job
from proxy.planning.scatter import Part
from proxy.sharding.colocation import Colocation
from proxy.sharding.slots import span_slot

_CR = 13
_LF = 10
_DOLLAR = 36
_ZERO = 48
_NINE = 57
_LONGEST_DIGITS = 12
_STEP = 500
"""The number of keys or pieces after which a job may be interrupted."""
_NOWHERE: list[int] = []
_COUNTS = tuple(b"*%d\r\n" % count for count in range(129))


class Cut:
    """The parts of a request, in the order of their first keys, and the offset of its end."""

    __slots__ = ("end", "parts")

    def __init__(self, parts: list[Part], end: int) -> None:
        self.parts = parts
        self.end = end


def array_header(count: int) -> bytes:
    """The header of an array of ``count`` elements."""
    return _COUNTS[count] if count < len(_COUNTS) else b"*%d\r\n" % count


def skip_bulks(data: bytes, at: int, count: int) -> int:
    """The offset behind ``count`` bulk strings that begin at ``at``; -1 if they are incomplete or not well formed.

    Only the lengths are read.
    """
    view = data
    size = len(data)
    while count:
        if at + 5 > size or view[at] != _DOLLAR:
            return -1
        length = view[at + 1] - _ZERO
        if length < 0 or length > 9:
            return -1
        at += 2
        if view[at] != _CR:
            if not length:
                return -1
            digits = 1
            while view[at] != _CR:
                digit = view[at] - _ZERO
                digits += 1
                at += 1
                if digit < 0 or digit > 9 or digits > _LONGEST_DIGITS or at + 1 >= size:
                    return -1
                length = length * 10 + digit
        if view[at + 1] != _LF:
            return -1
        at += length + 4
        if at > size or view[at - 2] != _CR or view[at - 1] != _LF:
            return -1
        count -= 1
    return at


def count_requests(data: bytes) -> int:
    """The number of requests in ``data``, all of them arrays of bulk strings."""
    view = data
    found = 0
    at = 0
    size = len(data)
    while at < size:
        count = 0
        at += 1
        while at < size and view[at] != _CR:
            count = count * 10 + view[at] - _ZERO
            at += 1
        at = skip_bulks(data, at + 2, count)
        if at < 0:
            raise AssertionError("a block holds what is no request")
        found += 1
    return found


def count_of(data: bytes, start: int, end: int) -> int:
    """The number in the header ``*N`` with its line break at ``data[start:end]``; -1 unless it has 1 to 4 digits."""
    view = data
    if end - start < 4 or end - start > 7 or view[end - 2] != _CR:
        return -1
    count = 0
    at = start + 1
    while at < end - 2:
        digit = view[at] - _ZERO
        if digit < 0 or digit > 9:
            return -1
        count = count * 10 + digit
        at += 1
    return count if view[start + 1] != _ZERO else -1


class Cutter:
    """Cuts a request by the shards of its keys, or by their slots if ``by_slot`` is set: some keys at a time.

    The bulk string of the command's name is at ``data[name:at]``. Behind it come the keys, each with ``step - 1``
    arguments of its own, then the arguments that every part gets (``end``). ``rules`` choose the part of a key that is
    hashed.
    """

    __slots__ = (
        "_by_slot",
        "_data",
        "_groups",
        "_heading",
        "_order",
        "_owners",
        "_places",
        "_position",
        "_rules",
        "_slot_shard",
        "_slots",
        "_step",
        "_tail",
        "at",
    )

    def begin(
        self,
        data: bytes,
        name: int,
        at: int,
        step: int,
        slot_shard: Sequence[int],
        shards: int,
        by_slot: bool,
        rules: Colocation | None,
    ) -> None:
        """Set all attributes. This method takes the place of ``__init__``, which is expensive to call."""
        self._data = data
        self._heading = data[name:at]
        self._step = step
        self._slot_shard = slot_shard
        self._by_slot = by_slot
        self._rules = rules
        self._groups: list[list[bytes] | None] = [None] * (shards + 1)
        self._places: list[list[int]] = [_NOWHERE] * (shards + 1)
        self._order: list[int] = []
        self._slots: dict[int, int] = {}
        self._owners: list[int] = []
        self._position = 0
        self._tail = 0
        self.at = at
        """The offset up to which the request is cut."""

    def more(self, count: int) -> bool:
        """Cut the next ``count`` keys; return False if they are incomplete or not well formed."""
        data = self._data
        view = data
        step = self._step
        rules = self._rules
        slot_shard = self._slot_shard
        by_slot = self._by_slot
        groups = self._groups
        places = self._places
        slots = self._slots
        owners = self._owners
        at = self.at
        last = self._position + count
        for position in range(self._position, last):
            begin = at
            at = skip_bulks(data, begin, 1)
            if at < 0:
                return False
            start = begin + 4
            while view[start - 1] != _LF:
                start += 1
            slot = span_slot(data, start, at - 2) if rules is None else rules.span_slot(data, start, at - 2)
            shard = slot_shard[slot]
            if by_slot:
                # A group is a slot, numbered in the order of its first key, and its shard is kept with it.
                known = slots.get(slot)
                if known is None:
                    known = slots[slot] = len(owners)
                    owners.append(shard)
                    if known >= len(groups):
                        groups.append(None)
                        places.append(_NOWHERE)
                shard = known
            if step > 1:
                at = skip_bulks(data, at, step - 1)
                if at < 0:
                    return False
            group = groups[shard]
            if group is None:
                groups[shard] = [b"", self._heading, view[begin:at]]
                places[shard] = [position]
                self._order.append(shard)
            else:
                group.append(view[begin:at])
                places[shard].append(position)
        self._position = last
        self.at = at
        return True

    def end(self, tail: int) -> bool:
        """Add the ``tail`` arguments behind the keys to every part; return False if they are incomplete or not well
        formed."""
        at = skip_bulks(self._data, self.at, tail)
        if at < 0:
            return False
        for group in self.groups():
            group.append(self._data[self.at : at])
        self._tail = tail
        self.at = at
        return True

    def groups(self) -> list[list[bytes]]:
        """The pieces of each part; the first two are the array header and the command's name."""
        groups = [self._groups[shard] for shard in self._order]
        return [group for group in groups if group is not None]

    def cut(self) -> Cut:
        """The result of cutting the request."""
        parts: list[Part] = []
        for shard in self._order:
            group = self._groups[shard]
            assert group is not None
            arguments = len(self._places[shard]) * self._step + 1 + self._tail
            group[0] = array_header(arguments)
            owner = self._owners[shard] if self._by_slot else shard
            parts.append(Part(owner, b"".join(group), self._places[shard]))
        return Cut(parts, self.at)


def cut(
    data: bytes,
    name: int,
    at: int,
    count: int,
    step: int,
    slot_shard: Sequence[int],
    shards: int,
    by_slot: bool,
    rules: Colocation | None,
    tail: int = 0,
) -> Cut | None:
    """Cut a request with ``Cutter`` at once; None if its ``count`` keys and the ``tail`` arguments behind them are
    incomplete or not well formed."""
    cutter = Cutter()
    cutter.begin(data, name, at, step, slot_shard, shards, by_slot, rules)
    if not cutter.more(count) or (tail and not cutter.end(tail)):
        return None
    return cutter.cut()


def cutting(cutter: Cutter, count: int, tail: int) -> Job[Cut | None]:
    """The job that does the work of ``cut``."""
    for left in range(count, 0, -_STEP):
        if not cutter.more(min(_STEP, left)):
            return None
        yield MORE
    if tail and not cutter.end(tail):
        return None
    for group in cutter.groups():
        yield from joining(group, 2)
    return cutter.cut()


def joining(pieces: list[bytes], first: int = 0) -> Job[None]:
    """Join ``pieces`` from ``first`` on into fewer, as a job, since joining very many at once would take long."""
    if len(pieces) > 2 * _STEP:
        fewer = pieces[:first]
        for at in range(first, len(pieces), _STEP):
            fewer.append(b"".join(pieces[at : at + _STEP]))
            yield MORE
        pieces[:] = fewer


def some_bulks(data: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """The frames of ``count`` bulk strings that begin at ``at``, and the offset behind them. Raises ``ValueError``."""
    view = data
    found: list[bytes] = []
    for _ in range(count):
        end = skip_bulks(data, at, 1)
        if end < 0:
            raise ValueError("not a bulk string")
        start = at + 4
        while view[start - 1] != _LF:
            start += 1
        found.append(view[start : end - 2])
        at = end
    return found, at


def by_key(part: Part, tail: int = 0) -> list[Part]:
    """A part split into one part for each key; each part gets the ``tail`` arguments behind the keys."""
    frame = part.frame
    keys = len(part.positions)
    name = frame.index(b"\n") + 1
    step = (int(frame[1 : name - 2]) - 1 - tail) // keys
    at = skip_bulks(frame, name, 1)
    heading = b"*%d\r\n" % (step + 1 + tail) + frame[name:at]
    ending = frame[skip_bulks(frame, at, keys * step) :] if tail else b""
    parts = []
    for position in range(keys):
        begin = at
        at = skip_bulks(frame, begin, step)
        parts.append(Part(part.shard, heading + frame[begin:at] + ending, [position]))
    return parts
