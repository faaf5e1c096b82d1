"""What the figures were measured on, and with which versions."""

import datetime
import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.loadgen import find_load_generator
from benchmarks.peers import Target
from benchmarks.proc import cpu_ns

_STAT: Final = Path("/proc/stat")


def facts(targets: Sequence[Target]) -> dict[str, str]:
    """For the head of a report. The load averages are those of this moment: ask before measuring."""
    load = ", ".join(f"{average:.2f}" for average in os.getloadavg())
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("uvloop", "hiredis"))
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{cpu_model(_cpuinfo())}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average before the run": f"{load} (1, 5, 15 minutes)",
        **{target.name: target.version for target in targets},
        "load generator": _load_generator(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {libraries}",
    }


class Bystanders:
    """How much of the machine everything but this process and its children uses, since this was made."""

    def __init__(self) -> None:
        self._before = self._now()

    def cores(self) -> float:
        now = self._now()
        elapsed, busy, own = (after - before for after, before in zip(now, self._before, strict=True))
        return max(0.0, busy - own) / elapsed

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds: the clock, all CPU time of the machine, that of this process and its children, ended ones too."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = cpu_ns(os.getpid()) / 1e9 + ended.ru_utime + ended.ru_stime
        return time.monotonic(), busy_ticks(_STAT.read_text()) / os.sysconf("SC_CLK_TCK"), own


def busy_ticks(stat: str) -> int:
    """All CPUs' time that was not idle, from the text of /proc/stat (man 5 proc): what a hypervisor took as well."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.split()[1:9])
    return user + nice + system + irq + softirq + steal


def cpu_model(cpuinfo: str) -> str:
    """The processor's name in the text of /proc/cpuinfo (ARM's has none)."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found is not None else platform.machine()


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _load_generator() -> str:
    said = subprocess.run([find_load_generator(), "--version"], capture_output=True, text=True, timeout=10)
    return said.stdout.strip()
