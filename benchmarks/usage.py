"""What the memory measurements find, and its tables."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks.figures import MET, MISSED, NONE, table
from benchmarks.peers import DIRECT, OURS

_KB: Final = 1024
_MB: Final = 1024 * 1024
_IDLE_TARGET: Final = 4 * _KB
_RETURN_TARGET: Final = 1.3
# limits.output_soft: past it, no more is read for a client that does not read.
_OUTPUT_LIMIT: Final = 8 * _MB
# On top of it: what is being read from the backend and passed on.
_UNDER_WAY: Final = 4 * _MB
_GET_TARGET: Final = _OUTPUT_LIMIT + _UNDER_WAY
# The largest value's time for each MB to the smallest's; twice for each doubling would be quadratic.
_LINEAR_TARGET: Final = 1.5


@dataclass(frozen=True, slots=True)
class Return:
    """RSS before something, right after it, and when it had settled, ``seconds`` later; bytes."""

    before: int
    high: int
    after: int
    seconds: float

    @property
    def ratio(self) -> float:
        return self.after / self.before

    @property
    def is_back(self) -> bool:
        """Whether it is small enough again."""
        return self.ratio <= _RETURN_TARGET


@dataclass(frozen=True, slots=True)
class Large:
    """One large value: seconds to set and to get it, and how much the process grew at the highest, in bytes.

    ``slow_growth``: when it is got by a client that reads slowly.
    """

    megabytes: int
    set_seconds: float
    set_growth: int
    get_seconds: float
    get_growth: int
    slow_growth: int


@dataclass(slots=True)
class Usage:
    """By name of the proxy; ``idle`` is the bytes of one of ``clients`` idle clients."""

    clients: int
    idle: dict[str, float] = field(default_factory=dict)
    burst: dict[str, Return] = field(default_factory=dict)
    traffic: dict[str, Return] = field(default_factory=dict)
    large: dict[str, list[Large]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failed: bool = False


def lines(usage: Usage) -> Iterator[str]:
    """A section."""
    yield "## Memory"
    yield ""
    yield "Of the process itself: what the kernel holds for its sockets is not in it. Targets are Slotgate's."
    if usage.notes:
        yield ""
    yield from (f"- {note}" for note in usage.notes)
    yield ""
    yield f"{usage.clients:,} clients connect at once and each has one GET answered: the growth of anonymous memory for"
    yield "each of them. RSS before, right after, and when it was back within the target or after some seconds: of"
    yield "their closing, and of 1 GB of traffic in values of 1 MB and of 16 KB, half of it each way."
    yield ""
    yield from table(
        ["proxy", "bytes an idle client", "target"],
        (
            [name, f"{size:,.0f}", _judged(f"≤ {_IDLE_TARGET:,}", size <= _IDLE_TARGET, name)]
            for name, size in usage.idle.items()
        ),
    )
    yield ""
    yield from table(
        ["RSS in MB", "before", "right after", "settled", "after s", "x before", "target"],
        (
            *(_return_row(f"{name}, clients", name, found) for name, found in usage.burst.items()),
            *(_return_row(f"{name}, 1 GB", name, found) for name, found in usage.traffic.items()),
        ),
    )
    yield ""
    yield "Large values, one client. Growth is RSS at its highest, above that of the started process; the slow client"
    yield "reads nothing for a second and then about 200 MB a second. Target for the growth of a GET: the client's"
    yield f"output limit of {_OUTPUT_LIMIT // _MB} MB, and {_UNDER_WAY // _MB} MB of what is under way."
    yield ""
    yield from table(
        ["value", "SET ms/MB", "growth MB", "GET ms/MB", "growth MB", "growth MB, slow", "target"],
        (_large_row(name, found) for name, values in usage.large.items() for found in values),
    )
    yield ""
    yield from (_linear(name, values) for name, values in usage.large.items() if len(values) > 1)


def _judged(target: str, met: bool, name: str) -> str:
    return f"{target} {MET if met else MISSED}" if name == OURS else NONE


def _return_row(words: str, name: str, found: Return) -> list[str]:
    sizes = [f"{size / _MB:,.1f}" for size in (found.before, found.high, found.after)]
    judged = _judged(f"≤ {_RETURN_TARGET:.2f}", found.is_back, name)
    return [words, *sizes, f"{found.seconds:.1f}", f"{found.ratio:.2f}", judged]


def _large_row(name: str, found: Large) -> list[str]:
    grown = max(found.get_growth, found.slow_growth)
    # A server grows by what is stored.
    growths = [
        NONE if name == DIRECT else f"{growth / _MB:,.1f}"
        for growth in (found.set_growth, found.get_growth, found.slow_growth)
    ]
    return [
        f"{name}, {found.megabytes} MB",
        f"{found.set_seconds * 1000 / found.megabytes:.2f}",
        growths[0],
        f"{found.get_seconds * 1000 / found.megabytes:.2f}",
        *growths[1:],
        _judged(f"≤ {_GET_TARGET // _MB}", grown <= _GET_TARGET, name),
    ]


def _linear(name: str, values: list[Large]) -> str:
    """How the time for each MB of the largest value is to that of the smallest."""
    first, last = values[0], values[-1]
    scale = first.megabytes / last.megabytes
    ratios = {"SET": last.set_seconds / first.set_seconds * scale, "GET": last.get_seconds / first.get_seconds * scale}
    judged = _judged(f"≤ {_LINEAR_TARGET:.2f}", max(ratios.values()) <= _LINEAR_TARGET, name)
    said = ", ".join(f"{way} {value:.2f}" for way, value in ratios.items())
    return f"- {name}: time for each MB at {last.megabytes} MB to that at {first.megabytes} MB: {said}; target {judged}"
