"""Clients that all send, then all read: the same bytes in the same order each time, for comparing two processes.

redis-benchmark's load is never twice the same, and starting it takes longer than what is to be measured here. This
sends what was encoded beforehand and only counts what comes back, so that a few milliseconds give a figure. All
processes share one CPU meanwhile (:func:`one_cpu`), so that all requests are there before the first is read: how many
come together, on which so much depends, is not left to chance.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Self

from benchmarks.loadgen import RunFailed
from benchmarks.peers import Target
from benchmarks.proc import own_cpu_ns
from benchmarks.scenarios import KeySet
from proxy.resp.encode import OK, bulk, request

CLIENTS: Final = 50
# Keys of an MGET.
_TEN: Final = 10
# Of one slice: some milliseconds, whatever the pipeline.
_COMMANDS: Final = 3200
_BEATS: Final = 16
_TIMEOUT: Final = 10.0
# Until the process has gone to sleep; seconds.
_SETTLE: Final = 0.0005


@dataclass(frozen=True, slots=True)
class Load:
    """What every client sends: pipelines of ``pipeline`` commands (GET, SET or MGET) with keys of ``keys``.

    ``clients``: how many there are.
    """

    command: str
    keys: KeySet
    pipeline: int = 1
    clients: int = CLIENTS

    @property
    def words(self) -> str:
        """What tables call it."""
        count = f" of {_TEN}" if self.command == "MGET" else ""
        return f"{self.command}{count}, {self.keys.size} B, pipeline of {self.pipeline}"

    @property
    def reply_size(self) -> int:
        """Bytes of the reply to one command."""
        value = len(bulk(self.keys.value))
        return {"GET": value, "SET": len(OK), "MGET": len(f"*{_TEN}") + 2 + _TEN * value}[self.command]

    def request(self, number: int) -> bytes:
        """The command of this number: its keys lie far from those of its neighbours."""
        key = self.keys.key(number * 7919 % self.keys.count)
        if self.command == "SET":
            return request(("SET", key, self.keys.value))
        if self.command == "GET":
            return request(("GET", key))
        return request(("MGET", *(self.keys.key((number + step) * 7919 % self.keys.count) for step in range(_TEN))))


class Lockstep:
    """The connections to ``target`` that send ``load``."""

    def __init__(self, target: Target, load: Load) -> None:
        self._target = target
        pipeline, clients = load.pipeline, load.clients
        self._beats = max(1, min(_BEATS, _COMMANDS // (clients * pipeline)))
        self._commands = self._beats * clients * pipeline
        self._expected = load.reply_size * pipeline
        self._stack = contextlib.ExitStack()
        self._clients = [
            (
                self._stack.enter_context(self._connect()),
                b"".join(load.request(number * pipeline + step) for step in range(pipeline)),
            )
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def cpu(self) -> float:
        """One slice; the process's CPU time per command in microseconds. Raises RunFailed, OSError."""
        before = own_cpu_ns(self._target.pid)
        for _ in range(self._beats):
            for client, frames in self._clients:
                client.sendall(frames)
            for client, _ in self._clients:
                self._read(client)
        time.sleep(_SETTLE)
        return (own_cpu_ns(self._target.pid) - before) / self._commands / 1000

    def _connect(self) -> socket.socket:
        return socket.create_connection((self._target.host, self._target.port), _TIMEOUT)

    def _read(self, client: socket.socket) -> None:
        left = self._expected
        while left > 0:
            received = len(client.recv(left))
            if not received:
                raise RunFailed(f"{self._target.name} closed a connection")
            left -= received


@contextlib.contextmanager
def one_cpu(pids: Iterable[int]) -> Iterator[None]:
    """Has this process and ``pids`` share one CPU, on which they do not interrupt it (SCHED_BATCH); undone after."""
    everybody = [0, *pids]
    before = {pid: (os.sched_getaffinity(pid), os.sched_getscheduler(pid)) for pid in everybody}
    cpu = max(before[0][0])
    try:
        for pid in everybody:
            os.sched_setaffinity(pid, {cpu})
            if pid:
                os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
        yield
    finally:
        for pid, (cpus, policy) in before.items():
            # One that has ended can not be put back.
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(pid, cpus)
                os.sched_setscheduler(pid, policy, os.sched_param(0))


def pairs(one: Lockstep, other: Lockstep, seconds: float) -> Iterator[tuple[float, float]]:
    """For so long, the CPU per command of both: each time of one, the other, the other, the one; who begins changes.

    So a steady drift hits both alike.
    """
    both = one, other
    deadline = time.monotonic() + seconds
    first = 0
    while time.monotonic() < deadline:
        cpu = [0.0, 0.0]
        for which in (first, 1 - first, 1 - first, first):
            cpu[which] += both[which].cpu() / 2
        yield cpu[0], cpu[1]
        first = 1 - first
