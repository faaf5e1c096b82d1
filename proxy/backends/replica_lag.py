"""How far a replica is behind its primary, and whether it is fit to be read from. Pure: times are given, in seconds.

A primary's replication offset is sampled now and then. A replica has all that was written before the newest sample
whose offset it has reached, so the age of that sample bounds its lag from above. Offsets and the state of the link are
what ROLE answers (https://redis.io/docs/latest/commands/role/).
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from proxy.resp.role import RoleReply
from proxy.sharding.topology import Node

_KEPT = 1024
"""Samples of a primary: at their spacing they reach back further than any lag that is allowed."""
_TRIPS = 8
"""The round trip is the shortest of so many: what is longer was waiting, here or there."""
NEAR_SHARE = 0.2
NEAR_SECONDS = 0.0002
"""Round trips that differ by less than this share, or by less than these seconds, are equal."""


class Fitness(Protocol):
    """Which servers are to be read from, as far as that is not seen on the connections to them."""

    def reason(self, node: Node) -> str:
        """Why ``node`` is not to be read from; empty if it is."""

    def spare(self, node: Node) -> bool:
        """Whether ``node`` may be read from where nothing else can be: its link is down, its data not too old yet."""

    def distance(self, node: Node) -> float:
        """The round trip to ``node`` in seconds; infinite if it is not known."""


class Unwatched:
    """Nobody looks: every server is fit."""

    def reason(self, node: Node) -> str:
        """Nothing is known against it."""
        return ""

    def spare(self, node: Node) -> bool:
        """Not needed, as all are fit."""
        return True

    def distance(self, node: Node) -> float:
        """Not known."""
        return math.inf


@dataclass(frozen=True, slots=True)
class Role:
    """An answer to ROLE; ``offset`` is None where the server tells none."""

    primary: bool
    linked: bool
    offset: int | None


def read_role(reply: object) -> Role | None:
    """What ``reply``, as hiredis decodes it, says; None if it is no answer to ROLE, or a sentinel's."""
    said = RoleReply.read(reply)
    if said is None or not (said.primary or said.link is not None):
        return None
    offset = said.offset if said.offset is not None and said.offset >= 0 else None
    return Role(said.primary, not said.primary and said.linked, offset)


class Timeline:
    """A primary's offsets over time, kept at least ``spacing`` seconds apart but for the newest."""

    def __init__(self, spacing: float) -> None:
        self._spacing = spacing
        self._samples: deque[tuple[float, int]] = deque(maxlen=_KEPT)

    def add(self, when: float, offset: int) -> None:
        """At ``when``, or a moment later, the primary was at ``offset``. One that goes back begins a new history."""
        samples = self._samples
        if samples and offset < samples[-1][1]:
            samples.clear()
        if len(samples) > 1 and samples[-1][0] - samples[-2][0] < self._spacing:
            samples.pop()
        samples.append((when, offset))

    def lag(self, offset: int, now: float) -> float:
        """How old the newest sample is that a replica at ``offset`` has reached; 0 if it is the newest of all.

        A replica that has reached none of those kept is behind by more than the oldest one's age, which is answered.
        """
        samples = self._samples
        if not samples or offset >= samples[-1][1]:
            return 0.0
        when = next((when for when, reached in reversed(samples) if reached <= offset), samples[0][0])
        return max(0.0, now - when)


class Fault(Enum):
    """Why a server is not read from."""

    NONE = "none"
    LAG = "lag"
    LINK = "link"
    OLD = "old"
    """Its link has been down for so long that its data is too old."""
    SILENT = "silent"


class Sight:
    """What is seen of one server: its answers to ROLE. ``since``: when the watch over it began."""

    def __init__(self, since: float) -> None:
        self.role: Role | None = None
        self.lag = 0.0
        """At its last answer."""
        self.trouble = ""
        """Why the last question was not answered; empty if it was."""
        self._answered = since
        self._linked = since
        self._trips: deque[float] = deque(maxlen=_TRIPS)
        self.distance = math.inf
        """Its round trip, which is not told anew for a difference that does not count."""

    def answer(self, role: Role | None, asked: float, now: float, timeline: Timeline) -> None:
        """It answered at ``now`` what it was ``asked`` then; ``role`` is None for an answer that tells nothing."""
        self.trouble = ""
        self._answered = now
        self._trips.append(now - asked)
        self.role = role
        if role is None or role.linked:
            self._linked = now
        self.lag = 0.0 if role is None or role.offset is None else timeline.lag(role.offset, now)

    def forget(self) -> None:
        """It has another role now: the one that it said last does not count."""
        self.role = None
        self.lag = 0.0

    def behind(self, now: float, grace: float) -> float:
        """Its lag at ``now``. An answer is good for ``grace`` seconds; from then on its age adds to the lag."""
        age = now - self._answered
        return self.lag if age <= grace else self.lag + age

    def judge(self, primary: bool, now: float, most: float, grace: float) -> tuple[Fault, str]:
        """Why it is not to be read from, and in words. ``most``: the lag allowed; ``primary``: whether it should be."""
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
        """Tell the ``distance`` anew if it has changed by as much as counts; whether it has."""
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
    """Whether a server at ``distance`` is as good as the one at the ``shortest``."""
    return distance == shortest or _equal(distance, shortest)
