"""Random runs. ``SIMULATION_SEEDS=1000-1999`` runs these seeds instead, a single number one of them."""

import gc
import os
from collections.abc import Iterator

import pytest

from tests.simulation.world import World

_SEEDS = os.environ.get("SIMULATION_SEEDS", "0-149")


def _seeds() -> range:
    first, _, last = _SEEDS.partition("-")
    return range(int(first), int(last or first) + 1)


@pytest.fixture(scope="module", autouse=True)
def _nothing_old_is_collected() -> Iterator[None]:
    """Collecting after each run looks at that run's objects only."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("seed", _seeds())
def test_every_request_has_its_reply(seed: int) -> None:
    problems = World(seed).run()
    assert not problems, f"replay with SIMULATION_SEEDS={seed}\n" + "\n".join(problems)
