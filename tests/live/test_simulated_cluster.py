"""The simulated cluster answers as real ones do, in each state of a slot that moves, and says the same of itself."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import hiredis
import pytest

from proxy.devservers.cluster import LocalCluster, start_cluster
from proxy.devservers.servers import ServerBinary
from proxy.discovery.clusterview import NODES, OLDER, SHARDS, View, read
from proxy.sharding.slots import key_slot
from proxy.sharding.topology import Node
from tests.support.memory_wire import MemoryWire, Pace
from tests.support.processes import eventually
from tests.support.simulated_cluster import SimulatedCluster
from tests.support.simulated_node import ClusterNode, Group
from tests.support.site import shard_tags
from tests.support.virtual_loop import run
from tests.support.wire import Wire, decode, pipeline

pytestmark = pytest.mark.live

TAG = shard_tags(3)[0]
SLOT = key_slot(TAG.encode())
ONE, TWO, NONE, OTHER = f"{{{TAG}}}1", f"{{{TAG}}}2", f"{{{TAG}}}none", f"{{{shard_tags(3)[1]}}}1"

Command = tuple[str, ...]
Told = dict[str, list[object]]
"""What each node answered; addresses and ids by the nodes' letters."""

QUESTIONS: Sequence[tuple[str, Sequence[Command]]] = (
    ("A", [("GET", ONE), ("GET", TWO), ("GET", NONE), ("GET", OTHER)]),
    ("A", [("MGET", ONE, TWO), ("MGET", ONE, NONE), ("MGET", NONE, TWO), ("MGET", ONE, OTHER), ("DEL", NONE)]),
    ("A", [("ASKING",), ("GET", ONE), ("ASKING",), ("GET", TWO), ("EXISTS", ONE, TWO)]),
    ("B", [("GET", ONE), ("GET", TWO), ("GET", NONE), ("MGET", ONE, TWO), ("DEL", NONE), ("SET", NONE, "x")]),
    ("B", [("ASKING",), ("GET", ONE), ("ASKING",), ("GET", TWO), ("GET", TWO), ("ASKING",), ("DEL", NONE)]),
    ("B", [("ASKING",), ("MGET", ONE, TWO), ("ASKING",), ("MGET", TWO, NONE), ("ASKING",), ("PING",), ("GET", TWO)]),
    ("R", [("GET", ONE), ("READONLY",), ("GET", ONE), ("SET", ONE, "x"), ("GET", OTHER)]),
    ("R", [("READONLY",), ("MGET", ONE, NONE), ("MGET", NONE, TWO), ("GET", NONE), ("READWRITE",), ("GET", ONE)]),
    ("C", [("GET", ONE), ("ASKING",), ("GET", ONE)]),
    ("A", [("SELECT", "0")]),
)


@dataclass(frozen=True, slots=True)
class Real:
    """A cluster of processes: A, B and C are primaries, R is A's replica."""

    cluster: LocalCluster

    @property
    def _nodes(self) -> dict[str, str]:
        a, b, c, r = self.cluster.nodes[:4]
        return {"A": a.address, "B": b.address, "C": c.address, "R": r.address}

    def ask(self, name: str, commands: Sequence[Command]) -> list[object]:
        """The replies, on a connection of their own."""
        with Wire(self._nodes[name]) as wire:
            wire.send(pipeline(*commands))
            return [decode(reply) for reply in wire.replies(len(commands))]

    def place(self, name: str) -> Node:
        host, _, port = self._nodes[name].rpartition(":")
        return Node(host, int(port))

    def setslot(self, name: str, *words: str) -> None:
        """CLUSTER SETSLOT; the last word may be a node's letter."""
        index = "ABC".find(words[-1])
        identity = (self.cluster.nodes[index].id,) if index >= 0 else (words[-1],)
        assert self.ask(name, [("CLUSTER", "SETSLOT", str(SLOT), *words[:-1], *identity)]) == [b"OK"]

    def move_key(self, key: str) -> None:
        """MIGRATE from A to B."""
        place = self.place("B")
        assert self.ask("A", [("MIGRATE", place.host, str(place.port), key, "0", "1000")]) == [b"OK"]

    def letters(self, text: str) -> str:
        """Addresses by the nodes' letters."""
        for name, address in self._nodes.items():
            text = text.replace(address, name)
        return text


