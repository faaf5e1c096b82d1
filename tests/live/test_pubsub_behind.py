"""What is published behind a SUBSCRIBE arrives, whatever the subscriber sent in front of that: the end of other
subscriptions, PING, RESET, or other requests that are not answered yet."""

import time
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from tests.support.fixtures import Serve
from tests.support.site import Site
from tests.support.wire import Argument, Wire, pack, pipeline

pytestmark = pytest.mark.live

Command = tuple[Argument, ...]
TIMES = 15

BEFORE: Sequence[Command] = (
    ("SUBSCRIBE", "old", "older"),
    ("PSUBSCRIBE", "old*", "p*"),
    ("SSUBSCRIBE", "old"),
)
"""The subscriptions that are confirmed beforehand; they have six names."""
SOME: Sequence[Command] = (("PUNSUBSCRIBE", "p*"), ("UNSUBSCRIBE", "older"))
"""So that one of each kind is left: the order in which Redis ends all of them is that of a hash table."""
CASES: dict[str, tuple[Sequence[Command], Sequence[Command]]] = {
    "one channel": ([("UNSUBSCRIBE", "old"), ("SUBSCRIBE", "new")], [("PUBLISH", "new", "m")]),
    "all channels": ([("UNSUBSCRIBE", "older"), ("UNSUBSCRIBE",), ("SUBSCRIBE", "new")], [("PUBLISH", "new", "m")]),
    "the same channel": ([("UNSUBSCRIBE", "old"), ("SUBSCRIBE", "old")], [("PUBLISH", "old", "m")]),
    "one pattern": ([("PUNSUBSCRIBE", "old*"), ("PSUBSCRIBE", "new*")], [("PUBLISH", "new", "m")]),
    "all patterns, a channel": (
        [("PUNSUBSCRIBE", "p*"), ("PUNSUBSCRIBE",), ("SUBSCRIBE", "new")],
        [("PUBLISH", "new", "m")],
    ),
    "a channel, a pattern": ([("UNSUBSCRIBE", "older"), ("PSUBSCRIBE", "?ew")], [("PUBLISH", "new", "m")]),
    "channels of shards": ([("SUNSUBSCRIBE",), ("SSUBSCRIBE", "new")], [("SPUBLISH", "new", "m")]),
    "all kinds": (
        [*SOME, ("PUNSUBSCRIBE",), ("UNSUBSCRIBE",), ("SUNSUBSCRIBE",), ("SUBSCRIBE", "new")],
        [("PUBLISH", "new", "m"), ("PUBLISH", "old", "m"), ("SPUBLISH", "old", "m")],
    ),
    "what it does not have": ([("UNSUBSCRIBE", "none"), ("SUBSCRIBE", "new")], [("PUBLISH", "new", "m")]),
    "alternately": (
        [("UNSUBSCRIBE", "old"), ("SUBSCRIBE", "new"), ("UNSUBSCRIBE", "older"), ("SUBSCRIBE", "newer")],
        [("PUBLISH", "new", "m"), ("PUBLISH", "newer", "m"), ("PUBLISH", "older", "m")],
    ),
    "behind one that begins": (
        [("SUBSCRIBE", "first"), ("UNSUBSCRIBE", "old"), ("SUBSCRIBE", "new")],
        [("PUBLISH", "new", "m"), ("PUBLISH", "first", "m")],
    ),
    "begun and ended": ([("SUBSCRIBE", "new"), ("UNSUBSCRIBE", "new")], [("PUBLISH", "new", "m")]),
    "ended and begun and ended": (
        [("UNSUBSCRIBE", "old"), ("SUBSCRIBE", "old"), ("UNSUBSCRIBE", "old"), *SOME, ("PUNSUBSCRIBE",)],
        [("PUBLISH", "old", "m")],
    ),
    "PING between": (
        [("UNSUBSCRIBE", "old"), ("PING",), ("SUBSCRIBE", "new"), ("PING", "x"), ("SUBSCRIBE", "newer")],
        [("PUBLISH", "newer", "m"), ("PUBLISH", "new", "m")],
    ),
    "behind another command": ([("GET", "k"), ("SUBSCRIBE", "new")], [("PUBLISH", "new", "m")]),
    "behind several others": (
        [("SET", "k", "v"), ("MGET", "k", "l", "m"), ("PSUBSCRIBE", "n*")],
        [("PUBLISH", "new", "m"), ("PUBLISH", "next", "m")],
    ),
    "ended behind another command": ([("GET", "k"), ("PUNSUBSCRIBE", "p*")], [("PUBLISH", "pattern", "m")]),
    "behind RESET and another command": (
        [("RESET",), ("INCR", "k"), ("SSUBSCRIBE", "new")],
        [("SPUBLISH", "new", "m"), ("SPUBLISH", "old", "m")],
    ),
    "RESET": ([("RESET",), ("SUBSCRIBE", "new")], [("PUBLISH", "new", "m"), ("PUBLISH", "old", "m")]),
}
"""What the subscriber sends, and what is published behind that by another client."""


