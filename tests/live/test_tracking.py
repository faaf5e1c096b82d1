"""CLIENT TRACKING: who has cached a key hears that it was changed, whatever shard has it."""

import contextlib
from collections.abc import Iterator

import pytest
import redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

from proxy.devservers.servers import LOOPBACK, LocalShards, start_many
from tests.support.binaries import FULL, MORE
from tests.support.fixtures import Serve, find
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site, shard_tags
from tests.support.wire import Argument, Wire, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
NOTHING = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
KEYS = tuple(f"{{{tag}}}k" for tag in shard_tags())
"""One of each shard."""

SCRIPT = """
client tracking
client tracking on off
client tracking x
client tracking on redirect
client tracking on redirect x
client tracking on redirect 99999
client tracking on redirect 0
client tracking on prefix a
client tracking on bcast optin
client tracking on optin optout
client caching yes
client trackinginfo
client getredir
client tracking on bcast prefix a prefix ab
client tracking on bcast prefix a prefix a
client tracking on bcast prefix b prefix a
client trackinginfo
client tracking on bcast prefix ac
client tracking on bcast prefix a
client tracking on bcast prefix c
client tracking on bcast
client trackinginfo
client tracking on
client tracking on bcast optout
client tracking off
client tracking off
client tracking on bcast
client trackinginfo
client tracking on bcast prefix x
client tracking off
client tracking on optin noloop
client trackinginfo
client caching no
client caching x
client caching yes
client trackinginfo
ping
client trackinginfo
client caching yes
get k
client trackinginfo
client tracking on optout
client tracking on optin
client tracking off
client tracking on optout
client caching no
client trackinginfo
client tracking on optin
client getredir
reset
client trackinginfo
""".strip().splitlines()


def invalidation(*keys: str) -> bytes:
    """What a client in RESP3 hears when keys were changed."""
    return b">2\r\n$10\r\ninvalidate\r\n" + pack(*keys)


@pytest.fixture
def writer(site: Site) -> Iterator[Wire]:
    """Somebody else."""
    with site.client() as wire:
        yield wire


@contextlib.contextmanager
def tracking(site: Site, *options: str, protocol: int = 3) -> Iterator[Wire]:
    """A client that tracks."""
    with site.client(protocol) as wire:
        assert wire.ask("CLIENT", "TRACKING", "ON", *options) == OK
        yield wire


@pytest.mark.parametrize("protocol", [2, 3])
def test_what_is_answered(site: Site, protocol: int) -> None:
    with site.client(protocol) as client, site.direct(protocol) as direct:
        for line in SCRIPT:
            assert client.ask(*line.split()) == direct.ask(*line.split()), line


def test_of_every_shard(site: Site, writer: Wire) -> None:
    with tracking(site) as client:
        for key in KEYS:
            assert client.ask("GET", key) == b"_\r\n"
        assert client.ask("MGET", *KEYS) == b"*3\r\n_\r\n_\r\n_\r\n"
        for key in KEYS:
            assert writer.ask("SET", key, 1) == OK
            assert client.reply() == invalidation(key)
            assert writer.ask("SET", key, 2) == OK
        assert client.silent()
        assert client.ask("GET", KEYS[0]) == b"$1\r\n2\r\n"
        assert client.ask("SET", KEYS[0], 3) in (invalidation(KEYS[0]), OK)
        assert client.reply() in (invalidation(KEYS[0]), OK)
        assert client.ask("GET", KEYS[1]) == b"$1\r\n2\r\n"
        assert writer.ask("FLUSHALL") == OK
        assert client.reply() == NOTHING
        assert client.ask("GET", KEYS[2]) == b"_\r\n"
        assert client.ask("CLIENT", "TRACKING", "OFF") == OK
        assert writer.ask("SET", KEYS[2], 1) == OK
        assert client.ask("GET", KEYS[2]) == b"$1\r\n1\r\n"
        assert client.silent()


def test_noloop(site: Site, writer: Wire) -> None:
    with tracking(site, "NOLOOP") as client, tracking(site) as other:
        for key in KEYS:
            assert client.ask("GET", key) == other.ask("GET", key) == b"_\r\n"
            assert client.ask("SET", key, 1) == OK
            assert other.reply() == invalidation(key)
        assert client.silent()
        assert client.ask("GET", KEYS[0]) == b"$1\r\n1\r\n"
        assert writer.ask("SET", KEYS[0], 2) == OK
        assert client.reply() == invalidation(KEYS[0])


