"""The limit of file descriptors of this process, and their division.

::

    the limit ─┬─ the reserve: listening sockets, /metrics, name lookups, the proxy's own queries to servers
               ├─ shared connections to servers
               ├─ dedicated connections to servers (``Budget``)
               └─ connections of clients

The connections that clients cause are bounded, so that descriptors are left for the others: else a full proxy could
neither connect to a server that comes back, nor tell a client or an operator that it is full.
"""

import contextlib
import errno
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.config import Config
from proxy.errors import SlotgateError
from proxy.sharding.topology import Topology

log = logging.getLogger(__name__)

_RESERVE = 32
"""Descriptors in the reserve: as many as in Redis (CONFIG_MIN_RESERVED_FDS)."""
_BESIDE = 4
"""Connections to one server beside the shared ones: subscriptions, large requests, a replaced one, queries."""
_PROTOCOLS = 2
"""RESP2 and RESP3 each have shared connections of their own."""
_MANNERS = 2
"""Clients that call scripts, and other clients, each have shared connections of their own."""
_DEDICATED_PART = 4
"""If descriptors are scarce, one in so many is for dedicated connections."""
_FEWEST = 8
"""The least number of clients with which the proxy starts."""
_HOW = "ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of Docker"
PLENTY = 1 << 30
"""The number that stands for no limit."""
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""The errors of accept(2) when no descriptors or no memory are left."""


def raise_limit() -> int:
    """Raise this process's limit of descriptors to its hard limit, and return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS: the hard limit is more than the system gives
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return PLENTY if soft == resource.RLIM_INFINITY else soft


def hard_limit() -> int:
    """Return the limit to which ``raise_limit`` could raise this process's limit of descriptors."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return PLENTY if hard == resource.RLIM_INFINITY else hard


@dataclass(frozen=True, slots=True)
class Division:
    """The division of one worker's descriptors. ``wanted`` is the limit that the configuration would need."""

    limit: int
    wanted: int
    clients: int
    """The most clients of this worker."""
    all_clients: int
    """The most clients of all workers together."""
    dedicated: int
    """The most dedicated connections of this worker, to all servers together."""


def divide(limit: int, config: Config, topology: Topology, workers: int) -> Division:
    """Divide the ``limit`` descriptors of one of ``workers`` processes.

    The descriptors that all clients need come first, if a quarter is left for dedicated connections.
    """
    servers = max(sum(1 for _ in _nodes(topology)), 1)
    primaries = max(len(topology.shards), 1)
    shared = servers * (config.backend.connections_per_node * _PROTOCOLS * _MANNERS + _BESIDE)
    most = config.limits.max_clients
    share = -(-most // workers)
    dedicated = config.backend.dedicated_connections * primaries
    wanted = _RESERVE + len(config.listening) + shared + share + dedicated
    room = limit - _RESERVE - len(config.listening) - shared
    enough = wanted <= limit
    if not enough:
        dedicated = min(dedicated, max(room - share, room // _DEDICATED_PART))
    # A worker may have more than its share of the clients if there is room: the kernel does not share them out evenly.
    clients = max(min(most, room - dedicated), 1)
    return Division(limit, wanted, clients, min(most, clients * workers), PLENTY if enough else dedicated)


def check(limit: int, config: Config, topology: Topology) -> None:
    """Raise SlotgateError if ``limit`` is far too low for the servers of ``topology`` that are known at the start."""
    if (few := divide(limit, config, topology, config.worker_count).clients) < min(_FEWEST, config.limits.max_clients):
        raise SlotgateError(
            f"the limit of open files is {limit}: beside the connections to servers that leaves {few} for clients. "
            f"Raise it ({_HOW})"
        )


def report(division: Division, config: Config, workers: int) -> None:
    """Log a warning if the limit is too low for the configuration."""
    if division.wanted <= division.limit:
        return
    log.warning(
        "the limit of open files is too low: max_clients is %d, not %d, and clients may have %d connections to servers "
        "for themselves limit=%d wanted=%d%s; raise it (%s)",
        division.all_clients,
        config.limits.max_clients,
        division.dedicated,
        division.limit,
        division.wanted,
        f" workers={workers}, each with that limit" if workers > 1 else "",
        _HOW,
    )


class WorkerDescriptors:
    """The descriptors that one of so many ``workers`` may have, divided anew when there are more servers or fewer."""

    def __init__(self, limit: int, config: Config, workers: int, index: int) -> None:
        self._limit = limit
        self._config = config
        self._workers = workers
        self._index = index
        self._division: Division | None = None

    def divide(self, topology: Topology) -> Division:
        """Divide them for the servers of ``topology``; the first worker reports once if they are too few for all."""
        division = divide(self._limit, self._config, topology, self._workers)
        if division != self._division and topology.shards and self._index == 0:
            report(division, self._config, self._workers)
        self._division = division
        return division


def _nodes(topology: Topology) -> Iterable[object]:
    return {node for shard in topology.shards for node in shard.nodes}


class Budget:
    """Counts the dedicated connections of a worker, to all servers together, against their limit."""

    __slots__ = ("most", "taken")

    def __init__(self, most: int = PLENTY) -> None:
        self.most = most
        self.taken = 0

    def __repr__(self) -> str:
        return f"Budget({self.taken} of {self.most})"

    def has(self, count: int = 1) -> bool:
        """Whether ``count`` more may be made."""
        return self.taken + count <= self.most


class Spare:
    """A spare descriptor. When no other is left, a connection is accepted with it, answered with an error and closed.

    Without it the client would wait for an answer, and the listening socket would be ready all the time.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._have()

    def __del__(self) -> None:
        self.give()

    def give(self) -> bool:
        """Close the spare descriptor, so that one is free; return whether there was one."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return False
        os.close(descriptor)
        return True

    def _have(self) -> None:
        with contextlib.suppress(OSError):
            self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def turn_away(self, listener: socket.socket, words: Callable[[], bytes]) -> bool:
        """Accept a connection, send ``words()`` and close it; return whether one could be accepted."""
        if self._descriptor is None:
            self._have()
        if not self.give():
            return False
        try:
            with listener.accept()[0] as link:
                link.setblocking(False)
                link.send(words())
        except OSError:
            return False
        finally:
            self._have()
        return True
