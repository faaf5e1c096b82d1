"""Errors by which a server sends a request elsewhere, or to a little later."""

import pytest

from proxy.planning.refusals import HOPS, Refusal, refusal, remapped
from proxy.sharding.topology import Node

ASKED = Node("10.0.0.1", 7000)


@pytest.mark.parametrize(
    ("error", "kind", "node"),
    [
        ("MOVED 3999 127.0.0.1:6381", "MOVED", Node("127.0.0.1", 6381)),
        ("ASK 3999 127.0.0.1:6381", "ASK", Node("127.0.0.1", 6381)),
        ("MOVED 1 redis-3.example:6379", "MOVED", Node("redis-3.example", 6379)),
        ("MOVED 1 2001:db8::1:6379", "MOVED", Node("2001:db8::1", 6379)),
        ("MOVED 1 :6381", "MOVED", Node("10.0.0.1", 6381)),
        ("MOVED 1 ?:6381", "MOVED", None),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "TRYAGAIN", None),
        ("CLUSTERDOWN The cluster is down", "CLUSTERDOWN", None),
        ("CLUSTERDOWN Hash slot not served", "CLUSTERDOWN", None),
        ("LOADING Redis is loading the dataset in memory", "LOADING", None),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "MASTERDOWN", None),
        ("READONLY You can't write against a read only replica.", "READONLY", None),
    ],
)
def test_a_refusal(error: str, kind: str, node: Node | None) -> None:
    frame = f"-{error}\r\n".encode()
    assert refusal(frame, ASKED, True, {}) == Refusal(kind, frame, node)


@pytest.mark.parametrize(
    "error",
    [
        "ERR unknown command 'x'",
        "MOVEDX 1 a:1",
        "MOVED",
        "MOVED x a:1",
        "MOVED 1 a",
        "MOVED 1 a:1 b",
        "NOSCRIPT No matching script.",
        "EXECABORT Transaction discarded because of previous errors.",
        # What was refused inside a script may be its second command.
        "READONLY You can't write against a read only replica. script: 5d, on @user_script:1.",
    ],
)
def test_an_error_for_the_client(error: str) -> None:
    assert refusal(f"-{error}\r\n".encode(), ASKED, True, {}) is None


@pytest.mark.parametrize("error", ["MOVED 1 a:1", "ASK 1 a:1", "TRYAGAIN x", "CLUSTERDOWN x"])
def test_only_a_cluster_redirects(error: str) -> None:
    """Elsewhere it is what a script or a module made up."""
    assert refusal(f"-{error}\r\n".encode(), ASKED, False, {}) is None


def test_addresses_are_mapped() -> None:
    remap = {"10.0.0.5:7001": "203.0.113.1:17001", "10.0.0.6": "203.0.113.6", "10.0.0.7:1": "[2001:db8::7]:2"}
    assert remapped(Node("10.0.0.5", 7001), remap) == Node("203.0.113.1", 17001)
    assert remapped(Node("10.0.0.5", 7002), remap) == Node("10.0.0.5", 7002)
    assert remapped(Node("10.0.0.6", 7002), remap) == Node("203.0.113.6", 7002)
    assert remapped(Node("10.0.0.7", 1), remap) == Node("2001:db8::7", 2)
    found = refusal(b"-MOVED 1 10.0.0.5:7001\r\n", ASKED, True, remap)
    assert found is not None
    assert found.node == Node("203.0.113.1", 17001)


def test_redirections_are_followed_at_once_and_then_ever_more_slowly() -> None:
    moved, down = Refusal("MOVED", b"", ASKED), Refusal("CLUSTERDOWN", b"")
    assert [moved.wait(hops) for hops in (0, 1, 2, 3)] == [0.0] * 4
    assert 0 < moved.wait(4) < moved.wait(6) < moved.wait(HOPS) <= 0.25
    assert 0 < down.wait(0) < down.wait(3) < down.wait(HOPS) <= 0.25
    # A deadline of ten seconds is not cut short by the number of hops.
    assert sum(moved.wait(hops) for hops in range(HOPS)) > 10
