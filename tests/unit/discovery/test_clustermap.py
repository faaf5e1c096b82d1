"""Which view of a cluster is believed, what its shards are called, and what becomes of all that as a topology."""

import time
from dataclasses import replace

import pytest

from proxy.discovery.clustermap import ClusterMap, gaps, judge, seats, topology
from proxy.discovery.clustermembers import members_of, same_cluster
from proxy.discovery.clusterview import View, joined
from proxy.sharding.topology import NOBODY, Node
from tests.unit.discovery.cluster_views import Claims, chart, node, recorded, view

LOW, HIGH = (0, 8191), (8192, 16383)
START: Claims = {"A": (1, [LOW]), "B": (2, [HIGH])}
FOLLOWERS = {"a": "A", "b": "B"}
FAILED_OVER: Claims = {"A": (1, [LOW]), "b": (3, [HIGH])}
MOVED: Claims = {"A": (1, [(0, 99)]), "B": (3, [(100, 16383)])}


def known(claims: Claims = START, **followers: str) -> ClusterMap:
    """What is believed after a first view."""
    return judge(ClusterMap(), [view(next(iter(claims)), claims, **(followers or FOLLOWERS))]).map


def owners(found: ClusterMap) -> list[tuple[int, int, str]]:
    """Who has which slots, whatever the epochs."""
    return [segment[:3] for segment in joined([(*segment[:3], 0) for segment in found.chart])]


def test_the_first_view_is_believed() -> None:
    found = judge(ClusterMap(), [view("b", START, **FOLLOWERS)])
    assert found.map.chart == chart(START)
    assert (found.doubted, found.witnesses) == ((), ())
    assert found.map.names == {"A": "shard-1", "B": "shard-2"}
    assert found.map.nodes == {node(name) for name in "ABab"}


def test_nothing_new_is_nothing() -> None:
    before = known()
    found = judge(before, [view("A", START, **FOLLOWERS)])
    assert found.map == before
    assert (found.doubted, found.witnesses) == ((), ())


