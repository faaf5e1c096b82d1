"""Conversations of several connections, straight to one server and through the proxy: all hear the same."""

from collections.abc import Sequence

import pytest

from tests.live.differential.scene import Play, Scene, scene_differences
from tests.live.differential.scenes import REDIS_8S_OWN, SCENES, VALKEYS_OWN
from tests.support.binaries import MORE
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site, clean

pytestmark = pytest.mark.live

VERSIONED = ("tracking", "transaction")
CASES = [(scene, protocol) for scene in SCENES for protocol in scene.protocols]


def told(case: tuple[Scene, int]) -> str:
    scene, protocol = case
    return f"{scene.name}-resp{protocol}"


@pytest.mark.parametrize("case", CASES, ids=told)
def test_three_shards_and_one(swift: Site, triple: ProxyProcess, single: ProxyProcess, case: tuple[Scene, int]) -> None:
    """Keys of the last of three shards, then all on one shard."""
    scene, _ = case
    if swift.plain.binary.kind == "valkey" and scene.name in VALKEYS_OWN:
        pytest.skip(VALKEYS_OWN[scene.name])
    compare(swift, (triple, single), case)


@pytest.mark.parametrize("binary", MORE[1:], indirect=True, ids=lambda source: source.name)
@pytest.mark.parametrize("case", [case for case in CASES if case[0].name.startswith(VERSIONED)], ids=told)
def test_on_redis_8(swift: Site, triple: ProxyProcess, single: ProxyProcess, case: tuple[Scene, int]) -> None:
    """What depends on the server's version: scripts go other ways where servers pass on line breaks."""
    if case[0].name in REDIS_8S_OWN:
        pytest.skip(REDIS_8S_OWN[case[0].name])
    compare(swift, (triple, single), case)


def compare(swift: Site, proxies: Sequence[ProxyProcess], case: tuple[Scene, int]) -> None:
    """One scene straight, and through each proxy."""
    scene, protocol = case
    tag = swift.tags()[-1]
    clean(swift.plain)
    expected = Play(swift.plain.address, protocol, tag).run(scene)
    for proxy in proxies:
        for server in swift.shards.servers:
            clean(server)
        found = Play(proxy.address, protocol, tag).run(scene)
        different = scene_differences(swift.plain.binary.kind, expected, found)
        assert not different, "\n".join(different)
