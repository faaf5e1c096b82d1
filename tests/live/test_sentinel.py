"""Behind real sentinels: failovers, planned and not, sentinels that die, passwords, masters that nobody knows."""

import re
import time
from collections.abc import Iterator, Mapping

import hiredis
import pytest

from proxy.devservers.sentinel import LocalSentinel, WatchedShards, start_watched
from proxy.devservers.servers import LocalServer, ServerBinary, find_server, start_many
from tests.live.counting import Counting
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import shard_tags
from tests.support.wire import Wire

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

PATIENT = 45.0
"""Seconds that sentinels may take for a failover on a busy machine."""

FIRST, SECOND = shard_tags(2)
KEYS = [f"{{{tag}}}{number}" for tag in (FIRST, SECOND) for number in range(3)]
PLANNED = 5.0
"""Seconds that a planned failover may keep a write waiting: about one is the sentinel's own."""


@pytest.fixture(scope="module")
def standing() -> Iterator[WatchedShards]:
    """Two shards with two replicas each, and three sentinels."""
    with start_watched(2, 2, 3, down_after=1.0) as watched:
        yield watched


@pytest.fixture
def watched(standing: WatchedShards) -> WatchedShards:
    """As ``standing``, with nothing amiss."""
    for server in (*standing.servers, *standing.sentinels):
        if not server.running:
            server.start()
    standing.wait_ok()
    return standing


def roles(proxy: ProxyProcess) -> dict[str, dict[str, list[str]]]:
    """The addresses by shard and role, as /topology has them."""
    found: dict[str, dict[str, list[str]]] = {}
    for shard in proxy.topology():
        by_role: dict[str, list[str]] = {"primary": [], "replica": []}
        for node in shard["nodes"]:
            by_role[node["role"]].append(node["address"])
        found[shard["name"]] = {role: sorted(addresses) for role, addresses in by_role.items()}
    return found


def expected(watched: WatchedShards) -> Mapping[str, Mapping[str, list[str]]]:
    """What /topology should say, as the sentinels do, of the servers that run."""
    return {
        name: {
            "primary": [watched.primary(name).address],
            "replica": sorted(server.address for server in watched.replicas(name) if server.running),
        }
        for name in watched.names
    }


def follows(proxy: ProxyProcess, watched: WatchedShards, timeout: float = 30.0) -> bool:
    """Whether /topology comes to say what the sentinels do."""
    return eventually(lambda: roles(proxy) == expected(watched), timeout)


def serve_watched(serve: Serve, watched: WatchedShards) -> ProxyProcess:
    """A proxy that is told of one sentinel only."""
    return serve("--sentinel", watched.sentinels[0].address, "--masters", watched.masters)


def test_the_masters_are_the_shards(watched: WatchedShards, serve: Serve) -> None:
    proxy = serve_watched(serve, watched)
    assert follows(proxy, watched)
    assert [(shard["name"], shard["slots"]) for shard in proxy.topology()] == [
        ("shard-1", [[0, 8191]]),
        ("shard-2", [[8192, 16383]]),
    ]
    with Wire(proxy.address) as client:
        for tag, name in ((FIRST, "shard-1"), (SECOND, "shard-2")):
            assert client.ask("SET", f"{{{tag}}}where", name) == b"+OK\r\n"
            assert watched.primary(name).ask("GET", f"{{{tag}}}where") == name.encode()


@pytest.mark.drill
def test_failovers(binary: ServerBinary, serve: Serve) -> None:
    """A planned one of each shard is latency, also where the sentinel that the proxy was told of is gone: by then it
    knows the others. One by a kill is latency too, but for what was in flight."""
    with start_watched(2, 2, 3, binary=binary, down_after=1.0) as watched:
        proxy = serve_watched(serve, watched)
        with Counting(proxy.address, KEYS) as load:
            load.wait()
            watched.sentinels[0].kill()
            for name in watched.names:
                fail_over(proxy, watched, name, load)
        assert not load.errors
        assert not load.wrong
        assert load.longest < PLANNED
        for index, name in enumerate(watched.names):
            for key in KEYS[index * 3 : index * 3 + 3]:
                assert watched.primary(name).ask("GET", key) == str(load.counts[key]).encode()
        # The old primaries are replicas, when the sentinels have told them.
        assert follows(proxy, watched)
        assert proxy.log.count(f"sentinel can not be asked address={watched.sentinels[0].address}") == 1

        with Counting(proxy.address, KEYS) as load:
            load.wait()
            old = watched.primary("shard-1")
            old.kill()
            new = watched.wait_switched("shard-1", old)
            assert eventually(lambda: roles(proxy)["shard-1"]["primary"] == [new.address])
            load.wait()
            uncertain = len(load.errors)
            load.wait()
            assert len(load.errors) == uncertain
        assert len(load.errors) <= 3
        assert all(re.match(rf"UNCERTAIN shard 'shard-1' \({old.address}\)", error) for error in load.errors)
        # Replication is asynchronous: what the primary had acknowledged when it died, its replica need not have.
        assert all(re.match(rf"\{{{FIRST}\}}\d: ", wrong) for wrong in load.wrong)
        assert len(load.wrong) <= 3
        # It comes back, as a replica.
        old.start()
        assert follows(proxy, watched, 40)


