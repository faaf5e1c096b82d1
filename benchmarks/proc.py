"""What the kernel says of a process: CPU time and memory, of it and of the processes it started (Linux; man 5 proc)."""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
# clock_getcpuclockid(3) in the kernel's terms: CPUCLOCK_SCHED, of the whole process.
_CPU_CLOCK: Final = 2
# Sets VmHWM back to what is resident now.
_RESET_PEAK: Final = "5"
_KB: Final = 1024


def cpu_ns(pid: int) -> int:
    """Nanoseconds on a CPU so far, of the process and of the processes it started; those that are gone count 0."""
    total = 0
    for each in process_tree(pid):
        with contextlib.suppress(OSError):
            total += own_cpu_ns(each)
    return total


def own_cpu_ns(pid: int) -> int:
    """Nanoseconds on a CPU so far, of all threads of the process, ended ones too. Raises OSError when it is gone.

    From the process's CPU clock, since the clock ticks of ``/proc/PID/stat`` are 10 ms.
    """
    return time.clock_gettime_ns(~pid << 3 | _CPU_CLOCK)


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


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: all that is resident (RSS), and the part that is the process's own, not a file's (anonymous)."""

    resident: int
    anonymous: int


def memory(pid: int) -> Memory:
    """Of the process and of the processes it started, from smaps_rollup. Raises OSError when it is gone."""
    found = [_fields((_PROC / str(each) / "smaps_rollup").read_text()) for each in process_tree(pid)]
    return Memory(sum(fields["Rss"] for fields in found), sum(fields["Anonymous"] for fields in found))


def resident_peak(pid: int) -> int:
    """The most that was resident since the start or :func:`reset_resident_peak`; bytes, of this process alone."""
    return _fields((_PROC / str(pid) / "status").read_text())["VmHWM"]


def reset_resident_peak(pid: int) -> int:
    """Forgets the peak; what is resident now is the new one, and is returned in bytes."""
    (_PROC / str(pid) / "clear_refs").write_text(_RESET_PEAK)
    return resident_peak(pid)


def _fields(text: str) -> dict[str, int]:
    """The sizes in a file of /proc, ``Rss:   1784 kB`` a line, in bytes."""
    return {name: int(size) * _KB for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
