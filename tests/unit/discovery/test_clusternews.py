"""What is written to the log of a change of a cluster."""

import pytest

from proxy.discovery.clustermap import ClusterShard
from proxy.discovery.clusternews import missing, news, shown
from proxy.sharding.topology import Node, Shard


def seat(number: int, primary: str, *ranges: tuple[int, int], replicas: str = "", owner: str = "") -> ClusterShard:
    nodes = tuple(Node(name, 1) for name in replicas)
    return ClusterShard(Shard(f"shard-{number}", Node(primary, 1), nodes), owner or primary, ranges)


A = seat(1, "a", (0, 8191), replicas="xy")
B = seat(2, "b", (8192, 16383))


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        pytest.param((A, B), (A, B), [], id="nothing"),
        pytest.param(
            (),
            (A, B),
            [
                "shard found shard=shard-1 primary=a:1 replicas=x:1,y:1 slots=0-8191",
                "shard found shard=shard-2 primary=b:1 replicas=none slots=8192-16383",
            ],
            id="found",
        ),
        pytest.param(
            (A, B),
            (seat(1, "x", (0, 8191), replicas="ay"), B),
            ["failover shard=shard-1 primary=x:1 was=a:1 replicas=a:1,y:1"],
            id="failover",
        ),
        pytest.param(
            (A, B),
            (A, seat(2, "z", (8192, 16383), owner="b")),
            ["primary has another address shard=shard-2 primary=z:1 was=b:1"],
            id="address",
        ),
        pytest.param(
            (A, B),
            (seat(1, "a", (0, 8191)), B),
            ["replicas changed shard=shard-1 replicas=none"],
            id="replicas",
        ),
        pytest.param(
            (A, B),
            (seat(1, "a", (0, 99), (8192, 8999), replicas="xy"), seat(2, "b", (100, 8191), (9000, 16383))),
            [
                "slots moved slots=100-8191 from=shard-1 to=shard-2",
                "slots moved slots=8192-8999 from=shard-2 to=shard-1",
            ],
            id="moved",
        ),
        pytest.param(
            (A, B),
            (A, seat(2, "b", (8192, 9999)), seat(3, "c", (10000, 16383))),
            ["shard found shard=shard-3 primary=c:1 replicas=none slots=10000-16383"],
            id="added",
        ),
        pytest.param(
            (A, B),
            (seat(1, "a", (0, 16383), replicas="xy"),),
            [
                "shard removed shard=shard-2 primary=b:1: none of its nodes has slots any more",
                "slots moved slots=8192-16383 from=shard-2 to=shard-1",
            ],
            id="removed",
        ),
        pytest.param(
            (A, B),
            (seat(1, "x", (0, 99), replicas="ay"), seat(2, "b", (100, 16383), replicas="z")),
            [
                "failover shard=shard-1 primary=x:1 was=a:1 replicas=a:1,y:1",
                "replicas changed shard=shard-2 replicas=z:1",
                "slots moved slots=100-8191 from=shard-1 to=shard-2",
            ],
            id="several",
        ),
    ],
)
def test_lines(before: tuple[ClusterShard, ...], after: tuple[ClusterShard, ...], lines: list[str]) -> None:
    assert list(news(before, after)) == lines


def test_slots_that_nobody_serves() -> None:
    assert missing((A, B)) == ""
    assert missing((B,)) == "0-8191"
    assert missing((seat(1, "a", (1, 8190)), B)) == "0,8191"


def test_a_long_list_is_cut() -> None:
    ranges = [(slot, slot) for slot in range(0, 50, 2)]
    assert shown(ranges).endswith(",38,... (5 ranges more)")
    assert shown(ranges[:20]).endswith(",38")
