"""The values of ``/metrics`` as plain data: each worker takes them, and their sum is sent to the admin process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy import metrics
from proxy.metrics import Metric
from proxy.worker.readiness import ALL, Readiness

Labels = tuple[str, ...]

SUM = "sum"
"""The label of the sum of a histogram's observations; the other labels are the buckets' upper bounds."""

_LASTING = ("counter", "histogram")
_BY_NAME = {metric.name: metric for metric in vars(metrics).values() if isinstance(metric, Metric)}


class Tally:
    """Values by metric family and labels. A histogram has the counts of its buckets, not cumulative, and ``SUM``."""

    def __init__(self) -> None:
        self._families: dict[str, dict[Labels, float]] = {}
        """The families by name: a string is hashed once, but a Metric at each access."""

    def __repr__(self) -> str:
        return f"Tally({self._families})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and self._families == other._families

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, metric: Metric, value: float, *labels: str) -> None:
        """Add ``value`` to the value under ``labels``."""
        family = self._families.get(metric.name)
        if family is None:
            family = self._families[metric.name] = {}
        family[labels] = family.get(labels, 0) + value

    def values(self, metric: Metric) -> Mapping[Labels, float]:
        """Return all values of a family."""
        return self._families.get(metric.name, {})

    def include(self, other: "Tally") -> None:
        """Add all values of ``other``."""
        for name, values in other._families.items():
            family = self._families.get(name)
            if family is None:
                self._families[name] = dict(values)
                continue
            for labels, value in values.items():
                family[labels] = family.get(labels, 0) + value

    def lasting(self) -> "Tally":
        """Return the values that remain true after the worker has ended: the counters, but not the gauges."""
        kept = Tally()
        kept._families = {
            name: dict(values) for name, values in self._families.items() if _BY_NAME[name].kind in _LASTING
        }
        return kept

    def plain(self) -> dict[str, list[tuple[Labels, float]]]:
        """Return the values in a form that JSON can hold."""
        return {name: list(values.items()) for name, values in self._families.items()}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Sequence[Sequence[Any]]]) -> "Tally":
        """Return the tally that ``plain`` was made from."""
        tally = cls()
        for name, values in plain.items():
            tally._families[name] = {tuple(labels): value for labels, value in values}
        return tally


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of all workers at one moment."""

    tally: Tally
    readiness: Readiness
    topology: Mapping[str, Any]
    """The topology as ``/topology`` shows it; a node is connected if every worker is connected to it."""

    @property
    def unready(self) -> str:
        """The reason why not every slot is served; empty if all are served."""
        return self.readiness.unready(ALL)

    def plain(self) -> dict[str, Any]:
        """Return the overview in a form that JSON can hold."""
        return {"tally": self.tally.plain(), "readiness": self.readiness.plain(), "topology": self.topology}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> "Overview":
        """Return the overview that ``plain`` was made from."""
        return cls(Tally.of_plain(plain["tally"]), Readiness.of_plain(plain["readiness"]), plain["topology"])
