"""What the comparisons run on: the plain server and the shards of every test, before them proxies of their own."""

from collections.abc import Iterator

import pytest

from tests.support.fixtures import LIKE_A_SERVER
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site

_USER = '[[users]]\nname = "default"\nnopass = true\nadmin = true\n'


@pytest.fixture(scope="session")
def swift(standing_site: Site) -> Iterator[Site]:
    """Servers that look at the clock more often: a timeout of a hundredth of a second takes no tenth."""
    for server in standing_site.servers:
        assert server.ask("CONFIG", "SET", "hz", "200") == b"OK"
    yield standing_site
    for server in standing_site.servers:
        assert server.ask("CONFIG", "SET", "hz", "10") == b"OK"


def _proxy(tmp_path_factory: pytest.TempPathFactory, static: str) -> Iterator[ProxyProcess]:
    """A proxy whose default user may do what a server's may."""
    environment = {name: value for name, value in LIKE_A_SERVER.items() if "KEY" not in name}
    proxy = ProxyProcess(
        tmp_path_factory.mktemp("comparison"), "--static", static, config=_USER, environment=environment
    )
    try:
        proxy.start()
        yield proxy
        proxy.stop()
    finally:
        proxy.kill()


@pytest.fixture(scope="session")
def single(swift: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy before the first of the shards alone; its default user is an administrator."""
    yield from _proxy(tmp_path_factory, swift.shards.primaries[0].address)


@pytest.fixture(scope="session")
def triple(swift: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy before the three shards; its default user is an administrator."""
    yield from _proxy(tmp_path_factory, swift.shards.static)
