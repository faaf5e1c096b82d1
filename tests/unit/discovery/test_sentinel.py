"""Following sentinels: which are asked, what is adopted, and when a shard is held."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from proxy.config import Config
from proxy.discovery import sentineltrust, subscription
from proxy.discovery import source as pacing
from proxy.discovery.sentinel import HOLD, SentinelSource
from proxy.discovery.source import SHORTEST
from proxy.metrics import Counters
from proxy.sharding.topology import NOBODY, Node, Topology
from tests.unit.discovery.sentinels import FakeSentinel, Watched, running

A, B, C, D, X = (Node("10.0.0.1", 7000 + number) for number in range(5))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here needs the pace of a real network."""
    monkeypatch.setattr(pacing, "SHORTEST", 0.05)
    monkeypatch.setattr(subscription, "_PING_AFTER", 0.05)
    monkeypatch.setattr(subscription, "_BACKOFF_MIN", 0.01)
    monkeypatch.setattr(subscription, "_BACKOFF_MAX", 0.05)


class Follower:
    """A source at work, and all it did."""

    def __init__(self, sentinels: Sequence[Node], *, password: str = "", refresh: str = "1h", **remap: str) -> None:
        config = Config.model_validate(
            {
                "topology": {"kind": "sentinel", "refresh": refresh, "remap": remap},
                "sentinel": {
                    "sentinels": [str(node) for node in sentinels],
                    "masters": ["alpha", "beta"],
                    "password": password or None,
                },
                "backend": {"connect_timeout": "200ms"},
            }
        )
        self.counters = Counters()
        self.adopted: list[Topology] = []
        self.done: list[str] = []
        """"adopt N" and "hold NAME SECONDS", in order."""
        self.source = SentinelSource(config, self.counters, self._hold)

    def _hold(self, name: str, seconds: float | None) -> None:
        self.done.append(f"hold {name} {seconds}")

    def adopt(self, topology: Topology) -> None:
        self.adopted.append(topology)
        self.done.append(f"adopt {topology.epoch}")

    def primaries(self) -> dict[str, Node]:
        return {shard.name: shard.primary for shard in self.adopted[-1].shards} if self.adopted else {}

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["Follower"]:
        task = asyncio.create_task(self.source.run(self.adopt))
        try:
            yield self
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(happened: Callable[[], object]) -> None:
    """Wait for it, not for ever."""
    async with asyncio.timeout(5):
        while not happened():  # noqa: ASYNC110 - what is waited for are plain values
            await asyncio.sleep(0.005)


def three(**masters: Watched) -> tuple[FakeSentinel, FakeSentinel, FakeSentinel]:
    """Three sentinels of one mind, each with its own."""
    masters = masters or {"alpha": Watched(A, replicas=(B,)), "beta": Watched(C, replicas=(D,))}

    def own() -> dict[str, Watched]:
        return {
            name: Watched(watched.node, watched.epoch, watched.step, watched.replicas, watched.run_id)
            for name, watched in masters.items()
        }

    return FakeSentinel("s1", own()), FakeSentinel("s2", own()), FakeSentinel("s3", own())


async def test_one_sentinel_names_the_others() -> None:
    sentinels = three()
    async with running(*sentinels):
        follower = Follower([sentinels[0].node])
        async with follower.at_work():
            await until(lambda: all(each.listeners == 1 for each in sentinels) and follower.adopted)
            assert follower.primaries() == {"alpha": A, "beta": C}
            assert [shard.replicas for shard in follower.adopted[-1].shards] == [(B,), (D,)]
            assert len(follower.adopted) == 1
        await until(lambda: not any(each.listeners for each in sentinels))


async def test_a_sentinel_with_two_names_is_listened_to_once() -> None:
    sentinels = three()
    async with running(*sentinels):
        named = [Node("localhost", each.node.port) for each in sentinels]
        async with Follower(named).at_work() as follower:
            await until(lambda: all(each.listeners for each in sentinels))
            for _ in range(3):
                follower.source.hint()
                await asyncio.sleep(0.1)
            assert sentinels[0].asked > 3
            assert [each.listeners for each in sentinels] == [1, 1, 1]


async def test_who_lags_is_not_believed_at_the_start() -> None:
    """Whoever answers first: all are heard before anything is adopted."""
    sentinels = three()
    for each in sentinels[1:]:
        each.masters["alpha"] = Watched(B, 1)
    async with running(*sentinels):
        async with Follower([each.node for each in sentinels]).at_work() as follower:
            await until(lambda: follower.adopted)
        assert [each.shards[0].primary for each in follower.adopted] == [B]


