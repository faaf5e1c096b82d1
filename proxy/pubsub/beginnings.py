"""Subscriptions that clients have asked for, or asked to end, and that are not confirmed yet. A PUBLISH to their
channels waits for the confirmation, because a single server would have read the SUBSCRIBE, or the UNSUBSCRIBE, before
the PUBLISH.

::

    SUBSCRIBE c    ── begin ──▶ servers confirm it ──▶ the client is joined to c ── end ──▶
    PUBLISH c               └── waits ──────────────────────────────────────────────────┘  for _PATIENCE at most

    UNSUBSCRIBE c  ── announce ──▶ the client has left c ──▶ servers confirm it ── confirmed ──▶
    PUBLISH c                  └── waits ───────────────────────────────────────────────────┘

A SUBSCRIBE that still has to wait for the replies to the client's earlier commands is announced, too.
A PUBLISH waits only for what was asked for before it arrived. The workers tell each other only the numbers of such
commands, once they have read them: a SUBSCRIBE that is unread in the socket of one worker is unknown to the others.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Reversible, Sequence
from typing import Protocol, TypeVar
from zlib import crc32

from proxy.planning.channels import Kind
from proxy.pubsub.topic import PendingSubscription, Topic
from proxy.transport.clock import Clock

_PATIENCE = 0.5
"""The most seconds that a PUBLISH waits for a subscription, whose server may be unreachable."""
_FEW = 100
"""The most patterns that are compared with a channel; any further pattern counts as a match."""
_POLL = 0.002
"""Seconds between two reads of the other workers' counts."""
BUCKETS = 64
"""The number of buckets: the channels are spread over all but the last, by their hash."""
_ANY = BUCKETS - 1
"""The bucket for patterns, and for commands with more than ``_MANY`` names or with none."""
_MANY = 64

Elsewhere = tuple[int, int, int]
"""A bucket, a worker, and how many subscriptions of that worker had begun in the bucket."""


class WorkerRows(Protocol):
    """The table in which each worker counts its subscriptions that are begun and ended, by bucket."""

    @property
    def workers(self) -> int:
        """The number of workers."""

    def begun(self, bucket: int) -> None:
        """Count a subscription that a client of this worker has begun."""

    def ended(self, bucket: int) -> None:
        """Count a subscription of this worker that is confirmed, or that no PUBLISH has to wait for any more."""

    def begun_elsewhere(self, bucket: int) -> Sequence[tuple[int, int]]:
        """The other workers with subscriptions that are not ended, each with its count of begun subscriptions."""

    def ended_elsewhere(self, bucket: int, worker: int) -> int:
        """The count of ended subscriptions of another ``worker``."""


class PublisherWait:
    """The wait of a PUBLISH for ``count`` changes of subscriptions; ``then`` is called when the wait is ``over``."""

    __slots__ = ("_left", "_then")

    def __init__(self, count: int, then: Callable[[], None]) -> None:
        self._left = count
        self._then = then

    @property
    def over(self) -> bool:
        """Whether no subscription is left to wait for."""
        return not self._left

    def one_less(self) -> None:
        """Note that one of the subscriptions has ended."""
        if self._left:
            self._left -= 1
            if not self._left:
                self._then()

    def give_up(self) -> None:
        """End the wait, because it has taken too long."""
        if self._left:
            self._left = 0
            self._then()


class Announcement:
    """A change of one client's subscriptions that was asked for: of those to ``names``, or of any of ``kind`` if
    ``names`` is empty. Either they end, or their SUBSCRIBE can not be carried out yet."""

    __slots__ = ("kind", "names")

    def __init__(self, kind: Kind, names: Sequence[bytes]) -> None:
        self.kind = kind
        self.names = names

    def __repr__(self) -> str:
        return f"Announcement({self.kind.name}, {len(self.names)} names)"


Change = PendingSubscription | Announcement
C = TypeVar("C", PendingSubscription, Announcement, Change)
_NONE: dict[Announcement, None] = {}


