"""Static shards whose servers change their roles: replicas that come and go, promotions by hand."""

import re
from collections.abc import Iterator

import pytest

from proxy.devservers.servers import LocalServer, LocalShards, ServerBinary, find_server, start_many
from tests.live.counting import Counting
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess
from tests.support.site import commands_seen
from tests.support.wire import Wire

pytestmark = pytest.mark.live

KEYS = [f"key:{number}" for number in range(4)]


@pytest.fixture
def shards() -> Iterator[LocalShards]:
    """One shard with two replicas."""
    with start_many(1, 2, binary=find_server()) as running:
        yield running


def discovering(*servers: LocalServer, refresh: str = "500ms", head: str = "") -> str:
    """A configuration of one shard: its primary, and the replicas that are named."""
    primary, *replicas = [server.address for server in servers]
    return f"""
        {head}
        [topology]
        discover_replicas = true
        refresh = "{refresh}"
        [[shards]]
        primary = "{primary}"
        replicas = {replicas!r}
    """


def nodes(proxy: ProxyProcess) -> tuple[str, set[str]]:
    """The primary's address and those of the replicas, as /topology has them."""
    roles = {node["address"]: node["role"] for node in proxy.nodes()}
    (primary,) = [address for address, role in roles.items() if role == "primary"]
    return primary, set(roles) - {primary}


def becomes(proxy: ProxyProcess, primary: LocalServer, *replicas: LocalServer) -> bool:
    """Whether the topology comes to be this."""
    return eventually(lambda: nodes(proxy) == (primary.address, {server.address for server in replicas}))


def follow(server: LocalServer, primary: LocalServer) -> None:
    """REPLICAOF, until it has the primary's data."""
    server.ask("REPLICAOF", primary.host, primary.port)
    server.wait_link_up()


def test_replicas_are_found_and_read_from(shards: LocalShards, serve: Serve) -> None:
    (primary,), ((one, two),) = shards.primaries, shards.replicas
    proxy = serve(config=discovering(primary, head='read_from = "replica"'))
    assert becomes(proxy, primary, one, two)
    with Wire(primary.address) as client:
        client.ask("SET", "k", "v")
        assert client.value("WAIT", 2, 1000) == 2
    for server in (one, two):
        server.ask("CONFIG", "RESETSTAT")
    # Clients that were there before the replicas were known go to them as well.
    assert eventually(lambda: all(node["connected"] for node in proxy.nodes()))
    for _ in range(12):
        with Wire(proxy.address) as client:
            assert client.value("GET", "k") == b"v"
    assert commands_seen(one)["get"] + commands_seen(two)["get"] == 12
    two.ask("REPLICAOF", "NO", "ONE")
    assert becomes(proxy, primary, one)
    follow(two, primary)
    assert becomes(proxy, primary, one, two)


@pytest.mark.drill
def test_failover(binary: ServerBinary, serve: Serve) -> None:
    """Redis's own, which hands over without losing a write: to a replica that nobody named, and back."""
    with start_many(1, 2, binary=binary) as shards:
        (primary,), ((one, two),) = shards.primaries, shards.replicas
        # Far from now: it is looked at because a server says that it is a replica.
        proxy = serve(config=discovering(primary, refresh="10m"))
        with Counting(proxy.address, KEYS) as load:
            load.wait()
            primary.ask("FAILOVER", "TO", one.host, one.port)
            assert eventually(lambda: nodes(proxy)[0] == one.address)
            follow(two, one)
            load.wait()
            one.ask("FAILOVER")
            assert eventually(lambda: nodes(proxy)[0] in (primary.address, two.address))
            load.wait()
        assert not load.errors
        assert not load.wrong
        assert load.longest < 5


