"""Function libraries that a primary lacks while another has them: a server that was added, or emptied.

FUNCTION LOAD goes to all shards, but a shard that comes later has had none of it, and calls there fail. The proxy loads
nothing by itself (a library may have been left out on purpose); it says which shard lacks what.
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
"""By shard, the libraries that it lacks and another has, in order."""

_LIST = (("FUNCTION", "LIST"),)
_TIMEOUT = 5.0
_SETTLES = 0.5
"""Seconds."""


class Compared(Protocol):
    """What is needed of a worker."""

    @property
    def topology(self) -> Topology: ...
    @property
    def credentials(self) -> Credentials: ...
    @property
    def changed(self) -> asyncio.Event: ...

    missing: Missing


async def keep_comparing(worker: Compared, interval: float) -> None:
    """Compare when the topology or a connection changes, and every ``interval`` seconds while something is amiss."""
    while True:
        primaries = [(shard.name, shard.primary) for shard in worker.topology.shards]
        found = await _libraries(primaries, worker.credentials)
        _tell(worker, missing(found))
        amiss = bool(worker.missing) or len(found) < len(primaries)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval if amiss else None):
                await worker.changed.wait()
        # Changes come in swarms.
        await asyncio.sleep(_SETTLES)


def missing(libraries: Mapping[str, frozenset[str] | None]) -> Missing:
    """Who lacks what, of the libraries of each shard; None: it knows no functions."""
    known = [names for names in libraries.values() if names is not None]
    everything = frozenset[str]().union(*known)
    return {
        shard: tuple(sorted(everything - names))
        for shard, names in libraries.items()
        if names is not None and everything - names
    }


def libraries_of(reply: Reply) -> frozenset[str] | None:
    """The names in a reply to FUNCTION LIST, in RESP2; None if the server has no functions, or will not say."""
    if not isinstance(reply, list):
        return None
    names = (
        dict(zip(row[::2], row[1::2], strict=False)).get(b"library_name") for row in reply if isinstance(row, list)
    )
    return frozenset(name.decode("utf-8", "replace") for name in names if isinstance(name, bytes))


async def _libraries(
    primaries: Sequence[tuple[str, Node]], credentials: Credentials
) -> dict[str, frozenset[str] | None]:
    """Those of the shards that could be asked."""
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
                "functions missing shard=%s libraries=%s: load them there, FUNCTION RESTORE or LOAD",
                shard,
                ",".join(names),
            )
    for shard in worker.missing.keys() - found.keys():
        log.info("functions complete shard=%s", shard)
    worker.missing = found
