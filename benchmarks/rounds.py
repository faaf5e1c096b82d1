"""All runs: each round has every scenario with every target in turn, so what the machine does meanwhile hits all."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.measure import RunFailed, Sample, preload, run
from benchmarks.peers import Target
from benchmarks.scenarios import Scenario

# A first short run finds the rate, warms up caches and opens the connections to the shards; a part of the requests.
_PROBE: Final = 0.05
# What a run takes besides its requests (start of redis-benchmark, settling); seconds.
_OVERHEAD: Final = 0.1
# The part of the time that the runs are fitted to; the rest is for a machine that gets slower.
_FIT: Final = 0.9
# A run that takes this many times what the probe promises has gone wrong.
_PATIENCE: Final = 10
_LEAST_TIMEOUT: Final = 15.0


@dataclass(slots=True)
class Results:
    """What was measured: samples and failures by (scenario's name, target's name)."""

    targets: tuple[Target, ...]
    scenarios: tuple[Scenario, ...]
    rounds: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, scenario: str, target: str) -> list[Sample]:
        """One sample for each round; none at all once one run has failed."""
        return [] if (scenario, target) in self.failures else self.samples.get((scenario, target), [])


def measure(
    targets: Sequence[Target],
    scenarios: Sequence[Scenario],
    *,
    rounds: int,
    share: float,
    budget: float,
    directory: Path,
) -> Results:
    """Runs it all in ``budget`` seconds. ``share`` of each scenario's requests is sent, or what the time allows.

    A round that would end too late is not begun; ``Results.rounds`` says how many there were, at least one.
    A target that fails in a scenario is reported and not run in it again.
    """
    results = Results(tuple(targets), tuple(scenarios))
    began = time.monotonic()
    for target in targets:
        _preload(results, target)
    rates = _probe(results, share, directory)
    left = began + _FIT * budget - time.monotonic()
    seconds = left / max(1, rounds * len(rates)) - _OVERHEAD
    for scenario in scenarios:
        slowest = min((rate for (name, _), rate in rates.items() if name == scenario.name), default=0.0)
        results.requests[scenario.name] = scenario.rounded(min(scenario.requests * share, slowest * seconds))
    took = 0.0
    for number in range(rounds):
        start = time.monotonic()
        if number and start + took > began + budget:
            _say(f"out of time after {number} of {rounds} rounds")
            break
        _round(results, number, rates, directory)
        results.rounds += 1
        took = time.monotonic() - start
    return results


def _preload(results: Results, target: Target) -> None:
    for keys in {scenario.keys: None for scenario in results.scenarios}:
        try:
            preload(target, keys)
        except (RunFailed, OSError) as error:
            for scenario in results.scenarios:
                if scenario.keys == keys:
                    _failed(results, scenario, target, f"setting its keys: {error}")


def _probe(results: Results, share: float, directory: Path) -> dict[tuple[str, str], float]:
    """Commands per second of each pair that works."""
    rates = {}
    for scenario in results.scenarios:
        requests = scenario.rounded(scenario.requests * share * _PROBE)
        for target in results.targets:
            if (scenario.name, target.name) in results.failures:
                continue
            sample = _run(results, scenario, target, requests, _LEAST_TIMEOUT, directory)
            if sample is not None:
                rates[scenario.name, target.name] = sample.rps
    return rates


def _round(results: Results, number: int, rates: dict[tuple[str, str], float], directory: Path) -> None:
    for scenario in results.scenarios:
        requests = results.requests[scenario.name]
        for target in rotated(results.targets, number):
            pair = scenario.name, target.name
            if pair in results.failures:
                continue
            timeout = max(_LEAST_TIMEOUT, _PATIENCE * requests / rates[pair])
            sample = _run(results, scenario, target, requests, timeout, directory)
            if sample is not None:
                results.samples.setdefault(pair, []).append(sample)
                _say(
                    f"round {number + 1}  {scenario.name:<9} {target.name:<10}"
                    f"{sample.cpu:9.2f} us{sample.rps:10,.0f}/s  p99 {sample.p99:.2f} ms"
                )


def rotated(targets: Sequence[Target], number: int) -> list[Target]:
    """The order of round ``number``: nobody is always first, or always after the same one."""
    shift = number % max(1, len(targets))
    order = [*targets[shift:], *targets[:shift]]
    return order[::-1] if (number // max(1, len(targets))) % 2 else order


def _run(
    results: Results, scenario: Scenario, target: Target, requests: int, timeout: float, directory: Path
) -> Sample | None:
    try:
        return run(target, scenario, requests, directory=directory, timeout=timeout)
    except RunFailed as error:
        _failed(results, scenario, target, str(error))
        return None


def _failed(results: Results, scenario: Scenario, target: Target, why: str) -> None:
    results.failures[scenario.name, target.name] = why
    _say(f"{scenario.name} {target.name} failed: {why}")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
