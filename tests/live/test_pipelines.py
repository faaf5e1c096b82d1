"""Many requests at once, from one client and from many."""

import socket
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.resp import encode
from tests.live.mixed_pipeline import check_order, check_pipeline
from tests.support.fixtures import Serve
from tests.support.site import Site, shard_of
from tests.support.wire import Wire, pack

pytestmark = pytest.mark.live

MB = 1 << 20


@pytest.mark.smoke
def test_ten_thousand_commands_in_one_write(site: Site) -> None:
    check_pipeline(site, 10_000)


def test_more_commands_than_may_be_in_flight(site: Site) -> None:
    check_pipeline(site, 40_000)


@pytest.mark.smoke
def test_order_over_several_connections_to_each_server(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config="[backend]\nconnections_per_node = 3\n")
    for _ in range(4):
        with Wire(proxy.address) as client:
            check_order(client, 3000)


def test_replies_larger_than_what_may_wait_for_a_client(site: Site) -> None:
    """A client that sends everything before it reads anything is stopped, not closed, and gets everything."""
    value = b"v" * MB
    commands = 100
    with site.client() as client:
        assert client.ask("SET", "large", value) == b"+OK\r\n"
        client.send(pack("GET", "large") * commands)
        time.sleep(0.3)
        assert set(client.replies(commands)) == {encode.bulk(value)}


def test_two_hundred_clients(site: Site) -> None:
    clients = [site.client(2 + number % 2) for number in range(200)]
    try:
        for turn in range(10):
            for number, client in enumerate(clients):
                keys = [f"client:{number}:{letter}" for letter in "abc"]
                client.send(
                    pack("SET", keys[0], turn)
                    + pack("INCR", f"count:{number}")
                    + pack("MSET", keys[1], turn, keys[2], number)
                    + pack("MGET", *keys)
                    + pack("INCR", "everybody")
                )
            for number, client in enumerate(clients):
                *replies, everybody = client.replies(5)
                assert replies == [
                    b"+OK\r\n",
                    encode.integer(turn + 1),
                    b"+OK\r\n",
                    encode.array(map(encode.bulk, (str(turn), str(turn), str(number)))),
                ]
                assert everybody.startswith(b":")
        assert clients[0].value("GET", "everybody") == b"2000"
    finally:
        for client in clients:
            client.close()


def test_a_client_in_a_hurry(site: Site) -> None:
    """What a client sends before it closes its side is answered."""
    with site.client() as client:
        client.send(b"".join(pack("INCR", f"n{number}") for number in range(1000)))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest() == b":1\r\n" * 1000


ODD = (
    b"*2\r\n$3\r\nGET\r\n$1\r\nkXX",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nvXX",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n*v1\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nkXX$1\r\nv\r\n",
    b"*2\r\n$3\r\nGETXX$1\r\nk\r\n",
    b"*2\rX$3\r\nGET\r\n$1\r\nk\r\n",
    b"*2\r\n$3\rXGET\r\n$1\r\nk\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\rXk\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\rXv\r\n",
    b"*3\r\n$4\r\nMGET\r\n$1\r\naXX$1\r\nb\r\n",
    b"*4\r\n$4\r\nEVAL\r\n$8\r\nreturn 1XX$1\r\n1\r\n$1\r\nk\r\n",
    b"*2\r\n$3\r\nDEL\r\n$-1\r\n",
    b"*1\r\n*1\r\n$4\r\nPING\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n:5\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$01\r\nv\r\n",
    b"*3\r\n$3\r\nSET\r\n$01\r\nk\r\n$1\r\nv\r\n",
    b"*03\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
)


@pytest.mark.parametrize("odd", ODD)
def test_nothing_a_client_sends_reaches_a_server_as_bad_bytes(site: Site, odd: bytes) -> None:
    """A server closes a connection on which it can not read; others share it."""
    before = lost_connections(site)
    with site.client() as victim:
        for _ in range(10):
            victim.send(b"".join(pack("INCR", f"n{number}") for number in range(50)))
            with site.client() as attacker:
                attacker.send(odd + pack("QUIT"))
                attacker.rest()
            assert all(reply.startswith(b":") for reply in victim.replies(50))
    assert all(count <= before.get(connection, 0) for connection, count in lost_connections(site).items())


def lost_connections(site: Site) -> dict[str, float]:
    """How often the proxy has lost which connection to a server; what nobody uses any more is closed, and not here."""
    families = parse_text(site.proxy.http("/metrics")[1])
    samples = [sample for family in families for sample in family.samples]
    return {str(each.labels): each.value for each in samples if each.name == "slotgate_backend_reconnects_total"}


@pytest.mark.parametrize("command", ["SET", "set", "SeT"])
def test_keys_and_values_of_every_length(site: Site, command: str) -> None:
    """Lengths of one, two, three and more digits; all in one write, and each key lies in its shard."""
    lengths = [*range(120), 998, 999, 1000, 1001, 9999, 10_000]
    keys = [bytes(33 + (length + at) % 90 for at in range(length)) for length in lengths]
    with site.client() as client:
        client.send(b"".join(pack(command, key, key[::-1]) + pack("GET", key) for key in keys))
        assert client.replies(2 * len(keys)) == [
            reply for key in keys for reply in (b"+OK\r\n", encode.bulk(key[::-1]))
        ]
        assert client.value("DBSIZE") == len(keys)
    for number, server in enumerate(site.shards.primaries):
        listed = server.ask("KEYS", "*")
        assert isinstance(listed, list)
        assert sorted(listed) == sorted(key for key in keys if shard_of(key) == number)