def heard(
    listener: Wire,
    publisher: Wire,
    sent: Sequence[Command],
    published: Sequence[Command],
    *,
    protocol: int,
    singly: bool,
) -> tuple[list[int], list[bytes]]:
    """The counts of who heard each message, and all that the subscriber got. ``singly``: in a write for each."""
    listener.send(pipeline(*BEFORE))
    listener.replies(5)
    for write in [pack(*each) for each in sent] if singly else [pipeline(*sent)]:
        listener.send(write)
    listener.arrived()  # two connections have no order before that
    publisher.send(pipeline(*published))
    counts = [int(reply[1:]) for reply in publisher.replies(len(published))]
    listener.send(pack("PING", "end"))
    got: list[bytes] = []
    while sum(is_message(frame) for frame in got) < sum(counts) or not any(b"end" in frame for frame in got):
        got.append(listener.reply())
    listener.send(pipeline(("RESET",), *([("HELLO", 3)] if protocol == 3 else []), ("PING", "over")))
    while b"over" not in listener.reply():
        pass
    return counts, got


@pytest.mark.parametrize("singly", [False, True], ids=["in one write", "singly"])
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_it_arrives_and_is_counted(site: Site, case: str, protocol: int, singly: bool) -> None:
    sent, published = CASES[case]
    found = []
    for connect in (site.direct, site.client):
        with connect(protocol) as listener, connect() as publisher:
            found.append(
                [heard(listener, publisher, sent, published, protocol=protocol, singly=singly) for _ in range(TIMES)]
            )
    plain, proxied = found
    assert [in_order(turn) for turn in proxied] == [in_order(turn) for turn in plain]


def is_message(frame: bytes) -> bool:
    return b"message\r\n" in frame[:24]


def in_order(turn: tuple[list[int], list[bytes]]) -> object:
    """The counts; the confirmations in their order; the messages, which several shards may have sent."""
    counts, got = turn
    messages = [frame for frame in got if is_message(frame)]
    return counts, [frame for frame in got if frame not in messages], sorted(messages)


@pytest.mark.parametrize("workers", [1, 2])
def test_publishers_at_other_workers_wait_too(site: Site, serve: Serve, workers: int) -> None:
    """One server answers late, so that nothing is confirmed yet when the publishers come."""
    proxy = serve("--static", site.shards.static, "--workers", str(workers))
    for case in ("one channel", "all kinds", "begun and ended", "behind one that begins", "RESET"):
        sent, published = CASES[case]
        with site.direct() as listener, site.direct() as publisher:
            counts, got = heard(listener, publisher, sent, published, protocol=2, singly=False)
        messages = sorted(filter(is_message, got))
        for in_transaction in (False, True):
            with ExitStack() as stack:
                listeners = [stack.enter_context(Wire(proxy.address)) for _ in range(4)]
                publishers = [stack.enter_context(Wire(proxy.address)) for _ in range(4)]
                late = stack.enter_context(Wire(site.shards.primaries[2].address))
                for listener in listeners:
                    listener.send(pipeline(*BEFORE))
                    listener.replies(5)
                late.send(pack("DEBUG", "SLEEP", "0.3"))
                time.sleep(0.05)
                for listener in listeners:
                    listener.send(pipeline(*sent))
                time.sleep(0.1)
                for publisher in publishers:
                    publisher.send(pipeline(*[part for each in published for part in within(each, in_transaction)]))
                for publisher in publishers:
                    replies = publisher.replies(len(published) * (3 if in_transaction else 1))
                    found = [reply for reply in replies if b":" in reply]
                    assert [not reply.endswith(b":0\r\n") for reply in found] == [count > 0 for count in counts], case
                for listener in listeners:
                    listener.send(pack("PING", "end"))
                    assert sorted(until_end(listener, len(messages) * len(publishers))) == sorted(
                        messages * len(publishers)
                    ), case


def until_end(listener: Wire, count: int) -> list[bytes]:
    """The messages, until at least ``count`` and the answer to PING have come."""
    told: list[bytes] = []
    while len(list(filter(is_message, told))) < count or b"end" not in b"".join(told):
        told.append(listener.reply())
    return list(filter(is_message, told))


def within(command: Command, transaction: bool) -> Sequence[Command]:
    return (("MULTI",), command, ("EXEC",)) if transaction else (command,)
