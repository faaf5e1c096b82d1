"""What operators ask over HTTP: ``/metrics``, ``/healthz``, ``/readyz``, ``/topology``.

Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
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
from proxy.compiled import engine
from proxy.config import Address
from proxy.transport.clock import timeout
from proxy.transport.job_runner import apart
from proxy.transport.listeners import listen
from proxy.worker.metric_snapshot import SUM, Labels, Tally
from proxy.worker.report import Overview

_TIMEOUT = 10.0


class TallyCollector(Collector):
    """An overview's values as Prometheus samples."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterable[Metric]:
        """One family for each row of ``proxy.metrics``."""
        for metric in _COUNTED:
            yield _family(metric, self._tally.values(metric))
        build = InfoMetricFamily(metrics.BUILD.name, metrics.BUILD.help)
        build.add_metric((), {"version": __version__, "engine": engine()})
        yield build


_COUNTED = [
    metric for metric in vars(metrics).values() if isinstance(metric, metrics.Metric) and metric is not metrics.BUILD
]


def _family(metric: metrics.Metric, values: Mapping[Labels, float]) -> Metric:
    if metric.kind == "histogram":
        return _histogram(metric, values)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _histogram(metric: metrics.Metric, values: Mapping[Labels, float]) -> Metric:
    family = HistogramMetricFamily(metric.name, metric.help)
    buckets: list[tuple[str, float]] = []
    total = 0.0
    for bound in (*map(str, metrics.BUCKETS), "+Inf"):
        total += values.get((bound,), 0)
        buckets.append((bound, total))
    family.add_metric((), buckets, values.get((SUM,), 0))
    return family


Look = Callable[[], Awaitable[Overview]]
"""Asks all workers how they are."""


class Admin:
    """The HTTP side of the proxy: answers GET and HEAD, one request a connection. ``look`` is asked each time."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self.draining = False

    @contextlib.asynccontextmanager
    async def listening(self, address: Address | None) -> AsyncIterator[None]:
        """Answer at ``address``, if there is one. Raises SlotgateError if it can not be had."""
        listeners = listen([address] if address is not None else [])
        servers: list[asyncio.AbstractServer] = []
        try:
            for each in listeners.of(0):
                start = asyncio.start_unix_server if each.family == socket.AF_UNIX else asyncio.start_server
                servers.append(await start(self.serve, sock=each))
            yield
        finally:
            for server in servers:
                server.close()
            listeners.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the request of one connection, then close it."""
        try:
            async with timeout(_TIMEOUT):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._respond(request.decode("latin-1")))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _respond(self, request: str) -> bytes:
        head, *lines = request.splitlines()
        method, _, rest = head.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"GET or HEAD only\n", method)
        match path:
            case "/metrics":
                encoder, content_type = choose_encoder(headers.get("accept", ""))
                registry = CollectorRegistry()
                registry.register(TallyCollector((await self._look()).tally))
                # With thousands of series that takes a tenth of a second, and the loop may be the clients'.
                return _response(HTTPStatus.OK, content_type, await apart(True, encoder, registry), method)
            case "/healthz":
                return _response(HTTPStatus.OK, "text/plain", b"alive\n", method)
            case "/readyz":
                status, text = await self._ready()
                return _response(status, "text/plain", text.encode(), method)
            case "/topology":
                body = json.dumps((await self._look()).topology, indent=2).encode() + b"\n"
                return _response(HTTPStatus.OK, "application/json", body, method)
            case _:
                text = "try /metrics, /healthz, /readyz or /topology\n"
                return _response(HTTPStatus.NOT_FOUND, "text/plain", text.encode(), method)

    async def _ready(self) -> tuple[HTTPStatus, str]:
        if self.draining:
            return HTTPStatus.SERVICE_UNAVAILABLE, "draining: the proxy is about to stop\n"
        overview = await self._look()
        if overview.unready:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"{overview.unready}\n"
        lacking = [f"shard {shard} lacks {library}" for shard, library in overview.tally.values(metrics.MISSING)]
        note = f"function libraries: {', '.join(lacking)}\n" if lacking else ""
        return HTTPStatus.OK, f"ready: every slot has a reachable primary\n{note}"


def _response(status: HTTPStatus, content_type: str, body: bytes, method: str) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else body)
