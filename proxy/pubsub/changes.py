"""The states of the topics at one server, and the changes that the server has not been sent yet."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum, auto

from proxy.planning.channels import Kind
from proxy.pubsub.topic import Topic
from proxy.sharding.slots import key_slot

Done = Callable[[], None]
"""A callback for when the server has carried out all commands that were sent before."""


class TopicState(IntEnum):
    """The state of a topic at a server, over the present connection."""

    ABSENT = auto()
    """The topic is not wanted at the server, and the server has no subscription, as far as was sent."""
    WANTED = auto()
    """The topic is wanted, and SUBSCRIBE is still to be sent."""
    ASKED = auto()
    """SUBSCRIBE was sent, and the server has not confirmed it."""
    STANDING = auto()
    """The server has confirmed the subscription."""
    UNWANTED = auto()
    """SUBSCRIBE was sent, the topic is not wanted any more, and UNSUBSCRIBE is still to be sent."""


class TopicEvent(IntEnum):
    """The events that change a topic's state at a server."""

    ADD = auto()
    """The hub wants the topic at the server."""
    REMOVE = auto()
    """The hub does not want the topic at the server any more."""
    TELL = auto()
    """The command that the state still requires is sent."""
    CONFIRM = auto()
    """The server confirms a subscription, possibly one for which UNSUBSCRIBE was sent meanwhile."""
    DENY = auto()
    """The server refuses a subscription, or has ended it by itself."""
    LOSE = auto()
    """The connection is lost, and all subscriptions with it."""


def _transitions() -> Mapping[TopicEvent, Mapping[TopicState, TopicState]]:
    absent, wanted, asked, standing, unwanted = TopicState
    return {
        TopicEvent.ADD: {absent: wanted, unwanted: asked},
        # A removed topic is removed again if a confirmation came late.
        TopicEvent.REMOVE: {
            wanted: absent,
            asked: unwanted,
            standing: unwanted,
            unwanted: unwanted,
            absent: absent,
        },
        TopicEvent.TELL: {wanted: asked, unwanted: absent},
        TopicEvent.CONFIRM: {
            asked: standing,
            standing: standing,
            unwanted: unwanted,
            wanted: wanted,
            absent: absent,
        },
        TopicEvent.DENY: {asked: wanted, standing: wanted, unwanted: absent},
        TopicEvent.LOSE: {wanted: wanted, asked: wanted, standing: wanted, unwanted: absent},
    }


TRANSITIONS = _transitions()
"""The next state by event and state. Other pairs can not happen."""


class Changes:
    """The states of all topics at one server, and the topics with commands still to be sent, in order.

    ``topics`` are those that are wanted at the server. ``by_slot`` says that the server belongs to a cluster, where one
    command can only name shard channels of one slot.
    """

    def __init__(self, by_slot: bool) -> None:
        self.topics: dict[Topic, None] = {}
        self._by_slot = by_slot
        self._states: dict[Topic, TopicState] = {}
        """The states that are not ABSENT."""
        self._changed: deque[Topic | Done] = deque()
        """The topics with commands still to be sent, and the callbacks for the commands in front of them."""
        self._noted: set[Topic] = set()
        """The topics in ``_changed``."""
        self._singly: set[Topic] = set()
        """The topics that were refused together with others, and so get a command of their own."""

    def __repr__(self) -> str:
        return f"Changes({len(self.topics)} topics, {len(self._changed)} changes)"

    def __bool__(self) -> bool:
        return bool(self._changed)

    def state(self, topic: Topic) -> TopicState:
        """The state of ``topic`` at the server."""
        return self._states.get(topic, TopicState.ABSENT)

    def told(self, topic: Topic) -> bool:
        """Whether SUBSCRIBE was sent for ``topic``, and UNSUBSCRIBE was not."""
        return self._states.get(topic, TopicState.ABSENT) > TopicState.WANTED

    def move(self, topic: Topic, event: TopicEvent) -> None:
        """Change the state of ``topic`` for ``event``. Raises ``RuntimeError`` for a pair that can not happen."""
        before = self._states.get(topic, TopicState.ABSENT)
        after = TRANSITIONS[event].get(before)
        if after is None:
            raise RuntimeError(f"{event.name} comes for {topic!r}, which is {before.name}")
        if after is TopicState.ABSENT:
            self._states.pop(topic, None)
        else:
            self._states[topic] = after

    def add(self, topic: Topic) -> None:
        """Subscribe to ``topic`` at the server."""
        self.move(topic, TopicEvent.ADD)
        self.topics[topic] = None
        self.note(topic)

    def remove(self, topic: Topic) -> None:
        """Unsubscribe from ``topic`` at the server."""
        self.move(topic, TopicEvent.REMOVE)
        self.topics.pop(topic, None)
        self._singly.discard(topic)
        self.note(topic)

    def note(self, topic: Topic) -> None:
        """Queue the command that the state of ``topic`` requires."""
        if topic not in self._noted:
            self._noted.add(topic)
            self._changed.append(topic)

    def after(self, done: Done) -> None:
        """Queue ``done`` behind all commands that are still to be sent."""
        self._changed.append(done)

    def ask_singly(self, topics: Sequence[Topic]) -> None:
        """Send a command of its own for each of ``topics`` from now on."""
        self._singly.update(topics)

    def connected(self) -> None:
        """Queue SUBSCRIBE for all topics, on a new connection."""
        self._noted.update(self.topics)
        self._changed.extend(self.topics)

    def lost(self) -> None:
        """Move all topics to the states of a lost connection, on which the server has no subscription."""
        after = TRANSITIONS[TopicEvent.LOSE]
        states = ((topic, after[state]) for topic, state in self._states.items())
        self._states = {topic: state for topic, state in states if state is not TopicState.ABSENT}

    def forget(self) -> list[Done]:
        """Drop the queued commands, since there is no connection; return the queued callbacks."""
        changed, self._changed = self._changed, deque()
        self._noted.clear()
        return [change for change in changed if not isinstance(change, Topic)]

    def commands(self, most: int, room: int = sys.maxsize) -> Iterator[Done | tuple[bytes, list[Topic]]]:
        """The next commands, of at most ``most`` topics, and of ``room`` bytes of names or one name alone: each is the
        word of a command with the topics to name, or a callback for when the server has carried out the commands
        before."""
        begun: dict[object, list[Topic]] = {}
        ended: dict[object, list[Topic]] = {}
        for _ in range(min(most, len(self._changed))):
            change = self._changed.popleft()
            full = not isinstance(change, Topic) or len(change.name) > room
            if full and (begun or ended):
                self._changed.appendleft(change)
                break
            if not isinstance(change, Topic):
                yield change
                continue
            room -= len(change.name)
            self._noted.discard(change)
            state = self.state(change)
            if state is TopicState.WANTED:
                begun.setdefault(self._together(change), []).append(change)
            elif state is TopicState.UNWANTED:
                ended.setdefault(self._together(change), []).append(change)
            else:
                continue
            self.move(change, TopicEvent.TELL)
        for group in ended.values():
            yield group[0].kind.unsubscribe, group
        for group in begun.values():
            yield group[0].kind.subscribe, group

    def _together(self, topic: Topic) -> object:
        """A value that is equal for topics that one command can name."""
        if topic in self._singly:
            return topic
        if topic.kind is Kind.SHARD and self._by_slot:
            return key_slot(topic.name)
        return topic.kind
