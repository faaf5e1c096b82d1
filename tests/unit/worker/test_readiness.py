"""What is said to balancers, deploy gates and people about whether the proxy should get clients."""

import json

import pytest

from proxy.sharding.topology import Node, Shard, Topology
from proxy.worker.metric_snapshot import Overview, Tally
from proxy.worker.readiness import ALL, ANY, WHOLE, Readiness, document
from proxy.worker.report import Report, shown, together

NAMES = ("one", "two", "three")
TOPOLOGY = Topology.static([Shard(name, Node(name, 1)) for name in NAMES])


def report(*unreachable: str, gaps: str = "", shards: bool = True) -> Report:
    return Report(Tally(), unreachable, gaps, frozenset(), shown(TOPOLOGY) if shards else (), 1)


@pytest.mark.parametrize(
    ("reports", "any_", "all_"),
    [
        ([report()], "", ""),
        ([report("two")], "", "no reachable primary in: two"),
        ([report(*NAMES)], "no reachable primary in: one, two, three", "no reachable primary in: one, two, three"),
        ([report(gaps="5-9")], "", "no shard serves the slots 5-9"),
        ([report(shards=False, gaps="0-16383")], *["no shard serves the slots 0-16383"] * 2),
        # Each worker serves some shard, though no shard is served by both.
        ([report("one"), report("two", "three")], "", "no reachable primary in: one, two, three"),
        # The clients of the second worker get nothing but errors.
        ([report(), report(*NAMES)], *["no reachable primary in: one, two, three"] * 2),
        ([report(shards=False)], "no shard is known", ""),
    ],
)
def test_when_it_is_ready(reports: list[Report], any_: str, all_: str) -> None:
    readiness = Overview.of_plain(json.loads(json.dumps(together(reports).plain()))).readiness
    assert (readiness.unready(ANY), readiness.unready(ALL)) == (any_, all_)


@pytest.mark.parametrize("when", [ANY, ALL])
def test_workers_have_to_run(when: str) -> None:
    readiness = together([report("two")]).readiness.with_workers(["worker 1 is not running"])
    assert readiness.unready(when) == "worker 1 is not running; no reachable primary in: two"


def test_the_text_says_what_is_missing() -> None:
    assert together([report()]).readiness.text() == WHOLE
    text = "ready: 2 of 3 shards are served\nno reachable primary in: two"
    assert together([report("two")]).readiness.text() == text


def test_the_document_names_every_shard() -> None:
    readiness = together([report("two")]).readiness
    ready, body = document(readiness, ANY, False, [("one", "lib")], True)
    assert ready
    assert json.loads(body) == {
        "ready": True,
        "ready_when": "any",
        "draining": False,
        "reasons": ["no reachable primary in: two"],
        "shards": [
            {"name": "one", "served": True},
            {"name": "two", "served": False, "reason": "no reachable primary"},
            {"name": "three", "served": True},
        ],
        "missing_libraries": [{"shard": "one", "library": "lib"}],
    }
    assert not document(readiness, ALL, False, [], True)[0]


def test_who_may_not_know_is_not_told() -> None:
    ready, body = document(together([report("two")]).readiness, ANY, False, [("one", "lib")], False)
    assert ready
    assert json.loads(body) == {"ready": True, "ready_when": "any", "draining": False}


def test_a_draining_proxy_is_not_ready() -> None:
    ready, body = document(None, ANY, True, [], True)
    assert not ready
    assert json.loads(body) == {
        "ready": False, "ready_when": "any", "draining": True, "reasons": ["the proxy is about to stop"],
    }  # fmt: skip


def test_nothing_is_known_at_first() -> None:
    assert Readiness().unready(ANY) == "no shard is known"
