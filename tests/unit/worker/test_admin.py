"""What operators ask over HTTP, of a service whose backends are all down."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy import __version__, metrics
from proxy.compiled import engine
from proxy.config import load
from proxy.sharding.topology import build_topology
from proxy.worker.admin import Admin
from proxy.worker.admin_access import Access
from proxy.worker.admin_http import HttpServer
from proxy.worker.metric_snapshot import Overview
from proxy.worker.report import take, together
from proxy.worker.service import Service

# A socket that is nowhere: connecting fails at once, and goes nowhere else.
SHARDS = [
    {"name": "one", "primary": "unix:/nowhere/1", "replicas": ["unix:/nowhere/2"], "slots": "0-8191"},
    {"name": "two", "primary": "unix:/nowhere/3", "slots": "8192-16383"},
]


class AdminSite:
    """An admin on a port of its own, and the service behind it."""

    def __init__(self, service: Service, admin: Admin, port: int) -> None:
        self.service = service
        self.admin = admin
        self.port = port

    async def raw(self, request: bytes) -> tuple[str, dict[str, str], str]:
        """The status line, the headers and the body of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.decode().partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        return status, dict(line.lower().split(": ", 1) for line in lines), body

    async def get(self, path: str, *headers: str) -> tuple[str, dict[str, str], str]:
        lines = "".join(f"{header}\r\n" for header in headers)
        return await self.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())


async def runs() -> str:
    """Nobody waits."""
    return ""


@pytest.fixture
async def site() -> AsyncIterator[AdminSite]:
    config = load(None, {"shards": SHARDS}, {})
    service = Service(config, build_topology(config))

    async def look() -> Overview:
        return together([take(service)])

    admin = Admin(look, runs, Access())
    server = HttpServer(admin.answer, most=8, timeout=5.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.listen(listener)
        yield AdminSite(service, admin, listener.getsockname()[1])
        await server.close()
    await service.close()


async def test_it_is_alive(site: AdminSite) -> None:
    status, headers, body = await site.get("/healthz")
    assert (status, body) == ("HTTP/1.1 200 OK", "alive\n")
    assert (headers["content-type"], headers["content-length"], headers["connection"]) == ("text/plain", "6", "close")


async def test_without_primaries_it_is_not_ready(site: AdminSite) -> None:
    status, _, body = await site.get("/readyz")
    assert (status, body) == ("HTTP/1.1 503 Service Unavailable", "no reachable primary in: one, two\n")
    site.admin.draining = True
    status, _, body = await site.get("/readyz")
    assert (status, body) == ("HTTP/1.1 503 Service Unavailable", "draining: the proxy is about to stop\n")


async def test_topology(site: AdminSite) -> None:
    status, headers, body = await site.get("/topology?x=1")
    assert status == "HTTP/1.1 200 OK"
    assert headers["content-type"] == "application/json"

    def node(path: str, role: str) -> dict[str, object]:
        return {"address": f"unix:{path}", "role": role, "connected": False}

    assert json.loads(body) == {
        "epoch": 1,
        "shards": [
            {
                "name": "one",
                "slots": [[0, 8191]],
                "nodes": [node("/nowhere/1", "primary"), node("/nowhere/2", "replica")],
            },
            {"name": "two", "slots": [[8192, 16383]], "nodes": [node("/nowhere/3", "primary")]},
        ],
    }


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics(site: AdminSite) -> None:
    counters = site.service.counters
    counter = counters.command("get")
    counter.calls, counter.failed, counter.rejected = 5, 2, 1
    counters.command("set")
    counters.reject("max clients")
    counters.observe(0.0002, 3)
    counters.observe(99.0, 1)
    counters.bytes_in, counters.bytes_out, counters.splits, counters.timeouts = 10, 20, 4, 6
    status, headers, body = await site.get("/metrics")
    assert status == "HTTP/1.1 200 OK"
    assert headers["content-type"].startswith("text/plain; version=")
    found = samples(body)
    assert found["slotgate_commands_total", (("command", "get"), ("outcome", "ok"))] == 3
    assert found["slotgate_commands_total", (("command", "get"), ("outcome", "error"))] == 2
    assert found["slotgate_commands_total", (("command", "get"), ("outcome", "rejected"))] == 1
    assert not any(("command", "set") in labels for _, labels in found)  # never called
    assert found["slotgate_clients_rejected_total", (("reason", "max clients"),)] == 1
    assert found["slotgate_client_bytes_total", (("direction", "in"),)] == 10
    assert found["slotgate_client_bytes_total", (("direction", "out"),)] == 20
    assert found["slotgate_splits_total", ()] == 4
    assert found["slotgate_timeouts_total", ()] == 6
    assert found["slotgate_clients", ()] == 0
    assert found["slotgate_workers", ()] == 1
    assert found["slotgate_worker_restarts_total", ()] == 0
    assert found["slotgate_shards", ()] == 2
    assert found["slotgate_build_info", (("engine", engine()), ("version", __version__))] == 1
    assert found["slotgate_backend_latency_seconds_count", ()] == 4
    assert found["slotgate_backend_latency_seconds_sum", ()] == pytest.approx(99.0006)
    assert found["slotgate_backend_latency_seconds_bucket", (("le", "0.0001"),)] == 0
    assert found["slotgate_backend_latency_seconds_bucket", (("le", "0.00025"),)] == 3
    assert found["slotgate_backend_latency_seconds_bucket", (("le", "10.0"),)] == 3
    assert found["slotgate_backend_latency_seconds_bucket", (("le", "+Inf"),)] == 4
    labels = (
        *(("address", "unix:/nowhere/1"), ("connection", "0/resp2/db0"), ("role", "primary"), ("shard", "one")),
        ("worker", "0"),
    )
    assert found["slotgate_backend_up", labels] == 0
    assert found["slotgate_backend_in_flight", labels] == 0
    assert found["slotgate_backend_reconnects_total", labels] == 0


async def test_every_metric_of_the_table_is_exported(site: AdminSite) -> None:
    _, _, body = await site.get("/metrics")
    families = {family.name.removesuffix("_info") for family in text_string_to_metric_families(body)}
    assert families == {value.name for value in vars(metrics).values() if isinstance(value, metrics.Metric)}


async def test_open_metrics_for_who_asks(site: AdminSite) -> None:
    _, headers, body = await site.get("/metrics", "Accept: application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


async def test_head_has_no_body(site: AdminSite) -> None:
    status, headers, body = await site.raw(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (status, headers["content-length"], body) == ("HTTP/1.1 200 OK", "6", "")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "405 Method Not Allowed"),
        (b"POST /metrics HTTP/1.0\r\n\r\n", "405 Method Not Allowed"),
        (b"GET / HTTP/1.0\r\n\r\n", "404 Not Found"),
        (b"GET /metrics/x HTTP/1.0\r\n\r\n", "404 Not Found"),
        # What is no HTTP/1.1 is not looked at further (RFC 9112, 2.2 and 3.2).
        (b"GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"\r\n\r\n", "400 Bad Request"),
        (b"GET\r\n\r\n", "400 Bad Request"),
        (b"\xff\xfe\r\nx\r\n\r\n", "400 Bad Request"),
    ],
)
async def test_other_requests(site: AdminSite, request_: bytes, status: str) -> None:
    found, _, _ = await site.raw(request_)
    assert found == f"HTTP/1.1 {status}"


async def test_who_says_nothing_or_too_much_is_left(site: AdminSite) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(b"x" * 100_000)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert (await site.get("/healthz"))[0] == "HTTP/1.1 200 OK"
