"""redis-py: session.py HOST PORT PROTOCOL; what an application does, and what it got, a JSON text a line."""

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import redis

HOST, PORT, PROTOCOL = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def connect() -> Any:
    return redis.Redis(host=HOST, port=PORT, protocol=PROTOCOL, decode_responses=True)


def say(what: str, value: object) -> None:
    sys.stdout.write(json.dumps([what, value], default=sorted) + "\n")


def failure(work: Callable[[], object]) -> str:
    """The error that the work ends with."""
    try:
        return f"none: {work()}"
    except redis.RedisError as error:
        return f"{type(error).__name__}: {error}"


def meanwhile(line: tuple[str, int], work: Callable[[Any], object]) -> threading.Thread:
    """A thread with a connection of its own: does the work once INFO shows the line."""

    def run() -> None:
        with connect() as other:
            deadline = time.monotonic() + 10
            while other.info()[line[0]] != line[1]:
                assert time.monotonic() < deadline, f"INFO never showed {line}"
                time.sleep(0.005)
            work(other)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


client = connect()
other = connect()
say("ping", [client.ping(), client.echo("text")])
say("strings", [client.set("text", "x", ex=100), client.get("text"), client.ttl("text"), client.get("none")])
say("many", [client.mset({"a": 1, "b": 2}), client.mget("a", "none", "b"), client.delete("a", "b", "none")])
say("hash", [client.hset("hash", mapping={"f": "v", "g": 2}), client.hgetall("hash"), client.hincrby("hash", "g", 5)])
say("zset", [client.zadd("zset", {"one": 1.5, "two": 2}), client.zrange("zset", 0, -1, withscores=True)])
say("sets", [client.sadd("set", "x", "y"), client.smembers("set")])
say("stream", [client.xadd("stream", {"f": "v"}, id="1-1"), client.xrange("stream"), client.xinfo_groups("stream")])
say("of keys", [client.memory_usage("none"), client.object("encoding", "text"), client.object("refcount", "zset")])

with client.pipeline(transaction=False) as pipeline:
    for number in range(200):
        pipeline.set(f"key:{number}", number).incr(f"key:{number}")
    replies = pipeline.execute()
say("pipeline", [len(replies), replies[-2:]])
say("scan", len(set(client.scan_iter("key:*", count=100))))

with client.pipeline() as block:
    say("transaction", block.set("{t}a", 1).incrby("{t}a", 4).get("{t}a").execute())
    say("an error inside", failure(lambda: block.set("{t}a", 1).lpush("{t}a", "x").execute()))
    say("kept errors", [str(reply) for reply in block.get("{t}a").lpush("{t}a", "x").execute(raise_on_error=False)])
    block.watch("{t}a")
    other.set("{t}a", 10)
    block.multi()
    say("a watched key changed", failure(lambda: block.incr("{t}a").execute()))


def increase(block: Any) -> None:
    value = int(block.get("{t}a"))
    block.multi()
    block.set("{t}a", value + 1)


say("a helper", [client.transaction(increase, "{t}a"), client.get("{t}a")])

script = client.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")
say("scripts", [script(keys=["n"], args=[5]), client.script_exists(script.sha, "f" * 40)])
say("no script", failure(lambda: client.evalsha("f" * 40, 1, "n")))
with client.pipeline() as block:
    script(keys=["n"], args=[5], client=block)
    say("a script in a transaction", block.execute())
library = "#!lua name=lib\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)"
say("functions", [client.function_load(library), client.fcall("twice", 1, "n", 21), client.function_delete("lib")])
with client.lock("lock", timeout=10) as lock:
    say("locked", [lock.owned(), client.lock("lock").acquire(blocking=False), lock.extend(5)])
say("unlocked", client.get("lock"))
say("an error", failure(lambda: client.lpush("text", "x")))

say("blocking, at once", [client.rpush("{q}1", "one"), client.blpop(["{q}0", "{q}1"], 5)])
say("blocking, in vain", client.brpop("{q}0", 0.05))
thread = meanwhile(("blocked_clients", 1), lambda other: other.rpush("{q}0", "late"))
say("blocking, served", client.blpop(["{q}0", "{q}1"], 10))
thread.join()
say(
    "moved",
    [client.rpush("{q}0", "x"), client.blmove("{q}0", "{q}1", 1), client.blmpop(1, 1, "{q}1", direction="LEFT")],
)
say(
    "group",
    [client.xgroup_create("stream", "group", "0"), client.xreadgroup("group", "me", {"stream": ">"}, block=100)],
)
say("acknowledged", [client.xack("stream", "group", "1-1"), client.xpending("stream", "group")])
say("waited", client.wait(0, 10))

heard = client.pubsub()
heard.subscribe("news", "weather")
heard.psubscribe("n*")
say("subscribed", [heard.get_message(timeout=10) for _ in range(3)])
say("published", [other.publish("news", "first"), other.publish("weather", "second")])
say("heard", [heard.get_message(timeout=10) for _ in range(3)])
say("counted", [sorted(other.pubsub_channels()), other.pubsub_numsub("news"), other.pubsub_numpat()])
heard.ping()
say("alive", heard.get_message(timeout=10))
heard.punsubscribe()
heard.unsubscribe("weather")
say("unsubscribed", [heard.get_message(timeout=10) for _ in range(2)])
heard.close()

say("another database", failure(lambda: client.select(0)))
say("database", [client.dbsize(), client.flushall(), client.dbsize()])
client.close()
other.close()
