"""Finds function libraries that a primary lacks and another one has, as after a server was added or emptied.

FUNCTION LOAD goes to all shards, but a shard that is added later lacks the libraries, so that calls fail there. The
proxy does not load libraries by itself, since one may be missing on purpose; it logs which shard lacks which library.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from proxy.backends.handshake import Credentials
from proxy.backends.query import Reply, ask
from proxy.errors import BackendError
from proxy.sharding.topology import Node, Topology

log = logging.getLogger(__name__)

Missing = Mapping[str, tuple[str, ...]]
"""The libraries that each shard lacks and another shard has, in order, by shard."""

_LIST = (("FUNCTION", "LIST"),)
_TIMEOUT = 5.0
_SETTLES = 0.5
"""Seconds to wait for further changes before the libraries are compared."""


class Compared(Protocol):
    """The part of a worker that the comparison uses."""

    @property
    def topology(self) -> Topology: ...
    @property
    def credentials(self) -> Credentials: ...
    @property
    def changed(self) -> asyncio.Event: ...

    missing: Missing


async def keep_comparing(worker: Compared, interval: float) -> None:
    """Compare when the topology or a connection changes, and every ``interval`` seconds while a library is missing."""
    while True:
        primaries = [(shard.name, shard.primary) for shard in worker.topology.shards]
        found = await _libraries(primaries, worker.credentials)
        _tell(worker, missing(found))
        amiss = bool(worker.missing) or len(found) < len(primaries)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval if amiss else None):
                await worker.changed.wait()
        # Several changes usually come together.
        await asyncio.sleep(_SETTLES)


def missing(libraries: Mapping[str, frozenset[str] | None]) -> Missing:
    """The missing libraries, from the ``libraries`` of each shard; None is a shard that knows no functions."""
    known = [names for names in libraries.values() if names is not None]
    everything = frozenset[str]().union(*known)
    return {
        shard: tuple(sorted(everything - names))
        for shard, names in libraries.items()
        if names is not None and everything - names
    }


def libraries_of(reply: Reply) -> frozenset[str] | None:
    """The names in a reply to FUNCTION LIST in RESP2; None if the server knows no functions or refuses the command."""
    if not isinstance(reply, list):
        return None
    names = (
        dict(zip(row[::2], row[1::2], strict=False)).get(b"library_name") for row in reply if isinstance(row, list)
    )
    return frozenset(name.decode("utf-8", "replace") for name in names if isinstance(name, bytes))


async def _libraries(
    primaries: Sequence[tuple[str, Node]], credentials: Credentials
) -> dict[str, frozenset[str] | None]:
    """The libraries of the shards that could be asked."""
    answers = await asyncio.gather(
        *(ask(node, credentials, _LIST, _TIMEOUT) for _, node in primaries), return_exceptions=True
    )
    found: dict[str, frozenset[str] | None] = {}
    for (name, _), answer in zip(primaries, answers, strict=True):
        if isinstance(answer, OSError | TimeoutError | BackendError):
            continue
        if isinstance(answer, BaseException):
            raise answer
        found[name] = libraries_of(answer[0])
    return found


def _tell(worker: Compared, found: Missing) -> None:
    for shard, names in found.items():
        if worker.missing.get(shard) != names:
            log.warning(
                "functions missing shard=%s libraries=%s: load them there with FUNCTION RESTORE or LOAD",
                shard,
                ",".join(names),
            )
    for shard in worker.missing.keys() - found.keys():
        log.info("functions complete shard=%s", shard)
    worker.missing = found
