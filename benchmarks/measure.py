"""One run: what redis-benchmark says of throughput and latency, and what the kernel says of the proxy's CPU time.

CPU time comes from ``/proc/PID/task/*/schedstat`` (nanoseconds on a CPU, user and system), since the clock ticks of
``/proc/PID/stat`` are 10 ms. On loopback it holds the network stack's work for what the process sends.
"""

import contextlib
import re
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hiredis

from benchmarks.peers import Target
from benchmarks.scenarios import KeySet, Scenario
from proxy.errors import SlotgateError
from proxy.keeper import keeper
from proxy.resp.encode import request

# After a run, so that closing its connections counts, for every proxy alike; seconds.
_SETTLE: Final = 0.03
_POLL: Final = 0.005
# The most that preloading sends before it reads the replies; bytes.
_BATCH: Final = 1024 * 1024
_PRELOAD_TIMEOUT: Final = 20.0
_HEADER: Final = '"test","rps"'
_PROC: Final = Path("/proc")


class RunFailed(SlotgateError):
    """A run that gives no figures, and why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run's figures: commands per second, p99 in milliseconds, the proxy's CPU time per command in microseconds."""

    rps: float
    p99: float
    cpu: float

    @property
    def busy(self) -> float:
        """Cores in use by the proxy: near 1, a proxy with one thread is the limit."""
        return self.cpu * self.rps / 1e6


def find_load_generator() -> Path:
    """redis-benchmark. Raises SlotgateError, with what to do, when it is not on PATH."""
    found = shutil.which("redis-benchmark")
    if found is None:
        raise SlotgateError("redis-benchmark is not on PATH. Debian, Ubuntu: apt-get install redis-tools")
    return Path(found)


def run(target: Target, scenario: Scenario, requests: int, *, directory: Path, timeout: float) -> Sample:
    """Sends ``requests`` commands of ``scenario`` to ``target``; ``directory`` is for the output, ``timeout`` seconds.

    Raises RunFailed when redis-benchmark reports an error, does not end in time, or says what is not a figure.
    """
    if not target.is_running():
        raise RunFailed("its process has ended")
    before = cpu_ns(target.pid)
    output = _load(benchmark_command(target, scenario, requests), directory / "redis-benchmark.out", timeout)
    time.sleep(_SETTLE)
    cpu = (cpu_ns(target.pid) - before) / requests / 1000
    rps, p99 = parse_csv(output)
    return Sample(rps, p99, cpu)


def benchmark_command(target: Target, scenario: Scenario, requests: int) -> list[str]:
    """redis-benchmark's command line."""
    options = {
        "-h": target.host,
        "-p": target.port,
        "-c": scenario.clients,
        "-P": scenario.pipeline,
        "-n": requests,
        "-r": scenario.keys.count,
        "-k": int(scenario.keepalive),
    }
    flat = [str(part) for option in options.items() for part in option]
    return [str(find_load_generator()), *flat, "--csv", *scenario.args]


def parse_csv(output: str) -> tuple[float, float]:
    """(commands per second, p99 in ms) from what redis-benchmark wrote with --csv (6.2 and later).

    Raises RunFailed with its own words when there are no such figures.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    header = next((index for index, line in enumerate(lines) if line.startswith(_HEADER)), None)
    if header is None or header + 1 >= len(lines) or not lines[header + 1].startswith('"'):
        said = [line for line in lines if not line.startswith(_HEADER)]
        raise RunFailed(f"redis-benchmark: {said[-1][:200] if said else 'it ended without a word'}")
    # From the right: the first field is the command, which may hold commas.
    names = lines[header].replace('"', "").split(",")
    fields = lines[header + 1].rsplit(",", len(names) - 1)
    row = dict(zip(names, (field.strip('"') for field in fields), strict=False))
    try:
        rps, p99 = float(row["rps"]), float(row["p99_latency_ms"])
    except (KeyError, ValueError):
        raise RunFailed(f"redis-benchmark (6.2 or later is needed) wrote no figures: {lines[-1][:200]}") from None
    if not 0 < rps < float("inf"):
        raise RunFailed(f"redis-benchmark says {rps} commands a second")
    return rps, p99


def cpu_ns(pid: int) -> int:
    """Nanoseconds on a CPU so far, of all threads of the process and of the processes it started."""
    total = 0
    for each in process_tree(pid):
        for schedstat in (_PROC / str(each) / "task").glob("*/schedstat"):
            # A thread may end between the listing and the reading.
            with contextlib.suppress(OSError):
                total += int(schedstat.read_text().split()[0])
    return total


def process_tree(pid: int) -> set[int]:
    """``pid`` and its descendants."""
    parents = dict(_parents())
    tree, grew = {pid}, True
    while grew:
        more = {child for child, parent in parents.items() if parent in tree} - tree
        tree |= more
        grew = bool(more)
    return tree


def _parents() -> Iterator[tuple[int, int]]:
    for stat in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # pid (comm) state ppid ...: comm may hold spaces and parentheses.
            found = re.match(r"(\d+) \(.*\) \S (\d+)", stat.read_text(errors="replace"), re.DOTALL)
            if found is not None:
                yield int(found[1]), int(found[2])


def _load(command: list[str], output: Path, timeout: float) -> str:
    """What redis-benchmark wrote. A child of the keeper: left alone, it would try a lost proxy's port forever."""
    output.unlink(missing_ok=True)
    process = keeper().spawn(command, cwd=output.parent, output=output)
    try:
        # Not wait(timeout), which polls at intervals of up to 50 ms.
        deadline = time.monotonic() + timeout
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise RunFailed(f"redis-benchmark did not end in {timeout:.0f} s")
            time.sleep(_POLL)
    finally:
        process.kill()
        process.wait()
    return output.read_text(errors="replace")


def preload(target: Target, keys: KeySet) -> None:
    """Sets every key through the proxy, so that each finds it where this proxy looks; reads two of them back.

    Raises RunFailed when a reply is not what Redis answers, OSError when there is none in time.
    """
    step = max(1, _BATCH // keys.size)
    with socket.create_connection((target.host, target.port), _PRELOAD_TIMEOUT) as connection:
        for first in range(0, keys.count, step):
            numbers = range(first, min(first + step, keys.count))
            _expect(connection, [("SET", keys.key(number), keys.value) for number in numbers], b"OK")
        ends = (keys.key(0), keys.key(keys.count - 1))
        _expect(connection, [("GET", key) for key in ends], keys.value.encode())


def _expect(connection: socket.socket, commands: list[tuple[str, ...]], expected: bytes) -> None:
    connection.sendall(b"".join(map(request, commands)))
    reader = hiredis.Reader()
    for command in commands:
        while (reply := reader.gets()) is False:
            received = connection.recv(1024 * 1024)
            if not received:
                raise RunFailed(f"the connection was closed at {command[0]} {command[1]}")
            reader.feed(received)
        if reply != expected:
            raise RunFailed(f"{command[0]} {command[1]} was answered {str(reply)[:100]}")
