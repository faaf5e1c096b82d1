"""A subscription counts from when it was asked for: as on one server, a message that is published behind it comes."""

import time
from collections.abc import Callable, Sequence

import pytest

from tests.support.fixtures import Serve
from tests.support.site import Site, shard_of
from tests.support.wire import Argument, Wire, decode, frames, pack, pipeline

pytestmark = pytest.mark.live

Command = tuple[Argument, ...]
TIMES = 20
MANY = 40

KINDS: dict[str, tuple[str, str, str]] = {
    "channel": ("SUBSCRIBE", "{0}", "PUBLISH"),
    "pattern": ("PSUBSCRIBE", "{0}*", "PUBLISH"),
    "channel of a shard": ("SSUBSCRIBE", "{0}", "SPUBLISH"),
}
"""What subscribes, how it names the channel, and what publishes there."""


def published(publisher: Wire, command: str, channels: Sequence[str], *, in_transactions: bool) -> list[object]:
    """How many hear a message on each of the channels, published in one write."""
    if not in_transactions:
        publisher.send(pipeline(*[(command, channel, "m") for channel in channels]))
        return [decode(reply) for reply in publisher.replies(len(channels))]
    blocks = [(("MULTI",), ("SET", channel, 1), (command, channel, "m"), ("EXEC",)) for channel in channels]
    publisher.send(pipeline(*[part for block in blocks for part in block]))
    replies = [decode(reply) for reply in publisher.replies(4 * len(channels))][3::4]
    assert all(isinstance(reply, list) for reply in replies), replies
    return [reply[1] for reply in replies if isinstance(reply, list)]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("in_transactions", [False, True], ids=["PUBLISH", "in EXEC"])
@pytest.mark.parametrize("kind", KINDS)
def test_who_publishes_behind_many_subscriptions_is_heard(
    site: Site, kind: str, protocol: int, in_transactions: bool
) -> None:
    """One client has asked for them one by one, another one publishes on all of them at once."""
    begin, named, publish = KINDS[kind]
    for turn in range(TIMES):
        channels = [f"{turn}-{number}-" for number in range(MANY)]
        with site.client(protocol) as listener, site.client() as publisher:
            listener.send(pipeline(*[(begin, named.format(channel)) for channel in channels]))
            heard = published(publisher, publish, channels, in_transactions=in_transactions)
            told = listener.replies(2 * MANY)
        if not in_transactions:
            assert heard == [1] * MANY, turn
        confirmed = [frame for frame in told if b"message" not in frame[:24]]
        assert [decode(frame)[1:] for frame in confirmed] == [  # type: ignore[index]
            [named.format(channel).encode(), number + 1] for number, channel in enumerate(channels)
        ]
        assert sorted(decode(frame)[-2] for frame in told if b"message" in frame[:24]) == sorted(  # type: ignore[index]
            channel.encode() for channel in channels
        )
        for channel in channels:
            about = [b"message" in frame[:24] for frame in told if channel.encode() in frame]
            assert about == [False, True], (turn, channel)


@pytest.mark.parametrize("kind", KINDS)
def test_who_publishes_behind_subscriptions_of_several_clients_is_heard(site: Site, kind: str) -> None:
    """All of them to one channel."""
    begin, named, publish = KINDS[kind]
    for turn in range(TIMES):
        listeners = [site.client(2 + number % 2) for number in range(8)]
        try:
            with site.client() as publisher:
                channel = f"c{turn}"
                for listener in listeners:
                    listener.send(pack(begin, named.format(channel)))
                assert published(publisher, publish, [channel], in_transactions=False) == [len(listeners)], turn
            for listener in listeners:
                confirmed, message = listener.replies(2)
                assert b"subscribe" in confirmed
                assert b"message" in message
        finally:
            for listener in listeners:
                listener.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_what_is_sent_between_subscriptions_is_answered_as_on_one_server(site: Site, protocol: int) -> None:
    """In its turn, by who is subscribed by then."""
    commands: list[Command] = [
        ("PING",),
        ("SUBSCRIBE", "a"),
        ("SUBSCRIBE", "b", "a"),
        ("PSUBSCRIBE", "p*"),
        ("SSUBSCRIBE", "s"),
        ("SUBSCRIBE",),
        ("PING",),
        ("SUBSCRIBE", "c"),
        ("GET", "k"),
        ("UNSUBSCRIBE", "b"),
        ("SUBSCRIBE", "d"),
        ("UNSUBSCRIBE", "d", "c", "a"),
        ("PUNSUBSCRIBE",),
        ("SSUBSCRIBE", "t"),
        ("SUNSUBSCRIBE", "s", "t"),
        ("SET", "k", "v"),
        ("SUBSCRIBE", "x"),
        ("PUBLISH", "nobody", "m"),
        ("RESET",),
        ("SUBSCRIBE", "y"),
        ("MULTI",),
        ("QUIT",),
    ]
    found = []
    for connect in (site.direct, site.client):
        with connect(protocol) as client:
            client.send(pipeline(*commands))
            found.append(client.rest())
    plain, proxied = found
    assert frames(proxied) == frames(plain)


