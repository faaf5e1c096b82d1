"""The states of a topic at a server: what is told of them, and what can not happen."""

import pytest

from proxy.planning.channels import Kind
from proxy.pubsub.changes import TRANSITIONS, Changes, TopicEvent, TopicState
from proxy.pubsub.topic import Topic


def told(changes: Changes, most: int = 100) -> list[tuple[bytes, list[bytes]]]:
    """The commands for the server, with the names in each."""
    commands = [command for command in changes.commands(most) if isinstance(command, tuple)]
    return [(word.lower(), [topic.name for topic in topics]) for word, topics in commands]


def test_long_names_are_not_told_together() -> None:
    """One name at least is, however long it is."""
    changes = Changes(by_slot=False)
    names = [b"a" * 5, b"b" * 4, b"c" * 2, b"d" * 30, b"e"]
    for name in names:
        changes.add(Topic(Kind.CHANNEL, name))
    found = []
    while changes:
        found += [
            [topic.name for topic in command[1]] for command in changes.commands(9, 10) if isinstance(command, tuple)
        ]
    assert found == [names[:2], names[2:3], names[3:4], names[4:]]


def test_a_topic_is_subscribed_and_given_up() -> None:
    changes, topic = Changes(by_slot=False), Topic(Kind.CHANNEL, b"a")
    changes.add(topic)
    assert changes.state(topic) is TopicState.WANTED
    assert told(changes) == [(b"subscribe", [b"a"])]
    assert changes.state(topic) is TopicState.ASKED
    changes.move(topic, TopicEvent.CONFIRM)
    assert changes.state(topic) is TopicState.STANDING
    changes.remove(topic)
    assert changes.state(topic) is TopicState.UNWANTED
    assert told(changes) == [(b"unsubscribe", [b"a"])]
    assert changes.state(topic) is TopicState.ABSENT
    assert not changes


def test_what_is_taken_back_at_once_is_not_told() -> None:
    changes, topic = Changes(by_slot=False), Topic(Kind.CHANNEL, b"a")
    changes.add(topic)
    changes.remove(topic)
    assert told(changes) == []


def test_a_lost_connection_loses_all_and_what_is_wanted_is_told_again() -> None:
    changes = Changes(by_slot=False)
    kept, gone = Topic(Kind.CHANNEL, b"kept"), Topic(Kind.PATTERN, b"gone*")
    for topic in (kept, gone):
        changes.add(topic)
    assert len(told(changes)) == 2
    changes.remove(gone)
    changes.lost()
    assert (changes.state(kept), changes.state(gone)) == (TopicState.WANTED, TopicState.ABSENT)
    assert changes.forget() == []
    changes.connected()
    assert told(changes) == [(b"subscribe", [b"kept"])]


def test_a_call_keeps_its_place() -> None:
    """Whoever waits for the server is called behind what was told before, and before what is told afterwards."""
    changes = Changes(by_slot=False)
    first, second = Topic(Kind.CHANNEL, b"1"), Topic(Kind.CHANNEL, b"2")
    called: list[None] = []
    changes.add(first)
    changes.after(lambda: called.append(None))
    changes.add(second)
    assert told(changes) == [(b"subscribe", [b"1"])]
    (done,) = (command for command in changes.commands(1) if not isinstance(command, tuple))
    done()
    assert called == [None]
    assert told(changes) == [(b"subscribe", [b"2"])]


def test_one_refused_among_others_is_named_alone() -> None:
    changes = Changes(by_slot=False)
    topics = [Topic(Kind.CHANNEL, b"%d" % number) for number in range(3)]
    for topic in topics:
        changes.add(topic)
    assert told(changes) == [(b"subscribe", [b"0", b"1", b"2"])]
    for topic in topics:
        changes.move(topic, TopicEvent.DENY)
        changes.note(topic)
    changes.ask_singly(topics)
    assert told(changes) == [(b"subscribe", [b"0"]), (b"subscribe", [b"1"]), (b"subscribe", [b"2"])]


@pytest.mark.parametrize("slots", [False, True])
def test_channels_of_shards_are_named_by_slot_where_they_have_to_be(slots: bool) -> None:
    changes = Changes(by_slot=slots)
    for name in (b"{a}1", b"{b}1", b"{a}2"):
        changes.add(Topic(Kind.SHARD, name))
    together = [[b"{a}1", b"{a}2"], [b"{b}1"]] if slots else [[b"{a}1", b"{b}1", b"{a}2"]]
    assert told(changes) == [(b"ssubscribe", names) for names in together]


def reached(state: TopicState) -> tuple[Changes, Topic]:
    """A topic in that state."""
    changes, topic = Changes(by_slot=False), Topic(Kind.CHANNEL, b"a")
    ways = {
        TopicState.ABSENT: (),
        TopicState.WANTED: (TopicEvent.ADD,),
        TopicState.ASKED: (TopicEvent.ADD, TopicEvent.TELL),
        TopicState.STANDING: (TopicEvent.ADD, TopicEvent.TELL, TopicEvent.CONFIRM),
        TopicState.UNWANTED: (TopicEvent.ADD, TopicEvent.TELL, TopicEvent.REMOVE),
    }
    for event in ways[state]:
        changes.move(topic, event)
    assert changes.state(topic) is state
    return changes, topic


@pytest.mark.parametrize("state", TopicState)
@pytest.mark.parametrize("event", TopicEvent)
def test_the_table_says_what_can_happen(state: TopicState, event: TopicEvent) -> None:
    changes, topic = reached(state)
    after = TRANSITIONS[event].get(state)
    if after is None and event is not TopicEvent.LOSE:
        with pytest.raises(RuntimeError, match=f"{event.name} comes for .*, which is {state.name}"):
            changes.move(topic, event)
        assert changes.state(topic) is state
        return
    if event is TopicEvent.LOSE:
        changes.lost()
        assert changes.state(topic) is (after or TopicState.ABSENT)
    else:
        changes.move(topic, event)
        assert changes.state(topic) is after
    assert changes.told(topic) is (changes.state(topic) in {TopicState.ASKED, TopicState.STANDING, TopicState.UNWANTED})
