"""Reads from replicas under load, while a replica dies, hangs, or falls behind."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.devservers.cluster import start_cluster
from proxy.devservers.sentinel import start_watched
from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, start_many
from tests.drills.drill import assert_nothing_seen, load_on
from tests.support.fixtures import Serve
from tests.support.link_breaker import LinkBreaker
from tests.support.processes import within
from tests.support.site import commands_seen

pytestmark = [pytest.mark.live, pytest.mark.drill, pytest.mark.timeout(180)]

_LAG = 1.0
_AWAY = _LAG + 1.0
_SHORT = {"SLOTGATE_MAX_REPLICA_LAG": f"{_LAG:g}s"}


@contextlib.contextmanager
def replicated(kind: str, binary: ServerBinary) -> Iterator[tuple[tuple[str, ...], LocalServer]]:
    """Shards with two replicas each behind a topology of that kind: the proxy's flags, and one of the replicas."""
    match kind:
        case "static":
            with start_many(2, 2, binary=binary) as shards:
                yield ("--static", shards.static), shards.replicas[0][0]
        case "cluster":
            with start_cluster(3, 2, binary=binary) as cluster:
                yield ("--cluster", cluster.seeds), cluster.replicas_of(cluster.nodes[0])[0]
        case "sentinel":
            with start_watched(2, 2, binary=binary, down_after=1.0) as watched:
                flags = ("--sentinel", watched.sentinel_addresses, "--masters", watched.masters)
                yield flags, watched.replicas(watched.names[0])[0]


def kinds(quick: str) -> pytest.MarkDecorator:
    """Each kind of topology with each policy that may read replicas; the CI runs one of them."""
    pairs = [(kind, policy) for kind in ("static", "cluster", "sentinel") for policy in ("prefer_replica", "any")]
    marked = [pytest.param(*pair, marks=[pytest.mark.quick] if "-".join(pair) == quick else []) for pair in pairs]
    return pytest.mark.parametrize(("kind", "policy"), marked)


@kinds(quick="sentinel-prefer_replica")
def test_a_replica_dies_and_comes_back(
    kind: str, policy: str, binary: ServerBinary, serve: Serve, tmp_path: Path
) -> None:
    with (
        replicated(kind, binary) as (flags, replica),
        load_on(serve(*flags, "--read-from", policy, environment=_SHORT), tmp_path, "--stale") as load,
    ):
        within(lambda: _reads(replica) > 100, 5)
        replica.kill()
        load.run_for(3)
        replica.start()
        replica.wait_link_up()
        within(lambda: _reads(replica) > 100, 15)
        report = load.stop()
    assert_nothing_seen(report)
    assert report.slowest < 1.0, report


@kinds(quick="cluster-any")
def test_a_replica_hangs_and_goes_on(
    kind: str, policy: str, binary: ServerBinary, serve: Serve, tmp_path: Path
) -> None:
    with (
        replicated(kind, binary) as (flags, replica),
        load_on(serve(*flags, "--read-from", policy, environment=_SHORT), tmp_path, "--stale") as load,
    ):
        within(lambda: _reads(replica) > 100, 5)
        replica.pause()
        load.run_for(5)
        replica.resume()
        load.run_for(3)
        report = load.stop()
    assert_nothing_seen(report)
    assert report.slowest < _AWAY + 0.5, report


@pytest.mark.parametrize("policy", ["prefer_replica", pytest.param("any", marks=pytest.mark.quick)])
def test_a_replica_falls_behind_and_catches_up(binary: ServerBinary, policy: str, serve: Serve, tmp_path: Path) -> None:
    with (
        start_many(2, 1, binary=binary) as shards,
        _slow_link(shards) as link,
        load_on(
            serve("--static", shards.static, "--read-from", policy, environment=_SHORT), tmp_path, "--stale"
        ) as load,
    ):
        replica = shards.replicas[0][0]
        within(lambda: _reads(replica) > 100, 5)
        link.stall()
        time.sleep(_AWAY)
        before = _reads(replica)
        load.run_for(2)
        assert _reads(replica) == before
        link.flow()
        within(lambda: _reads(replica) > before + 100, 10)
        report = load.stop()
    assert report.old > 0, "no replica was behind"
    assert_nothing_seen(report)
    assert report.slowest < 1.0, report


@contextlib.contextmanager
def _slow_link(shards: LocalShards) -> Iterator[LinkBreaker]:
    """The link over which the first shard's replica now follows its primary."""
    replica = shards.replicas[0][0]
    with LinkBreaker(shards.primaries[0].address) as link:
        replica.ask("REPLICAOF", *link.address.split(":"))
        replica.wait_link_up()
        yield link


def _reads(replica: LocalServer) -> int:
    """GETs that it has carried out since it was started."""
    return commands_seen(replica).get("get", 0)