class TestOneView:
    def test_of_a_new_owner_itself(self) -> None:
        found = judge(known(), [view("b", FAILED_OVER, a="A", B="b")])
        assert owners(found.map) == [(*LOW, "A"), (*HIGH, "b")]
        assert (found.doubted, found.witnesses) == ((), ())

    def test_of_another_makes_the_new_owner_a_witness(self) -> None:
        found = judge(known(), [view("A", FAILED_OVER, a="A", B="b")])
        assert owners(found.map) == [(*LOW, "A"), (*HIGH, "b")]
        assert (found.doubted, found.witnesses) == ((), (node("b"),))

    def test_of_an_owner_that_gave_its_slots_up_whatever_the_epochs(self) -> None:
        moved: Claims = {"A": (5, [(0, 99)]), "B": (2, [(100, 16383)])}
        found = judge(known({"A": (5, [LOW]), "B": (2, [HIGH])}), [view("A", moved, **FOLLOWERS)])
        assert owners(found.map) == [(0, 99, "A"), (100, 16383, "B")]
        assert (found.doubted, found.witnesses) == ((), (node("B"),))

    def test_where_nobody_was_known(self) -> None:
        before = known({"A": (9, [(0, 99)]), "B": (2, [])})
        found = judge(before, [view("A", {"A": (9, [(0, 99)]), "B": (2, [(100, 16383)])}, **FOLLOWERS)])
        assert owners(found.map) == [(0, 99, "A"), (100, 16383, "B")]
        assert (found.doubted, found.witnesses) == ((), ())

    @pytest.mark.parametrize(
        ("claims", "witnesses"),
        [
            pytest.param(START, "bB", id="lags"),
            pytest.param({"A": (1, [LOW]), "B": (3, [HIGH])}, "bB", id="same epoch"),
            pytest.param({"A": (1, [LOW]), "B": (2, [])}, "b", id="slots deleted"),
            pytest.param({"A": (0, []), "B": (0, [])}, "Ab", id="reset"),
            pytest.param({"X": (1, [LOW]), "Y": (2, [HIGH])}, "AXbY", id="set up anew"),
        ],
    )
    def test_that_is_no_newer_is_doubted(self, claims: Claims, witnesses: str) -> None:
        before = known(FAILED_OVER, a="A", B="b")
        first = view("a", claims, a=next(iter(claims)))
        found = judge(before, [first])
        assert owners(found.map) == owners(before)
        assert found.map.members == before.members
        assert found.doubted == (first,)
        assert set(found.witnesses) == {node(name) for name in witnesses}

    def test_of_a_node_that_has_not_heard_of_the_owner_is_doubted_for_all_its_epochs(self) -> None:
        before = known({"A": (1, [LOW]), "b": (5, [HIGH])}, a="A")
        lags = view("a", {"A": (1, [LOW]), "B": (9, [HIGH]), "b": (4, [])})
        found = judge(before, [lags])
        assert owners(found.map) == owners(before)
        assert found.doubted == (lags,)
        assert node("B") in found.witnesses

    def test_of_a_node_by_itself_is_believed(self) -> None:
        before = judge(ClusterMap(), [view("A", {"A": (7, [(0, 16383)])})]).map
        found = judge(before, [view("A", {"A": (0, [(0, 9)])})])
        assert owners(found.map) == [(0, 9, "A"), (10, 16383, "")]

    def test_that_is_believed_in_part_says_who_is_the_primary_there(self) -> None:
        first = view("b", {"A": (1, [(100, 8191)]), "b": (3, [HIGH])}, a="A", B="b")
        found = judge(known(), [first])
        assert owners(found.map) == [(*LOW, "A"), (*HIGH, "b")]
        assert found.doubted == (first,)
        assert [(seat.shard.primary, seat.shard.replicas) for seat in seats(found.map)] == [
            (node("A"), (node("a"),)),
            (node("b"), (node("B"),)),
        ]

    def test_epochs_that_went_up_are_kept(self) -> None:
        bumped: Claims = {"A": (7, [LOW]), "B": (2, [HIGH])}
        after = judge(known(), [view("B", bumped, **FOLLOWERS)]).map
        assert after.chart == chart(bumped)
        late = judge(after, [view("b", START, **FOLLOWERS)])
        assert late.map.chart == chart(bumped)
        assert late.doubted == ()


