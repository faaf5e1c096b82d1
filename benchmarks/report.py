"""The figures as Markdown: medians over the rounds, and Slotgate's ratios to its peers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.measure import Sample
from benchmarks.peers import DIRECT
from benchmarks.rounds import Results
from benchmarks.scenarios import Scenario

OURS: Final = "slotgate"
REFERENCE: Final = "twemproxy"
# p99 no worse than the best peer's, but for what medians of a few rounds can not tell apart.
_P99_TARGET: Final = 1.10
_NONE: Final = "-"
_FAILED: Final = "failed"

Figure = Callable[[Sample], float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Slotgate's median over another's, and the lowest and highest of the rounds'."""

    value: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        spread = f" ({self.lowest:.2f} to {self.highest:.2f})" if self.lowest != self.highest else ""
        return f"{self.value:.2f}{spread}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio | None:
    """None when either has no samples. Those of one round are compared with each other for the spread."""
    if not ours or not theirs:
        return None
    each = [mine / other for mine, other in zip(ours, theirs, strict=False)]
    return Ratio(median(ours) / median(theirs), min(each), max(each))


def render(results: Results, left_out: Mapping[str, str], facts: Mapping[str, str]) -> str:
    """The whole report. ``left_out``: which proxies are not in it and why; ``facts``: of the machine and versions."""
    return "\n".join(_lines(results, left_out, facts)) + "\n"


def _lines(results: Results, left_out: Mapping[str, str], facts: Mapping[str, str]) -> Iterator[str]:
    yield "# Slotgate beside other proxies"
    yield ""
    yield f"Written by `python -m benchmarks --write`: medians of {results.rounds} interleaved rounds; in parentheses"
    yield "the lowest and highest of them. A machine drifts: compare ratios of one run, not figures of two."
    yield ""
    yield from (f"- {name}: {value}" for name, value in facts.items())
    yield from (f"- **{name} is left out**: {why}" for name, why in left_out.items())
    yield from (f"- **{target}, {scenario}: failed**: {why}" for (scenario, target), why in results.failures.items())
    yield ""
    yield "## CPU of the proxy process per command (µs)"
    yield ""
    yield f"`{DIRECT}` is redis-server itself, with no proxy before it. The compiled engine's target is against the"
    yield f"best peer, that of the engine in plain Python against {REFERENCE}; the one that runs is judged."
    yield ""
    yield from _table(
        ["scenario", *_names(results), "x best peer", "target", f"x {REFERENCE}", "target, not compiled"],
        (_cpu_row(results, scenario) for scenario in results.scenarios),
    )
    yield ""
    yield "## Throughput (commands per second)"
    yield ""
    yield from _table(
        ["scenario", *_names(results), "x best peer", "slotgate's cores in use"],
        (_throughput_row(results, scenario) for scenario in results.scenarios),
    )
    yield ""
    yield "## p99 latency (ms)"
    yield ""
    yield "As redis-benchmark sees it: of a whole pipeline, and without the time to connect."
    yield ""
    yield from _table(
        ["scenario", *_names(results), "x best peer", "target"],
        (_p99_row(results, scenario) for scenario in results.scenarios),
    )


def _cpu(sample: Sample) -> float:
    return sample.cpu


def _rps(sample: Sample) -> float:
    return sample.rps


def _p99(sample: Sample) -> float:
    return sample.p99


def _busy(sample: Sample) -> float:
    return sample.busy


def _cpu_row(results: Results, scenario: Scenario) -> list[str]:
    best = _to_best(results, scenario, _cpu, min)
    twemproxy = ratio(_values(results, scenario, OURS, _cpu), _values(results, scenario, REFERENCE, _cpu))
    return [
        scenario.words,
        *_medians(results, scenario, _cpu, "{:,.2f}"),
        _or_none(best),
        _judged(best, scenario.target, _is_compiled(results)),
        _or_none(twemproxy),
        _judged(twemproxy, scenario.python_target, not _is_compiled(results)),
    ]


def _throughput_row(results: Results, scenario: Scenario) -> list[str]:
    busy = _values(results, scenario, OURS, _busy)
    return [
        scenario.words,
        *_medians(results, scenario, _rps, "{:,.0f}"),
        _or_none(_to_best(results, scenario, _rps, max)),
        f"{median(busy):.2f}" if busy else _NONE,
    ]


def _p99_row(results: Results, scenario: Scenario) -> list[str]:
    best = _to_best(results, scenario, _p99, min)
    return [
        scenario.words,
        *_medians(results, scenario, _p99, "{:.2f}"),
        _or_none(best),
        _judged(best, _P99_TARGET, _is_compiled(results)),
    ]


def _names(results: Results) -> list[str]:
    return [target.name for target in results.targets]


def _values(results: Results, scenario: Scenario, target: str, figure: Figure) -> list[float]:
    return [figure(sample) for sample in results.of(scenario.name, target)]


def _medians(results: Results, scenario: Scenario, figure: Figure, form: str) -> Iterator[str]:
    for name in _names(results):
        values = _values(results, scenario, name, figure)
        failed = (scenario.name, name) in results.failures
        yield form.format(median(values)) if values else _FAILED if failed else _NONE


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


def _or_none(value: Ratio | None) -> str:
    return _NONE if value is None else str(value)


def _judged(value: Ratio | None, target: float | None, applies: bool) -> str:
    """The target, and whether it is met if it applies."""
    if target is None:
        return _NONE
    verdict = "" if value is None or not applies else " met" if value.value <= target else " **missed**"
    return f"≤ {target:.2f}{verdict}"


def _is_compiled(results: Results) -> bool:
    """Whether the Slotgate that was measured runs its compiled engine (as its --version says)."""
    return all("engine: python" not in target.version for target in results.targets if target.name == OURS)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table: the first column to the left, figures to the right, padded to be read as text too."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (cells[0], rule, *cells[1:]):
        first, *others = zip(row, widths, strict=True)
        yield "| " + " | ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]) + " |"
