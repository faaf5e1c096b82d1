"""The oldest server that must work, and one in between: a short list, against a plain server of that version."""

import pytest
import redis

from proxy.devservers.servers import LOOPBACK
from tests.live.differential.cases import CONVERSATIONS, Conversation
from tests.live.differential.compare import differences
from tests.live.keyspace import fill, info, scan
from tests.live.mixed_pipeline import check_pipeline
from tests.support.site import Site
from tests.support.wire import pack

pytestmark = pytest.mark.live

COMPARED = (
    "set and get",
    "binary",
    "numbers",
    "parts of strings",
    "many keys in one slot",
    "many keys in many slots",
    "bits",
    "hyperloglog",
    "push and pop",
    "search and move",
    "fields",
    "members",
    "of sets",
    "of sorted sets",
    "entries",
    "groups",
    "places",
    "eval",
    "life of keys",
    "sort",
)


def without_words(reply: bytes) -> bytes:
    """Of an error its code."""
    return reply.partition(b" ")[0] if reply[:1] == b"-" else reply


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
@pytest.mark.parametrize(
    "conversation",
    [conversation for conversation in CONVERSATIONS if conversation.name in COMPARED],
    ids=lambda conversation: conversation.name,
)
def test_replies_are_the_servers(smoke_site: Site, conversation: Conversation, protocol: int) -> None:
    """Errors are compared by their code only: Redis 6.2 has words of its own."""
    commands = conversation.commands(smoke_site.tags()[0])
    with smoke_site.direct(protocol) as server, smoke_site.client(protocol) as proxy:
        expected = [without_words(server.ask(*args)) for args in commands]
        found = [without_words(proxy.ask(*args)) for args in commands]
    different = differences(smoke_site.plain.binary.kind, commands, expected, found)
    assert not different, "\n".join(different)


def test_a_long_pipeline(smoke_site: Site) -> None:
    check_pipeline(smoke_site, 5000)


def test_as_many_arguments_as_the_server_takes(smoke_site: Site) -> None:
    """1,048,576 before Redis 7; one more would make the server close the connection that all clients share."""
    binary = smoke_site.plain.binary
    head = b"*1048577\r\n"
    for wire in (smoke_site.direct(), smoke_site.client()):
        with wire:
            wire.send(head)
            if binary.kind == "redis" and binary.version_info < (7,):
                assert wire.reply() == b"-ERR Protocol error: invalid multibulk length\r\n"
            else:
                wire.send(pack("SADD", "set")[len(b"*2\r\n") :] + pack("a")[len(b"*1\r\n") :] * 1_048_575)
                assert wire.reply() == b":1\r\n"


@pytest.mark.parametrize("protocol", [2, 3])
def test_all_shards(smoke_site: Site, protocol: int) -> None:
    with smoke_site.client(protocol) as client:
        keys = fill(client, 500)
        assert client.value("DBSIZE") == 500
        assert set(scan(client, "COUNT", 50)) == keys
        assert client.value("RANDOMKEY") in keys
        said = info(client)
        assert said["Server"]["redis_version"] == smoke_site.plain.info("server")["redis_version"]
        assert said["Keyspace"]["db0"].startswith("keys=500,")
        sha = client.value("SCRIPT", "LOAD", "return ARGV[1]")
        assert isinstance(sha, bytes)
        for tag in smoke_site.tags():
            assert client.value("EVALSHA", sha, 1, tag, tag) == tag.encode()
        assert client.ask("FLUSHALL") == b"+OK\r\n"
        assert client.value("DBSIZE") == 0


@pytest.mark.clients
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(smoke_site: Site, protocol: int) -> None:
    port = int(smoke_site.proxy.address.rpartition(":")[2])
    with redis.Redis(host=LOOPBACK, port=port, protocol=protocol, decode_responses=True, db=1) as client:
        assert client.mset({f"k{number}": number for number in range(50)})
        assert client.mget(["k1", "none", "k49"]) == ["1", None, "49"]
        assert client.hset("hash", mapping={"a": 1, "b": 2}) == 2
        assert client.hgetall("hash") == {"a": "1", "b": "2"}
        assert client.info("server")["redis_version"]
        assert len(list(client.scan_iter())) == 51
