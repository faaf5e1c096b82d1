"""Behind a balancer that tells who its clients are, by the PROXY protocol, and in front of servers that expect it."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from proxy.client import admission
from proxy.devservers.servers import LOOPBACK, free_port
from tests.live.test_connection_limits import PONG, REJECTED
from tests.live.test_protected_mode import network_host  # noqa: F401 - a fixture
from tests.support import proxy_headers as make
from tests.support.certificates import Authority
from tests.support.fixtures import Serve
from tests.support.haproxy import HAProxy
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess, metric
from tests.support.site import Site
from tests.support.wire import Wire, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
CLIENT = "127.0.0.77"
"""An address that no balancer has."""
OPEN = "protected_mode = false\n"
ADMIN = '[[users]]\nname = "default"\nnopass = true\nadmin = true\n'
USERS = """
[[users]]
name = "default"
nopass = true

[[users]]
name = "app"
password = "of-app"
rules = "on ~* +@all -@dangerous +client"
"""


class Behind:
    """A proxy whose listener takes the header, and who is trusted."""

    def __init__(self, site: Site, serve: Serve) -> None:
        self._site = site
        self._serve = serve

    def __call__(
        self,
        *arguments: str,
        config: str = "",
        listener: str = "",
        listen: str = "",
        trusted: str = '"127.0.0.1"',
    ) -> ProxyProcess:
        where = listen or f"{LOOPBACK}:{free_port()}"
        text = (
            f"trusted_proxies = [{trusted}]\n{config}\n"
            f'[[listeners]]\naddress = "{where}"\nproxy_protocol = true\n{listener}\n'
        )
        return self._serve("--static", self._site.shards.static, *arguments, config=text, listen=where, listeners=True)


@pytest.fixture
def behind(site: Site, serve: Serve) -> Behind:
    return Behind(site, serve)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def fields(line: bytes) -> dict[str, str]:
    """The fields of a line of CLIENT LIST."""
    text = line.decode().split("\r\n", 1)[-1]
    return dict(field.partition("=")[::2] for field in text.split() if "=" in field)


def raw(proxy: ProxyProcess, *pieces: bytes) -> bytes:
    """What is answered to ``pieces`` on a new connection until it is closed."""
    host, _, port = proxy.address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as end:
        with contextlib.suppress(OSError):
            for piece in pieces:
                end.sendall(piece)
                time.sleep(0.01)
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while more := end.recv(4096):
                data += more
        return data


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("options", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c"])
def test_the_clients_address(
    behind: Behind, tmp_path: Path, stack: contextlib.ExitStack, options: str, workers: str
) -> None:
    """In every place where addresses are shown; and by which clients are closed."""
    proxy = behind("--workers", workers, config=ADMIN)
    front = stack.enter_context(HAProxy(tmp_path, proxy.address, options).running())
    with Wire(front.address, source=CLIENT) as client, Wire(front.address) as other, Wire(front.address) as watching:
        watching.send(pack("MONITOR"))
        assert watching.reply() == OK
        mine = "{}:{}".format(*client.socket.getsockname())
        shown = fields(client.ask("CLIENT", "INFO"))
        assert shown["addr"] == mine
        assert shown["laddr"] == front.address, "the address that the client has connected to"
        assert client.ask("SET", "k", "v") == OK
        assert f"addr={mine} laddr={front.address} " in other.ask("CLIENT", "LIST").decode()
        assert b"WRONGPASS" in client.ask("AUTH", "nobody", "guess")
        assert f"addr={mine} ".encode() in client.ask("ACL", "LOG")
        assert eventually(lambda: f"login failed user='nobody' address={mine}" in proxy.log)
        seen = b""
        while workers == "1" and b'"SET"' not in seen:  # MONITOR shows the clients of its own worker
            seen = watching.reply()
        assert workers != "1" or f"[0 {mine}]".encode() in seen
        assert client.ask("PING") == PONG
        assert other.ask("CLIENT", "KILL", "ADDR", mine) == b":1\r\n"
        assert client.closed()
    assert not metric(proxy, REJECTED)


def test_much_through_it(behind: Behind, tmp_path: Path, stack: contextlib.ExitStack) -> None:
    """Pipelines and values that are larger than what is read at once."""
    proxy = behind()
    front = stack.enter_context(HAProxy(tmp_path, proxy.address, "send-proxy-v2").running())
    value = b"v" * 3_000_000
    with Wire(front.address) as client:
        client.send(pipeline(*(("SET", f"k{n}", n) for n in range(5000))))
        assert set(client.replies(5000)) == {OK}
        assert client.ask("SET", "large", value) == OK
        assert client.ask("GET", "large") == b"$3000000\r\n" + value + b"\r\n"


@pytest.mark.parametrize("header", [make.v1("192.0.2.7"), make.tcp("192.0.2.7", "192.0.2.1")], ids=["v1", "v2"])
def test_the_first_request_may_come_with_the_header(behind: Behind, header: bytes) -> None:
    proxy = behind(config=OPEN)
    value = b"v" * 300_000
    whole = header + pack("SET", "k", value) + pack("PING")
    for pieces in ([whole], [header, whole[len(header) :]], [whole[:9], whole[9:40], whole[40:]]):
        with Wire(proxy.address) as client:
            for piece in pieces:
                client.send(piece)
                time.sleep(0.01)
            assert client.replies(2) == [OK, PONG]
            assert fields(client.ask("CLIENT", "INFO"))["addr"] == "192.0.2.7:56324"


def test_limits_are_for_the_clients_address(behind: Behind, tmp_path: Path, stack: contextlib.ExitStack) -> None:
    proxy = behind(config="[limits]\nmax_clients_per_address = 3\n")
    front = stack.enter_context(HAProxy(tmp_path, proxy.address, "send-proxy-v2").running())
    for source in ("127.0.0.5", "127.0.0.6"):
        inside = [stack.enter_context(Wire(front.address, source=source)) for _ in range(3)]
        assert all(client.ask("PING") == PONG for client in inside)
        with Wire(front.address, source=source) as client:
            assert f"max number of clients reached for address {source} ".encode() in client.reply()
    assert metric(proxy, REJECTED, reason="address limit") == 2


def test_new_connections_of_an_address(behind: Behind, tmp_path: Path, stack: contextlib.ExitStack) -> None:
    proxy = behind(config="[limits]\nmax_connection_rate = 5\n")
    front = stack.enter_context(HAProxy(tmp_path, proxy.address, "send-proxy").running())
    for source in ("127.0.0.5", "127.0.0.6"):
        answers = []
        for _ in range(20):
            with Wire(front.address, source=source) as client, contextlib.suppress(ConnectionError):
                client.send(pack("PING"))
                answers.append(client.reply())
        assert 5 <= answers.count(PONG) < 20
        assert any(f"too many new connections from {source}".encode() in answer for answer in answers)


def test_a_balancer_on_loopback_brings_no_strangers_in(
    behind: Behind,
    tmp_path: Path,
    stack: contextlib.ExitStack,
    network_host: str,  # noqa: F811
) -> None:
    """Protected mode is about the client, not about the balancer."""
    proxy = behind()
    front = stack.enter_context(HAProxy(tmp_path, proxy.address, "send-proxy-v2", host="0.0.0.0").running())
    with Wire(f"{network_host}:{front.port}") as stranger:
        assert stranger.reply() == f"-{admission.PROTECTED}\r\n".encode()
        assert stranger.closed()
    with Wire(front.address) as local:
        assert local.ask("PING") == PONG
    assert metric(proxy, REJECTED, reason="protected mode") == 1
    for header in (b"PROXY UNKNOWN\r\n", make.v2(command=make.LOCAL), make.v1("10.1.2.3")):
        assert raw(proxy, header).startswith(b"-DENIED ")
    assert f"protected mode: {proxy.address} accepts clients of this machine only" in proxy.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_is_not_trusted_is_not_believed(behind: Behind, workers: str) -> None:
    """Not even on loopback, and whatever it sends."""
    proxy = behind("--workers", workers, trusted='"10.0.0.0/8", "127.0.0.2"')
    for pieces in ([], [make.tcp("10.1.2.3", "10.0.0.1"), pack("PING")], [pack("PING")]):
        assert raw(proxy, *pieces) == b""
    assert eventually(lambda: metric(proxy, REJECTED, reason="untrusted proxy") == 3)
    assert f"connection refused address={LOOPBACK} reason='it is none of the trusted_proxies'" in proxy.log
    with Wire(proxy.address, source="127.0.0.2") as balancer:
        balancer.send(make.v1("127.0.0.9") + pack("PING"))
        assert balancer.reply() == PONG


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (pack("PING"), "it does not begin with a header"),
        (make.v1("192.0.2.7") * 2 + pack("PING"), "two PROXY headers"),
        (make.v2(bytes(65535)), "it announces 65551 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "it does not begin with a header"),
    ],
)
def test_a_trusted_balancer_has_to_send_a_header(behind: Behind, sent: bytes, words: str) -> None:
    proxy = behind()
    assert raw(proxy, sent) == b""
    assert metric(proxy, REJECTED, reason="proxy header") == 1
    assert words in proxy.log


def test_a_header_is_not_waited_for_longer_than_a_login(behind: Behind) -> None:
    proxy = behind(config='[limits]\nauth_timeout = "500ms"\n')
    began = time.monotonic()
    assert raw(proxy) == b""
    assert 0.5 <= time.monotonic() - began < 5.0
    assert "no PROXY header within 0.5 s" in proxy.log


def test_health_checks_leave_no_trace(behind: Behind, tmp_path: Path, stack: contextlib.ExitStack) -> None:
    """Of all kinds that HAProxy has: a bare connection, one with a header, and one that asks for a PONG."""
    proxy = behind(config=OPEN)
    ping = ("option tcp-check", r"tcp-check send PING\r\n", "tcp-check expect string +PONG")
    fronts = [
        HAProxy(tmp_path, proxy.address, "send-proxy check inter 30ms"),
        HAProxy(tmp_path, proxy.address, f"send-proxy-v2 check inter 30ms port {proxy.port} no-check-send-proxy"),
        HAProxy(tmp_path, proxy.address, "send-proxy-v2 check inter 30ms check-send-proxy", more=ping),
        HAProxy(tmp_path, proxy.address, "send-proxy check inter 30ms", more=ping),
    ]
    for front in fronts:
        stack.enter_context(front.running())
    time.sleep(1.0)
    for front in fronts:
        with Wire(front.address) as client:
            assert client.ask("PING") == PONG, "the check has failed"
    assert not metric(proxy, REJECTED), proxy.http("/metrics")
    assert metric(proxy, "slotgate_clients_accepted_total") > 30
    assert "refused" not in proxy.log
    assert "PROXY" not in proxy.log


def test_a_unix_socket(behind: Behind, tmp_path_factory: pytest.TempPathFactory, stack: contextlib.ExitStack) -> None:
    directory = tmp_path_factory.mktemp("u")
    proxy = behind(listen=f"unix:{directory}/s", trusted='"unix"')
    front = stack.enter_context(HAProxy(directory, proxy.address, "send-proxy-v2").running())
    with Wire(front.address, source=CLIENT) as client:
        assert fields(client.ask("CLIENT", "INFO"))["addr"] == "{}:{}".format(*client.socket.getsockname())


@pytest.mark.parametrize("path", [b"", b"rel", b"rel:x", b"@abs:1", b"/run/a:b"])
def test_clients_of_a_balancers_unix_socket(behind: Behind, path: bytes) -> None:
    """They have no address that a limit could hold for, whatever their path is."""
    proxy = behind(config=USERS + "[limits]\nmax_command_rate_per_address = 1\n")
    logins = pack("AUTH", "app", "wrong") + pack("AUTH", "app", "of-app")
    answer = raw(proxy, make.unix(path, path) + logins, b"PING\r\n" * 9 + b"QUIT\r\n")
    assert answer.startswith(b"-WRONGPASS ")
    assert answer.endswith(OK + PONG * 9 + OK)
    assert "Traceback" not in proxy.log


def test_cluster_clients_come_back_through_the_balancer(
    behind: Behind, tmp_path: Path, stack: contextlib.ExitStack
) -> None:
    """They are told the address that they connected to, which is the balancer's."""
    proxy = behind(config='present_as = "cluster"')
    front = stack.enter_context(HAProxy(tmp_path, proxy.address, "send-proxy-v2").running())
    with Wire(front.address) as client:
        assert f":{front.port}\r\n".encode() in client.ask("CLUSTER", "SLOTS")
    cluster: Any = redis.RedisCluster(host=LOOPBACK, port=front.port)
    try:
        assert cluster.set("k", "v")
        assert cluster.get("k") == b"v"
        assert [node.port for node in cluster.get_nodes()] == [front.port]
    finally:
        cluster.close()


