"""``--against PATH``: this checkout beside another one, as CPU per command, for what changes the data path.

Both run the engine that they have: compile both, or neither.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.figures import MET, MISSED, table
from benchmarks.lockstep import CLIENTS, Load
from benchmarks.paired import SHARDS, Costs, compare, estimate
from benchmarks.peers import OURS, Slotgate, is_compiled
from benchmarks.scenarios import MEDIUM, SMALL
from proxy.devservers.servers import start_many
from proxy.errors import SlotgateError

_LOADS: Final = (
    *(Load("GET", SMALL, pipeline) for pipeline in (1, 16, 64)),
    *(Load("SET", SMALL, pipeline) for pipeline in (1, 16)),
    Load("MGET", SMALL),
    Load("GET", MEDIUM),
)
_TARGET: Final = 1.02
_BUDGET: Final = 140.0
_GENERATIONS: Final = 10
_QUICK_BUDGET: Final = 14.0
_QUICK_GENERATIONS: Final = 2


def measure(checkout: Path, *, quick: bool = False) -> dict[Load, Costs]:
    """This checkout, and the one in ``checkout``. Raises SlotgateError where they can not be compared."""
    ours, other = Slotgate(), Slotgate(f"{OURS}-other", checkout=checkout)
    engines = {is_compiled(each.version(command)) for each in (ours, other) if (command := each.find())}
    if other.find() is None:
        raise SlotgateError(f"{checkout} has no .venv/bin/python: run make compile there")
    if len(engines) > 1:
        raise SlotgateError(f"only one of this checkout and {checkout} is compiled: run make compile in both")
    generations, budget = (_QUICK_GENERATIONS, _QUICK_BUDGET) if quick else (_GENERATIONS, _BUDGET)
    with start_many(SHARDS, 0) as shards:
        return compare(ours, other, _LOADS, shards, generations=generations, budget=budget)


def lines(costs: Mapping[Load, Costs]) -> Iterator[str]:
    """The table."""
    generations = max(len(found.ratios) for found in costs.values())
    yield "## Against the other checkout (CPU per command, µs)"
    yield ""
    yield f"{CLIENTS} clients; medians of {generations} pairs of processes and of so many paired slices; in parentheses"
    yield "the 95 % interval of the median ratio."
    yield ""
    yield from table(
        ["load", "this", "other", "ratio", "slices", "target"],
        (_row(load, found) for load, found in costs.items()),
    )


def _row(load: Load, costs: Costs) -> list[str]:
    found = estimate(costs.ratios)
    return [
        load.words,
        f"{median(costs.one):.3f}",
        f"{median(costs.other):.3f}",
        f"{found.value:.3f} ({found.lowest:.3f} to {found.highest:.3f})",
        str(len(costs.one)),
        f"≤ {_TARGET:.2f} {MET if found.value <= _TARGET else MISSED}",
    ]
