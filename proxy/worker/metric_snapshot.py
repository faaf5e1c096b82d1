"""The values of ``/metrics`` as plain data: taken by each worker, sent to the supervisor, and added up there."""

from collections.abc import Mapping, Sequence
from typing import Any

from proxy import metrics
from proxy.metrics import Metric

Labels = tuple[str, ...]

SUM = "sum"
"""The label under which a histogram has the sum of what it observed; the others are its buckets' upper bounds."""

_BY_NAME = {metric.name: metric for metric in vars(metrics).values() if isinstance(metric, Metric)}


class Tally:
    """Values by metric family and labels. A histogram's are the counts of its buckets, not cumulative, and ``SUM``."""

    def __init__(self) -> None:
        self._families: dict[Metric, dict[Labels, float]] = {}

    def __repr__(self) -> str:
        return f"Tally({ {metric.name: values for metric, values in self._families.items()} })"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and self._families == other._families

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, metric: Metric, value: float, *labels: str) -> None:
        """Add ``value`` to what is there under ``labels``."""
        family = self._families.setdefault(metric, {})
        family[labels] = family.get(labels, 0) + value

    def values(self, metric: Metric) -> Mapping[Labels, float]:
        """All values of a family."""
        return self._families.get(metric, {})

    def include(self, other: "Tally") -> None:
        """Add all of ``other``."""
        for metric, values in other._families.items():
            for labels, value in values.items():
                self.add(metric, value, *labels)

    def lasting(self) -> "Tally":
        """What stays true when its worker is gone: what was counted, and not what there was at the moment."""
        kept = Tally()
        kept._families = {
            metric: dict(values) for metric, values in self._families.items() if metric.kind in ("counter", "histogram")
        }
        return kept

    def plain(self) -> dict[str, list[tuple[Labels, float]]]:
        """As JSON can hold it."""
        return {metric.name: list(values.items()) for metric, values in self._families.items()}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Sequence[Sequence[Any]]]) -> "Tally":
        """What ``plain`` gave."""
        tally = cls()
        for name, values in plain.items():
            tally._families[_BY_NAME[name]] = {tuple(labels): value for labels, value in values}
        return tally
