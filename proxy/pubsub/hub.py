"""The subscriptions of all clients of a worker: one at a server for each channel, however many clients listen.

``channels.reach`` decides at which servers a subscription is made. With static shards it is every primary, since a
script or a transaction on any of them may publish. In a cluster, whose nodes pass messages on to each other, it is one
node (the home), and every primary for the keyspace notifications of its own keys. When servers fail or slots move, the
subscription is made at the new servers, and only when it is confirmed there given up at the old ones.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from proxy import server_errors
from proxy.backends.settings import BackendSettings
from proxy.engine.jobs import ENOUGH, MORE, Job
from proxy.planning.channels import Kind, Reach, as_resp2, is_event, reach
from proxy.pubsub.beginnings import Beginnings, WorkerRows
from proxy.pubsub.subscriber import Subscriber
from proxy.pubsub.topic import PendingSubscription, Push, Server, Then, Topic, TopicListener
from proxy.sharding.slots import key_slot
from proxy.sharding.topology import NOBODY, Node, Topology
from proxy.transport.clock import Deadline

_MESSAGES = (
    (b">3\r\n$7\r\nmessage\r\n$", Kind.CHANNEL),
    (b">4\r\n$8\r\npmessage\r\n$", Kind.PATTERN),
    (b">3\r\n$8\r\nsmessage\r\n$", Kind.SHARD),
)

_STEP = 8
"""The number of topics after which a job may be interrupted."""
_FEW = 100
"""So many patterns are matched at once, without a job."""


class Hub:
    """All subscriptions of a worker."""

    def __init__(self, around: BackendSettings[Any], topology: Topology, rows: WorkerRows | None = None) -> None:
        self._around = around
        self._slices = around.slices
        self._loop = asyncio.get_running_loop()
        self._topology = topology
        self._subscribers: dict[Node, Subscriber] = {}
        self._by_shard: dict[int, Subscriber] = {}
        """The subscribers at the primaries of this topology's shards, by index, as far as they were created."""
        self._everywhere: Sequence[Subscriber] = ()
        """The subscribers at all primaries; empty if one has to be created."""
        self._home: Node | None = None
        self._moving: asyncio.TimerHandle | None = None
        self.topics: Mapping[Kind, dict[bytes, Topic]] = {kind: {} for kind in Kind}
        self.beginnings = Beginnings(self.topics, around.turn.clock, rows)
        self._late: deque[tuple[Subscriber, bytes, int, Mapping[bytes, Topic]]] = deque()
        """The messages that wait for a turn that has time for them."""
        self._heads = [(head, self.topics[kind]) for head, kind in _MESSAGES]
        self.adopt(topology)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(topics)} {kind.name}" for kind, topics in self.topics.items())
        return f"Hub({counts}, {len(self._subscribers)} subscribers)"

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._subscribers.values())

    @property
    def servers(self) -> int:
        """How many servers the hub is connected to, or is connecting to."""
        return len(self._subscribers)

    # ---- clients

    def claim(self, then: Then) -> PendingSubscription:
        """A claim that calls ``then`` when all topics that are added to it are subscribed."""
        return PendingSubscription(self, then)

    def in_time(self, then: Callable[[], None]) -> Deadline:
        """Call ``then`` when the time in which a subscription should be confirmed is over."""
        timing = self._around.timing
        return self._around.turn.clock.call_later(max(timing.retry_deadline, timing.connect_timeout), then)

    @property
    def nobody(self) -> str:
        """The error for a topic that no shard serves."""
        return server_errors.nobody(self._topology.cluster)

    def topic(self, kind: Kind, name: bytes) -> Topic:
        """The topic called ``name``, which is created if needed; it is kept only while it is claimed or listened to."""
        topic = self.topics[kind].get(name)
        if topic is None:
            topic = self.topics[kind][name] = Topic(kind, name)
        return topic

    def join(self, kind: Kind, name: bytes, listener: TopicListener, push: Push) -> None:
        """Add ``listener`` to a topic that is subscribed."""
        self.topics[kind][name].pushes[listener] = push

    def leave(self, kind: Kind, name: bytes, listener: TopicListener) -> Sequence[Server]:
        """Remove ``listener`` from a topic; return the servers at which the subscription was given up, if any."""
        topic = self.topics[kind][name]
        topic.pushes.pop(listener, None)
        return self.release(topic)

    def release(self, topic: Topic) -> Sequence[Server]:
        """Give up the subscription if nobody needs it; return the servers at which it was."""
        if topic.listeners or topic.claims or self.topics[topic.kind].get(topic.name) is not topic:
            return ()
        del self.topics[topic.kind][topic.name]
        servers = list(topic.at)
        for subscriber in servers:
            subscriber.remove(topic)
        return servers

    def after(self, servers: Collection[Server], then: Callable[[], None]) -> None:
        """Call ``then`` when ``servers`` have carried out the commands sent to them; at once without servers."""
        left = len(servers)

        def done() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for subscriber in servers:
            subscriber.after(done)
        if not servers:
            then()

    # ---- servers

    def adopt(self, topology: Topology) -> None:
        """Move the subscriptions to the servers of a new snapshot."""
        self._topology = topology
        primaries = [shard.primary for shard in topology.shards]
        if self._home is None or self._home not in primaries:
            self._home = min(primaries, key=_by_address, default=None)
        self._place_all()

    def renew(self, node: Node) -> None:
        """Subscribe again at ``node``, over a new connection, since another server may be there."""
        subscriber = self._subscribers.get(node)
        if subscriber is not None:
            subscriber.renew()

    async def close(self) -> None:
        """Close every connection."""
        if self._moving is not None:
            self._moving.cancel()
        await asyncio.gather(*(subscriber.close() for subscriber in list(self._subscribers.values())))

    def deliver(self, subscriber: Subscriber, frame: bytes) -> bool:
        """Pass on ``frame``, which came over ``subscriber``, if it is a message; return whether it is."""
        for head, topics in self._heads:
            if frame.startswith(head):
                if not self._late and not self._slices.over:
                    self._pass_on(subscriber, frame, len(head), topics)
                    return True
                if not self._late:
                    self._slices.run(self._catching_up())
                self._late.append((subscriber, frame, len(head), topics))
                subscriber.hold(True)
                return True
        return False

    def _pass_on(self, subscriber: Subscriber, frame: bytes, at: int, topics: Mapping[bytes, Topic]) -> None:
        """Pass on a message; the length of the topic's name begins at ``at``."""
        start = frame.index(b"\n", at) + 1
        end = start + int(frame[at:start])
        topic = topics.get(frame[start:end])
        if topic is None or subscriber not in topic.at:
            return
        if topic.reach is Reach.MIXED and subscriber.node != self._home and not is_event(_second(frame, end)):
            return
        older = b""
        for listener, push in topic.pushes.items():
            if listener.protocol >= 3:
                push(frame)
            else:
                older = older or as_resp2(frame)
                push(older)

    def _catching_up(self) -> Job[None]:
        """Pass on the messages that wait."""
        yield ENOUGH
        late = self._late
        while late:
            self._pass_on(*late.popleft())
            yield MORE
        for subscriber in self._subscribers.values():
            subscriber.hold(False)

    def stood(self, topic: Topic) -> None:
        """Act on a server's confirmation of ``topic``."""
        standing = topic.standing
        if standing:
            topic.hops = 0
        for subscriber in [each for each in topic.at if each not in topic.target]:
            # If the shard's new primary sends messages already, the old one, a replica now, would send them again.
            if standing or any(other.shard == subscriber.shard and topic.at.get(other) for other in topic.target):
                subscriber.remove(topic)
        if standing:
            for claim in list(topic.claims):
                claim.stood(topic)

    def refused(self, topics: Sequence[Topic], error: str) -> None:
        """Report to the waiting clients that a server refuses a subscription."""
        for claim in {claim: None for topic in topics for claim in topic.claims}:
            claim.settle(error)

    def follow(self, topics: Sequence[Topic], node: Node) -> None:
        """Subscribe at ``node``, to which a server redirects the topics of a slot, whatever the map of slots says."""
        subscriber = self._subscribers.get(node)
        if subscriber is None:
            subscriber = Subscriber(self, self._topology.called(node), node, self._around)
            self._subscribers[node] = subscriber
        for topic in topics:
            topic.target = (subscriber,)
            if subscriber not in topic.at:
                subscriber.add(topic)

    def lost(self, subscriber: Subscriber) -> None:
        """Act on the lost connection of ``subscriber``: in a cluster, another node becomes the home."""
        if self._topology.cluster and subscriber.node == self._home and self._moving is None:
            self._moving = self._loop.call_later(self._around.timing.backoff_min, self._move_home, subscriber.node)

    def left(self, subscriber: Subscriber) -> None:
        """Forget ``subscriber``, which has ended because it has no subscriptions any more."""
        if self._subscribers.get(subscriber.node) is subscriber:
            del self._subscribers[subscriber.node]
            self._by_shard.clear()
            self._everywhere = ()

    def _move_home(self, from_node: Node) -> None:
        self._moving = None
        nodes = sorted((shard.primary for shard in self._topology.shards), key=_by_address)
        subscriber = self._subscribers.get(from_node)
        if self._home != from_node or subscriber is None or subscriber.up or len(nodes) < 2:
            return
        self._home = nodes[(nodes.index(from_node) + 1) % len(nodes)]
        self._place_all()

    def _place_all(self) -> None:
        self._by_shard.clear()
        self._everywhere = ()
        self._slices.run(self._placing(self._topology, self._home))

    def _placing(self, topology: Topology, home: Node | None) -> Job[None]:
        """Subscribe to every topic at its present servers, until the topology or the home changes again."""
        every = [topic for topics in self.topics.values() for topic in topics.values()]
        for at, topic in enumerate(every):
            if topology is not self._topology or home != self._home:
                return
            if self.topics[topic.kind].get(topic.name) is topic:
                self.place(topic)
            if not at % _STEP:
                yield MORE

    def place(self, topic: Topic) -> None:
        """Subscribe to ``topic`` at its present servers."""
        topic.reach = reach(topic.kind, topic.name, self._topology.cluster)
        topic.target = self._target(topic)
        new = False
        for subscriber in topic.target:
            if subscriber not in topic.at:
                subscriber.add(topic)
                new = True
        if new:
            topic.fell()
        if len(topic.at) > len(topic.target) or not new:
            self.stood(topic)

    def _target(self, topic: Topic) -> Sequence[Subscriber]:
        """The subscribers at the primaries at which ``topic`` has to be subscribed."""
        if topic.reach is Reach.HOME:
            home = self.home
            return () if home == NOBODY else (self._subscriber(home),)
        if topic.reach is Reach.SLOT:
            owner = self._topology.slot_shard[key_slot(topic.name)]
            return () if owner == NOBODY else (self._subscriber(owner),)
        if not self._everywhere:
            self._everywhere = [self._subscriber(index) for index in range(len(self._topology.shards))]
        return self._everywhere

    def _subscriber(self, index: int) -> Subscriber:
        subscriber = self._by_shard.get(index)
        if subscriber is None:
            shard = self._topology.shards[index]
            subscriber = self._subscribers.get(shard.primary)
            if subscriber is None:
                subscriber = Subscriber(self, shard.name, shard.primary, self._around)
                self._subscribers[shard.primary] = subscriber
            subscriber.shard = shard.name
            self._by_shard[index] = subscriber
        return subscriber

    # ---- counts of subscribers

    @property
    def home(self) -> int:
        """The shard whose primary is the home of a cluster, or ``NOBODY``."""
        return next((i for i, shard in enumerate(self._topology.shards) if shard.primary == self._home), NOBODY)

    def publisher(self, kind: Kind, channel: bytes) -> int:
        """The shard to publish on: always the same one for a channel, so that its messages keep their order."""
        if kind is Kind.CHANNEL and self._topology.cluster:
            return self.home
        return self._topology.slot_shard[key_slot(channel)]

    def ending(self, kind: Kind, channel: bytes, shard: int) -> Sequence[Subscriber]:
        """The subscribers with an unconfirmed end that the primary of ``shard`` would count for a message on
        ``channel``."""
        subscriber = self._primary(shard)
        if subscriber is None:
            return ()
        ends = channel in subscriber.ending[kind] or (kind is Kind.CHANNEL and subscriber.ending[Kind.PATTERN])
        return (subscriber,) if ends else ()

    @property
    def endings(self) -> Sequence[Subscriber]:
        """The subscribers with any unconfirmed end."""
        return [subscriber for subscriber in self._subscribers.values() if any(subscriber.ending.values())]

    def counting(self, kind: Kind, channel: bytes, known: int) -> Job[int]:
        """How many clients got a message on ``channel`` for which the server counted ``known`` subscribers: it counts
        this worker once, and only if it has confirmed the subscription."""
        total = known
        shard = self.publisher(kind, channel)
        heard = self.topics[kind].get(channel)
        if heard is not None:
            total += self._more(heard, shard, known)
        if kind is Kind.CHANNEL:
            patterns = self.topics[Kind.PATTERN]
            for at, topic in enumerate(list(patterns.values()) if len(patterns) > _FEW else patterns.values()):
                if topic.matches(channel):
                    total += self._more(topic, shard, known)
                if at >= _FEW and not at % _STEP:
                    yield MORE
        return total

    def _more(self, topic: Topic, shard: int, known: int) -> int:
        """How many clients got a message over ``topic`` beyond those that the primary of ``shard`` counted, which were
        ``known`` in total."""
        if self.own(topic.kind, topic.name, shard):
            return topic.listeners - 1 if known else 0
        # In a cluster another node may have passed the message on, unless it is one of a shard channel.
        elsewhere = self._topology.cluster and topic.reach is not Reach.SLOT and any(topic.at.values())
        return topic.listeners if elsewhere else 0

    def heard(self, kind: Kind, name: bytes, counts: Sequence[int]) -> int:
        """How many clients are subscribed to a channel, if the shards' primaries have ``counts`` subscribers."""
        topic = self.topics[kind].get(name)
        listeners = 0 if topic is None else topic.listeners
        if not self._topology.cluster:
            # Clients of proxies count on every shard, so the subscribers at the shard of PUBLISH are counted.
            shard = self.publisher(kind, name)
            return counts[shard] - self.own(kind, name, shard) + listeners
        return sum(count - self.own(kind, name, shard) for shard, count in enumerate(counts)) + listeners

    def patterns(self, counts: Sequence[int]) -> int:
        """How many patterns have subscribers, if the shards' primaries have ``counts`` patterns."""
        if not self._topology.cluster:
            return max(counts)
        primaries = [self._subscribers.get(shard.primary) for shard in self._topology.shards]
        own = self.topics[Kind.PATTERN]
        once = sum(up for topic in own.values() for subscriber, up in topic.at.items() if subscriber in primaries)
        return sum(counts) - once + len(own)

    def own(self, kind: Kind, name: bytes, shard: int) -> int:
        """How many subscriptions of this worker a shard's primary counts for a topic: 1 or 0."""
        topic, subscriber = self.topics[kind].get(name), self._primary(shard)
        return int(topic is not None and subscriber is not None and topic.at.get(subscriber, False))

    def _primary(self, shard: int) -> Subscriber | None:
        """The subscriber at a shard's primary, or None."""
        shards = self._topology.shards
        return self._subscribers.get(shards[shard].primary) if 0 <= shard < len(shards) else None

    @property
    def busy(self) -> bool:
        """Whether there is any topic."""
        return any(self.topics.values())


def _by_address(node: Node) -> str:
    return node.address


def _second(frame: bytes, end: int) -> bytes:
    """The string behind the one that ends at ``end``."""
    start = frame.index(b"\n", end + 3) + 1
    return frame[start : start + int(frame[end + 3 : start])]
