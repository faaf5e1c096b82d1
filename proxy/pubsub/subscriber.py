"""The worker's subscriptions at one server: over one connection, and said again over the next when that is lost."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from proxy import errors
from proxy.backends import connection
from proxy.backends.dedicated import Lease
from proxy.backends.settings import BackendSettings, Place
from proxy.engine.sink import DISCARD, Sink
from proxy.planning.channels import Kind, told
from proxy.planning.refusals import Refusal
from proxy.pubsub.topic import Topic
from proxy.resp import encode
from proxy.resp.replies import BadReply
from proxy.sharding.slots import key_slot
from proxy.sharding.topology import Node

log = logging.getLogger(__name__)

_MOST_NAMES = 500
"""Of one command: a server that has others to serve should not be kept busy for long."""
_MOST_UNCONFIRMED = 1500
"""Names that servers have been told, all together, and that they have not confirmed: that comes in one turn."""
_MOST_AT_ONCE = 4
"""Times so many changes, looked at in one turn: what has been taken back meanwhile is not told."""
_LINGER = 10.0
"""Seconds that a connection is kept when nothing is subscribed over it any more."""
_LOOKS = 3
"""How often it is looked after a server within the time that an answer may take."""
_FREE_HOPS = 3
"""So many times in a row another server is asked at once that one names; then after a while."""
_PASSING = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY"})
"""Errors that pass, or that another server would not give."""
_PING = encode.request(("PING",))


@dataclass(eq=False, slots=True)
class _Asked:
    """A command that the server has not confirmed yet: its word, and whose names are still to be confirmed."""

    word: bytes
    topics: dict[bytes, Topic]


Done = Callable[[], None]
"""What to call when a PING is answered."""


class _Pong(Sink):
    """Takes the answer to a PING, the oldest of what ``asked`` has."""

    __slots__ = ("_asked",)

    def __init__(self, asked: "deque[_Asked | Done]") -> None:
        self._asked = asked

    def deliver(self, token: int, data: bytes, start: int, end: int) -> None:
        """The server is there, and has carried out what it was told before."""
        done = self._asked.popleft()
        if not isinstance(done, _Asked):
            done()


def _no_one(lease: Lease) -> None:
    """The connection is gone: nobody counts it."""


def _nothing() -> None:
    """For a PING that only asks whether the server is there."""


class SubscriberEvents(Protocol):
    """Whoever is told what happens to the subscriptions at one server."""

    @property
    def topics(self) -> Mapping[Kind, Mapping[bytes, Topic]]:
        """All that is subscribed to, by name."""

    @property
    def links(self) -> int:
        """How many servers there are."""

    def deliver(self, link: "Link", frame: bytes) -> bool:
        """Pass on what came over ``link``, if it is a message."""

    def stood(self, topic: Topic) -> None:
        """The server has confirmed ``topic``."""

    def refused(self, topics: Sequence[Topic], error: str) -> None:
        """It does not let us subscribe."""

    def follow(self, topics: Sequence[Topic], node: Node) -> None:
        """It says that ``node`` has the slot of these topics now."""

    def lost(self, link: "Link") -> None:
        """``link`` is down."""

    def left(self, link: "Link") -> None:
        """``link`` has ended, as nothing is subscribed over it any more."""


class Link:
    """The subscriptions at ``node``, of a shard called ``shard`` (for people).

    What should be subscribed is kept in ``topics``; at the end of each turn the server is told what has changed. A
    topic's ``at[link]`` is True while the server has confirmed it.
    """

    def __init__(self, hub: SubscriberEvents, shard: str, node: Node, around: BackendSettings[Any]) -> None:
        self.node = node
        self.shard = shard
        self.topics: dict[Topic, None] = {}
        self.ending: Mapping[Kind, dict[bytes, Topic]] = {kind: {} for kind in Kind}
        """What nobody needs any more, and the server still counts as subscribed to: it has not confirmed the end."""
        self._hub = hub
        self._around = around
        self._loop = asyncio.get_running_loop()
        self._lease: Lease | None = None
        self._said: dict[Topic, None] = {}
        """What the server was told to subscribe to, over this connection."""
        self._changed: deque[Topic | Done] = deque()
        """What the server has to be told, and whom to call when it has carried out what stands before."""
        self._noted: set[Topic] = set()
        """The topics in it."""
        self._singly: set[Topic] = set()
        """What was refused together with others, and is asked for by itself."""
        self._asked: deque[_Asked | Done] = deque()
        """What waits for an answer, in order."""
        self._unconfirmed = 0
        """Names in it."""
        self._pong = _Pong(self._asked)
        self._dirty = False
        self._down_since = around.turn.now()
        self._reason = "not connected yet"
        self._over: asyncio.Future[str] | None = None
        """Gets the reason why the connection is of no use any more; empty if nothing is subscribed over it."""
        self._runner: asyncio.Task[None] | None = None
        self._held = False
        """Whether the connection is not read from."""
        self._idle: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Link({self.node.address}, {len(self.topics)} topics, {'up' if self._lease else self._reason})"

    @property
    def up(self) -> bool:
        """Whether the connection stands."""
        return self._lease is not None

    @property
    def failing(self) -> bool:
        """Whether the server could not be reached for so long that nobody waits for it any more."""
        return not self.up and self._around.turn.now() - self._down_since > self._around.timing.retry_deadline

    @property
    def error(self) -> str:
        """Why what it should be subscribed to is not, as the text of an error reply."""
        return errors.shard_down(self.shard, self.node.address, self._reason)

    def add(self, topic: Topic) -> None:
        """Subscribe to ``topic``."""
        self.topics[topic] = None
        self._ended(topic)
        topic.at[self] = False
        self._note(topic)
        if self._runner is None:
            self._down_since = self._around.turn.now()
            self._runner = self._loop.create_task(self._run())

    def remove(self, topic: Topic) -> None:
        """Subscribe to ``topic`` no more."""
        self.topics.pop(topic, None)
        self._singly.discard(topic)
        topic.at.pop(self, None)
        if topic in self._said:
            self.ending[topic.kind][topic.name] = topic
        self._note(topic)

    def _ended(self, topic: Topic) -> None:
        """It does not end any more."""
        if self.ending[topic.kind].get(topic.name) is topic:
            del self.ending[topic.kind][topic.name]

    def after(self, done: Done) -> None:
        """Have ``done`` called when the server has carried out all it was told up to now, or is gone."""
        if self._lease is None:
            done()
        else:
            self._changed.append(done)
            self._schedule()

    def hold(self, on: bool) -> None:
        """Read no more for a while, as clients have yet to be told what was read; or go on."""
        if self._lease is not None and self._held is not on:
            self._held = on
            self._lease.read(not on)

    def renew(self) -> None:
        """Connect anew, if there is a connection."""
        self._end("the server has another role now")

    async def close(self) -> None:
        """Close the connection, for good."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    # ---- the connection

    async def _run(self) -> None:
        timing = self._around.timing
        backoff = timing.backoff_min
        try:
            while self.topics:
                lease = Lease(Place(self.shard, self.node, True, 3, 0, 0), self._around, _no_one, shared=True)
                try:
                    await lease.connect()
                except (OSError, TimeoutError, ValueError, errors.BackendError) as error:
                    self._down(connection.reason(error, timing.connect_timeout))
                    await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
                    backoff = min(backoff * 2, timing.backoff_max)
                    continue
                backoff = timing.backoff_min
                log.info("subscriber connected shard=%s address=%s", self.shard, self.node.address)
                if reason := await self._listen(lease):
                    self._down_since = self._around.turn.now()
                    self._down(reason)
        finally:
            self._runner = None
            self._hub.left(self)

    async def _listen(self, lease: Lease) -> str:
        """Use ``lease`` until it is lost, and say why; or until nothing is subscribed over it any more: "" then."""
        self._lease = lease
        self._held = False
        self._reason = ""
        self._over = self._loop.create_future()
        lease.on_lost = lambda reason, sent: self._end(reason)
        lease.on_push = self._on_push
        lease.on_error = self._on_error
        self._noted.update(self.topics)
        self._changed.extend(self.topics)
        self.flush()
        watch = self._loop.create_task(self._watch(lease))
        try:
            return await self._over
        finally:
            watch.cancel()
            lease.drop()
            self._lease = self._over = None
            self._said.clear()
            for topics in self.ending.values():
                topics.clear()
            waiting = [asked for asked in self._asked if not isinstance(asked, _Asked)]
            self._asked.clear()
            self._unconfirmed = 0
            for topic in self.topics:
                topic.at[self] = False
                topic.fell()
            self._forget_changes()
            for done in waiting:
                done()

    def _end(self, reason: str) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(reason)

    def _down(self, reason: str) -> None:
        if self._reason != reason:
            log.warning("subscriber down shard=%s address=%s reason=%r", self.shard, self.node.address, reason)
        self._reason = reason
        self._around.events.hint(self.node)
        self._hub.lost(self)

    async def _watch(self, lease: Lease) -> None:
        """See that the server is there: it is asked now and then, and left when it does not answer."""
        clock, timeout = self._around.turn.clock, self._around.timing.request_timeout
        while True:
            await asyncio.sleep(timeout / _LOOKS)
            first = lease.inflight.first()
            if first is None:
                self._ping(lease, _nothing)
            elif first < clock.settled - timeout:
                self._end(f"nothing came back for {timeout:g} s")

    # ---- what the server is told

    def _note(self, topic: Topic) -> None:
        if topic not in self._noted:
            self._noted.add(topic)
            self._changed.append(topic)
        self._schedule()

    def _schedule(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._around.turn.add(self)

    def flush(self) -> None:
        """Tell the server what has changed."""
        self._dirty = False
        lease = self._lease
        if lease is None:
            self._forget_changes()
            return
        most = max(_MOST_UNCONFIRMED // self._hub.links, 1)
        for _ in range(_MOST_AT_ONCE):
            if self._changed and self._unconfirmed < most:
                self._tell(lease, min(most - self._unconfirmed, _MOST_NAMES))
        if self._changed and self._unconfirmed < most:
            self._schedule()
        if not self.topics and not self._changed:
            if self._idle is not None:
                self._idle.cancel()
            self._idle = self._loop.call_later(_LINGER, self._end_if_idle)

    def _tell(self, lease: Lease, most: int) -> None:
        """Tell the server of the next changes, of so many names at most."""
        begun: dict[object, list[Topic]] = {}
        ended: dict[object, list[Topic]] = {}
        for _ in range(min(most, len(self._changed))):
            change = self._changed.popleft()
            if not isinstance(change, Topic):
                if begun or ended:
                    self._changed.appendleft(change)
                    break
                self._ping(lease, change)
                continue
            self._noted.discard(change)
            if change in self.topics and change not in self._said:
                self._said[change] = None
                begun.setdefault(self._together(change), []).append(change)
            elif change in self._said and change not in self.topics:
                del self._said[change]
                ended.setdefault(self._together(change), []).append(change)
        for group in ended.values():
            self._ask(lease, group[0].kind.unsubscribe, group)
        for group in begun.values():
            self._ask(lease, group[0].kind.subscribe, group)

    def _forget_changes(self) -> None:
        """There is nobody to be told."""
        changed, self._changed = self._changed, deque()
        self._noted.clear()
        for change in changed:
            if not isinstance(change, Topic):
                change()

    def _together(self, topic: Topic) -> object:
        """What is equal for topics that one command can name: on a cluster channels of shards in one slot."""
        if topic in self._singly:
            return topic
        if topic.kind is Kind.SHARD and self._around.roles.cluster:
            return key_slot(topic.name)
        return topic.kind

    def _ask(self, lease: Lease, word: bytes, topics: Sequence[Topic]) -> None:
        names = {topic.name: topic for topic in topics}
        self._asked.append(_Asked(word, names))
        self._unconfirmed += len(names)
        lease.send(DISCARD, 0, encode.request((word, *names)), self._around.turn.now())

    def _ping(self, lease: Lease, done: Done) -> None:
        self._asked.append(done)
        lease.send(self._pong, 0, _PING, self._around.turn.now())

    def _end_if_idle(self) -> None:
        if not self.topics:
            self._end("")

    # ---- what the server says

    def _on_push(self, frame: bytes) -> None:
        if self._hub.deliver(self, frame):
            return
        try:
            word, name, _ = told(frame)
        except (BadReply, ValueError):
            return
        asked = self._asked[0] if self._asked else None
        if isinstance(asked, _Asked) and asked.word == word and name in asked.topics:
            topic = asked.topics.pop(name)
            self._unconfirmed -= 1
            if word == topic.kind.unsubscribe:
                self._ended(topic)
            if not asked.topics:
                self._taken()
                if self._changed:
                    self._schedule()
            if topic in self._said and word == topic.kind.subscribe:
                topic.at[self] = True
                self._hub.stood(topic)
        elif word == Kind.SHARD.unsubscribe:
            self._put_out(name)

    def _put_out(self, name: bytes) -> None:
        """The server has ended the subscription to a shard's channel: its slot is another's now. It is asked at once
        whose."""
        topic = self._hub.topics[Kind.SHARD].get(name)
        if topic is not None and topic in self._said:
            del self._said[topic]
            self._fallen([topic])
            self._note_all([topic])

    def _on_error(self, error: bytes) -> bool:
        if not self._asked:
            return False
        asked = self._taken()
        if not isinstance(asked, _Asked):
            asked()  # an answer to PING all the same
            return True
        text = errors.text(error[1:-2])
        log.warning(
            "subscribe refused shard=%s address=%s command=%s reason=%r",
            self.shard,
            self.node.address,
            asked.word.decode(),
            text,
        )
        if self._changed:
            self._schedule()
        refused = [topic for topic in asked.topics.values() if topic in self._said]
        for topic in refused:
            del self._said[topic]
        if text.partition(" ")[0] not in _PASSING:
            if len(refused) > 1:
                # One that is not allowed must not keep the others' from what they may.
                self._singly.update(refused)
                self._note_all(refused)
                return True
            self._hub.refused(refused, text)
        found = self._around.events.refusal(error, self.node, b"")
        if isinstance(found, Refusal) and found.node is not None:
            led = [topic for topic in refused if topic.hops < _FREE_HOPS and topic in self.topics]
            refused = [topic for topic in refused if topic not in led]
            for topic in led:
                topic.hops += 1
            self._fallen(led)
            self._hub.follow(led, found.node)
        self._again(refused)
        return True

    def _taken(self) -> _Asked | Done:
        """The oldest command is answered, by other means than a reply."""
        if self._lease is not None:
            self._lease.inflight.pop()
        asked = self._asked.popleft()
        if isinstance(asked, _Asked):
            self._unconfirmed -= len(asked.topics)
        return asked

    def _fallen(self, topics: Sequence[Topic]) -> None:
        """The server does not let us hear of these any more."""
        for topic in topics:
            if self in topic.at:
                topic.at[self] = False
                topic.fell()
        self._around.events.hint(self.node)

    def _again(self, topics: Sequence[Topic]) -> None:
        """Say it again after a while, where it is still wanted; perhaps it belongs elsewhere by then."""
        if not topics:
            return
        self._fallen(topics)
        timing = self._around.timing
        self._loop.call_later(min(timing.backoff_min * 4, timing.backoff_max), self._note_all, topics)

    def _note_all(self, topics: Sequence[Topic]) -> None:
        for topic in topics:
            if topic in self.topics:
                self._note(topic)
