"""Helpers of tests that start real processes."""

import time
from collections.abc import Callable
from pathlib import Path


def runs(pid: int) -> bool:
    """Whether the process exists, and is no zombie that its parent has not waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def children(pid: int) -> list[int]:
    """The ids of the running processes that ``pid`` started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid and runs(int(stat.parent.name)):
            found.append(int(stat.parent.name))
    return found


def eventually(happened: Callable[[], bool], timeout: float = 10.0) -> bool:
    """Whether ``happened()`` becomes true within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def within(happened: Callable[[], bool], seconds: float = 10.0) -> float:
    """The seconds until ``happened()`` becomes true. Raises ``AssertionError`` after ``seconds``."""
    started = time.monotonic()
    while not happened():
        assert time.monotonic() - started < seconds, f"it did not happen in {seconds:g} s"
        time.sleep(0.02)
    return time.monotonic() - started