def test_a_replica_is_promoted_when_the_primary_is_dead(shards: LocalShards, serve: Serve) -> None:
    (primary,), ((one, two),) = shards.primaries, shards.replicas
    proxy = serve(config=discovering(primary))
    assert becomes(proxy, primary, one, two)
    with Counting(proxy.address, KEYS) as load:
        load.wait()
        primary.kill()
        one.ask("REPLICAOF", "NO", "ONE")
        follow(two, one)
        assert becomes(proxy, one, primary, two)  # the one that is configured may come back
        load.wait()
        # It does, and knows nothing.
        primary.start()
        assert becomes(proxy, one, two)
        load.wait()
        follow(primary, one)
        assert becomes(proxy, one, primary, two)
        load.wait()
    assert len(load.errors) <= len(KEYS)
    assert all(re.match(rf"UNCERTAIN shard 'shard-1' \({primary.address}\)", error) for error in load.errors)
    assert proxy.log.count("failover shard=shard-1") == 1


def test_roles_are_swapped_by_hand(shards: LocalShards, serve: Serve) -> None:
    """As before Redis 6.2: for a moment there are two primaries, then the old one is told."""
    (primary,), ((one, two),) = shards.primaries, shards.replicas
    proxy = serve(config=discovering(primary, one))
    with Counting(proxy.address, KEYS) as load:
        load.wait()
        one.ask("REPLICAOF", "NO", "ONE")
        primary.ask("REPLICAOF", one.host, one.port)
        two.ask("REPLICAOF", one.host, one.port)
        assert becomes(proxy, one, primary, two)
        load.wait()
    assert not load.errors


def test_a_replica_that_is_detached_is_not_promoted(shards: LocalShards, serve: Serve) -> None:
    (primary,), ((one, two),) = shards.primaries, shards.replicas
    proxy = serve(config=discovering(primary, one))
    one.ask("REPLICAOF", "NO", "ONE")
    assert becomes(proxy, primary, two)
    primary.kill()
    words = f"shard=shard-1 has lost its primary {primary.address}, and {one.address} does not replace it"
    assert eventually(lambda: words in proxy.log)
    assert nodes(proxy)[0] == primary.address
    follow(two, one)
    assert becomes(proxy, one, primary, two)


def test_the_primary_is_a_replica_at_the_start(shards: LocalShards, serve: Serve) -> None:
    """The file is older than the last failover."""
    (primary,), ((one, two),) = shards.primaries, shards.replicas
    proxy = serve(config=discovering(two))
    assert becomes(proxy, primary, one, two)
    with Wire(proxy.address) as client:
        assert client.ask("SET", "k", "v") == b"+OK\r\n"
    assert primary.ask("GET", "k") == b"v"


def test_a_replica_moves_to_another_shard(serve: Serve) -> None:
    with start_many(2, 1, binary=find_server()) as shards:
        (first, second), ((one,), (two,)) = shards.primaries, shards.replicas
        config = f"""
            [topology]
            discover_replicas = true
            refresh = "300ms"
            [[shards]]
            name = "first"
            primary = "{first.address}"
            replicas = ["{one.address}"]
            [[shards]]
            name = "second"
            primary = "{second.address}"
        """
        proxy = serve(config=config)

        def replicas() -> dict[str, set[str]]:
            return {
                shard["name"]: {node["address"] for node in shard["nodes"] if node["role"] == "replica"}
                for shard in proxy.topology()
            }

        assert eventually(lambda: replicas() == {"first": {one.address}, "second": {two.address}})
        one.ask("REPLICAOF", second.host, second.port)
        assert eventually(lambda: replicas() == {"first": set(), "second": {one.address, two.address}})
        # A primary that is made a replica of another shard's is no shard's primary: its slots wait for the operator.
        first.ask("REPLICAOF", second.host, second.port)
        words = f"shard=first follows {second.address}, the primary of another shard"
        assert eventually(lambda: words in proxy.log)
        assert [shard["nodes"][0]["address"] for shard in proxy.topology()] == [first.address, second.address]
        first.ask("REPLICAOF", "NO", "ONE")
        assert eventually(lambda: replicas() == {"first": set(), "second": {one.address, two.address}})
