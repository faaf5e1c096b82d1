"""When a client is read from, and what happens to one that does not read."""

import asyncio
from typing import TYPE_CHECKING

from proxy.backend import Backend
from proxy.clock import Deadline

if TYPE_CHECKING:
    from proxy.client import ClientConnection


class Stop:
    """Why a client is not read from: bits that add up. Plain integers, as an enum's operations cost microseconds."""

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
    LONG = 128
    """A request of its is so long that it is taken apart over several turns."""
    BLOCKED = 64
    """It waits in a blocking command: its socket is read, or nobody would see it leave, but nothing is carried out."""


_BLOCKED = Stop.BLOCKED
_NAMES = {value: name for name, value in vars(Stop).items() if name.isupper()}


class Flow:
    """Reading from a client stops while any reason holds, and goes on when the last one is gone (``client.go_on``).

    While it is read from, single replies are written at once (``ReplyWindow.direct``).
    Also the ``Holder`` that backends hold, and the watch over a reader that makes no progress: after
    ``write_timeout`` seconds without any, ``client.stalled`` is called.
    """

    __slots__ = ("_client", "_ended", "_held_by", "_timer", "_transport", "reasons", "stopped")

    def __init__(self, client: "ClientConnection", transport: asyncio.Transport) -> None:
        self._client: ClientConnection | None = client
        self._transport = transport
        self._ended = False
        client.window.direct = transport.write
        client.window.on_halt = self.halt
        self._held_by: set[Backend] | None = None
        self._timer: Deadline | None = None
        self.reasons = 0
        self.stopped = False

    def __repr__(self) -> str:
        return f"Flow({'|'.join(name for bit, name in _NAMES.items() if self.reasons & bit)})"

    def stop(self, reason: int) -> None:
        """Carry out nothing more, and do not read (unless it is ``BLOCKED``), until ``reason`` is gone."""
        silent = self.reasons & ~_BLOCKED
        self.reasons |= reason
        if not silent and self.reasons & ~_BLOCKED and not self._transport.is_closing():
            self._transport.pause_reading()
        self.stopped = True
        self._set_direct(False)

    @property
    def ended(self) -> bool:
        """Whether the client sends no more."""
        return self._ended

    def end(self) -> None:
        """The client sends no more: each reply may be the last one, and is looked at."""
        self._ended = True
        self._set_direct(False)

    def close(self) -> None:
        """The connection is gone."""
        self.end_watch()
        self._client = None

    def go(self, reason: int) -> None:
        """``reason`` is gone."""
        if not self.reasons & reason:
            return
        silent = self.reasons & ~_BLOCKED
        self.reasons &= ~reason
        self.stopped = bool(self.reasons)
        client = self._client
        if client is None or self._transport.is_closing():
            return
        if silent and not self.reasons & ~_BLOCKED:
            self._transport.resume_reading()
        if not self.stopped:
            self._set_direct(not self._ended)
            client.go_on()

    def halt(self) -> None:
        """A request is on a detour: what follows must not overtake it."""
        self.stop(Stop.ORDER)

    def hold(self, backend: Backend) -> None:
        """``backend`` takes no more for now."""
        if self._held_by is None:
            self._held_by = set()
        self._held_by.add(backend)
        self.stop(Stop.HELD)

    def release(self, backend: Backend) -> None:
        """``backend`` takes requests again."""
        if self._held_by is not None:
            self._held_by.discard(backend)
            if not self._held_by:
                self.go(Stop.HELD)

    def slow_from(self, size: int) -> None:
        """More than ``size`` bytes that wait for it make it slow, from now on."""
        if self._client is not None and not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=size)

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

    def _set_direct(self, direct: bool) -> None:
        if self._client is not None:
            self._client.window.direct = self._transport.write if direct else None

    def _watch(self) -> None:
        """Look after a while whether the client has read anything of what waits for it now."""
        client = self._client
        if client is None:
            return
        before = self.unread() - client.window.written

        def look() -> None:
            if self.unread() - client.window.written < before:
                self._watch()
            else:
                client.stalled()

        service = client.service
        self._timer = service.turn.clock.call_later(service.limits.write_timeout, look)
