"""A Redis Cluster under load: failovers, resharding, crashes, restarts, hangs."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.devservers.cluster import ClusterNode, LocalCluster, start_cluster
from proxy.devservers.servers import ServerBinary
from tests.drills.drill import (
    LEAST_RATE,
    assert_nothing_seen,
    assert_only_what_was_in_flight,
    load_on,
)
from tests.support.binaries import system_tool
from tests.support.fixtures import Serve
from tests.support.processes import within

pytestmark = [pytest.mark.live, pytest.mark.drill, pytest.mark.timeout(300)]

_NODE_TIMEOUT = 2.0


@pytest.fixture
def cluster(binary: ServerBinary) -> Iterator[LocalCluster]:
    """Three primaries, a replica of each."""
    with start_cluster(3, 1, binary=binary, node_timeout=_NODE_TIMEOUT) as running:
        yield running


def slots_of(primary: ClusterNode) -> range:
    """The slots of a primary that has one range of them."""
    ((first, last),) = [
        map(int, seen.slots[0].split("-")) for seen in primary.known() if seen.address == primary.address
    ]
    return range(first, last + 1)


@pytest.mark.quick
def test_planned_failover_of_each_primary(cluster: LocalCluster, serve: Serve, tmp_path: Path) -> None:
    with load_on(serve("--cluster", cluster.seeds), tmp_path) as load:
        for primary in cluster.primaries():
            (replica,) = cluster.replicas_of(primary)
            cluster.failover(replica)
            cluster.wait_ok()
            load.run_for(1)
        report = load.stop()
    assert_nothing_seen(report)


@pytest.fixture
def redis_cli() -> Callable[..., str]:
    """``redis-cli --cluster`` with these arguments: what it prints."""
    tool = system_tool("redis-cli")
    if tool is None:
        pytest.skip("no redis-cli on PATH (Debian, Ubuntu: apt-get install redis-tools)")

    def run(*arguments: str) -> str:
        done = subprocess.run([tool, "--cluster", *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        return done.stdout

    return run


def test_reshard_rebalance_and_remove_a_node(
    cluster: LocalCluster, serve: Serve, tmp_path: Path, redis_cli: Callable[..., str]
) -> None:
    first, second, third = cluster.primaries()

    def move(source: ClusterNode, target: ClusterNode, slots: int) -> None:
        flags = ("--cluster-from", source.id, "--cluster-to", target.id, "--cluster-slots", str(slots))
        redis_cli("reshard", third.address, *flags, "--cluster-yes")
        cluster.wait_ok()

    # Valkey has its replicas confirm each step of each slot, which takes ten times as long.
    fast = cluster.binary.kind == "redis"
    with load_on(serve("--cluster", cluster.seeds), tmp_path) as load:
        move(first, second, 4000 if fast else 400)
        new = cluster.start_node()
        redis_cli("add-node", new.address, third.address)
        cluster.wait_ok()
        if fast:
            redis_cli("rebalance", third.address, "--cluster-use-empty-masters")
        else:
            move(second, new, 400)
        cluster.wait_ok()
        assert new in cluster.primaries()
        load.run_for(2)
        if fast:
            redis_cli("rebalance", third.address, "--cluster-weight", f"{new.id}=0")
        else:
            move(new, first, 400)
        load.run_for(1)
        redis_cli("del-node", third.address, new.id)
        load.run_for(2)
        report = load.stop()
    assert_nothing_seen(report)


@pytest.mark.quick
def test_a_primary_is_killed(cluster: LocalCluster, serve: Serve, tmp_path: Path) -> None:
    victim = cluster.primaries()[0]
    slots = slots_of(victim)
    (replica,) = cluster.replicas_of(victim)
    with load_on(serve("--cluster", cluster.seeds), tmp_path) as load:
        died = time.monotonic()
        victim.kill()
        promotion = within(replica.is_primary, 15)
        cluster.wait_ok()
        load.run_for(2)
        victim.start()
        cluster.wait_ok()
        load.run_for(2)
        report = load.stop()
    assert_only_what_was_in_flight(report, died, "shard-1", slots)
    assert report.slowest < promotion + 2.5, report
    assert report.quiet_rate() >= LEAST_RATE, report


@pytest.mark.parametrize("read_from", ["primary", "prefer_replica"])
def test_rolling_restart(cluster: LocalCluster, serve: Serve, tmp_path: Path, read_from: str) -> None:
    stale = ["--stale"] if read_from != "primary" else []
    running = serve("--cluster", cluster.seeds, "--read-from", read_from)
    with load_on(running, tmp_path, *stale) as load:
        for primary in cluster.primaries():
            (replica,) = cluster.replicas_of(primary)
            for node in (replica, primary):
                if node is primary:
                    cluster.failover(replica)
                    cluster.wait_ok()
                    # What is on its way to the old primary has to be refused before that goes.
                    load.run_for(2)
                node.stop()
                node.start()
                cluster.wait_ok()
        load.run_for(1)
        report = load.stop()
    assert_nothing_seen(report)


@pytest.mark.quick
def test_a_primary_hangs_for_a_while(binary: ServerBinary, serve: Serve, tmp_path: Path) -> None:
    with start_cluster(3, 1, binary=binary, node_timeout=15.0) as cluster:
        victim = cluster.primaries()[0]
        slots = slots_of(victim)
        running = serve("--cluster", cluster.seeds)
        own, others = f"{slots[0]}-{slots[-1]}", f"{slots[-1] + 1}-16383"
        with (
            load_on(running, tmp_path, "--slots", own, "--rate", "2000") as waiting,
            load_on(running, tmp_path, "--slots", others, "--rate", "2000") as unharmed,
        ):
            victim.pause()
            time.sleep(3)
            victim.resume()
            waiting.run_for(2)
            waited, went_on = waiting.stop(), unharmed.stop()
    assert waited.clean, waited
    assert 2.9 < waited.slowest < 4.5, waited
    assert went_on.clean, went_on
    assert went_on.slowest < 1.0, went_on
    assert waited.quiet_rate() + went_on.quiet_rate() >= LEAST_RATE, (waited, went_on)


def test_a_primary_hangs_for_moments(binary: ServerBinary, serve: Serve, tmp_path: Path) -> None:
    """Long enough for it to look as if a script ran there, again and again."""
    with start_cluster(3, 1, binary=binary, node_timeout=15.0) as cluster:
        victim = cluster.primaries()[0]
        slots = slots_of(victim)
        with load_on(serve("--cluster", cluster.seeds), tmp_path, "--slots", f"{slots[0]}-{slots[-1]}") as load:
            for _ in range(15):
                victim.pause()
                time.sleep(0.15)
                victim.resume()
                time.sleep(0.15)
            report = load.stop()
    assert report.clean, report


def test_late_replies_never_reach_another_request(binary: ServerBinary, serve: Serve, tmp_path: Path) -> None:
    with start_cluster(3, 1, binary=binary, node_timeout=15.0) as cluster:
        victim = cluster.primaries()[0]
        short = {"SLOTGATE_BACKEND__REQUEST_TIMEOUT": "700ms", "SLOTGATE_BACKEND__RETRY_DEADLINE": "500ms"}
        with load_on(serve("--cluster", cluster.seeds, environment=short), tmp_path) as load:
            for _ in range(2):
                victim.pause()
                time.sleep(3)
                victim.resume()
                load.run_for(2)
            report = load.stop()
    assert report.true, report
    assert not report.broken, report
    assert set(report.kinds()) <= {"UNCERTAIN", "TIMEOUT", "SHARDDOWN"}, report
    assert report.errors
    assert all("shard 'shard-1'" in note.words for note in report.errors), report
