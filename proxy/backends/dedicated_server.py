"""The leases of one server: their number, their holders, and the claims that wait. No I/O, except for the claims'
timers."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from proxy.backends.dedicated import Lease
from proxy.backends.settings import Place
from proxy.sharding.topology import Node
from proxy.transport.clock import Deadline

OWN = ""
"""The holder of the proxy's own leases."""
_BESIDE = 16
"""The number of connections to one server that the proxy itself may have beside those of clients."""

Then = Callable[[Lease | str], None]
"""Gets the lease, or the text of the error reply that says why there is none. The text begins with SHARDDOWN if the
server can not be reached, so that another attempt may succeed."""


class Claim:
    """A lease that was asked for. After ``cancel``, a lease that still comes is given back."""

    __slots__ = ("_then", "found", "holder", "place", "queue", "timer")

    def __init__(self, place: Place, then: Then, holder: str) -> None:
        self.place = place
        self.holder = holder
        """The user and the address that the lease is for, or ``OWN``."""
        self.timer: Deadline | None = None
        """Runs while the claim waits for a free connection."""
        self.queue: deque[Claim] | None = None
        """The queue in which the claim waits."""
        self.found: Lease | str | None = None
        """The result that the claim gets when those before it have theirs."""
        self._then: Then | None = then

    def cancel(self) -> None:
        """Give up the claim."""
        self._then = None
        self.stop()
        if self.queue is not None and self in self.queue:
            self.queue.remove(self)

    @property
    def cancelled(self) -> bool:
        """Whether the claim was given up."""
        return self._then is None

    def settle(self, found: Lease | str) -> None:
        """Call back with ``found``."""
        then, self._then = self._then, None
        self.stop()
        if then is not None:
            then(found)

    def stop(self) -> None:
        """Stop waiting for a free connection."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(frozen=True, slots=True)
class Usage:
    """The number of leases of one server that are used (or are being connected or checked), and of those that are
    idle."""

    node: Node
    used: int
    idle: int


class Station:
    """The leases of one server. ``count`` includes those that are being connected.

    Clients have at most ``limit`` of them, and one holder has at most ``share``.
    """

    __slots__ = ("count", "held", "idle", "limit", "line", "share", "waiting")

    def __init__(self, limit: int, share: int) -> None:
        self.limit = limit
        self.share = share
        self.count = 0
        self.held: dict[str, int] = {}
        """The number of leases that each holder has, or is about to get."""
        self.idle: list[Lease] = []
        """The idle leases; the one that was used last is last."""
        self.waiting: deque[Claim] = deque()
        self.line: deque[Claim] = deque()
        """Claims of clients for which connections are being made, in the order in which they were asked for, and the
        claims after them whose leases exist already."""

    @property
    def clients(self) -> int:
        """The number of leases that clients use, and of idle ones."""
        return self.count - self.held.get(OWN, 0)

    def may(self, holder: str) -> bool:
        """Whether ``holder`` may have one more lease."""
        return self.held.get(holder, 0) < (_BESIDE if holder == OWN else self.share)

    def hold(self, holder: str) -> None:
        """Count one more lease of ``holder``."""
        self.held[holder] = self.held.get(holder, 0) + 1

    def let_go(self, holder: str) -> None:
        """Count one lease of ``holder`` less."""
        left = self.held[holder] - 1
        if left:
            self.held[holder] = left
        else:
            del self.held[holder]

    def next(self) -> Claim | None:
        """The first waiting claim whose holder may have a lease."""
        return next((claim for claim in self.waiting if self.may(claim.holder)), None)

    def taker(self, place: Place) -> Claim | None:
        """The claim that gets the next connection to ``place``, or the failure to make it."""
        open_ones = [claim for claim in self.line if claim.found is None and claim.place == place]
        wanted = (claim for claim in open_ones if not claim.cancelled)
        return next(wanted, open_ones[0] if open_ones else None)

    def ready(self) -> Claim | None:
        """Take the next claim that can be settled out of the line. A cancelled claim does not delay those after it."""
        if self.line and (self.line[0].found is not None or self.line[0].cancelled):
            return self.line.popleft()
        return None

    def take(self, place: Place) -> Lease | None:
        """An idle lease for ``place``: the one that was used last, so that unneeded ones time out."""
        for at in range(len(self.idle) - 1, -1, -1):
            if self.idle[at].place == place:
                return self.idle.pop(at)
        return None