def fail_over(proxy: ProxyProcess, watched: WatchedShards, name: str, load: Counting) -> None:
    """A planned failover, and a while of load on the new primary."""
    new = watched.failover(name, PATIENT)
    load.wait()
    assert eventually(lambda: roles(proxy)[name]["primary"] == [new.address])


def test_a_replica_that_dies_is_left_out_and_comes_back(watched: WatchedShards, serve: Serve) -> None:
    proxy = serve_watched(serve, watched)
    assert follows(proxy, watched)
    replica = watched.replicas("shard-2")[0]
    replica.kill()
    assert eventually(lambda: replica.address not in roles(proxy)["shard-2"]["replica"], 5)
    assert roles(proxy)["shard-1"] == expected(watched)["shard-1"]
    replica.start()
    assert follows(proxy, watched)


def test_a_demoted_primary_that_nobody_told_is_not_written_to(serve: Serve) -> None:
    """By hand, behind the sentinel's back: what the proxy is told last is not what the server is."""
    with start_watched(1, 0, 1) as watched, start_many(1, 0) as others:
        (server,), (other,) = watched.servers, others.primaries
        server.ask("REPLICAOF", other.host, other.port)
        proxy = serve("--sentinel", watched.sentinel_addresses, "--masters", "shard-1", ready=False)
        words = f"the server is no primary, it replicates {other.address}"
        assert eventually(lambda: words in proxy.log)
        assert proxy.http("/readyz?all") == (503, "no reachable primary in: shard-1\n")
        server.ask("REPLICAOF", "NO", "ONE")
        assert eventually(lambda: proxy.http("/readyz?all")[0] == 200)


