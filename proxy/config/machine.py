"""What this process may use of the machine: processor cores and memory, as far as its control groups allow.

Sources: the kernel's cgroup-v2.rst (cpu.max, memory.max), sched-bwc.rst (cpu.cfs_quota_us) and cgroup-v1/memory.rst
(memory.limit_in_bytes).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return the number of cores that this process may use: those of its affinity, or as many as the CPU quota of its
    control groups (v1 or v2) is worth, rounded up, if these are fewer."""
    found = [len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1]
    for folder, version in _folders("cpu"):
        with contextlib.suppress(OSError, ValueError):
            if version == 1:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            else:
                quota, period = (folder / "cpu.max").read_text().split()
            if int(quota) > 0:
                found.append(max(-(-int(quota) // int(period)), 1))
    return min(found)


def memory() -> int:
    """Return the bytes of memory that this process may use: what its control groups (v1 or v2) allow, at most the
    machine's memory."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder, version in _folders("memory"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int((folder / ("memory.limit_in_bytes" if version == 1 else "memory.max")).read_text()))
    return min(found)


def _folders(controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the folders of the control groups that limit this process, each with the version of its hierarchy (1 or
    2)."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _GROUPS / controller if controllers else _GROUPS
        # A group's limit applies to all groups in it. In a container the path may be that of the machine: then only
        # the root of the container's own tree is found.
        folder = root / path.lstrip("/")
        for each in (folder, *folder.parents):
            yield each, 1 if controllers else 2
            if each == root:
                break
