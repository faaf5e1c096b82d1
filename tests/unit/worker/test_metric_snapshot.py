"""What workers counted, added up; and what stays of the dead."""

import json

from proxy import metrics
from proxy.sharding.topology import Node, Shard, Topology
from proxy.worker.metric_snapshot import SUM, Tally
from proxy.worker.report import Report, shown, together

TOPOLOGY = Topology.static([Shard("one", Node("a", 1)), Shard("two", Node("b", 2), (Node("c", 3),))])
LATER = Topology.static([Shard("one", Node("c", 3)), Shard("two", Node("b", 2))], epoch=2)
SET = ("set", "ok")


def tally(worker: str, sets: int, clients: int = 0) -> Tally:
    made = Tally()
    made.add(metrics.COMMANDS, sets, *SET)
    made.add(metrics.CLIENTS, clients)
    made.add(metrics.LATENCY, sets, "0.001")
    made.add(metrics.LATENCY, sets / 4, SUM)
    made.add(metrics.UP, 1, "one", "a:1", "primary", "0/resp2/db0", worker)
    made.add(metrics.RECONNECTS, sets, "one", "a:1", "primary", "0/resp2/db0", worker)
    return made


def test_values_are_added_by_family_and_labels() -> None:
    whole = Tally()
    whole.include(tally("0", 3, 1))
    whole.include(tally("1", 4, 1))
    assert whole.values(metrics.COMMANDS) == {SET: 7}
    assert whole.values(metrics.CLIENTS) == {(): 2}
    assert whole.values(metrics.LATENCY) == {("0.001",): 7, (SUM,): 1.75}
    assert [(labels[-1], value) for labels, value in whole.values(metrics.UP).items()] == [("0", 1), ("1", 1)]
    assert whole.values(metrics.SPLITS) == {}


def test_what_was_added_from_is_not_changed() -> None:
    part, whole = tally("0", 3), Tally()
    whole.include(part)
    whole.include(part)
    assert part == tally("0", 3)


def test_of_the_dead_stays_what_was_counted() -> None:
    lost = tally("0", 3, 5).lasting()
    assert lost.values(metrics.CLIENTS) == {}
    assert lost.values(metrics.UP) == {}
    assert lost.values(metrics.COMMANDS) == {SET: 3}
    assert lost.values(metrics.LATENCY) == {("0.001",): 3, (SUM,): 0.75}
    assert list(lost.values(metrics.RECONNECTS).values()) == [3]


def report(
    counted: Tally, unreachable: tuple[str, ...], connected: set[str], topology: Topology = TOPOLOGY, gaps: str = ""
) -> Report:
    return Report(counted, unreachable, gaps, frozenset(connected), shown(topology), topology.epoch)


def test_it_goes_through_json() -> None:
    before = report(tally("0", 3, 1), ("two",), {"a:1", "c:3"}, gaps="7-9")
    assert Report.of_plain(json.loads(json.dumps(before.plain()))) == before


def test_all_workers_together() -> None:
    overview = together(
        [
            report(tally("0", 3, 1), ("two",), {"a:1", "c:3"}),
            report(tally("1", 4, 2), ("two", "one"), {"c:3"}),
        ],
    )
    assert overview.unready == "no reachable primary in: two, one"
    assert overview.topology == {
        "epoch": 1,
        "shards": [
            {
                "name": "one",
                "slots": [[0, 8191]],
                "nodes": [{"address": "a:1", "role": "primary", "connected": False}],
            },
            {
                "name": "two",
                "slots": [[8192, 16383]],
                "nodes": [
                    {"address": "b:2", "role": "primary", "connected": False},
                    {"address": "c:3", "role": "replica", "connected": True},
                ],
            },
        ],
    }
    assert overview.tally.values(metrics.SHARDS) == {(): 2}
    assert overview.tally.values(metrics.COMMANDS) == {SET: 7}
    assert overview.tally.values(metrics.WORKERS) == {(): 2}


def test_the_latest_topology_is_shown() -> None:
    overview = together([report(tally("0", 1), (), {"c:3"}, LATER), report(tally("1", 1), (), {"c:3"})])
    assert overview.topology["epoch"] == 2
    assert overview.topology["shards"][0]["nodes"] == [{"address": "c:3", "role": "primary", "connected": True}]


def test_slots_that_nobody_serves() -> None:
    overview = together([report(tally("0", 1), (), set()), report(tally("1", 1), ("one",), set(), gaps="0-9,100")])
    assert overview.unready == "no reachable primary in: one; no shard serves the slots 0-9,100"


def test_no_worker_at_all() -> None:
    overview = together([])
    assert overview.unready == ""
    assert overview.topology == {"epoch": 0, "shards": []}
    assert overview.tally.values(metrics.WORKERS) == {(): 0}
