"""What servers say of themselves: what all of them take, and who is a part of a cluster."""

import pytest

from proxy.discovery.learn import Learned, cluster_at_static_shards, most_arguments


def learned(version: str | None) -> Learned:
    return Learned(None, version, None, None, None)


@pytest.mark.parametrize(
    ("versions", "most"),
    [
        (["7.0.15"], 2**31 - 1),
        (["8.2.3", "7.2.4", "10.0.0"], 2**31 - 1),
        (["6.2.14"], 1024 * 1024),
        (["8.2.3", "6.3.4"], 1024 * 1024),
        ([None], 1024 * 1024),
        ([], 1024 * 1024),
        (["7.0.15", None], 2**31 - 1),  # a replica does not say
    ],
)
def test_how_many_arguments_all_take(versions: list[str | None], most: int) -> None:
    assert most_arguments([learned(version) for version in versions]) == most


def test_static_shards_in_a_cluster_are_told_what_to_write() -> None:
    text = cluster_at_static_shards({"a:1": 5461, "b:2": 0})
    assert "a:1 serves 5461, b:2 serves 0 of the 16384 slots" in text
    assert "--cluster a:1,b:2 in place of --static" in text
    assert 'cluster.seeds = ["a:1", "b:2"]' in text
