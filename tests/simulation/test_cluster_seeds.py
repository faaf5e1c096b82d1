"""Random runs before a simulated cluster. ``SIMULATION_SEEDS=1000-1999`` runs these seeds instead."""

import gc
from collections.abc import Iterator

import pytest

from tests.simulation.cluster_random_run import ClusterRandomRun, Find, discovery, stale_source
from tests.simulation.seeds import seeds


@pytest.fixture(scope="module", autouse=True)
def _nothing_old_is_collected() -> Iterator[None]:
    """Collecting after each run looks at that run's objects only."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("find", [discovery, stale_source])
@pytest.mark.parametrize("seed", seeds("0-59"))
def test_order_and_data_stand_whatever_the_cluster_does(seed: int, find: Find) -> None:
    random_run = ClusterRandomRun(seed, find)
    problems = random_run.run()
    assert not problems, f"replay with SIMULATION_SEEDS={seed}, a {random_run.kind} one\n" + "\n".join(problems)


def test_the_runs_are_about_what_they_should_be() -> None:
    """Or else they would show nothing: slots move, primaries change, and servers refuse in every way."""
    refused: dict[str, int] = {}
    moves = failovers = 0
    for seed in range(45):
        random_run = ClusterRandomRun(seed, stale_source)
        random_run.run()
        moves += random_run.cluster.moves
        failovers += random_run.cluster.failovers
        for word, times in random_run.retries.items():
            refused[word] = refused.get(word, 0) + times
    assert moves > 50
    assert failovers > 20
    assert set(refused) == {"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"}
    assert min(refused.values()) > 10
