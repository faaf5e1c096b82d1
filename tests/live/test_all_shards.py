"""Commands without a key: they speak for all shards as if these were one server."""

import re

import pytest

from tests.live.keyspace import fill, info, scan, scan_step
from tests.support.site import Site, shard_of

pytestmark = pytest.mark.live


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("count", [None, 1, 10, 1000, 100_000])
def test_scan_finds_every_key(site: Site, protocol: int, count: int | None) -> None:
    with site.client(protocol) as client:
        keys = fill(client, 300 if count == 1 else 3000)
        assert set(scan(client, *(("COUNT", count) if count else ()))) == keys


def test_scan_with_match_and_type(site: Site) -> None:
    with site.client() as client:
        fill(client, 500)
        users = fill(client, 300, "user:")
        lists = {f"user:list:{number}".encode() for number in range(100)}
        for key in lists:
            client.ask("RPUSH", key, "x")
        assert set(scan(client, "MATCH", "user:*")) == users | lists
        assert set(scan(client, "MATCH", "user:*", "COUNT", 50, "TYPE", "list")) == lists
        assert set(scan(client, "TYPE", "list")) == lists
        assert scan(client, "TYPE", "hash") == []
        assert scan(client, "MATCH", "nothing*") == []


def test_scan_where_a_shard_is_empty(site: Site) -> None:
    for tag in site.tags():
        site.clean()
        with site.client() as client:
            keys = fill(client, 50, f"{{{tag}}}")
            assert set(scan(client, "COUNT", 7)) == keys
    site.clean()
    with site.client() as client:
        assert scan(client) == []


def test_scan_while_keys_come_and_go(site: Site) -> None:
    """What is there all the time is found, however much else changes, the size of the servers' tables too."""
    with site.client() as client:
        staying = fill(client, 1000, "staying:")
        going = list(fill(client, 1000, "going:"))
        found: list[bytes] = []
        cursor, turn = b"0", 0
        while True:
            cursor, keys = scan_step(client, cursor, "COUNT", 20)
            found += keys
            if cursor == b"0":
                break
            turn += 1
            fill(client, 30, f"coming:{turn}:")
            for key in going[turn * 5 : turn * 5 + 5]:
                client.ask("DEL", key)
        assert staying <= set(found)
        assert all(key.startswith((b"staying:", b"going:", b"coming:")) for key in found)


def test_scan_of_another_database(site: Site) -> None:
    with site.client() as client:
        fill(client, 100)
        client.ask("SELECT", 3)
        keys = fill(client, 100, "third:")
        assert set(scan(client)) == keys


def test_a_cursor_that_nobody_gave(site: Site) -> None:
    """It is answered, with keys or with an error, and the connection goes on."""
    with site.client() as client:
        fill(client, 10)
        for cursor in (3, 7, 2**63 - 1, 2**64 - 1, 2**64, "x", "-1"):
            reply = client.value("SCAN", cursor)
            assert isinstance(reply, list) or str(reply) == "ERR invalid cursor", (cursor, reply)
        assert client.ask("PING") == b"+PONG\r\n"


def test_dbsize_and_keys(site: Site) -> None:
    with site.client() as client:
        keys = fill(client, 300)
        assert client.value("DBSIZE") == 300
        sizes = [server.ask("DBSIZE") for server in site.shards.primaries]
        assert all(isinstance(size, int) and size > 50 for size in sizes)
        listed = client.value("KEYS", "key:1*")
        assert isinstance(listed, list)
        assert sorted(listed) == sorted(key for key in keys if key.startswith(b"key:1"))


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
def test_flush_empties_every_shard(site: Site, command: str) -> None:
    with site.client() as client:
        fill(client, 100)
        client.ask("SELECT", 1)
        fill(client, 100)
        assert client.ask(command) == b"+OK\r\n"
        assert client.value("DBSIZE") == 0
        client.ask("SELECT", 0)
        assert client.value("DBSIZE") == (0 if command == "FLUSHALL" else 100)