class TestSeveralViews:
    def test_a_lagging_first_view_is_overruled(self) -> None:
        before = known(FAILED_OVER, a="A", B="b")
        lags = view("a", START, **FOLLOWERS)
        found = judge(before, [lags, view("b", FAILED_OVER, a="A", B="b"), view("A", FAILED_OVER, a="A", B="b")])
        assert owners(found.map) == owners(before)
        assert found.doubted == (lags,)
        assert found.map.members == before.members

    def test_two_that_lag_do_not_overrule_two(self) -> None:
        before = known(FAILED_OVER, a="A", B="b")
        late = [view(name, START, **FOLLOWERS) for name in "aB"]
        assert owners(judge(before, [*late, view("b", FAILED_OVER), view("A", FAILED_OVER)]).map) == owners(before)

    def test_most_overrule_a_better_map(self) -> None:
        anew: Claims = {"X": (1, [LOW]), "Y": (2, [HIGH])}
        before = known({"A": (7, [LOW]), "B": (8, [HIGH]), "X": (1, []), "Y": (2, [])})
        found = judge(before, [view("X", anew, x="X"), view("Y", anew, x="X"), view("A", {"A": (7, [LOW])})])
        assert owners(found.map) == [(*LOW, "X"), (*HIGH, "Y")]
        assert found.map.nodes == {node(name) for name in "XYx"}
        assert {seat.shard.name for seat in seats(found.map)} == {"shard-1", "shard-2"}

    def test_two_nodes_have_to_agree_both(self) -> None:
        before = known({"A": (7, [(0, 16383)])}, a="A")
        less: Claims = {"A": (7, [(0, 99)])}
        assert owners(judge(before, [view("a", less, a="A")]).map) == owners(before)
        found = judge(before, [view("a", less, a="A"), view("A", less, a="A")])
        assert owners(found.map) == [(0, 99, "A"), (100, 16383, "")]

    def test_half_are_not_most(self) -> None:
        before = known(a="A", b="B", c="A", d="B")
        less: Claims = {"A": (1, [LOW]), "B": (2, [])}
        views = [view("A", less), view("a", less), view("c", START), view("b", START)]
        assert owners(judge(before, views).map) == owners(before)
        assert owners(judge(before, [*views, view("d", less)]).map) == [(*LOW, "A"), (*HIGH, "")]

    def test_many_that_lag_do_not_stand_against_the_owner(self) -> None:
        before = known({"A": (3, [(0, 99)]), "B": (3, [(100, 16383)])})
        late = [view(name, {"A": (3, [LOW]), "B": (3, [HIGH])}) for name in "abcd"]
        assert owners(judge(before, late).map) == [(*LOW, "A"), (*HIGH, "B")]
        owner = view("B", {"A": (3, [(0, 99)]), "B": (3, [(100, 16383)])})
        assert owners(judge(before, [*late, owner]).map) == owners(before)

    def test_a_cluster_that_was_restored_with_older_epochs(self) -> None:
        before = known({"A": (7, [(0, 99)]), "B": (8, [(100, 16383)])})
        views = [view(name, START) for name in "bAB"]
        assert owners(judge(before, views).map) == [(*LOW, "A"), (*HIGH, "B")]
        assert owners(judge(before, views[:1]).map) == owners(before)

    def test_who_has_not_heard_of_the_owner_has_no_vote(self) -> None:
        before = known(FAILED_OVER, a="A", B="b")
        late = [view(name, {**START, "b": (2, [])}) for name in "acde"]
        assert owners(judge(before, late).map) == owners(before)

    def test_who_denies_a_claim_is_believed(self) -> None:
        """Slots went from A to B, which had the highest epoch; then A got a new one. Who only heard that goes wrong."""
        before = known({"A": (1, [(0, 99)]), "B": (2, [(100, 16383)])})
        lags = view("a", {"A": (3, [LOW]), "B": (2, [HIGH])}, **FOLLOWERS)
        alone = judge(before, [lags])
        assert owners(alone.map) == [(*LOW, "A"), (*HIGH, "B")]
        assert alone.witnesses == (node("A"),)
        found = judge(before, [lags, view("A", {"A": (3, [(0, 99)]), "B": (2, [(100, 16383)])}, **FOLLOWERS)])
        assert owners(found.map) == owners(before)
        assert found.doubted == (lags,)
        assert found.map.chart[0] == (0, 99, "A", 3)

    def test_the_same_epoch_twice_is_settled_by_most(self) -> None:
        before = known({"A": (2, [LOW]), "B": (2, [HIGH])})
        taken: Claims = {"A": (2, [(0, 99)]), "B": (2, [(100, 16383)])}
        assert owners(judge(before, [view("B", taken), view("b", START)]).map) == [(*LOW, "A"), (*HIGH, "B")]
        assert owners(judge(before, [view("B", taken), view("b", taken)]).map) == [(0, 99, "A"), (100, 16383, "B")]

    def test_of_two_new_owners_the_one_with_the_higher_epoch(self) -> None:
        one: Claims = {"A": (1, [LOW]), "B": (2, []), "b": (3, [HIGH])}
        two: Claims = {"A": (1, [LOW]), "B": (2, []), "c": (4, [HIGH])}
        before = known(a="A", b="B", c="B")
        assert owners(judge(before, [view("b", one), view("c", two)]).map)[1] == (*HIGH, "c")
        assert owners(judge(before, [view("c", two), view("b", one)]).map)[1] == (*HIGH, "c")

    def test_who_is_not_believed_on_some_slots_is_believed_on_others(self) -> None:
        """A slot on the way to a node when its owner died: the node goes on believing in the dead one."""
        before = known({"A": (1, [LOW]), "b": (3, [HIGH])}, a="A", B="b")
        late = view("A", {"A": (1, [LOW]), "B": (2, [(9000, 9000)]), "b": (3, [(8192, 8999), (9001, 16383)])})
        promoted = {"a": (5, [LOW]), "b": (3, [HIGH])}
        found = judge(
            before,
            [
                replace(
                    late,
                    chart=chart({"a": (5, [LOW]), "B": (2, [(9000, 9000)]), "b": (3, [(8192, 8999), (9001, 16383)])}),
                ),
                view("a", promoted, A="a", B="b"),
            ],
        )
        assert owners(found.map) == [(*LOW, "a"), (*HIGH, "b")]
        assert [seen.me for seen in found.doubted] == ["A"]
        assert found.map.members["A"].primary == "a"


