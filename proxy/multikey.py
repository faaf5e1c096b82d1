"""Commands with many keys that are split by shard (MGET, MSET, DEL ...): cut by their bytes, and merged again by key.

Pure: offsets in, frames out.
"""

from collections.abc import Sequence

from proxy.colocation import Colocation
from proxy.resp.replies import BadReply, elements
from proxy.scatter import Part
from proxy.slots import span_slot

_CR = 13
_LF = 10
_DOLLAR = 36
_ZERO = 48
_NINE = 57
_LONGEST_DIGITS = 12
_NOWHERE: list[int] = []
_COUNTS = tuple(b"*%d\r\n" % count for count in range(129))


class Cut:
    """What a request was cut into: its parts, in the order of their first keys, and where it ends."""

    __slots__ = ("end", "parts")

    def __init__(self, parts: list[Part], end: int) -> None:
        self.parts = parts
        self.end = end


def skip_bulks(data: bytes, at: int, count: int) -> int:
    """The offset behind ``count`` bulk strings that begin at ``at``; -1 if they are not all there or not well formed.

    Only lengths are looked at.
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
    """How many requests ``data`` is, all of them arrays of bulk strings."""
    found = 0
    at = 0
    size = len(data)
    while at < size:
        end = data.index(b"\n", at) + 1
        at = skip_bulks(data, end, int(data[at + 1 : end - 2]))
        if at < 0:
            raise ValueError("a request that is not whole")
        found += 1
    return found


def count_of(data: bytes, start: int, end: int) -> int:
    """The number in the header ``*N`` and line break at ``data[start:end]``; -1 if it is none of up to four digits."""
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
) -> Cut | None:
    """Cut a request by the shards of its keys, or by their slots if ``by_slot``.

    Its name's bulk string stands at ``data[name:at]``; behind it come ``count`` keys, each with ``step - 1`` arguments
    of its own. ``rules`` say what of a key is hashed. None if they are not all there, or not well formed.
    """
    view = data
    heading = view[name:at]
    groups: list[list[bytes] | None] = [None] * (shards + 1)
    places: list[list[int]] = [_NOWHERE] * (shards + 1)
    order: list[int] = []
    slots: dict[int, int] = {}
    owners: list[int] = []
    for position in range(count):
        begin = at
        at = skip_bulks(data, begin, 1)
        if at < 0:
            return None
        start = begin + 4
        while view[start - 1] != _LF:
            start += 1
        slot = span_slot(data, start, at - 2) if rules is None else rules.span_slot(data, start, at - 2)
        shard = slot_shard[slot]
        if by_slot:
            # Here a group is a slot, numbered as they come, and its shard stands beside it.
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
                return None
        group = groups[shard]
        if group is None:
            groups[shard] = [b"", heading, view[begin:at]]
            places[shard] = [position]
            order.append(shard)
        else:
            group.append(view[begin:at])
            places[shard].append(position)
    parts: list[Part] = []
    for shard in order:
        group = groups[shard]
        assert group is not None
        arguments = len(places[shard]) * step + 1
        group[0] = _COUNTS[arguments] if arguments < len(_COUNTS) else b"*%d\r\n" % arguments
        parts.append(Part(owners[shard] if by_slot else shard, b"".join(group), places[shard]))
    return Cut(parts, at)


def by_key(part: Part) -> list[Part]:
    """A part in as many parts as it has keys."""
    frame = part.frame
    keys = len(part.positions)
    name = frame.index(b"\n") + 1
    step = (int(frame[1 : name - 2]) - 1) // keys
    at = skip_bulks(frame, name, 1)
    heading = b"*%d\r\n" % (step + 1) + frame[name:at]
    parts = []
    for position in range(keys):
        begin = at
        at = skip_bulks(frame, begin, step)
        parts.append(Part(part.shard, heading + frame[begin:at], [position]))
    return parts


def merge_by_key(parts: Sequence[Part], replies: Sequence[bytes]) -> bytes:
    """One array of the elements of the parts' replies, each where its key stood. Raises ``BadReply``."""
    found: list[list[bytes]] = []
    count = 0
    for reply in replies:
        values = elements(reply)
        count += len(values)
        found.append(values)
    placed: list[bytes] = [b""] * (count + 1)
    placed[0] = _COUNTS[count] if count < len(_COUNTS) else b"*%d\r\n" % count
    for index, part in enumerate(parts):
        values = found[index]
        positions = part.positions
        if len(values) != len(positions):
            raise BadReply("not a value for each key")
        for at, position in enumerate(positions):
            placed[position + 1] = values[at]
    return b"".join(placed)