def test_randomkey_knows_every_shard(site: Site) -> None:
    with site.client() as client:
        assert client.ask("RANDOMKEY") == b"$-1\r\n"
        keys = {f"{{{tag}}}key".encode() for tag in site.tags()}
        (first, *others) = keys
        client.ask("SET", first, "x")
        assert {client.value("RANDOMKEY") for _ in range(20)} == {first}
        for key in others:
            client.ask("SET", key, "x")
        # That one of the three does not come in 200 draws has a chance of less than 10^-34.
        assert {client.value("RANDOMKEY") for _ in range(200)} == keys
    with site.client(3) as client:
        client.ask("FLUSHALL")
        assert client.ask("RANDOMKEY") == b"_\r\n"


@pytest.mark.parametrize("protocol", [2, 3])
def test_info_is_one_servers_document(site: Site, protocol: int) -> None:
    with site.client(protocol) as client:
        fill(client, 300)
        client.ask("EXPIRE", "key:1", 1000)
        client.ask("SELECT", 2)
        fill(client, 30)
        said = info(client)
        plain = site.plain.info("server")
        assert said["Server"]["redis_version"] == plain["redis_version"]
        assert said["Server"]["redis_mode"] == "standalone"
        assert said["Server"]["arch_bits"] == plain["arch_bits"]
        assert said["Replication"]["role"] == "master"
        assert said["Persistence"]["loading"] == "0"
        assert said["Cluster"]["cluster_enabled"] == "0"
        assert said["Clients"]["blocked_clients"] == "0"
        assert said["Clients"]["connected_clients"] == "1"
        assert re.match(r"keys=300,expires=1,avg_ttl=\d+", said["Keyspace"]["db0"])
        assert said["Keyspace"]["db2"].startswith("keys=30,expires=0,")
        assert said["Slotgate"]["slotgate_shards"] == "3"
        assert int(said["Stats"]["total_commands_processed"]) >= 330
        assert int(said["Memory"]["used_memory"]) > 3 * 500_000


def test_info_by_section(site: Site) -> None:
    with site.client() as client:
        fill(client, 10)
        assert set(info(client, "keyspace")) == {"Keyspace"}
        assert set(info(client, "server", "clients")) == {"Server", "Clients"}
        assert "Commandstats" in info(client, "everything")
        stats = info(client, "commandstats")["Commandstats"]
        assert stats["cmdstat_set"].startswith("calls=10,")
        # What a plain server says to a section that it does not know is nothing.
        assert client.value("INFO", "nosuchsection") == b""


def test_config_get(site: Site) -> None:
    with site.client() as client:
        assert client.value("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]
        reply = client.value("CONFIG", "GET", "databases", "max*")
        assert isinstance(reply, list)
        settings = dict(zip(reply[::2], reply[1::2], strict=True))
        assert settings[b"databases"] == b"16"
        assert b"maxclients" in settings
    with site.client(3) as client:
        assert client.value("CONFIG", "GET", "maxmemory") == {b"maxmemory": b"0"}


def test_slowlog_of_all_shards(site: Site) -> None:
    for server in site.shards.primaries:
        server.ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
    try:
        with site.client() as client:
            client.ask("SLOWLOG", "RESET")
            for tag in site.tags():
                client.ask("SET", f"{{{tag}}}key", "x")
            rows = client.value("SLOWLOG", "GET", 100)
            assert isinstance(rows, list)
            slow = [row[3] for row in rows if row[3][0] == b"SET"]
            assert sorted(slow) == sorted([b"SET", f"{{{tag}}}key".encode(), b"x"] for tag in site.tags())
            assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)
            limited = client.value("SLOWLOG", "GET", 2)
            assert isinstance(limited, list)
            assert len(limited) == 2
            length = client.value("SLOWLOG", "LEN")
            assert isinstance(length, int)
            assert length >= 6
    finally:
        for server in site.shards.primaries:
            server.ask("CONFIG", "SET", "slowlog-log-slower-than", -1)
    with site.client() as client:
        assert client.ask("SLOWLOG", "RESET") == b"+OK\r\n"
        assert client.value("SLOWLOG", "LEN") == 0


