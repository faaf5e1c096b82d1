"""Which random runs there are."""

import os


def seeds(usual: str) -> range:
    """Those of the environment's ``SIMULATION_SEEDS``, "1000-1999" or a single number; the ``usual`` ones without."""
    first, _, last = os.environ.get("SIMULATION_SEEDS", usual).partition("-")
    return range(int(first), int(last or first) + 1)