async def test_an_event_is_followed_at_once() -> None:
    sentinels = three()
    async with running(*sentinels), Follower([sentinels[0].node]).at_work() as follower:
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        before = [each.asked for each in sentinels]
        sentinels[2].masters["alpha"] = Watched(B, 1, replicas=(A,))
        sentinels[2].publish("+switch-master", f"alpha {A.host} {A.port} {B.host} {B.port}")
        await until(lambda: follower.primaries() == {"alpha": B, "beta": C})
        # Whose event it was is asked; the others need not be, nor can their old knowledge change anything.
        assert sentinels[2].asked > before[2]
        follower.source.hint()
        before = [each.asked for each in sentinels]
        await until(lambda: all(each.asked > count for each, count in zip(sentinels, before, strict=True)))
        await asyncio.sleep(0.05)
        assert follower.primaries() == {"alpha": B, "beta": C}


async def test_events_of_others_are_nothing_to_us() -> None:
    sentinels = three()
    async with running(*sentinels), Follower([each.node for each in sentinels]).at_work() as follower:
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        await asyncio.sleep(0.2)  # what listening for the first time brings about
        before = sum(each.asked for each in sentinels)
        for what, about in ("+sdown", "master gamma 10.0.0.9 1"), ("+new-epoch", "4"), ("+tilt", "#tilt"):
            sentinels[0].publish(what, about)
        await asyncio.sleep(0.2)
        assert sum(each.asked for each in sentinels) == before


def leads(sentinel: FakeSentinel, step: str) -> None:
    """It begins a failover of alpha from A to B."""
    sentinel.masters["alpha"].step = step
    sentinel.publish("+selected-slave", f"slave {B} {B.host} {B.port} @ alpha {A.host} {A.port}")


async def test_a_failover_is_held_until_it_is_adopted() -> None:
    sentinels = three()
    async with running(*sentinels), Follower([each.node for each in sentinels]).at_work() as follower:
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        leads(sentinels[1], "send_slaveof_noone")
        await until(lambda: len(follower.done) > 5)
        assert set(follower.done) == {"adopt 1", f"hold alpha {HOLD}"}  # again and again, while it goes on
        sentinels[1].masters["alpha"] = Watched(B, 1, "reconf_slaves", (A,))
        sentinels[1].publish("+promoted-slave", f"slave {B} {B.host} {B.port} @ alpha {A.host} {A.port}")
        await until(lambda: follower.done[-1] == "hold alpha None")
        assert follower.done[-2] == "adopt 2"
        assert follower.primaries()["alpha"] == B
        assert follower.done.count("hold alpha None") == 1


@pytest.mark.parametrize("how", ["told", "seen"])
async def test_a_failover_that_is_given_up_is_let_go(how: str) -> None:
    sentinels = three()
    async with running(*sentinels), Follower([each.node for each in sentinels]).at_work() as follower:
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        leads(sentinels[1], "wait_promotion")
        await until(lambda: follower.done.count(f"hold alpha {HOLD}") > 1)
        if how == "told":
            # Of another sentinel it is no news: it did not lead.
            sentinels[0].publish("-failover-abort-not-elected", f"master alpha {A.host} {A.port}")
            await asyncio.sleep(0.1)
            assert "hold alpha None" not in follower.done
            sentinels[1].masters["alpha"].step = ""
            sentinels[1].publish("-failover-abort-slave-timeout", f"master alpha {A.host} {A.port}")
        else:
            sentinels[1].masters["alpha"].step = ""
        await until(lambda: follower.done[-1] == "hold alpha None")
        assert follower.primaries()["alpha"] == A
        count = len(follower.done)
        await asyncio.sleep(0.2)
        assert len(follower.done) == count


async def test_a_failover_whose_events_were_missed() -> None:
    sentinels = three()
    sentinels[1].masters["alpha"].step = "wait_start"  # nothing is decided yet, nor may ever be
    async with running(*sentinels), Follower([each.node for each in sentinels]).at_work() as follower:
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        assert follower.done == ["adopt 1"]
        sentinels[1].masters["alpha"].step = "select_slave"
        follower.source.hint()
        await until(lambda: f"hold alpha {HOLD}" in follower.done)
        sentinels[1].masters["alpha"] = Watched(B, 1, "reconf_slaves")
        await until(lambda: follower.done[-2:] == ["adopt 2", "hold alpha None"])


