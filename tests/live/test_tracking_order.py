"""CLIENT TRACKING: what a client hears of its own doing, and what servers count of it."""

import contextlib
from collections.abc import Iterator

import pytest

from proxy.devservers.servers import LocalServer
from tests.live.test_tracking import NOTHING, OK, invalidation, tracking
from tests.support.site import Site, shard_tags
from tests.support.wire import Wire, pipeline

pytestmark = pytest.mark.live

KEYS = tuple(f"{{{tag}}}k" for tag in shard_tags())
"""One of each shard."""


@contextlib.contextmanager
def nearly_full(server: LocalServer) -> Iterator[None]:
    """It may have 100 kB more, and then evicts what will expire."""
    used = int(server.info("memory")["used_memory"]) + 100 * 1024
    with Wire(server.address) as wire:
        assert wire.ask("CONFIG", "SET", "maxmemory-policy", "volatile-random") == OK
        assert wire.ask("CONFIG", "SET", "maxmemory", used) == OK
        try:
            yield
        finally:
            assert wire.ask("CONFIG", "SET", "maxmemory", 0) == OK
            assert wire.ask("CONFIG", "SET", "maxmemory-policy", "noeviction") == OK


@pytest.mark.parametrize("piped", [False, True])
def test_what_is_evicted_by_a_command_is_said_before_its_reply(site: Site, piped: bool) -> None:
    """As the server does: only what the command itself changes is said behind it."""
    for server, key in zip(site.shards.primaries, KEYS, strict=True):
        with tracking(site) as client, nearly_full(server):
            assert client.ask("SETEX", f"{key}1", 10000, "x") == OK
            assert client.ask("GET", f"{key}1") == b"$1\r\nx\r\n"
            big = f"{key}2"
            if piped:
                client.send(pipeline(("SETBIT", big, 1600000, 0), ("GETBIT", big, 0), ("GET", f"{key}1")))
                assert client.replies(4) == [b":0\r\n", invalidation(f"{key}1"), b":0\r\n", b"_\r\n"]
            else:
                assert client.ask("SETBIT", big, 1600000, 0) == b":0\r\n"
                assert client.ask("GETBIT", big, 0) == invalidation(f"{key}1")
                assert client.reply() == b":0\r\n"
            assert client.ask("DEL", big) == b":1\r\n"


def counted(site: Site) -> list[tuple[str, str]]:
    """How many clients each server tells of keys, and of how many beginnings."""
    infos = [server.info("all") for server in site.shards.primaries]
    return [(info["tracking_clients"], info["tracking_total_prefixes"]) for info in infos]


def test_servers_count_each_client_once(site: Site) -> None:
    """Whatever protocol and database it has had; and not at all once CLIENT TRACKING OFF is answered."""
    with tracking(site, "BCAST", "PREFIX", "a") as client, tracking(site) as other:
        for asked in ("HELLO 2", "SELECT 1", "HELLO 3", "SELECT 0", "CLIENT TRACKING ON BCAST PREFIX b"):
            assert not client.ask(*asked.split()).startswith(b"-")
            assert counted(site)[0][0] == "2"
        assert counted(site) == [("2", "2")] * 3
        assert client.ask("CLIENT", "TRACKING", "OFF") == OK
        assert counted(site) == [("1", "0")] * 3
        assert other.ask("CLIENT", "TRACKING", "OFF") == OK
        assert counted(site) == [("0", "0")] * 3


@pytest.mark.parametrize("bcast", [False, True])
def test_all_is_gone_of_every_shard(site: Site, bcast: bool) -> None:
    """FLUSHALL, said by three servers, is one word; from the client itself too, behind its reply."""
    with tracking(site, *["BCAST"][: int(bcast)]) as client, site.client() as writer:
        assert client.ask("MGET", *KEYS) == b"*3\r\n_\r\n_\r\n_\r\n"
        assert writer.ask("FLUSHALL") == OK
        assert client.reply() == NOTHING
        assert client.silent()
        assert client.ask("FLUSHALL") == OK
        assert client.reply() == NOTHING
        assert client.silent()


def test_changes_of_every_shard_are_said_once(site: Site) -> None:
    """To a client that has had every protocol and two databases."""
    with tracking(site, "BCAST") as client, site.client() as writer:
        for asked in ("HELLO 2", "SELECT 1", "HELLO 3", "GET x", "SELECT 0", "HELLO 2", "GET x", "HELLO 3"):
            client.ask(*asked.split())
        for key in KEYS:
            assert writer.ask("SET", key, 1) == OK
            assert client.reply() == invalidation(key)
        assert client.silent()
        assert client.ask("MGET", *KEYS) == b"*3\r\n" + b"$1\r\n1\r\n" * 3


def test_a_pipeline_over_databases_and_protocols(site: Site) -> None:
    """Each request is answered in the database and the protocol that it was sent in."""
    with tracking(site, "BCAST", "PREFIX", "none") as client:
        key = KEYS[1]
        client.send(
            pipeline(
                ("SET", key, 0), ("SELECT", 1), ("SET", key, 1), ("HELLO", 2), ("GET", key), ("GET", KEYS[2]),
                ("SELECT", 0), ("GET", key), ("MGET", *KEYS), ("HELLO", 3), ("GET", key), ("GET", KEYS[2]),
            )
        )  # fmt: skip
        said = client.replies(12)
        assert said[:3] == [OK, OK, OK]
        assert said[4:9] == [b"$1\r\n1\r\n", b"$-1\r\n", OK, b"$1\r\n0\r\n", b"*3\r\n$-1\r\n$1\r\n0\r\n$-1\r\n"]
        assert said[10:] == [b"$1\r\n0\r\n", b"_\r\n"]


def test_a_new_connection_has_its_client_s_database_and_protocol(site: Site) -> None:
    key = KEYS[1]
    with site.client(3) as client, site.client() as writer:
        assert client.ask("SELECT", 1) == client.ask("SET", key, 1) == OK
        assert client.ask("CLIENT", "TRACKING", "ON", "OPTOUT") == OK
        for asked, value, none in (
            ("HELLO 2", 1, b"$-1\r\n"),
            ("SELECT 0", None, b"$-1\r\n"),
            ("HELLO 3", None, b"_\r\n"),
        ):
            assert not client.ask(*asked.split()).startswith(b"-")
            for server in site.shards.primaries:
                with Wire(server.address) as direct:
                    assert direct.ask("CLIENT", "KILL", "TYPE", "normal")[:1] == b":"
            said = client.ask("GET", key)
            while said == NOTHING:
                said = client.reply()
            assert said == (none if value is None else b"$1\r\n1\r\n")
        assert writer.ask("SET", key, 2) == OK
        said = client.reply()
        while said == NOTHING:
            said = client.reply()
        assert said == invalidation(key)
