"""Runs of pytest beside the one that was started: most tests wait for servers, and the machine has two cores.

What they run: the uncompiled engine, the live tests with the second kind of server, and a share of the others.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from proxy.config.environment import ENGINE

ROOT = Path(__file__).parent.parent
OTHER = "valkey"
"""In the names of live tests with the second kind of server."""
BRIEF = "brief"
"""The profile of property tests that have run with the compiled engine."""
UNCOMPILED: Mapping[str, Sequence[str]] = {
    "unit": ["tests/unit", f"--hypothesis-profile={BRIEF}"],
    "simulation": ["tests/simulation", f"--hypothesis-profile={BRIEF}"],
    "differential": ["tests/live/differential"],
    "smoke": ["tests/live", "-m", "smoke"],
}
OTHER_SERVER: Mapping[str, Sequence[str]] = {OTHER: ["tests/live", "-k", OTHER]}


def _live(letter: str) -> list[str]:
    """The files of live tests whose names begin with ``letter``."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(f"tests/live/test_{letter}*.py"))


SHARE: Mapping[str, Sequence[str]] = {
    "units": ["tests/unit", "tests/simulation", "tests/engines"],
    **{f"live-{letter}": _live(letter) for letter in "bd"},
}
"""Where the tests are that are done there so that neither has to wait long for the other."""
MOVED = {**OTHER_SERVER, **SHARE}
"""What the session itself leaves out then."""
PARTS = {
    **UNCOMPILED,
    **MOVED,
    **{part: [*places, "-k", f"not {OTHER}"] for part, places in SHARE.items() if part.startswith("live-")},
}


class Runs:
    """The ``parts``, one after the other in the background from now on. Each result is (exit status, what was said)."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._results: dict[str, Future[tuple[int, str]]] = {part: Future() for part in parts}
        self._process: subprocess.Popen[str] | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="runs beside", daemon=True)
        self._thread.start()

    def result(self, part: str) -> tuple[int, str]:
        """What a part came to, when it is over."""
        return self._results[part].result()

    def end(self) -> None:
        """Stop what still runs."""
        self._ended = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
        self._thread.join()

    def _run(self) -> None:
        for part, result in self._results.items():
            if not self._ended:
                try:
                    result.set_result(self._pytest(part))
                except OSError as error:
                    result.set_exception(error)

    def _pytest(self, part: str) -> tuple[int, str]:
        environment = {"SIMULATION_SEEDS": "0-49", **os.environ, ENGINE: "python"} if part in UNCOMPILED else None
        self._process = subprocess.Popen(
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
        said, _ = self._process.communicate()
        return self._process.returncode, said
