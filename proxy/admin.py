"""What operators ask over HTTP: ``/metrics``, ``/healthz``, ``/readyz``, ``/topology``.

Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import asyncio
import json
from collections.abc import Iterable, Iterator
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy import __version__, metrics
from proxy.enginekind import engine
from proxy.service import Service

_TIMEOUT = 10.0


class ServiceCollector(Collector):
    """The worker's counters and the state of its connections, as Prometheus samples."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        """One family for each row of ``proxy.metrics``."""
        counters = self._service.counters
        written = sum(client.window.written for client in self._service.clients)
        yield self._commands()
        yield _histogram(counters)
        yield _counter(metrics.BYTES, {("in",): counters.bytes_in, ("out",): counters.bytes_out + written})
        yield _gauge(metrics.CLIENTS, {(): len(self._service.clients)})
        yield _counter(metrics.ACCEPTED, {(): counters.accepted})
        yield _counter(metrics.REJECTED, {(reason,): count for reason, count in counters.rejected.items()})
        yield _counter(metrics.SPLITS, {(): counters.splits})
        yield _counter(metrics.CROSSSLOTS, {(): counters.crossslots})
        yield _counter(metrics.TIMEOUTS, {(): counters.timeouts})
        yield _counter(metrics.RETRIES, {(): counters.retries})
        yield _counter(metrics.UNCERTAIN, {(): counters.uncertain})
        yield _gauge(metrics.SHARDS, {(): len(self._service.topology.shards)})
        yield from self._backends()
        build = InfoMetricFamily(metrics.BUILD.name, metrics.BUILD.help)
        build.add_metric((), {"version": __version__, "engine": engine()})
        yield build

    def _commands(self) -> Metric:
        values: dict[tuple[str, ...], float] = {}
        for name, command in self._service.counters.commands.items():
            if command.calls or command.rejected:
                values[name, "ok"] = command.calls - command.failed
                values[name, "error"] = command.failed
                values[name, "rejected"] = command.rejected
        return _counter(metrics.COMMANDS, values)

    def _backends(self) -> Iterator[Metric]:
        up: dict[tuple[str, ...], float] = {}
        in_flight: dict[tuple[str, ...], float] = {}
        reconnects: dict[tuple[str, ...], float] = {}
        for backend in self._service.pool:
            place = backend.place
            connection = f"{place.index}/resp{place.protocol}/db{place.db}"
            labels = (place.shard, place.node.address, "primary" if place.primary else "replica", connection)
            up[labels] = backend.ready
            in_flight[labels] = len(backend.inflight)
            reconnects[labels] = backend.reconnects
        yield _gauge(metrics.UP, up)
        yield _gauge(metrics.IN_FLIGHT, in_flight)
        yield _counter(metrics.RECONNECTS, reconnects)


def _counter(metric: metrics.Metric, values: dict[tuple[str, ...], float]) -> Metric:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _gauge(metric: metrics.Metric, values: dict[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _histogram(counters: metrics.Counters) -> Metric:
    family = HistogramMetricFamily(metrics.LATENCY.name, metrics.LATENCY.help)
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, metrics.BUCKETS), "+Inf"), counters.latency_buckets(), strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric((), buckets, counters.latency_sum)
    return family


class Admin:
    """The HTTP side of one worker: answers GET and HEAD, one request a connection."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = CollectorRegistry()
        self._registry.register(ServiceCollector(service))
        self.draining = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the request of one connection, then close it."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._respond(request.decode("latin-1")))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    def _respond(self, request: str) -> bytes:
        head, *lines = request.splitlines()
        method, _, rest = head.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"GET or HEAD only\n", method)
        match path:
            case "/metrics":
                encoder, content_type = choose_encoder(headers.get("accept", ""))
                return _response(HTTPStatus.OK, content_type, encoder(self._registry), method)
            case "/healthz":
                return _response(HTTPStatus.OK, "text/plain", b"alive\n", method)
            case "/readyz":
                status, text = self._ready()
                return _response(status, "text/plain", text.encode(), method)
            case "/topology":
                body = json.dumps(self._topology(), indent=2).encode() + b"\n"
                return _response(HTTPStatus.OK, "application/json", body, method)
            case _:
                text = "try /metrics, /healthz, /readyz or /topology\n"
                return _response(HTTPStatus.NOT_FOUND, "text/plain", text.encode(), method)

    def _ready(self) -> tuple[HTTPStatus, str]:
        if self.draining:
            return HTTPStatus.SERVICE_UNAVAILABLE, "draining: the proxy is about to stop\n"
        missing = self._service.unreachable()
        if missing:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"no reachable primary in: {', '.join(missing)}\n"
        return HTTPStatus.OK, "ready: every slot has a reachable primary\n"

    def _topology(self) -> dict[str, object]:
        topology = self._service.topology
        up = {backend.place.node for backend in self._service.pool if backend.ready}
        return {
            "epoch": topology.epoch,
            "shards": [
                {
                    "name": shard.name,
                    "slots": [list(span) for span in topology.ranges(index)],
                    "nodes": [
                        {
                            "address": node.address,
                            "role": "primary" if node == shard.primary else "replica",
                            "connected": node in up,
                        }
                        for node in shard.nodes
                    ],
                }
                for index, shard in enumerate(topology.shards)
            ],
        }


def _response(status: HTTPStatus, content_type: str, body: bytes, method: str) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else body)
