"""Which engine is tested: said first, and no run where it is old, or missing although it could be compiled."""

import os
from pathlib import Path

import pytest

import proxy
from proxy.config.environment import ENGINE
from proxy.enginekind import engine
from tests.enginestate import compilable, problem
from tests.uncompiled import Runs

UNCOMPILED = pytest.StashKey[list[str]]()
"""What the runs on the uncompiled engine (test_plain_engine.py) ended with."""
UNCOMPILED_RUNS = pytest.StashKey[Runs]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[UNCOMPILED] = []
    wrong = problem(Path(proxy.__file__).parent, os.environ.get(ENGINE) == "python", compilable())
    if wrong is not None:
        raise pytest.UsageError(wrong)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with the uncompiled runs that were asked for: they go on beside the other tests."""
    parts = [
        str(item.callspec.params["part"])
        for item in session.items
        if isinstance(item, pytest.Function) and item.path.stem == "test_plain_engine"
    ]
    if parts and engine() == "compiled" and not session.config.option.collectonly:
        session.config.stash[UNCOMPILED_RUNS] = Runs(parts)


def pytest_unconfigure(config: pytest.Config) -> None:
    if UNCOMPILED_RUNS in config.stash:
        config.stash[UNCOMPILED_RUNS].end()


def pytest_report_header() -> str:
    why = ""
    if engine() == "python":
        why = f", as {ENGINE} says" if ENGINE in os.environ else ": there is nothing to compile it with here"
    return f"engine: {engine()}{why}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[UNCOMPILED]:
        terminalreporter.section("on the uncompiled engine")
        for line in config.stash[UNCOMPILED]:
            terminalreporter.write_line(line)