class TestStrangers:
    """Who is no member: nobody who is known knows its id."""

    @pytest.mark.parametrize("epoch", [0, 1, 2, 3, 50])
    @pytest.mark.parametrize("place", "aAbX")
    def test_a_view_of_one_counts_for_nothing(self, epoch: int, place: str) -> None:
        """At the address of a member or not, with all slots and whatever epoch."""
        before = known()
        seen = replace(view("X", {"X": (epoch, [(0, 16383)])}), asked=node(place))
        found = judge(before, [seen])
        assert found.map is before
        assert (found.strangers, found.doubted, found.witnesses) == ((seen,), (), ())
        beside = judge(before, [view("A", START, **FOLLOWERS), seen])
        assert beside.map == before
        assert beside.strangers == (seen,)
        assert (beside.doubted, beside.witnesses) == ((), ())

    def test_that_it_knows_the_members_makes_it_none(self) -> None:
        before = known()
        seen = view("X", {**START, "X": (50, [])}, **FOLLOWERS)
        taken = view("X", {"A": (1, []), "B": (2, []), "X": (50, [(0, 16383)])}, a="X", b="X")
        for claimed in seen, taken:
            assert judge(before, [claimed]).map is before
            assert judge(before, [view("a", START, **FOLLOWERS), claimed]).map == before

    def test_nor_do_others_who_are_none(self) -> None:
        anew: Claims = {"X": (7, [LOW]), "Y": (8, [HIGH])}
        strangers = [view(name, anew, x="X", y="Y") for name in "XYxy"]
        before = known()
        assert judge(before, strangers).map is before
        found = judge(before, [*strangers, view("b", START, **FOLLOWERS)])
        assert owners(found.map) == owners(before)
        assert found.strangers == tuple(strangers)

    def test_who_is_named_by_a_member_is_one(self) -> None:
        moved: Claims = {"A": (1, [LOW]), "B": (2, []), "C": (3, [HIGH])}
        found = judge(known(), [view("C", moved, **FOLLOWERS), view("A", {**START, "C": (0, [])}, **FOLLOWERS)])
        assert owners(found.map) == [(*LOW, "A"), (*HIGH, "C")]
        assert found.strangers == ()
        # And who that one names.
        more: Claims = {**moved, "D": (4, [(0, 99)])}
        views = [view("D", more), view("C", {**moved, "D": (0, [])}), view("A", {**START, "C": (0, [])})]
        assert {seen.me for seen in members_of(known().members, views)} == {"A", "C", "D"}

    def test_a_node_that_was_wiped_and_met_again(self) -> None:
        """At the address of what it was, which is listed without one."""
        first = view("A", START, ["a"], a="A", b="B", new="A")
        wiped = {
            **first.members,
            "a": replace(first.members["a"], node=None, announced=("", "", 0)),
            "new": replace(first.members["new"], node=node("a")),
        }
        found = judge(known(), [replace(first, members=wiped)])
        assert seats(found.map)[0].shard.replicas == (node("a"),)
        assert "new" in found.map.members

    def test_seeds_of_several_clusters(self) -> None:
        anew: Claims = {"X": (7, [LOW]), "Y": (8, [HIGH])}
        ours = [view(name, START, **FOLLOWERS) for name in "Ab"]
        other = view("X", anew)
        lone = view("Z", {"Z": (0, [])})
        claims = view("Q", {**START, "Q": (9, [])}, **FOLLOWERS)
        for views in ([*ours, other], [other, *ours], [lone, other, claims, *ours]):
            assert {seen.me for seen in same_cluster(views)[0]} == {"A", "b"}
        assert same_cluster([lone, other])[0] == [other]
        assert same_cluster([other, ours[0]])[0] == [ours[0]]
        assert same_cluster([lone]) == [[lone]]

    def test_what_a_redirection_can_call_a_node(self) -> None:
        found = judge(ClusterMap(), [recorded("redis_7_hostname", host="127.0.0.1")]).map
        port = next(
            member.node.port for member in found.members.values() if member.announced[1] == "host-a" and member.node
        )
        addresses = found.addresses({"host-a": "outside"})
        assert addresses[Node("127.0.0.1", port)] == addresses[Node("outside", port)] == Node("host-a", port)
        assert Node("host-a", port) in addresses
        assert Node("host-b", port) not in addresses