class Beginnings:
    """The claims of a worker's clients that have asked for subscriptions to ``topics``, and the announced changes of
    their subscriptions, as long as these are not confirmed."""

    def __init__(self, topics: Mapping[Kind, Mapping[bytes, Topic]], clock: Clock, rows: WorkerRows | None) -> None:
        self._topics = topics
        self._clock = clock
        self._begun: dict[Change, float] = {}
        """The time at which each claim and each announcement was made."""
        self._patterns: dict[PendingSubscription, None] = {}
        """The claims of patterns."""
        self._announced: dict[tuple[Kind, bytes | None], dict[Announcement, None]] = {}
        """The announcements by their names; by None those about patterns, and about very many names or all names."""
        self._waits: dict[Change, list[PublisherWait]] = {}
        self._rows = rows if rows is not None and rows.workers > 1 else None
        """The counts of all workers; None if there is only one worker."""
        self._said: dict[Change, set[int]] = {}
        """The buckets in which each claim and each announcement was counted for the other workers."""
        self._aging: deque[tuple[float, Change]] = deque()

    def __repr__(self) -> str:
        return f"Beginnings({len(self._begun)} changes, {len(self._waits)} waited for)"

    def __bool__(self) -> bool:
        return bool(self._begun) or self._rows is not None

    def begin(self, claim: PendingSubscription, kind: Kind, names: Sequence[bytes]) -> None:
        """Add a claim of the topics ``names``, for a client that has asked for subscriptions of this ``kind``."""
        self._begun[claim] = self._clock.now()
        if kind is Kind.PATTERN:
            self._patterns[claim] = None
        self._say_begun(claim, kind, names)

    def announce(self, kind: Kind, names: Sequence[bytes]) -> Announcement:
        """Announce a change of a client's subscriptions to ``names``, or to any of ``kind`` if ``names`` is empty."""
        announced = Announcement(kind, names)
        self._begun[announced] = self._clock.now()
        for key in _keys(announced):
            self._announced.setdefault(key, {})[announced] = None
        self._say_begun(announced, kind, names)
        return announced

    def confirmed(self, announced: Announcement) -> None:
        """Remove an announced change that is confirmed; it may have been removed already."""
        if self._begun.pop(announced, None) is None:
            return
        for key in _keys(announced):
            changes = self._announced[key]
            changes.pop(announced, None)
            if not changes:
                del self._announced[key]
        self._ended(announced)

    def _say_begun(self, change: Change, kind: Kind, names: Sequence[bytes]) -> None:
        """Tell other workers that a PUBLISH has to wait for ``change``."""
        if self._rows is not None:
            several = kind is Kind.PATTERN or not 0 < len(names) <= _MANY
            buckets = self._said[change] = {_ANY} if several else set(map(_bucket, names))
            for bucket in buckets:
                self._rows.begun(bucket)
            if not self._aging:
                self._clock.call_later(_PATIENCE, self._forget_old)
            self._aging.append((self._clock.now(), change))

    def _say_ended(self, change: Change) -> None:
        """Tell other workers that no PUBLISH has to wait for ``change`` any more."""
        if self._rows is not None:
            for bucket in self._said.pop(change, ()):
                self._rows.ended(bucket)

    def _forget_old(self) -> None:
        """Tell other workers not to wait for changes that are older than ``_PATIENCE``."""
        since = self._clock.now() - _PATIENCE
        while self._aging and self._aging[0][0] <= since:
            self._say_ended(self._aging.popleft()[1])
        if self._aging:
            self._clock.call_later(_PATIENCE, self._forget_old)

    def end(self, claim: PendingSubscription) -> None:
        """Remove a claim whose client is subscribed or will not be; the claim need not have been added."""
        self._begun.pop(claim, None)
        self._patterns.pop(claim, None)
        self._ended(claim)

    def _ended(self, change: Change) -> None:
        """Let publishers go on that wait for ``change``."""
        self._say_ended(change)
        for wait in self._waits.pop(change, ()):
            wait.one_less()

    def of(self, kind: Kind, channel: bytes) -> set[Change]:
        """The claims whose clients a message on ``channel`` would reach if the subscriptions were confirmed, and the
        announced changes of subscriptions that it may reach."""
        since = self._clock.now() - _PATIENCE
        topic = self._topics[kind].get(channel)
        found: set[Change] = set() if topic is None else set(self._young(topic.claims, since))
        if self._announced:
            for key in ((kind, channel), (kind, None), (Kind.PATTERN, None)):
                if key[0] is kind or kind is Kind.CHANNEL:
                    found.update(self._young(self._announced.get(key, _NONE), since))
        if kind is Kind.CHANNEL and self._patterns:
            looked = 0
            for claim in self._young(self._patterns, since):
                topics = claim.topics
                looked += len(topics)
                if looked > _FEW or any(pattern.matches(channel) for pattern in topics):
                    found.add(claim)
        return found

    def all(self) -> set[Change]:
        """All claims and announced changes, for which PUBSUB waits."""
        return set(self._young(self._begun, self._clock.now() - _PATIENCE))

    def _young(self, changes: Reversible[C], since: float) -> Iterator[C]:
        """Those of ``changes`` that were begun after ``since``; ``changes`` has the oldest first."""
        for change in reversed(changes):
            begun = self._begun.get(change)
            if begun is not None:
                if begun < since:
                    return
                yield change

    def elsewhere(self, channel: bytes) -> list[Elsewhere]:
        """The subscriptions of other workers to ``channel``, or to names in the same buckets."""
        rows = self._rows
        if rows is None:
            return []
        buckets = _bucket(channel), _ANY
        return [(bucket, worker, begun) for bucket in buckets for worker, begun in rows.begun_elsewhere(bucket)]

    def wait(
        self, changes: Collection[Change], elsewhere: Sequence[Elsewhere], then: Callable[[], None]
    ) -> PublisherWait:
        """Call ``then`` when all ``changes`` and all of those ``elsewhere`` are confirmed, or have taken too long."""
        wait = PublisherWait(len(changes) + len(elsewhere), then)
        for change in changes:
            self._waits.setdefault(change, []).append(wait)
        if elsewhere:
            self._clock.loop.call_later(_POLL, self._poll, wait, elsewhere)
        self._clock.call_later(_PATIENCE, wait.give_up)
        return wait

    def _poll(self, wait: PublisherWait, elsewhere: Sequence[Elsewhere]) -> None:
        """Check which subscriptions of other workers have ended."""
        rows = self._rows
        assert rows is not None
        left = [each for each in elsewhere if rows.ended_elsewhere(each[0], each[1]) < each[2]]
        if left and not wait.over:
            self._clock.loop.call_later(_POLL, self._poll, wait, left)
        for _ in range(len(elsewhere) - len(left)):
            wait.one_less()


def _keys(announced: Announcement) -> Sequence[tuple[Kind, bytes | None]]:
    """The keys at which ``announced`` is found."""
    if announced.kind is Kind.PATTERN or not 0 < len(announced.names) <= _MANY:
        return ((announced.kind, None),)
    return [(announced.kind, name) for name in announced.names]


def _bucket(name: bytes) -> int:
    return crc32(name) % _ANY
