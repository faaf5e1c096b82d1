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