class TestAMemberThatWasReset:
    """CLUSTER RESET keeps a node's id: with all slots and any epoch it is a cluster of its own."""

    @pytest.mark.parametrize("who", ["A", "B", "a", "b"])
    @pytest.mark.parametrize("epoch", [3, 50])
    def test_its_own_claim_is_not_enough(self, who: str, epoch: int) -> None:
        before = known()
        claimed = view(who, {who: (epoch, [(0, 16383)])})
        alone = judge(before, [claimed])
        assert owners(alone.map) == owners(before)
        assert alone.map.members.keys() == before.members.keys()
        assert alone.doubted == (claimed,)
        for others in ("A", "B", "AB", "ABa"):
            views = [view(name, START, **FOLLOWERS) for name in others if name != who]
            for order in [claimed, *views], [*views, claimed]:
                assert owners(judge(before, order).map) == owners(before)

    def test_one_that_has_forgotten_only_whom_it_replaces_is_believed(self) -> None:
        claims: Claims = {"a": (9, [(0, 8191)]), "B": START["B"]}
        assert [owner for _, _, owner in owners(judge(known(), [view("a", claims)]).map)] == ["a", "B"]


class TestNames:
    def test_new_shards_have_the_lowest_free_numbers(self) -> None:
        more: Claims = {"C": (5, [(0, 99)]), "A": (1, [(100, 8191)]), "B": (2, [HIGH])}
        grown = judge(known(), [view("A", more, **FOLLOWERS)]).map
        assert grown.names == {"A": "shard-1", "B": "shard-2", "C": "shard-3"}
        less: Claims = {"C": (6, [(0, 8191)]), "B": (2, [HIGH])}
        assert judge(grown, [view("C", less, a="C", b="B")]).map.names == {"B": "shard-2", "C": "shard-3"}
        shrunk = judge(grown, [view("C", {**less, "A": (1, [])}, **FOLLOWERS)]).map
        again: Claims = {"D": (7, [(0, 9)]), "C": (6, [(10, 8191)]), "B": (2, [HIGH])}
        assert judge(shrunk, [view("C", again, b="B")]).map.names == {"B": "shard-2", "C": "shard-3", "D": "shard-1"}

    def test_a_replica_takes_the_name_over_with_the_slots(self) -> None:
        found = judge(known(), [view("b", FAILED_OVER, a="A", B="b")]).map
        assert found.names == {"A": "shard-1", "b": "shard-2"}
        back = judge(found, [view("B", {"A": (1, [LOW]), "B": (4, [HIGH])}, **FOLLOWERS)]).map
        assert back.names == {"A": "shard-1", "B": "shard-2"}

    def test_a_replica_that_was_not_known_does_so_too(self) -> None:
        found = judge(known(), [view("b", {"A": (1, [LOW]), "c": (3, [HIGH])}, a="A", B="c", b="c")]).map
        assert found.names == {"A": "shard-1", "c": "shard-2"}

    def test_a_new_node_at_an_old_address_does_so_too(self) -> None:
        first = view("A", {"A": (1, [LOW]), "X": (3, [HIGH])}, a="A")
        moved = replace(first, members={**first.members, "X": replace(first.members["X"], node=node("B"))})
        assert judge(known(), [moved, replace(moved, me="X")]).map.names == {"A": "shard-1", "X": "shard-2"}

    def test_a_failed_primary_that_keeps_a_slot_loses_its_name(self) -> None:
        before = judge(ClusterMap(), [recorded("redis_7", host="127.0.0.1")]).map
        after = judge(before, [recorded("redis_7_failed_over", host="127.0.0.1")])
        promoted, dead = after.map.chart[1][2], after.map.chart[2][2]
        assert after.map.names[promoted] == "shard-2"
        assert after.map.names[dead] == "shard-4"
        whole = recorded("redis_7_failed_over")
        told = replace(
            whole,
            me=promoted,
            chart=tuple((*segment[:2], promoted, 4) if segment[2] == dead else segment for segment in whole.chart),
        )
        assert [seat.shard.name for seat in seats(judge(after.map, [told]).map)] == ["shard-1", "shard-2", "shard-3"]

    def test_resharding_changes_no_name(self) -> None:
        swapped: Claims = {"B": (3, [LOW]), "A": (4, [HIGH])}
        assert judge(known(), [view("A", swapped, **FOLLOWERS)]).map.names == {"A": "shard-1", "B": "shard-2"}


