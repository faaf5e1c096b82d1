"""Flow control of a client: the reasons to stop reading from it, and the timeout of a client that does not read."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from proxy.engine.window import ReplyWindow
from proxy.resp.limits import RequestLimits
from proxy.transport.clock import Deadline
from proxy.transport.write_batch import Turn


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The limits of one client's connection; sizes in bytes, times in seconds."""

    max_in_flight: int
    output_soft: int
    output_hard: int
    write_timeout: float
    pubsub_soft: int
    pubsub_patience: float
    """How many seconds a subscriber may have more than ``pubsub_soft`` bytes unread."""
    pubsub_hard: int
    requests: RequestLimits
    """The bounds of each of its requests, as they are for clients that connect from now on."""


class Timed(Protocol):
    """The part of a client's worker that flow control uses."""

    @property
    def turn(self) -> Turn:
        """The turns of the loop, with the clock of the deadlines."""

    @property
    def limits(self) -> ClientLimits:
        """The limits of each client."""


class Controlled(Protocol):
    """A client under flow control."""

    @property
    def window(self) -> ReplyWindow:
        """The window of the client's replies."""

    @property
    def service(self) -> Timed:
        """The worker of the client."""

    def go_on(self) -> None:
        """Carry out the requests that the client sent while a reason to stop held."""

    def stalled(self) -> None:
        """Act on a client that has read nothing for ``write_timeout`` seconds."""


class Stop:
    """The reasons to stop a client, as bits. They are plain integers, since operations of an enum cost microseconds."""

    HELD = 1
    """A backend takes no more requests."""
    FULL = 2
    """Too many of the client's requests are in flight, or too many bytes of early replies are parked."""
    SLOW = 4
    """The client does not read its replies, and more bytes wait for it than the limit."""
    ORDER = 8
    """The next requests go over other connections, and must not overtake the requests in flight."""
    PAUSED = 16
    """CLIENT PAUSE holds the client's requests; its socket is read, as while it is blocked."""
    ENDING = 32
    """The client will be closed when its requests in flight are answered."""
    LONG = 256
    """A request is so long that it is split over several turns."""
    BLOCKED = 64
    """The client waits in a blocking command. Its socket is read, so that its disconnect is seen, but no request is
    carried out."""
    PACED = 512
    """The client reads its large replies slowly: replies are passed on, and requests carried out, at its speed."""
    QUOTA = 1024
    """The client's user or address is over a limit of commands or bytes a second, or of requests in flight."""
    LOGIN = 2048
    """The client's login is delayed. Its socket is read, so that its disconnect is seen."""
    TURN = 128
    """The client has used its share of this turn of the loop, and other clients have not."""


_READ_WHILE_BLOCKED = Stop.BLOCKED | Stop.PAUSED | Stop.LOGIN
_NOT_READ_WHILE_BEHIND = Stop.SLOW | Stop.ENDING | Stop.TURN | Stop.QUOTA
"""The reasons for which a slow reader's socket is not read. Such a client may read no reply before it has written all
its requests, so under any other reason its requests are read and kept, up to a limit (``proxy.client.backlog``)."""
_NAMES = {value: name for name, value in vars(Stop).items() if name.isupper()}


