"""Which server of a shard is read from, by policy, by the state of connections and by what is known of the servers."""

import math
from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from proxy.backends.pool import Pool
from proxy.backends.routes import RouteBook, Routes
from proxy.backends.settings import Place
from proxy.backends.shared import Backend
from proxy.sharding.topology import Node, Shard, Topology

P, A, B, C = (Node(name, 6379) for name in "PABC")
NODES = {node.host: node for node in (P, A, B, C)}
MANY = 24
"""Clients, that they are dealt out over all servers."""


class FakeBackend:
    """A connection in a state of a test's own: "ready", "held" or "failing"."""

    def __init__(self, place: Place, state: str) -> None:
        self.place = place
        self.ready = state == "ready"
        self.usable = state != "failing"

    def start(self) -> None:
        """Nothing to connect to."""

    def down_error(self) -> bytes:
        return b"-down %b\r\n" % self.place.node.host.encode()


class FakePool:
    """Connections, all ready but those whose ``states`` say otherwise."""

    def __init__(self, states: Mapping[str, str]) -> None:
        self._states = states
        self._made: dict[Place, FakeBackend] = {}

    def connection(
        self, shard: Shard, node: Node, protocol: int, db: int, index: int, owner: int = 0, user: str = ""
    ) -> FakeBackend:
        place = Place(shard.name, node, node == shard.primary, protocol, db, index, owner, user)
        return self._made.setdefault(place, FakeBackend(place, self._states.get(node.host, "ready")))


class FakeFitness:
    """All fit but those that ``reasons`` are against; round trips in ms."""

    def __init__(self, reasons: Mapping[str, str], spares: Sequence[str], trips: Mapping[str, float]) -> None:
        self._reasons = reasons
        self._spares = spares
        self._trips = trips

    def reason(self, node: Node) -> str:
        return self._reasons.get(node.host, "")

    def spare(self, node: Node) -> bool:
        return node.host not in self._reasons or node.host in self._spares

    def distance(self, node: Node) -> float:
        return self._trips.get(node.host, math.inf) / 1000


def book(
    *,
    states: Mapping[str, str] | None = None,
    unfit: str = "",
    spares: str = "",
    trips: Mapping[str, float] | None = None,
    replicas: Sequence[Node] = (A, B, C),
    keep: bool = False,
) -> RouteBook:
    """One shard of P and ``replicas``; of letters in ``unfit`` the servers are unfit."""
    topology = Topology.static([Shard("shard-1", P, tuple(replicas))])
    fitness = FakeFitness({name: f"{name} is unfit" for name in unfit}, spares, trips or {})
    return RouteBook(topology, cast(Pool, FakePool(states or {})), 1, fitness, keep_to_primary=keep)


def readers(found: RouteBook, policy: str) -> str:
    """The names of the servers that many clients read from, or "-" where there is none."""
    backends = [found.routes(2, 0, policy, number).readers[0] for number in range(MANY)]
    return "".join(sorted({backend.place.node.host if backend is not None else "-" for backend in backends}))


@pytest.mark.parametrize(
    ("policy", "states", "unfit", "wanted"),
    [
        ("primary", {}, "", "P"),
        ("primary", {}, "P", "P"),
        ("prefer_replica", {}, "", "ABC"),
        ("prefer_replica", {}, "A", "BC"),
        ("prefer_replica", {"B": "held"}, "A", "C"),
        ("prefer_replica", {}, "ABC", "P"),
        ("prefer_replica", {"A": "held", "B": "held", "C": "failing"}, "", "P"),
        ("prefer_replica", {"P": "held"}, "ABC", "P"),
        ("prefer_replica", {"P": "failing"}, "ABC", "-"),
        ("replica", {}, "AB", "C"),
        ("replica", {}, "ABC", "-"),
        ("replica", {"B": "held"}, "AC", "B"),
        ("replica", {"A": "failing", "B": "held", "C": "failing"}, "", "B"),
        ("any", {}, "", "ABCP"),
        ("any", {}, "AP", "BC"),
        ("any", {"P": "held"}, "", "ABC"),
        ("any", {}, "ABC", "P"),
        ("any", {"P": "held"}, "ABC", "P"),
        ("any", {"P": "failing"}, "ABC", "-"),
        ("any", {}, "ABCP", "P"),
        ("nearest", {}, "", "ABCP"),
        ("nearest", {}, "AP", "BC"),
        ("nearest", {"P": "held"}, "ABC", "P"),
    ],
)
def test_who_is_read_from(policy: str, states: dict[str, str], unfit: str, wanted: str) -> None:
    assert readers(book(states=states, unfit=unfit), policy) == wanted


