"""``read_from``: who serves reads. What a server was asked is seen in its own statistics."""

import time

import pytest

from proxy.devservers.servers import LocalServer, LocalShards
from tests.support.fixtures import Serve
from tests.support.site import clean, commands_seen, shard_tags
from tests.support.wire import Argument, Wire, pack

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
KEYS = [f"key:{number}" for number in range(60)]
TAGS = shard_tags(2)


@pytest.fixture
def shards(replicated: LocalShards) -> LocalShards:
    """Two shards with two replicas each: empty, in step, and nothing in their statistics."""
    for server in replicated.primaries:
        clean(server)
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    settle(replicated)
    return replicated


def settle(shards: LocalShards) -> None:
    """Wait until all replicas have all writes, then reset everybody's statistics."""
    for server in shards.primaries:
        with Wire(server.address) as client:
            # WAIT waits for what was written over its own connection, and so for all that came before.
            client.ask("SET", "settled", 1)
            client.ask("DEL", "settled")
            assert client.value("WAIT", 2, 5000) == 2
    for server in shards.servers:
        server.ask("CONFIG", "RESETSTAT")


def fill(proxy_address: str, shards: LocalShards) -> None:
    """Set ``KEYS`` and one of each type, and wait until the replicas have them."""
    with Wire(proxy_address) as client:
        for key in KEYS:
            assert client.ask("SET", key, f"value of {key}") == OK
        for tag in TAGS:
            client.ask("HSET", f"{{{tag}}}hash", "f", "v")
            client.ask("SADD", f"{{{tag}}}set", "m")
            client.ask("ZADD", f"{{{tag}}}zset", 1, "m")
    settle(shards)


def read(proxy_address: str, clients: int = 12) -> None:
    """Read all of ``KEYS`` as so many clients, one by one and many at once."""
    for _ in range(clients):
        with Wire(proxy_address) as client:
            for key in KEYS:
                assert client.value("GET", key) == f"value of {key}".encode()
            assert client.value("MGET", *KEYS[:10]) == [f"value of {key}".encode() for key in KEYS[:10]]
            assert client.value("EXISTS", *KEYS) == len(KEYS)


def asked(server: LocalServer, *commands: str) -> int:
    """How often the server carried out any of these commands."""
    seen = commands_seen(server)
    return sum(seen.get(command, 0) for command in commands)


def replicas(shards: LocalShards) -> list[LocalServer]:
    """All replicas."""
    return [server for group in shards.replicas for server in group]


@pytest.mark.parametrize("policy", ["primary", "prefer_replica", "replica", "any"])
def test_who_is_asked(shards: LocalShards, serve: Serve, policy: str) -> None:
    proxy = serve("--static", shards.static, "--read-from", policy)
    fill(proxy.address, shards)
    read(proxy.address)
    for server in shards.primaries:
        assert (asked(server, "get", "mget", "exists") > 0) is (policy in ("primary", "any"))
    for server in replicas(shards):
        assert (asked(server, "get", "mget", "exists") > 0) is (policy != "primary")


WRITES: list[tuple[Argument, ...]] = [
    ("SET", "w", 1),
    ("INCR", "n"),
    ("GETEX", "w", "EX", 100),
    ("GETSET", "w", 2),
    ("GETDEL", "w"),
    ("MSET", *(word for key in KEYS for word in (key, 1))),
    ("DEL", *KEYS),
    ("SORT", "{t}list", "STORE", "{t}sorted"),
    ("EVAL", "return redis.call('set', KEYS[1], 1)", 1, "w"),
    ("GEORADIUS", "{t}geo", 1, 1, 1, "km", "STORE", "{t}near"),
    ("XGROUP", "CREATE", "stream", "g", "$", "MKSTREAM"),
    ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream", ">"),
    ("PFADD", "hll", "a"),
    ("BITFIELD", "bits", "SET", "u8", 0, 1),
    ("EXPIRE", "n", 100),
]


@pytest.mark.parametrize("policy", ["prefer_replica", "replica", "any"])
def test_no_write_goes_to_a_replica(shards: LocalShards, serve: Serve, policy: str) -> None:
    proxy = serve("--static", shards.static, "--read-from", policy)
    fill(proxy.address, shards)
    for _ in range(6):
        with Wire(proxy.address) as client:
            for args in WRITES:
                reply = client.ask(*args)
                assert reply[:1] != b"-" or reply.startswith(b"-BUSYGROUP"), (args, reply)
    for server in replicas(shards):
        assert "errorstat_READONLY" not in server.info("errorstats")


OWN: list[tuple[tuple[Argument, ...], str]] = [
    (("TOUCH", "{TAG}hash"), "touch"),
    (("OBJECT", "ENCODING", "{TAG}hash"), "object|encoding"),
    (("OBJECT", "IDLETIME", "{TAG}hash"), "object|idletime"),
    (("MEMORY", "USAGE", "{TAG}hash"), "memory|usage"),
    (("HSCAN", "{TAG}hash", 0), "hscan"),
    (("SSCAN", "{TAG}set", 0), "sscan"),
    (("ZSCAN", "{TAG}zset", 0), "zscan"),
    (("SCAN", 0), "scan"),
]


