"""One shard: the proxy is a pipe with a pool, and nothing is ever cross-slot."""

from collections.abc import Iterator

import pytest

from proxy.devservers.servers import ServerBinary
from proxy.resp import encode
from tests.live.differential.cases import CONVERSATIONS, Conversation
from tests.live.differential.compare import differences
from tests.live.keyspace import fill, scan
from tests.live.mixed_pipeline import check_pipeline
from tests.support.fixtures import build
from tests.support.site import Site
from tests.support.wire import pipeline

pytestmark = pytest.mark.live

UNTAGGED = Conversation(
    "keys in many slots",
    (
        "MSET a 1 b 2 c 3 list x",
        "MSETNX a 1 new 2",
        "MSETNX new 1 newer 2",
        "RENAME a d",
        "RENAMENX b e",
        "COPY c f",
        "DEL list",
        "RPUSH list 3 1 2",
        "SORT list STORE sorted",
        "SORT list BY w_* GET o_* GET #",
        "LMOVE list other LEFT RIGHT",
        "LMPOP 2 none list LEFT",
        "SADD s1 a b c",
        "SADD s2 b c d",
        "SINTERSTORE s3 s1 s2",
        "SINTERCARD 2 s1 s2",
        "ZADD z1 1 a 2 b",
        "ZUNIONSTORE z2 2 z1 s1",
        "PFADD h1 a",
        "PFADD h2 b",
        "PFCOUNT h1 h2",
        "BITOP OR bits c d",
        "EVAL \"return redis.call('mget', KEYS[1], KEYS[2])\" 2 c d",
        "MGET a b c d e f",
        "EXISTS a b c d e f",
        "TOUCH a b c",
        "UNLINK c d none",
        "MSET a 1 b",
        "DBSIZE",
        "KEYS *",
        "FLUSHALL",
        "RANDOMKEY",
    ),
)


@pytest.fixture(scope="module")
def standing(binary: ServerBinary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A proxy in front of one server, and a plain server."""
    yield from build(binary, tmp_path_factory.mktemp("one"), 1)


@pytest.fixture
def one(standing: Site) -> Site:
    """The same, its servers empty."""
    standing.clean()
    return standing


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
@pytest.mark.parametrize("conversation", [*CONVERSATIONS, UNTAGGED], ids=lambda conversation: conversation.name)
def test_replies_are_the_servers(one: Site, conversation: Conversation, protocol: int) -> None:
    commands = conversation.commands("t")
    request = b"".join(map(encode.request, commands))
    with one.direct(protocol) as server, one.client(protocol) as proxy:
        server.send(request)
        proxy.send(request)
        expected = server.replies(len(commands))
        found = proxy.replies(len(commands))
    different = differences(one.plain.binary.kind, commands, expected, found)
    assert not different, "\n".join(different)


def test_a_long_pipeline(one: Site) -> None:
    check_pipeline(one, 5000)


def test_scan(one: Site) -> None:
    """The cursors are the server's own."""
    with one.client() as client, one.direct() as server:
        keys = fill(client, 1000)
        assert set(scan(client, "COUNT", 20)) == keys
        for cursor in ("0", "7", "18446744073709551615", "18446744073709551616", "x"):
            assert client.ask("SCAN", cursor)[:2] == server.ask("SCAN", cursor)[:2]


def test_what_is_refused_is_refused_here_too(one: Site) -> None:
    commands = [
        ("SHUTDOWN",),
        ("MONITOR",),
        ("REPLICAOF", "NO", "ONE"),
        ("DEBUG", "SLEEP", 0),
        ("CONFIG", "SET", "a", 1),
    ]
    with one.client() as client:
        client.send(pipeline(*commands, ("PING",)))
        *refused, pong = client.replies(len(commands) + 1)
        assert all(reply.startswith((b"-ERR ", b"-NOPERM ")) for reply in refused), refused
        assert pong == b"+PONG\r\n"
