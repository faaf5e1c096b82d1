"""How many clients an address may have, and how often it may connect."""

import contextlib
import time

import pytest

from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import metric
from tests.support.site import Site
from tests.support.wire import Wire

pytestmark = pytest.mark.live

PONG = b"+PONG\r\n"
REJECTED = "slotgate_clients_rejected_total"


def test_clients_of_one_address(site: Site, serve: Serve, crowd: contextlib.ExitStack) -> None:
    proxy = serve("--static", site.shards.static, config="[limits]\nmax_clients_per_address = 5\n")
    refused = b"-ERR max number of clients reached for address 127.0.0.1 (limits.max_clients_per_address = 5)\r\n"
    inside = [crowd.enter_context(Wire(proxy.address)) for _ in range(5)]
    assert all(client.ask("PING") == PONG for client in inside)
    for _ in range(3):
        with Wire(proxy.address) as client:
            assert client.reply() == refused
            assert client.closed()
    assert metric(proxy, REJECTED, reason="address limit") == 3
    inside[0].close()

    def let_in() -> bool:
        with Wire(proxy.address) as client, contextlib.suppress(ConnectionError):
            return client.ask("PING") == PONG
        return False

    assert eventually(let_in)
    assert all(client.ask("PING") == PONG for client in inside[1:])


def test_unix_sockets_have_no_address(
    site: Site, serve: Serve, crowd: contextlib.ExitStack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("s") / "s"
    config = "[limits]\nmax_clients_per_address = 1\nmax_connection_rate = 1\n"
    proxy = serve("--static", site.shards.static, config=config, listen=f"unix:{path}")
    inside = [crowd.enter_context(Wire(proxy.address)) for _ in range(5)]
    assert all(client.ask("PING") == PONG for client in inside)


def test_new_connections_a_second(site: Site, serve: Serve, crowd: contextlib.ExitStack) -> None:
    proxy = serve("--static", site.shards.static, config="[limits]\nmax_connection_rate = 10\n")
    began = time.monotonic()
    clients = [crowd.enter_context(Wire(proxy.address)) for _ in range(60)]
    answers = []
    for client in clients:
        try:
            answers.append(client.ask("PING"))
        except ConnectionError:
            answers.append(b"")  # its request came after it was closed, and the system dropped the error
    allowed = 10 + 10 * (time.monotonic() - began) + 1
    assert 10 <= answers.count(PONG) <= allowed
    refused = {answer for answer in answers if answer not in (PONG, b"")}
    assert refused <= {
        b"-ERR too many new connections from 127.0.0.1: over limits.max_connection_rate = 10 a second\r\n"
    }
    assert metric(proxy, REJECTED, reason="connection rate") == 60 - answers.count(PONG)
    time.sleep(1.1)
    with Wire(proxy.address) as client:
        assert client.ask("PING") == PONG
