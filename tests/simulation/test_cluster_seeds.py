"""Random runs before a simulated cluster. ``SIMULATION_SEEDS=1000-1999`` runs these seeds instead."""

import gc
from collections.abc import Iterator

import pytest

from tests.simulation.clusterworld import ClusterWorld, Find, discovery, rumours
from tests.simulation.seeds import seeds


@pytest.fixture(scope="module", autouse=True)
def _nothing_old_is_collected() -> Iterator[None]:
    """Collecting after each run looks at that run's objects only."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("find", [discovery, rumours])
@pytest.mark.parametrize("seed", seeds("0-59"))
def test_order_and_data_stand_whatever_the_cluster_does(seed: int, find: Find) -> None:
    world = ClusterWorld(seed, find)
    problems = world.run()
    assert not problems, f"replay with SIMULATION_SEEDS={seed}, a {world.kind} one\n" + "\n".join(problems)


def test_the_runs_are_about_what_they_should_be() -> None:
    """Or else they would show nothing: slots move, primaries change, and servers refuse in every way."""
    refused: dict[str, int] = {}
    moves = failovers = 0
    for seed in range(45):
        world = ClusterWorld(seed, rumours)
        world.run()
        moves += world.cluster.moves
        failovers += world.cluster.failovers
        for word, times in world.retries.items():
            refused[word] = refused.get(word, 0) + times
    assert moves > 50
    assert failovers > 20
    assert set(refused) == {"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"}
    assert min(refused.values()) > 10
