"""What operators ask over HTTP."""

import contextlib
import json
import socket
from collections.abc import Iterable, Mapping

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site
from tests.support.wire import Wire, pack

pytestmark = pytest.mark.live

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Labels = tuple[tuple[str, str], ...]


def samples(proxy: ProxyProcess, accept: str = "") -> dict[tuple[str, Labels], float]:
    """All samples of /metrics by name and labels."""
    status, text = proxy.http("/metrics", accept=accept)
    assert status == 200
    families: Iterable[Metric] = (parse_openmetrics if accept else parse_text)(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Mapping[tuple[str, Labels], float], name: str, **labels: str) -> float:
    """One sample; 0 if it is not there."""
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


@pytest.fixture
def proxy(site: Site) -> ProxyProcess:
    """The proxy of the site."""
    return site.proxy


@pytest.fixture
def fresh_proxy(site: Site, serve: Serve) -> ProxyProcess:
    """A proxy that nobody has asked anything."""
    return serve("--static", site.shards.static)


@pytest.mark.smoke
def test_metrics_count_what_was_sent(fresh_proxy: ProxyProcess) -> None:
    sent = received = 0
    with Wire(fresh_proxy.address) as client:
        requests = [pack("SET", f"k{number}", "value") for number in range(10)]
        requests += [pack("GET", f"k{number}") for number in range(7)]
        requests += [pack("set", "lower", 1), pack("MGET", "k1", "k2", "k3", "k4"), pack("INCR", "k1"), pack("GET")]
        requests += [pack("RENAME", "a", "b"), pack("SHUTDOWN"), pack("NOSUCH"), pack("PING"), pack("DBSIZE")]
        for request in requests:
            client.send(request)
            received += len(client.reply())
            sent += len(request)
        found = samples(fresh_proxy)
        assert value(found, "slotgate_clients") == 1
    assert value(found, "slotgate_clients_accepted_total") == 1
    commands = "slotgate_commands_total"
    assert value(found, commands, command="set", outcome="ok") == 11
    assert value(found, commands, command="get", outcome="ok") == 7
    assert value(found, commands, command="get", outcome="rejected") == 1
    assert value(found, commands, command="mget", outcome="ok") == 1
    assert value(found, commands, command="incr", outcome="error") == 1
    assert value(found, commands, command="incr", outcome="ok") == 0
    assert value(found, commands, command="rename", outcome="rejected") == 1
    assert value(found, commands, command="shutdown", outcome="rejected") == 1
    assert value(found, commands, command="ping", outcome="ok") == 1
    assert value(found, commands, command="dbsize", outcome="ok") == 1
    assert "nosuch" not in {dict(labels).get("command") for _, labels in found}
    assert value(found, "slotgate_client_bytes_total", direction="in") == sent
    assert value(found, "slotgate_client_bytes_total", direction="out") == received
    assert value(found, "slotgate_crossslots_total") == 1
    assert value(found, "slotgate_splits_total") == 2  # MGET and DBSIZE
    assert value(found, "slotgate_shards") == 3
    # The 19 one-key commands, and at least one part of each shard for DBSIZE.
    assert value(found, "slotgate_backend_latency_seconds_count") >= 22
    assert eventually(lambda: value(samples(fresh_proxy), "slotgate_clients") == 0)


def test_a_latency_histogram(fresh_proxy: ProxyProcess) -> None:
    # What the proxy itself said on its connections.
    own = value(samples(fresh_proxy), "slotgate_backend_latency_seconds_count")
    with Wire(fresh_proxy.address) as client:
        for number in range(50):
            client.ask("SET", f"k{number}", 1)
        found = samples(fresh_proxy)
    buckets = sorted(
        (float(dict(labels)["le"]), count)
        for (name, labels), count in found.items()
        if name == "slotgate_backend_latency_seconds_bucket"
    )
    counts = [count for _, count in buckets]
    assert counts == sorted(counts)
    # Once a second the proxy asks each server what it is.
    assert counts[-1] == value(found, "slotgate_backend_latency_seconds_count") >= own + 50
    assert 0 < value(found, "slotgate_backend_latency_seconds_sum") < 50


def test_metrics_know_the_servers(site: Site, fresh_proxy: ProxyProcess) -> None:
    found = samples(fresh_proxy)
    addresses = {dict(labels)["address"] for name, labels in found if name == "slotgate_backend_up"}
    assert addresses == {server.address for server in site.shards.primaries}
    assert {count for (name, _), count in found.items() if name == "slotgate_backend_up"} == {1.0}
    assert {count for (name, _), count in found.items() if name == "slotgate_backend_in_flight"} == {0.0}


