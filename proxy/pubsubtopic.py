"""What is subscribed to, by whom, and who waits until it stands."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from proxy.channels import Kind, Reach
from proxy.clock import Deadline
from proxy.glob import matcher

if TYPE_CHECKING:
    from proxy.pubsub import Hub
    from proxy.pubsublink import Link

Push = Callable[[bytes], None]
Then = Callable[[str | None], None]
"""Called with None when all stands, else with the text of the error reply that says why it does not."""


class Listener(Protocol):
    """A client that is subscribed."""


class Topic:
    """Something that is subscribed to. ``resp2`` and ``resp3``: what each listener's messages are pushed by."""

    __slots__ = ("_matches", "at", "claims", "kind", "name", "reach", "resp2", "resp3", "target")

    def __init__(self, kind: Kind, name: bytes) -> None:
        self.kind = kind
        self.name = name
        self.reach = Reach.EVERY
        self.resp2: dict[Listener, Push] = {}
        self.resp3: dict[Listener, Push] = {}
        self.claims: dict[Claim, None] = {}
        self.target: Sequence[Link] = ()
        """Where it has to stand now."""
        self.at: dict[Link, bool] = {}
        """Where it is subscribed, or asked for (False): the targets, and where it was before, as long as needed."""
        self._matches: Callable[[bytes], bool] | None = None

    def __repr__(self) -> str:
        return f"Topic({self.kind.name} {self.name!r}, {self.listeners} listeners)"

    @property
    def listeners(self) -> int:
        """How many clients listen."""
        return len(self.resp2) + len(self.resp3)

    @property
    def standing(self) -> bool:
        """Whether every message will come."""
        return bool(self.target) and all(self.at.get(link) for link in self.target)

    def matches(self, channel: bytes) -> bool:
        """Whether the pattern that this is matches ``channel``."""
        if self._matches is None:
            self._matches = matcher(self.name)
        return self._matches(channel)


class Claim:
    """Somebody waits until ``topics`` stand. They are kept until it is over, or with ``keep`` until it is cancelled.

    ``problem`` has the reason, when they do not stand.
    """

    __slots__ = ("_hub", "_keep", "_left", "_then", "_timer", "problem", "topics")

    def __init__(self, hub: "Hub", topics: Sequence[Topic], then: Then, keep: bool) -> None:
        self.topics = topics
        self.problem: str | None = None
        self._keep = keep
        self._hub = hub
        self._then: Then | None = then
        self._left: set[Topic] = set()
        self._timer: Deadline | None = None

    @property
    def over(self) -> bool:
        """Whether it has been settled or cancelled."""
        return self._then is None

    def cancel(self) -> None:
        """It is not wanted any more."""
        if self._then is not None or self._keep:
            self._then = None
            self._let_go()

    def wait(self, timer: Deadline) -> None:
        """Not all stand yet."""
        self._timer = timer
        self._left = {topic for topic in self.topics if not topic.standing}

    def stood(self, topic: Topic) -> None:
        """``topic`` stands."""
        self._left.discard(topic)
        if not self._left:
            self._left = {topic for topic in self.topics if not topic.standing}
            if not self._left:
                self.settle(None)

    def settle(self, problem: str | None) -> None:
        """All stand, or there is a problem."""
        then, self._then = self._then, None
        if then is not None:
            self.problem = problem
            then(problem)
            if not self._keep:
                self._let_go()

    def _let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for topic in self.topics:
            topic.claims.pop(self, None)
            self._hub.release(topic)
