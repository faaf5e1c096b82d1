"""What clients have asked to hear, and do not hear yet. Whoever publishes there waits for it, as one server would have
read the one command before the other.

::

    SUBSCRIBE c    ── begin ──▶ servers confirm it ──▶ the client listens ── end ──▶
    PUBLISH c               └── waits ─────────────────────────────────────────────┘  for _PATIENCE at most

A publisher waits for what was asked for before it came, and not for what is asked for meanwhile. Of other workers it
is known by numbers only, and from when they have read it: a SUBSCRIBE that lies unread in the socket of one worker is
nothing that another one could know.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Reversible, Sequence
from typing import Protocol
from zlib import crc32

from proxy.planning.channels import Kind
from proxy.pubsub.topic import PendingSubscription, Topic
from proxy.transport.clock import Clock

_PATIENCE = 0.5
"""Seconds after which nobody waits any more for a subscription that was asked for: its server may be away."""
_FEW = 100
"""So many patterns are looked at; whether a channel matches more of them is not asked."""
_POLL = 0.002
"""Seconds between two looks at what other workers say."""
_BUCKETS = 63
"""Hashes of channels ..."""
_ANY = 63
"""... and what stands for patterns, and for very many names."""
_MANY = 64

Elsewhere = tuple[int, int, int]
"""A bucket, a worker, and how many of its clients had begun there."""


class WorkerRows(Protocol):
    """What the workers say of their subscriptions."""

    @property
    def workers(self) -> int:
        """How many there are."""

    def begun(self, bucket: int) -> None:
        """A client of this worker has begun to subscribe."""

    def ended(self, bucket: int) -> None:
        """It hears, or is not waited for any more."""

    def begun_elsewhere(self, bucket: int) -> Sequence[tuple[int, int]]:
        """The other workers of which clients have begun, and hear nothing yet: how many had begun up to now."""

    def ended_elsewhere(self, bucket: int, worker: int) -> int:
        """How many of those are over."""


class PublisherWait:
    """Somebody waits for ``count`` events, and ``then`` is called when they are ``over``."""

    __slots__ = ("_left", "_then")

    def __init__(self, count: int, then: Callable[[], None]) -> None:
        self._left = count
        self._then = then

    @property
    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        return not self._left

    def one_less(self) -> None:
        """One of them has come."""
        if self._left:
            self._left -= 1
            if not self._left:
                self._then()

    def give_up(self) -> None:
        """It has taken too long."""
        if self._left:
            self._left = 0
            self._then()


class Beginnings:
    """The claims of clients that will listen to what they claim, among all ``topics`` of a worker."""

    def __init__(self, topics: Mapping[Kind, Mapping[bytes, Topic]], clock: Clock, rows: WorkerRows | None) -> None:
        self._topics = topics
        self._clock = clock
        self._begun: dict[PendingSubscription, float] = {}
        """When each was begun."""
        self._patterns: dict[PendingSubscription, None] = {}
        """Those of patterns."""
        self._waits: dict[PendingSubscription, list[PublisherWait]] = {}
        self._rows = rows if rows is not None and rows.workers > 1 else None
        """Where there are other workers."""
        self._said: dict[PendingSubscription, set[int]] = {}
        """What the other workers were told of each."""
        self._aging: deque[tuple[float, PendingSubscription]] = deque()

    def __repr__(self) -> str:
        return f"Beginnings({len(self._begun)} claims, {len(self._waits)} waited for)"

    def __bool__(self) -> bool:
        return bool(self._begun) or self._rows is not None

    def begin(self, claim: PendingSubscription, kind: Kind, names: Sequence[bytes]) -> None:
        """Somebody has claimed topics of a ``kind``, and will listen to them."""
        self._begun[claim] = self._clock.now()
        if kind is Kind.PATTERN:
            self._patterns[claim] = None
        if self._rows is not None:
            several = kind is Kind.PATTERN or len(names) > _MANY
            buckets = self._said[claim] = {_ANY} if several else set(map(_bucket, names))
            for bucket in buckets:
                self._rows.begun(bucket)
            if not self._aging:
                self._clock.call_later(_PATIENCE, self._forget_old)
            self._aging.append((self._clock.now(), claim))

    def _say_ended(self, claim: PendingSubscription) -> None:
        """Tell other workers that nobody waits for it any more."""
        if self._rows is not None:
            for bucket in self._said.pop(claim, ()):
                self._rows.ended(bucket)

    def _forget_old(self) -> None:
        """Have nobody wait for what takes too long."""
        since = self._clock.now() - _PATIENCE
        while self._aging and self._aging[0][0] <= since:
            self._say_ended(self._aging.popleft()[1])
        if self._aging:
            self._clock.call_later(_PATIENCE, self._forget_old)

    def end(self, claim: PendingSubscription) -> None:
        """The client listens, or will not; it need not have been begun."""
        self._begun.pop(claim, None)
        self._patterns.pop(claim, None)
        self._say_ended(claim)
        for wait in self._waits.pop(claim, ()):
            wait.one_less()

    def of(self, kind: Kind, channel: bytes) -> set[PendingSubscription]:
        """Those whose clients would hear a message on ``channel`` if a server had read what they sent."""
        since = self._clock.now() - _PATIENCE
        topic = self._topics[kind].get(channel)
        found = set() if topic is None else set(self._young(topic.claims, since))
        if kind is Kind.CHANNEL and self._patterns:
            looked = 0
            for claim in self._young(self._patterns, since):
                topics = claim.topics
                looked += len(topics)
                if looked > _FEW or any(pattern.matches(channel) for pattern in topics):
                    found.add(claim)
        return found

    def all(self) -> set[PendingSubscription]:
        """All that anybody waits for."""
        return set(self._young(self._begun, self._clock.now() - _PATIENCE))

    def _young(self, claims: Reversible[PendingSubscription], since: float) -> Iterator[PendingSubscription]:
        """Those of ``claims``, which are in the order in which they were begun, that were begun after ``since``."""
        for claim in reversed(claims):
            begun = self._begun.get(claim)
            if begun is not None:
                if begun < since:
                    return
                yield claim

    def elsewhere(self, channel: bytes) -> list[Elsewhere]:
        """Those of other workers, or of what has the same hash there."""
        rows = self._rows
        if rows is None:
            return []
        buckets = _bucket(channel), _ANY
        return [(bucket, worker, begun) for bucket in buckets for worker, begun in rows.begun_elsewhere(bucket)]

    def wait(
        self, claims: Collection[PendingSubscription], elsewhere: Sequence[Elsewhere], then: Callable[[], None]
    ) -> PublisherWait:
        """Have ``then`` called when all of these are over, or have taken too long."""
        wait = PublisherWait(len(claims) + len(elsewhere), then)
        for claim in claims:
            self._waits.setdefault(claim, []).append(wait)
        if elsewhere:
            self._clock.loop.call_later(_POLL, self._poll, wait, elsewhere)
        self._clock.call_later(_PATIENCE, wait.give_up)
        return wait

    def _poll(self, wait: PublisherWait, elsewhere: Sequence[Elsewhere]) -> None:
        """Look whether those of other workers are over."""
        rows = self._rows
        assert rows is not None
        left = [each for each in elsewhere if rows.ended_elsewhere(each[0], each[1]) < each[2]]
        if left and not wait.over:
            self._clock.loop.call_later(_POLL, self._poll, wait, left)
        for _ in range(len(elsewhere) - len(left)):
            wait.one_less()


def _bucket(name: bytes) -> int:
    return crc32(name) % _BUCKETS
