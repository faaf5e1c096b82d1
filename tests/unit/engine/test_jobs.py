"""Long work in slices: what is short is done at once, what is long lets others in between."""

import asyncio
import logging
import threading

import pytest

from proxy.engine.jobs import ENOUGH, MORE, Job, at_once, short
from proxy.transport.job_runner import Slices, apart


class Clock:
    """Goes on by a millisecond with each step of a job."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Client:
    """One that a job is for."""

    def __init__(self) -> None:
        self.gone = False
        self.aborted = ""

    def abort(self, reason: str) -> None:
        self.aborted = reason


def work(clock: Clock, log: list[str], name: str, steps: int, step: float = 0.001) -> Job[None]:
    for at in range(steps):
        clock.now += step
        log.append(f"{name}{at}")
        yield MORE


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_is_short_is_done_at_once() -> None:
    clock, log = Clock(), list[str]()
    slices = Slices(asyncio.get_running_loop(), clock)
    assert slices.run(work(clock, log, "a", 3, 0.0001))
    assert log == ["a0", "a1", "a2"]


async def test_what_is_long_lets_others_in_between() -> None:
    clock, log = Clock(), list[str]()
    loop = asyncio.get_running_loop()
    slices = Slices(loop, clock)
    assert not slices.run(work(clock, log, "a", 30))
    begun = len(log)
    assert 0 < begun < 5
    for turn in range(20):
        loop.call_soon(log.append, f"turn{turn}")
        await turns(1)
    assert [entry for entry in log if entry.startswith("a")] == [f"a{at}" for at in range(30)]
    between = [len(run.split()) for run in " ".join(e if e[0] == "a" else "|" for e in log).split("|")]
    assert max(between) <= 9  # milliseconds: what it was given at first, and those of a turn


async def test_jobs_take_turns_and_a_short_one_need_not_wait_for_a_long_one() -> None:
    clock, log = Clock(), list[str]()
    slices = Slices(asyncio.get_running_loop(), clock)
    assert not slices.run(work(clock, log, "a", 100))
    await turns(1)
    slices.run(work(clock, log, "b", 3))
    await turns(4)
    assert "b2" in log
    assert "a99" not in log
    await turns(100)
    assert log[-1] == "a99"


async def test_a_turn_has_no_more_time_for_many_jobs_than_for_one() -> None:
    clock, log = Clock(), list[str]()
    slices = Slices(asyncio.get_running_loop(), clock)
    for number in range(50):
        slices.run(work(clock, log, f"{number}.", 5))
    assert clock.now < 0.012
    before = clock.now
    await turns(1)
    assert clock.now - before < 0.012
    await turns(200)
    assert len(log) == 250


async def test_enough_for_this_turn() -> None:
    clock, log = Clock(), list[str]()
    slices = Slices(asyncio.get_running_loop(), clock)

    def job() -> Job[None]:
        for at in range(5):
            log.append(f"x{at}")
            yield ENOUGH

    assert not slices.run(job())
    assert log == ["x0"]
    await turns(1)
    assert log == ["x0", "x1"]
    await turns(10)
    assert len(log) == 5


async def test_a_job_ends_with_its_client() -> None:
    clock, log = Clock(), list[str]()
    slices, client = Slices(asyncio.get_running_loop(), clock), Client()
    ended = False

    def job() -> Job[None]:
        nonlocal ended
        try:
            yield from work(clock, log, "a", 100)
        finally:
            ended = True

    assert not slices.run(job(), client)
    client.gone = True
    await turns(3)
    assert ended
    assert len(log) < 10


async def test_a_fault_in_a_job_closes_its_client_and_no_other_job(caplog: pytest.LogCaptureFixture) -> None:
    clock, log = Clock(), list[str]()
    slices, client = Slices(asyncio.get_running_loop(), clock), Client()

    def job() -> Job[None]:
        yield from work(clock, log, "a", 10)
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        slices.run(job(), client)
        slices.run(work(clock, log, "b", 20))
        await turns(30)
    assert client.aborted
    assert "a job failed" in caplog.text
    assert "b19" in log


async def test_a_task_waits_for_a_job() -> None:
    clock, log = Clock(), list[str]()
    slices = Slices(asyncio.get_running_loop(), clock)

    def job() -> Job[str]:
        yield from work(clock, log, "a", 20)
        return "found"

    assert await slices.wait(job()) == "found"
    assert await slices.wait(short(lambda: 7)()) == 7
    assert at_once(job()) == "found"


async def test_pure_work_of_some_length_is_done_apart() -> None:
    here = threading.get_ident()
    assert await apart(False, threading.get_ident) == here
    assert await apart(True, threading.get_ident) != here
