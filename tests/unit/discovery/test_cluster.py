"""Following a cluster: who is asked and when, what is adopted, what is logged. The nodes are stand-ins."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from math import ceil

import hiredis
import pytest

from proxy.backends.handshake import Credentials
from proxy.config import load
from proxy.discovery import cluster, source
from proxy.discovery.cluster import ClusterSource
from proxy.errors import BackendError
from proxy.metrics import Counters
from proxy.sharding.topology import NOBODY, Node, Topology
from tests.unit.discovery.cluster_views import Claims

LOW, HIGH = (0, 8191), (8192, 16383)
START: Claims = {"A": (1, [LOW]), "B": (2, [HIGH])}
FOLLOWERS = {"a": "A", "b": "B"}
FAILED_OVER: Claims = {"A": (1, [LOW]), "b": (3, [HIGH])}
NAMES = "ABab"
OLD = hiredis.ReplyError("ERR Unknown subcommand or wrong number of arguments for 'SHARDS'. Try CLUSTER HELP.")
LONE = hiredis.ReplyError("ERR This instance has cluster support disabled")


def place(name: str) -> Node:
    return Node(f"10.0.0.{ord(name)}", 7000)


class FourNodes:
    """Four nodes, and what each says when it is asked."""

    def __init__(self) -> None:
        self.claims: dict[str, Claims] = dict.fromkeys(NAMES, START)
        self.followers: dict[str, dict[str, str]] = dict.fromkeys(NAMES, FOLLOWERS)
        self.failed: tuple[str, ...] = ()
        self.down: dict[str, Exception | None] = {}
        """By the name of a node: what asking it raises; None: it says nothing."""
        self.old = False
        self.asked: list[str] = []
        self.questions: list[str] = []
        self.ids: dict[str, str] = {}
        """Who has another id than its address has a name."""
        self.odd = ""
        self.adopted: list[Topology] = []
        self.counters = Counters()

    def tell(self, claims: Claims, followers: dict[str, str], names: str = NAMES) -> None:
        """From now on these nodes say that."""
        self.claims |= dict.fromkeys(names, claims)
        self.followers |= dict.fromkeys(names, followers)

    def become(self, name: str, identity: str, claims: Claims) -> None:
        """At the address of ``name`` there is another node from now on."""
        self.ids[name] = identity
        self.claims[name], self.followers[name] = claims, {}

    async def ask(
        self, node: Node, credentials: Credentials, commands: Sequence[Sequence[str]], timeout: float
    ) -> list[object]:
        name = chr(int(node.host.rpartition(".")[2]))
        self.asked.append(name)
        self.questions.append(commands[0][1])
        if name in self.down:
            error = self.down[name]
            if error is None:
                async with asyncio.timeout(timeout):
                    await asyncio.Event().wait()
            elif isinstance(error, hiredis.ReplyError):
                return [error] * len(commands)
            else:
                raise error
        assert [command[0] for command in commands] == ["CLUSTER", "CLUSTER", "CLUSTER"]
        return [
            OLD if self.old and commands[0][1] == "SHARDS" else [],
            self.lines(name),
            self.ids.get(name, name).encode(),
        ]

    def lines(self, asked: str) -> bytes:
        lines = [self.odd] * bool(self.odd)
        me = self.ids.get(asked, asked)
        for name, (epoch, spans) in self.claims[asked].items():
            slots = " ".join(f"{first}-{last}" for first, last in spans)
            where = place(asked if name == me else name)
            lines.append(f"{name} {where}@1 {self.flags(me, name)}master - 0 0 {epoch} connected {slots}")
        for name, of in self.followers[asked].items():
            lines.append(
                f"{name} {place(name)}@1 {self.flags(me, name)}slave {of} 0 0 {self.claims[asked][of][0]} connected"
            )
        return "\n".join(lines).encode()

    def flags(self, me: str, name: str) -> str:
        return "myself," * (me == name) + "fail," * (name in self.failed)

    @property
    def latest(self) -> Topology:
        return self.adopted[-1]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> FourNodes:
    made = FourNodes()
    monkeypatch.setattr(cluster, "ask", made.ask)
    monkeypatch.setattr(source, "SHORTEST", 0.01)
    monkeypatch.setattr(cluster, "_HEDGE", 0.02)
    caplog.set_level(logging.INFO, "proxy.discovery.cluster")
    return made


@contextlib.asynccontextmanager
async def following(nodes: FourNodes, seeds: str = "A", refresh: str = "1h") -> AsyncIterator[ClusterSource]:
    config = load(
        None,
        {
            "topology": {"kind": "cluster", "refresh": refresh},
            "cluster": {"seeds": [str(place(name)) for name in seeds]},
            "backend": {"connect_timeout": "100ms"},
        },
        {},
    )
    follower = ClusterSource(config, Credentials(), nodes.counters)
    task = asyncio.create_task(follower.run(nodes.adopted.append))
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.wait([task])


async def looked(nodes: FourNodes, times: int = 1) -> None:
    """Until the cluster was looked at so many times more."""
    wanted = sum(nodes.counters.refreshes.values()) + times
    async with asyncio.timeout(5):
        while sum(nodes.counters.refreshes.values()) < wanted:  # noqa: ASYNC110 - nobody tells of a look
            await asyncio.sleep(0.001)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


async def test_a_look_that_finds_nothing_new(nodes: FourNodes, caplog: pytest.LogCaptureFixture) -> None:
    async with following(nodes, refresh="10ms"):
        await looked(nodes)
        assert nodes.latest.shards[0].nodes == (place("A"), place("a"))
        assert (nodes.latest.cluster, nodes.latest.epoch) == (True, 1)
        assert len(lines(caplog)) == 2
        await looked(nodes, 20)
        assert len(nodes.adopted) == 1
        assert len(nodes.asked) <= 22
        assert set(nodes.asked) > {"A"}
        assert lines(caplog) == []
        assert nodes.counters.refreshes["changed"] == 1


async def test_a_failover(nodes: FourNodes, caplog: pytest.LogCaptureFixture) -> None:
    async with following(nodes) as follower:
        await looked(nodes)
        lines(caplog)
        nodes.tell(FAILED_OVER, {"a": "A", "B": "b"})
        follower.hint()
        await looked(nodes)
        assert [shard.primary for shard in nodes.latest.shards] == [place("A"), place("b")]
        assert [shard.name for shard in nodes.latest.shards] == ["shard-1", "shard-2"]
        assert nodes.latest.epoch == 2
        assert lines(caplog) == [f"failover shard=shard-2 primary={place('b')} was={place('B')} replicas={place('B')}"]


async def test_who_a_redirection_led_to_is_asked_first(nodes: FourNodes) -> None:
    async with following(nodes) as follower:
        await looked(nodes)
        for name in "bBaA":
            nodes.asked.clear()
            follower.hint(place(name))
            follower.hint()
            await looked(nodes)
            assert nodes.asked == [name]


async def test_a_thousand_hints_in_a_second_are_two_looks(nodes: FourNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "SHORTEST", 0.6)
    async with following(nodes) as follower:
        await looked(nodes)
        began = asyncio.get_running_loop().time()
        for _ in range(100):
            for _ in range(10):
                follower.hint(place("B"))
            await asyncio.sleep(0.01)
        # A busy machine may take longer than the second.
        most = 2 * ceil(asyncio.get_running_loop().time() - began)
        assert sum(nodes.counters.refreshes.values()) - 1 <= most
        assert len(nodes.asked) - 1 <= most


async def test_one_node_that_lags_is_not_believed(nodes: FourNodes, caplog: pytest.LogCaptureFixture) -> None:
    nodes.tell(FAILED_OVER, {"a": "A", "B": "b"})
    async with following(nodes) as follower:
        await looked(nodes)
        lines(caplog)
        nodes.tell(START, FOLLOWERS, "a")
        for _ in range(2):
            nodes.asked.clear()
            follower.hint(place("a"))
            await looked(nodes)
            assert Counter(nodes.asked) == Counter(NAMES)
        follower.hint(place("A"))
        await looked(nodes)
        assert len(nodes.adopted) == 1
        words = f"cluster node is behind others, and not all of its answer is believed address={place('a')}"
        assert lines(caplog) == [words]
        nodes.tell(FAILED_OVER, {"a": "A", "B": "b"}, "a")
        follower.hint(place("a"))
        await looked(nodes)
        assert lines(caplog) == []
        nodes.tell(START, FOLLOWERS, "a")
        follower.hint(place("a"))
        await looked(nodes)
        assert lines(caplog) == [words]


async def test_who_claims_slots_is_asked_too(nodes: FourNodes) -> None:
    async with following(nodes) as follower:
        await looked(nodes)
        nodes.asked.clear()
        nodes.tell(FAILED_OVER, {"a": "A", "B": "b"}, "Ab")
        follower.hint(place("A"))
        await looked(nodes)
        assert nodes.asked == ["A", "b"]
        assert nodes.latest.shards[1].primary == place("b")


async def test_a_cluster_that_was_set_up_anew(nodes: FourNodes) -> None:
    async with following(nodes) as follower:
        await looked(nodes)
        nodes.tell({"A": (0, [HIGH]), "B": (1, [LOW])}, FOLLOWERS)
        follower.hint()
        await looked(nodes)
        assert nodes.latest.ranges(nodes.latest.index("shard-1")) == [HIGH]


async def test_a_server_that_is_older(nodes: FourNodes) -> None:
    nodes.old = True
    async with following(nodes) as follower:
        await looked(nodes)
        follower.hint(place("A"))
        await looked(nodes)
        assert nodes.questions == ["SHARDS", "SLOTS", "SLOTS"]
        assert len(nodes.adopted) == 1


async def test_a_node_that_is_down(nodes: FourNodes, caplog: pytest.LogCaptureFixture) -> None:
    async with following(nodes, seeds="AB") as follower:
        await looked(nodes)
        lines(caplog)
        nodes.down["B"] = ConnectionRefusedError("refused")
        follower.hint(place("B"))
        await looked(nodes)
        assert lines(caplog) == [f"cluster node can not be asked address={place('B')} reason='refused'"]
        nodes.asked.clear()
        for _ in range(10):
            follower.hint(place("B"))
            await looked(nodes)
        assert "B" not in nodes.asked
        assert lines(caplog) == []
        del nodes.down["B"]
        nodes.down |= {name: OSError("gone") for name in "Aab"}
        follower.hint()
        await looked(nodes)
        assert lines(caplog)[-1] == f"cluster node answers again address={place('B')}"


async def test_a_node_that_is_silent_costs_little(nodes: FourNodes) -> None:
    async with following(nodes) as follower:
        await looked(nodes)
        nodes.down["B"] = None
        nodes.asked.clear()
        follower.hint(place("B"))
        await looked(nodes)
        assert nodes.asked[0] == "B"
        assert len(nodes.asked) == 2


async def test_nobody_answers(nodes: FourNodes, caplog: pytest.LogCaptureFixture) -> None:
    nodes.down = {"A": TimeoutError(), "B": BackendError("the server refuses AUTH")}
    async with following(nodes, seeds="AB"):
        await looked(nodes, 3)
        assert sorted(lines(caplog)) == [
            f"cluster node can not be asked address={place('A')} reason='no answer within 0.1 s'",
            f"cluster node can not be asked address={place('B')} reason='the server refuses AUTH'",
            "no node of the cluster can be asked: check cluster.seeds and the network",
        ]
        assert nodes.adopted == []
        nodes.down.clear()
        while not nodes.adopted:
            await looked(nodes)
        assert "the cluster can be asked again" in "".join(lines(caplog))
        assert set(nodes.counters.refreshes) == {"failed", "changed"}


async def test_seeds_are_asked_when_nobody_else_answers(nodes: FourNodes) -> None:
    async with following(nodes, seeds="Z") as follower:
        nodes.claims["Z"] = {"Z": (0, [])}
        nodes.followers["Z"] = {}
        await looked(nodes)
        nodes.tell(START, FOLLOWERS, "Z")
        nodes.claims["Z"] = {**START, "Z": (0, [])}
        while not nodes.adopted:
            await looked(nodes)
        assert len(nodes.latest.shards) == 2
        nodes.down |= {name: OSError("gone") for name in NAMES}
        nodes.claims["Z"] = {"Z": (9, [(0, 16383)])}
        nodes.followers["Z"] = {}
        follower.hint()
        await looked(nodes)
        assert [shard.primary for shard in nodes.latest.shards] == [place("Z")]


async def test_an_incomplete_cluster_is_looked_at_until_it_is_complete(
    nodes: FourNodes, caplog: pytest.LogCaptureFixture
) -> None:
    nodes.tell({"A": (1, [(0, 99)]), "B": (2, [HIGH])}, FOLLOWERS)
    async with following(nodes):
        await looked(nodes, 3)
        assert nodes.latest.ranges(NOBODY) == [(100, 8191)]
        assert len(nodes.adopted) == 1
        assert lines(caplog)[2:] == ["the cluster is incomplete: no node that can be reached serves the slots 100-8191"]
        nodes.tell(START, FOLLOWERS)
        while len(nodes.adopted) == 1:
            await looked(nodes)
        assert lines(caplog) == ["the cluster is complete again: every slot is served"]
        assert nodes.latest.whole


async def test_a_primary_that_failed_is_looked_at_until_it_is_replaced(nodes: FourNodes) -> None:
    async with following(nodes) as follower:
        await looked(nodes)
        nodes.failed = ("B",)
        follower.hint(place("A"))
        await looked(nodes, 5)
        nodes.tell(FAILED_OVER, {"a": "A"})
        while len(nodes.adopted) == 1:
            await looked(nodes)
        await asyncio.sleep(0.1)
        looks = sum(nodes.counters.refreshes.values())
        await asyncio.sleep(0.1)
        assert sum(nodes.counters.refreshes.values()) == looks


async def test_a_replica_that_is_missing_is_looked_for_for_a_while(
    nodes: FourNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.failed = ("b",)
    monkeypatch.setattr(cluster, "_EAGER", 0.2)
    async with following(nodes):
        await looked(nodes, 5)
        await asyncio.sleep(0.3)
        looks = sum(nodes.counters.refreshes.values())
        await asyncio.sleep(0.1)
        assert sum(nodes.counters.refreshes.values()) == looks
        assert len(nodes.adopted) == 1


async def test_a_server_that_is_no_node(nodes: FourNodes, caplog: pytest.LogCaptureFixture) -> None:
    nodes.down = {"A": LONE}
    async with following(nodes):
        await looked(nodes, 3)
        assert lines(caplog) == [
            f"{place('A')} is not a node of a cluster: it is not in cluster mode. Start it with cluster-enabled yes, "
            'or name it as a static shard (topology.kind = "static", or --static)',
            "no node of the cluster can be asked: check cluster.seeds and the network",
        ]


async def test_a_fault_does_not_end_the_search(
    nodes: FourNodes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    with monkeypatch.context() as broken:
        broken.setattr(cluster, "judge", fail)
        async with following(nodes):
            await asyncio.sleep(0.05)
            assert "can not be used" in lines(caplog)[0]
            broken.undo()
            monkeypatch.setattr(cluster, "ask", nodes.ask)
            await looked(nodes)
            assert len(nodes.adopted) == 1


ALIEN: Claims = {"Z": (50, [(0, 16383)])}


@pytest.mark.parametrize("name", "aAbB")
async def test_a_stranger_at_the_address_of_a_member(
    nodes: FourNodes, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Also if that is the only seed, and a redirection led there."""
    async with following(nodes, seeds=name) as follower:
        await looked(nodes)
        lines(caplog)
        nodes.become(name, "Z", ALIEN)
        for _ in range(5):
            follower.hint(place(name))
            await looked(nodes)
        assert len(nodes.adopted) == 1
        words = f"cluster node is not believed: {place(name)} is not the node that the cluster has at this address"
        assert [line for line in lines(caplog) if "not believed" in line] == [
            f"{words}: its id Z is unknown to the cluster"
        ]
        # It is asked no more while others answer.
        nodes.asked.clear()
        for _ in range(3):
            follower.hint()
            await looked(nodes)
        assert name not in nodes.asked
        # It joins: then it is a node as any other.
        joined = {**START, "Z": (0, [])}
        nodes.tell(joined, FOLLOWERS, "".join(set(NAMES) - {name}))
        nodes.claims[name] = joined
        follower.hint()
        await looked(nodes)
        assert follower.stranger(place(name), "Z") == ""
        assert [line for line in lines(caplog) if "known member now" in line]


