"""``python -m benchmarks.overhead``: what measuring costs, as CPU per command of a Slotgate with it to one without."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Final

from benchmarks.figures import MET, MISSED, table
from benchmarks.lockstep import CLIENTS, Load
from benchmarks.paired import SHARDS, Costs, Estimate, compare, estimate
from benchmarks.peers import OURS, Slotgate
from benchmarks.scenarios import SMALL
from proxy.devservers.servers import LocalShards, start_many
from proxy.errors import SlotgateError

OFF: Final[Mapping[str, str]] = {"SLOTGATE_MEASURE": "false"}
"""What switches measuring off, as environment variables. Empty, both sides are the same, which shows what this
benchmark can tell apart."""

_LOADS: Final = tuple(Load("GET", SMALL, pipeline) for pipeline in (1, 16, 64))
_TARGET: Final = 1.03
# All slices together; seconds. Starting and stopping takes about a second for each generation.
_BUDGET: Final = 60.0
_GENERATIONS: Final = 10
_QUICK_BUDGET: Final = 6.0
_QUICK_GENERATIONS: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description="What measuring costs.")
    parser.add_argument("--seconds", type=float, default=_BUDGET, help="of all slices together (default: %(default)s)")
    parser.add_argument("--generations", type=int, default=_GENERATIONS, help="(default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        with start_many(SHARDS, 0) as shards:
            costs = _compare(shards, options.generations, options.seconds)
    except (SlotgateError, OSError) as error:
        print(f"benchmarks.overhead: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines(costs)))
    return 0


def measure(shards: LocalShards, *, quick: bool = False) -> dict[Load, Costs]:
    """As ``make bench`` does it, or in a few seconds. Raises as ``paired.compare``."""
    generations, budget = (_QUICK_GENERATIONS, _QUICK_BUDGET) if quick else (_GENERATIONS, _BUDGET)
    return _compare(shards, generations, budget)


def _compare(shards: LocalShards, generations: int, budget: float) -> dict[Load, Costs]:
    without = Slotgate(f"{OURS}-without", OFF)
    return compare(Slotgate(), without, _LOADS, shards, generations=generations, budget=budget)


def lines(costs: Mapping[Load, Costs]) -> Iterator[str]:
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
        (_row(load.pipeline, found) for load, found in costs.items()),
    )


def _row(pipeline: int, costs: Costs) -> list[str]:
    found = estimate(costs.ratios)
    return [
        str(pipeline),
        f"{median(costs.one):.3f}",
        f"{median(costs.other):.3f}",
        f"{found.value:.3f} ({found.lowest:.3f} to {found.highest:.3f})",
        str(len(costs.one)),
        verdict(found) if OFF else f"< {_TARGET:.2f}",
    ]


def verdict(found: Estimate) -> str:
    """The target, whether it is met, and whether that is certain."""
    words = MET if found.value < _TARGET else MISSED
    certain = found.highest < _TARGET or found.lowest >= _TARGET
    return f"< {_TARGET:.2f} {words}{'' if certain else ', not certain'}"


if __name__ == "__main__":
    sys.exit(main())
