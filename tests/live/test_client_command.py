"""CLIENT: about the proxy's own clients, as Redis is about its own."""

import time
from collections.abc import Iterator

import pytest

from tests.live.client_lists import fields, listed
from tests.support.processes import eventually
from tests.support.site import Site
from tests.support.wire import Wire, decode, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"


@pytest.fixture
def pair(site: Site) -> Iterator[tuple[Wire, Wire]]:
    """Two clients of the proxy."""
    with site.client() as one, site.client() as two:
        yield one, two
        one.send(pack("CLIENT", "UNPAUSE"))


def test_ids(pair: tuple[Wire, Wire]) -> None:
    one, two = pair
    first, second = one.value("CLIENT", "ID"), two.value("CLIENT", "ID")
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert 0 < first < second
    assert one.value("CLIENT", "ID") == first


def test_who_asks_is_not_idle(site: Site) -> None:
    with site.client() as client, site.direct() as plain:
        for each in (client, plain):
            each.ask("PING")
        time.sleep(1.1)
        for each in (client, plain):
            (own,) = fields(each.value("CLIENT", "INFO"))
            # A server notes the time of a request up to 100 ms late: at the turn of a second it says 1.
            assert own["idle"] in (["0"] if each is client else ["0", "1"])


def test_list_and_info(site: Site, pair: tuple[Wire, Wire]) -> None:
    one, two = pair
    one.ask("CLIENT", "SETNAME", "first")
    two.ask("HELLO", 3, "SETNAME", "second")
    two.ask("SELECT", 7)
    two.ask("CLIENT", "SETINFO", "LIB-NAME", "a-library")
    two.ask("CLIENT", "SETINFO", "LIB-VER", "1.2")
    two.ask("CLIENT", "NO-EVICT", "on")
    two.ask("GET", "k")
    rows = {row["name"]: row for row in listed(one)}
    assert set(rows) == {"first", "second"}
    second = rows["second"]
    assert second["addr"] == "{}:{}".format(*two.socket.getsockname())
    assert second["laddr"] == site.proxy.address
    assert (second["db"], second["resp"], second["user"]) == ("7", "3", "default")
    # Redis has them from 7.2 on.
    assert (second.get("lib-name"), second.get("lib-ver")) in [("a-library", "1.2"), (None, None)]
    assert second["cmd"] == "get"
    assert "e" in second["flags"]
    assert rows["first"]["cmd"] == "client|list"
    assert int(rows["first"]["age"]) < 60
    (own,) = fields(one.value("CLIENT", "INFO"))
    assert (own["id"], own["name"]) == (rows["first"]["id"], "first")
    # A server's own fields are all there, in its order, so that tools which parse them are content.
    (expected,) = fields(site.plain.ask("CLIENT", "LIST"))
    assert list(own) == list(expected)


def test_sizes_of_buffers(site: Site, pair: tuple[Wire, Wire]) -> None:
    """As the server counts them, where it has such buffers; the rest are estimates."""
    one, two = pair
    asked = ("CLIENT", "LIST")
    own, direct = listed(one)[0], fields(site.plain.ask(*asked))[0]
    assert own["argv-mem"] == direct["argv-mem"] == "10"
    assert own["qbuf"] == "26"  # so in Redis; Valkey has let go of it by then
    assert int(own["rbs"]) >= 1024
    assert int(own["tot-mem"]) > 1024
    two.ask("MULTI")
    two.ask("SET", "k", "x" * 1000)
    two.send(pack("SET", "k", "y" * 5000)[:3000])

    def waits() -> bool:
        row = listed(one, "ID", str(number))[0]
        return int(row["qbuf"]) == 3000 and int(row["multi-mem"]) > 1000 and int(row["tot-mem"]) > 5000

    number = listed(one)[1]["id"]
    assert eventually(waits)
    (row,) = fields(one.value("CLIENT", "INFO"))
    assert row["argv-mem"] == "10"


