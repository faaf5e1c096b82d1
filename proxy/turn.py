"""One turn of the event loop: its time, and the writes that are collected in it and flushed once at its end."""

import asyncio
import logging
from typing import Protocol

from proxy.clock import Clock

log = logging.getLogger(__name__)

_AT_ONCE = 1000
"""Of more items these are flushed in one turn: some milliseconds."""


class Flushable(Protocol):
    """Something with output that waits to be written."""

    def flush(self) -> None:
        """Write it."""


class Turn:
    """Calls ``flush`` once on everything added during one turn of the loop, so that many clients share one write.

    Its time is the ``clock``'s, read once a turn.
    """

    __slots__ = ("_items", "_loop", "_now", "clock")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self.clock = clock
        self._now = clock.now()
        self._items: list[Flushable] = []

    def now(self) -> float:
        """The time of this turn: once something waits to be flushed, it stands still until the turn is over."""
        if not self._items:
            self._now = self.clock.now()
        return self._now

    def add(self, item: Flushable) -> None:
        """Flush ``item`` at the end of this turn. The caller sees to it that an item is added once."""
        if not self._items:
            self._loop.call_soon(self._run)
        self._items.append(item)

    def _run(self) -> None:
        items = self._items
        self._items = []
        if len(items) > _AT_ONCE:
            # One message to thousands of subscribers: others are to be heard in between.
            self._items = items[_AT_ONCE:]
            items = items[:_AT_ONCE]
            self._now = self.clock.now()
            self._loop.call_soon(self._run)
        for item in items:
            try:
                item.flush()
            except Exception:
                # A fault of ours in one connection must not keep the others' replies.
                log.exception("flush failed item=%r", item)
