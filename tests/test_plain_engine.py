"""The uncompiled engine in every run: what runs compiled above runs here once more without, by a pytest of its own.

All that needs no server, the differential tests, and of the other live ones those marked ``smoke``. The runs begin with
the session (``tests/uncompiled.py``); their closing lines are shown at the end of it; where one fails, its failures.
"""

import pytest

from proxy.config.environment import ENGINE
from proxy.enginekind import engine
from tests.conftest import UNCOMPILED, UNCOMPILED_RUNS
from tests.uncompiled import PARTS


@pytest.mark.skipif(engine() == "python", reason="the uncompiled engine is what all tests run on")
@pytest.mark.timeout(1100)
@pytest.mark.parametrize("part", PARTS)
def test_without_the_compiled_engine(part: str, request: pytest.FixtureRequest) -> None:
    status, said = request.config.stash[UNCOMPILED_RUNS].result(part)
    # The failures alone: their names must not drown in the list of what passed.
    assert status == 0, "".join(said.rpartition("= FAILURES =")[1:])
    assert f"engine: python, as {ENGINE} says" in said
    closing = said.rstrip().rpartition("\n")[2].strip("= ")
    request.config.stash[UNCOMPILED].append(f"{part}: {closing}")
