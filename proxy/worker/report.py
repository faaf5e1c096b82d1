"""The state of the workers: each takes a Report of itself, and all reports together give an Overview."""

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from proxy import metrics
from proxy.backends.settings import LARGE, LONG, SCRIPTS
from proxy.metrics import BUCKETS
from proxy.sharding.topology import NOBODY, Topology, format_ranges
from proxy.worker.memory import resident
from proxy.worker.metric_snapshot import SUM, Overview, Tally
from proxy.worker.readiness import NO_PRIMARY, Readiness
from proxy.worker.service import Service

_NAMED = {LARGE: "large", LONG: "long"}


@dataclass(frozen=True, slots=True)
class Report:
    """The state of one worker at one moment."""

    tally: Tally
    unreachable: tuple[str, ...]
    """The names of the shards without a connected primary: the connection is down, or the server is no primary."""
    gaps: str
    """The slots that no shard serves, as ranges."""
    connected: frozenset[str]
    """The addresses of the connected servers."""
    shards: Sequence[Mapping[str, Any]]
    """The topology, as ``/topology`` shows it."""
    epoch: int
    unfit: Mapping[str, str] = field(default_factory=dict)
    """The reasons why primaries can not be used, by the shard's name, where the primary itself reports the reason."""

    def plain(self) -> dict[str, Any]:
        """Return the report in a form that JSON can hold."""
        return {
            "tally": self.tally.plain(),
            "unreachable": list(self.unreachable),
            "gaps": self.gaps,
            "connected": sorted(self.connected),
            "shards": self.shards,
            "epoch": self.epoch,
            "unfit": dict(self.unfit),
        }

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> "Report":
        """Return the report that ``plain`` was made from."""
        return cls(
            Tally.of_plain(plain["tally"]),
            tuple(plain["unreachable"]),
            plain["gaps"],
            frozenset(plain["connected"]),
            plain["shards"],
            plain["epoch"],
            plain["unfit"],
        )


def take(service: Service) -> Report:
    """Return the report of this worker."""
    connected = frozenset(backend.place.node.address for backend in service.upstream.pool if backend.ready)
    topology = service.topology
    return Report(
        _tally(service),
        tuple(unreachable(service)),
        format_ranges(topology.ranges(NOBODY)),
        connected,
        shown(topology),
        topology.epoch,
        unfit(service),
    )


def unreachable(service: Service) -> list[str]:
    """Return the names of the shards without a connected primary."""
    up = {backend.place.node for backend in service.upstream.pool if backend.place.primary and backend.ready}
    up.difference_update(service.discovery.roles.misfits)
    return [shard.name for shard in service.topology.shards if shard.primary not in up]


def unfit(service: Service) -> dict[str, str]:
    """Return the reasons that primaries themselves give why they can not be used, by the shard's name."""
    primaries = [backend for backend in service.upstream.pool if backend.place.primary]
    found = {backend.place.node: backend.unfit for backend in primaries if backend.unfit}
    found |= service.discovery.roles.misfits
    return {shard.name: found[shard.primary] for shard in service.topology.shards if shard.primary in found}


@lru_cache(maxsize=2)
def shown(topology: Topology) -> list[dict[str, Any]]:
    """Return the shards as ``/topology`` shows them. The result is cached, because it is asked for often."""
    return [
        {
            "name": shard.name,
            "slots": [list(span) for span in topology.ranges(index)],
            "nodes": [
                {"address": node.address, "role": "primary" if node == shard.primary else "replica"}
                for node in shard.nodes
            ],
        }
        for index, shard in enumerate(topology.shards)
    ]


def together(reports: Sequence[Report]) -> Overview:
    """Combine the running workers' ``reports``. Workers find the same topology at slightly different times."""
    tally = Tally()
    for report in reports:
        tally.include(report.tally)
    tally.add(metrics.WORKERS, len(reports))
    tally.add(metrics.RESTARTS, 0)
    tally.add(metrics.STUCK, 0)
    latest = max(reports, key=lambda report: report.epoch, default=None)
    unreachable = {name: None for report in reports for name in report.unreachable}
    unfit = {name: why for report in reports for name, why in report.unfit.items()}
    connected = frozenset.intersection(*(report.connected for report in reports)) if reports else frozenset[str]()
    shards = [] if latest is None else [_connected(shard, connected) for shard in latest.shards]
    tally.add(metrics.SHARDS, len(shards))
    names = dict.fromkeys([*(shard["name"] for shard in shards), *unreachable])
    readiness = Readiness(
        {name: unfit.get(name, NO_PRIMARY) if name in unreachable else "" for name in names},
        _problems(reports, list(unreachable), unfit),
        serving=bool(reports) and all(len(report.unreachable) < len(report.shards) for report in reports),
    )
    return Overview(tally, readiness, {"epoch": latest.epoch if latest else 0, "shards": shards})


def _problems(reports: Sequence[Report], unreachable: Sequence[str], unfit: Mapping[str, str]) -> list[str]:
    """Return the reasons why some slots are not served, in words."""
    reasons = []
    if unreachable:
        reasons.append(f"{NO_PRIMARY} in: {', '.join(unreachable)}")
        reasons += [f"{name}: {unfit[name]}" for name in unreachable if name in unfit]
    if gaps := next((report.gaps for report in reports if report.gaps), ""):
        reasons.append(f"no shard serves the slots {gaps}")
    return reasons


