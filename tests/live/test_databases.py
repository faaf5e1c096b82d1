"""SELECT: clients that share the proxy's connections do not see each other's database, and order holds across it."""

import pytest

from tests.support.site import Site
from tests.support.wire import Argument, Wire, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"


def test_clients_do_not_share_a_database(site: Site) -> None:
    clients = [site.client(2 + db % 2) for db in range(16)]
    try:
        for db, client in enumerate(clients):
            assert client.ask("SELECT", db) == OK
        for db, client in enumerate(clients):
            assert client.ask("MSET", "a", db, "b", db, "c", db) == OK
        for db, client in enumerate(clients):
            assert client.value("MGET", "a", "b", "c") == [str(db).encode()] * 3
            assert client.value("DBSIZE") == 3
        assert clients[5].ask("FLUSHDB") == OK
        assert [client.value("DBSIZE") for client in clients] == [3] * 5 + [0] + [3] * 10
    finally:
        for client in clients:
            client.close()
    with site.client() as fresh:
        assert fresh.value("GET", "a") == b"0"


def test_order_across_select_in_one_write(site: Site) -> None:
    commands: list[tuple[Argument, ...]] = []
    expected: list[bytes] = []
    for turn in range(200):
        db = turn % 3
        commands += [("SELECT", db), ("INCR", "n"), ("SET", "who", db), ("GET", "who"), ("MSET", "x", turn, "y", turn)]
        expected += [OK, b":%d\r\n" % (turn // 3 + 1), OK, b"$1\r\n%d\r\n" % db, OK]
    with site.client() as client:
        client.send(pipeline(*commands))
        assert client.replies(len(commands)) == expected


def test_a_read_in_another_database_sees_what_was_written_before(site: Site) -> None:
    """MOVE goes over one connection, the read over another: it must not overtake."""
    with site.client() as client:
        for turn in range(100):
            client.send(
                pipeline(
                    ("SELECT", 0),
                    ("SET", "moving", turn),
                    ("MOVE", "moving", 1),
                    ("SELECT", 1),
                    ("GETDEL", "moving"),
                    ("COPY", "moving", "moving", "DB", 2),
                )
            )
            value = b"$%d\r\n%d\r\n" % (len(str(turn)), turn)
            assert client.replies(6) == [OK, OK, b":1\r\n", OK, value, b":0\r\n"]


def test_order_across_hello_in_one_write(site: Site) -> None:
    with site.client() as client:
        for turn in range(50):
            client.send(
                pipeline(("HELLO", 2), ("HSET", "h", "f", turn), ("HELLO", 3), ("HGETALL", "h"), ("GET", "none"))
                + pipeline(("HELLO", 2), ("HGETALL", "h"), ("GET", "none"))
            )
            replies = client.replies(8)
            value = b"$1\r\nf\r\n$%d\r\n%d\r\n" % (len(str(turn)), turn)
            assert replies[3:5] == [b"%1\r\n" + value, b"_\r\n"]
            assert replies[6:8] == [b"*2\r\n" + value, b"$-1\r\n"]


def test_resp2_and_resp3_side_by_side(site: Site) -> None:
    request = pipeline(("HGETALL", "h"), ("ZSCORE", "z", "m"), ("SMEMBERS", "s"), ("GET", "none"), ("MGET", "a", "b"))
    with site.client(2) as two, site.client(3) as three:
        two.ask("HSET", "h", "f", "v")
        two.ask("ZADD", "z", "1.5", "m")
        two.ask("SADD", "s", "m")
        for _ in range(20):
            two.send(request)
            three.send(request)
            field = b"$1\r\nf\r\n$1\r\nv\r\n"
            assert two.replies(5) == [
                b"*2\r\n" + field, b"$3\r\n1.5\r\n", b"*1\r\n$1\r\nm\r\n", b"$-1\r\n", b"*2\r\n$-1\r\n$-1\r\n",
            ]  # fmt: skip
            assert three.replies(5) == [
                b"%1\r\n" + field, b",1.5\r\n", b"~1\r\n$1\r\nm\r\n", b"_\r\n", b"*2\r\n_\r\n_\r\n",
            ]  # fmt: skip


def test_reset_brings_back_the_first_database_and_protocol(site: Site) -> None:
    with site.client(3) as client:
        client.ask("SELECT", 4)
        client.ask("CLIENT", "SETNAME", "somebody")
        client.ask("SET", "k", 4)
        assert client.ask("RESET") == b"+RESET\r\n"
        assert client.ask("GET", "k") == b"$-1\r\n"
        assert client.ask("CLIENT", "GETNAME") == b"$-1\r\n"


def test_a_script_that_selects_changes_nobodys_database(site: Site) -> None:
    with site.client() as one, site.client() as two:
        assert one.ask("SET", "k", 0) == OK
        assert one.ask("EVAL", "return redis.call('select', 5)", 1, "k") == OK
        assert one.value("GET", "k") == two.value("GET", "k") == b"0"


def test_no_more_databases_than_the_servers_have(site: Site) -> None:
    with site.client() as client:
        assert client.ask("SELECT", 15) == OK
        assert client.ask("SELECT", 16) == b"-ERR DB index is out of range\r\n"
        assert client.ask("SET", "still-in-15", 1) == OK
        assert client.ask("SELECT", 15) == OK
        assert client.ask("EXISTS", "still-in-15") == b":1\r\n"


def test_a_new_database_while_many_requests_wait(site: Site) -> None:
    """The first request in a database opens its connections; what comes behind it waits and keeps its order."""
    with site.client() as client, Wire(site.proxy.address) as other:
        client.send(
            pack("SELECT", 9) + b"".join(pack("RPUSH", "list", number) for number in range(500)) + pack("LLEN", "list")
        )
        assert other.ask("SET", "k", 1) == OK
        assert client.replies(502)[-1] == b":500\r\n"
        assert client.value("LRANGE", "list", 0, -1) == [str(number).encode() for number in range(500)]
