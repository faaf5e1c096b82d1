"""Runs of pytest beside the one that was started: most tests wait for servers, and the machine has two cores.

What they run: the uncompiled engine, the live tests with the second kind of server, and a share of the others. It is
cut into parts that stand in one queue. Threads take them from its front; the session that was started takes them from
its end as soon as its own tests are done, so that no side waits for the other for longer than a part takes.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from proxy.compiled import MODULES
from proxy.config.environment import ENGINE

ROOT = Path(__file__).parent.parent
OTHER = "valkey"
"""In the names of live tests with the second kind of server."""
BRIEF = "brief"
"""The profile of property tests that have run with the compiled engine."""
ENGINE_UNITS = sorted({f"tests/unit/{name.split('.')[1]}" for name in MODULES if name.count(".") > 1})
"""The unit tests of packages with compiled modules: what is never compiled is the same in both engines."""
UNCOMPILED: Mapping[str, Sequence[str]] = {
    "unit": [*ENGINE_UNITS, "tests/unit/test_metrics.py", f"--hypothesis-profile={BRIEF}"],
    # The test that is left out is about the random runs, not about the engine.
    "simulation": ["tests/simulation", f"--hypothesis-profile={BRIEF}", "-k", "not runs_are_about"],
    "differential": ["tests/live/differential"],
    "smoke": ["tests/live", "-m", "smoke"],
}


def _live(letters: str) -> list[str]:
    """The files of live tests whose names begin with one of the ``letters``."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(f"tests/live/test_[{letters}]*.py"))


OTHER_SERVER: Mapping[str, Sequence[str]] = {
    f"{OTHER}-a-to-o": _live("a-o"),
    f"{OTHER}-p-to-z": _live("p-z"),
    f"{OTHER}-differential": ["tests/live/differential"],
}
"""Where the live tests are that run there with the second kind of server."""
SHARE: Mapping[str, Sequence[str]] = {
    "units": ["tests/unit"],
    "engines": ["tests/engines"],
    "simulations": ["tests/simulation"],
    **{f"live-{letter}": _live(letter) for letter in "lrpbd"},
}
"""Where the other tests are that run there so that no side has to wait long for the other."""
MOVED = {**OTHER_SERVER, **SHARE}
"""What the session itself leaves out then."""
PARTS = {
    **UNCOMPILED,
    **{part: [*places, "-k", OTHER] for part, places in OTHER_SERVER.items()},
    **SHARE,
    **{part: [*places, "-k", f"not {OTHER}"] for part, places in SHARE.items() if part.startswith("live-")},
}
THREADS = 1
SEEDS = "0-29"
"""The random runs of simulations in these parts; by itself, `pytest tests/simulation` has more."""


class Runs:
    """The ``parts``, one after the other in each of ``THREADS`` threads from now on. Each result is (exit status, what
    was said)."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._results: dict[str, Future[tuple[int, str]]] = {part: Future() for part in parts}
        self._waiting = deque(parts)
        self._processes: set[subprocess.Popen[str]] = set()
        self._threads = [
            threading.Thread(target=self._run_waiting, name=f"runs beside {number}", daemon=True)
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def result(self, part: str) -> tuple[int, str]:
        """What a part came to. Until it is over, the caller runs parts that nobody has begun with."""
        while not self._results[part].done():
            try:
                other = self._waiting.pop()
            except IndexError:
                break
            self._run(other)
        return self._results[part].result()

    def end(self) -> None:
        """Stop what still runs."""
        self._waiting.clear()
        for process in list(self._processes):
            process.terminate()
        for thread in self._threads:
            thread.join()

    def _run_waiting(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._run(self._waiting.popleft())

    def _run(self, part: str) -> None:
        try:
            self._results[part].set_result(self._pytest(part))
        except OSError as error:
            self._results[part].set_exception(error)

    def _pytest(self, part: str) -> tuple[int, str]:
        environment = {"SIMULATION_SEEDS": SEEDS, **os.environ}
        if part in UNCOMPILED:
            environment[ENGINE] = "python"
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pytest",
                "--tb=short",
                "-p",
                "no:cacheprovider",
                *PARTS[part],
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._processes.add(process)
        try:
            said, _ = process.communicate()
        finally:
            self._processes.discard(process)
        return process.returncode, said