def test_bcast(site: Site, writer: Wire) -> None:
    """Of keys that it never read, by their beginning."""
    with tracking(site, "BCAST", "PREFIX", "a:", "PREFIX", "b:") as client:
        for key in KEYS:
            writer.ask("SET", f"a:{key}", 1)
            assert client.reply() == invalidation(f"a:{key}")
            writer.ask("SET", f"b:{key}", 1)
            assert client.reply() == invalidation(f"b:{key}")
            writer.ask("SET", f"c:{key}", 1)
        assert client.silent()
        assert client.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "c:") == OK
        writer.ask("SET", f"c:{KEYS[2]}", 1)
        assert client.reply() == invalidation(f"c:{KEYS[2]}")


def test_optin(site: Site, writer: Wire) -> None:
    with tracking(site, "OPTIN") as client:
        for key in KEYS:
            assert client.ask("GET", key) == b"_\r\n"
            assert client.ask("CLIENT", "CACHING", "YES") == OK
            assert client.ask("GET", f"{key}1") == b"_\r\n"
            assert client.ask("GET", f"{key}2") == b"_\r\n"
        client.send(pipeline(("CLIENT", "CACHING", "YES"), ("MGET", *(f"{key}3" for key in KEYS)), ("GET", "none")))
        assert client.replies(3) == [OK, b"*3\r\n_\r\n_\r\n_\r\n", b"_\r\n"]
        for key in KEYS:
            for name in (key, f"{key}2", f"{key}1", f"{key}3"):
                assert writer.ask("SET", name, 1) == OK
            assert client.replies(2) == [invalidation(f"{key}1"), invalidation(f"{key}3")]
        assert client.silent()


def test_optin_of_a_transaction(site: Site, writer: Wire) -> None:
    with tracking(site, "OPTIN") as client:
        key = KEYS[1]
        assert client.ask("CLIENT", "CACHING", "YES") == OK
        assert client.ask("MULTI") == OK
        assert client.ask("GET", key) == client.ask("GET", f"{key}2") == b"+QUEUED\r\n"
        assert client.ask("EXEC") == b"*2\r\n_\r\n_\r\n"
        assert writer.ask("MSET", key, 1, f"{key}2", 2) == OK
        assert set(client.replies(2)) == {invalidation(key), invalidation(f"{key}2")}


def test_what_is_read_in_a_watched_transaction(site: Site, writer: Wire) -> None:
    """That goes over another connection, which tells nobody: whatever was read must be taken for changed."""
    with tracking(site) as client:
        key = KEYS[1]
        assert client.ask("WATCH", key) == OK
        assert client.ask("GET", key) == b"_\r\n"
        assert client.ask("MULTI") == OK
        assert client.ask("GET", f"{key}2") == b"+QUEUED\r\n"
        assert client.ask("EXEC") == b"*1\r\n_\r\n"
        assert client.reply() == NOTHING
        assert client.ask("XREAD", "BLOCK", 1, "STREAMS", f"{key}3", 0) == b"_\r\n"
        assert client.reply() == NOTHING
        assert client.ask("GET", key) == b"_\r\n"
        assert writer.ask("SET", key, 1) == OK
        assert client.reply() == invalidation(key)


def test_optout(site: Site, writer: Wire) -> None:
    with tracking(site, "OPTOUT") as client:
        key = KEYS[0]
        assert client.ask("CLIENT", "CACHING", "NO") == OK
        assert client.ask("GET", key) == b"_\r\n"
        assert client.ask("GET", f"{key}2") == b"_\r\n"
        assert writer.ask("MSET", key, 1, f"{key}2", 1) == OK
        assert client.reply() == invalidation(f"{key}2")
        assert client.silent()


@pytest.mark.parametrize(
    "requests",
    [
        [("BLPOP", "{t}list", "0.01")],
        [("EVAL", '#!lua flags="no-writes"\nreturn 1', 1, "{t}a")],
        [("PUBLISH", "channel", "m")],
        [("WAIT", 0, 1)],
        [("WATCH", "{t}a"), ("UNWATCH",)],
        [("MULTI",), ("EXEC",)],
        [("MULTI",), ("DISCARD",)],
        [("SUBSCRIBE", "channel"), ("UNSUBSCRIBE",)],
    ],
    ids=lambda requests: requests[0][0],
)
def test_caching_is_for_the_command_that_follows_whatever_it_goes_over(
    site: Site, writer: Wire, requests: list[tuple[Argument, ...]]
) -> None:
    """What is read behind that is tracked again, as a server would."""
    with tracking(site, "OPTOUT") as client:
        key = "{t}key"
        client.send(pipeline(("CLIENT", "CACHING", "NO"), *requests, ("GET", key), ("ECHO", "over")))
        heard = [client.reply()]
        while heard[-1] != b"$4\r\nover\r\n":
            heard.append(client.reply())
        assert [reply for reply in heard if reply[:1] != b">"][-2] == b"_\r\n"
        assert writer.ask("SET", key, 1) == OK
        assert client.reply() == invalidation(key)


