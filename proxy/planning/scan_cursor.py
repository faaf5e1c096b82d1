"""Cursors of SCAN over all shards: a server's cursor, with the shard's index in the low bits. No I/O.

If the topology can change, a cursor also has tags of the slot map and of the primary that it was made for. Keys that
moved to a shard that was scanned before would be missed, and a cursor is valid on one server only, since hash seeds
differ. So if a shard that was scanned already, or is being scanned, received slots, the scan goes back to it; if a
shard has another primary, the scan of that shard starts again::

    server's cursor | slots (12 bits) | primary (8 bits) | shard

The tags are computed from the topology, so that any worker and any proxy can go on with another one's cursor. A worker
that does not know the slot map of a cursor, because another one learned of a change first, goes on with the cursor for
a while and keeps the tag, so that a worker that knows the map can compare it.
"""

import time
from array import array
from binascii import crc_hqx
from collections.abc import Callable, Collection
from itertools import islice

from proxy.resp.replies import BadReply, header, some_elements
from proxy.sharding.topology import NOBODY, Topology

_SLOTS_BITS = 12
_PRIMARY_BITS = 8
_TAG_BITS = _SLOTS_BITS + _PRIMARY_BITS
_SLOTS = (1 << _SLOTS_BITS) - 1
_PRIMARY = (1 << _PRIMARY_BITS) - 1
_FEWEST_BITS = 4
"""The least bits for the shard's index if the number of shards can change: one more shard must not move the other bits.
"""
_MAX = 2**64 - 1
_DIGITS = 20
_PATIENCE = 30.0
"""Seconds after which every worker should know a slot map that one of them knows."""


class Cursors:
    """Reads and makes the cursors of one topology; ``before`` are those of the previous one."""

    def __init__(
        self, topology: Topology, before: "Cursors | None" = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._topology = topology
        self._clock = clock
        self._shards = len(topology.shards)
        self._bits = shard_bits(self._shards)
        self._tagged = not topology.fixed
        self._slots = 0
        """The tag of the slot map."""
        self._primaries: list[int] = []
        self._gained: dict[int, int] = {}
        """For the tags of earlier slot maps and of this one: the first shard that received slots since."""
        self._strange: dict[int, float] = {}
        """For the tags of unknown slot maps: the time at which the first cursor with the tag came."""
        if self._tagged:
            self._bits = max(self._bits, _FEWEST_BITS)
            names = ",".join(shard.name for shard in topology.shards).encode()
            self._slots = crc_hqx(array("h", topology.slot_shard).tobytes(), crc_hqx(names, 0)) & _SLOTS
            self._primaries = [crc_hqx(shard.primary.address.encode(), 0) & _PRIMARY for shard in topology.shards]
            if before is not None:
                gained = _first_that_gained(before._topology, topology)
                self._gained = {tag: min(gained, first) for tag, first in before._gained.items()}
                self._strange = before._strange
                self._strange.pop(self._slots, None)
            self._gained[self._slots] = self._shards
        self._mask = (1 << self._bits) - 1

    def read(self, text: bytes) -> tuple[int, int, int] | None:
        """The shard of a client's cursor, the cursor for that shard, and the tag of the scan's slot map; None if
        ``text`` is not a number. A number that is not a cursor of this topology starts the scan again, since servers
        accept any number."""
        if not text.isdigit() or len(text) > _DIGITS or int(text) > _MAX:
            return None
        cursor = int(text)
        shard, inner = cursor & self._mask, cursor >> self._bits
        if not cursor or shard >= self._shards:
            return self.start
        if not self._tagged:
            return shard, inner, 0
        primary, slots, inner = inner & _PRIMARY, inner >> _PRIMARY_BITS & _SLOTS, inner >> _TAG_BITS
        same = primary == self._primaries[shard]
        first = self._gained.get(slots)
        if first is None:
            # In an unknown slot map the index may name another shard: then the primary's tag differs.
            known = same and self._clock() - self._strange.setdefault(slots, self._clock()) < _PATIENCE
            return (shard, inner, slots) if known else self.start
        if first <= shard:
            return first, 0, self._slots
        return shard, inner if same else 0, self._slots

    @property
    def start(self) -> tuple[int, int, int]:
        """The result of ``read`` for the cursor 0."""
        return 0, 0, self._slots

    def marks(self, shard: int, slots: int, share: Collection[int] | None = None) -> tuple[bytes, bytes, bytes]:
        """The numbers for the merge: how many bits to shift the server's cursor by, the low bits for this shard, and
        those for the next shard (empty behind the last). ``slots`` is the tag of the scan's slot map; ``share`` are the
        shards to scan, None for all."""
        shift = self._bits + _TAG_BITS * self._tagged
        later = (other for other in range(shard + 1, self._shards) if share is None or other in share)
        following = b"".join(b"%d" % self._mark(other, slots) for other in islice(later, 1))
        return b"%d" % shift, b"%d" % self._mark(shard, slots), following

    def _mark(self, shard: int, slots: int) -> int:
        return (slots << _PRIMARY_BITS | self._primaries[shard]) << self._bits | shard if self._tagged else shard


def cursor_of(reply: bytes) -> tuple[bytes, int]:
    """The frame of the cursor in a reply to SCAN, and the offset of the array of keys; the rest of the reply may be
    missing. Raises ``BadReply``.
    """
    _, count, at = header(reply)
    if count != 2:
        raise BadReply(f"no page of a scan: {reply[:32]!r}")
    (cursor,), at = some_elements(reply, at, 1)
    return cursor, at


def page(reply: bytes) -> tuple[bytes, bytes]:
    """The cursor and the array of keys, as frames, in a whole reply to SCAN. Raises ``BadReply``."""
    cursor, at = cursor_of(reply)
    return cursor, reply[at:]


def shard_bits(shards: int) -> int:
    """How many low bits of a cursor hold the shard's index."""
    return max(shards - 1, 0).bit_length()


def _first_that_gained(before: Topology, now: Topology) -> int:
    """The first shard that received slots of a later shard or without an owner; the number of shards if none did."""
    names = [shard.name for shard in before.shards]
    if [shard.name for shard in now.shards[: len(names)]] != names:
        return 0
    moves = set(zip(before.slot_shard, now.slot_shard, strict=True))
    back = [new for old, new in moves if new != NOBODY and (old == NOBODY or new < old)]
    return min(back, default=len(now.shards))
