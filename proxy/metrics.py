"""The table of metrics, and the plain counters that the hot path increments.

Counters are ordinary integers, so that counting costs one addition; ``proxy.worker.admin`` turns them into Prometheus
samples on request. Durations are in seconds, sizes in bytes.
"""

import time
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family of ``/metrics``; names follow https://prometheus.io/docs/practices/naming/."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...] = ()


COMMANDS = Metric("slotgate_commands", "counter", "Commands by name and outcome.", ("command", "outcome"))
LATENCY = Metric(
    "slotgate_backend_latency_seconds", "histogram", "Time from a forwarded request's arrival to its backend's reply."
)
BYTES = Metric("slotgate_client_bytes", "counter", "Bytes read from and written to clients.", ("direction",))
CLIENTS = Metric("slotgate_clients", "gauge", "Connected clients.")
ACCEPTED = Metric("slotgate_clients_accepted", "counter", "Client connections accepted.")
REJECTED = Metric("slotgate_clients_rejected", "counter", "Client connections closed by the proxy.", ("reason",))
AUTH_FAILURES = Metric("slotgate_auth_failures", "counter", "Logins that failed.", ("reason",))
AUDITED = Metric("slotgate_audit_records", "counter", "Lines recorded in the audit log.")
AUDIT_DROPPED = Metric("slotgate_audit_dropped", "counter", "Lines for the audit log that its queue had no room for.")
AUDIT_WAITING = Metric(
    "slotgate_audit_waiting_bytes", "gauge", "Bytes of the audit log that are not written yet.", ("worker",)
)
LOGINS_DELAYED = Metric("slotgate_logins_delayed", "counter", "Logins that had to wait, as many had failed.")
DENIED = Metric("slotgate_acl_denied", "counter", "Commands that the rules of their user denied.", ("reason",))
HANDSHAKES = Metric(
    "slotgate_tls_handshakes",
    "counter",
    "TLS handshakes of clients: full, resumed, or failed, by the reason.",
    ("listener", "outcome"),
)
HANDSHAKING = Metric(
    "slotgate_tls_handshaking",
    "gauge",
    "Clients whose TLS handshake is not complete (open), and steps of handshakes that wait for the thread (waiting).",
    ("state", "worker"),
)
CERTIFICATE_EXPIRY = Metric(
    "slotgate_certificate_expiry_seconds",
    "gauge",
    "Seconds until a certificate in use expires; negative if it has.",
    ("listener", "file", "worker"),
)
CERTIFICATE_RELOADS = Metric(
    "slotgate_certificate_reloads",
    "counter",
    "Times that changed certificates of a listener were used (ok), or could not be (failed).",
    ("listener", "outcome"),
)
STOPPED = Metric(
    "slotgate_clients_not_read",
    "counter",
    "Times that a client was not read from for a while because of a limit, by the limit.",
    ("limit",),
)
REFUSED = Metric(
    "slotgate_requests_refused", "counter", "Requests and logins refused because of a limit, by the limit.", ("limit",)
)
WAITING = Metric(
    "slotgate_client_waiting_bytes", "gauge", "Bytes that wait for clients that are behind with reading.", ("worker",)
)
MEMORY = Metric(
    "slotgate_client_memory_bytes",
    "gauge",
    "Bytes that clients hold, by kind, counted every few seconds.",
    ("kind", "worker"),
)
MEMORY_LIMIT = Metric(
    "slotgate_client_memory_limit_bytes", "gauge", "Bytes that clients may hold, of limits.memory.", ("worker",)
)
RESIDENT = Metric("slotgate_resident_bytes", "gauge", "Memory of the worker process.", ("worker",))
SPLITS = Metric("slotgate_splits", "counter", "Requests split into parts for several shards.")
CROSSSLOTS = Metric("slotgate_crossslots", "counter", "Requests refused because their keys are in several slots.")
_BACKEND = ("shard", "address", "role", "connection", "worker")
UP = Metric("slotgate_backend_up", "gauge", "1 if the connection is ready.", _BACKEND)
IN_FLIGHT = Metric("slotgate_backend_in_flight", "gauge", "Requests without a reply.", _BACKEND)
RECONNECTS = Metric("slotgate_backend_reconnects", "counter", "Connections lost.", _BACKEND)
TIMEOUTS = Metric("slotgate_timeouts", "counter", "Requests that were not answered in time.")
RETRIES = Metric("slotgate_retries", "counter", "Requests sent again after a lost connection.")
UNCERTAIN = Metric("slotgate_uncertain", "counter", "Requests answered UNCERTAIN.")
TOO_LARGE = Metric(
    "slotgate_replies_too_large", "counter", "Replies that had to be kept, and were larger than limits.max_reply."
)
REDIRECTIONS = Metric(
    "slotgate_redirections",
    "counter",
    "Requests that a server refused and the proxy sends again, by its error.",
    ("error",),
)
REFRESHES = Metric(
    "slotgate_topology_refreshes", "counter", "Looks at the topology, by what came of them.", ("outcome",)
)
TOPOLOGY_AGE = Metric("slotgate_topology_age_seconds", "gauge", "Since the topology was last confirmed.", ("worker",))
LOADS = Metric("slotgate_script_loads", "counter", "Scripts loaded ahead of a call by their digest.")
SCRIPTS = Metric("slotgate_scripts", "gauge", "Scripts that are kept to be loaded.", ("worker",))
MISSING = Metric(
    "slotgate_missing_library", "gauge", "1 for a function library that other shards have.", ("shard", "library")
)
LAG = Metric("slotgate_replica_lag_seconds", "gauge", "How far a replica is behind.", ("shard", "address", "worker"))
LEASES = Metric(
    "slotgate_dedicated_connections",
    "gauge",
    "Connections that one client has for itself, or that are kept for the next: used, idle.",
    ("shard", "address", "state", "worker"),
)
LEASE_REFUSALS = Metric(
    "slotgate_dedicated_refused", "counter", "Requests refused because all dedicated connections were in use."
)
SUBSCRIPTIONS = Metric(
    "slotgate_subscriptions",
    "gauge",
    "What clients are subscribed to, each once: channel, pattern, shard.",
    ("kind", "worker"),
)
SUBSCRIBER = Metric(
    "slotgate_subscriber_up",
    "gauge",
    "1 if the connection over which a worker is subscribed at a primary is ready.",
    ("shard", "address", "worker"),
)
WORKERS = Metric("slotgate_workers", "gauge", "Workers that are running.")
RESTARTS = Metric("slotgate_worker_restarts", "counter", "Workers that ended and were started again.")
STUCK = Metric("slotgate_workers_stuck", "counter", "Workers that did not answer for worker_patience and were killed.")
LOOP_LAG = Metric(
    "slotgate_loop_lag_seconds",
    "histogram",
    "How late a worker's loop is, looked at 25 times a second: all its clients wait.",
)
LOOP_WORST = Metric(
    "slotgate_loop_worst_seconds",
    "gauge",
    "The longest that a worker's loop was held up in the last minute (lag), and the CPU that it took meanwhile (work).",
    ("of", "worker"),
)
LOOP_LONG = Metric(
    "slotgate_loop_long_turns",
    "counter",
    "Turns of a worker's loop over 100 ms: by its own work, or because the process did not run (stall).",
    ("cause",),
)
RELOADED_WELL = Metric(
    "slotgate_config_last_reload_successful", "gauge", "1 if the last reload of the configuration was successful."
)
RELOADED_WHEN = Metric(
    "slotgate_config_last_reload_timestamp_seconds", "gauge", "When the configuration in use was read."
)
SHARDS = Metric("slotgate_shards", "gauge", "Shards in the topology.")
BUILD = Metric("slotgate_build", "info", "Version and engine.", ("version", "engine"))

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the latency histogram, from a loopback round trip to beyond the default request timeout."""

_FINE_PER_SECOND = 20_000
_FINE_UPTO = 0.0256
"""Latencies below this bound are counted in steps of 50 µs, of which all smaller bounds are multiples: no search is
needed."""


class CommandCounter:
    """The calls of one command: how many were carried out, how many of those failed, and how many the proxy refused."""

    __slots__ = ("calls", "failed", "name", "rejected")

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.failed = 0
        self.rejected = 0


class Counters:
    """All counters of one worker. Without ``measure`` the hot path neither counts nor times commands."""

    __slots__ = (
        "_coarse",
        "_fine",
        "accepted",
        "bytes_in",
        "bytes_out",
        "commands",
        "confirmed",
        "crossslots",
        "latency_sum",
        "lease_refusals",
        "measure",
        "redirections",
        "refreshes",
        "refused",
        "rejected",
        "retries",
        "splits",
        "stopped",
        "timeouts",
        "too_large",
        "uncertain",
    )

    def __init__(self, measure: bool = True) -> None:
        self.measure = measure
        self.accepted = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.commands: dict[str, CommandCounter] = {}
        self.crossslots = 0
        self._coarse = [0] * (len(BUCKETS) + 1)
        self._fine = [0] * int(_FINE_UPTO * _FINE_PER_SECOND)
        self.latency_sum = 0.0
        self.lease_refusals = 0
        self.redirections: dict[str, int] = {}
        self.refreshes: dict[str, int] = {}
        self.confirmed = 0.0
        """The time of the last successful look at the topology, by ``time.monotonic``; 0 if there was none."""
        self.refused: dict[str, int] = {}
        self.rejected: dict[str, int] = {}
        self.stopped: dict[str, int] = {}
        self.retries = 0
        self.splits = 0
        self.timeouts = 0
        self.too_large = 0
        self.uncertain = 0

    def command(self, name: str) -> CommandCounter:
        """Return the counter of the command ``name`` (lower case, known to Redis), made at its first use."""
        counter = self.commands.get(name)
        if counter is None:
            counter = self.commands[name] = CommandCounter(name)
        return counter

    def observe(self, seconds: float, count: int) -> None:
        """Add ``count`` requests that took ``seconds`` each to the latency histogram."""
        self.latency_sum += seconds * count
        if seconds < _FINE_UPTO:
            index = int(seconds * _FINE_PER_SECOND)
            self._fine[index] += count
        else:
            self._coarse[bisect_left(BUCKETS, seconds)] += count

    def latency_buckets(self) -> list[int]:
        """Return the number of requests in each bucket of ``BUCKETS``, and above the last bucket; not cumulative."""
        buckets = list(self._coarse)
        for index, count in enumerate(self._fine):
            buckets[bisect_left(BUCKETS, (index + 0.5) / _FINE_PER_SECOND)] += count
        return buckets

    def redirect(self, error: str) -> None:
        """Count a request that a server refused with ``error`` (the error's first word) and that is sent again."""
        self.redirections[error] = self.redirections.get(error, 0) + 1

    def refresh(self, outcome: str) -> None:
        """Count a look at the topology: "same", "changed" or "failed"."""
        self.refreshes[outcome] = self.refreshes.get(outcome, 0) + 1
        if outcome != "failed":
            self.confirmed = time.monotonic()

    def reject(self, reason: str) -> None:
        """Count a client that was closed for ``reason`` (a fixed word)."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def refuse(self, limit: str) -> None:
        """Count a request or login that is refused because ``limit`` (a key of the configuration) is reached."""
        self.refused[limit] = self.refused.get(limit, 0) + 1

    def hold(self, limit: str) -> None:
        """Count a client that is not read from because ``limit`` (a key of the configuration) is reached."""
        self.stopped[limit] = self.stopped.get(limit, 0) + 1