@pytest.mark.parametrize("policy", ["prefer_replica", "replica", "any"])
def test_what_is_a_servers_own_comes_from_the_primary(shards: LocalShards, serve: Serve, policy: str) -> None:
    proxy = serve("--static", shards.static, "--read-from", policy)
    fill(proxy.address, shards)
    for _ in range(6):
        with Wire(proxy.address) as client:
            for tag in TAGS:
                for args, _name in OWN:
                    reply = client.ask(*(str(arg).replace("TAG", tag) for arg in args))
                    assert reply[:1] != b"-", (args, reply)
    for _args, name in OWN:
        assert all(asked(server, name) == 0 for server in replicas(shards)), name
        assert sum(asked(server, name) for server in shards.primaries) >= 6, name


def test_scripts_on_replicas(shards: LocalShards, serve: Serve) -> None:
    """A script is loaded on the replicas too, so that it can be run there."""
    proxy = serve("--static", shards.static, "--read-from", "replica")
    with Wire(proxy.address) as client:
        sha = client.value("SCRIPT", "LOAD", "return KEYS[1]")
        assert isinstance(sha, bytes)
        for server in replicas(shards):
            deadline = time.monotonic() + 5
            while server.ask("SCRIPT", "EXISTS", sha) != [1]:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        for tag in TAGS:
            assert client.value("EVALSHA_RO", sha, 1, tag) == tag.encode()
    assert sum(asked(server, "evalsha_ro") for server in replicas(shards)) == 2


@pytest.mark.smoke
def test_reads_of_one_client_stay_in_order(shards: LocalShards, serve: Serve) -> None:
    """A pipeline of reads and writes comes back in the order it was asked, whoever answers."""
    proxy = serve("--static", shards.static, "--read-from", "any")
    fill(proxy.address, shards)
    for _ in range(6):
        with Wire(proxy.address) as client:
            client.send(b"".join(pack("GET", key) + pack("INCR", f"n:{key}") + pack("ECHO", key) for key in KEYS))
            found = client.replies(3 * len(KEYS))
            assert found[::3] == [pack(f"value of {key}")[4:] for key in KEYS]
            assert found[2::3] == [pack(key)[4:] for key in KEYS]


def eventually_read(client: Wire, key: str, wanted: bytes, seconds: float = 10) -> None:
    """Read until the reply begins as wanted."""
    deadline = time.monotonic() + seconds
    while not (reply := client.ask("GET", key)).startswith(wanted):
        assert time.monotonic() < deadline, reply
        time.sleep(0.05)


@pytest.mark.parametrize("policy", ["prefer_replica", "any", "replica"])
def test_without_replicas(shards: LocalShards, serve: Serve, policy: str) -> None:
    """The primary takes over, but where reads are for replicas only: then an error names the shard. And back again."""
    proxy = serve(
        "--static", shards.static, "--read-from", policy, environment={"SLOTGATE_BACKEND__RETRY_DEADLINE": "200ms"}
    )
    fill(proxy.address, shards)
    key = f"{{{TAGS[0]}}}key"
    with Wire(proxy.address) as client:
        assert client.ask("SET", key, "v") == OK
        settle(shards)
        eventually_read(client, key, b"$1\r\nv")
        for server in shards.replicas[0]:
            server.kill()
        try:
            if policy == "replica":
                eventually_read(client, key, b"-SHARDDOWN shard 'shard-1' ")
                assert client.ask("SET", key, "v") == OK
            else:
                eventually_read(client, key, b"$1\r\nv")
                assert asked(shards.primaries[0], "get") > 0
            assert client.value("GET", KEYS[0]) is not None or policy == "replica"
        finally:
            for server in shards.replicas[0]:
                server.start()
                server.wait_link_up()
        settle(shards)
        eventually_read(client, key, b"$1\r\nv")
        deadline = time.monotonic() + 10
        while not sum(asked(server, "get") for server in shards.replicas[0]):
            assert time.monotonic() < deadline
            with Wire(proxy.address) as another:
                another.ask("GET", key)
            time.sleep(0.05)


def test_a_shard_without_replicas(shards: LocalShards, serve: Serve) -> None:
    (with_replicas, without) = shards.static.split(",")
    static = f"{with_replicas},{without.partition('/')[0]}"
    proxy = serve("--static", static, "--read-from", "replica")
    with Wire(proxy.address) as client:
        assert client.ask("SET", f"{{{TAGS[1]}}}k", 1) == OK
        reply = client.ask("GET", f"{{{TAGS[1]}}}k")
        assert reply.startswith(b"-SHARDDOWN shard 'shard-2' has no replica to read from"), reply
        assert client.ask("GET", f"{{{TAGS[0]}}}k") == b"$-1\r\n"
    proxy = serve("--static", static, "--read-from", "prefer_replica")
    with Wire(proxy.address) as client:
        assert client.ask("GET", f"{{{TAGS[1]}}}k") == b"$1\r\n1\r\n"
