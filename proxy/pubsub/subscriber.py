"""The worker's subscriptions at one server: over one connection, and made again over the next when it is lost."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from proxy import errors
from proxy.backends import connection
from proxy.backends.connect_gate import Backoff
from proxy.backends.dedicated import Lease
from proxy.backends.settings import BackendSettings, Place
from proxy.planning.channels import Kind, told
from proxy.planning.refusals import Refusal
from proxy.pubsub.changes import Changes, Done, TopicEvent
from proxy.pubsub.pending_commands import PendingCommand, PendingCommands
from proxy.pubsub.topic import Topic
from proxy.resp.replies import BadReply
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
_FREE_HOPS = 3
"""So many times in a row another server is asked at once that one names; then after a while."""
_PASSING = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY"})
"""Errors that pass, or that another server would not give."""


def _no_one(lease: Lease) -> None:
    """The connection is gone: nobody counts it."""


class SubscriberEvents(Protocol):
    """Whoever is told what happens to the subscriptions at one server."""

    @property
    def topics(self) -> Mapping[Kind, Mapping[bytes, Topic]]:
        """All that is subscribed to, by name."""

    @property
    def servers(self) -> int:
        """How many servers there are."""

    def deliver(self, subscriber: "Subscriber", frame: bytes) -> bool:
        """Pass on what came over ``subscriber``, if it is a message."""

    def stood(self, topic: Topic) -> None:
        """The server has confirmed ``topic``."""

    def refused(self, topics: Sequence[Topic], error: str) -> None:
        """It does not let us subscribe."""

    def follow(self, topics: Sequence[Topic], node: Node) -> None:
        """It says that ``node`` has the slot of these topics now."""

    def lost(self, subscriber: "Subscriber") -> None:
        """The connection of ``subscriber`` is lost, or could not be made."""

    def left(self, subscriber: "Subscriber") -> None:
        """``subscriber`` has ended, as nothing is subscribed over it any more."""


class Subscriber:
    """The subscriptions at ``node``, of a shard called ``shard`` (for people).

    What should be subscribed is kept in ``topics``; at the end of each turn the server is told what has changed. A
    topic's ``at[subscriber]`` is True while the server has confirmed it.
    """

    def __init__(self, hub: SubscriberEvents, shard: str, node: Node, around: BackendSettings[Any]) -> None:
        self.node = node
        self.shard = shard
        self._changes = Changes(around.roles.cluster)
        self.topics = self._changes.topics
        self.ending: Mapping[Kind, dict[bytes, Topic]] = {kind: {} for kind in Kind}
        """What nobody needs any more, and the server still counts as subscribed to: it has not confirmed the end."""
        self._hub = hub
        self._around = around
        self._loop = asyncio.get_running_loop()
        self._pending: PendingCommands | None = None
        """What the server was told, over the connection that stands."""
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
        return f"Subscriber({self.node.address}, {len(self.topics)} topics, {'up' if self.up else self._reason})"

    @property
    def up(self) -> bool:
        """Whether the connection stands."""
        return self._pending is not None

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
        self._changes.add(topic)
        self._ended(topic)
        topic.at[self] = False
        self._schedule()
        if self._runner is None:
            self._down_since = self._around.turn.now()
            self._runner = self._loop.create_task(self._run())

    def remove(self, topic: Topic) -> None:
        """Subscribe to ``topic`` no more."""
        topic.at.pop(self, None)
        if self._changes.told(topic):
            self.ending[topic.kind][topic.name] = topic
        self._changes.remove(topic)
        self._schedule()

    def _ended(self, topic: Topic) -> None:
        """Note that the server does not end ``topic`` any more: it has ended, or is wanted again."""
        if self.ending[topic.kind].get(topic.name) is topic:
            del self.ending[topic.kind][topic.name]

    def after(self, done: Done) -> None:
        """Have ``done`` called when the server has carried out all it was told up to now, or is gone."""
        if self._pending is None:
            done()
        else:
            self._changes.after(done)
            self._schedule()

    def hold(self, on: bool) -> None:
        """Read no more for a while, as clients have yet to be told what was read; or go on."""
        if self._pending is not None and self._held is not on:
            self._held = on
            self._pending.lease.read(not on)

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
        backoff = Backoff(timing.backoff_min, timing.backoff_max)
        try:
            while self.topics:
                lease = Lease(Place(self.shard, self.node, True, 3, 0, 0), self._around, _no_one, shared=True)
                try:
                    await lease.connect()
                except (OSError, TimeoutError, ValueError, errors.BackendError) as error:
                    self._down(connection.reason(error, timing.connect_timeout))
                    await asyncio.sleep(backoff.pause())
                    continue
                backoff.reset()
                log.info("subscriber connected shard=%s address=%s", self.shard, self.node.address)
                if reason := await self._listen(lease):
                    self._down_since = self._around.turn.now()
                    self._down(reason)
        finally:
            self._runner = None
            self._hub.left(self)

    async def _listen(self, lease: Lease) -> str:
        """Use ``lease`` until it is lost, and say why; or until nothing is subscribed over it any more: "" then."""
        pending = self._pending = PendingCommands(lease, self._around.turn)
        self._held = False
        self._reason = ""
        self._over = self._loop.create_future()
        lease.on_lost = lambda reason, sent: self._end(reason)
        lease.on_push = self._on_push
        lease.on_error = self._on_error
        self._changes.connected()
        self.flush()
        watch = self._loop.create_task(pending.watch(self._around.timing.request_timeout, self._end))
        try:
            return await self._over
        finally:
            watch.cancel()
            lease.drop()
            self._pending = self._over = None
            self._changes.lost()
            for topics in self.ending.values():
                topics.clear()
            waiting = pending.end()
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

    # ---- what the server is told

    def _schedule(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._around.turn.add(self)

    def flush(self) -> None:
        """Tell the server what has changed."""
        self._dirty = False
        pending, changes = self._pending, self._changes
        if pending is None:
            self._forget_changes()
            return
        most = max(_MOST_UNCONFIRMED // self._hub.servers, 1)
        for _ in range(_MOST_AT_ONCE):
            if changes and pending.names < most:
                self._tell(pending, min(most - pending.names, _MOST_NAMES))
        if changes and pending.names < most:
            self._schedule()
        if not self.topics and not changes:
            if self._idle is not None:
                self._idle.cancel()
            self._idle = self._loop.call_later(_LINGER, self._end_if_idle)

    def _tell(self, pending: PendingCommands, most: int) -> None:
        """Tell the server of the next changes, of ``most`` names at most."""
        for command in self._changes.commands(most):
            if isinstance(command, tuple):
                pending.send(*command)
            else:
                pending.ping(command)

    def _forget_changes(self) -> None:
        """Tell nobody, as there is no connection: those who wait for the server need not wait."""
        for done in self._changes.forget():
            done()

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
        confirmed = None if self._pending is None else self._pending.confirmed(word, name)
        if confirmed is None:
            if word == Kind.SHARD.unsubscribe:
                self._put_out(name)
            return
        topic, last = confirmed
        if last and self._changes:
            self._schedule()
        if word == topic.kind.unsubscribe:
            self._ended(topic)
            return
        self._changes.move(topic, TopicEvent.CONFIRM)
        if self._changes.told(topic):
            topic.at[self] = True
            self._hub.stood(topic)

    def _put_out(self, name: bytes) -> None:
        """The server has ended the subscription to a shard's channel: its slot is another's now. It is asked at once
        whose."""
        topic = self._hub.topics[Kind.SHARD].get(name)
        if topic is not None and self._changes.told(topic):
            self._changes.move(topic, TopicEvent.DENY)
            self._fallen([topic])
            self._note_all([topic])

    def _on_error(self, error: bytes) -> bool:
        command = None if self._pending is None else self._pending.refused()
        if command is None:
            return False
        if not isinstance(command, PendingCommand):
            command()  # an answer to PING all the same
            return True
        text = errors.text(error[1:-2])
        log.warning(
            "subscribe refused shard=%s address=%s command=%s reason=%r",
            self.shard,
            self.node.address,
            command.word.decode(),
            text,
        )
        if self._changes:
            self._schedule()
        refused = [topic for topic in command.topics.values() if self._changes.told(topic)]
        for topic in refused:
            self._changes.move(topic, TopicEvent.DENY)
        if text.partition(" ")[0] not in _PASSING:
            if len(refused) > 1:
                # One that is not allowed must not keep the others' from what they may.
                self._changes.ask_singly(refused)
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
                self._changes.note(topic)
                self._schedule()
