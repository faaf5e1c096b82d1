"""The worker's subscriptions at one server, over one connection; they are made again when the connection is lost."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from proxy import errors, server_errors
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
"""The most names in one command, which should not keep the server busy for long."""
_MOST_UNCONFIRMED = 1500
"""The most unconfirmed names at all servers together, since their confirmations may come in one turn."""
_MOST_AT_ONCE = 4
"""So many times the changes that may be sent are examined in one turn, since reverted ones are not sent."""
_LINGER = 10.0
"""Seconds that a connection is kept when it has no subscriptions any more."""
_FREE_HOPS = 3
"""So many redirections in a row are followed at once, further ones after a pause."""
_PASSING = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY"})
"""Temporary errors, and errors that another server would not give."""


def _no_one(lease: Lease) -> None:
    """Ignore the end of a connection, which is not counted."""


class SubscriberEvents(Protocol):
    """Gets the events of the subscriptions at one server."""

    @property
    def topics(self) -> Mapping[Kind, Mapping[bytes, Topic]]:
        """All topics, by kind and name."""

    @property
    def servers(self) -> int:
        """How many servers have a subscriber."""

    def deliver(self, subscriber: "Subscriber", frame: bytes) -> bool:
        """Pass on ``frame``, which came over ``subscriber``, if it is a message; return whether it is."""

    def stood(self, topic: Topic) -> None:
        """Act on the server's confirmation of ``topic``."""

    def refused(self, topics: Sequence[Topic], error: str) -> None:
        """Act on the server's refusal of ``topics``."""

    def follow(self, topics: Sequence[Topic], node: Node) -> None:
        """Subscribe at ``node``, to which the server redirects ``topics``."""

    def lost(self, subscriber: "Subscriber") -> None:
        """Act on a connection of ``subscriber`` that is lost or could not be made."""

    def left(self, subscriber: "Subscriber") -> None:
        """Forget ``subscriber``, which has ended because it has no subscriptions any more."""


class Subscriber:
    """The subscriptions at ``node``, a server of the shard called ``shard`` in the log.

    ``topics`` has the wanted topics; changes are sent to the server at the end of each turn. A topic's
    ``at[subscriber]`` is True while the server has confirmed it.
    """

    def __init__(self, hub: SubscriberEvents, shard: str, node: Node, around: BackendSettings[Any]) -> None:
        self.node = node
        self.shard = shard
        self._changes = Changes(around.roles.cluster)
        self.topics = self._changes.topics
        self.ending: Mapping[Kind, dict[bytes, Topic]] = {kind: {} for kind in Kind}
        """The topics that nobody needs any more, and that the server still counts, since it has not confirmed the end.
        """
        self._hub = hub
        self._around = around
        self._loop = asyncio.get_running_loop()
        self._pending: PendingCommands | None = None
        """The unanswered commands on the present connection, or None."""
        self._dirty = False
        self._down_since = around.turn.now()
        self._reason = "not connected yet"
        self._over: asyncio.Future[str] | None = None
        """Gets the reason for the end of the connection; empty if it has no subscriptions any more."""
        self._runner: asyncio.Task[None] | None = None
        self._held = False
        """Whether reading from the connection is paused."""
        self._idle: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Subscriber({self.node.address}, {len(self.topics)} topics, {'up' if self.up else self._reason})"

    @property
    def up(self) -> bool:
        """Whether the connection is open."""
        return self._pending is not None

    @property
    def failing(self) -> bool:
        """Whether the server has been unreachable for so long that clients do not wait for it any more."""
        return not self.up and self._around.turn.now() - self._down_since > self._around.timing.retry_deadline

    @property
    def error(self) -> str:
        """The text of the error reply for topics that could not be subscribed."""
        return server_errors.shard_down(self.shard, self.node.address, self._reason)

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
        """Unsubscribe from ``topic``."""
        topic.at.pop(self, None)
        if self._changes.told(topic):
            self.ending[topic.kind][topic.name] = topic
        self._changes.remove(topic)
        self._schedule()

    def _ended(self, topic: Topic) -> None:
        """Forget the unconfirmed end of ``topic``, which is confirmed, or which is wanted again."""
        if self.ending[topic.kind].get(topic.name) is topic:
            del self.ending[topic.kind][topic.name]

    def after(self, done: Done) -> None:
        """Call ``done`` when the server has carried out all commands up to now, or when the connection is lost."""
        if self._pending is None:
            done()
        else:
            self._changes.after(done)
            self._schedule()

    def hold(self, on: bool) -> None:
        """Pause reading, because messages that were read are not passed on yet; or resume it."""
        if self._pending is not None and self._held is not on:
            self._held = on
            self._pending.lease.read(not on)

    def renew(self) -> None:
        """Replace the connection, if there is one."""
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
        """Use ``lease`` until it is lost, and return the reason; or until it has no subscriptions, and return ""."""
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

    # ---- commands to the server

    def _schedule(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._around.turn.add(self)

    def flush(self) -> None:
        """Send the changes to the server."""
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
        """Send the next changes to the server, of at most ``most`` names."""
        for command in self._changes.commands(most, self._around.query.unanswered):
            if isinstance(command, tuple):
                pending.send(*command)
            else:
                pending.ping(command)

    def _forget_changes(self) -> None:
        """Drop the changes, since there is no connection, and call the callbacks that wait for the server."""
        for done in self._changes.forget():
            done()

    def _end_if_idle(self) -> None:
        if not self.topics:
            self._end("")

    # ---- replies of the server

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
        """Act on the end of the subscription to a shard channel, whose slot has moved: subscribing again at once shows
        to which server."""
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
            command()  # an error answers PING too
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
                # A channel that is not allowed must not prevent the subscription to the others.
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
        """Act on topics whose subscriptions the server refuses or has ended."""
        for topic in topics:
            if self in topic.at:
                topic.at[self] = False
                topic.fell()
        self._around.events.hint(self.node)

    def _again(self, topics: Sequence[Topic]) -> None:
        """Subscribe again after a pause to those of ``topics`` that are still wanted; they may have moved by then."""
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
