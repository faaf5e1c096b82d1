"""redis-py's asyncio client: session_asyncio.py HOST PORT PROTOCOL; what it got, a JSON text a line."""

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import redis.asyncio

HOST, PORT, PROTOCOL = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def connect() -> Any:
    return redis.asyncio.Redis(host=HOST, port=PORT, protocol=PROTOCOL, decode_responses=True)


def say(what: str, value: object) -> None:
    sys.stdout.write(json.dumps([what, value], default=sorted) + "\n")


async def failure(work: Awaitable[object]) -> str:
    """The error that the work ends with."""
    try:
        return f"none: {await work}"
    except redis.RedisError as error:
        return f"{type(error).__name__}: {error}"


async def shown(client: Any, name: str, value: int) -> None:
    """Wait until INFO shows it."""
    for _ in range(2000):
        if (await client.info())[name] == value:
            return
        await asyncio.sleep(0.005)
    raise TimeoutError(f"INFO never showed {name}:{value}")


async def main() -> None:
    async with connect() as client, connect() as other:
        say("ping", [await client.ping(), await client.echo("text")])
        say("strings", [await client.set("text", "x", ex=100), await client.get("text"), await client.get("none")])
        say("many", sorted(await asyncio.gather(*(client.incr(f"n:{number % 7}") for number in range(70)))))
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(200):
                pipeline.set(f"key:{number}", number).incr(f"key:{number}")
            say("pipeline", (await pipeline.execute())[-2:])
        say("scan", len({key async for key in client.scan_iter("key:*", count=100)}))

        async with client.pipeline() as block:
            say("transaction", await block.set("{t}a", 1).incrby("{t}a", 4).get("{t}a").execute())
            await block.watch("{t}a")
            await other.set("{t}a", 10)
            block.multi()
            say("a watched key changed", await failure(block.incr("{t}a").execute()))
        script = client.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")
        say("scripts", [await script(keys=["n"], args=[5]), await client.script_exists(script.sha)])
        async with client.lock("lock", timeout=10) as lock:
            say("locked", [await lock.owned(), await client.lock("lock").acquire(blocking=False)])

        popped = asyncio.create_task(client.blpop(["{q}0", "{q}1"], 10))
        await shown(other, "blocked_clients", 1)
        say("pushed", await other.rpush("{q}1", "late"))
        say("blocking, served", await popped)
        say("blocking, in vain", await client.brpop("{q}0", 0.05))
        await client.xadd("stream", {"f": "v"}, id="1-1")
        say("group", await client.xgroup_create("stream", "group", "0"))
        say("read", await client.xreadgroup("group", "me", {"stream": ">"}, block=100))

        async with client.pubsub() as heard:
            await heard.subscribe("news")
            await heard.psubscribe("w*")
            say("subscribed", [await heard.get_message(timeout=10) for _ in range(2)])
            for number in range(20):
                await other.publish("news", number)
            await other.publish("weather", "rain")
            say("heard", [await heard.get_message(timeout=10) for _ in range(21)])
            await heard.unsubscribe()
            say("unsubscribed", await heard.get_message(timeout=10))
        say("database", [await client.dbsize(), await client.flushall(), await client.dbsize()])


asyncio.run(main())