def _connected(shard: Mapping[str, Any], connected: Set[str]) -> dict[str, Any]:
    nodes = [{**node, "connected": node["address"] in connected} for node in shard["nodes"]]
    return {**shard, "nodes": nodes}


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
    denials = service.world.denials
    for reason, count in denials.logins.items():
        tally.add(metrics.AUTH_FAILURES, count, reason)
    tally.add(metrics.LOGINS_DELAYED, service.world.delays.delayed)
    for reason, count in denials.commands.items():
        tally.add(metrics.DENIED, count, reason)
    if denials.audit is not None:
        tally.add(metrics.AUDITED, denials.audit.written)
        tally.add(metrics.AUDIT_DROPPED, denials.audit.dropped)
        tally.add(metrics.AUDIT_WAITING, denials.audit.waiting, str(service.shared_counts.index))
    for limit, count in counters.stopped.items():
        tally.add(metrics.STOPPED, count, limit)
    for limit, count in counters.refused.items():
        tally.add(metrics.REFUSED, count, limit)
    tally.add(metrics.WAITING, service.clients.backlog.total, str(service.shared_counts.index))
    memory = service.clients.memory
    for held_as, size in memory.kinds.items():
        tally.add(metrics.MEMORY, size, held_as, str(service.shared_counts.index))
    tally.add(metrics.MEMORY_LIMIT, memory.limit, str(service.shared_counts.index))
    tally.add(metrics.RESIDENT, resident(), str(service.shared_counts.index))
    for error, count in counters.redirections.items():
        tally.add(metrics.REDIRECTIONS, count, error)
    if counters.confirmed:
        tally.add(metrics.TOPOLOGY_AGE, time.monotonic() - counters.confirmed, str(service.shared_counts.index))
    for outcome, count in counters.refreshes.items():
        tally.add(metrics.REFRESHES, count, outcome)
    tally.add(metrics.SPLITS, counters.splits)
    tally.add(metrics.CROSSSLOTS, counters.crossslots)
    tally.add(metrics.TIMEOUTS, counters.timeouts)
    tally.add(metrics.RETRIES, counters.retries)
    tally.add(metrics.UNCERTAIN, counters.uncertain)
    tally.add(metrics.LOADS, service.scripts.loads)
    tally.add(metrics.SCRIPTS, len(service.scripts), str(service.shared_counts.index))
    for kind, topics in service.hub.topics.items():
        tally.add(metrics.SUBSCRIPTIONS, len(topics), kind.name.lower(), str(service.shared_counts.index))
    for link in service.hub:
        tally.add(metrics.SUBSCRIBER, link.up, link.shard, link.node.address, str(service.shared_counts.index))
    for shard, libraries in service.discovery.missing.items():
        for name in libraries:
            tally.add(metrics.MISSING, 1, shard, name)
    tally.add(metrics.LEASE_REFUSALS, counters.lease_refusals)
    tally.add(metrics.TOO_LARGE, counters.too_large)
    for backend in service.upstream.pool:
        place = backend.place
        role = "primary" if place.primary else "replica"
        number = "own" if place.owner else _NAMED.get(place.index, place.index)
        if place.index <= SCRIPTS:
            number = f"scripts-{SCRIPTS - place.index}"
        connection = f"{number}/resp{place.protocol}/db{place.db}"
        labels = (place.shard, place.node.address, role, connection, str(service.shared_counts.index))
        tally.add(metrics.UP, backend.ready, *labels)
        tally.add(metrics.IN_FLIGHT, len(backend.inflight), *labels)
        tally.add(metrics.RECONNECTS, backend.reconnects, *labels)
    _add_loop(tally, service)
    _add_tls(tally, service)
    names = {node: shard.name for shard in service.topology.shards for node in shard.nodes}
    for usage in service.upstream.leases.usage():
        for state, count in (("used", usage.used), ("idle", usage.idle)):
            where = (names.get(usage.node, ""), usage.node.address)
            tally.add(metrics.LEASES, count, *where, state, str(service.shared_counts.index))
    for shard, node, lag in service.discovery.lags():
        tally.add(metrics.LAG, lag, shard, node.address, str(service.shared_counts.index))
    return tally


def _add_tls(tally: Tally, service: Service) -> None:
    if not service.tls:
        return
    worker = str(service.shared_counts.index)
    handshakes = service.tls.handshakes
    for state, count in (("open", handshakes.open), ("waiting", handshakes.waiting)):
        tally.add(metrics.HANDSHAKING, count, state, worker)
    for listener in service.tls:
        for outcome, count in listener.outcomes.items():
            tally.add(metrics.HANDSHAKES, count, listener.name, outcome)
        for outcome, count in listener.reloads.items():
            tally.add(metrics.CERTIFICATE_RELOADS, count, listener.name, outcome)
        for file, expires in listener.expiry.items():
            tally.add(metrics.CERTIFICATE_EXPIRY, expires - time.time(), listener.name, file, worker)


def _add_loop(tally: Tally, service: Service) -> None:
    lag = service.loop_lag
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), lag.buckets, strict=True):
        tally.add(metrics.LOOP_LAG, count, bound)
    tally.add(metrics.LOOP_LAG, lag.total, SUM)
    for of, seconds in zip(("lag", "work"), lag.worst(), strict=True):
        tally.add(metrics.LOOP_WORST, seconds, of, str(service.shared_counts.index))
    for cause, count in lag.long.items():
        tally.add(metrics.LOOP_LONG, count, cause)
