"""One run: what redis-benchmark says of throughput and latency, and what the kernel says of the proxy's CPU time.

On loopback a process's CPU time holds the network stack's work for what it sends. What a run costs besides its
commands (connecting, being connected to by redis-benchmark itself, closing) is measured just before it by a run that
does little else, and taken off.
"""

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hiredis

from benchmarks.loadgen import RunFailed, load
from benchmarks.peers import Target, connect
from benchmarks.proc import cpu_ns
from benchmarks.scenarios import KeySet, Scenario
from proxy.devservers.servers import LocalShards
from proxy.resp.encode import request

# After a run, so that closing its connections counts, for every proxy alike; seconds.
_SETTLE: Final = 0.03
# The most that preloading sends before it reads the replies; bytes.
_BATCH: Final = 1024 * 1024
_PRELOAD_TIMEOUT: Final = 20.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One run's figures: commands per second, p99 in milliseconds, the proxy's CPU time per command in microseconds.

    ``generator`` and ``shard``: cores in use by redis-benchmark, and by the busiest shard.
    """

    rps: float
    p99: float
    cpu: float
    generator: float = 0.0
    shard: float = 0.0

    @property
    def busy(self) -> float:
        """Cores in use by the proxy: near 1, a proxy with one thread is the limit."""
        return self.cpu * self.rps / 1e6


@dataclass(frozen=True, slots=True)
class Backing:
    """Where a run takes place: a ``directory`` for its output, and the processes of the ``shards`` behind it."""

    directory: Path
    shards: Sequence[int]

    @classmethod
    def of(cls, shards: LocalShards) -> "Backing":
        return cls(shards.directory, [server.pid for server in shards.primaries])


def run(target: Target, scenario: Scenario, requests: int, backing: Backing, timeout: float) -> Sample:
    """Sends ``requests`` commands of ``scenario`` to ``target``, each of the two parts in ``timeout`` seconds at most.

    Raises RunFailed when the target is gone or redis-benchmark gives no figures.
    """
    if not target.is_running():
        raise RunFailed("its process has ended")
    # One pipeline for each connection. Where connecting is what is measured, it is no more than a warm-up.
    least = scenario.rounded(1)
    before = cpu_ns(target.pid)
    load(target, scenario, least, directory=backing.directory, timeout=timeout)
    time.sleep(_SETTLE)
    between = cpu_ns(target.pid)
    shards = [cpu_ns(pid) for pid in backing.shards]
    sent = requests + least if scenario.keepalive else requests
    done = load(target, scenario, sent, directory=backing.directory, timeout=timeout)
    time.sleep(_SETTLE)
    used = cpu_ns(target.pid) - between
    if scenario.keepalive:
        used -= between - before
    took = sent / done.rps
    shard = max((cpu_ns(pid) - old for pid, old in zip(backing.shards, shards, strict=True)), default=0) / 1e9 / took
    return Sample(done.rps, done.p99, max(0, used) / requests / 1000, done.cpu / took, shard)


def preload(target: Target, keys: KeySet) -> None:
    """Sets every key through the proxy, so that each finds it where this proxy looks; reads two of them back.

    Raises RunFailed when a reply is not what Redis answers, OSError when there is none in time.
    """
    step = max(1, _BATCH // keys.size)
    with connect(target.host, target.port, _PRELOAD_TIMEOUT, target.tls) as connection:
        for first in range(0, keys.count, step):
            numbers = range(first, min(first + step, keys.count))
            _expect(connection, [("SET", keys.key(number), keys.value) for number in numbers], b"OK")
        ends = (keys.key(0), keys.key(keys.count - 1))
        _expect(connection, [("GET", key) for key in ends], keys.value.encode())


def _expect(connection: socket.socket, commands: Sequence[tuple[str, ...]], expected: bytes) -> None:
    connection.sendall(b"".join(map(request, commands)))
    for command, reply in zip(commands, _replies(connection, len(commands)), strict=False):
        if reply != expected:
            raise RunFailed(f"{command[0]} {command[1]} was answered {str(reply)[:100]}")


def _replies(connection: socket.socket, count: int) -> Iterator[object]:
    """The next ``count`` of them, as hiredis decodes them."""
    reader = hiredis.Reader()
    for number in range(count):
        while (reply := reader.gets()) is False:
            received = connection.recv(1024 * 1024)
            if not received:
                raise RunFailed(f"the connection was closed after {number} of {count} replies")
            reader.feed(received)
        yield reply


def misses(shards: LocalShards) -> int:
    """How many keys were asked for and not there, in all shards since their start."""
    return sum(int(server.info("stats")["keyspace_misses"]) for server in shards.primaries)
