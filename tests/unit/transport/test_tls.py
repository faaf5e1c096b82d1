"""Handshakes with servers that speak TLS and that do not: over what is connected, and the words for what fails."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest
import uvloop

from proxy.backends import query
from proxy.backends.handshake import Credentials
from proxy.backends.query import ask
from proxy.config import Config
from proxy.errors import BackendError
from proxy.sharding.topology import Node
from proxy.transport.tls import Tls, backend_tls, connecting, lost_words, open_streams
from tests.support.certificates import SERVER_NAME, Authority, Pair

Talk = Callable[[socket.socket], None]

FILES = "backend.tls_cert_file and backend.tls_key_file"
TO_PLAIN = ": if it speaks no TLS at this port, name its tls-port, or set backend.tls = false"


class Papers:
    """Certificates of an authority, and one that nobody knows."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.server = self.authority.sign("server")
        self.client = self.authority.sign("client")
        self.expired = self.authority.sign("expired", days=-1)
        self.stranger = Authority(directory, "stranger").pair


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


def settings(papers: Papers, own: Pair | None = None, **keys: object) -> Tls:
    """What the configuration makes of a good authority, and ``keys``."""
    if own is not None:
        keys |= {"tls_cert_file": str(own.certificate), "tls_key_file": str(own.key)}
    backend = {"tls": True, "tls_ca_file": str(papers.authority.pair.certificate), "connect_timeout": "300ms", **keys}
    tls = backend_tls(Config.model_validate({"shards": [{"primary": "a:1"}], "backend": backend}))
    assert tls is not None
    return tls


def server_side(pair: Pair, trusted: Pair | None = None) -> ssl.SSLContext:
    """A server's context; one that asks for certificates signed by ``trusted``, if that is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if trusted is not None:
        context.load_verify_locations(trusted.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def pong(connection: socket.socket) -> None:
    """A server that knows one answer."""
    while connection.recv(1000):
        connection.sendall(b"+PONG\r\n")


def deaf(connection: socket.socket) -> None:
    """One that waits for more, as Redis does for the end of a line."""
    while connection.recv(1000):
        pass


def rude(connection: socket.socket) -> None:
    """One that speaks another language."""
    connection.recv(1000)
    connection.sendall(b"-ERR Protocol error: unbalanced quotes in request\r\n")


def shut(connection: socket.socket) -> None:
    """One that goes."""
    connection.recv(1000)


@contextlib.asynccontextmanager
async def serving(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that talks so. It is a thread: asyncio's servers send no alerts, as Redis does."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(2.0)
                    if context is None:
                        talk(connection)
                    else:
                        with context.wrap_socket(connection, server_side=True) as wrapped:
                            talk(wrapped)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield listener.getsockname()[1]
            await asyncio.sleep(0.05)  # what the proxy's side has closed is closed
        finally:
            stop.set()
            await asyncio.to_thread(thread.join)


async def asked(port: int, tls: Tls | None, host: str = "127.0.0.1") -> object:
    return (await ask(Node(host, port), Credentials(tls=tls), (("PING",),), 5.0))[0]


async def trouble(port: int, tls: Tls | None) -> str:
    with pytest.raises(BackendError) as caught:
        await asked(port, tls)
    return str(caught.value)


class Recorder(asyncio.Protocol):
    """A protocol that is as a backend's."""

    def __init__(self) -> None:
        self.came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.WriteTransport | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self.transport = cast(asyncio.WriteTransport, transport)
        self.transport.write(b"PING\r\n")

    def data_received(self, data: bytes) -> None:
        self.came.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


async def plainly(host: str, port: int, protocol: object) -> None:
    raise NotImplementedError(host, port)


async def test_both_ways_to_connect(papers: Papers) -> None:
    tls = settings(papers)
    async with serving(pong, server_side(papers.server)) as port:
        assert await asked(port, tls) == b"PONG"
        recorder = Recorder()
        await connecting(plainly, tls)("127.0.0.1", port, recorder)
        assert await recorder.came == b"+PONG\r\n"
        assert recorder.transport is not None
        assert recorder.transport.get_extra_info("sslcontext") is tls.context
        recorder.transport.close()


async def test_without_tls_nothing_is_between(papers: Papers) -> None:
    assert connecting(plainly, None) is plainly


async def test_unix_sockets_have_no_tls(papers: Papers, tmp_path: Path) -> None:
    tls = settings(papers)
    with pytest.raises(NotImplementedError, match=r"/x.sock', 0"):
        await connecting(plainly, tls)("/x.sock", 0, None)
    path = str(tmp_path / "x.sock")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+" + await reader.readline())
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(talk, path):
        assert await ask(Node(path, 0), Credentials(tls=tls), (("PING",),), 5.0) == [b"*1"]
        await asyncio.sleep(0.05)


