"""How a process ends, and the order in which its clients leave."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.worker.draining import End, Leaving


class Leaver:
    """A client that leaves when it is asked, unless it is ``busy``."""

    def __init__(self, number: int, *, active: float = 0.0, created: float = -100.0, issued: int = 1) -> None:
        self.number = number
        self.last_active = active
        self.created = created
        self.window = SimpleNamespace(issued=issued)
        self.closing = self.gone = self.busy = False
        self.asked = 0

    def leave(self) -> None:
        self.asked += 1
        self.gone = not self.busy


class Worker:
    """The clients of a worker, and its clock."""

    def __init__(self, *clients: Leaver) -> None:
        self.now = 0.0
        self.all = list(clients)
        self.clients: Any = SimpleNamespace(newest_first=lambda: reversed(self.all))
        self.turn = SimpleNamespace(now=lambda: self.now)
        self.loop = SimpleNamespace(time=lambda: self.now)

    def leaving(self, timeout: float) -> Leaving:
        return Leaving(self, timeout)  # type: ignore[arg-type]  # it has all that is used of a worker

    def gone(self, leaving: Leaving, at: float) -> list[int]:
        """Which clients have left at a time."""
        self.now = at
        leaving.step()
        return [client.number for client in self.all if client.gone]


def test_clients_leave_one_by_one() -> None:
    worker = Worker(*(Leaver(number) for number in range(1, 101)))
    leaving = worker.leaving(10.0)
    counts = [len(worker.gone(leaving, at)) for at in (0.0, 2.25, 4.5, 6.75, 8.91, 9.5)]
    assert counts == [1, 26, 51, 76, 100, 100]


def test_few_clients_do_not_hold_up_the_end() -> None:
    worker = Worker(*(Leaver(number) for number in range(1, 4)))
    leaving = worker.leaving(20.0)
    assert len(worker.gone(leaving, 0.05)) == 1
    assert len(worker.gone(leaving, 0.25)) == 3


def test_without_time_all_are_asked_at_once() -> None:
    worker = Worker(*(Leaver(number) for number in range(1, 50)))
    assert len(worker.gone(worker.leaving(0.0), 0.0)) == 49


def test_who_is_idle_for_longest_leaves_first() -> None:
    worker = Worker(Leaver(1, active=-1.0), Leaver(2, active=-9.0), Leaver(3, active=-5.0))
    leaving = worker.leaving(20.0)
    assert worker.gone(leaving, 0.0) == [2]
    assert worker.gone(leaving, 0.11) == [2, 3]
    assert worker.gone(leaving, 0.21) == [1, 2, 3]


def test_a_new_client_may_send_its_first_request() -> None:
    worker = Worker(Leaver(1, created=-0.2, issued=0))
    leaving = worker.leaving(20.0)
    assert worker.gone(leaving, 0.7) == []
    assert worker.gone(leaving, 0.9) == [1]


def test_who_comes_late_leaves_too() -> None:
    worker = Worker(Leaver(1))
    leaving = worker.leaving(20.0)
    assert worker.gone(leaving, 0.0) == [1]
    worker.all.append(Leaver(2))
    assert worker.gone(leaving, 0.2) == [1, 2]


def test_a_busy_client_is_looked_at_again() -> None:
    client = Leaver(1)
    client.busy = True
    worker = Worker(client)
    leaving = worker.leaving(20.0)
    assert worker.gone(leaving, 0.0) == []
    client.busy = False
    assert worker.gone(leaving, 0.1) == [1]
    assert client.asked == 2


@pytest.mark.parametrize("hurry", [False, True])
async def test_the_delay(hurry: bool) -> None:
    end = End()
    end.signalled()
    assert end.asked.is_set()
    began = time.monotonic()
    if hurry:
        asyncio.get_running_loop().call_later(0.02, end.drain)
    await end.delay(0.2)
    assert (time.monotonic() - began < 0.15) is hurry
    assert not end.at_once.is_set()


async def test_the_second_signal_ends_it_at_once() -> None:
    end = End()
    end.signalled()
    end.drain()  # the supervisor's word counts as no second signal
    assert not end.at_once.is_set()
    end.signalled()
    assert end.at_once.is_set()
    task = asyncio.create_task(asyncio.sleep(60))
    began = time.monotonic()
    await end.delay(60)
    await end.outlast([task], 60)
    assert time.monotonic() - began < 1
    task.cancel()