async def test_who_leads_a_failover_dies() -> None:
    """The hold is not renewed, and ends by itself: the replica may have been promoted."""
    sentinels = three()
    async with running(*sentinels), Follower([each.node for each in sentinels]).at_work() as follower:
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        leads(sentinels[1], "wait_promotion")
        await until(lambda: follower.done.count(f"hold alpha {HOLD}") > 1)
        await sentinels[1].stop()
        await asyncio.sleep(0.2)
        count = len(follower.done)
        await asyncio.sleep(0.3)
        assert len(follower.done) == count
        assert "hold alpha None" not in follower.done
        sentinels[0].masters["alpha"] = Watched(B, 2)
        sentinels[0].publish("+switch-master", f"alpha {A.host} {A.port} {B.host} {B.port}")
        await until(lambda: follower.primaries()["alpha"] == B)
        await sentinels[1].start()


async def test_a_sentinel_that_dies_costs_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sentinels = three()
    async with (
        running(*sentinels),
        Follower([each.node for each in sentinels], refresh="100ms").at_work() as follower,
    ):
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        await sentinels[0].stop()
        await until(lambda: "sentinel can not be asked" in caplog.text)
        await asyncio.sleep(0.3)
        assert caplog.text.count("sentinel can not be asked") == 1
        assert str(sentinels[0].node) in caplog.text
        sentinels[1].masters["beta"] = Watched(D, 1)
        sentinels[1].publish("+switch-master", f"beta {C.host} {C.port} {D.host} {D.port}")
        await until(lambda: follower.primaries()["beta"] == D)
        await sentinels[0].start()
        await until(lambda: sentinels[0].listeners == 1)
        await until(lambda: "sentinel answers again" in caplog.text)
        # It lags, and rolls nothing back.
        await asyncio.sleep(0.3)
        assert follower.primaries()["beta"] == D


async def test_a_sentinel_that_hangs_is_left_and_found_again() -> None:
    sentinels = three()
    async with running(*sentinels), Follower([each.node for each in sentinels]).at_work() as follower:
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        for each in sentinels:
            each.silent = True
        await until(lambda: not any(each.listeners for each in sentinels))
        assert follower.primaries() == {"alpha": A, "beta": C}
        for each in sentinels:
            each.silent = False
            each.masters["alpha"] = Watched(B, 1)  # and nobody heard of it
        await until(lambda: follower.primaries()["alpha"] == B)


async def test_a_sentinel_that_was_removed_is_forgotten() -> None:
    sentinels = three()
    async with running(*sentinels), Follower([sentinels[0].node], refresh="100ms").at_work():
        await until(lambda: all(each.listeners for each in sentinels))
        for each in sentinels[:2]:
            each.peers = {name: node for name, node in each.peers.items() if name != "s3"}
        await until(lambda: sentinels[2].listeners == 0)
        assert sentinels[1].listeners == 1


async def test_masters_that_nobody_knows(caplog: pytest.LogCaptureFixture) -> None:
    sentinels = three(alpha=Watched(A))
    async with (
        running(*sentinels),
        Follower([each.node for each in sentinels], refresh="50ms").at_work() as follower,
    ):
        await until(lambda: follower.counters.refreshes.get("same", 0) > 3)
        assert follower.primaries() == {"alpha": A}
        assert follower.adopted[-1].ranges(NOBODY) == [(8192, 16383)]
        assert caplog.text.count("no sentinel knows a master called 'beta'") == 1
        for each in sentinels:
            each.masters["beta"] = Watched(C)
        sentinels[0].publish("+monitor", f"master beta {C.host} {C.port} quorum 2")
        await until(lambda: follower.primaries() == {"alpha": A, "beta": C})
        assert NOBODY not in follower.adopted[-1].slot_shard


async def test_two_masters_on_one_server(caplog: pytest.LogCaptureFixture) -> None:
    sentinels = three(alpha=Watched(A), beta=Watched(A))
    async with running(*sentinels), Follower([sentinels[0].node]).at_work() as follower:
        await until(lambda: follower.adopted)
        assert follower.primaries() == {"alpha": A}
        assert f"two masters have one primary {A}: shard=beta has no slots" in caplog.text


