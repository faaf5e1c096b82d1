"""When a client is read from, and what happens to one that does not read."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from proxy.engine.window import ReplyWindow
from proxy.resp.limits import RequestLimits
from proxy.transport.clock import Deadline
from proxy.transport.write_batch import Turn


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds of one client's connection; sizes in bytes, times in seconds."""

    max_in_flight: int
    output_soft: int
    output_hard: int
    write_timeout: float
    pubsub_soft: int
    pubsub_patience: float
    """How long a subscriber may have more than ``pubsub_soft`` waiting for it."""
    pubsub_hard: int
    requests: RequestLimits
    """The bounds of each of its requests, as they are for clients that connect from now on."""


class Timed(Protocol):
    """The worker of a client, as far as its flow control needs it."""

    @property
    def turn(self) -> Turn:
        """The turns of the loop, with the clock that deadlines go by."""

    @property
    def limits(self) -> ClientLimits:
        """The bounds of each client."""


class Controlled(Protocol):
    """A client that is read from, or not."""

    @property
    def window(self) -> ReplyWindow:
        """Its replies."""

    @property
    def service(self) -> Timed:
        """The worker that it is a client of."""

    def go_on(self) -> None:
        """Carry out what it has sent meanwhile: nothing stops it any more."""

    def stalled(self) -> None:
        """It has read nothing for ``write_timeout`` seconds."""


class Stop:
    """Why a client is not read from: bits that add up. Plain integers, as an enum's operations cost microseconds."""

    HELD = 1
    """A backend takes no more."""
    FULL = 2
    """Too many of its requests are in flight, or too many bytes wait for their turn."""
    SLOW = 4
    """It does not read its replies, and more wait for it than may."""
    ORDER = 8
    """What follows goes over other connections and must not overtake what is in flight."""
    PAUSED = 16
    """CLIENT PAUSE holds what it sent; its socket is read, as while it is blocked."""
    ENDING = 32
    """It will be closed when what is in flight is answered."""
    LONG = 256
    """A request of its is so long that it is taken apart over several turns."""
    BLOCKED = 64
    """It waits in a blocking command: its socket is read, or nobody would see it leave, but nothing is carried out."""
    PACED = 512
    """Its replies are large, and it is behind with reading them: they go at its speed, and so does what follows."""
    TURN = 128
    """It has had its share of this turn of the loop, and the others have not."""


_READ_WHILE_BLOCKED = Stop.BLOCKED | Stop.PAUSED
_NOT_READ_WHILE_BEHIND = Stop.SLOW | Stop.ENDING | Stop.TURN
"""A client that does not read its replies may read none before it has written all its requests: whatever else keeps
them from being carried out, they are read and kept, up to what may wait for it (``proxy.client.backlog``)."""
_NAMES = {value: name for name, value in vars(Stop).items() if name.isupper()}


class Flow:
    """Nothing is carried out while any reason holds; it goes on when the last one is gone (``client.go_on``).

    Meanwhile the client is not read from, with two exceptions: while it is blocked or paused, and while it is
    ``behind`` with reading its replies. While nothing stops it, single replies are written at once
    (``ReplyWindow.direct``).
    Also the ``Holder`` that backends hold, and the watch over a reader that makes no progress: after
    ``write_timeout`` seconds without any, ``client.stalled`` is called.
    """

    __slots__ = (
        "_client",
        "_ended",
        "_held_by",
        "_reads",
        "_timer",
        "_transport",
        "behind",
        "lively",
        "reasons",
        "stopped",
    )

    def __init__(self, client: Controlled, transport: asyncio.Transport) -> None:
        self._client: Controlled | None = client
        self._transport = transport
        self._ended = False
        client.window.direct = transport.write
        client.window.on_halt = self.halt
        self._held_by: set[object] | None = None
        self._timer: Deadline | None = None
        self._reads = True
        self.behind = False
        """Whether it reads more slowly than it is answered."""
        self.lively = False
        """Whether it has sent anything since that was last looked at."""
        self.reasons = 0
        self.stopped = False

    def __repr__(self) -> str:
        return f"Flow({'|'.join(name for bit, name in _NAMES.items() if self.reasons & bit)})"

    def stop(self, reason: int) -> None:
        """Carry out nothing more until ``reason`` is gone."""
        self.reasons |= reason
        self.stopped = True
        self._settle()

    @property
    def ended(self) -> bool:
        """Whether the client sends no more."""
        return self._ended

    def end(self) -> None:
        """The client sends no more: each reply may be the last one, and is looked at."""
        self._ended = True
        self._settle()

    def close(self) -> None:
        """The connection is gone."""
        self.end_watch()
        self._client = None

    def go(self, reason: int) -> None:
        """``reason`` is gone."""
        if not self.reasons & reason:
            return
        self.reasons &= ~reason
        self.stopped = bool(self.reasons)
        client = self._client
        if client is None or self._transport.is_closing():
            return
        self._settle()
        if not self.stopped:
            client.go_on()

    def halt(self) -> None:
        """A request was refused, and is sent elsewhere: what follows must not overtake it."""
        self.stop(Stop.ORDER)

    def hold(self, backend: object) -> None:
        """``backend`` takes no more for now."""
        if self._held_by is None:
            self._held_by = set()
        self._held_by.add(backend)
        self.stop(Stop.HELD)

    def release(self, backend: object) -> None:
        """``backend`` takes requests again."""
        if self._held_by is not None:
            self._held_by.discard(backend)
            if not self._held_by:
                self.go(Stop.HELD)

    def handed_back(self) -> None:
        """The transport was another protocol's, and reads now."""
        self._reads = True
        self._settle()

    def slow_from(self, size: int) -> None:
        """More than ``size`` bytes that wait for it make it slow, from now on."""
        if self._client is not None and not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=size)

    def slow(self) -> None:
        """The client reads more slowly than it is answered."""
        self.behind = True
        self._settle()
        if self._timer is None:
            self._watch()

    def caught_up(self) -> None:
        """It reads as fast as it is answered."""
        self.behind = False
        self.end_watch()
        self._settle()
        self.go(Stop.SLOW | Stop.PACED)

    def end_watch(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def left_to_read(self) -> int:
        """A number that falls whenever the client reads something."""
        return 0 if self._client is None else self.unread() - self._client.window.written

    def unread(self) -> int:
        """Bytes that wait in this process for the client to read."""
        return self._transport.get_write_buffer_size()

    def _settle(self) -> None:
        """Have its socket read, and single replies written at once, as it is now."""
        client, transport = self._client, self._transport
        if client is None or transport.is_closing():
            return
        exempt = ~_NOT_READ_WHILE_BEHIND if self.behind else _READ_WHILE_BLOCKED
        reads = not self.reasons & ~exempt
        if reads is not self._reads:
            self._reads = reads
            if reads:
                transport.resume_reading()
            else:
                transport.pause_reading()
        client.window.direct = None if self.stopped or self._ended or self.behind else transport.write

    def _watch(self) -> None:
        """Look after a while whether the client has read anything of what waits for it now, or sent anything."""
        client = self._client
        if client is None:
            return
        before = self.left_to_read()

        self.lively = False

        def look() -> None:
            if self.lively or self.left_to_read() < before:
                self._watch()
            else:
                client.stalled()

        service = client.service
        self._timer = service.turn.clock.call_later(service.limits.write_timeout, look)
