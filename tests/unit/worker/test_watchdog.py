"""A process that does not answer over its channel is found."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.worker.control_channel import Channel
from proxy.worker.watchdog import silence, watch_supervisor

PATIENCE = 0.1


class Other:
    """The other side, which answers while it is awake."""

    def __init__(self) -> None:
        self.awake = asyncio.Event()
        self.awake.set()
        self.asked = 0

    async def alive(self, _: object) -> bool:
        self.asked += 1
        return await self.awake.wait()


@asynccontextmanager
async def channel_to(other: Other) -> AsyncIterator[Channel]:
    ours, theirs = socket.socketpair()
    sides = [await Channel.open(ours, {}), await Channel.open(theirs, {"alive": other.alive})]
    tasks = [asyncio.create_task(side.run()) for side in sides]
    yield sides[0]
    for side in sides:
        await side.close()
    await asyncio.gather(*tasks)


async def test_silence_is_noticed() -> None:
    other = Other()
    async with channel_to(other) as channel:
        watching = asyncio.create_task(silence(channel, PATIENCE))
        await asyncio.sleep(2 * PATIENCE)
        assert not watching.done()
        assert other.asked > 3
        other.awake.clear()
        await asyncio.wait_for(watching, 10 * PATIENCE)


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_silent_supervisor(comes_back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(os, "kill", lambda *what: killed.append(what))
    other = Other()
    other.awake.clear()
    parent = os.getppid()
    async with channel_to(other) as channel:
        watching = asyncio.create_task(watch_supervisor(channel, parent, PATIENCE))
        await asyncio.sleep(1.5 * PATIENCE)
        assert not killed
        if comes_back:
            other.awake.set()
            await asyncio.sleep(4 * PATIENCE)
            assert not watching.done()
            watching.cancel()
        else:
            await asyncio.wait_for(watching, 10 * PATIENCE)
        other.awake.set()
    assert killed == ([] if comes_back or parent == 1 else [(parent, signal.SIGKILL)])


async def test_a_supervisor_that_is_gone_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(os, "kill", lambda *what: killed.append(what))
    other = Other()
    other.awake.clear()
    async with channel_to(other) as channel:
        await asyncio.wait_for(watch_supervisor(channel, os.getppid() + 1, PATIENCE), 10 * PATIENCE)
        other.awake.set()
    assert not killed