def test_list_of_some(pair: tuple[Wire, Wire]) -> None:
    one, two = pair
    ids = [client.value("CLIENT", "ID") for client in pair]
    assert [row["id"] for row in listed(one, "ID", str(ids[1]), 999_999_999)] == [str(ids[1])]
    assert [row["id"] for row in listed(two, "TYPE", "normal")] == [str(number) for number in ids]
    assert listed(two, "TYPE", "pubsub") == []


def test_kill_by_id_and_address(site: Site) -> None:
    with site.client() as killer:
        for old in (True, False):
            with site.client() as victim:
                assert victim.ask("PING") == b"+PONG\r\n"
                address = "{}:{}".format(*victim.socket.getsockname())
                if old:
                    assert killer.ask("CLIENT", "KILL", address) == OK
                else:
                    assert killer.value("CLIENT", "KILL", "ADDR", address) == 1
                assert victim.closed()
        with site.client() as victim:
            number = victim.value("CLIENT", "ID")
            assert isinstance(number, int)
            assert killer.value("CLIENT", "KILL", "ID", number) == 1
            assert victim.closed()
        assert len(listed(killer)) == 1


def test_kill_all_others(site: Site) -> None:
    clients = [site.client() for _ in range(5)]
    try:
        assert {client.ask("PING") for client in clients} == {b"+PONG\r\n"}
        assert clients[0].value("CLIENT", "KILL", "TYPE", "normal") == 4
        assert all(client.closed() for client in clients[1:])
        assert clients[0].ask("PING") == b"+PONG\r\n"
        assert clients[0].value("CLIENT", "KILL", "LADDR", site.proxy.address, "SKIPME", "no") == 1
        assert clients[0].closed()
    finally:
        for client in clients:
            client.close()


def test_a_killed_client_gets_nothing_more(pair: tuple[Wire, Wire]) -> None:
    """What it had in flight is carried out or not, but nobody else gets its replies."""
    killer, victim = pair
    number = victim.value("CLIENT", "ID")
    assert isinstance(number, int)
    victim.send(b"".join(pack("INCR", f"k{n}") for n in range(1000)))
    assert killer.value("CLIENT", "KILL", "ID", number) == 1
    for n in range(100):
        assert killer.ask("ECHO", n) == pack(n)[4:]
        assert killer.ask("SET", f"mine{n}", n) == OK


def test_kill_by_age(site: Site, pair: tuple[Wire, Wire]) -> None:
    killer, _ = pair
    assert killer.value("CLIENT", "KILL", "MAXAGE", 3600) == 0


def test_reply_off_and_on(pair: tuple[Wire, Wire]) -> None:
    one, two = pair
    one.send(
        pipeline(
            ("SET", "k", 1),
            ("CLIENT", "REPLY", "OFF"),
            ("INCR", "k"),
            ("MSET", "a", 1, "b", 2, "c", 3),
            ("NOSUCH",),
            ("GET",),
            ("PING",),
            ("DBSIZE",),
            ("INCR", "k"),
            ("CLIENT", "REPLY", "ON"),
            ("GET", "k"),
            ("MGET", "a", "b", "c"),
        )
    )
    assert one.replies(4) == [OK, OK, b"$1\r\n3\r\n", b"*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"]
    assert one.silent()
    assert two.ask("PING") == b"+PONG\r\n"


@pytest.mark.parametrize(
    "skipped",
    ["INCR k", "PING", "MSET a 1 b 2 c 3", "NOSUCH", "GET", "DBSIZE", "GET large"],
)
def test_reply_skip_leaves_out_one(site: Site, skipped: str) -> None:
    with site.direct() as server, site.client() as proxy:
        for client in (server, proxy):
            client.ask("SET", "large", "x" * 300_000)
            client.send(pipeline(("CLIENT", "REPLY", "SKIP"), tuple(skipped.split()), ("ECHO", "next"), ("GET", "k")))
        assert proxy.replies(2) == server.replies(2)
        assert proxy.silent()


