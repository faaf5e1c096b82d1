"""What all clients of a worker are subscribed to: one subscription at a server for each channel, however many listen.

Where a subscription has to stand ``channels.reach`` says: on static shards everywhere, as a script or a transaction on
any of them may publish; in a cluster, whose nodes tell each other, on one node (the home), and on every primary for
what each tells of its own keys. When servers fail or slots move it is made anew where it belongs then, and only when it
stands there given up where it was.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from proxy import errors
from proxy.backends.settings import BackendSettings
from proxy.engine.jobs import ENOUGH, MORE, Job
from proxy.planning.channels import Kind, Reach, as_resp2, is_event, reach
from proxy.pubsub.subscriber import Subscriber
from proxy.pubsub.topic import Listener, PendingSubscription, Push, Server, Then, Topic
from proxy.sharding.slots import key_slot
from proxy.sharding.topology import NOBODY, Node, Topology
from proxy.transport.clock import Deadline

_MESSAGES = (
    (b">3\r\n$7\r\nmessage\r\n$", Kind.CHANNEL),
    (b">4\r\n$8\r\npmessage\r\n$", Kind.PATTERN),
    (b">3\r\n$8\r\nsmessage\r\n$", Kind.SHARD),
)

_STEP = 8
"""Topics until a job may be interrupted."""
_FEW = 100
"""So many patterns are looked through at once."""


class Hub:
    """All subscriptions of a worker."""

    def __init__(self, around: BackendSettings[Any], topology: Topology) -> None:
        self._around = around
        self._slices = around.slices
        self._loop = asyncio.get_running_loop()
        self._topology = topology
        self._subscribers: dict[Node, Subscriber] = {}
        self._by_shard: dict[int, Subscriber] = {}
        """Those to the primaries of this topology's shards, by index, as far as they were looked for."""
        self._everywhere: Sequence[Subscriber] = ()
        """All of them; nothing if one has to be looked for."""
        self._home: Node | None = None
        self._moving: asyncio.TimerHandle | None = None
        self.topics: Mapping[Kind, dict[bytes, Topic]] = {kind: {} for kind in Kind}
        self._late: deque[tuple[Subscriber, bytes, int, Mapping[bytes, Topic]]] = deque()
        """Messages that have to wait for a turn that has time for them."""
        self._heads = [(head, self.topics[kind]) for head, kind in _MESSAGES]
        self.adopt(topology)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(topics)} {kind.name}" for kind, topics in self.topics.items())
        return f"Hub({counts}, {len(self._subscribers)} subscribers)"

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._subscribers.values())

    @property
    def servers(self) -> int:
        """How many servers it is connected to, or is about to be."""
        return len(self._subscribers)

    # ---- clients

    def claim(self, then: Then) -> PendingSubscription:
        """Have ``then`` called when all that is added to the claim stands."""
        return PendingSubscription(self, then)

    def in_time(self, then: Callable[[], None]) -> Deadline:
        """Have ``then`` called when a subscription should stand, and will not any more."""
        timing = self._around.timing
        return self._around.turn.clock.call_later(max(timing.retry_deadline, timing.connect_timeout), then)

    @property
    def nobody(self) -> str:
        """The error where nobody serves what is subscribed to."""
        return errors.nobody(self._topology.cluster)

    def topic(self, kind: Kind, name: bytes) -> Topic:
        """What is called so; it has to be claimed, or it is not kept."""
        topic = self.topics[kind].get(name)
        if topic is None:
            topic = self.topics[kind][name] = Topic(kind, name)
        return topic

    def join(self, kind: Kind, name: bytes, listener: Listener, push: Push) -> None:
        """``listener`` hears of a topic that stands."""
        self.topics[kind][name].pushes[listener] = push

    def leave(self, kind: Kind, name: bytes, listener: Listener) -> Sequence[Server]:
        """``listener`` hears of it no more. Where the subscription was given up, if nobody needs it."""
        topic = self.topics[kind][name]
        topic.pushes.pop(listener, None)
        return self.release(topic)

    def release(self, topic: Topic) -> Sequence[Server]:
        """Give up the subscription if nobody needs it; where."""
        if topic.listeners or topic.claims or self.topics[topic.kind].get(topic.name) is not topic:
            return ()
        del self.topics[topic.kind][topic.name]
        servers = list(topic.at)
        for subscriber in servers:
            subscriber.remove(topic)
        return servers

    def after(self, servers: Collection[Server], then: Callable[[], None]) -> None:
        """Have ``then`` called when ``servers`` have carried out what they were told; at once if there are none."""
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
        """Subscribe where a new snapshot says."""
        self._topology = topology
        primaries = [shard.primary for shard in topology.shards]
        if self._home is None or self._home not in primaries:
            self._home = min(primaries, key=_by_address, default=None)
        self._place_all()

    def renew(self, node: Node) -> None:
        """Subscribe anew at ``node``, over another connection: there may be another server there."""
        subscriber = self._subscribers.get(node)
        if subscriber is not None:
            subscriber.renew()

    async def close(self) -> None:
        """Close every connection."""
        if self._moving is not None:
            self._moving.cancel()
        await asyncio.gather(*(subscriber.close() for subscriber in list(self._subscribers.values())))

    def deliver(self, subscriber: Subscriber, frame: bytes) -> bool:
        """Pass on what came over ``subscriber``, if it is a message."""
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
        """Pass on a message; the length of its topic's name begins at ``at``."""
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
        """Pass on the messages that had to wait."""
        yield ENOUGH
        late = self._late
        while late:
            self._pass_on(*late.popleft())
            yield MORE
        for subscriber in self._subscribers.values():
            subscriber.hold(False)

    def stood(self, topic: Topic) -> None:
        """A server has confirmed ``topic``."""
        standing = topic.standing
        if standing:
            topic.hops = 0
        for subscriber in [each for each in topic.at if each not in topic.target]:
            # Where its shard's new primary tells already, the old one, a replica by now, would tell the same again.
            if standing or any(other.shard == subscriber.shard and topic.at.get(other) for other in topic.target):
                subscriber.remove(topic)
        if standing:
            for claim in list(topic.claims):
                claim.stood(topic)

    def refused(self, topics: Sequence[Topic], error: str) -> None:
        """A server does not let us subscribe: tell those who wait."""
        for claim in {claim: None for topic in topics for claim in topic.claims}:
            claim.settle(error)

    def follow(self, topics: Sequence[Topic], node: Node) -> None:
        """The server of a slot says that ``node`` is it now: subscribe there, whatever the map says."""
        subscriber = self._subscribers.get(node)
        if subscriber is None:
            subscriber = Subscriber(self, self._topology.called(node), node, self._around)
            self._subscribers[node] = subscriber
        for topic in topics:
            topic.target = (subscriber,)
            if subscriber not in topic.at:
                subscriber.add(topic)

    def lost(self, subscriber: Subscriber) -> None:
        """The connection of ``subscriber`` is lost: in a cluster any other node tells the same."""
        if self._topology.cluster and subscriber.node == self._home and self._moving is None:
            self._moving = self._loop.call_later(self._around.timing.backoff_min, self._move_home, subscriber.node)

    def left(self, subscriber: Subscriber) -> None:
        """``subscriber`` has ended, as nothing is subscribed over it any more."""
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
        """Subscribe to every topic where it has to stand now, until that is another place again."""
        every = [topic for topics in self.topics.values() for topic in topics.values()]
        for at, topic in enumerate(every):
            if topology is not self._topology or home != self._home:
                return
            if self.topics[topic.kind].get(topic.name) is topic:
                self.place(topic)
            if not at % _STEP:
                yield MORE

    def place(self, topic: Topic) -> None:
        """Subscribe to ``topic`` where it has to stand now."""
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
        """Where it has to stand: at these shards' primaries."""
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

    # ---- who listens

    @property
    def home(self) -> int:
        """The shard whose primary tells what all nodes of a cluster tell, or ``NOBODY``."""
        return next((i for i, shard in enumerate(self._topology.shards) if shard.primary == self._home), NOBODY)

    def publisher(self, kind: Kind, channel: bytes) -> int:
        """The shard to publish on: always the same one for a channel, so that its messages keep their order."""
        if kind is Kind.CHANNEL and self._topology.cluster:
            return self.home
        return self._topology.slot_shard[key_slot(channel)]

    def ending(self, kind: Kind, channel: bytes, shard: int) -> Sequence[Subscriber]:
        """Where something ends that the primary of ``shard`` would count for a message on ``channel``."""
        subscriber = self._primary(shard)
        if subscriber is None:
            return ()
        ends = channel in subscriber.ending[kind] or (kind is Kind.CHANNEL and subscriber.ending[Kind.PATTERN])
        return (subscriber,) if ends else ()

    @property
    def endings(self) -> Sequence[Subscriber]:
        """Where anything ends."""
        return [subscriber for subscriber in self._subscribers.values() if any(subscriber.ending.values())]

    def counting(self, kind: Kind, channel: bytes, known: int) -> Job[int]:
        """How many clients heard a message on ``channel`` of which its server counted ``known``: it sees this worker
        once, and only if it has confirmed the subscription."""
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
        """How many more than the primary of ``shard`` counted heard a message over ``topic``, when it counted
        ``known`` in all."""
        if self.own(topic.kind, topic.name, shard):
            return topic.listeners - 1 if known else 0
        # In a cluster another node may have passed on what is not a shard's own.
        elsewhere = self._topology.cluster and topic.reach is not Reach.SLOT and any(topic.at.values())
        return topic.listeners if elsewhere else 0

    def heard(self, kind: Kind, name: bytes, counts: Sequence[int]) -> int:
        """How many are subscribed to it, when the shards' primaries count so many."""
        topic = self.topics[kind].get(name)
        listeners = 0 if topic is None else topic.listeners
        if not self._topology.cluster:
            # Every client of a proxy counts on every shard: here are those that hear what is published there.
            shard = self.publisher(kind, name)
            return counts[shard] - self.own(kind, name, shard) + listeners
        return sum(count - self.own(kind, name, shard) for shard, count in enumerate(counts)) + listeners

    def patterns(self, counts: Sequence[int]) -> int:
        """How many patterns are subscribed to, when the shards' primaries count so many."""
        if not self._topology.cluster:
            return max(counts)
        primaries = [self._subscribers.get(shard.primary) for shard in self._topology.shards]
        own = self.topics[Kind.PATTERN]
        once = sum(up for topic in own.values() for subscriber, up in topic.at.items() if subscriber in primaries)
        return sum(counts) - once + len(own)

    def own(self, kind: Kind, name: bytes, shard: int) -> int:
        """How often this worker is subscribed to it at a shard's primary: once or not at all."""
        topic, subscriber = self.topics[kind].get(name), self._primary(shard)
        return int(topic is not None and subscriber is not None and topic.at.get(subscriber, False))

    def _primary(self, shard: int) -> Subscriber | None:
        """The subscriber at a shard's primary, if there is one."""
        shards = self._topology.shards
        return self._subscribers.get(shards[shard].primary) if 0 <= shard < len(shards) else None

    @property
    def busy(self) -> bool:
        """Whether anybody listens to anything."""
        return any(self.topics.values())


def _by_address(node: Node) -> str:
    return node.address


def _second(frame: bytes, end: int) -> bytes:
    """The string behind the one that ends at ``end``."""
    start = frame.index(b"\n", end + 3) + 1
    return frame[start : start + int(frame[end + 3 : start])]
