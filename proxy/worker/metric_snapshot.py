"""The values of ``/metrics`` as plain data: taken by each worker, added up, sent to the admin port's process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy import metrics
from proxy.metrics import Metric

Labels = tuple[str, ...]

SUM = "sum"
"""The label under which a histogram has the sum of what it observed; the others are its buckets' upper bounds."""

_LASTING = ("counter", "histogram")
_BY_NAME = {metric.name: metric for metric in vars(metrics).values() if isinstance(metric, Metric)}


class Tally:
    """Values by metric family and labels. A histogram's are the counts of its buckets, not cumulative, and ``SUM``."""

    def __init__(self) -> None:
        self._families: dict[str, dict[Labels, float]] = {}
        """By the names of the metrics: a name is hashed once, and a Metric each time."""

    def __repr__(self) -> str:
        return f"Tally({self._families})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and self._families == other._families

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, metric: Metric, value: float, *labels: str) -> None:
        """Add ``value`` to what is there under ``labels``."""
        family = self._families.get(metric.name)
        if family is None:
            family = self._families[metric.name] = {}
        family[labels] = family.get(labels, 0) + value

    def values(self, metric: Metric) -> Mapping[Labels, float]:
        """All values of a family."""
        return self._families.get(metric.name, {})

    def include(self, other: "Tally") -> None:
        """Add all of ``other``."""
        for name, values in other._families.items():
            family = self._families.get(name)
            if family is None:
                self._families[name] = dict(values)
                continue
            for labels, value in values.items():
                family[labels] = family.get(labels, 0) + value

    def lasting(self) -> "Tally":
        """What stays true when its worker is gone: what was counted, and not what there was at the moment."""
        kept = Tally()
        kept._families = {
            name: dict(values) for name, values in self._families.items() if _BY_NAME[name].kind in _LASTING
        }
        return kept

    def plain(self) -> dict[str, list[tuple[Labels, float]]]:
        """As JSON can hold it."""
        return {name: list(values.items()) for name, values in self._families.items()}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Sequence[Sequence[Any]]]) -> "Tally":
        """What ``plain`` gave."""
        tally = cls()
        for name, values in plain.items():
            tally._families[name] = {tuple(labels): value for labels, value in values}
        return tally


@dataclass(frozen=True, slots=True)
class Overview:
    """All workers at one moment."""

    tally: Tally
    unready: str
    """Why the proxy should get no clients now; empty if it should."""
    topology: Mapping[str, Any]
    """As ``/topology`` shows it: connected is what every worker is connected to."""

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"tally": self.tally.plain(), "unready": self.unready, "topology": self.topology}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> "Overview":
        """What ``plain`` gave."""
        return cls(Tally.of_plain(plain["tally"]), plain["unready"], plain["topology"])
