"""SCAN cursors over all shards: the server's own cursor, and in the low bits whose it is. Pure.

Where the topology can change a cursor also says for which slots and which primary it was made: keys that moved to a
shard that was scanned before would be missed, and a cursor is good on one server only (hash seeds differ). So when the
slots have moved the scan starts again, and when a shard has another primary that shard does::

    server's cursor | slots (8 bits) | primary (8 bits) | shard

All of it is computed from the topology, so that any worker and any proxy can go on with another one's cursor.
"""

from array import array
from binascii import crc_hqx

from proxy.topology import Topology

_TAG_BITS = 8
_TAG = (1 << _TAG_BITS) - 1
_MAX = 2**64 - 1
_DIGITS = 20


class Cursors:
    """The cursors of one topology."""

    def __init__(self, topology: Topology) -> None:
        self._shards = len(topology.shards)
        self._bits = shard_bits(self._shards)
        self._mask = (1 << self._bits) - 1
        self._tags: list[int] = []
        if not topology.fixed:
            names = ",".join(shard.name for shard in topology.shards).encode()
            slots = crc_hqx(array("h", topology.slot_shard).tobytes(), crc_hqx(names, 0)) & _TAG
            primaries = [crc_hqx(shard.primary.address.encode(), 0) & _TAG for shard in topology.shards]
            self._tags = [slots << _TAG_BITS | primary for primary in primaries]

    def read(self, text: bytes) -> tuple[int, int] | None:
        """The shard that a client's cursor leads to, and the cursor for it; None if it is no number. With a number that
        is no cursor of this topology the scan starts again: a server takes any."""
        if not text.isdigit() or len(text) > _DIGITS or int(text) > _MAX:
            return None
        cursor = int(text)
        shard, inner = cursor & self._mask, cursor >> self._bits
        if not cursor or shard >= self._shards:
            return 0, 0
        if not self._tags:
            return shard, inner
        tag, inner = inner & (1 << 2 * _TAG_BITS) - 1, inner >> 2 * _TAG_BITS
        if tag >> _TAG_BITS != self._tags[shard] >> _TAG_BITS:
            return 0, 0
        return shard, inner if tag == self._tags[shard] else 0

    def marks(self, shard: int) -> tuple[bytes, bytes, bytes]:
        """For the merge: by how many bits to shift the server's cursor, what to put there for this shard, and what for
        the next one (nothing behind the last)."""
        shift = self._bits + 2 * _TAG_BITS * bool(self._tags)
        following = b"%d" % self._mark(shard + 1) if shard + 1 < self._shards else b""
        return b"%d" % shift, b"%d" % self._mark(shard), following

    def _mark(self, shard: int) -> int:
        return (self._tags[shard] << self._bits if self._tags else 0) | shard


def shard_bits(shards: int) -> int:
    """How many low bits of a cursor carry the shard's index."""
    return max(shards - 1, 0).bit_length()
