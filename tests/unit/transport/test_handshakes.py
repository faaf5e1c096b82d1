"""Handshakes in a thread: each step's result comes back to the loop, late ones are ended, and the queue has a bound."""

import asyncio
import threading
from collections.abc import Sequence

from proxy.transport import handshakes
from proxy.transport.clock import running_clock
from proxy.transport.handshakes import Handshakes, Step


class Shakes:
    """A connection in its handshake, which notes what happens to it."""

    def __init__(self, error: Exception | None = None, gate: threading.Event | None = None) -> None:
        self.results: list[Step] = []
        self.late = False
        self.thread = 0
        self.done = asyncio.Event()
        self._error = error
        self._gate = gate

    def step(self) -> Step:
        if self._gate is not None:
            self._gate.wait(10)
        self.thread = threading.get_ident()
        if self._error is not None:
            raise self._error
        return True, None, None, b"answer"

    def stepped(self, done: bool, names: Sequence[str] | None, error: Exception | None, output: bytes) -> None:
        self.results.append((done, names, error, output))
        self.done.set()

    def timed_out(self, seconds: float) -> None:
        self.late = True
        self.done.set()


async def within(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()


def test_steps_are_carried_out_in_a_thread() -> None:
    async def run() -> None:
        all_of_them = Handshakes(running_clock(), 10.0)
        connections = [Shakes() for _ in range(100)]
        for each in connections:
            all_of_them.begin(each)
            assert all_of_them.submit(each)
        assert all_of_them.open == 100
        for each in connections:
            await within(each.done)
            assert each.results == [(True, None, None, b"answer")]
            assert each.thread != threading.get_ident()
            all_of_them.end(each)
        assert all_of_them.open == all_of_them.waiting == 0
        all_of_them.close()

    asyncio.run(run())


def test_a_step_that_fails_is_told() -> None:
    async def run() -> None:
        all_of_them = Handshakes(running_clock(), 10.0)
        wrong, right = Shakes(RuntimeError("a bug")), Shakes()
        for each in wrong, right:
            all_of_them.begin(each)
            all_of_them.submit(each)
        await within(wrong.done)
        await within(right.done)
        assert isinstance(wrong.results[0][2], RuntimeError)
        assert right.results[0][0]
        all_of_them.close()

    asyncio.run(run())


def test_a_connection_that_is_gone_costs_nothing() -> None:
    async def run() -> None:
        all_of_them = Handshakes(running_clock(), 10.0)
        gate = threading.Event()
        first, gone, last = Shakes(gate=gate), Shakes(), Shakes()
        for each in first, gone, last:
            all_of_them.begin(each)
            all_of_them.submit(each)
        all_of_them.end(gone)
        gate.set()
        await within(last.done)
        assert not gone.results
        assert not gone.thread
        all_of_them.close()

    asyncio.run(run())


def test_the_queue_is_bounded() -> None:
    async def run() -> None:
        all_of_them = Handshakes(running_clock(), 10.0)
        gate = threading.Event()
        connections = [Shakes(gate=gate) for _ in range(handshakes.WAITING_MOST + 5)]
        for each in connections:
            all_of_them.begin(each)
        taken = sum(all_of_them.submit(each) for each in connections)
        assert handshakes.WAITING_MOST <= taken <= handshakes.WAITING_MOST + 1
        gate.set()
        await within(connections[handshakes.WAITING_MOST - 1].done)
        all_of_them.close()

    asyncio.run(run())


def test_late_ones_are_ended_and_others_are_not() -> None:
    async def run() -> None:
        all_of_them = Handshakes(running_clock(), 0.3)
        late, complete = Shakes(), Shakes()
        all_of_them.begin(late)
        all_of_them.begin(complete)
        all_of_them.end(complete)
        await within(late.done)
        assert late.late
        assert not complete.late
        assert all_of_them.open == 0
        later = Shakes()
        all_of_them.begin(later)
        await within(later.done)
        assert later.late
        all_of_them.close()

    asyncio.run(run())


def test_few_refused_clients_are_told_why() -> None:
    async def run() -> None:
        all_of_them = Handshakes(running_clock(), 10.0)
        refused = [Shakes() for _ in range(100)]
        told = [each for each in refused if all_of_them.wait_to_refuse(each)]
        assert len(told) == 64
        all_of_them.end(told[0])
        assert all_of_them.wait_to_refuse(refused[-1])
        all_of_them.close()

    asyncio.run(run())