@pytest.mark.parametrize(
    ("trips", "unfit", "states", "wanted"),
    [
        ({"P": 5, "A": 1, "B": 9, "C": 4}, "", {}, "A"),
        ({"P": 1, "A": 2, "B": 9, "C": 4}, "", {}, "P"),
        ({"P": 5, "A": 1, "B": 9, "C": 4}, "A", {}, "C"),
        ({"P": 5, "A": 1, "B": 9, "C": 4}, "", {"A": "held"}, "C"),
        ({"P": 5, "A": 1, "B": 9, "C": 4}, "AC", {}, "P"),
        ({"P": 10, "A": 11, "B": 12.5, "C": 11.9}, "", {}, "ACP"),  # less than 20 % is no difference
        ({"P": 0.1, "A": 0.29, "B": 0.31, "C": 0.2}, "", {}, "ACP"),  # nor is less than 0.2 ms
        ({"P": 5, "A": 1}, "", {}, "A"),  # the others have not answered yet
        ({"B": 5}, "", {}, "B"),
        ({"P": 1, "A": 2}, "ABC", {}, "P"),
    ],
)
def test_the_nearest(trips: dict[str, float], unfit: str, states: dict[str, str], wanted: str) -> None:
    assert readers(book(trips=trips, unfit=unfit, states=states), "nearest") == wanted


def test_where_only_replicas_may_answer_one_whose_link_is_down_is_better_than_an_error() -> None:
    assert readers(book(unfit="ABC", spares="B"), "replica") == "B"
    assert readers(book(unfit="ABC", spares="B"), "prefer_replica") == "P"
    assert readers(book(unfit="AB", spares="B"), "replica") == "C"
    assert readers(book(unfit="ABC", spares="B", states={"A": "held"}), "replica") == "B"


def refusal(found: RouteBook) -> bytes:
    return found.routes(2, 0, "replica", 0).refusal(0, read=True)


def test_why_nobody_answers() -> None:
    assert refusal(book(unfit="ABC")) == (
        b"-SHARDDOWN shard 'shard-1' has no replica that is fit for reads and read_from is \"replica\": "
        b"A:6379: A is unfit. Nothing was executed\r\n"
    )
    assert refusal(book(states=dict.fromkeys("ABC", "failing"))) == b"-down A\r\n"
    assert b"has no replica to read from" in refusal(book(replicas=()))


def at(found: RouteBook, policy: str, node: Node, number: int = 0) -> Backend:
    """The connection to ``node`` of the client of this number."""
    routes = found.routes(2, 0, policy, number)
    backends = [*routes.primaries, *routes.replicas(0)]
    return next(backend for backend in backends if backend.place.node == node)


def elsewhere(found: RouteBook, policy: str, node: Node) -> str:
    return found.elsewhere(at(found, policy, node)).place.node.host


def test_where_reads_go_that_went_elsewhere() -> None:
    found = book(states={"A": "held"})
    readers(found, "prefer_replica")
    assert elsewhere(found, "prefer_replica", A) in "BC"
    found = book(unfit="ABC")
    readers(found, "prefer_replica")
    assert elsewhere(found, "prefer_replica", A) == "P"


def test_reads_that_went_to_the_primary_stay_there_if_they_had_a_reason() -> None:
    for keep, wanted in ((False, "ABC"), (True, "P")):
        found = book(states={"P": "held"}, keep=keep)
        readers(found, "prefer_replica")
        assert elsewhere(found, "prefer_replica", P) in wanted


def primaries(routes: Routes) -> list[Backend | None]:
    return [backend for backend in routes.readers if backend is not None]


def test_the_same_connections_to_primaries() -> None:
    found = book()
    routes = found.routes(3, 1, "prefer_replica", 7)
    twin = found.at_primaries(routes)
    assert primaries(twin) == routes.primaries
    assert twin.writers == routes.writers
    assert found.at_primaries(routes) is twin
    # They are nowhere to go for what went to a replica: where only replicas may answer, they may not.
    found.routes(2, 0, "replica", 0)
    found.at_primaries(found.routes(2, 0, "replica", 0))
    for number in range(MANY):
        found.routes(2, 0, "replica", number)
    assert elsewhere(found, "replica", A) in "BC"


def test_users_of_the_servers_have_connections_of_their_own() -> None:
    found = book()
    usual, other = found.routes(2, 0, "replica", 0), found.routes(2, 0, "replica", 0, user="other")
    assert not {*usual.needs()} & {*other.needs()}
    for routes in (
        other,
        found.at_primaries(other),
        found.long(other),
        found.large(2, 0, "other"),
        found.own(7, "other"),
    ):
        assert {backend.place.user for backend in routes.needs()} == {"other"}
        assert routes.nowhere().user == "other"
    for backend in other.needs():
        assert found.elsewhere(backend).place.user == "other"