def test_a_master_that_nobody_knows(
    watched: WatchedShards, serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    proxy = serve("--sentinel", watched.sentinel_addresses, "--masters", "shard-1,third", ready=False)
    assert eventually(lambda: "no sentinel knows a master called 'third': check sentinel.masters" in proxy.log)
    assert eventually(lambda: proxy.http("/readyz?all") == (503, "no shard serves the slots 8192-16383\n"))
    with Wire(proxy.address) as client:
        assert client.ask("SET", f"{{{FIRST}}}k", "v") == b"+OK\r\n"
    third = LocalServer(watched.binary, tmp_path_factory.mktemp("third"))
    third.start()
    try:
        for sentinel in watched.sentinels:
            sentinel.ask("SENTINEL", "MONITOR", "third", "127.0.0.1", third.port, 2)
        assert eventually(lambda: proxy.http("/readyz?all")[0] == 200, 5)
        with Wire(proxy.address) as client:
            assert client.ask("SET", f"{{{SECOND}}}k", "v") == b"+OK\r\n"
        assert third.ask("GET", f"{{{SECOND}}}k") == b"v"
    finally:
        for sentinel in watched.sentinels:
            sentinel.ask("SENTINEL", "REMOVE", "third")
        third.stop()


@pytest.mark.drill
def test_a_sentinel_that_was_away_rolls_nothing_back(watched: WatchedShards, serve: Serve) -> None:
    proxy = serve("--sentinel", watched.sentinel_addresses, "--masters", watched.masters)
    away = watched.sentinels[2]
    old = watched.primary("shard-2")
    away.pause()
    try:
        watched.sentinels[0].ask("SENTINEL", "FAILOVER", "shard-2")
        assert eventually(lambda: roles(proxy)["shard-2"]["primary"] != [old.address])
    finally:
        away.resume()
    new = roles(proxy)["shard-2"]["primary"]
    assert not eventually(lambda: roles(proxy)["shard-2"]["primary"] != new, 3)
    assert eventually(lambda: away.primary_of("shard-2") == new[0])
    # One failover, and the old primary's return as a replica.
    assert proxy.log.count("failover shard=shard-2") == 1


@pytest.mark.drill
def test_all_sentinels_die_and_come_back(watched: WatchedShards, serve: Serve) -> None:
    proxy = serve_watched(serve, watched)
    with Counting(proxy.address, KEYS) as load:
        load.wait()
        for sentinel in watched.sentinels:
            sentinel.kill()
        load.wait()
        assert proxy.http("/readyz?all")[0] == 200
        for sentinel in watched.sentinels:
            sentinel.start()
        watched.wait_ok()
        new = watched.failover("shard-1", PATIENT)
        assert eventually(lambda: roles(proxy)["shard-1"]["primary"] == [new.address])
        load.wait()
    assert not load.errors
    assert not load.wrong


@pytest.mark.drill
def test_the_operator_begins_anew(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> None:
    """REMOVE and MONITOR: the epoch begins at 0 again, and all sentinels agree."""
    with start_watched(1, 1, 3, down_after=1.0) as watched:
        watched.failover("shard-1", PATIENT)
        proxy = serve_watched(serve, watched)
        third = LocalServer(watched.binary, tmp_path_factory.mktemp("third"))
        third.start()
        try:
            for sentinel in watched.sentinels:
                sentinel.ask("SENTINEL", "REMOVE", "shard-1")
                sentinel.ask("SENTINEL", "MONITOR", "shard-1", "127.0.0.1", third.port, 2)
            assert eventually(lambda: roles(proxy)["shard-1"]["primary"] == [third.address], 20)
        finally:
            third.stop()


@pytest.mark.drill
def test_passwords(serve: Serve) -> None:
    with start_watched(1, 1, 3, password="of the servers", sentinel_password="of the sentinels") as watched:
        config = f"""
            [topology]
            kind = "sentinel"
            [sentinel]
            sentinels = ["{watched.sentinels[0].address}"]
            masters = ["shard-1"]
            password = "of the sentinels"
            [backend]
            password = "of the servers"
        """
        proxy = serve(config=config)
        new = watched.failover("shard-1", PATIENT)
        assert eventually(lambda: roles(proxy)["shard-1"]["primary"] == [new.address])
        assert eventually(lambda: proxy.http("/readyz?all")[0] == 200)
        wrong = serve(config=config.replace("of the sentinels", "somebody else's"), ready=False)
        assert eventually(lambda: "the server refuses the proxy's AUTH: WRONGPASS" in wrong.log)
        none = serve(config=config.replace('password = "of the sentinels"', ""), ready=False)
        assert eventually(lambda: "the sentinel asks for a password: set sentinel.password" in none.log)
        for proxy in (wrong, none):
            assert "no sentinel answers" in proxy.log
            assert "of the" not in proxy.log
            assert "somebody" not in proxy.log


def test_the_proxy_starts_before_the_sentinels(serve: Serve) -> None:
    with start_watched(1, 1, 1) as watched:
        (sentinel,) = watched.sentinels
        sentinel.kill()
        proxy = serve("--sentinel", sentinel.address, "--masters", "shard-1", ready=False)
        assert eventually(lambda: "no sentinel answers" in proxy.log)
        assert proxy.http("/readyz?all") == (503, "no shard serves the slots 0-16383\n")
        with Wire(proxy.address) as client:
            client.send(b"SET k v\r\n")
            time.sleep(0.2)
            sentinel.start()
            assert client.reply() == b"+OK\r\n"
        assert eventually(lambda: proxy.http("/readyz?all")[0] == 200)


def test_a_server_is_no_sentinel(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> None:
    server = LocalServer(find_server(), tmp_path_factory.mktemp("server"))
    server.start()
    try:
        proxy = serve("--sentinel", server.address, "--masters", "shard-1", ready=False)
        assert eventually(lambda: "it is a server, not a sentinel: name the sentinels' own ports" in proxy.log)
    finally:
        server.stop()


def test_servers_with_names(serve: Serve) -> None:
    """``resolve-hostnames`` and ``announce-hostnames``: the servers are where their names say."""
    options = ("sentinel resolve-hostnames yes", "sentinel announce-hostnames yes")
    with start_watched(1, 1, 1, sentinel_options=options) as watched:
        (sentinel,) = watched.sentinels
        sentinel.ask("SENTINEL", "REMOVE", "shard-1")
        sentinel.ask("SENTINEL", "MONITOR", "shard-1", "localhost", watched.servers[0].port, 1)
        assert _address(sentinel)[0] == b"localhost"
        proxy = serve("--sentinel", sentinel.address, "--masters", "shard-1")
        assert roles(proxy)["shard-1"]["primary"] == [f"localhost:{watched.servers[0].port}"]


def _address(sentinel: LocalSentinel) -> list[bytes]:
    reply = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shard-1")
    assert isinstance(reply, list)
    assert not isinstance(reply, hiredis.ReplyError)
    return reply