async def test_the_name_in_the_certificate(papers: Papers) -> None:
    async with serving(pong, server_side(papers.server)) as port:
        assert await asked(port, settings(papers, tls_server_name=SERVER_NAME)) == b"PONG"
        assert await asked(port, settings(papers, tls_server_name=SERVER_NAME), "localhost") == b"PONG"
        wrong = settings(papers, tls_server_name="other.test")
        assert await trouble(port, wrong) == (
            'the server\'s certificate is not for "other.test": set backend.tls_server_name to a name that is in it'
        )


async def test_whom_the_proxy_trusts(papers: Papers) -> None:
    async with serving(pong, server_side(papers.server)) as port:
        stranger = settings(papers, tls_ca_file=str(papers.stranger.certificate))
        assert (await trouble(port, stranger)).startswith("the server's certificate is not trusted (")
        assert (await trouble(port, stranger)).endswith(
            "): set backend.tls_ca_file to the certificate of the authority that signed it"
        )
        assert await asked(port, settings(papers, tls_ca_file=str(papers.server.certificate))) == b"PONG"
        careless = settings(papers, tls_ca_file=str(papers.stranger.certificate), tls_verify=False)
        assert await asked(port, careless) == b"PONG"
    async with serving(pong, server_side(papers.expired)) as port:
        assert await trouble(port, settings(papers)) == (
            "the server's certificate has expired: renew it, or look at the clocks"
        )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
async def test_whom_the_server_trusts(papers: Papers, version: ssl.TLSVersion) -> None:
    context = server_side(papers.server, papers.authority.pair)
    context.maximum_version = version
    async with serving(pong, context) as port:
        assert await asked(port, settings(papers, papers.client)) == b"PONG"
        # asyncio's own transports do not always read the alert before they are closed: either way it is named.
        assert FILES in await trouble(port, settings(papers))
        assert FILES in await trouble(port, settings(papers, papers.stranger))


async def test_a_refusal_that_comes_before_the_first_request_is_named(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy proxy sends it so late."""

    async def open_late(node: Node, tls: Tls | None, *more: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        streams = await open_streams(node, tls, *more)
        with contextlib.suppress(OSError):
            await streams[1].wait_closed()
        return streams

    monkeypatch.setattr(query, "open_streams", open_late)
    async with serving(pong, server_side(papers.server, papers.authority.pair)) as port:
        assert FILES in await trouble(port, settings(papers, papers.stranger))


async def test_an_old_server(papers: Papers) -> None:
    tls = settings(papers)
    tls.context.minimum_version = ssl.TLSVersion.TLSv1_3
    context = server_side(papers.server)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(pong, context) as port:
        assert await trouble(port, tls) == (
            "the server speaks no TLS 1.2 or later, as the proxy does: set its tls-protocols"
        )


@pytest.mark.parametrize(
    ("talk", "wrong"),
    [
        (deaf, "the server did not answer the TLS handshake within 0.27 s"),
        (rude, "the server answered the TLS handshake with something else"),
        (shut, "the server closed the connection in the TLS handshake"),
    ],
)
async def test_a_server_without_tls(papers: Papers, talk: Talk, wrong: str) -> None:
    async with serving(talk) as port:
        tls = settings(papers)
        assert await trouble(port, tls) == wrong + TO_PLAIN
        with pytest.raises(BackendError) as caught:
            await connecting(plainly, tls)("127.0.0.1", port, Recorder())
        assert str(caught.value) == wrong + TO_PLAIN


async def test_a_server_with_tls_without_it(papers: Papers) -> None:
    async with serving(pong, server_side(papers.server)) as port:
        words = await trouble(port, None)
    assert (
        words == "the server closed the connection without a word: if it speaks TLS at this port, tls = true is missing"
    )


def test_who_gives_up_in_the_handshake_leaves_nothing(papers: Papers) -> None:
    """With uvloop, which the proxy runs on: it would read on from a connection that it has closed."""

    async def give_up() -> list[object]:
        said: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        async with serving(pong, server_side(papers.server)) as port:
            connect = connecting(plainly, settings(papers))
            for patience in range(60):
                recorder = Recorder()
                making = asyncio.ensure_future(connect("127.0.0.1", port, recorder))
                for _ in range(patience):
                    await asyncio.sleep(0.00005)
                making.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await making
                    assert recorder.transport is not None
                    recorder.transport.close()
                await asyncio.sleep(0.005)
                async with asyncio.timeout(5):
                    while recorder.transport is not None and not recorder.lost:  # noqa: ASYNC110  nobody says it
                        await asyncio.sleep(0.005)
        return said

    assert uvloop.run(give_up()) == []


async def test_nobody_there_is_an_error_of_the_system(papers: Papers) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await open_streams(Node("127.0.0.1", bound.getsockname()[1]), settings(papers))


def test_sentinels_are_told_their_own_switch(papers: Papers) -> None:
    assert lost_words(None, settings(papers), True) == "the server closed the connection"
    assert lost_words(None, None, True) == "the server closed the connection"
