"""The plain counters, and the table of what they are called."""

import re

import pytest

from proxy import metrics
from proxy.metrics import BUCKETS, Counters, Metric

TABLE = [value for value in vars(metrics).values() if isinstance(value, Metric)]


def test_names_are_as_prometheus_wants_them() -> None:
    assert len({metric.name for metric in TABLE}) == len(TABLE)
    for metric in TABLE:
        assert re.fullmatch(r"slotgate_[a-z_]+", metric.name)
        assert not metric.name.endswith("_total")  # the client library adds it
        assert metric.help.endswith(".")
        assert len(set(metric.labels)) == len(metric.labels)


def test_a_command_has_one_counter() -> None:
    counters = Counters()
    counter = counters.command("get")
    counter.calls += 2
    assert counters.command("get") is counter
    assert (counter.name, counter.calls, counter.failed, counter.rejected) == ("get", 2, 0, 0)
    assert list(counters.commands) == ["get"]


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.00009, 0), (0.00011, 1), (0.1, BUCKETS.index(0.1)), (10.0, len(BUCKETS) - 1), (11.0, len(BUCKETS))],
)
def test_latencies_fall_into_buckets_with_their_upper_bound(seconds: float, bucket: int) -> None:
    counters = Counters()
    counters.observe(seconds, 3)
    assert counters.latency_buckets()[bucket] == 3
    assert sum(counters.latency_buckets()) == 3
    assert counters.latency_sum == pytest.approx(3 * seconds)


def test_buckets_ascend() -> None:
    assert list(BUCKETS) == sorted(set(BUCKETS))


def test_reasons_are_counted_apart() -> None:
    counters = Counters()
    counters.reject("max clients")
    counters.reject("max clients")
    counters.reject("protocol error")
    assert counters.rejected == {"max clients": 2, "protocol error": 1}
