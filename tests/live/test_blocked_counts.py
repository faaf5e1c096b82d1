"""Who counts as blocked, and when: what a client waits for that looks at ``blocked_clients`` before it goes on."""

import contextlib
import signal
from collections.abc import Iterator

import pytest

from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, start_many
from tests.live.client_lists import until_blocked
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site, shard_tags
from tests.support.wire import Argument, Wire, decode, pack, pipeline

pytestmark = pytest.mark.live

(TAG, OTHER) = shard_tags(2)
KEY = f"{{{TAG}}}k"
OK = b"+OK\r\n"


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    """Two shards."""
    with start_many(2, 0, binary=binary) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(shards: LocalShards, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy before them."""
    with ProxyProcess(tmp_path_factory.mktemp("proxy"), "--static", shards.static).serving() as running:
        yield running


def owner(shards: LocalShards, proxy: ProxyProcess) -> LocalServer:
    """The server that has the key."""
    with Wire(proxy.address) as client:
        client.ask("SET", KEY, 1)
        found = next(server for server in shards.primaries if server.ask("EXISTS", KEY) == 1)
        client.ask("DEL", KEY)
    return found


BLOCKING: list[tuple[Argument, ...]] = [
    ("BLPOP", KEY, 0),
    ("BRPOPLPUSH", KEY, KEY, 0),
    ("BZPOPMIN", KEY, 0),
    ("XREAD", "BLOCK", 0, "STREAMS", KEY, "$"),
    ("XREAD", "BLOCK", 0, "STREAMS", KEY, "1-1"),
    ("WAIT", 1, 0),
]


@pytest.mark.parametrize("command", BLOCKING, ids=lambda command: " ".join(map(str, command)))
def test_not_before_its_server_has_the_command(
    shards: LocalShards, proxy: ProxyProcess, command: tuple[Argument, ...]
) -> None:
    """Whether a connection for it has to be made, or there is one."""
    server = owner(shards, proxy)
    with Wire(proxy.address) as other, Wire(proxy.address) as client:
        number = client.value("CLIENT", "ID")
        assert isinstance(number, int)
        for _ in range(2):
            server.pause()
            try:
                client.send(pack(*command))
                assert client.silent(0.1)
                assert _flags(other, number) == b"N"
            finally:
                server.resume()
            assert eventually(lambda: _flags(other, number) == b"b")
            assert other.ask("CLIENT", "UNBLOCK", number) == b":1\r\n"
            client.reply()
            assert _flags(other, number) == b"N"


def _flags(client: Wire, number: int) -> bytes:
    listed = client.ask("CLIENT", "LIST", "ID", number)
    return listed.partition(b" flags=")[2].partition(b" ")[0]


def test_what_follows_the_count_comes_after_the_block(site: Site) -> None:
    """XREAD of what is new: an XADD that waited for ``blocked_clients:1`` is not missed."""
    key = site.tags()[0]
    with site.client() as other:
        for round_ in range(12):
            with site.client() as client:
                client.send(pack("XREAD", "BLOCK", 0, "STREAMS", key, "$"))
                until_blocked(other)
                assert other.ask("XADD", key, f"{round_ + 1}-1", "f", round_).startswith(b"$")
                assert decode(client.reply()) == [[key.encode(), [[b"%d-1" % (round_ + 1), [b"f", b"%d" % round_]]]]]


@pytest.mark.parametrize("idle", [0, 3])
def test_who_comes_first_is_served_first(shards: LocalShards, proxy: ProxyProcess, idle: int) -> None:
    """All in one turn, in two protocols; of the connections that they need ``idle`` ones are there, most are not."""
    server = owner(shards, proxy)
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(Wire(proxy.address))
        in_order = 0
        for _ in range(4):
            clients = [stack.enter_context(Wire(proxy.address, protocol=2 + number % 3 // 2)) for number in range(10)]
            assert server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") is not None
            assert eventually(lambda: other.ask("SET", "x" + KEY, 1) == OK)
            for client in clients[:idle]:
                client.send(pack("BLPOP", KEY, "0.01"))
            for client in clients[:idle]:
                client.reply()
            proxy.signal(signal.SIGSTOP)
            for client in clients:
                client.send(pack("BLPOP", KEY, 0))
            proxy.signal(signal.SIGCONT)
            until_blocked(other, len(clients))
            assert other.ask("RPUSH", KEY, *range(len(clients))).startswith(b":")
            replies = [decode(client.reply()) for client in clients]
            wanted = [[KEY.encode(), b"%d" % number] for number in range(len(clients))]
            assert sorted(map(repr, replies)) == sorted(map(repr, wanted))
            in_order += replies == wanted
        # They are written in order; a server may read two connections the other way round, if very rarely.
        assert in_order >= 3


def test_a_stream_that_is_deleted(site: Site) -> None:
    """What the server says to those who wait in its group is theirs (Redis 7.0: UNBLOCKED), and is not tried again."""
    key = site.tags()[0]
    endings: list[tuple[Argument, ...]] = [
        ("DEL", key),
        ("SET", key, "text"),
        ("XGROUP", "DESTROY", key, "g"),
        ("RENAME", key, f"{{{key}}}x"),
    ]
    for ending in endings:
        said = []
        for blocked, other in ((site.direct(), site.direct()), (site.client(), site.client())):
            with blocked, other:
                other.send(pipeline(("DEL", key), ("XGROUP", "CREATE", key, "g", "$", "MKSTREAM")))
                other.replies(2)
                blocked.send(pack("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", key, ">"))
                until_blocked(other)
                said.append([other.ask(*ending), blocked.reply(), other.ask("DEL", key)])
        assert said[0] == said[1]