class Simulated:
    """The same, simulated; it lives in a virtual loop."""

    def __init__(self, told: bool) -> None:
        self.cluster = SimulatedCluster(Random(1), 3, 1, 0.0, lambda: Pace(Random(1), smooth=True))
        for group in self.cluster.groups:
            group.told = told
        a, b, c = (group.primary for group in self.cluster.groups)
        self.nodes: dict[str, ClusterNode] = {"A": a, "B": b, "C": c, "R": self.cluster.groups[0].nodes[1]}

    async def ask(self, name: str, commands: Sequence[Command]) -> list[object]:
        """The replies, on a connection of their own."""
        reader = hiredis.Reader()
        wire = MemoryWire(_Listener(reader), Pace(Random(1), smooth=True))
        self.nodes[name].accept(wire)
        wire.write(pipeline(*commands))
        await asyncio.sleep(1.0)
        replies = [reader.gets() for _ in commands]
        assert reader.gets() is False
        return replies

    def place(self, name: str) -> Node:
        return Node(*self.nodes[name].address)

    def letters(self, text: str) -> str:
        """Addresses by the nodes' letters."""
        for name, node in self.nodes.items():
            text = text.replace(f"{node.address[0]}:{node.address[1]}", name)
        return text


class _Listener(asyncio.Protocol):
    def __init__(self, reader: hiredis.Reader) -> None:
        self._reader = reader

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)


@pytest.fixture(scope="module")
def real(binary: ServerBinary) -> Iterator[Real]:
    with start_cluster(3, 1, binary=binary) as cluster:
        yield Real(cluster)


def plain(replies: Sequence[object], letters: Callable[[str], str]) -> list[object]:
    """Errors as text, with letters for addresses."""
    return [letters(f"error: {reply}") if isinstance(reply, Exception) else reply for reply in replies]


STATES = ("stable", "migrating", "moved at the target", "moved", "moved at the source first")


def really(real: Real, state: str) -> None:
    """Bring the slot into a state; A has had the keys ONE and TWO, and TWO has gone to B if that is on its way."""
    real.ask("A", [("MSET", ONE, "1", TWO, "2")])
    if state == "stable":
        return
    real.setslot("B", "IMPORTING", "A")
    real.setslot("A", "MIGRATING", "B")
    real.move_key(TWO)
    if state == "migrating":
        return
    real.move_key(ONE)
    for name in {"moved at the target": "B", "moved": "BA", "moved at the source first": "A"}[state]:
        real.setslot(name, "NODE", "B")


def give_back(real: Real, state: str) -> None:
    """The slot is A's again, without keys, and all know that."""
    real.ask("B", [("ASKING",), ("DEL", ONE), ("ASKING",), ("DEL", TWO), ("ASKING",), ("DEL", NONE)])
    real.ask("A", [("DEL", ONE), ("DEL", TWO), ("DEL", NONE)])
    if state in STATES[:2]:
        for name in "AB":
            real.ask(name, [("CLUSTER", "SETSLOT", str(SLOT), "STABLE")])
    else:
        # Moved to the end and back.
        for step in ("B NODE B", "A NODE B", "A IMPORTING B", "B MIGRATING A", "A NODE A", "B NODE A", "C NODE A"):
            name, *words = step.split()
            real.setslot(name, *words)
    assert eventually(lambda: all(is_given_back(real) for _ in range(5)))


