"""The control channel: two sides of a real socket pair in one loop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from proxy.worker.control_channel import Channel, ChannelError, Handler


@contextlib.asynccontextmanager
async def pair(ours: Mapping[str, Handler], theirs: Mapping[str, Handler]) -> AsyncIterator[tuple[Channel, Channel]]:
    """Both sides, running."""
    ends = socket.socketpair()
    one, other = await Channel.open(ends[0], ours), await Channel.open(ends[1], theirs)
    running = [asyncio.create_task(side.run()) for side in (one, other)]
    try:
        yield one, other
    finally:
        await one.close()
        await other.close()
        await asyncio.gather(*running)


async def test_questions_go_both_ways() -> None:
    async with pair({"double": lambda x: 2 * x}, {"half": lambda x: x / 2}) as (one, other):
        assert await one.ask("half", 8) == 4
        assert await other.ask("double", [1]) == [1, 1]


async def test_bodies_of_any_kind_and_size() -> None:
    large = "\u0000\u00ff" * 500_000
    async with pair({}, {"echo": lambda x: x}) as (one, _):
        bodies: list[Any] = [None, 0, "", "\n", [], {"a": [1, None]}, large]
        for body in bodies:
            assert await one.ask("echo", body, timeout=10) == body


async def test_slow_answers_hold_up_no_quick_ones() -> None:
    go = asyncio.Event()

    async def slow(body: str) -> str:
        await go.wait()
        return body

    async with pair({}, {"slow": slow, "quick": lambda x: x}) as (one, _):
        waiting = [asyncio.create_task(one.ask("slow", name, timeout=10)) for name in "ab"]
        assert await one.ask("quick", 1) == 1
        assert not any(task.done() for task in waiting)
        go.set()
        assert await asyncio.gather(*waiting) == ["a", "b"]


async def test_words_are_taken_in_their_order() -> None:
    heard: list[int] = []
    async with pair({}, {"word": heard.append, "ask": lambda _: len(heard)}) as (one, _):
        for number in range(100):
            one.tell("word", number)
        assert await one.ask("ask") == 100
    assert heard == list(range(100))


async def test_no_answer_in_time() -> None:
    answers: list[asyncio.Future[int]] = []

    def never(_: object) -> asyncio.Future[int]:
        answers.append(asyncio.get_running_loop().create_future())
        return answers[-1]

    async with pair({}, {"never": never, "quick": lambda x: x}) as (one, _):
        with pytest.raises(TimeoutError):
            await one.ask("never", timeout=0.01)
        # An answer that comes too late is nobody's.
        answers[0].set_result(1)
        assert await one.ask("quick", 2) == 2


async def test_a_handler_that_fails(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("proxy"), "propagate", True)

    def fail(_: object) -> None:
        raise KeyError("x")

    async def fail_later(_: object) -> None:
        raise KeyError("y")

    async with pair({}, {"fail": fail, "later": fail_later, "quick": lambda x: x}) as (one, _):
        with pytest.raises(ChannelError, match=r"KeyError\('x'\)"):
            await one.ask("fail")
        with pytest.raises(ChannelError, match=r"KeyError\('y'\)"):
            await one.ask("later")
        with pytest.raises(ChannelError, match="unknown"):
            await one.ask("unknown")
        one.tell("fail")
        assert await one.ask("quick", 1) == 1
    assert caplog.text.count("a message failed kind=fail") == 2


async def test_the_other_side_goes_away() -> None:
    async def never(_: object) -> Any:
        await asyncio.Event().wait()

    async with pair({}, {"never": never}) as (one, other):
        waiting = asyncio.create_task(one.ask("never", timeout=10))
        await asyncio.sleep(0.01)
        await other.close()
        with pytest.raises(ChannelError):
            await waiting
        one.tell("word")
        with pytest.raises(ChannelError):
            await one.ask("never")


async def test_what_was_said_before_the_end_is_heard() -> None:
    heard: list[str] = []
    ends = socket.socketpair()
    one, other = await Channel.open(ends[0], {"word": heard.append}), await Channel.open(ends[1], {})
    running = asyncio.create_task(one.run())
    other.tell("word", "x" * 3_000_000)
    other.tell("word", "last")
    await other.close()
    await running
    assert [len(word) for word in heard] == [3_000_000, 4]


async def test_a_side_that_does_not_read() -> None:
    """What waits for it is bounded, and closing does not wait for ever."""
    ends = socket.socketpair()
    one = await Channel.open(ends[0], {})
    running = asyncio.create_task(one.run())
    for _ in range(40):
        one.tell("word", "x" * 1_000_000)
    began = asyncio.get_running_loop().time()
    with pytest.raises(ChannelError):
        await one.ask("quick", timeout=60)
    await one.close()
    await running
    assert asyncio.get_running_loop().time() - began < 5
    ends[1].close()
