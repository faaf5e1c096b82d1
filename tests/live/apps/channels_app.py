"""Channels, unmodified: ``channels_app.py HOST PORT`` uses both of its layers."""

import asyncio
import sys
from typing import Any

from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

HOST, PORT = sys.argv[1:]
HOSTS = [f"redis://{HOST}:{PORT}"]
WAIT = 30


async def use(one: Any, other: Any) -> None:
    """Send from one process to another, as it were: alone and to groups."""
    names = [await other.new_channel() for _ in range(5)]
    mine = await one.new_channel()
    for name in names:
        await other.group_add("room", name)
    await one.group_add("room", mine)
    await one.send(names[0], {"type": "hello", "number": 1})
    assert (await asyncio.wait_for(other.receive(names[0]), WAIT))["number"] == 1
    await one.group_send("room", {"type": "all", "number": 2})
    heard = await asyncio.gather(*(asyncio.wait_for(other.receive(name), WAIT) for name in names))
    assert [message["number"] for message in heard] == [2] * 5
    assert (await asyncio.wait_for(one.receive(mine), WAIT))["number"] == 2
    await other.group_discard("room", names[1])
    await one.group_send("room", {"type": "all", "number": 3})
    assert (await asyncio.wait_for(other.receive(names[2]), WAIT))["number"] == 3
    for _ in range(20):
        waiting = asyncio.create_task(other.receive(names[3]))
        await asyncio.sleep(0)
        if not _:
            assert (await asyncio.wait_for(waiting, WAIT))["number"] == 3
        else:
            await one.send(names[3], {"type": "hello", "number": 4})
            assert (await asyncio.wait_for(waiting, WAIT))["number"] == 4


async def popped_and_not_seen(layer: RedisChannelLayer) -> None:
    """A message that was popped by a process which is gone is there again: a script without keys sees to that."""
    await layer.send("work", {"type": "job"})
    assert await layer._brpop_with_clean(layer.consistent_hash("work"), "asgiwork", timeout=WAIT)
    assert (await asyncio.wait_for(layer.receive("work"), WAIT))["type"] == "job"


async def main() -> None:
    one, other = RedisChannelLayer(hosts=HOSTS), RedisChannelLayer(hosts=HOSTS)
    await use(one, other)
    await popped_and_not_seen(one)
    await one.flush()
    await other.flush()
    await use(RedisPubSubChannelLayer(hosts=HOSTS, prefix="ps"), RedisPubSubChannelLayer(hosts=HOSTS, prefix="ps"))
    print("done")


if __name__ == "__main__":
    asyncio.run(main())
