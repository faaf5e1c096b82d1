"""Which requests have had very long replies: they go over a connection that only such requests use. Pure.

A server answers what comes over one connection in the order of the requests: what others ask for behind a request with
a reply of 100 MB lies behind those. How long a reply is shows when it comes. So the request is remembered as it was,
not by its key: other commands on the key, and other ranges of it, have short replies.
"""

from collections.abc import Iterable

MOST = 256
"""As many requests are remembered. Those that had a long reply last are."""
LONGEST = 16 * 1024
"""Longer requests are not: they would have to be looked at whole each time."""
KEPT = 60.0
"""Seconds after its last very long reply a request is forgotten, when it is next looked whether some are to be."""


class LongReplies:
    """Requests by their hashes, each with its command's name and when its last very long reply came.

    ``names``: those of their commands. Two requests with the same hash are taken for one, which costs a turn at most.
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
        """Another very long reply comes to the request ``frame``: whether it is known."""
        known = self._seen.pop(hash(frame), None)
        if known is None:
            return False
        self._seen[hash(frame)] = known[0], now
        return True

    def add(self, frame: bytes, name: str, now: float) -> bool:
        """Remember the request ``frame``, of the command ``name``: whether ``names`` are others now."""
        if len(frame) > LONGEST:
            return False
        if len(self._seen) >= MOST:
            del self._seen[next(iter(self._seen))]
        self._seen[hash(frame)] = name, now
        return self._count()

    def any(self, frames: Iterable[bytes]) -> bool:
        """Whether one of these requests is remembered."""
        seen = self._seen
        return any(len(frame) <= LONGEST and hash(frame) in seen for frame in frames)

    def forget(self, now: float) -> bool:
        """Forget those that have had no very long reply lately: whether ``names`` are others now."""
        self._seen = {key: item for key, item in self._seen.items() if now - item[1] <= KEPT}
        return self._count()

    def _count(self) -> bool:
        before, self.names = self.names, frozenset(name for name, _ in self._seen.values())
        return self.names != before
