"""The clock that counts the time in which the process ran. Virtual time."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from proxy.transport.clock import BEAT, Clock, running_clock, timeout
from tests.support.virtual_loop import run, virtual_loop

SECONDS = 1.0
LATEST = 3 * BEAT
"""How much later than asked for a deadline may be over."""


def with_clock(test: Callable[[Clock], Coroutine[object, object, None]]) -> None:
    """Run ``test`` in a loop with a clock."""

    async def main() -> None:
        clock = Clock(virtual_loop(), virtual_loop().time)
        try:
            await test(clock)
        finally:
            clock.close()

    run(main())


def test_it_is_the_loops_time_as_long_as_nothing_stalls() -> None:
    async def test(clock: Clock) -> None:
        for _ in range(100):
            await asyncio.sleep(0.033)
            assert clock.now() == pytest.approx(virtual_loop().time())
            assert clock.now() - 2 * BEAT <= clock.settled <= clock.now()

    with_clock(test)


@pytest.mark.parametrize("stall", [0.1, 1.0, 60.0, 1e6])
def test_a_stall_counts_as_a_moment(stall: float) -> None:
    async def test(clock: Clock) -> None:
        await asyncio.sleep(0.5)
        before = clock.now()
        virtual_loop().stall(stall)
        assert before <= clock.now() <= before + 2 * BEAT
        await asyncio.sleep(0.5)
        assert clock.now() == pytest.approx(before + 0.5, abs=3 * BEAT)

    with_clock(test)


def test_it_never_goes_back() -> None:
    async def test(clock: Clock) -> None:
        last = settled = 0.0
        for number in range(200):
            virtual_loop().stall((number * 7 % 13) / 100)
            await asyncio.sleep((number * 5 % 11) / 100)
            assert clock.now() >= last
            assert clock.settled >= settled
            assert clock.settled <= clock.now()
            last, settled = clock.now(), clock.settled

    with_clock(test)


def test_a_deadline_is_over_when_its_time_has_passed() -> None:
    async def test(clock: Clock) -> None:
        over: list[float] = []
        clock.call_later(SECONDS, lambda number: over.append(clock.now()), 1)
        cancelled = clock.call_later(SECONDS, over.append, 2)
        await asyncio.sleep(SECONDS / 2)
        cancelled.cancel()
        assert not over
        await asyncio.sleep(SECONDS)
        assert over == [pytest.approx(SECONDS, abs=LATEST)]
        assert over[0] >= SECONDS

    with_clock(test)


def test_what_came_during_a_stall_is_read_before_a_deadline_is_over() -> None:
    """Even what was due already when the stall began: the loop had not read since."""

    async def test(clock: Clock) -> None:
        happened: list[str] = []
        clock.call_later(SECONDS, happened.append, "over")
        await asyncio.sleep(SECONDS - BEAT)
        # What lies in the sockets is read by whatever the loop does next.
        virtual_loop().call_later(SECONDS, happened.append, "read")
        virtual_loop().stall(10 * SECONDS)
        await asyncio.sleep(LATEST)
        assert happened == ["read", "over"]

    with_clock(test)


def test_a_timeout_counts_no_stall() -> None:
    async def test(clock: Clock) -> None:
        assert running_clock() is clock
        async with timeout(SECONDS):
            await asyncio.sleep(SECONDS / 2)
            virtual_loop().stall(10 * SECONDS)
            await asyncio.sleep(SECONDS / 4)
        began = clock.now()
        with pytest.raises(TimeoutError):
            async with timeout(SECONDS):
                await virtual_loop().create_future()
        assert SECONDS <= clock.now() - began <= SECONDS + LATEST

    with_clock(test)


def test_a_loop_without_a_worker_has_a_clock_too() -> None:
    async def main() -> None:
        clock = running_clock()
        assert running_clock() is clock
        with pytest.raises(TimeoutError):
            async with timeout(SECONDS):
                await virtual_loop().create_future()
        clock.close()

    run(main())
