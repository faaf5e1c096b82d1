"""Servers and proxies as processes: started once for each version, emptied between tests, logs shown on failure."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import redis

from proxy.devservers.servers import LOOPBACK, LocalServer, LocalShards, ServerBinary, start_many
from tests.live.binaries import FULL, SMOKE, Source
from tests.live.nodejs import install
from tests.live.proxyprocess import ProxyProcess
from tests.live.site import Site

_LOG_TAIL = 4000
# On a busy machine any command may be a slow one: what SLOWLOG says would be chance.
_QUIET = ("slowlog-log-slower-than -1",)
_DEBUG = "enable-debug-command yes"

Serve = Callable[..., ProxyProcess]
"""Starts a proxy; takes what ``ProxyProcess`` takes but the directory, and ``ready`` as its ``start``."""


def find(source: Source) -> ServerBinary:
    """The server, or a skipped test that says why there is none."""
    binary = source.binary()
    if binary is None:
        pytest.skip(source.missing)
    return binary


def build(binary: ServerBinary, directory: Path, count: int = 3, more: Sequence[str] = ()) -> Iterator[Site]:
    """So many shards, a plain server and a proxy, running; the servers with ``more`` options."""
    options = (*_QUIET, *more)
    if binary.kind == "valkey" or binary.version_info >= (7,):
        options += (_DEBUG,)
    plain = LocalServer(binary, directory, options=options)
    with start_many(count, 0, binary=binary, options=options) as shards:
        try:
            plain.start()
            with ProxyProcess(directory, "--static", shards.static).serving() as proxy:
                yield Site(shards, plain, proxy)
        finally:
            plain.stop()


@pytest.fixture(scope="session", params=FULL, ids=lambda source: source.name)
def binary(request: pytest.FixtureRequest) -> ServerBinary:
    """Each of the servers that the whole list of tests runs against."""
    return find(request.param)


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


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts proxies of a test's own, and stops them when it is over."""
    started: list[ProxyProcess] = []

    def start(
        *arguments: str,
        config: str = "",
        listen: str = "",
        environment: Mapping[str, str] | None = None,
        ready: bool = True,
        files: tuple[int, int] | None = None,
    ) -> ProxyProcess:
        proxy = ProxyProcess(tmp_path, *arguments, config=config, listen=listen, environment=environment, files=files)
        started.append(proxy)
        proxy.start(ready=ready)
        return proxy

    try:
        yield start
        for proxy in started:
            if proxy.running:
                proxy.stop()
    finally:
        for proxy in started:
            proxy.kill()


@pytest.fixture(scope="session")
def installed(request: pytest.FixtureRequest) -> Path:
    """A directory with the Node.js clients and the scripts that use them, or a skipped test."""
    assert request.config.cache is not None
    return install(request.config.cache)


@pytest.fixture(scope="module")
def replicated(binary: ServerBinary) -> Iterator[LocalShards]:
    """Two shards with two replicas each."""
    with start_many(2, 2, binary=binary) as shards:
        yield shards


_SLOW = (
    "test_blocking_moves",
    "test_busy_scripts",
    "test_clients",
    "test_closed_idle",
    "test_cluster_discovery",
    "test_descriptors",
    "test_discover_replicas",
    "test_half_moved",
    "test_localcluster",
    "test_long_replies",
    "test_long_work",
    "test_node",
    "test_pubsub_cluster",
    "test_pubsub_failures",
    "test_replica_reads",
    "test_sentinel",
    "test_shared_dedicated",
    "test_stranger_sentinels",
    "test_strangers",
    "test_vanished_clients",
)
"""Waiting for real failovers, starting real clients, or about the proxy alone: with the second kind of server they are
for ``make drill``."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the slow tests of the second kind of server to the drills."""
    for item in items:
        if item.path.stem in _SLOW and FULL[1].name in item.name:
            item.add_marker(pytest.mark.drill)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The end of each running proxy's log, under a test that failed."""
    report = yield
    if report.failed:
        report.sections += [(repr(proxy), proxy.log[-_LOG_TAIL:]) for proxy in ProxyProcess.running_now]
    return report
