"""How late the loop is: what is counted, and what is said when it was held up."""

import asyncio
import logging
import sys
import time

import pytest

from proxy.metrics import BUCKETS
from proxy.worker import loop_lag
from proxy.worker.loop_lag import LoopLag, stack


def burn(seconds: float) -> None:
    """Take the CPU."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def measured(act: float, *, work: bool) -> LoopLag:
    """What is found when a turn takes ``act`` seconds."""
    lag = LoopLag(lambda since: "id=7 cmd=get")
    lag.start()
    try:
        await asyncio.sleep(0.05)
        burn(act) if work else time.sleep(act)  # noqa: ASYNC251 - that is what is to be seen
        await asyncio.sleep(0.1)
    finally:
        lag.stop()
    return lag


async def test_a_long_turn_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "proxy.worker.loop_lag"):
        lag = await measured(0.4, work=True)
    assert lag.long["work"] >= 1
    (first, *_) = [record.getMessage() for record in caplog.records]
    assert "the loop was held up" in first
    assert "burn" in first
    assert "id=7 cmd=get" in first
    late, work = lag.worst()
    assert late >= 0.3
    assert work >= 0.3
    assert sum(lag.buckets) > 2
    assert sum(lag.buckets[BUCKETS.index(0.25) + 1 :]) >= 1


async def test_a_process_that_did_not_run_is_told_apart() -> None:
    lag = await measured(0.4, work=False)
    assert lag.long["stall"] >= 1
    assert lag.worst()[1] < 0.3


async def test_a_turn_that_may_never_end_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the thread, once, while it goes on."""
    monkeypatch.setattr(loop_lag, "_STUCK_AFTER", 3)
    with caplog.at_level(logging.ERROR, "proxy.worker.loop_lag"):
        await measured(0.7, work=True)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "the loop is stuck" in said
    assert "burn" in said


def test_the_line_is_rare_and_the_worst_is_of_the_last_minute(caplog: pytest.LogCaptureFixture) -> None:
    lag = LoopLag()
    with caplog.at_level(logging.WARNING, "proxy.worker.loop_lag"):
        lag.note(1000.0, 0.5, 0.5)
        for second in range(1, 9):
            lag.note(1000.0 + second, 0.2, 0.2)
        lag.note(1011.0, 0.2, 0.2)
    assert lag.long == {"work": 10, "stall": 0}
    assert [record.getMessage().rpartition("unsaid=")[2] for record in caplog.records] == ["0", "8"]
    assert lag.worst() == (0.5, 0.5)
    lag.note(1050.0, 0.001, 0.0)
    assert lag.worst() == (0.5, 0.5)
    lag.note(1090.0, 0.002, 0.0)
    assert lag.worst() == (0.002, 0.0)


def test_short_turns_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    lag = LoopLag()
    with caplog.at_level(logging.DEBUG, "proxy.worker.loop_lag"):
        for _ in range(100):
            lag.note(1.0, 0.02, 0.02)
    assert not caplog.records
    assert lag.long == {"work": 0, "stall": 0}
    assert lag.total == pytest.approx(2.0)


def test_a_stack_in_words() -> None:
    assert stack(None) == ""
    assert stack(sys._getframe()).startswith("test_loop_lag.py:")