def test_openmetrics(fresh_proxy: ProxyProcess) -> None:
    with Wire(fresh_proxy.address) as client:
        client.ask("SET", "k", 1)
        assert value(samples(fresh_proxy, OPENMETRICS), "slotgate_commands_total", command="set", outcome="ok") == 1


def test_alive_and_what_else_there_is(proxy: ProxyProcess) -> None:
    assert proxy.http("/healthz") == (200, "alive\n")
    assert proxy.http("/healthz", method="HEAD") == (200, "")
    assert proxy.http("/readyz?all")[0] == 200
    assert proxy.http("/healthz?verbose=1")[0] == 200
    assert proxy.http("/nothing")[0] == 404
    assert proxy.http("/healthz", method="DELETE")[0] == 405


def test_odd_requests_do_no_harm(proxy: ProxyProcess) -> None:
    head = b"GET /metrics HTTP/1.1\r\nAccept\r\n\r\n"
    for data in (b"\r\n\r\n", b"GET\r\n\r\n", b"\xff\xfe\r\n\r\n", head, b"G", b"GET /" + b"x" * 200_000):
        with Wire(proxy.admin) as client, contextlib.suppress(OSError):  # it may close before all is sent
            client.send(data)
            client.socket.shutdown(socket.SHUT_WR)
            client.rest()
    assert proxy.http("/healthz")[0] == 200


def test_ready_only_while_every_slot_has_its_primary(site: Site, proxy: ProxyProcess) -> None:
    assert proxy.http("/readyz?all") == (200, "ready: every slot has a reachable primary\n")
    second = site.shards.primaries[1]
    second.kill()
    try:
        assert eventually(lambda: proxy.http("/readyz?all")[0] == 503)
        assert proxy.http("/readyz?all")[1] == "no reachable primary in: shard-2\n"
        assert proxy.http("/healthz")[0] == 200
        found = samples(proxy)
        down = [
            dict(labels)["shard"] for (name, labels), up in found.items() if name == "slotgate_backend_up" and not up
        ]
        assert set(down) == {"shard-2"}
        connected = {node["address"]: node["connected"] for node in proxy.nodes()}
        assert connected[second.address] is False
        assert list(connected.values()).count(True) == 2
    finally:
        second.start()
    assert eventually(lambda: proxy.http("/readyz?all")[0] == 200)
    assert sum(count for (name, _), count in samples(proxy).items() if name == "slotgate_backend_reconnects_total") >= 1
    with Wire(proxy.address) as client:
        assert client.ask("SET", f"{{{site.tags()[1]}}}k", 1) == b"+OK\r\n"


def test_one_lost_shard_of_three_leaves_it_ready(site: Site, serve: Serve) -> None:
    """Otherwise a balancer would take out all proxies, with the shards that work."""
    proxy, strict = site.proxy, serve("--static", site.shards.static, config='ready_when = "all"\n')
    primaries = site.shards.primaries
    try:
        primaries[1].kill()
        assert eventually(lambda: proxy.http("/readyz?all")[0] == 503)
        words = "ready: 2 of 3 shards are served\nno reachable primary in: shard-2\n"
        assert proxy.http("/readyz") == (200, words)
        assert eventually(lambda: strict.http("/readyz") == (503, "no reachable primary in: shard-2\n"))
        status, text = proxy.http("/readyz", accept="application/json")
        assert status == 200
        assert json.loads(text)["shards"] == [
            {"name": "shard-1", "served": True},
            {"name": "shard-2", "served": False, "reason": "no reachable primary"},
            {"name": "shard-3", "served": True},
        ]
        assert proxy.http("/readyz?all", accept="application/json")[0] == 503
        primaries[0].kill()
        primaries[2].kill()
        assert eventually(lambda: proxy.http("/readyz")[0] == 503)
        assert proxy.http("/readyz")[1] == "no reachable primary in: shard-1, shard-2, shard-3\n"
    finally:
        for primary in primaries:
            primary.start()
    assert eventually(lambda: proxy.http("/readyz?all")[0] == 200)
    assert eventually(lambda: strict.http("/readyz")[0] == 200)


def test_topology(site: Site, proxy: ProxyProcess) -> None:
    shards = proxy.topology()
    assert [shard["name"] for shard in shards] == ["shard-1", "shard-2", "shard-3"]
    assert [shard["slots"] for shard in shards] == [[[0, 5460]], [[5461, 10922]], [[10923, 16383]]]
    assert [node["address"] for node in proxy.nodes()] == [server.address for server in site.shards.primaries]
    assert {node["role"] for node in proxy.nodes()} == {"primary"}
