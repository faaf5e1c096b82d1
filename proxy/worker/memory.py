"""Sets how the C library keeps freed memory, returns free memory to the system, and measures the process.

Source: mallopt(3) and malloc_trim(3) of glibc. With other libraries nothing is set.
"""

import asyncio
import ctypes
import gc
import os
from pathlib import Path

from proxy.worker.service import Service

_PAGE = os.sysconf("SC_PAGE_SIZE")
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP = 32 * 1024 * 1024
"""Bytes of freed memory that are kept at the end of the heap until traffic is low: new pages cost more than a copy."""
_FROM_THE_HEAP = 32 * 1024 * 1024
"""Only larger blocks have pages of their own, which are returned when they are freed (glibc takes no higher bound)."""

_LOOK_EVERY = 2.0
_QUIET = 4096
"""Fewer received bytes in that time count as no traffic."""
_MANY = 500
_MOST_OLD = 50_000
"""The number of objects that the garbage collector can search in 10 ms."""


def keep_pages() -> None:
    """Make the C library reuse pages for the next large value, instead of returning them after each."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _FROM_THE_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _KEEP)


def resident() -> int:
    """The bytes of memory that this process has now; 0 if the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def collect() -> None:
    """Collect garbage among old objects, in some milliseconds: if there are too many, they are kept for good, like
    the objects of the start."""
    gc.collect(1)
    if len(gc.get_objects(2)) < _MOST_OLD:
        gc.collect()
    else:
        gc.freeze()


def give_back() -> None:
    """Return free pages within the heap to the system, which takes milliseconds, but not the interpreter's lock."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def tend(service: Service) -> None:
    """Return memory after a burst of traffic: when traffic is low again, or at least half of the clients have gone."""
    received, moved, peak = service.counters.bytes_in, False, 0
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        quiet = service.counters.bytes_in - received < _QUIET
        received = service.counters.bytes_in
        clients = len(service.clients)
        peak = max(peak, clients)
        if (quiet and moved) or (peak > _MANY and clients <= peak // 2):
            collect()
            await asyncio.to_thread(give_back)
            moved, peak = False, clients
        elif not quiet:
            moved = True
