"""Measures how far a replica is behind its primary, and decides whether it may serve reads. No I/O: times are
arguments, in seconds.

A primary's replication offset is sampled regularly. A replica has all that was written before the newest sample whose
offset it has reached, so the age of that sample is an upper bound of its lag. Offsets and the state of the link are
those of the reply to ROLE (https://redis.io/docs/latest/commands/role/).
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from proxy.resp.role import RoleReply
from proxy.sharding.topology import Node

_KEPT = 1024
"""The samples of a primary that are kept: at their spacing they reach back further than any allowed lag."""
_TRIPS = 8
"""The number of round trips whose shortest is the distance: longer ones include waiting, here or at the server."""
NEAR_SHARE = 0.2
NEAR_SECONDS = 0.0002
"""Round trips that differ by less than this share, or by less than these seconds, count as equal."""


class Fitness(Protocol):
    """Decides which servers may serve reads, apart from the state of the connections to them."""

    def reason(self, node: Node) -> str:
        """Why ``node`` may not serve reads; empty if it may."""

    def spare(self, node: Node) -> bool:
        """Whether ``node`` may serve reads if no other server can: its link is down, but its data is not too old
        yet."""

    def distance(self, node: Node) -> float:
        """The round trip to ``node`` in seconds; infinite if it was not measured."""


class Unwatched:
    """No measurements: every server is fit."""

    def reason(self, node: Node) -> str:
        """Return no reason."""
        return ""

    def spare(self, node: Node) -> bool:
        """Return True, as all servers are fit."""
        return True

    def distance(self, node: Node) -> float:
        """Return infinity, as nothing was measured."""
        return math.inf


@dataclass(frozen=True, slots=True)
class Role:
    """A reply to ROLE; ``offset`` is None if the server reports none."""

    primary: bool
    linked: bool
    offset: int | None


def read_role(reply: object) -> Role | None:
    """The role in ``reply``, which hiredis has decoded; None if it is no reply to ROLE, or that of a sentinel."""
    said = RoleReply.read(reply)
    if said is None or not (said.primary or said.link is not None):
        return None
    offset = said.offset if said.offset is not None and said.offset >= 0 else None
    return Role(said.primary, not said.primary and said.linked, offset)


class Timeline:
    """A primary's offsets over time, kept at least ``spacing`` seconds apart except for the newest."""

    def __init__(self, spacing: float) -> None:
        self._spacing = spacing
        self._samples: deque[tuple[float, int]] = deque(maxlen=_KEPT)

    def add(self, when: float, offset: int) -> None:
        """Add the primary's ``offset`` at ``when``, or a moment later. A smaller offset than the last begins a new
        history."""
        samples = self._samples
        if samples and offset < samples[-1][1]:
            samples.clear()
        if len(samples) > 1 and samples[-1][0] - samples[-2][0] < self._spacing:
            samples.pop()
        samples.append((when, offset))

    def lag(self, offset: int, now: float) -> float:
        """The age of the newest sample that a replica at ``offset`` has reached; 0 if that is the newest of all.

        For a replica that has reached none of the samples the age of the oldest one is returned, although its lag is
        greater.
        """
        samples = self._samples
        if not samples or offset >= samples[-1][1]:
            return 0.0
        when = next((when for when, reached in reversed(samples) if reached <= offset), samples[0][0])
        return max(0.0, now - when)


class Fault(Enum):
    """Reasons for which a server may not serve reads."""

    NONE = "none"
    LAG = "lag"
    LINK = "link"
    OLD = "old"
    """The link has been down for so long that the data is too old."""
    SILENT = "silent"


class Sight:
    """The measurements of one server: its replies to ROLE. ``since``: the time at which they began."""

    def __init__(self, since: float) -> None:
        self.role: Role | None = None
        self.lag = 0.0
        """The lag at the last reply."""
        self.trouble = ""
        """Why the last request was not answered; empty if it was."""
        self._answered = since
        self._linked = since
        self._trips: deque[float] = deque(maxlen=_TRIPS)
        self.distance = math.inf
        """The round trip; it is kept when a new one differs by less than counts."""

    def answer(self, role: Role | None, asked: float, now: float, timeline: Timeline) -> None:
        """Take the reply at ``now`` to the request of ``asked``; ``role`` is None if the reply can not be read."""
        self.trouble = ""
        self._answered = now
        self._trips.append(now - asked)
        self.role = role
        if role is None or role.linked:
            self._linked = now
        self.lag = 0.0 if role is None or role.offset is None else timeline.lag(role.offset, now)

    def forget(self) -> None:
        """Forget the last reported role, as the server's role has changed."""
        self.role = None
        self.lag = 0.0

    def behind(self, now: float, grace: float) -> float:
        """The lag at ``now``. A reply is valid for ``grace`` seconds; after that its age is added to the lag."""
        age = now - self._answered
        return self.lag if age <= grace else self.lag + age

    def judge(self, primary: bool, now: float, most: float, grace: float) -> tuple[Fault, str]:
        """Why the server may not serve reads, also in words. ``most``: the allowed lag; ``primary``: whether it should
        be one."""
        silent = now - self._answered
        if silent > max(most, grace):
            because = f": {self.trouble}" if self.trouble else ""
            return Fault.SILENT, f"it has not answered for {silent:.1f} s{because}"
        if primary or self.role is None:
            return Fault.NONE, ""
        lag = self.behind(now, grace)
        if lag > most:
            return Fault.LAG, f"it is {lag:.1f} s behind its primary"
        if self.role.linked:
            return Fault.NONE, ""
        unlinked = now - self._linked
        fault = Fault.LINK if unlinked <= most else Fault.OLD
        if self.role.primary:
            return fault, "it says that it is a primary and follows nobody"
        return fault, "its link to its primary is down"

    def measure(self) -> bool:
        """Update ``distance`` if it has changed by as much as counts. Returns whether it has."""
        if not self._trips:
            return False
        shortest = min(self._trips)
        if not math.isinf(self.distance) and _equal(shortest, self.distance):
            return False
        self.distance = shortest
        return True


def _equal(one: float, other: float) -> bool:
    return abs(one - other) <= max(NEAR_SECONDS, NEAR_SHARE * min(one, other))


def near(distance: float, shortest: float) -> bool:
    """Whether ``distance`` counts as equal to the ``shortest`` one."""
    return distance == shortest or _equal(distance, shortest)