async def test_nobody_is_asked_who_is_not_known(nodes: FourNodes) -> None:
    async with following(nodes) as follower:
        await looked(nodes)
        nodes.claims["Z"], nodes.followers["Z"] = ALIEN, {}
        nodes.asked.clear()
        for _ in range(3):
            follower.hint(place("Z"))
            await looked(nodes)
        assert "Z" not in nodes.asked
        assert follower.member(place("Z")) is None
        assert follower.member(place("A")) == place("A")
        assert len(nodes.adopted) == 1


async def test_seeds_are_not_believed_while_a_member_answers(nodes: FourNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_FORSAKEN", 0.2)
    async with following(nodes, seeds="ZA") as follower:
        nodes.claims["Z"], nodes.followers["Z"] = {"Z": (0, [])}, {}
        await looked(nodes)
        assert [shard.primary for shard in nodes.latest.shards] == [place("A"), place("B")]
        nodes.claims["Z"] = ALIEN
        nodes.down |= {name: OSError("gone") for name in "ABa"}
        for _ in range(30):
            follower.hint()
            await looked(nodes)
            await asyncio.sleep(0.01)
        assert len(nodes.adopted) == 1


async def test_members_that_are_out_of_reach_for_a_moment_are_not_given_up(
    nodes: FourNodes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster, "_FORSAKEN", 0.3)
    async with following(nodes, seeds="ZA") as follower:
        nodes.claims["Z"], nodes.followers["Z"] = {"Z": (0, [])}, {}
        await looked(nodes)
        nodes.claims["Z"] = ALIEN
        for _ in range(3):
            nodes.down |= {name: OSError("gone") for name in NAMES}
            follower.hint()
            await looked(nodes, 3)
            nodes.down.clear()
            await looked(nodes)
            assert len(nodes.adopted) == 1
        nodes.down |= {name: OSError("gone") for name in NAMES}
        follower.hint()
        while len(nodes.adopted) == 1:
            await looked(nodes)
        assert [shard.primary for shard in nodes.latest.shards] == [place("Z")]
        assert "".join(lines(caplog)).count("no member of the cluster answers any more") == 1
        assert follower.stranger(place("A"), "A") != ""


@pytest.mark.parametrize("seeds", ["ZAB", "AZB", "ZA", "AZ"])
async def test_a_stranger_among_the_seeds_at_the_start(
    nodes: FourNodes, caplog: pytest.LogCaptureFixture, seeds: str
) -> None:
    nodes.claims["Z"], nodes.followers["Z"] = ALIEN, {}
    async with following(nodes, seeds=seeds, refresh="10ms"):
        await looked(nodes, 5)
        assert [shard.primary for shard in nodes.latest.shards] == [place("A"), place("B")]
        assert len(nodes.adopted) == 1
        assert len([line for line in lines(caplog) if "the seeds do not belong to one cluster" in line]) == 1


async def test_an_empty_node_among_the_seeds_is_no_cluster(nodes: FourNodes) -> None:
    """The others come later."""
    nodes.claims["Z"], nodes.followers["Z"] = {"Z": (0, [])}, {}
    nodes.down |= {name: OSError("gone") for name in NAMES}
    async with following(nodes, seeds="ZA"):
        await looked(nodes, 2)
        assert nodes.adopted == []
        nodes.down.clear()
        while not nodes.adopted:
            await looked(nodes)
        assert [shard.primary for shard in nodes.latest.shards] == [place("A"), place("B")]


async def test_odd_parts_are_said_once(nodes: FourNodes, caplog: pytest.LogCaptureFixture) -> None:
    nodes.odd = "cccc 10.0.0.9:7000@1 slave B 0 0 x connected"
    async with following(nodes, refresh="10ms") as follower:
        await looked(nodes, 10)
        assert len(nodes.adopted) == 1
        follower.hint()
        await looked(nodes, 3)
        told = [line for line in lines(caplog) if "skipped" in line]
        assert told
        assert len(told) == len(set(told)) == len({line.split()[6] for line in told})


def test_a_node_that_does_not_say_its_id_is_taken_for_what_it_should_be(caplog: pytest.LogCaptureFixture) -> None:
    config = load(None, {"topology": {"kind": "cluster"}, "cluster": {"seeds": "10.0.0.1:7000"}}, {})
    follower = ClusterSource(config, Credentials(), Counters())
    for name in "AAB":
        assert follower.stranger(place(name), "") == ""
    assert len(caplog.records) == 1
