"""All runs: each round has every scenario with every target in turn, so what the machine does meanwhile hits all."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from benchmarks.loadgen import RunFailed
from benchmarks.peers import UNCOMPILED, Target
from benchmarks.run import Backing, Sample, misses, preload, run
from benchmarks.scenarios import Scenario
from proxy.devservers.servers import LocalShards

# A first short run finds the rate, warms up caches and opens the connections to the shards; a part of the requests.
_PROBE: Final = 0.05
# What a run lasts at most; seconds. Longer ones tell no more, and more rounds do.
_LONGEST: Final = 1.5
# The part of the time that the runs are fitted to; the rest is for a machine that gets slower.
_FIT: Final = 0.9
# A run that takes this many times what the probe promises has gone wrong.
_PATIENCE: Final = 10
_LEAST_TIMEOUT: Final = 15.0

Pair = tuple[str, str]
"""The names of a scenario and of a target."""
Item = TypeVar("Item")


@dataclass(slots=True)
class Results:
    """What was measured: samples and failures by (scenario's name, target's name)."""

    targets: tuple[Target, ...]
    scenarios: tuple[Scenario, ...]
    rounds: int = 0
    misses: int = 0
    """How many keys were asked for that were not there: figures of anything else than 0 say little."""
    samples: dict[Pair, list[Sample]] = field(default_factory=dict)
    failures: dict[Pair, str] = field(default_factory=dict)

    def of(self, scenario: str, target: str) -> list[Sample]:
        """One sample for each round; none at all once one run has failed."""
        return [] if (scenario, target) in self.failures else self.samples.get((scenario, target), [])

    def takers(self, scenario: Scenario) -> list[Target]:
        """Who takes part in ``scenario`` and has not failed in it."""
        return [
            target
            for target in self.targets
            if (scenario.uncompiled or target.name != UNCOMPILED) and (scenario.name, target.name) not in self.failures
        ]


@dataclass(frozen=True, slots=True)
class Pace:
    """Of one pair: commands per second, and the seconds that a run takes besides its commands."""

    rate: float
    overhead: float


def measure(
    targets: Sequence[Target],
    scenarios: Sequence[Scenario],
    shards: LocalShards,
    *,
    rounds: int,
    share: float,
    budget: float,
) -> Results:
    """Runs it all in ``budget`` seconds.

    ``share`` of each scenario's requests is sent, or what the time allows: runs are fitted to last equally long
    whatever the target's rate, so that what a run costs besides its commands weighs the same for all.
    A round that would end too late is not begun; ``Results.rounds`` says how many there were, at least one.
    A target that fails in a scenario is reported and not run in it again.
    """
    results = Results(tuple(targets), tuple(scenarios))
    backing = Backing.of(shards)
    began = time.monotonic()
    for target in targets:
        _preload(results, target)
    missed = misses(shards)
    paces = _probe(results, share, backing)
    seconds = seconds_each(began + _FIT * budget - time.monotonic(), rounds, list(paces.values()))
    took = 0.0
    for number in range(rounds):
        start = time.monotonic()
        if number and start + took > began + budget:
            _say(f"out of time after {number} of {rounds} rounds")
            break
        _round(results, number, paces, seconds, share, backing)
        results.rounds += 1
        took = time.monotonic() - start
    results.misses = misses(shards) - missed
    return results


def seconds_each(left: float, rounds: int, paces: Sequence[Pace]) -> float:
    """How long the commands of each run may take, for ``rounds`` of all runs to fit into ``left`` seconds."""
    free = left / max(1, rounds) - sum(pace.overhead for pace in paces)
    return min(_LONGEST, max(0.0, free / max(1, len(paces))))


def _preload(results: Results, target: Target) -> None:
    for keys in {scenario.keys: None for scenario in results.scenarios}:
        try:
            preload(target, keys)
        except (RunFailed, OSError) as error:
            for scenario in results.scenarios:
                if scenario.keys == keys:
                    _failed(results, scenario, target, f"setting its keys: {error}")


def _probe(results: Results, share: float, backing: Backing) -> dict[Pair, Pace]:
    """The paces of the pairs that work."""
    paces = {}
    for scenario in results.scenarios:
        requests = scenario.rounded(scenario.requests * share * _PROBE)
        for target in results.takers(scenario):
            start = time.monotonic()
            sample = _run(results, scenario, target, requests, backing, _LEAST_TIMEOUT)
            if sample is not None:
                overhead = time.monotonic() - start - requests / sample.rps
                paces[scenario.name, target.name] = Pace(sample.rps, max(0.0, overhead))
    return paces


def _round(
    results: Results, number: int, paces: dict[Pair, Pace], seconds: float, share: float, backing: Backing
) -> None:
    for scenario in results.scenarios:
        for target in ordered(results.takers(scenario), number):
            pair = scenario.name, target.name
            rate = paces[pair].rate
            requests = scenario.rounded(min(scenario.requests * share, rate * seconds))
            timeout = max(_LEAST_TIMEOUT, _PATIENCE * requests / rate)
            sample = _run(results, scenario, target, requests, backing, timeout)
            if sample is not None:
                results.samples.setdefault(pair, []).append(sample)
                _say(
                    f"round {number + 1}  {scenario.name:<9} {target.name:<16}"
                    f"{sample.cpu:9.2f} us{sample.rps:10,.0f}/s  p99 {sample.p99:.2f} ms"
                )


def ordered(items: Sequence[Item], number: int) -> list[Item]:
    """The order of round ``number``: nobody is always first, or always after the same one.

    A Williams design, as for trials in which what was before may matter: over as many rounds as there are items each
    is once in each place, and once after each other one (of an odd number, over twice as many rounds).
    """
    count = len(items)
    zigzag = [(step + 1) // 2 if step % 2 else (count - step // 2) % count for step in range(count)]
    order = [items[(place + number) % count] for place in zigzag]
    return order[::-1] if count % 2 and number // count % 2 else order


def _run(
    results: Results, scenario: Scenario, target: Target, requests: int, backing: Backing, timeout: float
) -> Sample | None:
    try:
        return run(target, scenario, requests, backing, timeout)
    except RunFailed as error:
        _failed(results, scenario, target, str(error))
        return None


def _failed(results: Results, scenario: Scenario, target: Target, why: str) -> None:
    results.failures[scenario.name, target.name] = why
    _say(f"{scenario.name} {target.name} failed: {why}")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
