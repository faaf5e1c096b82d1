"""For whom a publisher waits: those who asked before it came, for a little while, and not those who ask meanwhile."""

import asyncio
import os
from collections.abc import Callable

import pytest

from proxy.client.shared_counts import SharedCounts, shared_file
from proxy.planning.channels import Kind
from proxy.pubsub.beginnings import Beginnings
from proxy.pubsub.topic import PendingSubscription, Topic
from proxy.transport.clock import running_clock


class Stand:
    """Topics without servers."""

    def __init__(self, rows: SharedCounts | None = None) -> None:
        self.topics: dict[Kind, dict[bytes, Topic]] = {kind: {} for kind in Kind}
        self.beginnings = Beginnings(self.topics, running_clock(), rows)
        self.over: list[str] = []

    def claim(self, kind: Kind, name: bytes) -> PendingSubscription:
        """Somebody has asked for one topic."""
        claim = PendingSubscription(None, lambda problem: None)  # type: ignore[arg-type]
        topic = self.topics[kind].setdefault(name, Topic(kind, name))
        topic.claims[claim] = None
        claim._topics.append(topic)
        self.beginnings.begin(claim, kind, [name])
        return claim

    def then(self, name: str) -> Callable[[], None]:
        return lambda: self.over.append(name)


async def test_channels_and_patterns_that_match() -> None:
    stand = Stand()
    news, all_of, other = (
        stand.claim(Kind.CHANNEL, b"news"),
        stand.claim(Kind.PATTERN, b"n*"),
        stand.claim(Kind.PATTERN, b"x*"),
    )
    shard = stand.claim(Kind.SHARD, b"news")
    of = stand.beginnings.of
    assert of(Kind.CHANNEL, b"news") == {news, all_of}
    assert of(Kind.CHANNEL, b"x") == {other}
    assert of(Kind.SHARD, b"news") == {shard}
    assert of(Kind.CHANNEL, b"quiet") == set()
    assert stand.beginnings.all() == {news, all_of, other, shard}


async def test_not_those_who_ask_meanwhile() -> None:
    stand = Stand()
    first = stand.claim(Kind.CHANNEL, b"c")
    wait = stand.beginnings.wait(stand.beginnings.of(Kind.CHANNEL, b"c"), [], stand.then("heard"))
    later = stand.claim(Kind.CHANNEL, b"c")
    assert not wait.over
    stand.beginnings.end(first)
    assert wait.over
    assert stand.over == ["heard"]
    stand.beginnings.end(later)
    stand.beginnings.end(later)
    assert stand.over == ["heard"]
    assert not stand.beginnings


async def test_not_for_what_was_asked_for_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.pubsub.beginnings._PATIENCE", 0.05)
    stand = Stand()
    old = stand.claim(Kind.CHANNEL, b"c")
    await asyncio.sleep(0.2)
    young = stand.claim(Kind.CHANNEL, b"c")
    assert stand.beginnings.of(Kind.CHANNEL, b"c") == {young}
    assert stand.beginnings.all() == {young}
    assert old is not young


async def test_what_takes_too_long_is_given_up() -> None:
    stand = Stand()
    stand.claim(Kind.CHANNEL, b"c")
    wait = stand.beginnings.wait(stand.beginnings.all(), [], stand.then("late"))
    wait.give_up()
    wait.give_up()
    assert stand.over == ["late"]


@pytest.mark.parametrize(
    ("kind", "names", "awaited_at"),
    [
        (Kind.CHANNEL, [b"news", b"more"], [(Kind.CHANNEL, b"news"), (Kind.CHANNEL, b"more")]),
        (Kind.CHANNEL, [], [(Kind.CHANNEL, b"news"), (Kind.CHANNEL, b"x")]),
        (Kind.CHANNEL, [b"%d" % number for number in range(100)], [(Kind.CHANNEL, b"5"), (Kind.CHANNEL, b"x")]),
        (Kind.PATTERN, [b"n*"], [(Kind.CHANNEL, b"news"), (Kind.CHANNEL, b"x")]),
        (Kind.SHARD, [b"news"], [(Kind.SHARD, b"news")]),
        (Kind.SHARD, [], [(Kind.SHARD, b"news"), (Kind.SHARD, b"x")]),
    ],
    ids=["some", "all", "very many", "patterns", "of a shard", "all of shards"],
)
async def test_subscriptions_that_end(kind: Kind, names: list[bytes], awaited_at: list[tuple[Kind, bytes]]) -> None:
    """For as long as the servers may count them."""
    stand = Stand()
    beginnings = stand.beginnings
    announced = beginnings.announce(kind, names)
    places = [(at, name) for at in (Kind.CHANNEL, Kind.SHARD) for name in (b"news", b"more", b"5", b"x")]
    found = [place for place in places if beginnings.of(*place) == {announced}]
    assert set(awaited_at) <= set(found)
    assert all(at is (Kind.SHARD if kind is Kind.SHARD else Kind.CHANNEL) for at, _ in found)
    assert len(names) != 1 or kind is Kind.PATTERN or found == awaited_at
    wait = beginnings.wait(beginnings.of(*awaited_at[0]), [], stand.then("left"))
    assert beginnings.all() == {announced}
    beginnings.confirmed(announced)
    beginnings.confirmed(announced)
    assert wait.over
    assert stand.over == ["left"]
    assert not beginnings
    assert not any(beginnings.of(*place) for place in places)


@pytest.mark.parametrize("names", [[b"c"], []], ids=["one", "all"])
async def test_subscriptions_that_end_at_other_workers(names: list[bytes]) -> None:
    memory = shared_file(2)
    try:
        here, there = Stand(SharedCounts(2, 0, memory)), Stand(SharedCounts(2, 1, memory))
        announced = there.beginnings.announce(Kind.CHANNEL, names)
        wait = here.beginnings.wait((), here.beginnings.elsewhere(b"c"), here.then("left"))
        await asyncio.sleep(0.02)
        assert not wait.over
        there.beginnings.confirmed(announced)
        await asyncio.sleep(0.05)
        assert here.over == ["left"]
        assert here.beginnings.elsewhere(b"c") == []
    finally:
        os.close(memory)


@pytest.mark.parametrize("kind", [Kind.CHANNEL, Kind.PATTERN])
async def test_clients_of_other_workers(kind: Kind) -> None:
    """By the numbers that these have written."""
    memory = shared_file(2)
    try:
        here, there = Stand(SharedCounts(2, 0, memory)), Stand(SharedCounts(2, 1, memory))
        name = b"c" if kind is Kind.CHANNEL else b"*"
        claim = there.claim(kind, name)
        found = here.beginnings.elsewhere(b"c")
        wait = here.beginnings.wait((), found, here.then("heard"))
        there.claim(kind, name)
        await asyncio.sleep(0.02)
        assert not wait.over
        there.beginnings.end(claim)
        await asyncio.sleep(0.05)
        assert wait.over
        assert here.over == ["heard"]
        assert there.beginnings.elsewhere(b"c") == []
    finally:
        os.close(memory)
