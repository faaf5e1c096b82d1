"""How far one server is with each topic, and what it has yet to be told."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum, auto

from proxy.planning.channels import Kind
from proxy.pubsub.topic import Topic
from proxy.sharding.slots import key_slot

Done = Callable[[], None]
"""What to call when the server has carried out all that it was told before."""


class TopicState(IntEnum):
    """How far a server is with a topic, over the connection that stands now."""

    ABSENT = auto()
    """The topic is not wanted there, and the server does not have it, as far as it was told."""
    WANTED = auto()
    """The server has yet to be told to subscribe."""
    ASKED = auto()
    """The server was told to subscribe, and has not confirmed it."""
    STANDING = auto()
    """The server has confirmed the subscription."""
    UNWANTED = auto()
    """The server was told to subscribe, and has yet to be told that the topic is not wanted there any more."""


class TopicEvent(IntEnum):
    """What changes a topic's state at a server."""

    ADD = auto()
    """The hub wants the topic there."""
    REMOVE = auto()
    """The hub does not want the topic there any more."""
    TELL = auto()
    """The server is told what the state says that it has yet to be told."""
    CONFIRM = auto()
    """The server confirms a subscription; perhaps one that it was told to end meanwhile."""
    DENY = auto()
    """The server refuses to subscribe, or has ended the subscription by itself."""
    LOSE = auto()
    """The connection is lost, and all subscriptions with it."""


def _transitions() -> Mapping[TopicEvent, Mapping[TopicState, TopicState]]:
    absent, wanted, asked, standing, unwanted = TopicState
    return {
        TopicEvent.ADD: {absent: wanted, unwanted: asked},
        # A topic that is removed already is removed again where a confirmation came late.
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
"""The next state by event and state. What is not in it can not happen."""


class Changes:
    """The states of all topics at one server, and those that it has to be told of, in order.

    ``topics`` are those that are wanted there. ``by_slot``: the server is a cluster's, where one command can only name
    channels of shards in one slot.
    """

    def __init__(self, by_slot: bool) -> None:
        self.topics: dict[Topic, None] = {}
        self._by_slot = by_slot
        self._states: dict[Topic, TopicState] = {}
        """The states that are not ABSENT."""
        self._changed: deque[Topic | Done] = deque()
        """What the server has to be told, and whom to call when it has carried out what stands before."""
        self._noted: set[Topic] = set()
        """The topics in ``_changed``."""
        self._singly: set[Topic] = set()
        """Topics that were refused together with others, so that each of them is asked for by itself."""

    def __repr__(self) -> str:
        return f"Changes({len(self.topics)} topics, {len(self._changed)} changes)"

    def __bool__(self) -> bool:
        return bool(self._changed)

    def state(self, topic: Topic) -> TopicState:
        """How far the server is with ``topic``."""
        return self._states.get(topic, TopicState.ABSENT)

    def told(self, topic: Topic) -> bool:
        """Whether the server was told to subscribe to ``topic``, and not yet of the end."""
        return self._states.get(topic, TopicState.ABSENT) > TopicState.WANTED

    def move(self, topic: Topic, event: TopicEvent) -> None:
        """Note that ``event`` has come for ``topic``. Raises ``RuntimeError`` for what can not happen."""
        before = self._states.get(topic, TopicState.ABSENT)
        after = TRANSITIONS[event].get(before)
        if after is None:
            raise RuntimeError(f"{event.name} comes for {topic!r}, which is {before.name}")
        if after is TopicState.ABSENT:
            self._states.pop(topic, None)
        else:
            self._states[topic] = after

    def add(self, topic: Topic) -> None:
        """Have the server told to subscribe to ``topic``."""
        self.move(topic, TopicEvent.ADD)
        self.topics[topic] = None
        self.note(topic)

    def remove(self, topic: Topic) -> None:
        """Have the server told that ``topic`` is not wanted any more."""
        self.move(topic, TopicEvent.REMOVE)
        self.topics.pop(topic, None)
        self._singly.discard(topic)
        self.note(topic)

    def note(self, topic: Topic) -> None:
        """Have the server told of ``topic`` what it does not know yet."""
        if topic not in self._noted:
            self._noted.add(topic)
            self._changed.append(topic)

    def after(self, done: Done) -> None:
        """Have ``done`` told in its turn, behind all that was noted before."""
        self._changed.append(done)

    def ask_singly(self, topics: Sequence[Topic]) -> None:
        """Name each of ``topics`` in a command of its own from now on."""
        self._singly.update(topics)

    def connected(self) -> None:
        """Have the server told of everything: it is a new connection."""
        self._noted.update(self.topics)
        self._changed.extend(self.topics)

    def lost(self) -> None:
        """The connection is lost: the server has nothing of what it was told."""
        after = TRANSITIONS[TopicEvent.LOSE]
        states = ((topic, after[state]) for topic, state in self._states.items())
        self._states = {topic: state for topic, state in states if state is not TopicState.ABSENT}

    def forget(self) -> list[Done]:
        """Tell nothing of what was noted, as nobody is connected. The calls that waited for their turn."""
        changed, self._changed = self._changed, deque()
        self._noted.clear()
        return [change for change in changed if not isinstance(change, Topic)]

    def commands(self, most: int) -> Iterator[Done | tuple[bytes, list[Topic]]]:
        """What to tell the server next, of ``most`` topics at most: the word of a command and the topics to name, or
        what to call when the server has carried out all before."""
        begun: dict[object, list[Topic]] = {}
        ended: dict[object, list[Topic]] = {}
        for _ in range(min(most, len(self._changed))):
            change = self._changed.popleft()
            if not isinstance(change, Topic):
                if begun or ended:
                    self._changed.appendleft(change)
                    break
                yield change
                continue
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
        """What is equal for topics that one command can name."""
        if topic in self._singly:
            return topic
        if topic.kind is Kind.SHARD and self._by_slot:
            return key_slot(topic.name)
        return topic.kind