class Flow:
    """Stops a client while any reason of ``Stop`` holds; ``client.go_on`` is called when the last one ends.

    A stopped client's socket is not read, with two exceptions: while the client is blocked or paused, and while it is
    ``behind`` with reading its replies. While no reason holds, single replies are written at once
    (``ReplyWindow.direct``).
    A ``Flow`` is also the ``Holder`` that backends hold, and watches the progress of a slow reader: after
    ``write_timeout`` seconds without progress it calls ``client.stalled``.
    """

    __slots__ = (
        "_client",
        "_ended",
        "_held_by",
        "_indirect",
        "_reads",
        "_timer",
        "_transport",
        "behind",
        "lively",
        "quota",
        "reasons",
        "stopped",
        "withheld",
    )

    def __init__(self, client: Controlled, transport: asyncio.Transport) -> None:
        self._client: Controlled | None = client
        self._transport = transport
        self._ended = self._indirect = False
        client.window.direct = transport.write
        client.window.on_halt = self.halt
        self._held_by: set[object] | None = None
        self._timer: Deadline | None = None
        self._reads = True
        self.behind = False
        """Whether the client reads more slowly than it is answered."""
        self.lively = False
        """Whether the client has sent anything since the last check of its progress."""
        self.quota: object | None = None
        """What the client's user and address allow (``proxy.client.quota``); None if nothing limits them."""
        self.reasons = 0
        self.stopped = False
        self.withheld = False
        """Whether the client is not read from because the clients hold too much memory."""

    def __repr__(self) -> str:
        return f"Flow({'|'.join(name for bit, name in _NAMES.items() if self.reasons & bit)})"

    def stop(self, reason: int) -> None:
        """Stop the client until ``reason`` ends."""
        self.reasons |= reason
        self.stopped = True
        self._settle()

    @property
    def ended(self) -> bool:
        """Whether the client has closed its sending side."""
        return self._ended

    def end(self) -> None:
        """Record that the client has closed its sending side: any reply may be the last one, so none is written
        directly."""
        self._ended = True
        self._settle()

    def write_no_more_directly(self) -> None:
        """Have every reply written at the end of a turn, because it may be the last one of a client that is to
        leave."""
        self._indirect = True
        self._settle()

    def close(self) -> None:
        """Forget the client of a closed connection."""
        self.end_watch()
        self._client = None

    def go(self, reason: int) -> None:
        """End ``reason``."""
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

    def withhold(self, on: bool) -> None:
        """Stop reading from the client for want of memory, or read again. The requests that were read are carried out
        all the same, since that frees their memory."""
        if on is not self.withheld:
            self.withheld = on
            self._settle()

    def halt(self) -> None:
        """Stop the client because a request was refused and is sent to another server: no request may overtake it."""
        self.stop(Stop.ORDER)

    def hold(self, backend: object) -> None:
        """Stop the client because ``backend`` takes no more requests for now."""
        if self._held_by is None:
            self._held_by = set()
        self._held_by.add(backend)
        self.stop(Stop.HELD)

    def release(self, backend: object) -> None:
        """Let the client go on because ``backend`` takes requests again."""
        if self._held_by is not None:
            self._held_by.discard(backend)
            if not self._held_by:
                self.go(Stop.HELD)

    def handed_back(self) -> None:
        """Settle a transport that another protocol has used and that reads now."""
        self._reads = True
        self._settle()

    def slow_from(self, size: int) -> None:
        """Set the number of unread bytes above which the client counts as slow."""
        if self._client is not None and not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=size)

    def slow(self) -> None:
        """Record that the client reads more slowly than it is answered."""
        self.behind = True
        self._settle()
        if self._timer is None:
            self._watch()

    def caught_up(self) -> None:
        """Record that the client has caught up with its replies."""
        self.behind = False
        self.end_watch()
        self._settle()
        self.go(Stop.SLOW | Stop.PACED)

    def end_watch(self) -> None:
        """Stop watching the client's progress."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def left_to_read(self) -> int:
        """A number that decreases whenever the client reads bytes."""
        return 0 if self._client is None else self.unread() - self._client.window.written

    def unread(self) -> int:
        """How many bytes wait in this process for the client to read them."""
        return self._transport.get_write_buffer_size()

    def _settle(self) -> None:
        """Pause or resume reading, and set or clear direct writes, as the present reasons require."""
        client, transport = self._client, self._transport
        if client is None or transport.is_closing():
            return
        exempt = ~_NOT_READ_WHILE_BEHIND if self.behind else _READ_WHILE_BLOCKED
        reads = not (self.withheld or self.reasons & ~exempt)
        if reads is not self._reads:
            self._reads = reads
            if reads:
                transport.resume_reading()
            else:
                transport.pause_reading()
        direct = not (self.stopped or self._ended or self._indirect or self.behind)
        client.window.direct = transport.write if direct else None

    def _watch(self) -> None:
        """Check after a while whether the client has read any of the bytes that wait for it now, or sent anything."""
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
