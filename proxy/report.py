"""How the workers are: each takes a Report of itself, and all of them together are an Overview."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy import metrics
from proxy.metrics import BUCKETS
from proxy.service import Service
from proxy.tally import SUM, Tally
from proxy.topology import Topology


@dataclass(frozen=True, slots=True)
class Report:
    """One worker at one moment."""

    tally: Tally
    unreachable: tuple[str, ...]
    """The names of the shards whose primary is not connected."""
    connected: frozenset[str]
    """The addresses of the servers that are."""

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "tally": self.tally.plain(),
            "unreachable": list(self.unreachable),
            "connected": sorted(self.connected),
        }

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> "Report":
        """What ``plain`` gave."""
        return cls(Tally.of_plain(plain["tally"]), tuple(plain["unreachable"]), frozenset(plain["connected"]))


@dataclass(frozen=True, slots=True)
class Overview:
    """All workers at one moment."""

    tally: Tally
    unready: str
    """Why the proxy should get no clients now; empty if it should."""
    connected: frozenset[str]
    """The addresses of the servers that every worker is connected to."""


def take(service: Service) -> Report:
    """How this worker is."""
    connected = frozenset(backend.place.node.address for backend in service.pool if backend.ready)
    return Report(_tally(service), tuple(service.unreachable()), connected)


def together(topology: Topology, reports: Sequence[Report]) -> Overview:
    """The running workers' ``reports`` as one."""
    tally = Tally()
    for report in reports:
        tally.include(report.tally)
    tally.add(metrics.WORKERS, len(reports))
    tally.add(metrics.RESTARTS, 0)
    unreachable = {name for report in reports for name in report.unreachable}
    names = [shard.name for shard in topology.shards if shard.name in unreachable]
    connected = frozenset.intersection(*(report.connected for report in reports)) if reports else frozenset[str]()
    return Overview(tally, f"no reachable primary in: {', '.join(names)}" if names else "", connected)


def _tally(service: Service) -> Tally:
    counters = service.counters
    tally = Tally()
    for name, command in counters.commands.items():
        if command.calls or command.rejected:
            tally.add(metrics.COMMANDS, command.calls - command.failed, name, "ok")
            tally.add(metrics.COMMANDS, command.failed, name, "error")
            tally.add(metrics.COMMANDS, command.rejected, name, "rejected")
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counters.latency_buckets(), strict=True):
        tally.add(metrics.LATENCY, count, bound)
    tally.add(metrics.LATENCY, counters.latency_sum, SUM)
    tally.add(metrics.BYTES, counters.bytes_in, "in")
    tally.add(metrics.BYTES, counters.bytes_out + sum(client.window.written for client in service.clients), "out")
    tally.add(metrics.CLIENTS, len(service.clients))
    tally.add(metrics.ACCEPTED, counters.accepted)
    for reason, count in counters.rejected.items():
        tally.add(metrics.REJECTED, count, reason)
    tally.add(metrics.SPLITS, counters.splits)
    tally.add(metrics.CROSSSLOTS, counters.crossslots)
    tally.add(metrics.TIMEOUTS, counters.timeouts)
    tally.add(metrics.RETRIES, counters.retries)
    tally.add(metrics.UNCERTAIN, counters.uncertain)
    for backend in service.pool:
        place = backend.place
        role = "primary" if place.primary else "replica"
        connection = f"{place.index}/resp{place.protocol}/db{place.db}"
        labels = (place.shard, place.node.address, role, connection, str(service.census.index))
        tally.add(metrics.UP, backend.ready, *labels)
        tally.add(metrics.IN_FLIGHT, len(backend.inflight), *labels)
        tally.add(metrics.RECONNECTS, backend.reconnects, *labels)
    return tally
