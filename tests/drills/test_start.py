"""A cluster that is not there, not whole, or not where the proxy thinks it is."""

import re
import time
from collections.abc import Iterator

import pytest

from proxy.devservers.cluster import LocalCluster, start_cluster
from proxy.devservers.servers import ServerBinary
from proxy.sharding.slots import key_slot
from proxy.sharding.topology import even_ranges
from tests.support.fixtures import Serve
from tests.support.processes import within
from tests.support.proxy_process import ProxyProcess
from tests.support.site import commands_seen
from tests.support.wire import Wire, pipeline

pytestmark = [pytest.mark.live, pytest.mark.drill, pytest.mark.quick]

_IMPATIENT = {"SLOTGATE_BACKEND__RETRY_DEADLINE": "500ms"}
_SOON = 5.0


@pytest.fixture
def cluster(binary: ServerBinary) -> Iterator[LocalCluster]:
    """Three primaries without replicas; each serves what it has."""
    with start_cluster(3, 0, binary=binary, options=["cluster-require-full-coverage no"]) as running:
        yield running


def ready(proxy: ProxyProcess) -> bool:
    return proxy.http("/readyz?all")[0] == 200


def key_in(slots: range) -> str:
    return next(key for key in (f"key:{number}" for number in range(100_000)) if key_slot(key.encode()) in slots)


def test_it_starts_before_its_cluster(cluster: LocalCluster, serve: Serve) -> None:
    for node in cluster.nodes:
        node.kill()
    proxy = serve("--cluster", cluster.seeds, environment=_IMPATIENT, ready=False)
    status, words = proxy.http("/readyz?all")
    assert status == 503
    assert re.search("cluster|slots 0-16383", words), words
    with Wire(proxy.address) as wire:
        started = time.monotonic()
        said = wire.ask("SET", "key", "value")
        assert re.match(rb"-(SHARDDOWN|CLUSTERDOWN) ", said), said
        assert time.monotonic() - started < 2.0
        for node in cluster.nodes:
            node.start()
        cluster.wait_ok()
        within(lambda: ready(proxy), _SOON)
        assert wire.ask("SET", "key", "value") == b"+OK\r\n"
        assert wire.ask("GET", "key") == b"$5\r\nvalue\r\n"


def test_slots_that_nobody_serves_are_named_until_somebody_does(cluster: LocalCluster, serve: Serve) -> None:
    owner, *_ = cluster.nodes
    for node in cluster.nodes:
        node.ask("CLUSTER", "DELSLOTS", *range(100))
    proxy = serve("--cluster", cluster.seeds, environment=_IMPATIENT, ready=False)
    within(lambda: "0-99" in proxy.http("/readyz?all")[1], _SOON)
    assert proxy.http("/readyz?all")[0] == 503
    nobodys, served = key_in(range(100)), key_in(range(100, 16384))
    with Wire(proxy.address) as wire:
        assert wire.ask("SET", served, "value") == b"+OK\r\n"
        said = wire.ask("SET", nobodys, "value")
        assert re.match(rb"-(SHARDDOWN|CLUSTERDOWN) ", said), said
        assert wire.ask("GET", served) == b"$5\r\nvalue\r\n"
        owner.ask("CLUSTER", "ADDSLOTS", *range(100))
        within(lambda: ready(proxy), _SOON)
        assert wire.ask("SET", nobodys, "value") == b"+OK\r\n"


def test_a_storm_of_redirections_makes_at_most_two_refreshes(cluster: LocalCluster, serve: Serve) -> None:
    proxy = serve("--cluster", cluster.seeds)
    slot = key_slot(b"{moved}")
    index = next(index for index, ((first, last),) in enumerate(even_ranges(3)) if first <= slot <= last)
    source, target = cluster.nodes[index], cluster.nodes[index - 1]
    before = _refreshes(proxy), _looks(cluster)
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    with Wire(proxy.address) as wire:
        started = time.monotonic()
        wire.send(pipeline(*(("SET", f"{{moved}}:{number}", number) for number in range(1000))))
        assert set(wire.replies(1000)) == {b"+OK\r\n"}
        assert time.monotonic() - started < 1.0
    redirected = re.search(r'slotgate_redirections_total{error="MOVED"} (\d+)', proxy.http("/metrics")[1])
    assert redirected is not None
    assert int(redirected[1]) >= 1000
    time.sleep(1.0)
    assert 1 <= _refreshes(proxy) - before[0] <= 2
    assert 1 <= _looks(cluster) - before[1] <= 2


def _refreshes(proxy: ProxyProcess) -> int:
    """How often it has looked at the topology."""
    counts = re.findall(r"^slotgate_topology_refreshes_total{.*} (\d+)", proxy.http("/metrics")[1], re.MULTILINE)
    return sum(map(int, counts))


def _looks(cluster: LocalCluster) -> int:
    """How often the servers were asked for their map, in whichever way."""
    seen = [commands_seen(node) for node in cluster.nodes]
    return sum(calls.get("cluster|shards", 0) + calls.get("cluster|slots", 0) for calls in seen)