class TestMembers:
    def test_who_announces_nothing_new_is_reached_as_before(self) -> None:
        before = judge(ClusterMap(), [recorded("redis_7", host="127.0.0.1")]).map
        for scene in "redis_7_hostname", "redis_7_unknown":
            assert judge(before, [recorded(scene)]).map.nodes == before.nodes

    def test_who_announces_another_address_is_reached_there(self) -> None:
        before = known()
        first = view("A", START, **FOLLOWERS)

        def told(**changes: tuple[Node | None, tuple[str, str, int]]) -> View:
            changed = {
                name: replace(first.members[name], node=place, announced=announced)
                for name, (place, announced) in changes.items()
            }
            return replace(first, members={**first.members, **changed})

        after = judge(
            before,
            [
                told(
                    # Its ip was not known before, and may be what it was all the time.
                    B=(Node("10.0.0.9", 7000), ("10.0.0.9", "node-B", 7000)),
                    b=(Node("node-b", 7001), ("", "node-b", 7001)),
                    a=(None, ("", "", 0)),
                )
            ],
        ).map
        assert after.members["B"].node == node("B")
        assert after.members["b"].node == Node("node-b", 7001)
        assert after.members["a"].node == node("a")
        moved = Node("10.0.0.8", 7000)
        assert judge(after, [told(B=(moved, ("10.0.0.8", "node-B", 7000)))]).map.members["B"].node == moved

    def test_a_replica_stays_in_use_until_it_or_its_primary_says_that_it_lost_its_data(self) -> None:
        def told(me: str, followers: dict[str, str] = FOLLOWERS) -> View:
            first = view(me, START, **followers)
            return replace(first, members={**first.members, "b": replace(first.members["b"], online=False)})

        before = known()
        assert judge(before, [told("A")]).map.members["b"].online
        assert judge(before, [told("a")]).map.members["b"].online
        for teller in "bB":
            assert not judge(before, [told(teller)]).map.members["b"].online
        assert not judge(before, [told("A", {"a": "A", "b": "A"})]).map.members["b"].online
        assert not judge(ClusterMap(), [told("A")]).map.members["b"].online

    def test_who_is_forgotten_is_gone(self) -> None:
        assert judge(known(), [view("A", START, a="A")]).map.nodes == {node(name) for name in "ABa"}


