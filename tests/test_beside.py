"""What goes on beside the other tests from the session's beginning (``tests/beside.py``), each by a pytest of its own.

The uncompiled engine: what runs compiled above runs there once more without; all that needs no server, the
differential tests, and of the other live ones those marked ``smoke``. And what the session itself leaves out then:
the live tests with the second kind of server, and a share of the others (``SHARE``). The session takes its part of that
work when its own tests are done. The closing lines are shown at the end; where one fails, its failures.
"""

import pytest

from proxy.compiled import engine
from proxy.config.environment import ENGINE
from tests.beside import MOVED, UNCOMPILED
from tests.conftest import CLOSING_LINES, RUNS

pytestmark = pytest.mark.timeout(1100)


@pytest.mark.skipif(engine() == "python", reason="the uncompiled engine is what all tests run on")
@pytest.mark.parametrize("part", UNCOMPILED)
def test_without_the_compiled_engine(part: str, pytestconfig: pytest.Config) -> None:
    said = passed(pytestconfig, part)
    assert f"engine: python, as {ENGINE} says" in said


@pytest.mark.parametrize("part", MOVED)
def test_what_was_left_to_it(part: str, pytestconfig: pytest.Config) -> None:
    said = passed(pytestconfig, part)
    assert f"engine: {engine()}" in said


def passed(config: pytest.Config, part: str) -> str:
    """What a run said in which nothing failed."""
    status, said = config.stash[RUNS].result(part)
    # The failures alone: their names must not drown in the list of what passed.
    assert status == 0, "".join(said.rpartition("= FAILURES =")[1:]) or said
    closing = said.rstrip().rpartition("\n")[2].strip("= ")
    assert " passed" in closing
    config.stash[CLOSING_LINES].append(f"{part}: {closing}")
    return said
