"""Fixtures of all tests with real servers: kinds of servers, proxies for single tests, and logs that are shown on
failure."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from proxy.devservers.servers import LocalServer, ServerBinary, start_many
from tests.support.binaries import FULL, Source
from tests.support.proxy_process import ProxyProcess
from tests.support.secrets import Secrets
from tests.support.site import Site

_LOG_TAIL = 4000
# On a busy machine any command may be slow, so that the content of SLOWLOG would be random.
_QUIET = ("slowlog-log-slower-than -1",)
_DEBUG = "enable-debug-command yes"

LIKE_A_SERVER = {
    "SLOTGATE_UNDECLARED_KEYS": "allow",
    "SLOTGATE_KEYLESS_SHARD": "shard-1",
    "SLOTGATE_LIMITS__AUTH_COMMANDS": "0",
    "SLOTGATE_LIMITS__AUTH_BYTES": "0b",
    "SLOTGATE_LIMITS__AUTH_DELAY_MAX": "0s",
}
"""What a plain server does not have is off, so that the proxy can be compared with one: scripts without keys run on the
first shard, and logins that fail delay no others."""
Serve = Callable[..., ProxyProcess]
"""Starts a proxy; takes the arguments of ``ProxyProcess`` without the directory, and ``ready`` as its ``start``."""


def find(source: Source) -> ServerBinary:
    """Return the server, or skip the test with the reason why there is none."""
    binary = source.binary()
    if binary is None:
        pytest.skip(source.missing)
    return binary


def build(binary: ServerBinary, directory: Path, count: int = 3, more: Sequence[str] = ()) -> Iterator[Site]:
    """Run ``count`` shards, a plain server and a proxy; ``more`` are further options of the servers."""
    options = (*_QUIET, *more)
    if binary.kind == "valkey" or binary.version_info >= (7,):
        options += (_DEBUG,)
    plain = LocalServer(binary, directory, options=options)
    with start_many(count, 0, binary=binary, options=options) as shards:
        try:
            plain.start()
            with ProxyProcess(directory, "--static", shards.static, environment=LIKE_A_SERVER).serving() as proxy:
                yield Site(shards, plain, proxy)
        finally:
            plain.stop()


@pytest.fixture(scope="session", params=FULL, ids=lambda source: source.name)
def binary(request: pytest.FixtureRequest) -> ServerBinary:
    """Each of the servers that all tests run against."""
    return find(request.param)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts proxies for one test, and stops them at its end."""
    started: list[ProxyProcess] = []

    def start(
        *arguments: str,
        config: str = "",
        listen: str = "",
        listeners: bool = False,
        environment: Mapping[str, str] | None = None,
        ready: bool = True,
        files: tuple[int, int] | None = None,
    ) -> ProxyProcess:
        proxy = ProxyProcess(
            tmp_path,
            *arguments,
            config=config,
            listen=listen,
            listeners=listeners,
            environment=environment,
            files=files,
        )
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


@pytest.fixture(scope="session", autouse=True)
def no_secret_in_logs() -> Iterator[None]:
    """Fails at the end if the log of a proxy that was killed shows a secret; for the others the test fails."""
    yield
    assert not Secrets.leaked, Secrets.leaked


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each running proxy's log to the report of a failed test."""
    report = yield
    if report.failed:
        report.sections += [(repr(proxy), proxy.log[-_LOG_TAIL:]) for proxy in ProxyProcess.running_now]
    return report
