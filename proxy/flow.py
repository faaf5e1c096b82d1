"""When a client is read from, and what happens to one that does not read."""

import asyncio
from collections.abc import Callable
from enum import IntFlag

from proxy.backend import Backend
from proxy.engine.window import ReplyWindow


class Stop(IntFlag):
    """Why a client is not read from."""

    NONE = 0
    HELD = 1
    """A backend takes no more."""
    FULL = 2
    """Too many of its requests are in flight, or too many bytes wait for their turn."""
    SLOW = 4
    """It does not read its replies."""
    ORDER = 8
    """What follows goes over other connections and must not overtake what is in flight."""
    PAUSED = 16
    """CLIENT PAUSE."""
    ENDING = 32
    """It will be closed when what is in flight is answered."""


class Flow:
    """Reading from a client stops while any reason holds, and goes on when the last one is gone (``on_go``).

    While it is read from, single replies are written at once (``ReplyWindow.direct``).
    Also the ``Holder`` that backends hold, and the watch over a reader that makes no progress: after
    ``write_timeout`` seconds without any, ``on_stall`` is called.
    """

    __slots__ = (
        "_ended",
        "_held_by",
        "_loop",
        "_on_go",
        "_on_stall",
        "_timer",
        "_transport",
        "_window",
        "_write_timeout",
        "added",
        "reasons",
        "stopped",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        window: ReplyWindow,
        write_timeout: float,
        on_go: Callable[[], None],
        on_stall: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._window = window
        self._ended = False
        window.direct = transport.write
        self._write_timeout = write_timeout
        self._on_go = on_go
        self._on_stall = on_stall
        self._held_by: set[Backend] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.added = 0
        """Bytes written for the client while it was not read from."""
        self.reasons = Stop.NONE
        self.stopped = False

    def __repr__(self) -> str:
        return f"Flow({self.reasons!r})"

    def stop(self, reason: Stop) -> None:
        """Do not read until ``reason`` is gone."""
        if not self.stopped and not self._transport.is_closing():
            self._transport.pause_reading()
        self.reasons |= reason
        self.stopped = True
        self._window.direct = None

    def end(self) -> None:
        """The client sends no more: each reply may be the last one, and is looked at."""
        self._ended = True
        self._window.direct = None

    def go(self, reason: Stop) -> None:
        """``reason`` is gone."""
        if not self.reasons & reason:
            return
        self.reasons &= ~reason
        self.stopped = bool(self.reasons)
        if not self.stopped and not self._transport.is_closing():
            self._transport.resume_reading()
            if not self._ended:
                self._window.direct = self._transport.write
            self._on_go()

    def hold(self, backend: Backend) -> None:
        """``backend`` takes no more for now."""
        self._held_by.add(backend)
        self.stop(Stop.HELD)

    def release(self, backend: Backend) -> None:
        """``backend`` takes requests again."""
        self._held_by.discard(backend)
        if not self._held_by:
            self.go(Stop.HELD)

    def slow(self) -> None:
        """The client reads more slowly than it is answered: no more requests until it has caught up."""
        self.stop(Stop.SLOW)
        if self._timer is None:
            self._watch()

    def caught_up(self) -> None:
        """It has."""
        self.end_watch()
        self.go(Stop.SLOW)

    def end_watch(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def unread(self) -> int:
        """Bytes that wait in this process for the client to read."""
        return self._transport.get_write_buffer_size()

    def _watch(self) -> None:
        """Look after a while whether the client has read anything of what waits for it now."""
        before = self.unread() - self.added

        def look() -> None:
            if self.unread() - self.added < before:
                self._watch()
            else:
                self._on_stall()

        self._timer = self._loop.call_later(self._write_timeout, look)
