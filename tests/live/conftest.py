"""Servers and proxies as processes: started once for each version, emptied between tests."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from proxy.devservers.servers import LOOPBACK, LocalShards, ServerBinary, start_many
from tests.live.nodejs import install_clients
from tests.live.tls_clients import Papers
from tests.support.binaries import FULL, SMOKE
from tests.support.fixtures import binary, build, find, no_secret_in_logs, pytest_runtest_makereport, serve
from tests.support.site import Site

__all__ = ["binary", "no_secret_in_logs", "pytest_runtest_makereport", "serve"]


@pytest.fixture(scope="session")
def standing_site(binary: ServerBinary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site of all tests of one version."""
    yield from build(binary, tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(standing_site: Site) -> Site:
    """Three shards behind a proxy and a plain server, all empty."""
    assert standing_site.proxy.running, standing_site.proxy.log
    standing_site.clean()
    return standing_site


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(site: Site, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """redis-py at the proxy; it decodes replies to text."""
    with redis.Redis(host=LOOPBACK, port=site.proxy.port, protocol=request.param, decode_responses=True) as client:
        yield client


@pytest.fixture(scope="session", params=SMOKE, ids=lambda source: source.name)
def standing_smoke_site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site of one of the other versions."""
    yield from build(find(request.param), tmp_path_factory.mktemp("smoke"))


@pytest.fixture
def smoke_site(standing_smoke_site: Site) -> Site:
    """As ``site``, of the versions that a short list of tests runs against."""
    standing_smoke_site.clean()
    return standing_smoke_site


@pytest.fixture(scope="session")
def installed() -> Path:
    """A directory with the Node.js clients and the scripts that use them, or a skipped test."""
    return install_clients()


@pytest.fixture(scope="module")
def replicated(binary: ServerBinary) -> Iterator[LocalShards]:
    """Two shards with two replicas each."""
    with start_many(2, 2, binary=binary) as shards:
        yield shards


@pytest.fixture
def crowd() -> Iterator[contextlib.ExitStack]:
    """Closes the clients that a test enters into it."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """The certificates of a listener with TLS and of its clients."""
    return Papers.made(tmp_path_factory.mktemp("papers"))


_SLOW = (
    "test_audit_log",
    "test_blocked_counts",
    "test_blocking_moves",
    "test_busy_scripts",
    "test_check",
    "test_client_limits",
    "test_clients",
    "test_closed_idle",
    "test_cluster_discovery",
    "test_connection_limits",
    "test_denied_users",
    "test_descriptors",
    "test_discover_replicas",
    "test_half_moved",
    "test_known_long",
    "test_listener_settings",
    "test_listeners",
    "test_localcluster",
    "test_logins",
    "test_long_replies",
    "test_long_work",
    "test_memory",
    "test_module_frames",
    "test_node",
    "test_protected_mode",
    "test_proxy_protocol",
    "test_pubsub_begun",
    "test_pubsub_behind",
    "test_pubsub_cluster",
    "test_pubsub_failures",
    "test_query_limit",
    "test_reload",
    "test_replica_reads",
    "test_replicas",
    "test_secrets",
    "test_sentinel",
    "test_server_users",
    "test_shared_dedicated",
    "test_stalls",
    "test_stopping",
    "test_stranger_sentinels",
    "test_strangers",
    "test_systemd",
    "test_timeouts",
    "test_turns",
    "test_undeclared_keys",
    "test_user_limits",
    "test_vanished_clients",
)
"""Waiting for real failovers, starting real clients, or about the proxy alone: with the second kind of server they are
for ``make drill``."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the slow tests of the second kind of server to the drills."""
    for item in items:
        if item.path.stem in _SLOW and FULL[1].name in item.name:
            item.add_marker(pytest.mark.drill)
