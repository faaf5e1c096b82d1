"""``python -m benchmarks.mixed_load``: GETs beside blocked and subscribed clients, one channel with many listeners."""

import argparse
import contextlib
import selectors
import socket
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final, cast

from benchmarks.figures import MET, MISSED, Ratio, at_most, or_none, ratio, table
from benchmarks.loadgen import RunFailed
from benchmarks.many_clients import raise_file_limit
from benchmarks.peers import OURS, PROXIES, Target
from benchmarks.proc import own_cpu_ns
from benchmarks.processes import started
from benchmarks.run import Backing, preload, run
from benchmarks.scenarios import SMALL, scenarios_named
from proxy.devservers.servers import LocalShards, start_many
from proxy.errors import SlotgateError
from proxy.resp.encode import bulk, request

_SHARDS: Final = 3
_EACH: Final = 500
_ROUNDS: Final = 7
_QUICK_ROUNDS: Final = 2
_REQUESTS: Final = 30_000
_QUICK_REQUESTS: Final = 6_000
_RUN_TIMEOUT: Final = 60.0
_TARGET: Final = 1.3
_LISTENERS: Final = 100
_MESSAGES: Final = 100_000
_QUICK_MESSAGES: Final = 5_000
_CHANNEL: Final = b"benchmark:channel"
# How far the publisher may be ahead of the slowest listener: a tenth of what a listener may leave unread.
_AHEAD: Final = 20_000
_BATCH: Final = 1_000
_TIMEOUT: Final = 30.0
_CHUNK: Final = 256 * 1024


