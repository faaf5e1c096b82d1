"""Files that are read again when they change: certificates and keys, and the configuration."""

import os
from collections.abc import Sequence


class WatchedFiles:
    """Tells whether any of the files ``names`` has changed, by time, inode and size. That a file is missing counts as a
    state of the file."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._seen = self._look()

    def __repr__(self) -> str:
        return f"WatchedFiles({', '.join(self._names)})"

    def changed(self) -> bool:
        """Whether a file has changed since the last call, or since the beginning."""
        before, self._seen = self._seen, self._look()
        return self._seen != before

    def _look(self) -> list[tuple[int, int, int] | None]:
        seen: list[tuple[int, int, int] | None] = []
        for name in self._names:
            try:
                found = os.stat(name)
            except OSError:
                seen.append(None)
            else:
                seen.append((found.st_mtime_ns, found.st_ino, found.st_size))
        return seen
