"""A load in a process of its own beside a proxy and servers that a test disturbs."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import proxy
from proxy.devservers.process_guard import process_guard
from tests.drills.load import CLIENTS, DEPTH
from tests.drills.mixture import LONGEST
from tests.drills.report import Report
from tests.support.proxy_process import ProxyProcess

LEAST_RATE = 3000
"""Replies a second that a load is about, in its quiet seconds."""
_IN_FLIGHT = CLIENTS * DEPTH * LONGEST
_NOTICED = 0.2
_START = 30.0
_STOP = 90.0
_POLL = 0.05


class Load:
    """``python -m tests.drills.load`` against a proxy. ``arguments`` are further ones of its command line."""

    def __init__(self, address: str, directory: Path, *arguments: str) -> None:
        self._output = directory / f"load-{time.monotonic_ns():x}.log"
        self._file = self._output.with_suffix(".json")
        self._process: subprocess.Popen[bytes] = process_guard().spawn(
            [sys.executable, "-m", "tests.drills.load", address, "--report", str(self._file), *arguments],
            cwd=Path(__file__).parent.parent.parent,
            output=self._output,
            env={**os.environ, "PYTHONPATH": str(Path(proxy.__file__).parent.parent)},
        )

    def run_for(self, seconds: float) -> None:
        """Lets it run until it has told of so many more seconds. Raises AssertionError when it does not get on."""
        wanted = self._told() + seconds
        deadline = time.monotonic() + seconds + _START
        while self._told() < wanted:
            assert self._process.poll() is None, self._output.read_text()
            assert time.monotonic() < deadline, self._output.read_text()
            time.sleep(_POLL)

    def stop(self) -> Report:
        """Ends it, has it read every key back, and gives what it saw."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self.kill()
        assert self._file.exists(), self._output.read_text()
        return Report.read(self._file)

    def kill(self) -> None:
        """Does nothing when it is over."""
        self._process.kill()
        self._process.wait()

    def _told(self) -> int:
        """Lines, of which it writes one a second."""
        return len(re.findall("replies,", self._output.read_text())) if self._output.exists() else 0


@contextmanager
def load_on(target: ProxyProcess, directory: Path, *arguments: str) -> Iterator[Load]:
    """A load that is in full swing when the block begins."""
    load = Load(target.address, directory, *arguments)
    try:
        load.run_for(2)
        yield load
    finally:
        load.kill()


def assert_nothing_seen(report: Report) -> None:
    """No error, no wrong reply, nothing lost, at the full rate."""
    assert report.clean, report
    assert report.quiet_rate() >= LEAST_RATE, report


def assert_only_what_was_in_flight(report: Report, died: float, shard: str, slots: range) -> None:
    """What a crash at ``died`` of the primary of ``shard`` with ``slots`` may show.

    -UNCERTAIN for what it had been sent and not answered. What it had acknowledged and not yet replicated is
    gone with it: Redis replicates asynchronously.
    """
    assert not report.wrong, report
    assert not report.broken, report
    assert set(report.kinds()) <= {"UNCERTAIN"}, report
    assert len(report.errors) <= _IN_FLIGHT, report
    for note in report.errors:
        assert note.sent < died + _NOTICED, report
        assert f"shard '{shard}'" in note.words, report
    for note in report.lost:
        assert note.slot in slots, report
        assert died - 0.1 < note.when < died + 0.1, report