@dataclass(slots=True)
class MixedLoad:
    """p99 of GETs in milliseconds and CPU of the proxy per GET in microseconds, by round: alone, and beside others."""

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    alone_cpu: list[float] = field(default_factory=list)
    beside_cpu: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """``messages`` to each of ``listeners``, all there and in order; the proxy's CPU time for it, in seconds.

    ``subscriptions``: how many the servers saw for the channel, on the server that saw most.
    """

    messages: int
    listeners: int
    seconds: float
    cpu: float
    subscriptions: int


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed_load", description="Beside others who wait.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and messages: for a first impression")
    options = parser.parse_args(argv)
    try:
        with start_many(_SHARDS, 0) as shards:
            found = measure(shards, quick=options.quick)
    except (SlotgateError, OSError) as error:
        print(f"benchmarks.mixed_load: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines(*found)))
    return 0


def measure(shards: LocalShards, *, quick: bool = False) -> tuple[MixedLoad, Broadcast]:
    """Both, with a Slotgate of its own. Raises SlotgateError, OSError."""
    raise_file_limit(4 * _EACH)
    ours = PROXIES[OURS]
    command = ours.find()
    assert command is not None
    with started(ours, command, shards) as target:
        preload(target, SMALL)
        gets = _measure_gets(
            target, shards, _QUICK_ROUNDS if quick else _ROUNDS, _QUICK_REQUESTS if quick else _REQUESTS
        )
        broadcast = _broadcast(target, shards, _QUICK_MESSAGES if quick else _MESSAGES)
    return gets, broadcast


def _measure_gets(target: Target, shards: LocalShards, rounds: int, requests: int) -> MixedLoad:
    gets = MixedLoad()
    (scenario,) = scenarios_named(["get-p1"])
    backing = Backing.of(shards)
    for number in range(rounds):
        for beside in (False, True) if number % 2 == 0 else (True, False):
            with _waiting(target) if beside else contextlib.nullcontext():
                sample = run(target, scenario, requests, backing, _RUN_TIMEOUT)
            (gets.beside if beside else gets.alone).append(sample.p99)
            (gets.beside_cpu if beside else gets.alone_cpu).append(sample.cpu)
        print(f"round {number + 1}: p99 {gets.alone[-1]} ms, beside others {gets.beside[-1]}", file=sys.stderr)
    return gets


@contextlib.contextmanager
def _waiting(target: Target) -> Iterator[None]:
    """So many clients that are blocked, and as many that have subscribed."""
    with contextlib.ExitStack() as stack:
        for number in range(_EACH):
            blocked = stack.enter_context(_connect(target))
            blocked.sendall(request(("BLPOP", f"benchmark:nothing:{number}", 0)))
        for number in range(_EACH):
            listener = stack.enter_context(_connect(target))
            _subscribe(listener, b"benchmark:quiet:%d" % (number % 10))
        yield


def _connect(target: Target) -> socket.socket:
    return socket.create_connection((target.host, target.port), _TIMEOUT)


def _subscribe(listener: socket.socket, channel: bytes) -> None:
    listener.sendall(request(("SUBSCRIBE", channel)))
    expected = b"*3\r\n" + bulk("subscribe") + bulk(channel) + b":1\r\n"
    got = b""
    while len(got) < len(expected) and (piece := listener.recv(len(expected) - len(got))):
        got += piece
    if got != expected:
        raise RunFailed(f"SUBSCRIBE was answered {got[:100]!r}")


class _Listener:
    """What one of the listeners has read: how many bytes, and their checksum."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.size = 0
        self.checksum = 0

    def read(self) -> None:
        data = self.connection.recv(_CHUNK)
        if not data:
            raise RunFailed(f"a listener was let go of after {self.size} bytes")
        self.size += len(data)
        self.checksum = zlib.crc32(data, self.checksum)


def _broadcast(target: Target, shards: LocalShards, messages: int) -> Broadcast:
    head = b"*3\r\n" + bulk("message") + bulk(_CHANNEL)
    # Each message is as long as the others.
    size = len(head + bulk(f"{0:08}"))
    with contextlib.ExitStack() as stack:
        publisher = stack.enter_context(_connect(target))
        listeners = [_Listener(stack.enter_context(_connect(target))) for _ in range(_LISTENERS)]
        selector = stack.enter_context(selectors.DefaultSelector())
        for listener in listeners:
            _subscribe(listener.connection, _CHANNEL)
            selector.register(listener.connection, selectors.EVENT_READ, listener)
        subscriptions = max(
            cast(list[int], server.ask("PUBSUB", "NUMSUB", _CHANNEL.decode()))[1] for server in shards.primaries
        )
        before = own_cpu_ns(target.pid)
        began = time.monotonic()
        sent = checksum = 0
        while (slowest := min(listener.size for listener in listeners)) < messages * size:
            if sent < messages and sent - slowest // size < _AHEAD:
                bodies = [b"%08d" % number for number in range(sent, min(sent + _BATCH, messages))]
                publisher.sendall(b"".join(request(("PUBLISH", _CHANNEL, body)) for body in bodies))
                checksum = zlib.crc32(b"".join(head + bulk(body) for body in bodies), checksum)
                sent += len(bodies)
                _read_all(publisher, len(bodies) * len(b":%d\r\n" % _LISTENERS))
            for key, _ in selector.select(_TIMEOUT):
                cast(_Listener, key.data).read()
            if time.monotonic() - began > 20 * _TIMEOUT:
                raise RunFailed(f"the slowest listener has {slowest // size} of {messages} messages")
        took = time.monotonic() - began
        cpu = (own_cpu_ns(target.pid) - before) / 1e9
    wrong = [listener for listener in listeners if (listener.size, listener.checksum) != (messages * size, checksum)]
    if wrong:
        raise RunFailed(
            f"{len(wrong)} listeners got other messages than those that were published, or in another order"
        )
    return Broadcast(messages, _LISTENERS, took, cpu, subscriptions)


def _read_all(connection: socket.socket, size: int) -> None:
    left = size
    while left > 0 and (piece := connection.recv(left)):
        if piece.startswith(b"-"):
            raise RunFailed(f"PUBLISH was answered {piece[:100]!r}")
        left -= len(piece)


def lines(gets: MixedLoad, broadcast: Broadcast) -> Iterator[str]:
    """A section."""
    p99: Ratio | None = ratio(gets.beside, gets.alone)
    cpu = ratio(gets.beside_cpu, gets.alone_cpu)
    yield "## Mixed load: GETs beside clients who wait"
    yield ""
    yield f"GETs of 50 clients, no pipeline, alone and beside {_EACH} clients in BLPOP and {_EACH} in SUBSCRIBE:"
    yield f"medians of {len(gets.alone)} interleaved rounds."
    yield ""
    yield from table(
        ["of slotgate", "alone", "beside them", "ratio", "target"],
        [
            ["p99 (ms)", _median(gets.alone), _median(gets.beside), or_none(p99), at_most(p99, _TARGET)],
            ["CPU per GET (µs)", _median(gets.alone_cpu), _median(gets.beside_cpu), or_none(cpu), "-"],
        ],
    )
    yield ""
    deliveries = broadcast.messages * broadcast.listeners
    yield f"{broadcast.messages:,} messages to {broadcast.listeners} listeners of one channel: each got all of them in"
    yield f"their order, in {broadcast.seconds:.1f} s ({deliveries / broadcast.seconds:,.0f} deliveries a second,"
    yield f"{broadcast.cpu / deliveries * 1e6:.2f} µs of the proxy's CPU each); subscriptions at the servers:"
    yield f"{broadcast.subscriptions} (target: 1, {MET if broadcast.subscriptions == 1 else MISSED})."


def _median(values: Sequence[float]) -> str:
    return f"{median(values):.2f}"


if __name__ == "__main__":
    sys.exit(main())
