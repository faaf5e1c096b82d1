"""Conversations of several connections, straight to one server and through the proxy: all hear the same."""

import pytest

from tests.live.differential.scene import Play, Scene, scene_differences
from tests.live.differential.scenes import SCENES, VALKEYS_OWN
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site, clean

pytestmark = pytest.mark.live

CASES = [(scene, protocol) for scene in SCENES for protocol in scene.protocols]


def told(case: tuple[Scene, int]) -> str:
    scene, protocol = case
    return f"{scene.name}-resp{protocol}"


@pytest.mark.parametrize("case", CASES, ids=told)
def test_three_shards_and_one(swift: Site, triple: ProxyProcess, single: ProxyProcess, case: tuple[Scene, int]) -> None:
    """Keys of the last of three shards, then all on one shard."""
    scene, protocol = case
    if swift.plain.binary.kind == "valkey" and scene.name in VALKEYS_OWN:
        pytest.skip(VALKEYS_OWN[scene.name])
    tag = swift.tags()[-1]
    clean(swift.plain)
    expected = Play(swift.plain.address, protocol, tag).run(scene)
    for proxy in triple, single:
        for server in swift.shards.servers:
            clean(server)
        found = Play(proxy.address, protocol, tag).run(scene)
        different = scene_differences(swift.plain.binary.kind, expected, found)
        assert not different, "\n".join(different)
