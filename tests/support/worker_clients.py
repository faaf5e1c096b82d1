"""Clients of every worker of one proxy: the kernel deals connections out, so it takes some tries to get them."""

import re
from contextlib import ExitStack

from tests.support.wire import TIMEOUT, Wire

_TRIES = 200


def worker_of(client: Wire) -> int:
    """Return the index of the worker that serves a client."""
    info = client.value("INFO", "slotgate")
    assert isinstance(info, bytes)
    match = re.search(rb"slotgate_worker:(\d+)", info)
    assert match is not None
    return int(match[1])


def one_of_each(address: str, stack: ExitStack, count: int = 2, timeout: float = TIMEOUT) -> list[Wire]:
    """Return a client of each of ``count`` workers, by their indexes; ``stack`` closes them."""
    found: dict[int, Wire] = {}
    for _ in range(_TRIES):
        client = Wire(address, timeout=timeout)
        index = worker_of(client)
        if index in found:
            client.close()
        else:
            found[index] = stack.enter_context(client)
        if len(found) == count:
            return [found[index] for index in range(count)]
    raise AssertionError(f"only {sorted(found)} got connections")
