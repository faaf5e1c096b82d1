"""Which sentinels are believed about a master, when some are not of those that watch it."""

import pytest

from proxy.discovery.sentineltrust import FORSAKEN, Trust
from proxy.discovery.sentinelview import Follower, Master, SentinelReport
from proxy.sharding.topology import Node

A, B, C, X, Y = (Node(f"10.0.0.{number}", 6379) for number in range(1, 6))
S = {name: Node(f"sentinel-{name}", 26379) for name in "1234xyz"}
OURS = {A, B}


def report(
    name: str, node: Node = A, epoch: int = 0, peers: str = "123", replicas: tuple[Node, ...] = (B,)
) -> SentinelReport:
    """What the sentinel called so says; ``peers`` are those that it lists."""
    followers = tuple(Follower(each, down=False, known=True) for each in replicas)
    listed = {other: S[other] for other in peers if other != name}
    return SentinelReport(name, {"alpha": Master(node, epoch, "", followers, listed)})


def stranger(name: str = "x", peers: str = "") -> SentinelReport:
    return report(name, X, 99, peers, (Y,))


def at(**reports: SentinelReport | str) -> dict[Node, SentinelReport]:
    """By the address of the sentinel that is called so there; without a report its own."""
    return {S[where[1:]]: each if isinstance(each, SentinelReport) else report(each) for where, each in reports.items()}


def believed(trust: Trust, reports: dict[Node, SentinelReport], now: float = 0.0, servers: set[Node] = OURS) -> str:
    found = trust.believed(reports, {"alpha": servers} if servers else {}, now)
    assert found.keys() == reports.keys()
    return "".join(sorted(each.id for each in found.values() if "alpha" in each.masters))


def known(configured: str = "123") -> Trust:
    trust = Trust([S[name] for name in configured])
    assert believed(trust, at(_1="1", _2="2", _3="3"), servers=set()) == "123"
    return trust


ALL = at(_1="1", _2="2", _3="3")


@pytest.mark.parametrize("configured", ["123", "1"])
@pytest.mark.parametrize(
    ("reports", "found"),
    [
        (ALL, "123"),
        ({**ALL, S["3"]: stranger()}, "12"),  # at the address of one
        ({**ALL, S["1"]: stranger()}, "23"),
        ({**ALL, S["1"]: stranger(peers="23")}, "23"),  # that lists the others does not help it
        ({S["1"]: stranger(), S["2"]: stranger("y", "x"), S["3"]: report("3")}, "3"),  # nor that others do
        ({S["1"]: stranger(), S["2"]: stranger("y", "x")}, ""),
        ({**ALL, S["x"]: stranger()}, "123"),
        ({**ALL, S["4"]: report("4", peers="123")}, "123"),  # nobody has heard of it yet
        ({**ALL, S["1"]: report("1", peers="234"), S["4"]: report("4", peers="123")}, "1234"),
        ({S["x"]: report("2")}, "2"),  # one that has moved
    ],
)
def test_who_was_believed_and_who_they_list(configured: str, reports: dict[Node, SentinelReport], found: str) -> None:
    trust = known(configured)
    for now in 0.0, 1.0, FORSAKEN - 0.1:
        assert believed(trust, reports, now) == found


def test_who_is_listed_stays_when_who_listed_it_is_gone() -> None:
    trust = Trust([S["1"]])
    assert believed(trust, at(_1="1")) == "1"
    assert believed(trust, {S["1"]: stranger(), S["2"]: report("2"), S["3"]: report("3")}) == "23"


def test_an_operator_who_begins_anew_is_followed() -> None:
    """SENTINEL REMOVE and MONITOR: for a moment nobody lists anybody, and some do not know the master."""
    trust = known()
    assert believed(trust, at(_1=SentinelReport("1", {}), _2=SentinelReport("2", {}), _3=SentinelReport("3", {}))) == ""
    lone = {S[name]: report(name, C, peers="", replicas=()) for name in "123"}
    assert believed(trust, lone) == "123"
    assert believed(trust, {**lone, S["2"]: stranger()}) == "13"


@pytest.mark.parametrize(
    ("configured", "reports", "found"),
    [
        ("123", {**ALL, S["3"]: stranger()}, "12"),
        ("x12", {S["x"]: stranger(), **at(_1="1", _2="2")}, "12"),
        ("x1", {S["x"]: stranger(), **at(_1="1")}, "1"),  # one against one: who lists others
        ("x1", {S["x"]: stranger(), S["1"]: report("1", peers="")}, "x"),  # nothing speaks for either: the first
        ("1x", {S["x"]: stranger(), S["1"]: report("1", peers="")}, "1"),
        ("123", {S[name]: report(name, peers="") for name in "123"}, "123"),  # they have not met, and watch the same
        ("12", {S["1"]: report("1", A, 0, ""), S["2"]: report("2", B, 1, "", ())}, "12"),  # one lags
        ("1", {S["1"]: report("1"), S["2"]: report("x")}, "1"),  # at the address of one that is listed
        ("1", {S["2"]: report("2")}, ""),  # nobody has named it
    ],
)
def test_at_the_start_most_of_those_configured_count(
    configured: str, reports: dict[Node, SentinelReport], found: str
) -> None:
    assert believed(Trust([S[name] for name in configured]), reports, servers=set()) == found


def test_a_sentinel_that_lost_its_id_is_believed_at_once_if_it_watches_the_same_servers() -> None:
    trust = Trust([S["1"]])
    assert believed(trust, {S["1"]: report("1", peers="")}) == "1"
    assert believed(trust, {S["1"]: report("new", B, 1, "", ())}) == "new"


def test_when_all_are_gone_others_are_believed_after_a_while_unless_the_primary_denies_it() -> None:
    trust = Trust([S["1"]])
    assert believed(trust, {S["1"]: report("1", peers="")}) == "1"
    assert believed(trust, {S["1"]: stranger()}, 10.0) == ""
    assert list(trust.forsaken) == ["alpha"]
    trust.deny("alpha", 12.9)
    assert believed(trust, {S["1"]: stranger()}, 10.0 + FORSAKEN) == ""
    assert believed(trust, {S["1"]: stranger()}, 12.8 + FORSAKEN) == ""
    assert believed(trust, {S["1"]: stranger()}, 12.9 + FORSAKEN) == "x"
    assert not trust.forsaken


def test_who_answers_again_in_time_stays() -> None:
    trust = Trust([S["1"]])
    believed(trust, {S["1"]: report("1", peers="")})
    assert believed(trust, {S["1"]: stranger()}, 10.0) == ""
    assert believed(trust, {S["1"]: report("1", peers="")}, 11.0) == "1"
    assert believed(trust, {S["1"]: stranger()}, 20.0) == ""


def test_sentinels_without_ids_are_known_by_their_addresses() -> None:
    """Before Redis 6.2; others list them by ids all the same."""
    trust = Trust([S["1"]])
    old = {S[name]: SentinelReport(S[name].address, report(name).masters) for name in "123"}
    assert len(believed(trust, {S["1"]: old[S["1"]]}, servers=set()).split("26379")) == 2
    found = trust.believed(old, {}, 0.0)
    assert all("alpha" in each.masters for each in found.values())


def test_masters_are_judged_one_by_one() -> None:
    trust = known()
    both = SentinelReport("x", {"alpha": stranger().masters["alpha"], "beta": report("x").masters["alpha"]})
    found = trust.believed({**ALL, S["3"]: both}, {}, 0.0)
    assert set(found[S["3"]].masters) == {"beta"}