def is_given_back(real: Real) -> bool:
    """Whether all know that the slot is A's. News of its moves may still be on their way: A's epoch is made to win."""
    moved = [f"error: MOVED {SLOT} A"]
    if all(plain(real.ask(name, [("GET", ONE)]), real.letters) == moved for name in "RBC"):
        time.sleep(0.05)
        return real.ask("A", [("GET", ONE)]) == [None]
    real.ask("A", [("CLUSTER", "BUMPEPOCH")])
    identity = real.cluster.nodes[0].id
    for name in "ABC":
        real.ask(name, [("CLUSTER", "SETSLOT", str(SLOT), "NODE", identity)])
    return False


def in_simulation(simulated: Simulated, state: str) -> None:
    """The same."""
    a, b, _ = simulated.cluster.groups
    a.data[ONE.encode()], a.data[TWO.encode()] = b"1", b"2"
    if state == "stable":
        return
    b.coming[SLOT], a.leaving[SLOT] = a, b
    keys = [TWO] if state == "migrating" else [ONE, TWO]
    for key in keys:
        b.data[key.encode()] = a.data.pop(key.encode())

    def know(group: Group) -> None:
        group.primary.view.give(SLOT, b, 1)
        (b.coming if group is b else a.leaving).pop(SLOT)

    for group in {"migrating": (), "moved at the target": (b,), "moved": (b, a)}.get(state, (a,)):
        know(group)


@pytest.mark.parametrize("state", STATES)
def test_what_is_answered(real: Real, state: str) -> None:
    really(real, state)
    try:
        # Others hear of a move when they do: they are asked only while they have nothing to hear of.
        names = {"moved at the target": "B", "moved": "AB", "moved at the source first": "AB"}.get(state, "ABCR")
        asked = [question for question in QUESTIONS if question[0] in names]
        answers = [(name, plain(real.ask(name, commands), real.letters)) for name, commands in asked]

        async def simulate() -> list[tuple[str, list[object]]]:
            simulated = Simulated(real.cluster.binary.kind == "valkey")
            in_simulation(simulated, state)
            return [(name, plain(await simulated.ask(name, commands), simulated.letters)) for name, commands in asked]

        assert run(simulate()) == answers
    finally:
        give_back(real, state)


def shape(view: View, letters: Callable[[str], str]) -> object:
    """What a view says, but for ids and epochs."""
    names = {identity: letters(str(member.node)) for identity, member in view.members.items()} | {"": ""}
    members = {
        names[member.id]: (names[member.primary], member.failed, member.online) for member in view.members.values()
    }
    return members, [(first, last, names[owner]) for first, last, owner, _ in view.chart], names[view.me]


@pytest.mark.parametrize("state", STATES[:2])
@pytest.mark.parametrize("question", [SHARDS, OLDER], ids=["shards", "slots"])
def test_what_is_said_of_the_cluster(real: Real, state: str, question: Command) -> None:
    really(real, state)
    try:

        async def simulate(name: str) -> tuple[object, list[object]]:
            simulated = Simulated(True)
            in_simulation(simulated, state)
            return views(name, simulated.place(name), await simulated.ask(name, asked), simulated.letters)

        def views(
            name: str, place: Node, replies: list[object], letters: Callable[[str], str]
        ) -> tuple[object, list[object]]:
            text = replies[1]
            assert isinstance(text, bytes)
            moving = sorted(re.findall(r"\[(\d+)-([<>])-", text.decode()))
            return shape(read(place, replies[0], text, {}), letters), [moving, replies[2:]]

        asked = [question, NODES, ("ROLE",)]
        for name in "AB":
            replies = real.ask(name, asked)
            expected = views(name, real.place(name), replies[:2], real.letters)
            found = run(simulate(name))
            others = [letter for letter in expected[0][0] if letter not in "ABCR"]  # type: ignore[index]
            assert len(others) == 2
            assert found[0][1:] == expected[0][1:]  # type: ignore[index]
            assert found[1][0] == expected[1][0]
    finally:
        give_back(real, state)
