"""Writes collected while the event loop turns, and flushed once at its end."""

import asyncio
from typing import Protocol


class Flushable(Protocol):
    """Something with output that waits to be written."""

    def flush(self) -> None:
        """Write it."""


class Turn:
    """Calls ``flush`` once on everything added during one turn of the loop, so that many clients share one write."""

    __slots__ = ("_items", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: list[Flushable] = []

    def add(self, item: Flushable) -> None:
        """Flush ``item`` at the end of this turn. The caller sees to it that an item is added once."""
        if not self._items:
            self._loop.call_soon(self._run)
        self._items.append(item)

    def _run(self) -> None:
        items = self._items
        self._items = []
        for item in items:
            item.flush()
