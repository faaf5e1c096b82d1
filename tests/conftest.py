"""Which engine is tested: said first, and no run where it is old, or missing although it could be compiled."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

import proxy
from proxy.compiled import engine
from proxy.config.environment import ENGINE
from tests.beside import BRIEF, MOVED, OTHER, OTHER_SERVER, SHARE, Runs
from tests.support.engine_state import compilable, problem

settings.register_profile(BRIEF, settings.get_profile("ci"), max_examples=30)
CLOSING_LINES = pytest.StashKey[list[str]]()
"""What the runs beside this one (test_beside.py) ended with."""
RUNS = pytest.StashKey[Runs]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CLOSING_LINES] = []
    wrong = problem(Path(proxy.__file__).parent, os.environ.get(ENGINE) == "python", compilable())
    if wrong is not None:
        raise pytest.UsageError(wrong)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to the runs beside this one what they will do, and wait for them last."""
    parts = _parts(items)
    theirs = {item: None for item in items if _part(item) in parts}
    items[:] = sorted((item for item in items if item not in theirs), key=_waits)
    config.hook.pytest_deselected(items=list(theirs))


def _part(item: pytest.Item) -> str | None:
    """The run beside this one that a test is of, if that is asked for."""
    where = item.path.relative_to(item.config.rootpath).as_posix()
    parts = OTHER_SERVER if OTHER in item.name and "live" in item.path.parts else SHARE
    return next((part for part, places in parts.items() if where.startswith(tuple(places))), None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with the runs beside this one that were asked for."""
    parts = _parts(session.items)
    if engine() == "python":
        parts = [part for part in parts if part in MOVED]
    if parts and not session.config.option.collectonly:
        session.config.stash[RUNS] = Runs(parts)


def _parts(items: list[pytest.Item]) -> list[str]:
    return [str(item.callspec.params["part"]) for item in items if isinstance(item, pytest.Function) and _waits(item)]


def _waits(item: pytest.Item) -> bool:
    """Whether a test waits for a run beside this one."""
    return item.path.stem == "test_beside"


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUNS in config.stash:
        config.stash[RUNS].end()


def pytest_report_header() -> str:
    why = ""
    if engine() == "python":
        why = f", as {ENGINE} says" if ENGINE in os.environ else ": there is nothing to compile it with here"
    return f"engine: {engine()}{why}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[CLOSING_LINES]:
        terminalreporter.section("beside")
        for line in config.stash[CLOSING_LINES]:
            terminalreporter.write_line(line)