def test_an_invalidation_does_not_overtake_replies(site: Site, writer: Wire) -> None:
    """A value that is answered behind its invalidation would be cached for good: the first shard is slow here."""
    busy = "for number = 1, 3000000 do end return 1"
    late = 0
    with tracking(site) as client:
        for number in range(10):
            key = f"{KEYS[1]}{number}"
            client.send(pipeline(("EVAL", busy, 1, KEYS[0]), ("GET", key)))
            assert writer.ask("SET", key, "x") == OK
            assert client.reply() == b":1\r\n"
            if client.reply() == b"_\r\n":  # it was read before it was written
                assert client.reply() == invalidation(key)
                late += 1
    assert late


@pytest.mark.parametrize("protocol", [2, 3])
def test_redirect(site: Site, writer: Wire, protocol: int) -> None:
    """To a client that is subscribed, in RESP2, or to one in RESP3."""
    with site.client(protocol) as target, site.client() as client:
        number = str(int(target.ask("CLIENT", "ID")[1:-2]))
        if protocol == 2:
            assert target.ask("SUBSCRIBE", "__redis__:invalidate").endswith(b":1\r\n")
        assert client.ask("CLIENT", "TRACKING", "ON", "REDIRECT", number) == OK
        assert client.ask("CLIENT", "GETREDIR") == f":{number}\r\n".encode()
        for key in KEYS:
            assert client.ask("GET", key) == b"$-1\r\n"
            assert writer.ask("SET", key, 1) == OK
            heard = target.reply()
            if protocol == 2:
                assert heard == b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n" + pack(key)
            else:
                assert heard == invalidation(key)
        assert client.ask("GET", KEYS[0]) == b"$1\r\n1\r\n"
        target.close()
        assert writer.ask("SET", KEYS[0], 2) == OK

        def broken() -> bool:
            return b"broken_redirect" in client.ask("CLIENT", "TRACKINGINFO")

        assert eventually(broken)


def test_connections_are_closed_with_the_client(site: Site) -> None:
    def trackers() -> int:
        found = 0
        for server in site.shards.primaries:
            with Wire(server.address) as wire:
                found += wire.ask("CLIENT", "LIST").count(b"flags=t")
        return found

    with tracking(site), tracking(site, "BCAST") as other:
        assert eventually(lambda: trackers() == 6)
        assert other.ask("RESET") == b"+RESET\r\n"
        assert eventually(lambda: trackers() == 3)
    assert eventually(lambda: trackers() == 0)


def test_client_list(site: Site) -> None:
    with tracking(site, "BCAST") as client:
        assert b" flags=tB " in client.ask("CLIENT", "INFO")
        assert b" redir=0 " in client.ask("CLIENT", "INFO")