@pytest.mark.parametrize("count", ["NUMSUB", "CHANNELS", "NUMPAT"])
def test_who_has_asked_is_counted(site: Site, count: str) -> None:
    """By another client's PUBSUB, which the proxy gets behind the subscription."""
    asked: Callable[[str], Command] = {
        "NUMSUB": lambda channel: ("PUBSUB", "NUMSUB", channel),
        "CHANNELS": lambda channel: ("PUBSUB", "CHANNELS", channel),
        "NUMPAT": lambda channel: ("PUBSUB", "NUMPAT"),
    }[count]
    for turn in range(TIMES):
        found = []
        for connect in (site.direct, site.client):
            with connect() as listener, connect() as asking:
                listener.send(pack("PSUBSCRIBE" if count == "NUMPAT" else "SUBSCRIBE", f"c{turn}"))
                found.append(asking.ask(*asked(f"c{turn}")))
        assert found[0] == found[1], turn


def test_publishers_wait_for_nobody_for_long(site: Site) -> None:
    """Who comes to a channel again and again does not keep another one from publishing there."""
    with site.client(3) as listener, site.client() as publisher:
        for _ in range(50):
            listener.send(pipeline(*[("SUBSCRIBE", "c"), ("UNSUBSCRIBE",)] * 20))
            publisher.send(pipeline(("PUBLISH", "c", "m"), ("SET", "k", 1)))
        assert publisher.replies(100)[1::2] == [b"+OK\r\n"] * 50


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_other_connections_and_workers_wait_too(site: Site, serve: Serve, kind: str, workers: int) -> None:
    """One shard answers late, so that nothing stands yet; the channel's own shard would pass the messages on."""
    begin, named, publish = KINDS[kind]
    proxy = serve("--static", site.shards.static, "--workers", str(workers))
    channels = [channel for channel in (f"c{number}" for number in range(100)) if shard_of(channel) == 0][:8]
    listeners = [Wire(proxy.address) for _ in channels]
    publishers = [Wire(proxy.address) for _ in range(6)]
    try:
        for listener in listeners:
            listener.ask(begin, "warm")
            listener.ask("UNSUBSCRIBE" if begin == "SUBSCRIBE" else f"{begin[0]}UNSUBSCRIBE", "warm")
        with Wire(site.shards.primaries[2].address) as late:
            late.send(pack("DEBUG", "SLEEP", "0.3"))
            time.sleep(0.05)
            for listener, channel in zip(listeners, channels, strict=True):
                listener.send(pack(begin, named.format(channel)))
            time.sleep(0.1)
            for publisher in publishers:
                publisher.send(pipeline(*[(publish, channel, "m") for channel in channels]))
            late.reply()
        for publisher in publishers:
            replies = publisher.replies(len(channels))
            assert workers > 1 or replies == [b":1\r\n"] * len(channels)
        for listener in listeners:
            told = listener.replies(1 + len(publishers))
            assert sum(b"message" in frame[:24] for frame in told) == len(publishers)
    finally:
        for wire in (*listeners, *publishers):
            wire.close()


def test_a_channel_that_can_not_be_had_holds_publishers_up_once(site: Site, serve: Serve) -> None:
    """Its publishers wait for a moment, once; those of other channels for none."""
    proxy = serve("--static", site.shards.static)
    mine, other = [channel for channel in (f"c{number}" for number in range(100)) if shard_of(channel) == 0][:2]
    with (
        Wire(proxy.address) as listener,
        Wire(proxy.address) as publisher,
        Wire(site.shards.primaries[2].address) as late,
    ):
        listener.ask("SUBSCRIBE", "warm")
        late.send(pack("DEBUG", "SLEEP", "1.5"))
        time.sleep(0.05)
        listener.send(pack("SUBSCRIBE", mine))
        time.sleep(0.05)
        took = []
        for channel in (other, mine, mine):
            began = time.monotonic()
            publisher.ask("PUBLISH", channel, "m")
            took.append(time.monotonic() - began)
        late.reply()
        assert took[0] < 0.4
        assert 0.4 < took[1] < 1.2
        assert took[2] < 0.4
