"""The leases of one server: how many there are, whose, and who waits for one. Pure, but for the timers of who waits."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from proxy.backends.dedicated import Lease
from proxy.backends.settings import Place
from proxy.sharding.topology import Node
from proxy.transport.clock import Deadline

OWN = ""
"""The holder of what the proxy asks for itself."""
_BESIDE = 16
"""Connections to one server that only the proxy itself may have beside those of clients."""

Then = Callable[[Lease | str], None]
"""Gets the lease, or the text of the error reply that says why there is none: SHARDDOWN if the server can not be
reached, so that another attempt may succeed."""


class Claim:
    """A lease that is asked for. ``cancel``: it is not wanted any more (and given back if it comes all the same)."""

    __slots__ = ("_then", "found", "holder", "place", "queue", "timer")

    def __init__(self, place: Place, then: Then, holder: str) -> None:
        self.place = place
        self.holder = holder
        """The user and the address that it is for, or ``OWN``."""
        self.timer: Deadline | None = None
        """Runs while it waits for one to become free."""
        self.queue: deque[Claim] | None = None
        """Where it waits."""
        self.found: Lease | str | None = None
        """What it will get when those before it have theirs."""
        self._then: Then | None = then

    def cancel(self) -> None:
        """It is not wanted any more."""
        self._then = None
        self.stop()
        if self.queue is not None and self in self.queue:
            self.queue.remove(self)

    @property
    def cancelled(self) -> bool:
        """Whether it is not wanted any more."""
        return self._then is None

    def settle(self, found: Lease | str) -> None:
        """Here it is."""
        then, self._then = self._then, None
        self.stop()
        if then is not None:
            then(found)

    def stop(self) -> None:
        """It does not wait for one to become free any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(frozen=True, slots=True)
class Usage:
    """How many leases of one server are used (or being connected or checked), and how many idle."""

    node: Node
    used: int
    idle: int


class Station:
    """The leases of one server. ``count`` has those too that are being connected.

    At most ``limit`` are clients', and at most ``share`` one holder's.
    """

    __slots__ = ("count", "held", "idle", "limit", "line", "share", "waiting")

    def __init__(self, limit: int, share: int) -> None:
        self.limit = limit
        self.share = share
        self.count = 0
        self.held: dict[str, int] = {}
        """How many each holder has, or is about to get."""
        self.idle: list[Lease] = []
        """The one that was used last stands last."""
        self.waiting: deque[Claim] = deque()
        self.line: deque[Claim] = deque()
        """Clients' claims for which connections are being made, in the order in which they were asked for; and those
        behind them, whose leases are there."""

    @property
    def clients(self) -> int:
        """How many are clients', or idle."""
        return self.count - self.held.get(OWN, 0)

    def may(self, holder: str) -> bool:
        """Whether ``holder`` may have one more, if there is one."""
        return self.held.get(holder, 0) < (_BESIDE if holder == OWN else self.share)

    def hold(self, holder: str) -> None:
        """One more is the ``holder``'s."""
        self.held[holder] = self.held.get(holder, 0) + 1

    def let_go(self, holder: str) -> None:
        """One less."""
        left = self.held[holder] - 1
        if left:
            self.held[holder] = left
        else:
            del self.held[holder]

    def next(self) -> Claim | None:
        """Who waits and may have one, the first of them."""
        return next((claim for claim in self.waiting if self.may(claim.holder)), None)

    def taker(self, place: Place) -> Claim | None:
        """Whose the next connection for ``place`` is that is made, or the failure to make one."""
        open_ones = [claim for claim in self.line if claim.found is None and claim.place == place]
        wanted = (claim for claim in open_ones if not claim.cancelled)
        return next(wanted, open_ones[0] if open_ones else None)

    def ready(self) -> Claim | None:
        """The next claim that may be settled; it leaves the line. Who does not want it any more holds up nobody."""
        if self.line and (self.line[0].found is not None or self.line[0].cancelled):
            return self.line.popleft()
        return None

    def take(self, place: Place) -> Lease | None:
        """An idle one for ``place``; the one that was used last, so that what is not needed grows old."""
        for at in range(len(self.idle) - 1, -1, -1):
            if self.idle[at].place == place:
                return self.idle.pop(at)
        return None
