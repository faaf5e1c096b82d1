"""Remembers the requests that had very long replies: they go over a connection that only such requests use. No I/O.

A server answers the requests of one connection in order: requests of other clients behind one with a reply of 100 MB
have to wait for that reply. The length of a reply is known only when it arrives, so the whole request is remembered,
and not its key: other commands on the key, and other ranges of it, have short replies.
"""

from collections.abc import Iterable

MOST = 256
"""The number of requests that are remembered: those whose long reply was the most recent."""
LONGEST = 16 * 1024
"""The bytes of the longest request that is remembered, as the whole request is hashed each time."""
KEPT = 60.0
"""Seconds after its last very long reply at which a request may be forgotten; see ``forget``."""


class LongReplies:
    """Requests by their hashes, each with the name of its command and the time of its last very long reply.

    ``names``: the names of the commands. Two requests with the same hash count as one, which costs a turn of the loop
    at most.
    """

    __slots__ = ("_seen", "names")

    def __init__(self) -> None:
        self._seen: dict[int, tuple[str, float]] = {}
        self.names: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"LongReplies({len(self)} of {sorted(self.names)})"

    def __len__(self) -> int:
        return len(self._seen)

    def again(self, frame: bytes, now: float) -> bool:
        """Note another very long reply to the request ``frame``. Returns whether the request is remembered."""
        known = self._seen.pop(hash(frame), None)
        if known is None:
            return False
        self._seen[hash(frame)] = known[0], now
        return True

    def add(self, frame: bytes, name: str, now: float) -> bool:
        """Remember the request ``frame`` of the command ``name``. Returns whether ``names`` has changed."""
        if len(frame) > LONGEST:
            return False
        if len(self._seen) >= MOST:
            del self._seen[next(iter(self._seen))]
        self._seen[hash(frame)] = name, now
        return self._count()

    def any(self, frames: Iterable[bytes]) -> bool:
        """Whether one of the requests ``frames`` is remembered."""
        seen = self._seen
        return any(len(frame) <= LONGEST and hash(frame) in seen for frame in frames)

    def forget(self, now: float) -> bool:
        """Forget requests without a very long reply in the last ``KEPT`` seconds. Returns whether ``names`` has
        changed."""
        self._seen = {key: item for key, item in self._seen.items() if now - item[1] <= KEPT}
        return self._count()

    def _count(self) -> bool:
        before, self.names = self.names, frozenset(name for name, _ in self._seen.values())
        return self.names != before
