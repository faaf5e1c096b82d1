"""The rule of belief against a model of Redis Cluster: owners that bump epochs, and nodes that hear of it late.

The model follows clusterUpdateSlotsConfigWith of Redis: a node that hears from an owner takes its slots for that
owner's where it knows a lower epoch, or where the owner known so far has said meanwhile that it does not have them.
"""

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.discovery.clustermap import ClusterMap, judge
from proxy.discovery.clusterview import ClusterMember, View
from proxy.sharding.topology import Node
from tests.unit.discovery.cluster_views import chart

PARTS = 6
"""The slots in so many equal parts, each with an owner."""
SPANS = [(number * 16384 // PARTS, (number + 1) * 16384 // PARTS - 1) for number in range(PARTS)]
NAMES = "ABCDabcd"
"""A to D begin as primaries, a to d as their replicas."""


class Peer:
    """A node, and what it believes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.epochs = {other: "ABCD".index(other.upper()) + 1 for other in NAMES}
        self.owners = [NAMES[part % 4] for part in range(PARTS)]
        self.unclaimed = [False] * PARTS

    def hear(self, other: "Peer") -> None:
        """A ping of ``other``, with its epoch and its own slots."""
        epoch = other.epochs[other.name]
        self.epochs[other.name] = epoch
        for part in range(PARTS):
            known = self.owners[part]
            if other.owners[part] == other.name:
                if known != other.name and (self.unclaimed[part] or self.epochs[known] < epoch):
                    self.owners[part] = other.name
                if self.owners[part] == other.name:
                    self.unclaimed[part] = False
            elif known == other.name and self.name != other.name:
                self.unclaimed[part] = True

    def view(self) -> View:
        members = {
            name: ClusterMember(name, Node(name, 7000), ("", name, 7000), "", epoch)
            for name, epoch in self.epochs.items()
        }
        claims = {
            name: (self.epochs[name], [SPANS[part] for part in range(PARTS) if self.owners[part] == name])
            for name in NAMES
        }
        return View(Node(self.name, 7000), self.name, members, chart(claims))


class Model:
    """The nodes, the truth, and who looks at them as ``proxy.discovery.cluster`` does."""

    def __init__(self) -> None:
        self.peers = {name: Peer(name) for name in NAMES}
        self.history = [[owner] for owner in self.peers["A"].owners]
        self.map = ClusterMap()
        self.seen = [0] * PARTS
        self.look("A")

    def _take(self, peer: Peer, parts: Sequence[int]) -> None:
        highest = max(other.epochs[other.name] for other in self.peers.values())
        holders = [other for other in self.peers.values() if other.epochs[other.name] == highest]
        if holders != [peer]:
            peer.epochs[peer.name] = highest + 1
        for part in parts:
            peer.owners[part] = peer.name
            peer.unclaimed[part] = False
            self.history[part].append(peer.name)

    def reshard(self, part: int, name: str) -> None:
        """The target is told first, then the source, both at once for everybody else."""
        source, target = self.peers[self.history[part][-1]], self.peers[name]
        if source is target:
            return
        target.hear(source)
        self._take(target, [part])
        source.hear(target)

    def fail_over(self, name: str) -> None:
        """The other node of the pair takes all over, from an owner that cannot be asked and has heard nothing."""
        parts = [part for part in range(PARTS) if self.history[part][-1] == name]
        if parts:
            self._take(self.peers[name.swapcase()], parts)

    def gossip(self, teller: str, listener: str) -> None:
        if teller != listener:
            self.peers[listener].hear(self.peers[teller])

    def settle(self) -> None:
        """Everybody hears everybody, often enough."""
        for _ in range(3):
            for teller in NAMES:
                for listener in NAMES:
                    self.gossip(teller, listener)

    def look(self, name: str) -> None:
        """As ``ClusterSource``; all can be asked."""
        views = [self.peers[name].view()]
        found = judge(self.map, views)
        nodes = [node.host for node in found.witnesses] + (list(NAMES) if found.doubted else [])
        views += [self.peers[host].view() for host in dict.fromkeys(nodes) if host != name]
        self.map = judge(self.map, views).map

    def owner(self, part: int) -> str:
        return next(segment[2] for segment in self.map.chart if segment[0] <= SPANS[part][0] <= segment[1])

    def check(self) -> None:
        """No part went back to who had it before the owner known so far."""
        for part in range(PARTS):
            before = self.seen[part]
            owner = self.owner(part)
            turns = [turn for turn, name in enumerate(self.history[part]) if name == owner and turn >= before]
            assert turns, f"part {part} went from {self.history[part][before]} back to {owner}"
            self.seen[part] = turns[0]


STEP = st.one_of(
    st.tuples(st.just("reshard"), st.integers(0, PARTS - 1), st.sampled_from("ABCD")),
    st.tuples(st.just("gossip"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("look"), st.sampled_from(NAMES)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(STEP, max_size=40), st.randoms(use_true_random=False))
def test_nothing_that_was_moved_is_believed_where_it_was(steps: list[tuple[str, ...]], chance: random.Random) -> None:
    model = Model()
    for what, *about in steps:
        getattr(model, what)(*about)
        model.check()
    model.settle()
    for name in chance.sample(NAMES, len(NAMES)):
        model.look(name)
        model.check()
    assert [model.owner(part) for part in range(PARTS)] == [names[-1] for names in model.history]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(STEP, st.tuples(st.just("fail_over"), st.sampled_from(NAMES))), max_size=40))
def test_what_all_agree_on_in_the_end_is_believed(steps: list[tuple[str, ...]]) -> None:
    model = Model()
    for what, *about in steps:
        getattr(model, what)(*about)
    model.settle()
    for name in NAMES:
        model.look(name)
    told = {tuple(peer.owners) for peer in model.peers.values()}
    if len(told) == 1:
        assert [model.owner(part) for part in range(PARTS)] == list(*told)
