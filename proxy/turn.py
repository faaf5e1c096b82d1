"""One turn of the event loop: its time, and the writes that are collected in it and flushed once at its end."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)


class Flushable(Protocol):
    """Something with output that waits to be written."""

    def flush(self) -> None:
        """Write it."""


class Answerable(Flushable, Protocol):
    """A client with replies to be written."""

    @property
    def answered(self) -> bool:
        """Whether it has all its replies, so that there is nothing to wait for before writing them."""


class Turn:
    """Calls ``flush`` once on everything added during one turn of the loop, so that many clients share one write.

    ``clock`` gives seconds that only grow. It is finer than the loop's own time, and read once a turn.
    """

    __slots__ = ("_answered", "_clock", "_items", "_loop", "_now", "_reading")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._now = clock()
        self._items: list[Flushable] = []
        self._answered: list[Answerable] = []
        self._reading = False

    def now(self) -> float:
        """The time of this turn: once something waits to be flushed, it stands still until the turn is over."""
        if not self._items:
            self._now = self._clock()
        return self._now

    def add(self, item: Flushable) -> None:
        """Flush ``item`` at the end of this turn. The caller sees to it that an item is added once."""
        if not self._items:
            self._loop.call_soon(self._run)
        self._items.append(item)

    def wake(self, client: Answerable) -> None:
        """``client`` has output where there was none: flushed in this turn, or after the chunk that is being read."""
        if self._reading:
            self._answered.append(client)
        else:
            self.add(client)

    def begin_chunk(self) -> None:
        """A chunk of replies is being read."""
        self._reading = True

    def end_chunk(self) -> None:
        """It is read: clients that have all their replies are written to at once, others may get more in this turn."""
        self._reading = False
        clients = self._answered
        if not clients:
            return
        self._answered = []
        for client in clients:
            if client.answered:
                _flush(client)
            else:
                self.add(client)

    def _run(self) -> None:
        items = self._items
        self._items = []
        for item in items:
            _flush(item)


def _flush(item: Flushable) -> None:
    try:
        item.flush()
    except Exception:
        # A fault of ours in one connection must not keep the others' replies.
        log.exception("flush failed item=%r", item)
