"""redis-benchmark: where it is, its command line, what it says, and how much CPU time it needs itself."""

import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.peers import Target
from benchmarks.scenarios import Scenario
from proxy.devservers.process_guard import process_guard
from proxy.errors import SlotgateError

_POLL: Final = 0.005
_HEADER: Final = '"test","rps"'


class RunFailed(SlotgateError):
    """A run that gives no figures, and why."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one call of it says, commands per second and p99 in milliseconds, and its own CPU time in seconds."""

    rps: float
    p99: float
    cpu: float


def find_load_generator() -> Path:
    """redis-benchmark. Raises SlotgateError, with what to do, when it is not on PATH."""
    found = shutil.which("redis-benchmark")
    if found is None:
        raise SlotgateError("redis-benchmark is not on PATH. Debian, Ubuntu: apt-get install redis-tools")
    return Path(found)


def load(target: Target, scenario: Scenario, requests: int, *, directory: Path, timeout: float) -> Load:
    """Sends ``requests`` commands of ``scenario`` to ``target``; ``directory`` is for the output, ``timeout`` seconds.

    Raises RunFailed when redis-benchmark reports an error, does not end in time, or says what is not a figure.
    """
    before = _cpu_of_ended()
    rps, p99 = parse_csv(
        _output_of(benchmark_command(target, scenario, requests), directory / "redis-benchmark.out", timeout)
    )
    # It counts whole milliseconds, so a short run took none and was infinitely fast.
    return Load(min(rps, requests * 1000.0), p99, _cpu_of_ended() - before)


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
    if target.tls:
        flat += ["--tls", "--insecure"]
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
    if not rps > 0:
        raise RunFailed(f"redis-benchmark says {rps} commands a second")
    return rps, p99


def _output_of(command: list[str], output: Path, timeout: float) -> str:
    """What redis-benchmark wrote. A child of the guard: left alone, it would try a lost proxy's port forever."""
    output.unlink(missing_ok=True)
    process = process_guard().spawn(command, cwd=output.parent, output=output)
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


def _cpu_of_ended() -> float:
    """Seconds of all children that have ended: between two calls, those of the one redis-benchmark that ran."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime
