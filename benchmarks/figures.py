"""What reports are made of: ratios of rounds, verdicts, tables."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

NONE: Final = "-"
MET: Final = "met"
MISSED: Final = "**not met**"


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of the rounds' ratios, the lowest and the highest of them."""

    value: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        spread = f" ({self.lowest:.2f} to {self.highest:.2f})" if self.lowest != self.highest else ""
        return f"{self.value:.2f}{spread}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio | None:
    """Each round's figure to the other's of the same round; None when either has none."""
    each = [mine / other for mine, other in zip(ours, theirs, strict=False) if other]
    return Ratio(median(each), min(each), max(each)) if each else None


def or_none(value: object | None) -> str:
    """As it writes itself, and a dash for None."""
    return NONE if value is None else str(value)


def at_most(value: Ratio | None, target: float | None, applies: bool = True) -> str:
    """The target, and whether it is met if it applies; a dash where there is none."""
    if target is None:
        return NONE
    verdict = "" if value is None or not applies else f" {MET if value.value <= target else MISSED}"
    return f"≤ {target:.2f}{verdict}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table: the first column to the left, figures to the right, padded to be read as text too."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (cells[0], rule, *cells[1:]):
        first, *others = zip(row, widths, strict=True)
        yield "| " + " | ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]) + " |"
