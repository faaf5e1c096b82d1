"""How the C library keeps memory that was freed.

Source: mallopt(3) and malloc_trim(3) of glibc. Elsewhere nothing is set.
"""

import asyncio
import ctypes
import gc

from proxy.worker.service import Service

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP = 32 * 1024 * 1024
"""Freed memory at the end of the heap is kept up to this until it is quiet: fresh pages cost more than a copy."""
_FROM_THE_HEAP = 32 * 1024 * 1024
"""Only larger blocks get pages of their own, which go back at once (glibc takes no higher bound)."""

_LOOK_EVERY = 2.0
_QUIET = 4096
"""Fewer bytes from clients in that time are no traffic."""
_MANY = 500
_MOST_OLD = 50_000
"""Objects among which it takes 10 ms to look for garbage."""


def keep_pages() -> None:
    """Have pages used again for the next large value, in place of giving them back after each."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _FROM_THE_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _KEEP)


def collect() -> None:
    """Look for garbage among what has become old, in some milliseconds: what is too much for that stays for good, as
    what was there at the start does."""
    gc.collect(1)
    if len(gc.get_objects(2)) < _MOST_OLD:
        gc.collect()
    else:
        gc.freeze()


def give_back() -> None:
    """Give free pages within the heap back to the system; takes milliseconds, but needs no interpreter."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def tend(service: Service) -> None:
    """Give memory back after a burst: when it has become quiet, or half the clients or more have gone."""
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
