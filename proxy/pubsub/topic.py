"""Topics, the clients that listen to them, and the claims that wait until they are subscribed."""

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from proxy.engine.jobs import MORE, Job
from proxy.planning.channels import Kind, Reach
from proxy.resp.glob import matches
from proxy.sharding.topology import Node
from proxy.transport.clock import Deadline

_STEP = 8
"""The number of topics after which a job may be interrupted."""

Push = Callable[[bytes], None]
Then = Callable[[str | None], None]
"""A callback with None when all topics are subscribed, else with the text of the error reply that says why not."""


class TopicListener(Protocol):
    """A client that is subscribed; ``protocol`` is the version of RESP that it speaks now."""

    protocol: int


class Server(Hashable, Protocol):
    """A server with subscriptions."""

    @property
    def node(self) -> Node:
        """The address of the server."""

    @property
    def shard(self) -> str:
        """The name of the server's shard."""

    @property
    def failing(self) -> bool:
        """Whether the server has been unreachable for so long that clients do not wait for it any more."""

    @property
    def error(self) -> str:
        """The text of the error reply for topics that could not be subscribed."""

    def add(self, topic: "Topic") -> None:
        """Subscribe to ``topic``."""

    def remove(self, topic: "Topic") -> None:
        """Unsubscribe from ``topic``."""

    def after(self, done: Callable[[], None]) -> None:
        """Call ``done`` when the server has carried out all commands up to now."""


class Topics(Protocol):
    """All topics of a worker."""

    @property
    def nobody(self) -> str:
        """The error for a topic that no shard serves."""

    def topic(self, kind: Kind, name: bytes) -> "Topic":
        """The topic called ``name``, which is created if needed; it is kept only while it is claimed or listened to."""

    def place(self, topic: "Topic") -> None:
        """Subscribe to ``topic`` at its present servers."""

    def release(self, topic: "Topic") -> Sequence[Server]:
        """Give up the subscription if nobody needs it; return the servers at which it was."""

    def in_time(self, then: Callable[[], None]) -> Deadline:
        """Call ``then`` when the time in which a subscription should be confirmed is over."""


class Topic:
    """A channel or pattern that is subscribed to. ``pushes`` has the function that sends messages to each listener."""

    __slots__ = ("at", "claims", "hops", "kind", "name", "pushes", "reach", "target")

    def __init__(self, kind: Kind, name: bytes) -> None:
        self.kind = kind
        self.name = name
        self.reach = Reach.EVERY
        self.pushes: dict[TopicListener, Push] = {}
        self.claims: dict[PendingSubscription, None] = {}
        self.target: Sequence[Server] = ()
        """The servers at which the topic has to be subscribed now."""
        self.at: dict[Server, bool] = {}
        """The servers with the subscription, True if it is confirmed: the targets, and former ones while needed."""
        self.hops = 0
        """How many redirections have come since the subscription was confirmed last."""

    def __repr__(self) -> str:
        return f"Topic({self.kind.name} {self.name!r}, {self.listeners} listeners)"

    @property
    def listeners(self) -> int:
        """How many clients listen."""
        return len(self.pushes)

    @property
    def standing(self) -> bool:
        """Whether the subscription is confirmed at all target servers, so that every message will come."""
        for server in self.target:
            if not self.at.get(server):
                return False
        return bool(self.target)

    def matches(self, channel: bytes) -> bool:
        """Whether the topic, a pattern, matches ``channel``."""
        return matches(self.name, channel)

    def fell(self) -> None:
        """Report to the waiting claims that the subscription is lost."""
        for claim in self.claims:
            claim.fell(self)


class PendingSubscription:
    """Waits until all topics that were added before ``seal`` are subscribed. The topics are kept until the claim is
    released.

    ``problem`` is the reason why they could not be subscribed.
    """

    __slots__ = ("_hub", "_left", "_sealed", "_servers", "_then", "_timer", "_topics", "problem")

    def __init__(self, hub: Topics, then: Then) -> None:
        self.problem: str | None = None
        self._hub = hub
        self._then: Then | None = then
        self._topics: list[Topic] = []
        self._servers: dict[Server, None] = {}
        """The servers at which the topics have to be subscribed."""
        self._left: dict[Topic, None] = {}
        """The topics that are not subscribed yet."""
        self._sealed = False
        self._timer: Deadline | None = None

    @property
    def over(self) -> bool:
        """Whether the claim is settled or cancelled."""
        return self._then is None

    @property
    def topics(self) -> Sequence[Topic]:
        """What was added up to now."""
        return self._topics

    def adding(self, kind: Kind, names: Sequence[bytes]) -> Job[None]:
        """Add the topics called ``names``, as a job."""
        for at, name in enumerate(names):
            if self._then is None:
                return
            topic = self._hub.topic(kind, name)
            if self not in topic.claims:
                topic.claims[self] = None
                self._topics.append(topic)
                if not topic.at:
                    self._hub.place(topic)
                if not topic.standing:
                    self._left[topic] = None
                    for server in topic.target:
                        self._servers[server] = None
            if not at % _STEP:
                yield MORE

    def seal(self) -> None:
        """Allow the claim to be settled, since all topics have been added."""
        self._sealed = True
        if not self._left:
            self.settle(None)
        elif failing := next((server for server in self._servers if server.failing), None):
            self.settle(failing.error)
        elif self._then is not None:
            self._timer = self._hub.in_time(self._give_up)

    def stood(self, topic: Topic) -> None:
        """Record that ``topic`` is subscribed."""
        self._left.pop(topic, None)
        if self._sealed and not self._left:
            self.settle(None)

    def fell(self, topic: Topic) -> None:
        """Record that ``topic`` is not subscribed any more."""
        if self._then is not None:
            self._left[topic] = None

    def settle(self, problem: str | None) -> None:
        """Settle the claim: all topics are subscribed, or there is a problem."""
        then, self._then = self._then, None
        self._end_timer()
        if then is not None:
            self.problem = problem
            then(problem)

    def releasing(self) -> Job[None]:
        """Release the topics, as a job."""
        self._then = None
        self._end_timer()
        self._left.clear()
        topics, self._topics = self._topics, []
        for at, topic in enumerate(topics):
            topic.claims.pop(self, None)
            self._hub.release(topic)
            if not at % _STEP:
                yield MORE

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        topic = next(iter(self._left))
        server = next((server for server in topic.target if not topic.at.get(server)), None)
        self.settle(self._hub.nobody if server is None else server.error)