def test_scripts_are_loaded_everywhere(site: Site) -> None:
    with site.client() as client:
        sha = client.value("SCRIPT", "LOAD", "return {KEYS[1], ARGV[1]}")
        assert isinstance(sha, bytes)
        assert client.value("SCRIPT", "EXISTS", sha, "f" * 40) == [1, 0]
        for tag in site.tags():
            assert client.value("EVALSHA", sha, 1, tag, "x") == [tag.encode(), b"x"]
        assert client.ask("SCRIPT", "FLUSH") == b"+OK\r\n"
        for tag in site.tags():
            assert client.ask("EVALSHA", sha, 1, tag, "x").startswith(b"-NOSCRIPT ")


def test_functions_are_loaded_everywhere(site: Site) -> None:
    library = (
        "#!lua name=lib\n"
        "redis.register_function('put', function(keys, args) return redis.call('set', keys[1], args[1]) end)"
    )
    with site.client() as client:
        assert client.value("FUNCTION", "LOAD", library) == b"lib"
        for tag in site.tags():
            assert client.value("FCALL", "put", 1, f"{{{tag}}}key", tag) == b"OK"
            assert client.value("GET", f"{{{tag}}}key") == tag.encode()
        listed = client.value("FUNCTION", "LIST")
        assert isinstance(listed, list)
        assert len(listed) == 1
        dump = client.value("FUNCTION", "DUMP")
        assert isinstance(dump, bytes)
        assert client.ask("FUNCTION", "DELETE", "lib") == b"+OK\r\n"
        for tag in site.tags():
            assert client.ask("FCALL", "put", 1, f"{{{tag}}}key", tag).startswith(b"-ERR Function not found")
        assert client.ask("FUNCTION", "RESTORE", dump) == b"+OK\r\n"
        for tag in site.tags():
            assert client.value("FCALL", "put", 1, f"{{{tag}}}key", tag) == b"OK"


def test_memory_and_latency(site: Site) -> None:
    with site.client() as client:
        stats = client.value("MEMORY", "STATS")
        assert isinstance(stats, list)
        fields = dict(zip(stats[::2], stats[1::2], strict=True))
        assert fields[b"keys.count"] == 0
        fill(client, 90)
        stats = client.value("MEMORY", "STATS")
        assert isinstance(stats, list)
        assert dict(zip(stats[::2], stats[1::2], strict=True))[b"keys.count"] == 90
        assert client.ask("MEMORY", "PURGE") == b"+OK\r\n"
        assert isinstance(client.value("MEMORY", "DOCTOR"), bytes)
        assert client.value("LATENCY", "RESET") == 0
        histogram = client.value("LATENCY", "HISTOGRAM", "set")
        assert isinstance(histogram, list)
        assert histogram[0] == b"set"
        assert histogram[1][:2] == [b"calls", 90]


def test_time_and_lastsave(site: Site) -> None:
    with site.client() as client:
        time = client.value("TIME")
        assert isinstance(time, list)
        seconds = site.plain.ask("TIME")
        assert isinstance(seconds, list)
        assert abs(int(time[0]) - int(seconds[0])) <= 1
        saved = [server.ask("LASTSAVE") for server in site.shards.primaries]
        assert client.value("LASTSAVE") in saved


def test_every_shard_has_its_keys(site: Site) -> None:
    """Keys lie where their slot says, so that anybody can look at the shards past the proxy."""
    with site.client() as client:
        keys = fill(client, 300) | fill(client, 30, "{tag}")
        for number, server in enumerate(site.shards.primaries):
            listed = server.ask("KEYS", "*")
            assert isinstance(listed, list)
            assert set(listed) == {key for key in keys if shard_of(key) == number}
