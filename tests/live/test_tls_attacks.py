"""Hostile handshakes at a listener with TLS: each is ended in time, and clients that are connected do not notice."""

import contextlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from proxy.devservers.servers import LocalShards, find_server, start_many
from tests.live.tls_clients import USERS, Papers, TlsWire, new_address
from tests.support.new_keys import want_new_keys
from tests.support.processes import eventually
from tests.support.proxy_process import ProxyProcess, metric
from tests.support.wire import Wire, pack

pytestmark = pytest.mark.live

PONG = b"+PONG\r\n"
PATIENCE = 2.0
"""The proxy's ``auth_timeout``; seconds."""
HALF_OPEN = 1000


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    with start_many(2, 0, binary=find_server()) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(shards: LocalShards, papers: Papers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    address, plain = new_address(), new_address()
    config = f'listen = "{plain}"\n[limits]\nauth_timeout = "{PATIENCE}s"\n' + papers.table(address) + USERS
    directory = tmp_path_factory.mktemp("proxy")
    with ProxyProcess(
        directory, "--static", shards.static, config=config, listen=address, listeners=True
    ).serving() as started:
        started.plain = plain  # type: ignore[attr-defined]
        yield started


def hello(papers: Papers) -> bytes:
    """The first flight of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = papers.context().wrap_bio(incoming, outgoing, server_hostname="redis.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def outcome(proxy: ProxyProcess, name: str) -> float:
    return metric(proxy, "slotgate_tls_handshakes_total", listener=proxy.address, outcome=name) or 0


def connect(proxy: ProxyProcess) -> socket.socket:
    host, _, port = proxy.address.rpartition(":")
    return socket.create_connection((host, int(port)), 10)


def rest(link: socket.socket) -> bytes:
    """All that comes until the proxy closes."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while data := link.recv(65536):
            got += data
    return got


def ended(client: Wire) -> bool:
    """Whether the proxy has closed the connection."""
    try:
        client.ask("PING")
        client.ask("PING")
    except OSError:
        return True
    return False


def old_hello() -> bytes:
    """A hello of TLS 1.0 that knows nothing newer."""
    body = b"\x03\x01" + os.urandom(32) + b"\x00" + struct.pack(">H", 2) + b"\x00\x2f" + b"\x01\x00"
    message = b"\x01" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


CORPUS: dict[str, tuple[Callable[[Papers], bytes], str]] = {
    "HTTP": (lambda _: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no TLS"),
    "RESP": (lambda _: pack("PING"), "no TLS"),
    "inline": (lambda _: b"PING\r\n", "no TLS"),
    "zeros": (lambda _: bytes(200), "no TLS"),
    "noise": (lambda _: b"\xa5" * 5000, "no TLS"),
    "SSL 2": (lambda _: b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37), "other"),
    "TLS 1.0": (lambda _: old_hello(), "version"),
    "garbage in a record": (lambda _: b"\x16\x03\x01\x01\x00" + b"\xff" * 256, "other"),
    "a record of 64 KB": (lambda _: b"\x16\x03\x01\xff\xff" + bytes(65535), "no TLS"),
    "many long records": (lambda _: (b"\x16\x03\x01\x40\x00" + bytes(16384)) * 20, "other"),
    "a hello without end": (
        lambda _: b"\x16\x03\x01\x00\x04\x01\x02\x01\x44" + (b"\x16\x03\x01\x40\x00" + bytes(16384)) * 20,
        "other",
    ),
    "an alert": (lambda _: b"\x15\x03\x03\x00\x02\x02\x28", "other"),
    "data before a handshake": (lambda _: b"\x17\x03\x03\x00\x10" + bytes(16), "other"),
    "a hello, and then noise": (lambda papers: hello(papers) + b"\xff" * 3000, "other"),
    "a hello, and then data": (lambda papers: hello(papers) + b"\x17\x03\x03\x00\x20" + bytes(32), "other"),
}


@pytest.mark.parametrize("name", CORPUS)
def test_nonsense_is_closed_at_once(proxy: ProxyProcess, papers: Papers, name: str) -> None:
    make, why = CORPUS[name]
    failed = {"no TLS", "version", "refused by client", "other", "cipher", "closed"}
    before = {each: outcome(proxy, each) for each in failed}
    with connect(proxy) as link:
        began = time.monotonic()
        link.sendall(make(papers))
        answer = rest(link)
        took = time.monotonic() - began
    assert took < PATIENCE
    assert not answer or answer[0] in (0x15, 0x16)  # TLS's own: an alert, or the handshake's first part and an alert
    if why == "no TLS":
        assert answer[:1] != b"-"
    counted = {each: outcome(proxy, each) - before[each] for each in failed}
    assert sum(counted.values()) == 1, counted
    if why != "other":
        assert counted[why] == 1 or (why == "no TLS" and counted["other"] == 1), counted
    assert "Traceback" not in proxy.log


@pytest.mark.parametrize("sent", [0, 1, 5, 100])
def test_half_a_handshake_ends_at_its_deadline(proxy: ProxyProcess, papers: Papers, sent: int) -> None:
    with connect(proxy) as link:
        began = time.monotonic()
        link.sendall(hello(papers)[:sent])
        assert rest(link) == b""
        assert PATIENCE * 0.9 < time.monotonic() - began < PATIENCE + 5
    assert outcome(proxy, "timeout") >= 1


def test_a_slow_handshake_ends_at_its_deadline(proxy: ProxyProcess, papers: Papers) -> None:
    with connect(proxy) as link:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in hello(papers) * 100:
                link.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - began < PATIENCE + 5


def test_no_answer_to_the_first_flight(proxy: ProxyProcess, papers: Papers) -> None:
    with connect(proxy) as link:
        began = time.monotonic()
        link.sendall(hello(papers))
        assert rest(link)[:1] == b"\x16"
        assert time.monotonic() - began < PATIENCE + 5


@pytest.mark.parametrize("flights", [0, 1])
def test_closed_early(proxy: ProxyProcess, papers: Papers, flights: int) -> None:
    for _ in range(50):
        with connect(proxy) as link:
            if flights:
                link.sendall(hello(papers))
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    assert eventually(lambda: metric(proxy, "slotgate_clients") == 0)
    assert metric(proxy, "slotgate_tls_handshaking", state="open", worker="0") == 0


def test_tls_at_a_plain_port(proxy: ProxyProcess, papers: Papers) -> None:
    """A Redis takes the handshake for an inline request."""
    host, _, port = proxy.plain.rpartition(":")  # type: ignore[attr-defined]
    with socket.create_connection((host, int(port)), 10) as link:
        link.sendall(hello(papers) + b"\n")
        link.shutdown(socket.SHUT_WR)
        assert rest(link)[:4] in (b"", b"-ERR")


def test_renegotiation_is_refused(proxy: ProxyProcess, papers: Papers) -> None:
    context = papers.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    with TlsWire(proxy.address, context) as client:
        assert client.ask("PING") == PONG
        # Python can not ask for it; a hello in plain text inside the connection is a broken record.
        raw = socket.socket(fileno=os.dup(client.socket.fileno()))
        raw.sendall(hello(papers))
        raw.close()
        assert ended(client)


def test_a_record_that_was_tampered_with(proxy: ProxyProcess, papers: Papers) -> None:
    with TlsWire(proxy.address, papers.context()) as client:
        assert client.ask("PING") == PONG
        raw = socket.socket(fileno=os.dup(client.socket.fileno()))
        raw.sendall(b"\x17\x03\x03\x00\x30" + os.urandom(48))
        raw.close()
        assert ended(client)


def test_new_keys_again_and_again(proxy: ProxyProcess, papers: Papers) -> None:
    """A client that wants new keys ahead of each request, whether it has a reply or not."""
    with TlsWire(proxy.address, papers.context()) as client:
        for _ in range(300):
            for request in b"\r\n", pack("PING"):
                want_new_keys(client.socket)
                client.send(request)
            assert client.reply() == PONG


def test_cut_off_in_the_middle_of_a_request(proxy: ProxyProcess, papers: Papers) -> None:
    with TlsWire(proxy.address, papers.context()) as client:
        client.send(pack("SET", "cut", "x" * 1000)[:500])
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with TlsWire(proxy.address, papers.context()) as client:
        assert client.value("EXISTS", "cut") == 0


def test_a_thousand_half_handshakes(proxy: ProxyProcess, papers: Papers) -> None:
    """They keep nobody out, and are gone after the deadline."""
    first = hello(papers)
    with TlsWire(proxy.address, papers.context()) as client:
        links = []
        try:
            for at in range(HALF_OPEN):
                link = connect(proxy)
                links.append(link)
                link.sendall(first if at % 2 else first[:50])
                if not at % 50:
                    assert client.ask("PING") == PONG
            with TlsWire(proxy.address, papers.context()) as another:
                assert another.ask("PING") == PONG
            assert eventually(lambda: metric(proxy, "slotgate_tls_handshaking", state="open", worker="0") == 0, 30)
            assert client.ask("PING") == PONG
            assert eventually(lambda: metric(proxy, "slotgate_clients") == 1)
        finally:
            for link in links:
                link.close()


def test_a_storm_of_handshakes_does_not_hold_up_clients(proxy: ProxyProcess, papers: Papers) -> None:
    """Clients that connect as fast as they can, beside one that asks. The bound is that of a busy machine."""
    stop = threading.Event()
    made: list[int] = []

    def storm() -> None:
        count = 0
        context = papers.context()
        while not stop.is_set():
            with TlsWire(proxy.address, context):
                count += 1
        made.append(count)

    threads = [threading.Thread(target=storm) for _ in range(4)]
    with Wire(proxy.plain) as client:  # type: ignore[attr-defined]
        for thread in threads:
            thread.start()
        times = []
        ends = time.monotonic() + 3
        while time.monotonic() < ends:
            began = time.monotonic()
            assert client.ask("PING") == PONG
            times.append(time.monotonic() - began)
            time.sleep(0.002)
        stop.set()
        for thread in threads:
            thread.join()
    assert sum(made) > 20
    times.sort()
    assert times[len(times) // 2] < 0.05
