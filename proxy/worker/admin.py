"""The answers of the admin port: ``/metrics``, ``/healthz``, ``/readyz``, ``/topology``.

Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import gzip
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from proxy import __version__, metrics
from proxy.compiled import engine
from proxy.worker.admin_access import Access
from proxy.worker.admin_http import HttpRequest, Response
from proxy.worker.metric_snapshot import SUM, Labels, Overview, Tally
from proxy.worker.readiness import ALL, ANY, DRAINING, WHOLE, document

log = logging.getLogger(__name__)

_GZIP_LEVEL = 4
"""The gzip level. It saves nine tenths of what level 9 saves, in a third of the time."""
_DENIED_WAIT = 0.5
"""The seconds by which the answer to wrong credentials is delayed, so that guessing takes long."""
_JSON = "application/json"
_VARY = ("Vary", "Accept")
_SAY_EVERY = 10.0
"""The seconds between two log lines about wrong credentials, however many requests have them."""


class TallyCollector(Collector):
    """Converts the values of a tally to Prometheus samples."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterable[Metric]:
        """Yield one family for each row of ``proxy.metrics``."""
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
"""Asks all workers for their state. Raises TimeoutError if the process that knows it does not answer."""
Stuck = Callable[[], Awaitable[str]]
"""Asks why clients wait: the answer is "" if the loops that serve clients run."""


class Admin:
    """Answers GET and HEAD requests. ``look`` and ``stuck`` are called for each request. ``ready_when`` is the key of
    the configuration: whether ``/readyz`` is 200 if ``any`` shard is served, or if ``all`` are."""

    def __init__(self, look: Look, stuck: Stuck, access: Access, ready_when: str = ANY) -> None:
        self._look = look
        self._stuck = stuck
        self._access = access
        self._ready_when = ready_when
        self._silent_until = 0.0
        self._unsaid = 0
        self.draining = False

    def __repr__(self) -> str:
        return f"Admin({self._access}, draining={self.draining})"

    async def answer(self, request: HttpRequest) -> Response:
        """Return the response to ``request``."""
        if refusal := self._access.misdirected(request):
            return refusal
        admitted = self._access.admits(request)
        if not admitted and "authorization" in request.headers:
            self._complain(request)
            return replace(self._access.unauthorized(), delay=_DENIED_WAIT)
        if request.method not in ("GET", "HEAD"):
            return Response.text(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD only", ("Allow", "GET, HEAD"))
        # Probes have no credentials, so they are told whether the proxy is ready, but not the reasons.
        match request.path:
            case "/healthz":
                return await self._healthz()
            case "/readyz":
                return await self._readyz(request, admitted)
        if not admitted:
            return self._access.unauthorized()
        match request.path:
            case "/metrics":
                return await self._metrics(request)
            case "/topology":
                overview = await self._overview()
                if isinstance(overview, Response):
                    return overview
                body = json.dumps(overview.topology, indent=2).encode() + b"\n"
                return Response(HTTPStatus.OK, _JSON, body)
            case _:
                return Response.text(HTTPStatus.NOT_FOUND, "try /metrics, /healthz, /readyz or /topology")

    def _complain(self, request: HttpRequest) -> None:
        now = time.monotonic()
        if now < self._silent_until:
            self._unsaid += 1
            return
        log.warning("wrong credentials at the admin port addr=%s unsaid=%d", request.peer or "unix", self._unsaid)
        self._silent_until, self._unsaid = now + _SAY_EVERY, 0

    async def _overview(self) -> Overview | Response:
        try:
            return await self._look()
        except TimeoutError:
            return Response.text(HTTPStatus.SERVICE_UNAVAILABLE, "the event loop does not answer")

    async def _healthz(self) -> Response:
        if words := await self._stuck():
            return Response.text(HTTPStatus.SERVICE_UNAVAILABLE, words)
        return Response.text(HTTPStatus.OK, "alive")

    async def _readyz(self, request: HttpRequest, admitted: bool) -> Response:
        when = ALL if ALL in request.query.split("&") else self._ready_when
        overview: Overview | Response | None = None if self.draining else await self._overview()
        if isinstance(overview, Response):
            return overview
        readiness = None if overview is None else overview.readiness
        lacking = [(pair[0], pair[1]) for pair in overview.tally.values(metrics.MISSING)] if overview else []
        if _JSON in request.headers.get("accept", ""):
            ready, body = document(readiness, when, self.draining, lacking, admitted)
            return Response(HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, _JSON, body, (_VARY,))
        if readiness is None:
            return Response.text(HTTPStatus.SERVICE_UNAVAILABLE, f"draining: {DRAINING}", _VARY)
        if words := readiness.unready(when):
            return Response.text(HTTPStatus.SERVICE_UNAVAILABLE, words if admitted else "not ready", _VARY)
        words = ", ".join(f"shard {shard} lacks {library}" for shard, library in lacking)
        note = f"\nfunction libraries: {words}" if words else ""
        if not admitted:
            return Response.text(HTTPStatus.OK, "ready" if readiness.problems else WHOLE, _VARY)
        return Response.text(HTTPStatus.OK, readiness.text() + note, _VARY)

    async def _metrics(self, request: HttpRequest) -> Response:
        overview = await self._overview()
        if isinstance(overview, Response):
            return overview
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        registry = CollectorRegistry()
        registry.register(TallyCollector(overview.tally))
        body = encoder(registry)
        vary = ("Vary", "Accept, Accept-Encoding")
        if gzip_accepted(request.headers.get("accept-encoding", "")):
            compressed = gzip.compress(body, _GZIP_LEVEL, mtime=0)
            return Response(HTTPStatus.OK, content_type, compressed, (("Content-Encoding", "gzip"), vary))
        return Response(HTTPStatus.OK, content_type, body, (vary,))