async def test_no_sentinel_at_all(caplog: pytest.LogCaptureFixture) -> None:
    sentinels = three()
    async with running(*sentinels):
        for each in sentinels:
            await each.stop()
        async with Follower([each.node for each in sentinels], refresh="50ms").at_work() as follower:
            await until(lambda: follower.counters.refreshes.get("failed", 0) > 2)
            assert caplog.text.count("no sentinel answers: check sentinel.sentinels") == 1
            assert not follower.adopted
            for each in sentinels:
                await each.start()
            await until(lambda: follower.primaries() == {"alpha": A, "beta": C})


@pytest.mark.parametrize(
    ("password", "given", "words"),
    [
        ("secret", "secret", ""),
        ("secret", "", "the sentinel asks for a password: set sentinel.password"),
        ("secret", "wrong", "the server refuses the proxy's AUTH: WRONGPASS"),
    ],
)
async def test_passwords(password: str, given: str, words: str, caplog: pytest.LogCaptureFixture) -> None:
    sentinels = three()
    for each in sentinels:
        each.password = password
    async with (
        running(*sentinels),
        Follower([each.node for each in sentinels], password=given).at_work() as follower,
    ):
        if words:
            await until(lambda: "no sentinel answers" in caplog.text)
            assert caplog.text.count(words) == 3
            assert not any(each.listeners for each in sentinels)
        else:
            await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        assert "wrong" not in caplog.text


