"""Which engine is tested: said first, and no run where it is old, or missing although it could be compiled."""

import os
from pathlib import Path

import pytest

import proxy
from proxy.config.environment import ENGINE
from proxy.enginekind import engine
from tests.enginestate import compilable, problem

UNCOMPILED = pytest.StashKey[list[str]]()
"""What the runs on the uncompiled engine (test_plain_engine.py) ended with."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[UNCOMPILED] = []
    wrong = problem(Path(proxy.__file__).parent, os.environ.get(ENGINE) == "python", compilable())
    if wrong is not None:
        raise pytest.UsageError(wrong)


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
