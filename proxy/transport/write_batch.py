"""One turn of the event loop: its time, what each client may have done in it, and the writes that end it::

sockets are read ──▶ clients' requests are carried out, each client's up to its share, all up to the turn's
end of the turn  ──▶ output is written ──▶ who has something left goes on, in rotation ──▶ output is written
next turn        ──▶ timers, signals, sockets of servers, clients and the admin port ...
"""

import asyncio
import logging
from collections import deque
from typing import Protocol

from proxy.transport.clock import Clock

log = logging.getLogger(__name__)

LOOK = 128
"""Credits after which the clock is read. A request of the fast path takes one ..."""
OWN = 2
"""... one of the own fast path so many ..."""
SLOW = 32
"""... and any other so many."""
BYTES = 256
"""Bytes of the fast path's requests that take a credit, where that is more than what their number takes."""
SHARE_LOOKS = 32
SHARE = 0.001
"""Seconds, and looks at the clock, after which a client has had its share: as long as hundreds of small requests take,
and so short that nobody notices the others' shares. The looks bound it where time stands still (tests)."""
TURN_LOOKS = 256
TURN = 0.004
"""The same for all clients together, before the end of a turn and again at it: a turn stays under 20 ms."""

_AT_ONCE = 1000
"""Of more items these are flushed in one turn: some milliseconds."""
_LOOK = LOOK
_SHARE_LOOKS = SHARE_LOOKS
_SHARE = SHARE
_TURN_LOOKS = TURN_LOOKS
_TURN = TURN


class Flushable(Protocol):
    """Something with output that waits to be written."""

    def flush(self) -> None:
        """Write it."""


class TurnWaiter(Protocol):
    """A client with requests that are left over."""

    def next_share(self) -> None:
        """Go on with them."""

    def give_up(self) -> None:
        """Going on has failed: close its connection."""


class Turn:
    """Calls ``flush`` once on everything added during one turn of the loop, so that many clients share one write.

    A client asks with ``share`` whether it may begin, takes ``credit``, and asks ``over`` once that is used up. Where
    it is over, the client calls ``wait``, and is told to go on at the end of this turn or of a later one.
    Its time is the ``clock``'s, read once a turn; how long it takes is measured by the clock's source.
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
        """Whether the end of this turn will be told."""
        self._opened = False
        """Whether clients have begun to take their shares."""
        self._spent = False
        self._turn_ends = 0.0
        self._looks = 0
        self._share_ends = 0.0
        self._share_looks = 0
        self.credit = _LOOK
        """What may still be carried out before the clock is read."""

    def now(self) -> float:
        """The time of this turn: once something waits to be flushed, it stands still until the turn is over."""
        if not self._opened and not self._items:
            self._now = self.clock.now()
        return self._now

    def add(self, item: Flushable) -> None:
        """Flush ``item`` at the end of this turn. The caller sees to it that an item is added once."""
        if not self._armed:
            self._arm()
        self._items.append(item)

    def share(self) -> float:
        """Begin a client's share of this turn; the time. Less than 0 if the clients have had all there is in it."""
        if not self._opened:
            self._open()
        elif self.credit <= 0:
            self._look()
        self._share_looks = 0
        self._share_ends = 0.0
        return -1.0 if self._spent else self._now

    def over(self) -> bool:
        """The credit is used up: whether the client has had its share."""
        now = self._look()
        self._share_looks += 1
        if not self._share_ends:
            self._share_ends = now + _SHARE
        return self._spent or now >= self._share_ends or self._share_looks >= _SHARE_LOOKS

    def wait(self, client: TurnWaiter) -> None:
        """``client`` has something left: tell it to go on when its next share comes."""
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
        """Look whether the clients have had all there is in this turn."""
        now: float = self.clock.source()
        self.credit = _LOOK
        self._looks += 1
        if now >= self._turn_ends or self._looks >= _TURN_LOOKS:
            self._spent = True
        return now

    def _run(self) -> None:
        """The end of the turn."""
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
        """Let those go on who have something left, one share each: whoever has still more waits behind the others."""
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
            # One message to thousands of subscribers: others are to be heard in between.
            self._items = items[_AT_ONCE:]
            items = items[:_AT_ONCE]
            self._now = self.clock.now()
        for item in items:
            try:
                item.flush()
            except Exception:
                # A fault of ours in one connection must not keep the others' replies.
                log.exception("flush failed item=%r", item)