def test_draining_does_not_wait_for_headers(behind: Behind) -> None:
    proxy = behind()
    with socket.create_connection((LOOPBACK, proxy.port), 10) as silent, Wire(proxy.address) as client:
        client.send(make.v1(LOOPBACK) + pack("PING"))
        assert client.reply() == PONG
        began = time.monotonic()
        proxy.stop()
        assert time.monotonic() - began < 10.0
        assert silent.recv(1) == b""


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_servers_behind_balancers(
    site: Site, serve: Serve, tmp_path: Path, stack: contextlib.ExitStack, version: str, workers: str
) -> None:
    """An HAProxy in front of each server expects the header, on connections of every kind."""
    fronts = [
        stack.enter_context(HAProxy(tmp_path, server.address, bind="accept-proxy").running())
        for server in site.shards.primaries
    ]
    shards = ",".join(front.address for front in fronts)
    proxy = serve("--static", shards, "--workers", workers, config=f'[backend]\nproxy_protocol = "{version}"\n')
    with Wire(proxy.address) as client, Wire(proxy.address) as other:
        client.send(pipeline(*(("SET", f"{{{n}}}k", n) for n in range(100))))
        assert set(client.replies(100)) == {OK}
        assert client.ask("MGET", *(f"{{{n}}}k" for n in range(100))).count(b"$") == 100
        assert client.ask("WATCH", "{1}k") == OK
        client.send(pipeline(("MULTI",), ("INCR", "{1}k"), ("EXEC",)))
        assert client.replies(3)[-1] == b"*1\r\n:2\r\n"
        assert client.ask("SUBSCRIBE", "news").startswith(b"*3\r\n")
        assert eventually(lambda: other.ask("PUBLISH", "news", "x") == b":1\r\n")
        assert client.reply().endswith(b"x\r\n")
        assert other.ask("BLPOP", "{1}none", "0.1") == b"*-1\r\n"


