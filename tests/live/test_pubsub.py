"""Channels, patterns and channels of shards: as a plain server, whatever server a message comes from."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from random import Random

import pytest
import redis
import redis.asyncio

from proxy.devservers.servers import LOOPBACK, LocalServer
from proxy.resp.glob import matches
from tests.live.client_lists import fields
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.site import Site, shard_of
from tests.support.wire import Argument, Wire, decode, pack, pipeline

pytestmark = pytest.mark.live

Commands = Sequence[tuple[Argument, ...]]

RESP2_MODE: Commands = [
    ("SUBSCRIBE", "a"),
    ("GET", "k"),
    ("get",),
    ("nosuch", "x"),
    ("CLIENT", "ID"),
    ("CLIENT", "NOSUCH"),
    ("HELLO", 3),
    ("PING",),
    ("PING", "x"),
    ("PING", "x", "y"),
    ("SET", "k", "v"),
    ("MGET", "k", "q"),
    ("DBSIZE",),
    ("MULTI",),
    ("EXEC",),
    ("BLPOP", "k", 1),
    ("PUBLISH", "a", "m"),
    ("config", "get", "port"),
    ("RESET",),
    ("PING",),
]

CONVERSATIONS: dict[str, Commands] = {
    "counts": [
        ("SUBSCRIBE", "a", "a", "b"),
        ("PSUBSCRIBE", "p*"),
        ("SSUBSCRIBE", "x", "y"),
        ("SUBSCRIBE", "a"),
        ("UNSUBSCRIBE", "a", "q"),
        ("UNSUBSCRIBE",),
        ("UNSUBSCRIBE",),
        ("PUNSUBSCRIBE", "zz"),
        ("SUNSUBSCRIBE", "x"),
        ("SUNSUBSCRIBE",),
        ("SUNSUBSCRIBE",),
        ("PUNSUBSCRIBE",),
        ("PUNSUBSCRIBE",),
    ],
    "nothing to end": [("UNSUBSCRIBE", "a", "b"), ("UNSUBSCRIBE",), ("SUNSUBSCRIBE", "q"), ("GET", "k")],
    "in between": [
        ("SET", "k", 1),
        ("GET", "k"),
        ("SUBSCRIBE", "a", "b"),
        ("PING",),
        ("UNSUBSCRIBE", "a"),
        ("UNSUBSCRIBE", "b"),
        ("GET", "k"),
        ("MGET", "k", "l", "m"),
    ],
    "CLIENT REPLY OFF": [
        ("CLIENT", "REPLY", "OFF"),
        ("SUBSCRIBE", "a"),
        ("PING",),
        ("UNSUBSCRIBE",),
        ("CLIENT", "REPLY", "ON"),
        ("PING",),
    ],
    "CLIENT REPLY SKIP": [
        ("CLIENT", "REPLY", "SKIP"),
        ("SUBSCRIBE", "a"),
        ("PING",),
        ("CLIENT", "REPLY", "SKIP"),
        ("UNSUBSCRIBE",),
        ("PING",),
    ],
    "PUBSUB": [
        ("PUBSUB", "CHANNELS", "*", "x"),
        ("PUBSUB", "CHANNELS"),
        ("PUBSUB", "NUMSUB"),
        ("PUBSUB", "NUMSUB", "a", "b", "a"),
        ("PUBSUB", "NUMPAT", "x"),
        ("PUBSUB", "NUMPAT"),
        ("PUBSUB", "SHARDNUMSUB", "a"),
        ("PUBSUB", "SHARDCHANNELS", "a*"),
        ("PUBSUB", "NOPE"),
        ("PUBSUB",),
    ],
    "arity": [(name,) for name in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUBLISH", "SPUBLISH")],
    "empty and odd names": [
        ("SUBSCRIBE", ""),
        ("PSUBSCRIBE", ""),
        ("SUBSCRIBE", b"\xff\r\n\0"),
        ("UNSUBSCRIBE", ""),
        ("SUBSCRIBE", "x" * 100_000),
    ],
    "to nobody": [("PUBLISH", "a", "m"), ("SPUBLISH", "a", "m"), ("PUBLISH", "", "")],
    "in a transaction": [
        ("MULTI",),
        ("SUBSCRIBE", "a", "b"),
        ("PING",),
        ("PSUBSCRIBE", "q"),
        ("UNSUBSCRIBE", "b"),
        ("SUBSCRIBE", "c"),
        ("SET", "k", "v"),
        ("GET", "k"),
        ("EXEC",),
        ("PING",),
        ("UNSUBSCRIBE", "a", "c"),
        ("PUNSUBSCRIBE",),
        ("GET", "k"),
    ],
    "alone in a transaction": [("MULTI",), ("SUBSCRIBE", "a"), ("EXEC",), ("PING",)],
    "not in a transaction": [("MULTI",), ("SSUBSCRIBE", "a"), ("PING",), ("EXEC",), ("GET", "k")],
    "in a transaction that is not carried out": [
        ("MULTI",),
        ("SUBSCRIBE", "a"),
        ("DISCARD",),
        ("GET", "k"),
        ("MULTI",),
        ("PSUBSCRIBE", "a"),
        ("NOSUCH",),
        ("EXEC",),
        ("GET", "k"),
    ],
    "in a transaction that watches": [("WATCH", "k"), ("MULTI",), ("SUBSCRIBE", "a"), ("SET", "k", 1), ("EXEC",)],
    "a transaction while subscribed": [
        ("SUBSCRIBE", "a"),
        ("MULTI",),
        ("SUBSCRIBE", "c"),
        ("GET", "q"),
        ("EXEC",),
        ("PING",),
        ("UNSUBSCRIBE", "a"),
        ("UNSUBSCRIBE",),
        ("EXEC",),
    ],
    "published in a transaction": [
        ("MULTI",),
        ("PUBLISH", "nobody", 1),
        ("SPUBLISH", "nobody", 1),
        ("SET", "k", 1),
        ("EXEC",),
    ],
    "RESET": [("SUBSCRIBE", "a"), ("PSUBSCRIBE", "a"), ("RESET",), ("GET", "k"), ("SUBSCRIBE", "b")],
}
RESP3_ONLY: dict[str, Commands] = {
    "all commands go on": [
        ("SUBSCRIBE", "a"),
        ("SET", "k", "v"),
        ("GET", "k"),
        ("PING",),
        ("PING", "x"),
        ("PSUBSCRIBE", "a*", "b*"),
        ("SSUBSCRIBE", "sh"),
        ("PUBSUB", "CHANNELS"),
        ("PUBSUB", "CHANNELS", "b*"),
        ("PUBSUB", "NUMSUB", "a", "b"),
        ("PUBSUB", "NUMPAT"),
        ("PUBSUB", "SHARDNUMSUB", "sh", "a"),
        ("PUBSUB", "SHARDCHANNELS"),
        ("UNSUBSCRIBE",),
        ("PUNSUBSCRIBE", "a*"),
        ("SUNSUBSCRIBE",),
        ("PUBSUB", "NUMPAT"),
        ("PUBSUB", "NUMSUB", "a"),
    ],
}


def compare(site: Site, commands: Commands, protocol: int) -> None:
    with site.direct(protocol) as server, site.client(protocol) as proxy:
        for client in (server, proxy):
            client.send(pipeline(*commands, ("QUIT",)))
        assert proxy.rest() == server.rest()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_as_the_server(site: Site, name: str, protocol: int) -> None:
    compare(site, CONVERSATIONS[name], protocol)


def test_the_mode_of_resp2_as_the_server(site: Site) -> None:
    compare(site, RESP2_MODE, 2)


@pytest.mark.parametrize("name", RESP3_ONLY)
def test_resp3_as_the_server(site: Site, name: str) -> None:
    compare(site, RESP3_ONLY[name], 3)


MESSAGES: Commands = [
    ("PUBLISH", "news", "one"),
    ("PUBLISH", "news:de", b"\0\r\n\xff"),
    ("PUBLISH", "other", "nobody's"),
    ("SPUBLISH", "news", "sharded"),
    ("PUBLISH", "news", "x" * 300_000),
    ("PUBLISH", "new", ""),
    ("PUBLISH", "", "empty"),
]


@pytest.mark.smoke
@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_as_the_server(site: Site, protocol: int) -> None:
    """What comes, in which order, and what PUBLISH counts."""
    seen = []
    for connect in (site.direct, site.client):
        with connect(protocol) as listener, connect() as other, connect() as publisher:
            listener.send(pipeline(("SUBSCRIBE", "news", ""), ("PSUBSCRIBE", "new*"), ("SSUBSCRIBE", "news")))
            confirmed = listener.replies(4)
            other.send(pipeline(("SUBSCRIBE", "news"), ("PSUBSCRIBE", "*", "n[aeiou]w?", "^x")))
            confirmed += other.replies(4)
            publisher.send(pipeline(*MESSAGES))
            counts = publisher.replies(len(MESSAGES))
            # Of one message a client that hears it by several names gets them in no certain order.
            seen.append((confirmed, counts, sorted(listener.replies(8)), sorted(other.replies(9))))
            assert listener.silent(0.05)
            assert other.silent(0.05)
    assert seen[0] == seen[1]


def test_a_message_from_any_server_comes_once(site: Site) -> None:
    """Published by a script, by a transaction, by clients of the servers themselves, on whatever shard."""
    with site.client(3) as listener, site.client() as publisher:
        listener.send(pipeline(("SUBSCRIBE", "c"), ("SSUBSCRIBE", "s"), ("PSUBSCRIBE", "p?")))
        listener.replies(3)
        expected = []
        for number, (server, tag) in enumerate(zip(site.shards.primaries, site.tags(), strict=True)):
            assert server.ask("PUBLISH", "c", f"direct{number}") == 1
            assert server.ask("SPUBLISH", "s", f"sharded{number}") == 1
            script = "return redis.call('PUBLISH', ARGV[1], ARGV[2])"
            assert publisher.value("EVAL", script, 1, f"{{{tag}}}k", "p1", f"script{number}") == 1
            expected += [f"direct{number}", f"sharded{number}", f"script{number}"]
        assert publisher.value("PUBLISH", "c", "proxy") == 1
        texts = [reply.split(b"\r\n")[-2].decode() for reply in listener.replies(len(expected) + 1)]
        assert sorted(texts) == sorted([*expected, "proxy"])
        assert listener.silent(0.05)


def numsub(server: LocalServer, channel: str) -> int:
    found = server.ask("PUBSUB", "NUMSUB", channel)
    assert isinstance(found, list)
    return int(found[1])


def test_one_subscription_for_all_clients(site: Site) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(site.client(2 + number % 2)) for number in range(100)]
        for client in clients:
            client.ask("SUBSCRIBE", "crowd")
        assert [numsub(server, "crowd") for server in site.shards.primaries] == [1, 1, 1]
        with site.client() as publisher:
            assert publisher.value("PUBSUB", "NUMSUB", "crowd") == [b"crowd", 100]
            for number in range(20):
                assert publisher.value("PUBLISH", "crowd", f"{number:02}") == 100
            assert publisher.value("PUBSUB", "CHANNELS") == [b"crowd"]
            assert publisher.value("PUBSUB", "NUMPAT") == 0
            assert b"pubsub_channels:1\r\n" in publisher.ask("INFO", "stats")
        for number, client in enumerate(clients):
            kind = b"*>"[number % 2 : number % 2 + 1]
            wanted = [kind + b"3\r\n$7\r\nmessage\r\n$5\r\ncrowd\r\n$2\r\n%02d\r\n" % each for each in range(20)]
            assert client.replies(20) == wanted
        for client in clients[1:]:
            client.close()
        with site.client() as publisher:
            assert eventually(lambda: publisher.value("PUBLISH", "crowd", "rest") == 1)
        assert [numsub(server, "crowd") for server in site.shards.primaries] == [1, 1, 1]
    assert eventually(lambda: [numsub(server, "crowd") for server in site.shards.primaries] == [0, 0, 0])


def test_what_is_published_after_the_confirmation_is_never_missed(site: Site) -> None:
    """On whatever server, also if the subscription was given up a moment before."""
    with site.client() as listener:
        for number in range(60):
            channel = f"ch{number % 3}"
            listener.ask("SUBSCRIBE", channel)
            site.shards.primaries[number % 3].ask("PUBLISH", channel, number)
            assert listener.reply().endswith(b"\r\n%d\r\n" % number)
            listener.ask("UNSUBSCRIBE", channel)


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.drill)])
def test_many_messages_to_many_subscribers(site: Site, count: int) -> None:
    """Each gets all of them in order; the server has one subscriber."""
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        clients = [stack.enter_context(site.client(2 + number % 2)) for number in range(100)]
        for client in clients:
            client.ask("SUBSCRIBE", "flood")
        assert [numsub(server, "flood") for server in site.shards.primaries] == [1, 1, 1]
        publisher = stack.enter_context(site.client())
        publishing = pool.submit(publisher.send, b"".join(pack("PUBLISH", "flood", each) for each in range(count)))
        counted = pool.submit(publisher.replies, count)
        pushes = b"".join(
            b">3\r\n$7\r\nmessage\r\n$5\r\nflood\r\n$%d\r\n%d\r\n" % (len(str(each)), each) for each in range(count)
        )
        wanted = [pushes.replace(b">", b"*"), pushes]
        for number, client in enumerate(clients):
            assert client.exactly(len(pushes)) == wanted[number % 2]
        publishing.result()
        assert set(counted.result()) == {b":100\r\n"}


def test_publish_keeps_its_place_in_a_pipeline(site: Site) -> None:
    """Who hears of it sees what was written before it, on its shard."""
    shard = shard_of("done")
    tag = site.tags()[shard]
    with site.client() as listener, site.client() as reader, site.client() as writer:
        listener.ask("SUBSCRIBE", "done")
        for number in range(50):
            writer.send(pipeline(("SET", f"{{{tag}}}k", number), ("PUBLISH", "done", number)))
            listener.reply()
            assert reader.value("GET", f"{{{tag}}}k") == str(number).encode()
            writer.replies(2)


def test_key_events_of_every_server(site: Site) -> None:
    for server in site.shards.primaries:
        server.ask("CONFIG", "SET", "notify-keyspace-events", "KEA")
    try:
        with site.client() as listener, site.client() as writer:
            listener.ask("PSUBSCRIBE", "__keyevent@0__:*")
            listener.ask("SUBSCRIBE", f"__keyspace@0__:{{{site.tags()[1]}}}k")
            for tag in site.tags():
                writer.ask("SET", f"{{{tag}}}k", 1)
                wanted = [[b"__keyevent@0__:set", f"{{{tag}}}k".encode()]]
                if tag == site.tags()[1]:
                    wanted.append([b"set"])  # it comes by both names, in either order
                found = [reply.split(b"\r\n")[6:9:2] for reply in listener.replies(len(wanted))]
                assert sorted(found) == wanted
            assert listener.silent(0.05)
    finally:
        for server in site.shards.primaries:
            server.ask("CONFIG", "SET", "notify-keyspace-events", "")


def test_clients_are_shown_as_what_they_are(site: Site) -> None:
    with site.client(3) as listener, site.client() as other:
        number = listener.value("CLIENT", "ID")
        listener.send(pipeline(("SUBSCRIBE", "a", "b"), ("PSUBSCRIBE", "x"), ("SSUBSCRIBE", "y")))
        listener.replies(4)
        (row,) = fields(other.value("CLIENT", "LIST", "TYPE", "pubsub"))
        assert (row["id"], row["flags"]) == (str(number), "P")
        assert (row["sub"], row["psub"], row["ssub"]) == ("2", "1", "1")
        assert str(number) not in {row["id"] for row in fields(other.value("CLIENT", "LIST", "TYPE", "normal"))}
        assert other.value("CLIENT", "KILL", "TYPE", "pubsub") == 1
        assert listener.closed()


def test_the_protocol_changes_while_subscribed(site: Site) -> None:
    with site.client(3) as listener, site.client() as publisher:
        listener.ask("SUBSCRIBE", "a")
        publisher.ask("PUBLISH", "a", 1)
        assert listener.reply() == b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n"
        assert listener.ask("HELLO", 2).startswith(b"*14\r\n")
        publisher.ask("PUBLISH", "a", 2)
        assert listener.reply() == b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n2\r\n"
        assert listener.ask("GET", "k").startswith(b"-ERR Can't execute 'get': only")
        listener.ask("UNSUBSCRIBE")
        assert listener.ask("GET", "k") == b"$-1\r\n"


def test_a_message_does_not_cut_a_long_reply(site: Site) -> None:
    """What streams to its reader is not interrupted."""
    value = b"v" * 20_000_000
    with site.client(3) as listener, site.client() as publisher:
        publisher.ask("SET", "large", value)
        listener.ask("SUBSCRIBE", "a")
        listener.send(pipeline(*[("GET", "large")] * 3))
        for number in range(200):
            publisher.ask("PUBLISH", "a", number)
        frames = listener.replies(203)
        assert [frame for frame in frames if frame[:1] == b"$"] == [b"$%d\r\n%b\r\n" % (len(value), value)] * 3
        texts = [frame.split(b"\r\n")[-2] for frame in frames if frame[:1] == b">"]
        assert texts == [b"%d" % number for number in range(200)]


def test_a_subscriber_that_does_not_read_is_closed_and_others_get_all(site: Site, serve: Serve) -> None:
    limits = '[limits]\npubsub_output_soft = "1mb"\npubsub_output_hard = "4mb"\n'
    shards = "".join(f'[[shards]]\nprimary = "{server.address}"\n' for server in site.shards.primaries)
    proxy = serve(config=f"{limits}{shards}")
    count = 300
    with ExitStack() as stack:
        readers = [stack.enter_context(Wire(proxy.address, protocol=2 + number % 2)) for number in range(3)]
        slow = stack.enter_context(Wire(proxy.address))
        publisher = stack.enter_context(Wire(proxy.address))
        for client in (*readers, slow):
            client.ask("SUBSCRIBE", "flood")
        for number in range(count):
            publisher.ask("PUBLISH", "flood", b"%06d" % number + b"x" * 100_000)
            for reader in readers:
                assert reader.reply().split(b"\r\n")[-2][:6] == b"%06d" % number
        assert publisher.value("PUBSUB", "NUMSUB", "flood") == [b"flood", 3]
        assert len(slow.rest()) < count * 100_000
    assert "reason='pubsub output limit'" in proxy.log
    assert 'slotgate_clients_rejected_total{reason="pubsub output limit"} 1' in proxy.http("/metrics")[1]


def test_a_subscriber_that_is_too_slow_for_too_long_is_closed(site: Site, serve: Serve) -> None:
    limits = '[limits]\npubsub_output_soft = "500kb"\npubsub_output_patience = "500ms"\n'
    proxy = serve(config=f'{limits}[[shards]]\nprimary = "{site.shards.primaries[0].address}"\n')
    with Wire(proxy.address) as slow, Wire(proxy.address) as publisher:
        slow.ask("SUBSCRIBE", "flood")
        for _ in range(100):
            publisher.ask("PUBLISH", "flood", b"x" * 100_000)
        assert eventually(lambda: publisher.value("PUBSUB", "NUMSUB", "flood") == [b"flood", 0])
    assert "reason='pubsub output limit'" in proxy.log


@pytest.mark.clients
def test_redis_py(client: redis.Redis) -> None:
    with client.pubsub() as listener:  # type: ignore[no-untyped-call]
        listener.subscribe("a", "b")
        listener.psubscribe("pattern:*")
        kinds = [listener.get_message(timeout=5)["type"] for _ in range(3)]
        assert kinds == ["subscribe", "subscribe", "psubscribe"]
        assert client.publish("a", "one") == 1
        assert client.publish("pattern:1", "two") == 1
        first, second = listener.get_message(timeout=5), listener.get_message(timeout=5)
        assert (first["channel"], first["data"]) == ("a", "one")
        assert (second["pattern"], second["channel"], second["data"]) == ("pattern:*", "pattern:1", "two")
        assert client.pubsub_numsub("a", "zz") == [("a", 1), ("zz", 0)]
        assert client.pubsub_numpat() == 1
        listener.unsubscribe()
        assert [listener.get_message(timeout=5)["type"] for _ in range(2)] == ["unsubscribe"] * 2


@pytest.mark.clients
@pytest.mark.parametrize("protocol", [2, 3])
async def test_redis_py_asyncio(site: Site, protocol: int) -> None:
    async with (
        redis.asyncio.Redis(host=LOOPBACK, port=site.proxy.port, protocol=protocol) as client,
        client.pubsub() as listener,
    ):
        await listener.subscribe("a")
        confirmed = await listener.get_message(timeout=5)
        assert (confirmed["type"], confirmed["data"]) == ("subscribe", 1)
        assert await client.publish("a", "before") == 1

        async def publish() -> None:
            for number in range(100):
                await client.publish("a", number)

        async def listen() -> list[bytes]:
            found = []
            async for message in listener.listen():
                found.append(message["data"])
                if message["data"] == b"99":
                    break
            return found

        _, found = await asyncio.gather(publish(), listen())
        assert found == [b"before", *(b"%d" % number for number in range(100))]


def test_patterns_match_as_in_the_server(site: Site) -> None:
    """The proxy counts by itself who hears a message."""
    random = Random(1)
    channels = ["", "*", "a-", "]", "\\", "^", "[", *("".join(random.choices("abc]-^*", k=n % 6)) for n in range(60))]
    patterns = ["", *("".join(random.choices("abc**?[]^-\\", k=1 + n % 8)) for n in range(600))]
    with site.direct() as listener, site.direct() as other:
        listener.send(pack("SUBSCRIBE", *channels))
        listener.replies(len(channels))
        other.send(b"".join(pack("PUBSUB", "CHANNELS", pattern) for pattern in patterns))
        for pattern, reply in zip(patterns, other.replies(len(patterns)), strict=True):
            assert {each for each in channels if matches(pattern.encode(), each.encode())} == {
                each.decode() for each in elements_of(reply)
            }, pattern


def elements_of(reply: bytes) -> list[bytes]:
    found = decode(reply)
    assert isinstance(found, list)
    return found


def test_subscribers_of_other_workers_and_the_end(site: Site, serve: Serve) -> None:
    """Each worker has a subscription; a proxy that stops closes subscribers when ``drain_timeout`` is over."""
    proxy = serve("--static", site.shards.static, "--workers", "2", config="drain_timeout = '500ms'\n")
    with ExitStack() as stack:
        clients = [stack.enter_context(Wire(proxy.address)) for _ in range(16)]
        for client in clients:
            client.ask("SUBSCRIBE", "news")
        publisher = stack.enter_context(Wire(proxy.address))
        workers = [numsub(server, "news") for server in site.shards.primaries]
        assert set(workers) <= {1, 2}
        counted = publisher.value("PUBLISH", "news", "x")
        assert isinstance(counted, int)
        assert 1 <= counted <= 16
        assert counted == 16 or workers == [2, 2, 2]
        for client in clients:
            assert client.reply() == b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n"
        proxy.stop()
        assert all(client.closed() for client in clients)


def test_publish_is_held_by_a_pause_of_writes(site: Site) -> None:
    for connect in (site.direct, site.client):
        with connect() as one, connect() as two:
            one.ask("CLIENT", "PAUSE", 60_000, "WRITE")
            two.send(pack("PUBLISH", "a", "m"))
            assert two.silent(0.05)
            one.ask("CLIENT", "UNPAUSE")
            assert two.reply() == b":0\r\n"
