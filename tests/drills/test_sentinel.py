"""Shards that sentinels watch, under load: planned failovers and crashes."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.devservers.sentinel import WatchedShards, start_watched
from proxy.devservers.servers import ServerBinary
from tests.drills.drill import LEAST_RATE, assert_nothing_seen, assert_only_what_was_in_flight, load_on
from tests.support.fixtures import Serve

pytestmark = [pytest.mark.live, pytest.mark.drill, pytest.mark.timeout(180)]

_DOWN_AFTER = 2.0


@pytest.fixture
def watched(binary: ServerBinary) -> Iterator[WatchedShards]:
    """Two shards with two replicas each, three sentinels."""
    with start_watched(2, 2, 3, binary=binary, down_after=_DOWN_AFTER, failover_timeout=5.0) as running:
        yield running


@pytest.fixture
def flags(watched: WatchedShards) -> tuple[str, ...]:
    """How the proxy finds it."""
    return "--sentinel", watched.sentinel_addresses, "--masters", watched.masters


@pytest.mark.quick
def test_planned_failover_of_each_primary(
    watched: WatchedShards, flags: tuple[str, ...], serve: Serve, tmp_path: Path
) -> None:
    with load_on(serve(*flags), tmp_path) as load:
        before = [watched.primary(name) for name in watched.names]
        for name in watched.names:
            watched.failover(name)
            load.run_for(2)
        for old in before:
            old.wait_link_up(40)
        report = load.stop()
    assert_nothing_seen(report)


@pytest.mark.quick
def test_a_primary_is_killed(watched: WatchedShards, flags: tuple[str, ...], serve: Serve, tmp_path: Path) -> None:
    name = watched.names[0]
    victim = watched.primary(name)
    with load_on(serve(*flags), tmp_path) as load:
        died = time.monotonic()
        victim.kill()
        watched.wait_switched(name, victim)
        promotion = time.monotonic() - died
        load.run_for(2)
        # It comes back as the primary that it was, empty, until the sentinels tell it otherwise.
        victim.start()
        victim.wait_link_up(40)
        load.run_for(2)
        report = load.stop()
    assert_only_what_was_in_flight(report, died, name, range(8192))
    assert report.slowest < promotion + 2.5, report
    assert report.quiet_rate() >= LEAST_RATE, report


def test_rolling_restart(watched: WatchedShards, flags: tuple[str, ...], serve: Serve, tmp_path: Path) -> None:
    with load_on(serve(*flags), tmp_path) as load:
        for name in watched.names:
            primary = watched.primary(name)
            for node in (*watched.replicas(name), primary):
                if node is primary:
                    watched.failover(name)
                    primary.wait_link_up(40)
                node.stop()
                node.start()
                node.wait_link_up()
                load.run_for(1)
        report = load.stop()
    assert_nothing_seen(report)


def test_a_sentinel_is_killed_and_then_a_primary(
    watched: WatchedShards, flags: tuple[str, ...], serve: Serve, tmp_path: Path
) -> None:
    name = watched.names[1]
    victim = watched.primary(name)
    with load_on(serve(*flags), tmp_path) as load:
        watched.sentinels[0].kill()
        load.run_for(2)
        died = time.monotonic()
        victim.kill()
        watched.wait_switched(name, victim)
        load.run_for(2)
        report = load.stop()
    assert_only_what_was_in_flight(report, died, name, range(8192, 16384))
