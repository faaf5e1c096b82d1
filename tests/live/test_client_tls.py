"""TLS for clients: everything works over it as it does without, certificates log in, and their files are watched."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from proxy.devservers.servers import LOOPBACK, LocalShards, find_server, start_many
from tests.live.nodejs import node
from tests.live.tls_clients import USERS, Papers, TlsWire, new_address
from tests.support.certificates import SERVER_NAME
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess, metric
from tests.support.wire import Wire, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
MB = 1 << 20
LOOKED = 20.0
"""Seconds within which changed files are noticed."""


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    with start_many(2, 0, binary=find_server()) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(shards: LocalShards, papers: Papers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """One worker, with a listener with TLS."""
    address = new_address()
    with ProxyProcess(
        tmp_path_factory.mktemp("proxy"),
        "--static",
        shards.static,
        config=papers.table(address) + USERS,
        listen=address,
        listeners=True,
    ).serving() as started:
        yield started


@pytest.fixture
def context(papers: Papers) -> ssl.SSLContext:
    return papers.context()


def whoami(wire: Wire) -> object:
    return wire.value("ACL", "WHOAMI")


# ---- what works without TLS


def test_commands_of_all_kinds(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    with TlsWire(proxy.address, context) as client:
        assert client.socket.version() == "TLSv1.3"
        assert client.socket.selected_alpn_protocol() is None
        assert client.ask("PING") == PONG
        assert client.ask("MSET", *(part for at in range(20) for part in (f"k{at}", at))) == OK
        assert client.value("MGET", *(f"k{at}" for at in range(20))) == [str(at).encode() for at in range(20)]
        client.send(pipeline(*(("INCR", "n{1}") for _ in range(500))))
        assert client.replies(500) == [b":%d\r\n" % at for at in range(1, 501)]
        assert client.ask("MULTI") == OK
        client.ask("SET", "t", "1")
        assert client.value("EXEC") == [b"OK"]


def test_reply_off(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    with TlsWire(proxy.address, context) as client:
        client.send(pipeline(("CLIENT", "REPLY", "OFF"), ("SET", "off", "1"), ("CLIENT", "REPLY", "ON")))
        assert client.reply() == OK
        assert client.value("GET", "off") == b"1"


@pytest.mark.parametrize("size", [1, 16 * 1024 - 1, 16 * 1024 + 1, 100_000, 5 * MB])
def test_values_of_all_sizes(proxy: ProxyProcess, context: ssl.SSLContext, size: int) -> None:
    value = os.urandom(min(size, 64 * 1024)) * (size // (64 * 1024) + 1)
    value = value[:size]
    with TlsWire(proxy.address, context) as client:
        assert client.ask("SET", "v", value) == OK
        assert client.value("GET", "v") == value
        client.send(pipeline(*(("GET", "v") for _ in range(4)), ("PING",)))
        assert client.replies(5)[4] == PONG


def test_large_requests_right_behind_the_handshake(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    """The client's last part of the handshake and its requests may arrive together."""
    request = pack("SET", "at-once", b"x" * MB)
    for _ in range(10):
        with TlsWire(proxy.address, context) as client:
            client.send(request * 2)
            assert client.replies(2) == [OK, OK]


