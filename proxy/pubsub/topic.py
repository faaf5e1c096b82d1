"""What is subscribed to, by whom, and who waits until it stands."""

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from proxy.engine.jobs import MORE, Job
from proxy.planning.channels import Kind, Reach
from proxy.resp.glob import matches
from proxy.sharding.topology import Node
from proxy.transport.clock import Deadline

_STEP = 8
"""Topics until a job may be interrupted."""

Push = Callable[[bytes], None]
Then = Callable[[str | None], None]
"""Called with None when all stands, else with the text of the error reply that says why it does not."""


class Listener(Protocol):
    """A client that is subscribed; ``protocol``: the version of RESP that it speaks now."""

    protocol: int


class Server(Hashable, Protocol):
    """A server that subscriptions stand at."""

    @property
    def node(self) -> Node:
        """Which one."""

    @property
    def shard(self) -> str:
        """The name of its shard."""

    @property
    def failing(self) -> bool:
        """Whether it could not be reached for so long that nobody waits for it any more."""

    @property
    def error(self) -> str:
        """Why what it should be subscribed to is not, as the text of an error reply."""

    def add(self, topic: "Topic") -> None:
        """Subscribe to ``topic``."""

    def remove(self, topic: "Topic") -> None:
        """Unsubscribe from ``topic``."""

    def after(self, done: Callable[[], None]) -> None:
        """Have ``done`` called when it has carried out what it was told."""


class Topics(Protocol):
    """All that is subscribed to."""

    @property
    def nobody(self) -> str:
        """The error where nobody serves what is subscribed to."""

    def topic(self, kind: Kind, name: bytes) -> "Topic":
        """What is called so; it has to be claimed, or it is not kept."""

    def place(self, topic: "Topic") -> None:
        """Subscribe to ``topic`` where it has to stand now."""

    def release(self, topic: "Topic") -> Sequence[Server]:
        """Give up the subscription if nobody needs it; where."""

    def in_time(self, then: Callable[[], None]) -> Deadline:
        """Have ``then`` called when a subscription should stand, and will not any more."""


class Topic:
    """Something that is subscribed to. ``pushes``: what each listener's messages are pushed by."""

    __slots__ = ("at", "claims", "hops", "kind", "name", "pushes", "reach", "target")

    def __init__(self, kind: Kind, name: bytes) -> None:
        self.kind = kind
        self.name = name
        self.reach = Reach.EVERY
        self.pushes: dict[Listener, Push] = {}
        self.claims: dict[PendingSubscription, None] = {}
        self.target: Sequence[Server] = ()
        """Where it has to stand now."""
        self.at: dict[Server, bool] = {}
        """Where it is subscribed, or asked for (False): the targets, and where it was before, as long as needed."""
        self.hops = 0
        """How often servers have named another one since it stood."""

    def __repr__(self) -> str:
        return f"Topic({self.kind.name} {self.name!r}, {self.listeners} listeners)"

    @property
    def listeners(self) -> int:
        """How many clients listen."""
        return len(self.pushes)

    @property
    def standing(self) -> bool:
        """Whether every message will come."""
        for server in self.target:
            if not self.at.get(server):
                return False
        return bool(self.target)

    def matches(self, channel: bytes) -> bool:
        """Whether the pattern that this is matches ``channel``."""
        return matches(self.name, channel)

    def fell(self) -> None:
        """It does not stand any more."""
        for claim in self.claims:
            claim.fell(self)


class PendingSubscription:
    """Somebody waits until the topics stand that are added, one by one, until it is sealed. They are kept until the
    claim is let go of.

    ``problem`` has the reason, when they do not stand.
    """

    __slots__ = ("_hub", "_left", "_sealed", "_servers", "_then", "_timer", "_topics", "problem")

    def __init__(self, hub: Topics, then: Then) -> None:
        self.problem: str | None = None
        self._hub = hub
        self._then: Then | None = then
        self._topics: list[Topic] = []
        self._servers: dict[Server, None] = {}
        """Where they have to stand."""
        self._left: dict[Topic, None] = {}
        """Those that do not."""
        self._sealed = False
        self._timer: Deadline | None = None

    @property
    def over(self) -> bool:
        """Whether it has been settled or cancelled."""
        return self._then is None

    def adding(self, kind: Kind, names: Sequence[bytes]) -> Job[None]:
        """These have to stand too."""
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
        """Those were all: now it may be settled."""
        self._sealed = True
        if not self._left:
            self.settle(None)
        elif failing := next((server for server in self._servers if server.failing), None):
            self.settle(failing.error)
        elif self._then is not None:
            self._timer = self._hub.in_time(self._give_up)

    def stood(self, topic: Topic) -> None:
        """``topic`` stands."""
        self._left.pop(topic, None)
        if self._sealed and not self._left:
            self.settle(None)

    def fell(self, topic: Topic) -> None:
        """``topic`` does not stand any more."""
        if self._then is not None:
            self._left[topic] = None

    def settle(self, problem: str | None) -> None:
        """All stand, or there is a problem."""
        then, self._then = self._then, None
        self._end_timer()
        if then is not None:
            self.problem = problem
            then(problem)

    def releasing(self) -> Job[None]:
        """Let go of the topics."""
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
