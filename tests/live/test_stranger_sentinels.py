"""Before real sentinels and replicating servers: another's at the address of one of ours redirects nothing."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import hiredis
import pytest

from proxy.devservers.sentinel import start_watched
from proxy.devservers.servers import LocalServer, ServerBinary, start_many
from tests.live.strangers import SentinelStranger, Stranger
from tests.live.test_sentinel import roles
from tests.support.drilled import drilled
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.site import shard_tags
from tests.support.wire import Wire

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

OK = b"+OK\r\n"
KEYS = [f"{{{tag}}}{number}" for tag in shard_tags(2) for number in range(5)]


def until(happened: Callable[[], bool], timeout: float = 40.0) -> None:
    assert eventually(happened, timeout)


def fail_over(sentinel: LocalServer, name: str, replica: LocalServer) -> None:
    """So that the config epoch is higher than that of ours."""
    until(lambda: began(sentinel, name))
    until(
        lambda: (
            sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name) == [replica.host.encode(), b"%d" % replica.port]
        )
    )


def began(sentinel: LocalServer, name: str) -> bool:
    with contextlib.suppress(hiredis.ReplyError):  # it does not know the replica yet
        return sentinel.ask("SENTINEL", "FAILOVER", name) == b"OK"
    return False


@pytest.mark.parametrize("place", [drilled(0), 2])
def test_a_stranger_at_the_address_of_a_sentinel(
    binary: ServerBinary, serve: Serve, tmp_path: Path, place: int
) -> None:
    """It has masters of the same names, with higher epochs. The proxy follows ours, and as fast as before."""
    with (
        start_watched(2, 1, 3, binary=binary, down_after=1.0) as watched,
        start_many(2, 1, binary=binary) as others,
    ):
        proxy = serve("--sentinel", watched.sentinel_addresses, "--masters", watched.masters)
        before = roles(proxy)
        victim = watched.sentinels[place]
        victim.kill()
        stranger = SentinelStranger(tmp_path, victim, dict(zip(watched.names, others.primaries, strict=True)))
        try:
            stranger.start()
            fail_over(stranger, watched.names[0], others.replicas[0][0])
            until(lambda: "sentinel is not believed" in proxy.log)
            with Wire(proxy.address) as client:
                for _ in range(20):
                    assert [client.ask("SET", key, "ours") for key in KEYS] == [OK] * len(KEYS)
                assert roles(proxy) == before
                assert [server.ask("DBSIZE") for server in others.servers] == [0] * 4
                # A proxy that starts now does not believe it either.
                late = serve("--sentinel", watched.sentinel_addresses, "--masters", watched.masters)
                assert roles(late) == before
                name = watched.names[1]
                watched.sentinels[1].ask("SENTINEL", "FAILOVER", name)
                until(lambda: roles(proxy)[name]["primary"] == [watched.groups[1][1].address])
                assert [client.ask("SET", key, "ours") for key in KEYS] == [OK] * len(KEYS)
            assert [server.ask("DBSIZE") for server in others.servers] == [0] * 4
        finally:
            stranger.kill()


@pytest.mark.drill
def test_a_stranger_at_the_address_of_a_replica_whose_roles_are_followed(
    binary: ServerBinary, serve: Serve, tmp_path: Path
) -> None:
    """It says that it is a primary, has a replica, and the shard's own primary dies."""
    with start_many(1, 1, binary=binary) as shards:
        primary, replica = shards.primaries[0], shards.replicas[0][0]
        config = f"""
            [topology]
            discover_replicas = true
            refresh = "1s"
            [[shards]]
            name = "one"
            primary = "{primary.address}"
            replicas = ["{replica.address}"]
        """
        proxy = serve(config=config)
        replica.kill()
        stranger = Stranger(binary, tmp_path, replica)
        follower = LocalServer(binary, tmp_path, replica_of=stranger)
        try:
            stranger.start()
            follower.start()
            follower.wait_link_up()
            with Wire(proxy.address) as client:
                assert client.ask("SET", "key", "ours") == OK
                primary.kill()
                until(lambda: "does not replace it" in proxy.log)
                assert roles(proxy)["one"]["primary"] == [primary.address]
                assert client.ask("SET", "key", "theirs").startswith(b"-")
                primary.start()
                until(lambda: client.ask("SET", "key", "ours") == OK)
            assert stranger.ask("DBSIZE") == 0
        finally:
            follower.kill()
            stranger.kill()