def test_a_request_byte_by_byte(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    with TlsWire(proxy.address, context) as client:
        for byte in pack("SET", "slow", "1"):
            client.send(bytes([byte]))
        assert client.reply() == OK


def test_blocking_and_subscriptions(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    with TlsWire(proxy.address, context) as waits, TlsWire(proxy.address, context) as acts:
        waits.send(pack("BLPOP", "list", 10))
        time.sleep(0.1)
        acts.ask("RPUSH", "list", "x")
        assert waits.reply() == b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n"
        assert waits.ask("SUBSCRIBE", "c") == b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
        acts.send(pipeline(*(("PUBLISH", "c", at) for at in range(200))))
        acts.replies(200)
        assert waits.replies(200)[-1] == b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$3\r\n199\r\n"


def test_tracking(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    with TlsWire(proxy.address, context, protocol=3) as tracks, TlsWire(proxy.address, context) as acts:
        assert tracks.ask("CLIENT", "TRACKING", "ON") == OK
        tracks.ask("GET", "tracked")
        acts.ask("SET", "tracked", "1")
        assert tracks.reply() == b">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\ntracked\r\n"


def test_monitor_list_and_kill(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    with TlsWire(proxy.address, context) as client, TlsWire(proxy.address, context) as other:
        host, port = other.socket.getsockname()[:2]
        shown = client.value("CLIENT", "LIST")
        assert isinstance(shown, bytes)
        assert f"addr={host}:{port} laddr={proxy.address}".encode() in shown
        assert client.ask("MONITOR") == OK
        other.ask("SET", "seen", "1")
        assert b'"SET" "seen" "1"' in client.reply()
        with TlsWire(proxy.address, context) as killer:
            assert killer.ask("CLIENT", "KILL", f"{host}:{port}") == OK
        with pytest.raises((ConnectionError, ssl.SSLError)):
            other.ask("PING")


def test_a_client_that_does_not_read_is_not_kept_in_memory(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    with TlsWire(proxy.address, context) as client:
        assert client.ask("SET", "large", b"x" * MB) == OK
        client.send(pipeline(*(("GET", "large") for _ in range(200))))
        time.sleep(1.5)
        assert (metric(proxy, "slotgate_client_waiting_bytes", worker="0") or 0) < 60 * MB
        assert len(client.replies(200)) == 200
        assert client.ask("PING") == PONG


def test_quit_ends_with_a_goodbye(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    with TlsWire(proxy.address, context) as client:
        client.socket.suppress_ragged_eofs = False  # type: ignore[attr-defined]  # it is there, but not in the stubs
        assert client.ask("QUIT") == OK
        assert client.socket.recv(1) == b""  # close_notify: without it this would raise


def test_goodbye_of_a_client(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    client = TlsWire(proxy.address, context)
    client.send(pipeline(("SET", "bye", "1"), ("GET", "bye")))
    client.replies(2)
    client.socket.unwrap().close()
    assert eventually(lambda: metric(proxy, "slotgate_clients") == 0)


def test_half_closed_without_a_goodbye(proxy: ProxyProcess, context: ssl.SSLContext) -> None:
    with TlsWire(proxy.address, context) as client:
        client.send(pipeline(("SET", "half", "1"), ("GET", "half")))
        socket.socket.shutdown(client.socket, socket.SHUT_WR)
        assert client.replies(2) == [OK, b"$1\r\n1\r\n"]


# ---- sessions, versions and names


def test_sessions_are_resumed(proxy: ProxyProcess, papers: Papers) -> None:
    for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
        context = papers.context(maximum_version=version)
        with TlsWire(proxy.address, context) as first:
            first.ask("PING")
            session = first.socket.session
        with TlsWire(proxy.address, context, session=session) as again:
            assert again.ask("PING") == PONG
            assert again.socket.session_reused
    address = proxy.address
    assert (metric(proxy, "slotgate_tls_handshakes_total", listener=address, outcome="resumed") or 0) >= 2


def test_old_versions_are_refused(proxy: ProxyProcess, papers: Papers) -> None:
    context = papers.context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        TlsWire(proxy.address, context)


def test_minimum_version_ciphers_and_names(shards: LocalShards, papers: Papers, serve: Serve) -> None:
    strict, named = new_address(), new_address()
    config = papers.table(strict, 'min_version = "1.3"') + papers.table(
        named,
        'ciphers = "ECDHE+CHACHA20"',
        f'certificates = [{{ cert_file = "{papers.other.certificate}", key_file = "{papers.other.key}" }}]',
    )
    serve("--static", shards.static, config=config, listen=strict, listeners=True)
    old = papers.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(ssl.SSLError):
        TlsWire(strict, old)
    with TlsWire(named, old) as client:
        cipher = client.socket.cipher()
        assert cipher is not None
        assert "CHACHA20" in cipher[0]
    for name in SERVER_NAME, "other.test":
        with TlsWire(named, papers.context(), name=name) as client:
            assert client.ask("PING") == PONG


# ---- certificates of clients


def test_required_certificates(shards: LocalShards, papers: Papers, serve: Serve) -> None:
    address = new_address()
    config = papers.table(address, *papers.asking("required")) + USERS
    proxy = serve("--static", shards.static, config=config, listen=address, listeners=True)
    with TlsWire(address, papers.context(papers.alice)) as client:
        assert client.ask("PING") == PONG
        assert whoami(client) == b"default"  # the certificate is no login here
    for pair, outcome in (None, "no certificate"), (papers.stranger, "bad certificate"):
        with pytest.raises((ConnectionError, ssl.SSLError)), TlsWire(address, papers.context(pair)) as client:
            client.ask("PING")
        assert eventually(
            lambda outcome=outcome: (
                metric(  # type: ignore[misc]
                    proxy, "slotgate_tls_handshakes_total", listener=address, outcome=outcome
                )
                == 1
            )
        )
    assert "reason='no certificate: PEER_DID_NOT_RETURN_A_CERTIFICATE'" in proxy.log


@pytest.mark.parametrize("how", ["optional", "required"])
def test_certificates_of_clients_with_several_names(
    shards: LocalShards, papers: Papers, serve: Serve, how: str
) -> None:
    """A listener with several certificates verifies the clients' own whichever name they ask for."""
    address = new_address()
    others = f'certificates = [{{ cert_file = "{papers.other.certificate}", key_file = "{papers.other.key}" }}]'
    config = papers.table(address, *papers.asking(how, 'auth = "certificate"'), others) + USERS
    serve("--static", shards.static, config=config, listen=address, listeners=True)
    for name in SERVER_NAME, "other.test":
        with TlsWire(address, papers.context(papers.alice), name=name) as client:
            assert whoami(client) == b"alice"
        with (
            pytest.raises((ConnectionError, ssl.SSLError)),
            TlsWire(address, papers.context(papers.stranger), name=name) as client,
        ):
            client.ask("PING")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_certificate_logs_in(shards: LocalShards, papers: Papers, serve: Serve, workers: int) -> None:
    address, san = new_address(), new_address()
    config = papers.table(address, *papers.asking("optional", 'auth = "certificate"')) + papers.table(
        san, *papers.asking("optional", 'auth = "certificate"', 'user_from = "san"'), settings='users = ["reports"]'
    )
    static = ("--static", shards.static, "--workers", str(workers))
    proxy = serve(*static, config=config + USERS, listen=address, listeners=True)
    with TlsWire(address, papers.context(papers.alice)) as client:
        assert whoami(client) == b"alice"
        assert client.ask("SET", "by", "alice") == OK
        assert client.ask("RESET") == b"+RESET\r\n"
        assert whoami(client) == b"default"  # as in Redis
    with TlsWire(address, papers.context(papers.alice)) as client:
        assert client.ask("AUTH", "reports", "of-reports") == OK
        assert whoami(client) == b"reports"
    with TlsWire(san, papers.context(papers.alice)) as client:
        assert whoami(client) == b"reports"
    for pair in papers.bob, papers.nobody, None:
        with TlsWire(address, papers.context(pair)) as client:
            assert whoami(client) == b"default"
    with TlsWire(san, papers.context(papers.nobody)) as client:
        assert client.ask("GET", "x") == b"-NOAUTH Authentication required.\r\n"
        assert client.ask("AUTH", "reports", "of-reports") == OK
    with TlsWire(address, papers.context()) as client:
        entries = client.value("ACL", "LOG")
        assert isinstance(entries, list)
        found = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in entries]
        assert {entry[b"username"] for entry in found} == {b"bob", b"nobody", b"nobody.test"}
        assert {(entry[b"reason"], entry[b"context"], entry[b"object"]) for entry in found} == {
            (b"tls-cert", b"toplevel", b"")
        }
    assert metric(proxy, "slotgate_auth_failures_total", reason="no user of the certificate") == 3
    assert "login failed user='nobody'" in proxy.log


def test_logins_by_certificate_are_in_the_audit_log(
    shards: LocalShards, papers: Papers, serve: Serve, tmp_path: Path
) -> None:
    address, file = new_address(), tmp_path / "audit.jsonl"
    audit = f'[audit]\npath = "{file}"\n[[audit.rules]]\ncommands = ["auth"]\n'
    config = papers.table(address, *papers.asking("optional", 'auth = "certificate"')) + USERS + audit
    serve("--static", shards.static, config=config, listen=address, listeners=True)
    for pair in papers.alice, papers.nobody, None:
        with TlsWire(address, papers.context(pair)) as client:
            client.ask("PING")

    def recorded() -> list[tuple[str, ...]]:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return [(line["user"], line["command"], line["outcome"], line.get("reason", "")) for line in lines]

    assert eventually(lambda: len(recorded()) == 2)
    assert recorded() == [
        ("alice", "certificate", "allowed", ""),
        ("nobody", "certificate", "denied", "no user of the certificate"),
    ]


def test_a_resumed_session_keeps_its_user(shards: LocalShards, papers: Papers, serve: Serve) -> None:
    address = new_address()
    config = papers.table(address, *papers.asking("required", 'auth = "certificate"')) + USERS
    serve("--static", shards.static, config=config, listen=address, listeners=True)
    for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
        context = papers.context(papers.alice, maximum_version=version)
        with TlsWire(address, context) as client:
            assert whoami(client) == b"alice"
            session = client.socket.session
        with TlsWire(address, context, session=session) as client:
            assert whoami(client) == b"alice"
            assert client.socket.session_reused


def test_behind_a_balancer(shards: LocalShards, papers: Papers, serve: Serve) -> None:
    """The header of the PROXY protocol comes before TLS."""
    address = new_address()
    config = (
        'trusted_proxies = ["127.0.0.1"]\nprotected_mode = false\n'
        + papers.table(address, *papers.asking("optional", 'auth = "certificate"'), settings="proxy_protocol = true")
        + USERS
    )
    serve("--static", shards.static, config=config, listen=address, listeners=True)
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as link:
        link.sendall(f"PROXY TCP4 192.0.2.7 127.0.0.1 5555 {port}\r\n".encode())
        with papers.context(papers.alice).wrap_socket(link, server_hostname=SERVER_NAME) as client:
            client.sendall(pack("CLIENT", "INFO"))
            shown = client.recv(4096)
            assert b"addr=192.0.2.7:5555" in shown
            assert b"user=alice" in shown


# ---- files


def test_files_are_watched(shards: LocalShards, papers: Papers, serve: Serve, tmp_path: Path) -> None:
    address = new_address()
    cert, key = tmp_path / "live.crt", tmp_path / "live.key"
    shutil.copy(papers.server.certificate, cert)
    shutil.copy(papers.server.key, key)
    files = f'cert_file = "{cert}"\nkey_file = "{key}"\n'
    config = f'[[listeners]]\naddress = "{address}"\n[listeners.tls]\n{files}'
    proxy = serve("--static", shards.static, config=config, listen=address, listeners=True)
    left = metric(proxy, "slotgate_certificate_expiry_seconds", listener=address, file=str(cert), worker="0")
    assert left is not None
    assert 24 * 3600 < left < 49 * 3600
    with TlsWire(address, papers.context()) as before:
        before.ask("PING")
        cert.write_text("nonsense")
        assert eventually(lambda: "keeps its certificates" in proxy.log, LOOKED)
        with TlsWire(address, papers.context()) as client:
            assert client.ask("PING") == PONG
        renewed = papers.authority.sign("renewed", days=30)
        shutil.copy(renewed.key, key)
        shutil.copy(renewed.certificate, cert)
        assert eventually(lambda: "has new certificates" in proxy.log, LOOKED)
        with TlsWire(address, papers.context()) as client:
            assert client.ask("PING") == PONG
            shown = client.socket.getpeercert()
            assert shown is not None
            assert shown["subject"] == ((("commonName", "renewed"),),)
        assert before.ask("PING") == PONG
    left = metric(proxy, "slotgate_certificate_expiry_seconds", listener=address, file=str(cert), worker="0")
    assert left is not None
    assert left > 28 * 24 * 3600
    assert metric(proxy, "slotgate_certificate_reloads_total", listener=address, outcome="ok") == 1
    assert (metric(proxy, "slotgate_certificate_reloads_total", listener=address, outcome="failed") or 0) >= 1


# ---- limits


def test_protected_mode_is_told_over_tls(shards: LocalShards, papers: Papers, serve: Serve) -> None:
    port = new_address().rpartition(":")[2]
    config = papers.table(f"0.0.0.0:{port}")
    proxy = serve("--static", shards.static, config=config, listen=f"127.0.0.1:{port}", listeners=True)
    outer = next(iter(_own_addresses()), None)
    if outer is None:
        pytest.skip("the machine has no address but loopback")
    with TlsWire(f"{outer}:{port}", papers.context()) as client:
        assert client.reply().startswith(b"-DENIED Slotgate is running in protected mode")
        assert client.socket.recv(1) == b""
    assert metric(proxy, "slotgate_clients_rejected_total", reason="protected mode") == 1


def test_protected_mode_is_off_where_certificates_are_required(
    shards: LocalShards, papers: Papers, serve: Serve
) -> None:
    port = new_address().rpartition(":")[2]
    config = papers.table(f"0.0.0.0:{port}", *papers.asking("required"))
    proxy = serve("--static", shards.static, config=config, listen=f"127.0.0.1:{port}", listeners=True)
    assert "protected mode" not in proxy.log
    for outer in _own_addresses():
        with TlsWire(f"{outer}:{port}", papers.context(papers.nobody)) as client:
            assert client.ask("PING") == PONG


def _own_addresses() -> list[str]:
    """The machine's addresses besides loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return []
        return [probe.getsockname()[0]]


def test_max_clients(shards: LocalShards, papers: Papers, serve: Serve) -> None:
    address = new_address()
    config = papers.table(address, settings="max_clients = 2")
    serve("--static", shards.static, config=config, listen=address, listeners=True)
    with TlsWire(address, papers.context()) as one, Wire(address):  # the second has not begun its handshake
        assert one.ask("PING") == PONG
        assert eventually(lambda: _refused(address, papers))
        assert one.ask("PING") == PONG


def _refused(address: str, papers: Papers) -> bool:
    with TlsWire(address, papers.context()) as client:
        return client.reply().startswith(b"-ERR max number of clients reached")


def test_drain(shards: LocalShards, papers: Papers, serve: Serve) -> None:
    address = new_address()
    config = f"drain_timeout = '500ms'\n{papers.table(address)}"
    proxy = serve("--static", shards.static, config=config, listen=address, listeners=True)
    with TlsWire(address, papers.context()) as client, Wire(address) as silent:
        client.ask("PING")
        client.send(pack("BLPOP", "never", 30))
        time.sleep(0.2)
        began = time.monotonic()
        proxy.stop()
        assert time.monotonic() - began < 10
        client.socket.settimeout(5)
        assert client.socket.recv(1) == b""  # as without TLS, a blocked client gets no reply
        silent.socket.settimeout(5)
        assert silent.socket.recv(1) == b""


# ---- clients


def test_redis_cli(proxy: ProxyProcess, papers: Papers) -> None:
    cli = shutil.which("redis-cli")
    if cli is None or "--tls" not in subprocess.run([cli, "--help"], capture_output=True, text=True).stdout:
        pytest.skip("no redis-cli with TLS here")
    host, _, port = proxy.address.rpartition(":")
    command = [cli, "-h", host, "-p", port, "--tls", "--cacert", str(papers.authority.pair.certificate)]
    for words, said in ("set cli 1", "OK\n"), ("get cli", "1\n"), ("ping", "PONG\n"):
        ended = subprocess.run([*command, *words.split()], capture_output=True, text=True, timeout=30)
        assert ended.stdout == said, ended
    pipe = "".join(f"SET pipe{at} {at}\r\n" for at in range(5000))
    ended = subprocess.run([*command, "--pipe"], input=pipe, capture_output=True, text=True, timeout=60)
    assert "errors: 0, replies: 5000" in ended.stdout, ended


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(proxy: ProxyProcess, papers: Papers, protocol: int) -> None:
    client = redis.Redis(
        host=LOOPBACK, port=proxy.port, protocol=protocol, ssl=True, ssl_ca_certs=str(papers.authority.pair.certificate)
    )
    with client:
        assert client.set("py", "1")
        with client.pipeline(transaction=False) as pipe:
            for at in range(100):
                pipe.set(f"py{at}", at)
            assert pipe.execute() == [True] * 100
        listener = client.pubsub()  # type: ignore[no-untyped-call]
        listener.subscribe("news")
        assert listener.get_message(timeout=5)
        client.publish("news", "x")
        heard = listener.get_message(timeout=5)
        assert heard is not None
        assert heard["data"] == b"x"
        listener.close()


def test_many_at_once(proxy: ProxyProcess, papers: Papers) -> None:
    """Threads that connect, write and read at the same time; each sees its own data only."""
    failed: list[object] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                with TlsWire(proxy.address, papers.context()) as client:
                    client.send(pipeline(*(("SET", f"{number}:{at}", f"{number}.{turn}.{at}") for at in range(50))))
                    client.replies(50)
                    client.send(pipeline(*(("GET", f"{number}:{at}") for at in range(50))))
                    got = client.replies(50)
                    assert [reply.split(b"\r\n")[1] for reply in got] == [
                        f"{number}.{turn}.{at}".encode() for at in range(50)
                    ]
        except (OSError, AssertionError) as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.clients
def test_ioredis(proxy: ProxyProcess, papers: Papers, installed: Path) -> None:
    host, _, port = proxy.address.rpartition(":")
    ended = subprocess.run(
        [node(), "ioredis_tls.js", host, port, str(papers.authority.pair.certificate)],
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended
