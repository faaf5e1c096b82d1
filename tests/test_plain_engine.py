"""The uncompiled engine in every run: what runs compiled above runs here once more without, by a pytest of its own.

All that needs no server, the differential tests, and of the other live ones those marked ``smoke``. The runs' closing
lines are shown at the end of this one; where one fails, its failures.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.config.environment import ENGINE
from proxy.enginekind import engine
from tests.conftest import UNCOMPILED

ROOT = Path(__file__).parent.parent
PARTS = {
    "unit": ["tests/unit"],
    "simulation": ["tests/simulation"],
    "differential": ["tests/live/differential"],
    "smoke": ["tests/live", "-m", "smoke"],
}
NOTHING_RAN = 5


@pytest.mark.skipif(engine() == "python", reason="the uncompiled engine is what all tests run on")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", PARTS)
def test_without_the_compiled_engine(part: str, request: pytest.FixtureRequest) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "--tb=short", "-p", "no:cacheprovider", *PARTS[part]],
        cwd=ROOT,
        env={"SIMULATION_SEEDS": "0-49", **os.environ, ENGINE: "python"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    # The failures alone: their names must not drown in the list of what passed.
    assert ended.returncode == 0, "".join(ended.stdout.rpartition("= FAILURES =")[1:])
    assert f"engine: python, as {ENGINE} says" in ended.stdout
    closing = ended.stdout.rstrip().rpartition("\n")[2].strip("= ")
    request.config.stash[UNCOMPILED].append(f"{part}: {closing}")
