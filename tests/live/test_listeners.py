"""Where clients come in, how many may, and how they leave."""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from proxy.devservers.servers import LOOPBACK, LocalServer, free_port
from proxy.resp import encode
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.site import Site
from tests.support.wire import Wire, pack, wait_until_refused

pytestmark = pytest.mark.live

OK = b"+OK\r\n"


@pytest.mark.smoke
def test_a_unix_socket(site: Site, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    proxy = serve("--static", site.shards.static, listen=f"unix:{path}")
    with Wire(proxy.address) as client:
        assert client.ask("MSET", "a", 1, "b", 2, "c", 3) == OK
        assert client.value("MGET", "a", "b", "c") == [b"1", b"2", b"3"]
        listed = client.value("CLIENT", "LIST")
        assert isinstance(listed, bytes)
        assert f"addr={path}:0 laddr={path}:0 ".encode() in listed
    assert stat.S_ISSOCK(path.stat().st_mode)
    proxy.stop()
    assert not path.exists()


def test_a_unix_socket_that_a_dead_process_left(site: Site, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    first = serve("--static", site.shards.static, listen=f"unix:{path}")
    first.kill()
    assert path.exists()
    second = serve("--static", site.shards.static, listen=f"unix:{path}")
    with Wire(second.address) as client:
        assert client.ask("PING") == b"+PONG\r\n"


def test_several_listeners(site: Site, serve: Serve) -> None:
    second = f"{LOOPBACK}:{free_port()}"
    proxy = serve("--static", site.shards.static, "--listen", second)
    with Wire(proxy.address) as one, Wire(second) as two:
        assert one.ask("SET", "k", 1) == OK
        assert two.value("GET", "k") == b"1"


def test_ipv6(site: Site, serve: Serve) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    proxy = serve("--static", site.shards.static, listen=f"[::1]:{port}")
    with socket.create_connection(("::1", port)) as client:
        client.sendall(pack("CLIENT", "INFO"))
        assert f"laddr=[::1]:{port} ".encode() in client.recv(1000)
    assert proxy.running


def test_servers_behind_unix_sockets(site: Site, serve: Serve) -> None:
    with tempfile.TemporaryDirectory(prefix="slotgate-") as name:  # short: a socket's path has 107 bytes at most
        servers = [
            LocalServer(site.plain.binary, Path(name), options=(f"unixsocket {name}/{number}",)) for number in range(2)
        ]
        try:
            for server in servers:
                server.start()
            proxy = serve("--static", f"unix:{name}/0,unix:{name}/1")
            for protocol in (2, 3):
                with Wire(proxy.address, protocol=protocol) as client:
                    assert client.ask("MSET", "a", 1, "b", 2, "c", 3, "d", 4) == OK
                    assert client.value("MGET", "a", "b", "c", "d") == [b"1", b"2", b"3", b"4"]
            assert {node["address"] for node in proxy.nodes()} == {f"unix:{name}/0", f"unix:{name}/1"}
        finally:
            for server in servers:
                server.kill()


def test_a_taken_port_is_said_in_one_line(site: Site) -> None:
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "proxy", "serve", "--static", site.shards.static),
            *("--listen", site.proxy.address, "--admin", f"{LOOPBACK}:{free_port()}"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    # On a busy machine the log may have a line about that.
    (line,) = [line for line in ended.stderr.splitlines() if " INFO " not in line and " WARNING " not in line]
    assert f"can not listen on {site.proxy.address}" in line


def test_max_clients(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static, config="[limits]\nmax_clients = 3\n")
    clients = [Wire(proxy.address) for _ in range(3)]
    try:
        assert {client.ask("PING") for client in clients} == {b"+PONG\r\n"}
        with Wire(proxy.address) as one_too_many:
            assert one_too_many.rest() == b"-ERR max number of clients reached\r\n"
        assert {client.ask("PING") for client in clients} == {b"+PONG\r\n"}
        clients.pop().close()

        def admitted() -> bool:
            with Wire(proxy.address) as another:
                another.send(pack("QUIT"))
                return another.rest() == OK

        assert eventually(admitted)
    finally:
        for client in clients:
            client.close()
    assert 'slotgate_clients_rejected_total{reason="max clients"}' in proxy.http("/metrics")[1]


def test_limits_of_a_request(site: Site, serve: Serve) -> None:
    limits = "max_bulk = '1kb'\nmax_arguments = 10\nmax_inline = '100b'\nmax_request_size = '3kb'\n"
    proxy = serve("--static", site.shards.static, config=f"[limits]\n{limits}")
    for data, words in (
        (pack("SET", "k", "x" * 1025), b"invalid bulk length"),
        (pack("DEL", *"abcdefghij"), b"invalid multibulk length"),
        (b"x" * 200, b"too big inline request"),
        (pack("MSET", *("x" * 1000 for _ in range(8))), b"too big request"),
    ):
        with Wire(proxy.address) as client:
            client.send(data)
            assert client.rest() == b"-ERR Protocol error: " + words + b"\r\n"
    with Wire(proxy.address) as client:
        assert client.ask("SET", "k", "x" * 1024) == OK
        assert client.value("STRLEN", "k") == 1024


def test_a_reader_that_makes_no_progress_is_closed(site: Site, serve: Serve) -> None:
    """And nobody else is held up by it."""
    limits = "write_timeout = '500ms'\noutput_soft = '64kb'\n"
    proxy = serve("--static", site.shards.static, config=f"[limits]\n{limits}")
    value = b"x" * (16 << 20)
    with Wire(proxy.address) as stuck, Wire(proxy.address) as other:
        assert other.ask("SET", "{t}large", value) == OK
        stuck.send(pack("GET", "{t}large") * 8)
        closed = 'slotgate_clients_rejected_total{reason="write timeout"} 1.0'
        deadline = time.monotonic() + 15
        while closed not in proxy.http("/metrics")[1]:
            assert time.monotonic() < deadline
            assert other.ask("SET", "{t}k", 1) == OK
            assert other.ask("GET", "{t}large") == encode.bulk(value)
        assert len(stuck.rest()) < 8 * len(value)


def test_half_a_request_holds_up_nobody(site: Site) -> None:
    with site.client() as half, site.client() as other:
        half.send(pack("SET", "k", "x" * 100)[:60])
        assert other.ask("SET", "k", 1) == OK
        half.send(pack("SET", "k", "x" * 100)[60:])
        assert half.reply() == OK


def test_a_client_that_leaves_before_its_replies_come(site: Site) -> None:
    """They go to nobody; others get their own."""
    value = b"x" * (8 << 20)
    with site.client() as other:
        assert other.ask("SET", "{t}large", value) == OK
        for _ in range(5):
            with site.client() as leaver:
                leaver.send(pack("GET", "{t}large") * 3 + b"".join(pack("INCR", f"n{n}") for n in range(500)))
            for number in range(50):
                assert other.ask("ECHO", number) == encode.bulk(str(number))
                assert other.ask("SET", f"{{t}}{number}", number) == OK
        assert other.ask("GET", "{t}large") == encode.bulk(value)


def test_a_stopping_proxy_answers_what_it_was_asked(site: Site, serve: Serve) -> None:
    proxy = serve("--static", site.shards.static)
    idle = Wire(proxy.address)
    busy = Wire(proxy.address)
    tags = site.tags()
    try:
        assert idle.ask("PING") == b"+PONG\r\n"
        busy.ask("PING")
        site.shards.primaries[0].pause()
        busy.send(pack("SET", f"{{{tags[0]}}}k", 1) + pack("SET", f"{{{tags[1]}}}k", 1) + pack("DBSIZE"))
        assert busy.silent()
        os.kill(proxy.pid, signal.SIGTERM)
        wait_until_refused(proxy.address)
        assert busy.silent()
        assert proxy.running
        site.shards.primaries[0].resume()
        assert busy.rest() == OK + OK + b":2\r\n"
        assert idle.closed()
    finally:
        site.shards.primaries[0].resume()
        idle.close()
        busy.close()
    proxy.stop()


def test_a_stopping_proxy_waits_for_nobody_for_ever(site: Site, serve: Serve) -> None:
    """A client that does not read its replies is left after ``drain_timeout``."""
    proxy = serve("--static", site.shards.static, config="drain_timeout = '1s'\n")
    with Wire(proxy.address) as stuck:
        assert stuck.ask("SET", "large", b"x" * (16 << 20)) == OK
        stuck.send(pack("GET", "large") * 20)
        time.sleep(0.3)
        began = time.monotonic()
        proxy.stop()
        assert 0.8 < time.monotonic() - began < 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_zero(site: Site, serve: Serve, number: signal.Signals) -> None:
    proxy = serve("--static", site.shards.static)
    os.kill(proxy.pid, number)
    proxy.stop()


def test_many_connections_come_and_go(site: Site) -> None:
    """Connect, ask, close, from several threads at once: what short-lived processes do."""
    failures: list[object] = []

    def come_and_go() -> None:
        try:
            for number in range(50):
                with site.client(2 + number % 2) as client:
                    if client.ask("SET", "k", number) != OK:
                        failures.append(number)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with site.client() as client:
        assert eventually(lambda: client.value("INFO", "clients") is not None and len(clients_of(client)) == 1)


def clients_of(client: Wire) -> list[bytes]:
    """The lines of CLIENT LIST."""
    listed = client.value("CLIENT", "LIST")
    assert isinstance(listed, bytes)
    return listed.splitlines()