def test_servers_that_expect_no_header(site: Site, serve: Serve) -> None:
    proxy = serve(
        "--static", site.shards.static, config='[backend]\nproxy_protocol = "v1"\nretry_deadline = "1s"\n', ready=False
    )
    assert eventually(lambda: "backend.proxy_protocol" in proxy.log)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_proxy_behind_a_proxy(behind: Behind, serve: Serve, version: str) -> None:
    """The one at the servers sees the other's own address: the other's connections are shared by its clients."""
    inner = behind(config=OPEN)
    outer = serve("--static", inner.address, config=f'[backend]\nproxy_protocol = "{version}"\n')
    with Wire(outer.address, source=CLIENT) as client:
        assert client.ask("SET", "k", "v") == OK
        assert client.ask("GET", "k") == b"$1\r\nv\r\n"
        assert fields(client.ask("CLIENT", "INFO"))["addr"].startswith(f"{CLIENT}:")
    with Wire(inner.address) as direct:
        direct.send(make.v1(CLIENT) + pack("CLIENT", "LIST"))
        lines = direct.reply().decode().splitlines()[1:]
    found = [fields(line.encode())["addr"].partition(":")[0] for line in lines if line]
    assert found.count(CLIENT) == 1
    assert set(found) == {CLIENT, LOOPBACK}
    assert not metric(inner, REJECTED)


