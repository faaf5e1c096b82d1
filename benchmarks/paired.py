"""Two versions of Slotgate beside each other, as CPU per command: hundreds of slices of a few milliseconds in pairs.

A difference of a hundredth is below the noise of one run. Two processes of the same code differ by where their memory
happens to lie, too; so there are several generations, each with two new processes. What counts is the median over the
generations of each one's median ratio, with the interval in which 95 of 100 resamplings of the generations have it
(bootstrap).
"""

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.lockstep import Load, Lockstep, one_cpu, pairs
from benchmarks.peers import Slotgate, Target
from benchmarks.processes import started
from benchmarks.run import preload
from proxy.devservers.servers import LocalShards
from proxy.errors import SlotgateError

SHARDS: Final = 3
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
    """Of one load: CPU per command in microseconds of all slices, on the one side and the other, and the ratios of the
    one to the other by generation."""

    one: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    ratios: list[list[float]] = field(default_factory=list)


def compare(
    one: Slotgate, other: Slotgate, loads: Sequence[Load], shards: LocalShards, *, generations: int, budget: float
) -> dict[Load, Costs]:
    """The costs of each load; in ``budget`` seconds, and what starting takes.

    Raises SlotgateError when a process does not start or a run fails: half of a comparison is none.
    """
    costs = {load: Costs() for load in loads}
    seconds = budget / (generations * len(loads))
    for number in range(generations):
        # Who starts first is first in memory, too.
        first, second = (one, other) if number % 2 == 0 else (other, one)
        with (
            started(first, _command(first), shards) as earlier,
            started(second, _command(second), shards) as later,
            one_cpu([earlier.pid, later.pid, *(server.pid for server in shards.primaries)]),
        ):
            _generation(costs, *((earlier, later) if number % 2 == 0 else (later, earlier)), seconds)
        medians = ", ".join(f"{load.words}: {median(found.ratios[-1]):.3f}" for load, found in costs.items())
        print(f"generation {number + 1}, ratios: {medians}", file=sys.stderr, flush=True)
    return costs


def _command(each: Slotgate) -> tuple[str, ...]:
    command = each.find()
    if command is None:
        raise SlotgateError(f"{each.name} is not there: {each.absent}")
    return command


def _generation(costs: Mapping[Load, Costs], one: Target, other: Target, seconds: float) -> None:
    for keys in dict.fromkeys(load.keys for load in costs):
        preload(one, keys)
    for load, found in costs.items():
        with Lockstep(one, load) as ours, Lockstep(other, load) as theirs:
            for _ in range(_WARM_UP):
                ours.cpu(), theirs.cpu()
            measured = list(pairs(ours, theirs, seconds))
        found.one += [cpu for cpu, _ in measured]
        found.other += [cpu for _, cpu in measured]
        found.ratios.append([first / second for first, second in measured])


def estimate(generations: Sequence[Sequence[float]], resamplings: int = _RESAMPLINGS) -> Estimate:
    """The median of the generations' medians; the interval from drawing generations, with repetition."""
    medians = [median(generation) for generation in generations]
    draw = random.Random(0)
    drawn = sorted(median(draw.choices(medians, k=len(medians))) for _ in range(resamplings))
    edge = resamplings // 40
    return Estimate(median(medians), drawn[edge], drawn[-1 - edge])