def test_reply_modes_as_the_server(site: Site) -> None:
    """OFF wins over SKIP, ON ends both, SKIP behind SKIP, an error in between."""
    request = pipeline(
        ("CLIENT", "REPLY", "SKIP"),
        ("CLIENT", "REPLY", "SKIP"),
        ("ECHO", 1),
        ("ECHO", 2),
        ("CLIENT", "REPLY", "OFF"),
        ("CLIENT", "REPLY", "SKIP"),
        ("ECHO", 3),
        ("ECHO", 4),
        ("CLIENT", "REPLY", "WHAT"),
        ("CLIENT", "REPLY", "ON"),
        ("ECHO", 5),
        ("CLIENT", "REPLY", "SKIP"),
        ("CLIENT", "REPLY", "ON"),
        ("ECHO", 6),
        ("CLIENT", "REPLY", "SKIP"),
        ("CLIENT", "REPLY", "WHAT"),
        ("ECHO", 7),
        ("CLIENT", "REPLY", "OFF"),
        ("RESET",),
        ("ECHO", 8),
        ("QUIT",),
    )
    with site.direct() as server, site.client() as proxy:
        server.send(request)
        proxy.send(request)
        assert proxy.rest() == server.rest()


@pytest.mark.parametrize("empty", [b"\r\n", b"*0\r\n", b"*-1\r\n"])
def test_an_empty_request_uses_up_a_skip(site: Site, empty: bytes) -> None:
    request = pack("CLIENT", "REPLY", "SKIP") + empty + pipeline(("ECHO", 1), ("ECHO", 2), ("QUIT",))
    with site.direct() as server, site.client() as proxy:
        server.send(request)
        proxy.send(request)
        assert proxy.rest() == server.rest()


def test_pause_holds_everybody(pair: tuple[Wire, Wire]) -> None:
    one, two = pair
    assert one.ask("CLIENT", "PAUSE", 60_000) == OK
    two.send(pack("GET", "k") + pack("PING"))
    assert two.silent()
    assert one.ask("CLIENT", "UNPAUSE") == OK
    assert two.replies(2) == [b"$-1\r\n", b"+PONG\r\n"]


def test_pause_of_writes_lets_reads_through(pair: tuple[Wire, Wire]) -> None:
    one, two = pair
    assert one.ask("CLIENT", "PAUSE", 60_000, "WRITE") == OK
    assert two.ask("GET", "k") == b"$-1\r\n"
    assert two.ask("MGET", "a", "b") == b"*2\r\n$-1\r\n$-1\r\n"
    assert two.ask("PING") == b"+PONG\r\n"
    two.send(pack("SET", "k", 1) + pack("GET", "k"))
    assert two.silent()
    assert one.ask("GET", "k") == b"$-1\r\n"
    assert one.ask("CLIENT", "UNPAUSE") == OK
    assert two.replies(2) == [OK, b"$1\r\n1\r\n"]


def test_pause_ends_by_itself(pair: tuple[Wire, Wire]) -> None:
    one, two = pair
    began = time.monotonic()
    assert one.ask("CLIENT", "PAUSE", 300) == OK
    assert two.ask("SET", "k", 1) == OK
    assert time.monotonic() - began > 0.25


def test_a_client_that_leaves_during_a_pause(site: Site, pair: tuple[Wire, Wire]) -> None:
    one, two = pair
    assert one.ask("CLIENT", "PAUSE", 60_000) == OK
    two.send(pack("SET", "left", 1))
    two.close()
    assert one.ask("CLIENT", "UNPAUSE") == OK
    assert one.ask("PING") == b"+PONG\r\n"


def test_who_does_not_track(pair: tuple[Wire, Wire]) -> None:
    one, _ = pair
    assert one.value("CLIENT", "GETREDIR") == -1
    assert decode(one.ask("CLIENT", "TRACKINGINFO")) == [b"flags", [b"off"], b"redirect", -1, b"prefixes", []]