def test_redis_py_caches(site: Site, writer: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """It wants Redis 7.4, for no reason that matters here: the servers of these tests are 7.0, or pass for 7.2."""
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.0.0")
    port = int(site.proxy.address.rpartition(":")[2])
    with redis.Redis(host=LOOPBACK, port=port, protocol=3, decode_responses=True, cache_config=CacheConfig()) as client:
        for key in KEYS:
            client.set(key, "one")
            assert client.get(key) == client.get(key) == "one"
        cache = client.get_cache()
        assert cache is not None
        assert cache.size == len(KEYS)
        for key in KEYS:
            assert writer.ask("SET", key, "two") == OK
        assert eventually(lambda: [client.get(key) for key in KEYS] == ["two"] * 3)
        assert client.mget(*KEYS) == ["two"] * 3


def test_no_more_than_may(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config="[backend]\ndedicated_connections = 1\n")
    with Wire(proxy.address, protocol=3) as first, Wire(proxy.address, protocol=3) as second:
        assert first.ask("CLIENT", "TRACKING", "ON") == OK
        assert second.ask("CLIENT", "TRACKING", "ON") == (
            b"-ERR 1 clients of this worker track keys already, each over connections of its own. "
            b"Raise backend.dedicated_connections\r\n"
        )
        assert first.ask("CLIENT", "TRACKING", "OFF") == OK
        assert second.ask("CLIENT", "TRACKING", "ON") == OK


# ---- a server goes away


@pytest.fixture
def pair() -> Iterator[LocalShards]:
    """Two shards."""
    with start_many(2, 0, binary=find(FULL[0])) as shards:
        yield shards


def test_a_lost_connection_says_that_anything_may_have_changed(
    pair: LocalShards, tmp_path_factory: pytest.TempPathFactory
) -> None:
    proxy = ProxyProcess(tmp_path_factory.mktemp("tracking"), "--static", pair.static)
    proxy.start()
    keys = [f"{{{tag}}}k" for tag in shard_tags(2)]
    try:
        with Wire(proxy.address, protocol=3) as client, Wire(proxy.address) as writer:
            assert client.ask("CLIENT", "TRACKING", "ON") == OK
            assert client.ask("GET", keys[0]) == client.ask("GET", keys[1]) == b"_\r\n"
            with Wire(pair.primaries[0].address) as direct:
                assert direct.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")[:1] == b":"
            assert client.reply() == NOTHING
            assert client.ask("GET", keys[0]) == b"_\r\n"
            assert writer.ask("SET", keys[0], 1) == OK
            assert client.reply() == invalidation(keys[0])
            assert writer.ask("SET", keys[1], 1) == OK
            assert client.reply() == invalidation(keys[1])
        proxy.stop()
    finally:
        proxy.kill()


@pytest.fixture(scope="module")
def line_breaks() -> Iterator[LocalShards]:
    """Two shards that pass on what scripts raise with its line breaks (Redis 8.2)."""
    with start_many(2, 0, binary=find(MORE[1])) as shards:
        yield shards


CALLS: dict[str, tuple[tuple[Argument, ...], ...]] = {
    "EVAL": (("EVAL", "return redis.call('GET', KEYS[1])", 1, KEYS[0]),),
    "EVAL_RO": (("EVAL_RO", "return redis.call('GET', KEYS[1])", 1, KEYS[0]),),
    "in EXEC": (("MULTI",), ("EVAL", "return redis.call('GET', KEYS[1])", 1, KEYS[0]), ("EXEC",)),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_a_script_reads_is_tracked_where_it_goes_over_no_shared_connection(
    line_breaks: LocalShards, serve: Serve, call: str
) -> None:
    """As straight: once, with the key's name, and only when it is changed."""
    proxy = serve("--static", line_breaks.static)
    found = []
    for address in (line_breaks.primaries[0].address, proxy.address):
        with Wire(address, protocol=3) as reader, Wire(address) as writer:
            reader.ask("CLIENT", "TRACKING", "ON")
            writer.ask("SET", KEYS[0], 0)
            replies = [reader.ask(*command) for command in CALLS[call]]
            writer.ask("SET", KEYS[0], 1)
            replies.append(reader.reply())
            assert reader.silent(0.05)
            found.append([*replies, reader.ask("PING")])
    assert found[0] == found[1]


@pytest.mark.parametrize("block", [False, True], ids=["EVAL", "in EXEC"])
def test_a_frame_too_many_is_not_the_next_reply(line_breaks: LocalShards, serve: Serve, block: bool) -> None:
    """The connection on which it came is closed; the client hears that it may have missed something."""
    proxy = serve("--static", line_breaks.static)
    raising = ("EVAL", r"error('A B\r\n+two\r\n+three')", 1, KEYS[0])
    with Wire(proxy.address, protocol=3) as client:
        client.ask("CLIENT", "TRACKING", "ON")
        for turn in range(5):
            if block:
                assert client.ask("MULTI") == OK
                client.ask(*raising)
                assert client.ask("EXEC").startswith((b"*1\r\n-", b"-"))
            else:
                assert client.ask(*raising).startswith(b"-")
            client.send(pack("ECHO", f"turn {turn}"))
            client.send(pack("SET", KEYS[0], turn))
            client.send(pack("GET", KEYS[0]))
            told = [reply for reply in iter(client.reply, b"$1\r\n%d\r\n" % turn) if reply != NOTHING]
            assert told == [b"$6\r\nturn %d\r\n" % turn, OK]
    assert "can not be read" not in proxy.log