async def test_a_server_that_is_no_sentinel(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeSentinel("x", plain=True)
    async with running(server), Follower([server.node]).at_work():
        await until(lambda: "it is a server, not a sentinel" in caplog.text)


async def test_sentinels_from_before_redis_5() -> None:
    sentinels = three()
    for each in sentinels:
        each.old = True
    async with running(*sentinels), Follower([sentinels[0].node]).at_work() as follower:
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        assert [shard.replicas for shard in follower.adopted[-1].shards] == [(B,), (D,)]


async def test_addresses_are_remapped() -> None:
    sentinels = three()
    async with running(*sentinels):
        follower = Follower([sentinels[0].node], **{"10.0.0.1:7000": "203.0.113.1:7000"})
        async with follower.at_work():
            await until(lambda: follower.adopted)
            assert follower.primaries() == {"alpha": Node("203.0.113.1", 7000), "beta": C}


async def test_hints_are_many_and_looks_few() -> None:
    sentinels = three()
    async with running(*sentinels), Follower([sentinels[0].node]).at_work() as follower:
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        await asyncio.sleep(0.3)
        before, began = sentinels[0].asked, time.monotonic()
        for _ in range(10):
            for _ in range(100):
                follower.source.hint()
            await asyncio.sleep(0.01)
        # At most two in a second, and what each look asks a sentinel.
        looks = 1 + (time.monotonic() - began) / SHORTEST
        assert 1 <= sentinels[0].asked - before <= 4 * looks


STOLEN = {"alpha": Watched(Node("10.9.9.1", 1), 99, replicas=(Node("10.9.9.2", 1),)), "beta": Watched(C, 50)}


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_stranger_at_the_address_of_a_sentinel(place: int, caplog: pytest.LogCaptureFixture) -> None:
    """Another id, a master of the same name, a higher epoch: nothing that it says, publishes or leads counts."""
    caplog.set_level(logging.INFO)
    sentinels = three()
    async with running(*sentinels), Follower([each.node for each in sentinels]).at_work() as follower:
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        stolen = sentinels[place]
        ours = stolen.masters
        stolen.id, stolen.peers = "x", {"y": Node("127.0.0.1", 1)}
        stolen.masters = {"alpha": Watched(STOLEN["alpha"].node, 99, "wait_promotion", STOLEN["alpha"].replicas)}
        follower.source.hint()
        await until(lambda: "sentinel is not believed" in caplog.text)
        stolen.publish("+selected-slave", f"slave {B} {B.host} {B.port} @ alpha {A.host} {A.port}")
        stolen.publish("+switch-master", f"alpha {A.host} {A.port} 10.9.9.1 1")
        asked = stolen.asked
        await until(lambda: stolen.asked > asked)
        for _ in range(5):
            follower.source.hint()
            await asyncio.sleep(0.06)
        assert follower.done == ["adopt 1"]
        assert caplog.text.count("sentinel is not believed") == 1
        assert "127.0.0.1:1" not in caplog.text
        # The others are followed as fast as ever, and so is this one when it is ours again.
        other = sentinels[place - 1]
        other.masters["alpha"] = Watched(B, 1, replicas=(A,))
        other.publish("+switch-master", f"alpha {A.host} {A.port} {B.host} {B.port}")
        await until(lambda: follower.primaries()["alpha"] == B)
        stolen.id, stolen.masters = f"s{place + 1}", ours
        stolen.masters["alpha"] = Watched(A, 2, replicas=(B,))
        stolen.publish("+switch-master", f"alpha {B.host} {B.port} {A.host} {A.port}")
        await until(lambda: follower.primaries()["alpha"] == A)
        assert "sentinel is believed now" in caplog.text


async def test_a_stranger_where_one_sentinel_is_configured() -> None:
    """The others are known by then."""
    sentinels = three()
    async with running(*sentinels), Follower([sentinels[0].node], refresh="100ms").at_work() as follower:
        await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
        sentinels[0].id, sentinels[0].masters = "x", dict(STOLEN)
        asked = sentinels[0].asked
        await until(lambda: sentinels[0].asked > asked + 3)
        assert follower.primaries() == {"alpha": A, "beta": C}
        assert [shard.replicas for shard in follower.adopted[-1].shards] == [(B,), (D,)]
        assert len(follower.adopted) == 1


async def test_who_begins_among_strangers_believes_most() -> None:
    sentinels, other = three(), FakeSentinel("x", dict(STOLEN))
    async with running(*sentinels), running(other):
        configured = [other.node, *(each.node for each in sentinels[:2])]
        async with Follower(configured, refresh="50ms").at_work() as follower:
            await until(lambda: follower.counters.refreshes.get("same", 0) > 3)
            assert [each.shards[0].primary for each in follower.adopted] == [A]
            assert sentinels[2].listeners == 1


class Primary:
    """A server that says of itself what it is asked for as a master of sentinels."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        self.asked += 1
        info = f"# Server\r\nrun_id:{self.run_id}\r\n".encode()
        writer.write(b"*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n" + b"$%d\r\n%b\r\n" % (len(info), info))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving(primary: Primary) -> AsyncIterator[Node]:
    server = await asyncio.start_server(primary.serve, "127.0.0.1", 0)
    async with server:
        yield Node("127.0.0.1", server.sockets[0].getsockname()[1])


async def test_the_primary_itself_denies_that_it_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only sentinel is a stranger by now: nothing of it counts as long as the primary is the server that it was."""
    monkeypatch.setattr(sentineltrust, "FORSAKEN", 0.2)
    primary = Primary("r1")
    async with serving(primary) as here:
        sentinel = FakeSentinel("s1", {"alpha": Watched(here, run_id="r1"), "beta": Watched(C)})
        async with running(sentinel), Follower([sentinel.node]).at_work() as follower:
            await until(lambda: follower.primaries() == {"alpha": here, "beta": C})
            sentinel.id, sentinel.masters = "x", {"alpha": Watched(A, 9), "beta": Watched(D, 9)}
            follower.source.hint()
            await until(lambda: follower.primaries()["beta"] == D)  # who is not there denies nothing
            asked = primary.asked
            await until(lambda: primary.asked > asked + 5)
            assert follower.primaries()["alpha"] == here
            primary.run_id = "r2"
            await until(lambda: follower.primaries()["alpha"] == A)


async def test_only_a_server_of_a_master_takes_over_while_the_primary_is_what_it_was() -> None:
    """Our own sentinels name a stranger: that is what they do once another's has told them of a higher epoch."""
    primary = Primary("r1")
    async with serving(primary) as here:
        sentinels = three(alpha=Watched(here, replicas=(B,), run_id="r1"))
        async with running(*sentinels), Follower([each.node for each in sentinels]).at_work() as follower:
            await until(lambda: all(each.listeners for each in sentinels) and follower.adopted)
            for each in sentinels:
                each.masters["alpha"] = Watched(X, 7, replicas=(here, B))
                each.publish("+switch-master", f"alpha {here.host} {here.port} {X.host} {X.port}")
            await until(lambda: primary.asked > 2)
            assert follower.primaries() == {"alpha": here}
            # A replica of its own does, whatever the primary says.
            sentinels[0].masters["alpha"] = Watched(B, 8, replicas=(here,))
            sentinels[0].publish("+switch-master", f"alpha {X.host} {X.port} {B.host} {B.port}")
            await until(lambda: follower.primaries() == {"alpha": B})
