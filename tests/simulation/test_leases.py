"""The life of connections that clients have for themselves, before servers that do as they are told. Virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from types import SimpleNamespace
from typing import cast

import hiredis
import pytest

from proxy.backends.dedicated_pool import OWN, Claim, Lease, Usage
from proxy.backends.settings import Place
from proxy.client.client import Client
from proxy.config import Config
from proxy.engine.sink import DISCARD
from proxy.features.tracking_client import Tracker
from proxy.resp import encode
from proxy.session.tracking_options import Tracking
from proxy.sharding.topology import Node, Shard, Topology, build_topology
from proxy.worker.service import Service
from tests.support.memory_wire import MemoryWire, Pace
from tests.support.virtual_loop import run, virtual_loop

ONE, TWO = Node("10.2.0.1", 6379), Node("10.2.0.2", 6379)
LIMIT = 3
ANNA, BEN = "anna@10.0.0.1", "anna@10.0.0.2"
REQUEST_TIMEOUT = 5.0
CLEAN = "id=1 addr=a:1 name= flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0 redir=-1 resp=2"
SOON = 0.01


def place(node: Node = ONE, *, primary: bool = True, db: int = 0) -> Place:
    return Place("shard-1", node, primary, 2, db, 0)


class _Far:
    """The far end of a connection."""

    def __init__(self, servers: "LeaseServers", wire: MemoryWire, node: Node) -> None:
        self._servers = servers
        self._reader = hiredis.Reader()
        self.node = node
        self.wire = wire
        self.seen: list[str] = []
        self.open = True
        wire.peer = self

    def receive(self, data: bytes) -> None:
        self._reader.feed(data)
        while (args := self._reader.gets()) is not False:
            assert isinstance(args, list)
            line = " ".join(arg.decode() for arg in args)
            self.seen.append(line)
            if (reply := self._servers.reply(line)) is not None:
                self.wire.send(reply)

    def lost(self) -> None:
        self.open = False


class LeaseServers:
    """The servers. ``state`` is what they say to CLIENT INFO; None: nothing."""

    def __init__(self) -> None:
        self.state: str | None = CLEAN
        self.refusing = False
        self.ends: list[_Far] = []
        self.heard: list[Lease | str] = []
        self.service: Service

    async def connect(self, protocol: asyncio.Protocol, host: str, port: int) -> MemoryWire:
        await asyncio.sleep(SOON / 10)
        if self.refusing:
            raise ConnectionRefusedError(111, "Connection refused")
        wire = MemoryWire(protocol, Pace(Random(0), smooth=True))
        self.ends.append(_Far(self, wire, Node(host, port)))
        protocol.connection_made(wire)
        return wire

    def reply(self, line: str) -> bytes | None:
        match line:
            case "CLIENT INFO":
                if self.state is None or self.state[0] in "-+":
                    return None if self.state is None else self.state.encode() + b"\r\n"
                return encode.bulk(self.state + "\n")
            case "CLIENT ID":
                return encode.integer(len(self.ends))
            case "PING":
                return encode.PONG
            case _:
                return encode.OK

    @property
    def standing(self) -> list[_Far]:
        """The connections of leases: those on which an id was asked for."""
        return [end for end in self.ends if end.open and "CLIENT ID" in end.seen]

    @property
    def usage(self) -> list[Usage]:
        return sorted(self.service.upstream.leases.usage(), key=lambda usage: usage.node.address)

    def ask(self, where: Place | None = None, holder: str = ANNA) -> Claim:
        """Ask; what comes is heard."""
        return self.service.upstream.leases.ask(where or place(), self.heard.append, holder)

    async def lend(self, where: Place | None = None, holder: str = ANNA) -> Lease:
        """A lease."""
        self.ask(where, holder)
        await asyncio.sleep(SOON)
        found = self.heard.pop()
        assert isinstance(found, Lease), found
        return found


Story = Callable[[LeaseServers], Awaitable[None]]


def told(wait: float = 0.0, limit: int = LIMIT, share: str = "100%") -> Callable[[Story], Callable[[], None]]:
    """Plays a story; who waits for a lease waits so many seconds, and one may have so many of them."""

    def decorate(story: Story) -> Callable[[], None]:
        async def play() -> None:
            loop = virtual_loop()
            faults: list[object] = []
            loop.set_exception_handler(lambda _, context: faults.append(context))
            config = Config.model_validate(
                {
                    "shards": [{"primary": ONE.address}],
                    "backend": {
                        "dedicated_connections": limit,
                        "dedicated_wait": f"{wait}s",
                        "dedicated_share": share,
                        "request_timeout": f"{REQUEST_TIMEOUT}s",
                    },
                }
            )
            servers = LeaseServers()
            loop.network = servers
            servers.service = Service(config, build_topology(config), clock=loop.time)
            await asyncio.sleep(SOON)
            await story(servers)
            await servers.service.close()
            await asyncio.sleep(SOON)
            assert not servers.standing
            assert not faults, faults

        def test() -> None:
            run(play())

        test.__name__ = story.__name__
        return test

    return decorate


@told()
async def test_one_that_is_idle_is_used_again(servers: LeaseServers) -> None:
    lease = await servers.lend()
    assert lease.client_id == len(servers.ends)
    servers.service.upstream.leases.give_back(lease, untouched=True)
    assert servers.usage == [Usage(ONE, 0, 1)]
    servers.ask()
    assert servers.heard == [lease]  # at once
    assert servers.usage == [Usage(ONE, 1, 0)]
    assert "CLIENT INFO" not in servers.standing[0].seen


@told()
async def test_its_state_is_checked_when_it_comes_back(servers: LeaseServers) -> None:
    lease = await servers.lend()
    servers.service.upstream.leases.give_back(lease)
    assert servers.usage == [Usage(ONE, 1, 0)]
    await asyncio.sleep(SOON)
    assert servers.usage == [Usage(ONE, 0, 1)]
    assert servers.standing[0].seen[-2:] == ["UNWATCH", "CLIENT INFO"]
    assert await servers.lend() is lease


@pytest.mark.parametrize(
    "state",
    [
        *(CLEAN.replace(*change) for change in (("flags=N", "flags=x"), ("db=0", "db=3"), ("flags=N", "flags=t"))),
        *(CLEAN.replace(*change) for change in ((" sub=0", " sub=1"), ("psub=0", "psub=1"), ("resp=2", "resp=3"))),
        *(CLEAN.replace(*change) for change in (("watch=0", "watch=1"), ("redir=-1", "redir=7"), ("ssub=0", "ssub=2"))),
        "-NOPERM this user has no permissions to run the 'client|info' command",
        "+QUEUED",
    ],
)
def test_one_that_is_not_clean_is_closed(state: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story(servers: LeaseServers) -> None:
        for _ in range(2):
            lease = await servers.lend()
            servers.state = state
            servers.service.upstream.leases.give_back(lease)
            await asyncio.sleep(SOON)
            assert not servers.standing
            assert servers.usage == []

    told()(story)()
    assert caplog.text.count("is not clean") == 1


@told()
async def test_fields_that_a_server_does_not_know_can_not_be_wrong(servers: LeaseServers) -> None:
    servers.state = "id=3 flags=N db=0 sub=0 psub=0 multi=-1 lib-name="
    servers.service.upstream.leases.give_back(await servers.lend())
    await asyncio.sleep(SOON)
    assert servers.usage == [Usage(ONE, 0, 1)]


@told()
async def test_what_a_connection_is_besides(servers: LeaseServers) -> None:
    for flags, where in (("U", place()), ("r", place(primary=False)), ("Ur", place(primary=False))):
        servers.state = CLEAN.replace("flags=N", f"flags={flags}")
        servers.service.upstream.leases.give_back(await servers.lend(where))
        await asyncio.sleep(SOON)
    assert servers.usage == [Usage(ONE, 0, 2)]


@told()
async def test_a_server_that_does_not_say_is_not_waited_for(servers: LeaseServers) -> None:
    servers.state = None
    servers.service.upstream.leases.give_back(await servers.lend())
    await asyncio.sleep(REQUEST_TIMEOUT - 1)
    assert servers.usage == [Usage(ONE, 1, 0)]
    await asyncio.sleep(3)
    assert servers.usage == []
    assert not servers.standing


@told()
async def test_one_with_a_reply_to_come_is_closed(servers: LeaseServers) -> None:
    lease = await servers.lend()
    lease.send(DISCARD, 0, encode.request(["BLPOP", "k", "0"]), 0.0)
    servers.service.upstream.leases.give_back(lease, untouched=True)
    await asyncio.sleep(SOON)
    assert servers.usage == []


@told()
async def test_the_limit(servers: LeaseServers) -> None:
    leases = [await servers.lend() for _ in range(LIMIT)]
    servers.ask()
    assert servers.heard == []  # a refusal is never heard before ask has returned
    await asyncio.sleep(SOON)
    assert servers.heard == [
        "ERR shard 'shard-1' (10.2.0.1:6379): all 3 connections that clients may have for themselves are in use "
        "(backend.dedicated_connections). The command was not executed"
    ]
    assert servers.service.counters.lease_refusals == 1
    other = await servers.lend(place(TWO))  # the limit is each server's own
    leases[0].drop()
    await servers.lend()
    assert servers.usage == [Usage(ONE, LIMIT, 0), Usage(TWO, 1, 0)]
    other.drop()
    assert servers.usage == [Usage(ONE, LIMIT, 0)]


@told()
async def test_an_idle_one_in_another_state_makes_room(servers: LeaseServers) -> None:
    leases = [await servers.lend() for _ in range(LIMIT)]
    servers.service.upstream.leases.give_back(leases[0], untouched=True)
    lease = await servers.lend(place(db=5))
    assert lease.place.db == 5
    assert not leases[0].standing
    assert servers.usage == [Usage(ONE, LIMIT, 0)]


@told(limit=10, share="80%")
async def test_one_holder_has_a_share_and_no_more(servers: LeaseServers) -> None:
    leases = [await servers.lend() for _ in range(8)]
    servers.ask()
    await asyncio.sleep(SOON)
    assert servers.heard.pop() == (
        "ERR shard 'shard-1' (10.2.0.1:6379): anna@10.0.0.1 has 8 of the 10 connections that clients may have for "
        "themselves, and may have no more (backend.dedicated_share). The command was not executed"
    )
    others = [await servers.lend(holder=BEN) for _ in range(2)]
    servers.ask(holder=BEN)
    await asyncio.sleep(SOON)
    assert "all 10 connections" in str(servers.heard.pop())
    servers.service.upstream.leases.give_back(leases.pop(), untouched=True)
    assert await servers.lend() not in others  # it has room in its share again
    for lease in leases:
        lease.drop()
    for _ in range(6):
        await servers.lend(holder=BEN)
    servers.ask(holder=BEN)
    await asyncio.sleep(SOON)
    assert "anna@10.0.0.2 has 8 of the 10" in str(servers.heard.pop())


@pytest.mark.parametrize(("limit", "share", "most"), [(1, "80%", 1), (2, "80%", 1), (3, "80%", 2), (3, "1%", 1)])
def test_a_share_is_at_least_one_and_not_all(limit: int, share: str, most: int) -> None:
    async def story(servers: LeaseServers) -> None:
        for _ in range(most):
            await servers.lend()
        servers.ask()
        await asyncio.sleep(SOON)
        assert isinstance(servers.heard.pop(), str)
        if limit > 1:
            await servers.lend(holder=BEN)

    told(limit=limit, share=share)(story)()


@told(limit=2)
async def test_the_proxy_itself_always_gets_one(servers: LeaseServers) -> None:
    held = [await servers.lend() for _ in range(2)]
    own = [await servers.lend(holder=OWN) for _ in range(16)]
    servers.ask(holder=OWN)
    await asyncio.sleep(SOON)
    assert isinstance(servers.heard.pop(), str)
    held.pop().drop()
    for lease in own:
        servers.service.upstream.leases.give_back(lease, untouched=True)
    assert sum(usage.used + usage.idle for usage in servers.usage) <= 2  # what was its own is not kept beside
    assert isinstance(await servers.lend(), Lease)


@told(wait=10.0, limit=4, share="50%")
async def test_who_has_its_share_does_not_keep_others_waiting(servers: LeaseServers) -> None:
    heard: list[str] = []
    ask = servers.service.upstream.leases.ask
    held = [await servers.lend() for _ in range(2)]
    ask(place(), lambda found: heard.append(f"anna {isinstance(found, Lease)}"), ANNA)
    await asyncio.sleep(SOON)
    assert heard == []
    others = [await servers.lend(holder=BEN) for _ in range(2)]  # though somebody waits
    ask(place(), lambda found: heard.append(f"ben {isinstance(found, Lease)}"), BEN)
    servers.service.upstream.leases.give_back(others[0], untouched=True)
    assert heard == ["ben True"]
    servers.service.upstream.leases.give_back(held[0], untouched=True)
    assert heard == ["ben True", "anna True"]
    ask(place(), lambda found: heard.append(f"anna {isinstance(found, Lease)}"), ANNA)
    held[1].drop()
    await asyncio.sleep(SOON)
    assert heard[2:] == ["anna True"]


@told(limit=2, share="50%")
async def test_a_server_that_can_not_be_reached_takes_nothing_of_a_share(servers: LeaseServers) -> None:
    servers.refusing = True
    for _ in range(3):
        servers.ask()
        await asyncio.sleep(REQUEST_TIMEOUT)
        assert str(servers.heard.pop()).startswith("SHARDDOWN")
    servers.refusing = False
    claim = servers.ask()
    claim.cancel()
    await asyncio.sleep(REQUEST_TIMEOUT)
    assert isinstance(await servers.lend(), Lease)


@told(wait=10.0)
async def test_who_waits_is_served_in_turn(servers: LeaseServers) -> None:
    leases = [await servers.lend() for _ in range(LIMIT)]
    heard: list[tuple[str, object]] = []
    ask = servers.service.upstream.leases.ask
    ask(place(), lambda found: heard.append(("first", found)), ANNA)
    gone = ask(place(), lambda found: heard.append(("gone", found)), ANNA)
    ask(place(db=5), lambda found: heard.append(("second", found)), ANNA)
    ask(place(), lambda found: heard.append(("third", found)), ANNA)
    gone.cancel()
    await asyncio.sleep(1)
    assert heard == []
    assert servers.usage == [Usage(ONE, LIMIT, 0)]
    servers.service.upstream.leases.give_back(leases[0], untouched=True)
    assert heard == [("first", leases[0])]
    servers.service.upstream.leases.give_back(leases[1], untouched=True)  # in another database: another connection
    await asyncio.sleep(SOON)
    assert heard[1][0] == "second"
    leases[2].drop()
    await asyncio.sleep(SOON)
    assert [name for name, _ in heard] == ["first", "second", "third"]
    assert servers.usage == [Usage(ONE, LIMIT, 0)]


@told(wait=2.0)
async def test_nobody_waits_for_longer(servers: LeaseServers) -> None:
    for _ in range(LIMIT):
        await servers.lend()
    servers.ask()
    await asyncio.sleep(1.9)
    assert servers.heard == []
    await asyncio.sleep(0.2)
    (said,) = servers.heard
    assert isinstance(said, str)
    assert "none became free within 2 s (backend.dedicated_wait)" in said


@told()
async def test_what_nobody_needs_is_closed(servers: LeaseServers) -> None:
    one, two = await servers.lend(), await servers.lend()
    for lease in (one, two):
        servers.service.upstream.leases.give_back(lease, untouched=True)
    for _ in range(10):  # the one that was used last is used again: the other one grows old
        await asyncio.sleep(10)
        servers.service.upstream.leases.give_back(await servers.lend(), untouched=True)
    assert servers.usage == [Usage(ONE, 0, 1)]
    await asyncio.sleep(70)
    assert servers.usage == []


@told()
async def test_one_that_is_lost(servers: LeaseServers) -> None:
    used, idle, checked = [await servers.lend() for _ in range(3)]
    lost: list[str] = []
    used.on_lost = lambda reason, sent: lost.append(reason)
    servers.service.upstream.leases.give_back(idle, untouched=True)
    servers.state = None
    servers.service.upstream.leases.give_back(checked)
    await asyncio.sleep(SOON)
    for end in servers.standing:
        end.wire.cut()
    await asyncio.sleep(SOON)
    assert len(lost) == 1
    assert servers.usage == []
    servers.state = CLEAN
    await servers.lend()


@told()
async def test_a_server_that_can_not_be_reached(servers: LeaseServers) -> None:
    servers.refusing = True
    servers.ask()
    await asyncio.sleep(SOON)
    (said,) = servers.heard
    assert isinstance(said, str)
    assert said.startswith("SHARDDOWN shard 'shard-1' (10.2.0.1:6379) can not be reached")
    assert servers.usage == []


@told()
async def test_one_that_is_not_wanted_any_more_when_it_is_there_is_kept(servers: LeaseServers) -> None:
    servers.ask().cancel()
    await asyncio.sleep(SOON)
    assert servers.heard == []
    assert servers.usage == [Usage(ONE, 0, 1)]


def moved(primary: Node, *replicas: Node) -> Topology:
    return Topology.static([Shard("shard-1", primary, replicas)], epoch=2)


@told(wait=100.0)
async def test_a_server_that_has_another_role_now(servers: LeaseServers) -> None:
    used, idle, checked = [await servers.lend() for _ in range(3)]
    lost: list[str] = []
    used.on_lost = lambda reason, sent: lost.append(reason)
    servers.service.upstream.leases.give_back(idle, untouched=True)
    servers.ask()
    await asyncio.sleep(SOON)
    servers.heard.clear()
    servers.ask()
    servers.service.upstream.leases.give_back(checked)
    servers.service.upstream.leases.adopt(moved(TWO, ONE))
    (said,) = servers.heard  # who waits is told to look again
    assert isinstance(said, str)
    assert said.startswith("SHARDDOWN ")
    await asyncio.sleep(SOON)
    assert servers.usage == [Usage(ONE, 2, 0)]  # the checked one is closed; the used ones are told by their server
    assert lost == []
    await asyncio.sleep(REQUEST_TIMEOUT + 2)
    assert len(lost) == 1
    assert servers.usage == []


@told()
async def test_a_role_that_comes_back(servers: LeaseServers) -> None:
    lease = await servers.lend()
    servers.service.upstream.leases.adopt(moved(TWO))
    servers.service.upstream.leases.adopt(moved(ONE))
    await asyncio.sleep(REQUEST_TIMEOUT * 2)
    assert lease.standing
    servers.service.upstream.leases.adopt(moved(TWO))
    servers.service.upstream.leases.give_back(lease, untouched=True)
    assert servers.usage == []


@told(wait=60)
async def test_who_waits_and_does_not_want_it_any_more_when_told_why(servers: LeaseServers) -> None:
    """As an errand does, which lets go of all it has before it says what came of it."""
    claims: list[Claim] = []

    def then(lease: Lease | str) -> None:
        servers.heard.append(lease)
        claims[0].cancel()

    leases = [await servers.lend() for _ in range(LIMIT)]
    claims.append(servers.service.upstream.leases.ask(place(), then, ANNA))
    servers.service.upstream.leases.adopt(moved(TWO))
    assert [str(found)[:9] for found in servers.heard] == ["SHARDDOWN"]
    for lease in leases:
        lease.drop()


def test_room_for_one_only() -> None:
    """Who is in the way is closed, and the one that takes its place is known."""

    async def story(servers: LeaseServers) -> None:
        servers.service.upstream.leases.give_back(await servers.lend(), untouched=True)
        lease = await servers.lend(place(db=5))
        assert servers.usage == [Usage(ONE, 1, 0)]
        servers.service.upstream.leases.give_back(lease, untouched=True)
        assert servers.usage == [Usage(ONE, 0, 1)]

    told(limit=1)(story)()


@pytest.mark.parametrize("first", ["lease", "end"])
def test_a_tracker_whose_connection_ends_as_its_companion_comes(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody keeps the lease then."""

    async def story(servers: LeaseServers) -> None:
        session = SimpleNamespace(protocol=2, db=0)
        client = SimpleNamespace(service=servers.service, session=session, number=1, holder=ANNA)
        tracker = Tracker(cast(Client, client), Tracking(redirect=2))
        task = asyncio.create_task(tracker.steps(place()))
        ask = servers.service.upstream.leases.ask

        def asked(where: Place, then: Callable[[Lease | str], None], holder: str) -> Claim:
            def came(lease: Lease | str) -> None:
                if first == "end":
                    task.cancel()
                then(lease)
                task.cancel()

            return ask(where, came, holder)

        monkeypatch.setattr(servers.service.upstream.leases, "ask", asked)
        await asyncio.sleep(SOON)
        assert task.cancelled()
        assert servers.usage == []

    told()(story)()