def test_headers_go_ahead_of_tls(site: Site, serve: Serve, tmp_path: Path, stack: contextlib.ExitStack) -> None:
    """To servers whose TLS ends at an HAProxy that expects a header."""
    authority = Authority(tmp_path / "papers")
    pair = authority.sign("server")
    pem = tmp_path / "server.pem"
    pem.write_text(pair.certificate.read_text() + pair.key.read_text())
    fronts = [
        stack.enter_context(HAProxy(tmp_path, each.address, bind=f"accept-proxy ssl crt {pem}").running())
        for each in site.shards.primaries
    ]
    config = f'[backend]\nproxy_protocol = "v2"\ntls = true\ntls_ca_file = "{authority.pair.certificate}"\n'
    proxy = serve("--static", ",".join(front.address for front in fronts), config=config)
    with Wire(proxy.address) as client:
        assert client.ask("MSET", "a", 1, "b", 2, "c", 3) == OK


@pytest.mark.parametrize(
    ("listener", "name", "user"),
    [
        ('proxy_auth = "certificate"', "app", "app"),
        ('proxy_auth = "certificate"', "nobody", "default"),
        ('proxy_auth = "certificate"', "", "default"),
        ("", "app", "default"),
    ],
    ids=["user", "no user", "no certificate", "off"],
)
def test_the_user_of_a_certificate(
    behind: Behind, tmp_path: Path, stack: contextlib.ExitStack, listener: str, name: str, user: str
) -> None:
    """TLS ends at the HAProxy, which tells the common name of the certificate that it has verified."""
    authority = Authority(tmp_path / "papers")
    own = authority.sign("server")
    pem = tmp_path / "server.pem"
    pem.write_text(own.certificate.read_text() + own.key.read_text())
    proxy = behind(listener=listener, config=USERS)
    bind = f"ssl crt {pem} ca-file {authority.pair.certificate} verify optional"
    front = stack.enter_context(HAProxy(tmp_path, proxy.address, "send-proxy-v2-ssl-cn", bind=bind).running())
    paper = authority.sign(name) if name else None
    client: Any = redis.Redis(
        host=LOOPBACK,
        port=front.port,
        ssl=True,
        ssl_ca_certs=str(authority.pair.certificate),
        ssl_certfile=str(paper.certificate) if paper else None,
        ssl_keyfile=str(paper.key) if paper else None,
    )
    with client:
        assert client.execute_command("ACL WHOAMI") == user


@pytest.mark.parametrize("workers", ["1", "2"])
def test_tls_behind_the_header(behind: Behind, tmp_path: Path, stack: contextlib.ExitStack, workers: str) -> None:
    """The HAProxy ends the client's TLS, and speaks TLS to the proxy too, behind the header that names the client."""
    authority = Authority(tmp_path / "papers")
    own = authority.sign("server")
    pem = tmp_path / "server.pem"
    pem.write_text(own.certificate.read_text() + own.key.read_text())
    tls = f'[listeners.tls]\ncert_file = "{own.certificate}"\nkey_file = "{own.key}"\n'
    proxy = behind("--workers", workers, listener=tls)
    options = f"send-proxy-v2 ssl verify required ca-file {authority.pair.certificate}"
    front = stack.enter_context(HAProxy(tmp_path, proxy.address, options, bind=f"ssl crt {pem}").running())
    client: Any = redis.Redis(host=LOOPBACK, port=front.port, ssl=True, ssl_ca_certs=str(authority.pair.certificate))
    with client:
        assert client.client_info()["laddr"] == front.address
        assert client.set("k", "v" * 100_000)
        assert client.get("k") == b"v" * 100_000
