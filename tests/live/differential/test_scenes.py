"""Conversations of several connections, straight to one server and through the proxy: all hear the same."""

from collections.abc import Iterator

import pytest

from tests.live.differential.scene import Play, Scene, scene_differences
from tests.live.differential.scenes import SCENES
from tests.live.proxyprocess import ProxyProcess
from tests.live.site import Site, clean

pytestmark = pytest.mark.live

CASES = [(scene, protocol) for scene in SCENES for protocol in scene.protocols]


def told(case: tuple[Scene, int]) -> str:
    scene, protocol = case
    return f"{scene.name}-resp{protocol}"


@pytest.fixture(scope="module")
def swift(standing_site: Site) -> Iterator[Site]:
    """Servers that look at the clock more often: a timeout of a hundredth of a second takes no tenth."""
    for server in standing_site.servers:
        assert server.ask("CONFIG", "SET", "hz", "200") == b"OK"
    yield standing_site
    for server in standing_site.servers:
        assert server.ask("CONFIG", "SET", "hz", "10") == b"OK"


@pytest.fixture(scope="module")
def single(swift: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy before the first of the shards alone."""
    proxy = ProxyProcess(tmp_path_factory.mktemp("single"), "--static", swift.shards.primaries[0].address)
    try:
        proxy.start()
        yield proxy
        proxy.stop()
    finally:
        proxy.kill()


@pytest.mark.parametrize("case", CASES, ids=told)
def test_three_shards_and_one(swift: Site, single: ProxyProcess, case: tuple[Scene, int]) -> None:
    """Keys of the last of three shards, then all on one shard."""
    scene, protocol = case
    tag = swift.tags()[-1]
    clean(swift.plain)
    expected = Play(swift.plain.address, protocol, tag).run(scene)
    for address in swift.proxy.address, single.address:
        for server in swift.shards.servers:
            clean(server)
        found = Play(address, protocol, tag).run(scene)
        different = scene_differences(swift.plain.binary.kind, expected, found)
        assert not different, "\n".join(different)
