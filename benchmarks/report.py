"""The runs beside other proxies as Markdown: medians over the rounds, Slotgate's ratios to its peers, verdicts."""

from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Final

from benchmarks.figures import MET, MISSED, NONE, Ratio, at_most, or_none, ratio, table
from benchmarks.peers import DIRECT, OURS, REFERENCE, UNCOMPILED, is_compiled
from benchmarks.rounds import Results
from benchmarks.run import Sample
from benchmarks.scenarios import Scenario

# p99 no worse than the best peer's, but for what medians of a few rounds can not tell apart.
_P99_TARGET: Final = 1.10
_RPS_TARGET: Final = 1.00
_FAILED: Final = "failed"

Figure = Callable[[Sample], float]


def lines(results: Results) -> Iterator[str]:
    """The sections, without a head."""
    yield f"Medians of {results.rounds} interleaved rounds. A ratio is the median of the rounds' ratios, in parentheses"
    yield "the lowest and highest of them. A machine drifts: compare ratios of one run, not figures of two."
    yield ""
    yield f"Keys asked for that were not there: {results.misses}{'' if not results.misses else ' **(should be 0)**'}."
    if results.failures:
        yield ""
    yield from (f"- **{target}, {scenario}: failed**: {why}" for (scenario, target), why in results.failures.items())
    yield ""
    yield "## CPU of the proxy process per command (µs)"
    yield ""
    yield f"`{DIRECT}` is a shard itself, with no proxy before it. Targets are the compiled engine's, against the best"
    yield "of the other proxies; nothing is judged by them when it is not there."
    yield ""
    yield from table(
        ["scenario", *_names(results), "x best peer", "target"],
        (_cpu_row(results, scenario) for scenario in results.scenarios),
    )
    yield ""
    yield from _uncompiled_lines(results)
    yield "## Throughput (commands per second)"
    yield ""
    yield "With the cores in use by slotgate, by redis-benchmark and by the busiest shard: who uses most is the limit."
    yield "Where that is not slotgate, the target does not apply."
    yield ""
    yield from table(
        ["scenario", *_names(results), "x best peer", "slotgate", "load", "shard", "target"],
        (_throughput_row(results, scenario) for scenario in results.scenarios),
    )
    yield ""
    yield "## p99 latency (ms)"
    yield ""
    yield "As redis-benchmark sees it: of a whole pipeline, and without the time to connect."
    yield ""
    yield from table(
        ["scenario", *_names(results), "x best peer", "target"],
        (_p99_row(results, scenario) for scenario in results.scenarios),
    )


def _uncompiled_lines(results: Results) -> Iterator[str]:
    scenarios = [scenario for scenario in results.scenarios if scenario.uncompiled]
    if not scenarios:
        return
    yield "## Without the compiled engine: CPU of the proxy process per command (µs)"
    yield ""
    yield f"Its target is against {REFERENCE}."
    yield ""
    yield from table(
        ["scenario", "compiled", "not compiled", "x compiled", f"x {REFERENCE}", "target"],
        (_uncompiled_row(results, scenario) for scenario in scenarios),
    )
    yield ""


def _cpu(sample: Sample) -> float:
    return sample.cpu


def _rps(sample: Sample) -> float:
    return sample.rps


def _p99(sample: Sample) -> float:
    return sample.p99


def _busy(sample: Sample) -> float:
    return sample.busy


def _generator(sample: Sample) -> float:
    return sample.generator


def _shard(sample: Sample) -> float:
    return sample.shard


def _cpu_row(results: Results, scenario: Scenario) -> list[str]:
    best = _to_best(results, scenario, _cpu, min)
    return [
        scenario.words,
        *_medians(results, scenario, _cpu, "{:,.2f}"),
        or_none(best),
        at_most(best, scenario.target, _is_compiled(results)),
    ]


def _uncompiled_row(results: Results, scenario: Scenario) -> list[str]:
    """Of the Slotgate that is not compiled: of its own process, or of the only one where nothing is compiled."""
    compiled = _values(results, scenario, OURS, _cpu) if _is_compiled(results) else []
    plain = _values(results, scenario, UNCOMPILED if _is_compiled(results) else OURS, _cpu)
    reference = ratio(plain, _values(results, scenario, REFERENCE, _cpu))
    return [
        scenario.words,
        f"{median(compiled):,.2f}" if compiled else NONE,
        f"{median(plain):,.2f}" if plain else NONE,
        or_none(ratio(plain, compiled)),
        or_none(reference),
        at_most(reference, scenario.uncompiled_target),
    ]


def _throughput_row(results: Results, scenario: Scenario) -> list[str]:
    best = _to_best(results, scenario, _rps, max)
    cores = [_values(results, scenario, OURS, figure) for figure in (_busy, _generator, _shard)]
    used = [median(values) if values else None for values in cores]
    return [
        scenario.words,
        *_medians(results, scenario, _rps, "{:,.0f}"),
        or_none(best),
        *(NONE if value is None else f"{value:.2f}" for value in used),
        _throughput_verdict(best if _is_compiled(results) else None, [value or 0.0 for value in used]),
    ]


def _throughput_verdict(best: Ratio | None, used: list[float]) -> str:
    """``used``: the cores of slotgate, of the load generator and of the busiest shard."""
    target = f"≥ {_RPS_TARGET:.2f}"
    if best is None:
        return target
    if best.value >= _RPS_TARGET:
        return f"{target} {MET}"
    if used[0] == max(used):
        return f"{target} {MISSED}"
    return "not the limit"


def _p99_row(results: Results, scenario: Scenario) -> list[str]:
    best = _to_best(results, scenario, _p99, min)
    return [
        scenario.words,
        *_medians(results, scenario, _p99, "{:.2f}"),
        or_none(best),
        at_most(best, _P99_TARGET, _is_compiled(results)),
    ]


def _names(results: Results) -> list[str]:
    """The columns: the uncompiled one has a table of its own."""
    return [target.name for target in results.targets if target.name != UNCOMPILED]


def _values(results: Results, scenario: Scenario, target: str, figure: Figure) -> list[float]:
    return [figure(sample) for sample in results.of(scenario.name, target)]


def _medians(results: Results, scenario: Scenario, figure: Figure, form: str) -> Iterator[str]:
    for name in _names(results):
        values = _values(results, scenario, name, figure)
        failed = (scenario.name, name) in results.failures
        yield form.format(median(values)) if values else _FAILED if failed else NONE


def _to_best(
    results: Results, scenario: Scenario, figure: Figure, choose: Callable[[Iterable[float]], float]
) -> Ratio | None:
    """Slotgate to the peer with the best median. A server without a proxy is no peer."""
    peers = [
        values
        for name in _names(results)
        if name not in (OURS, DIRECT) and (values := _values(results, scenario, name, figure))
    ]
    if not peers:
        return None
    best = choose(median(values) for values in peers)
    return ratio(_values(results, scenario, OURS, figure), next(values for values in peers if median(values) == best))


def _is_compiled(results: Results) -> bool:
    return any(target.name == OURS and is_compiled(target.version) for target in results.targets)
