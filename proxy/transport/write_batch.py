"""One turn of the event loop: its time, the share of each client, and the writes that end it::

sockets are read ──▶ requests are carried out, up to the share of each client and the time of the turn
end of the turn  ──▶ output is written ──▶ clients with requests left go on, in rotation ──▶ output is written
next turn        ──▶ timers, signals, sockets of servers, clients and the admin port ...
"""

import asyncio
import logging
from collections import deque
from typing import Protocol

from proxy.transport.clock import Clock

log = logging.getLogger(__name__)

LOOK = 128
"""Credits after which the clock is read. A request on the fast path takes one credit."""
OWN = 2
"""The credits of a request on the fast path of the proxy's own commands."""
SLOW = 32
"""The credits of any other request."""
BYTES = 256
"""So many bytes of requests on the fast path take one credit, if that is more than their number takes."""
SHARE_LOOKS = 32
SHARE = 0.001
"""The seconds of a client's share: enough for hundreds of small requests, and too short for other clients to notice.
The number of clock readings bounds a share where time stands still (in tests)."""
TURN_LOOKS = 256
TURN = 0.004
"""The seconds of all clients together, before the end of a turn and again at its end: a turn stays under 20 ms."""

_AT_ONCE = 1000
"""The most items that are flushed in one turn, which takes some milliseconds."""
_LOOK = LOOK
_SHARE_LOOKS = SHARE_LOOKS
_SHARE = SHARE
_TURN_LOOKS = TURN_LOOKS
_TURN = TURN


class Flushable(Protocol):
    """An object with output that waits to be written."""

    def flush(self) -> None:
        """Write the output."""


class TurnWaiter(Protocol):
    """A client with requests that are not carried out yet."""

    def next_share(self) -> None:
        """Carry out more requests."""

    def give_up(self) -> None:
        """Close the connection, since ``next_share`` has failed."""


class Turn:
    """Calls ``flush`` once on everything added during one turn of the loop, so that many clients share one write.

    A client begins with ``share``, takes ``credit``, and calls ``over`` once the credit is used up. When its share is
    over, the client calls ``wait``; its ``next_share`` is called at the end of this turn or of a later one.
    The time is that of ``clock``, read once a turn; durations are measured with the clock's source.
    """

    __slots__ = (
        "_armed",
        "_items",
        "_looks",
        "_loop",
        "_now",
        "_opened",
        "_share_ends",
        "_share_looks",
        "_spent",
        "_turn_ends",
        "_waiting",
        "clock",
        "credit",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self.clock = clock
        self._now = clock.now()
        self._items: list[Flushable] = []
        self._waiting: deque[TurnWaiter] = deque()
        self._armed = False
        """Whether the end of this turn is scheduled."""
        self._opened = False
        """Whether clients have begun to take their shares of this turn."""
        self._spent = False
        self._turn_ends = 0.0
        self._looks = 0
        self._share_ends = 0.0
        self._share_looks = 0
        self.credit = _LOOK
        """The credits left before the clock is read."""

    def now(self) -> float:
        """The time of this turn in seconds; the time stands still from the first added item to the end of the turn."""
        if not self._opened and not self._items:
            self._now = self.clock.now()
        return self._now

    def add(self, item: Flushable) -> None:
        """Flush ``item`` at the end of this turn. The caller adds an item only once."""
        if not self._armed:
            self._arm()
        self._items.append(item)

    def share(self) -> float:
        """Begin a client's share of this turn; return the time, or a negative number if the turn's time is used up."""
        if not self._opened:
            self._open()
        elif self.credit <= 0:
            self._look()
        self._share_looks = 0
        self._share_ends = 0.0
        return -1.0 if self._spent else self._now

    def over(self) -> bool:
        """Whether the client's share is used up; called when its credit is."""
        now = self._look()
        self._share_looks += 1
        if not self._share_ends:
            self._share_ends = now + _SHARE
        return self._spent or now >= self._share_ends or self._share_looks >= _SHARE_LOOKS

    def wait(self, client: TurnWaiter) -> None:
        """Call ``next_share`` of ``client``, which has requests left, when its next share comes."""
        if not self._armed:
            self._arm()
        self._waiting.append(client)

    def _arm(self) -> None:
        self._armed = True
        self._loop.call_soon(self._run)

    def _open(self) -> None:
        if not self._armed:
            self._arm()
        if not self._items:
            self._now = self.clock.now()
        self._opened = True
        self._spent = False
        self._turn_ends = self.clock.read + _TURN
        self._looks = 0
        self.credit = _LOOK

    def _look(self) -> float:
        """Read the clock, to see whether the time of the clients in this turn is used up."""
        now: float = self.clock.source()
        self.credit = _LOOK
        self._looks += 1
        if now >= self._turn_ends or self._looks >= _TURN_LOOKS:
            self._spent = True
        return now

    def _run(self) -> None:
        """End the turn: write the output, and give shares to the clients that wait."""
        self._flush()
        self._opened = False
        if self._waiting:
            self._go_on()
            self._flush()
            self._opened = False
        self._armed = False
        if self._items or self._waiting:
            self._arm()

    def _go_on(self) -> None:
        """Give one share to each client that waits; a client with requests left waits again, behind the others."""
        self._open()
        waiting = self._waiting
        for _ in range(len(waiting)):
            if self._spent:
                break
            client = waiting.popleft()
            try:
                client.next_share()
            except Exception:
                log.exception("requests failed client=%r", client)
                client.give_up()

    def _flush(self) -> None:
        items = self._items
        self._items = []
        if len(items) > _AT_ONCE:
            # One message may go to thousands of subscribers; other sockets are read in between.
            self._items = items[_AT_ONCE:]
            items = items[:_AT_ONCE]
            self._now = self.clock.now()
        for item in items:
            try:
                item.flush()
            except Exception:
                # A bug in one connection must not keep the others' replies back.
                log.exception("flush failed item=%r", item)
