"""``python -m benchmarks.overhead``: what measuring costs, as CPU per command of a Slotgate with it to one without.

A difference of a hundredth is below the noise of one run, so hundreds of slices of a few milliseconds are compared in
pairs. Two processes of the same code differ by where their memory happens to lie; so there are several generations,
each with two new processes. What counts is the median over the generations of each one's median ratio, with the
interval in which 95 of 100 resamplings of the generations have it (bootstrap).
"""

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.figures import MET, MISSED, table
from benchmarks.lockstep import CLIENTS, Lockstep, one_cpu, pairs
from benchmarks.peers import OURS, Slotgate, Target
from benchmarks.processes import started
from benchmarks.run import preload
from benchmarks.scenarios import SMALL
from proxy.errors import SlotgateError
from proxy.localservers import LocalShards, start_many

OFF: Final[Mapping[str, str]] = {"SLOTGATE_MEASURE": "false"}
"""What switches measuring off, as environment variables. Empty, both sides are the same, which shows what this
benchmark can tell apart."""

_PIPELINES: Final = (1, 16, 64)
_SHARDS: Final = 3
_TARGET: Final = 1.03
# All slices together; seconds. Starting and stopping takes about a second for each generation.
_BUDGET: Final = 60.0
_GENERATIONS: Final = 10
_QUICK_BUDGET: Final = 6.0
_QUICK_GENERATIONS: Final = 2
_WARM_UP: Final = 3
_RESAMPLINGS: Final = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median, and the interval that it lies in with 95 % confidence."""

    value: float
    lowest: float
    highest: float


@dataclass(slots=True)
class Costs:
    """Of one pipeline: CPU per command in microseconds of all slices, and the ratios by generation."""

    on: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    ratios: list[list[float]] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description="What measuring costs.")
    parser.add_argument("--seconds", type=float, default=_BUDGET, help="of all slices together (default: %(default)s)")
    parser.add_argument("--generations", type=int, default=_GENERATIONS, help="(default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        with start_many(_SHARDS, 0) as shards:
            costs = compare(shards, generations=options.generations, budget=options.seconds)
    except (SlotgateError, OSError) as error:
        print(f"benchmarks.overhead: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines(costs)))
    return 0


def measure(shards: LocalShards, *, quick: bool = False) -> dict[int, Costs]:
    """As ``make bench`` does it, or in a few seconds. Raises as :func:`compare`."""
    generations, budget = (_QUICK_GENERATIONS, _QUICK_BUDGET) if quick else (_GENERATIONS, _BUDGET)
    return compare(shards, generations=generations, budget=budget)


def compare(shards: LocalShards, *, generations: int, budget: float) -> dict[int, Costs]:
    """By pipeline; in ``budget`` seconds, and what starting takes.

    Raises SlotgateError when a process does not start or a run fails: half of a comparison is none.
    """
    costs = {pipeline: Costs() for pipeline in _PIPELINES}
    seconds = budget / (generations * len(_PIPELINES))
    on, off = Slotgate(), Slotgate(f"{OURS}-without", OFF)
    command = on.find()
    assert command is not None
    for number in range(generations):
        # Who starts first is first in memory, too.
        pair = (on, off) if number % 2 == 0 else (off, on)
        with (
            started(pair[0], command, shards) as one,
            started(pair[1], command, shards) as other,
            one_cpu([one.pid, other.pid, *(server.pid for server in shards.primaries)]),
        ):
            _generation(costs, *((one, other) if number % 2 == 0 else (other, one)), seconds)
        medians = ", ".join(f"{pipeline}: {median(found.ratios[-1]):.3f}" for pipeline, found in costs.items())
        print(f"generation {number + 1}, ratio by pipeline: {medians}", file=sys.stderr, flush=True)
    return costs


def _generation(costs: Mapping[int, Costs], on: Target, off: Target, seconds: float) -> None:
    preload(on, SMALL)
    for pipeline, found in costs.items():
        with Lockstep(on, SMALL, pipeline) as one, Lockstep(off, SMALL, pipeline) as other:
            for _ in range(_WARM_UP):
                one.cpu(), other.cpu()
            measured = list(pairs(one, other, seconds))
        found.on += [cpu for cpu, _ in measured]
        found.off += [cpu for _, cpu in measured]
        found.ratios.append([with_it / without for with_it, without in measured])


def estimate(generations: Sequence[Sequence[float]], resamplings: int = _RESAMPLINGS) -> Estimate:
    """The median of the generations' medians; the interval from drawing generations, with repetition."""
    medians = [median(generation) for generation in generations]
    draw = random.Random(0)
    drawn = sorted(median(draw.choices(medians, k=len(medians))) for _ in range(resamplings))
    edge = resamplings // 40
    return Estimate(median(medians), drawn[edge], drawn[-1 - edge])


def lines(costs: Mapping[int, Costs]) -> Iterator[str]:
    """A section."""
    generations = max(len(found.ratios) for found in costs.values())
    yield "## What measuring costs (CPU per command, µs)"
    yield ""
    if OFF:
        yield f"Slotgate with its metrics, and without ({', '.join(f'{name}={value}' for name, value in OFF.items())})."
    else:
        yield "**There is no switch yet: both sides are the same**, and the interval is what can be told apart."
    yield f"GET, 64 B, {CLIENTS} clients; medians of {generations} pairs of processes and of so many paired slices; in"
    yield "parentheses the 95 % interval of the median ratio."
    yield ""
    yield from table(
        ["pipeline", "with", "without", "ratio", "slices", "target"],
        (_row(pipeline, found) for pipeline, found in costs.items()),
    )


def _row(pipeline: int, costs: Costs) -> list[str]:
    found = estimate(costs.ratios)
    return [
        str(pipeline),
        f"{median(costs.on):.3f}",
        f"{median(costs.off):.3f}",
        f"{found.value:.3f} ({found.lowest:.3f} to {found.highest:.3f})",
        str(len(costs.on)),
        verdict(found) if OFF else f"< {_TARGET:.2f}",
    ]


def verdict(found: Estimate) -> str:
    """The target, whether it is met, and whether that is certain."""
    words = MET if found.value < _TARGET else MISSED
    certain = found.highest < _TARGET or found.lowest >= _TARGET
    return f"< {_TARGET:.2f} {words}{'' if certain else ', not certain'}"


if __name__ == "__main__":
    sys.exit(main())
