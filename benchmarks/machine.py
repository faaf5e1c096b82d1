"""What the figures were measured on, and with which versions."""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import find_load_generator
from benchmarks.peers import Target


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
