"""What clients have asked to hear, and do not hear yet. Whoever publishes there waits for it, as one server would have
read the one command before the other.

::

    SUBSCRIBE c    ── begin ──▶ servers confirm it ──▶ the client listens ── end ──▶
    PUBLISH c               └── waits ─────────────────────────────────────────────┘  for _PATIENCE at most

A publisher waits for what was asked for before it came, and not for what is asked for meanwhile.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Reversible

from proxy.planning.channels import Kind
from proxy.pubsub.topic import Claim, Topic
from proxy.transport.clock import Clock

_PATIENCE = 0.5
"""Seconds after which nobody waits any more for a subscription that was asked for: its server may be away."""
_FEW = 100
"""So many patterns are looked at; whether a channel matches more of them is not asked."""


class PublisherWait:
    """Somebody waits for ``claims``, and ``then`` is called when they are ``over``."""

    __slots__ = ("_left", "_then")

    def __init__(self, claims: Collection[Claim], then: Callable[[], None]) -> None:
        self._left = len(claims)
        self._then = then

    @property
    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        return not self._left

    def one_less(self) -> None:
        """One of the claims is served."""
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

    def __init__(self, topics: Mapping[Kind, Mapping[bytes, Topic]], clock: Clock) -> None:
        self._topics = topics
        self._clock = clock
        self._begun: dict[Claim, float] = {}
        """When each was begun."""
        self._patterns: dict[Claim, None] = {}
        """Those of patterns."""
        self._waits: dict[Claim, list[PublisherWait]] = {}

    def __repr__(self) -> str:
        return f"Beginnings({len(self._begun)} claims, {len(self._waits)} waited for)"

    def __bool__(self) -> bool:
        return bool(self._begun)

    def begin(self, claim: Claim, kind: Kind) -> None:
        """Somebody has claimed topics of a ``kind``, and will listen to them."""
        self._begun[claim] = self._clock.now()
        if kind is Kind.PATTERN:
            self._patterns[claim] = None

    def end(self, claim: Claim) -> None:
        """The client listens, or will not; it need not have been begun."""
        self._begun.pop(claim, None)
        self._patterns.pop(claim, None)
        for wait in self._waits.pop(claim, ()):
            wait.one_less()

    def of(self, kind: Kind, channel: bytes) -> set[Claim]:
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

    def all(self) -> set[Claim]:
        """All that anybody waits for."""
        return set(self._young(self._begun, self._clock.now() - _PATIENCE))

    def _young(self, claims: Reversible[Claim], since: float) -> Iterator[Claim]:
        """Those of ``claims``, which are in the order in which they were begun, that were begun after ``since``."""
        for claim in reversed(claims):
            begun = self._begun.get(claim)
            if begun is not None:
                if begun < since:
                    return
                yield claim

    def wait(self, claims: Collection[Claim], then: Callable[[], None]) -> PublisherWait:
        """Have ``then`` called when all of these are over, or have taken too long."""
        wait = PublisherWait(claims, then)
        for claim in claims:
            self._waits.setdefault(claim, []).append(wait)
        self._clock.call_later(_PATIENCE, wait.give_up)
        return wait