class TestSeats:
    def test_a_topology(self) -> None:
        made = topology(seats(known()), 5)
        assert repr(made) == (
            "<Topology epoch=5: shard-1 0-8191 at node-A:7000, node-a:7000; "
            "shard-2 8192-16383 at node-B:7000, node-b:7000>"
        )
        assert made.cluster

    def test_replicas_that_can_be_read_from(self) -> None:
        first = view("A", START, ["c"], a="A", d="A", c="A")
        members = {**first.members, "d": replace(first.members["d"], online=False)}
        seat, other = seats(judge(ClusterMap(), [replace(first, members=members)]).map)
        assert seat.shard.replicas == (node("a"),)
        assert (seat.lacking, seat.failing) == (True, False)
        assert (other.lacking, other.failing) == (False, False)

    def test_a_primary_that_is_about_to_be_replaced(self) -> None:
        seat, other = seats(judge(ClusterMap(), [view("a", START, ["A", "B"], a="A")]).map)
        assert (seat.failing, other.failing) == (True, False)

    def test_slots_between_shards(self) -> None:
        claims: Claims = {"A": (1, [(5, 9), (20, 29)]), "B": (2, [(30, 16382)])}
        seated = seats(judge(ClusterMap(), [view("A", claims)]).map)
        assert gaps(seated) == [(0, 4), (10, 19), (16383, 16383)]
        assert topology(seated, 1).ranges(NOBODY) == gaps(seated)
        assert gaps(()) == [(0, 16383)]

    def test_an_owner_without_an_address_is_nobody(self) -> None:
        first = view("A", START)
        members = {**first.members, "B": replace(first.members["B"], node=None)}
        seated = seats(judge(ClusterMap(), [replace(first, members=members)]).map)
        assert [seat.owner for seat in seated] == ["A"]
        assert gaps(seated) == [HIGH]

    @pytest.mark.parametrize(("failed", "seated"), [("A", "B"), ("B", "A"), ("", "B"), ("AB", "B")])
    def test_of_two_at_one_address_the_one_that_is_alive_or_newer(self, failed: str, seated: str) -> None:
        first = view("a", {"A": (1, [LOW]), "B": (9, [HIGH])}, failed, a="A", b="A")
        members = {name: replace(member, node=node("A")) for name, member in first.members.items()}
        found = seats(judge(ClusterMap(), [replace(first, members=members)]).map)
        assert [(seat.owner, seat.shard.replicas) for seat in found] == [(seated, ())]

    def test_neighbours_with_other_epochs_are_one_range(self) -> None:
        found = ClusterMap(((0, 99, "A", 1), (100, 16383, "A", 2)), known().members, {"A": "shard-1"})
        assert seats(found)[0].ranges == ((0, 16383),)


def test_a_look_that_finds_nothing_new_takes_less_than_a_millisecond() -> None:
    """Of a cluster of 50 shards with 20 ranges each."""
    many: Claims = {
        f"N{number}": (number, [(first, first + 15) for first in range(16 * number, 16384, 16 * 50)])
        for number in range(50)
    }
    seen = view("N0", many, **{f"n{number}": f"N{number}" for number in range(50)})
    before = judge(ClusterMap(), [seen]).map

    def seconds() -> float:
        began = time.perf_counter()
        judge(before, [seen])
        return time.perf_counter() - began

    assert min(seconds() for _ in range(20)) < 0.001
