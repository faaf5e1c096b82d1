"""Random runs. ``SIMULATION_SEEDS=1000-1999`` runs these seeds instead, a single number one of them."""

import gc
from collections.abc import Iterator

import pytest

from tests.simulation.random_run import RandomRun
from tests.simulation.seeds import seeds


@pytest.fixture(scope="module", autouse=True)
def _nothing_old_is_collected() -> Iterator[None]:
    """Collecting after each run looks at that run's objects only."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("seed", seeds("0-149"))
def test_every_request_has_its_reply(seed: int) -> None:
    problems = RandomRun(seed).run()
    assert not problems, f"replay with SIMULATION_SEEDS={seed}\n" + "\n".join(problems)
