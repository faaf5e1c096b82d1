"""``python -m benchmarks.memory``: the memory of idle clients, what is left after a burst, and very large values.

Each proxy is started anew for it. Nothing here is CPU-bound for long, but let nothing else large run meanwhile.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from benchmarks.loadgen import load
from benchmarks.many_clients import LargeValue, connected, raise_file_limit
from benchmarks.peers import DIRECT, ENVOY, OURS, PROXIES, REFERENCE, Target
from benchmarks.proc import Memory, memory, reset_resident_peak, resident_peak
from benchmarks.processes import direct, started
from benchmarks.run import preload
from benchmarks.scenarios import KEY_SETS, SMALL, scenarios_named
from benchmarks.usage import Large, Return, Usage, lines
from proxy.devservers.servers import LocalShards, start_many
from proxy.errors import SlotgateError

_SHARDS: Final = 3
_CLIENTS: Final = 5000
_SIZES: Final = (64, 128, 256, 512)
_QUICK_CLIENTS: Final = 500
_QUICK_SIZES: Final = (16, 32)
_WARM_UP: Final = 10
# 1 GB, half of it each way: scenario, requests.
_TRAFFIC: Final = (("set-1m", 400), ("get-1m", 400), ("set-16k", 7150), ("get-16k", 7150))
_TRAFFIC_TIMEOUT: Final = 60.0
# What is given back with a delay; seconds.
_PATIENCE: Final = 4.0
_LOOK: Final = 0.25
# The slow client waits until everybody's buffers are full, then reads about 200 MB a second.
_HESITATE: Final = 1.0
_PAUSE: Final = 0.001
_SIP: Final = 256 * 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="Memory of the proxies.")
    parser.add_argument("--quick", action="store_true", help="fewer clients, smaller values: for a first impression")
    options = parser.parse_args(argv)
    try:
        with start_many(_SHARDS, 0) as shards:
            usage = measure(shards, quick=options.quick)
    except SlotgateError as error:
        print(f"benchmarks.memory: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines(usage)))
    return 1 if usage.failed else 0


def measure(shards: LocalShards, *, quick: bool = False) -> Usage:
    """All of it, on ``shards``, which are empty afterwards. What fails is a note, and no figure."""
    usage = Usage(raise_file_limit(_QUICK_CLIENTS if quick else _CLIENTS))
    for name in (OURS, REFERENCE, ENVOY):
        command = PROXIES[name].find()
        if command is None:
            usage.notes.append(f"{name} is left out: {PROXIES[name].absent}")
            continue
        with _noting(usage, name):
            # Each in a process of its own: what one leaves behind would be room for the next.
            with started(PROXIES[name], command, shards) as target:
                for keys in KEY_SETS:
                    preload(target, keys)
            with started(PROXIES[name], command, shards) as target:
                _many_clients(usage, target)
            with started(PROXIES[name], command, shards) as target:
                _traffic(usage, target, shards)
    with _noting(usage, "large values"):
        _large(usage, shards, _QUICK_SIZES if quick else _SIZES)
    for server in shards.primaries:
        server.ask("FLUSHALL", "ASYNC")
    return usage


@contextlib.contextmanager
def _noting(usage: Usage, what: str) -> Iterator[None]:
    try:
        yield
    except (SlotgateError, OSError) as error:
        usage.failed = True
        usage.notes.append(f"**{what} failed**: {error}")
        _say(f"{what} failed: {error}")


def _many_clients(usage: Usage, target: Target) -> None:
    before = _warm(target)
    with connected(target, usage.clients, SMALL):
        full = _unchanging(target.pid)
        usage.idle[target.name] = (full.anonymous - before.anonymous) / usage.clients
    usage.burst[target.name] = _return(target.pid, before, full)
    _say(f"{target.name}: {usage.idle[target.name]:,.0f} bytes a client, {usage.burst[target.name]}")


def _traffic(usage: Usage, target: Target, shards: LocalShards) -> None:
    before = _warm(target)
    for name, requests in _TRAFFIC:
        (scenario,) = scenarios_named([name])
        load(target, scenario, requests, directory=shards.directory, timeout=_TRAFFIC_TIMEOUT)
    usage.traffic[target.name] = _return(target.pid, before, memory(target.pid))
    _say(f"{target.name}: 1 GB of traffic, {usage.traffic[target.name]}")


def _warm(target: Target) -> Memory:
    """Its size when it has served a few clients: what the first commands leave behind is nobody's in particular."""
    with connected(target, _WARM_UP, SMALL):
        pass
    return _unchanging(target.pid)


def _return(pid: int, before: Memory, high: Memory) -> Return:
    """Looks until it is back within the target, for some seconds."""
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        found = Return(before.resident, high.resident, memory(pid).resident, waited)
        if found.is_back or waited > _PATIENCE:
            return found
        time.sleep(_LOOK)


def _unchanging(pid: int) -> Memory:
    """When two looks see the same size, or after some seconds."""
    deadline = time.monotonic() + _PATIENCE
    now = memory(pid)
    while time.monotonic() < deadline:
        time.sleep(_LOOK)
        last, now = now, memory(pid)
        if now.anonymous == last.anonymous:
            break
    return now


def _large(usage: Usage, shards: LocalShards, sizes: Sequence[int]) -> None:
    """Straight to a shard, and through Slotgate: through one process what is set, through another what is got.

    So nothing that setting leaves behind counts as growth by getting.
    """
    each = PROXIES[OURS]
    command = each.find()
    assert command is not None
    with started(each, command, shards) as setting, started(each, command, shards) as getting:
        usage.large[OURS] = _pass(setting, getting, sizes)
    shard = direct(shards)
    usage.large[DIRECT] = _pass(shard, shard, sizes)


def _pass(setting: Target, getting: Target, sizes: Sequence[int]) -> list[Large]:
    set_base, get_base = memory(setting.pid).resident, memory(getting.pid).resident
    found = []
    for megabytes in sizes:
        value = LargeValue(f"bench:large:{megabytes}", megabytes)
        set_seconds, set_peak = _with_peak(setting, partial(value.set, setting))
        get_seconds, get_peak = _with_peak(getting, partial(value.get, getting))
        sipping = partial(value.get, getting, hesitate=_HESITATE, pause=_PAUSE, piece=_SIP)
        _, slow_peak = _with_peak(getting, sipping)
        growth = set_peak - set_base, get_peak - get_base, slow_peak - get_base
        found.append(Large(megabytes, set_seconds, growth[0], get_seconds, *growth[1:]))
        _say(f"{getting.name}: {found[-1]}")
    return found


def _with_peak(target: Target, step: Callable[[], float]) -> tuple[float, int]:
    """What ``step`` gives, and the most that was resident meanwhile; bytes."""
    reset_resident_peak(target.pid)
    return step(), resident_peak(target.pid)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
