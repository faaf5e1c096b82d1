"""TLS to real servers: everything works over it, and what does not says why."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.devservers.sentinel import LocalSentinel
from proxy.devservers.servers import LocalServer, ServerBinary, free_port
from proxy.resp import encode
from tests.support.certificates import SERVER_NAME, Authority, Pair, speaks_tls
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.site import shard_tags
from tests.support.wire import Wire, decode, pack, pipeline

pytestmark = pytest.mark.live

OK = b"+OK\r\n"
MB = 1 << 20
TIMES = 'connect_timeout = "1s"\nrequest_timeout = "4s"\nretry_deadline = "300ms"\nbackoff_max = "100ms"\n'


@dataclass(frozen=True, slots=True)
class Papers:
    """Certificates: of the servers' authority, of the servers and of the proxy; and one that nobody knows."""

    authority: Pair
    server: Pair
    client: Pair
    stranger: Pair

    def options(self, *more: str) -> tuple[str, ...]:
        """Lines of redis.conf."""
        files = (self.server.certificate, self.server.key, self.authority.certificate)
        names = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")
        return (*(f"{name} {file}" for name, file in zip(names, files, strict=True)), *more)


class TlsServer(LocalServer):
    """A server with a tls-port beside its port, over which the tests ask it."""

    def __init__(self, binary: ServerBinary, directory: Path, options: Sequence[str]) -> None:
        self.tls_port = free_port()
        super().__init__(binary, directory, options=(f"tls-port {self.tls_port}", *options))

    @property
    def tls_address(self) -> str:
        """Where it speaks TLS."""
        return f"{self.host}:{self.tls_port}"


@pytest.fixture(scope="module")
def tls_binary(binary: ServerBinary) -> ServerBinary:
    """A server that was built with TLS."""
    speaks_tls(binary)
    return binary


@pytest.fixture(scope="module")
def papers(tls_binary: ServerBinary, tmp_path_factory: pytest.TempPathFactory) -> Papers:
    directory = tmp_path_factory.mktemp("papers")
    authority = Authority(directory)
    stranger = Authority(directory, "stranger").pair
    return Papers(authority.pair, authority.sign("server"), authority.sign("client"), stranger)


@pytest.fixture(scope="module")
def servers(
    tls_binary: ServerBinary, papers: Papers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[TlsServer]]:
    """Two that take anybody, and one that asks for a certificate."""
    directory = tmp_path_factory.mktemp("servers")
    lax, strict = papers.options("tls-auth-clients no"), papers.options("tls-auth-clients yes")
    started = [TlsServer(tls_binary, directory, options) for options in (lax, lax, strict)]
    try:
        for server in started:
            server.start()
        yield started
    finally:
        for server in started:
            server.kill()


def configured(papers: Papers, *addresses: str, own: Pair | None = None, keys: str = "", head: str = "") -> str:
    """A configuration: a shard for each address, the authority of the servers, and ``own`` certificate."""
    lines = [head, "[backend]", TIMES, "tls = true", keys]
    if "tls_ca_file" not in keys:
        lines.append(f"tls_ca_file = '{papers.authority.certificate}'")
    if own is not None:
        lines += [f"tls_cert_file = '{own.certificate}'", f"tls_key_file = '{own.key}'"]
    return "\n".join([*lines, *(f"[[shards]]\nprimary = '{address}'" for address in addresses)])


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_over_tls(papers: Papers, servers: list[TlsServer], serve: Serve, workers: int) -> None:
    addresses = [server.tls_address for server in servers]
    config = configured(papers, *addresses, own=papers.client, head=f"workers = {workers}")
    proxy = serve(config=config)
    keys = [f"{{{tag}}}{number}" for tag in shard_tags(3) for number in range(1000)]
    for protocol in (2, 3):
        with Wire(proxy.address, protocol=protocol) as client:
            assert client.ask("SELECT", protocol) == OK
            assert client.ask("FLUSHDB") == OK
            client.send(pipeline(*(("SET", key, key) for key in keys), *(("GET", key) for key in keys)))
            assert client.replies(2 * len(keys)) == [OK] * len(keys) + [encode.bulk(key) for key in keys]
            assert client.ask("MGET", *keys) == encode.array(map(encode.bulk, keys))
            assert client.ask("DBSIZE") == encode.integer(len(keys))
    assert "server not asked" not in proxy.log


def test_large_values(papers: Papers, servers: list[TlsServer], serve: Serve) -> None:
    proxy = serve(config=configured(papers, servers[0].tls_address, servers[1].tls_address))
    values = {f"large:{number}": os.urandom(MB) * (number + 1) for number in range(6)}
    value = os.urandom(MB) * 32
    with Wire(proxy.address) as slow, Wire(proxy.address) as quick:
        assert quick.ask("MSET", *(word for pair in values.items() for word in pair)) == OK
        assert quick.ask("MGET", *values) == encode.array(map(encode.bulk, values.values()))
        assert slow.ask("SET", "{t}large", value) == OK
        # One that reads slowly, and others on the same shard.
        slow.send(pack("GET", "{t}large") + pack("ECHO", "behind it"))
        for number in range(200):
            assert quick.ask("SET", "{t}small", number) == OK
            assert quick.ask("GET", "{t}small") == encode.bulk(str(number))
        assert slow.reply() == encode.bulk(value)
        assert slow.reply() == encode.bulk("behind it")
        assert quick.ask("DEL", "{t}large", *values) == encode.integer(7)


@pytest.mark.drill
def test_a_server_that_dies_and_comes_back(papers: Papers, servers: list[TlsServer], serve: Serve) -> None:
    proxy = serve(config=configured(papers, servers[0].tls_address, servers[1].tls_address))
    with Wire(proxy.address) as client:
        first, second = shard_tags(2)
        servers[1].kill()
        assert client.ask("SET", f"{{{first}}}k", 1) == OK
        assert client.ask("SET", f"{{{second}}}k", 1).startswith(b"-SHARDDOWN ")
        servers[1].start()
        assert eventually(lambda: client.ask("SET", f"{{{second}}}k", 2) == OK)
        servers[1].pause()
        try:
            assert client.ask("GET", f"{{{second}}}k").startswith(b"-TIMEOUT ")
        finally:
            servers[1].resume()
        assert eventually(lambda: client.ask("GET", f"{{{second}}}k") == b"$1\r\n2\r\n")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no certificate", "asks for a client's certificate: set backend.tls_cert_file and backend.tls_key_file"),
        ("a stranger's certificate", "does not accept our certificate (unknown ca): have backend.tls_cert_file"),
        ("wrong authority", "the server's certificate is not trusted"),
        ("the system's authorities", "set backend.tls_ca_file to the certificate of the authority that signed it"),
        ("wrong name", 'is not for "other.test": set backend.tls_server_name to a name that is in it'),
        ("plain server", "did not answer the TLS handshake within 0.9 s: if it speaks no TLS at this port"),
        ("plain proxy", "closed the connection without a word: if it speaks TLS at this port, tls = true is missing"),
    ],
)
def test_what_does_not_work(papers: Papers, servers: list[TlsServer], serve: Serve, case: str, words: str) -> None:
    lax, _, strict = servers
    config = {
        "no certificate": lambda: configured(papers, strict.tls_address),
        "a stranger's certificate": lambda: configured(papers, strict.tls_address, own=papers.stranger),
        "wrong authority": lambda: configured(
            papers, lax.tls_address, keys=f"tls_ca_file = '{papers.stranger.certificate}'"
        ),
        "the system's authorities": lambda: configured(papers, lax.tls_address).replace("tls_ca_file", "#"),
        "wrong name": lambda: configured(papers, lax.tls_address, keys="tls_server_name = 'other.test'"),
        "plain server": lambda: configured(papers, lax.address),
        "plain proxy": lambda: f"[backend]\n{TIMES}[[shards]]\nprimary = '{lax.tls_address}'",
    }[case]()
    proxy = serve(config=config, ready=False)
    with Wire(proxy.address) as client:
        assert client.ask("PING") == b"+PONG\r\n"

        def refused() -> bool:
            reply = decode(client.ask("SET", "k", 1))
            return str(reply).startswith("SHARDDOWN ") and words in str(reply)

        assert eventually(refused), (client.ask("GET", "k"), proxy.log)
    assert words in proxy.log
    assert proxy.http("/readyz?all")[0] == 503


def test_what_works_in_the_end(papers: Papers, servers: list[TlsServer], serve: Serve) -> None:
    address = servers[0].tls_address
    stranger = f"tls_ca_file = '{papers.stranger.certificate}'"
    named = configured(papers, address, keys=f"tls_server_name = '{SERVER_NAME}'")
    careless = configured(papers, address, keys=f"{stranger}\ntls_verify = false")
    for config in (named, careless):
        proxy = serve(config=config)
        with Wire(proxy.address) as client:
            assert client.ask("SET", "k", 1) == OK
        assert ("backend.tls_verify is off" in proxy.log) is (config is careless)


def test_sentinels_and_what_they_watch(
    tls_binary: ServerBinary, papers: Papers, servers: list[TlsServer], serve: Serve, tmp_path: Path
) -> None:
    primary, port = servers[2], free_port()
    watch = f"sentinel monitor first {primary.host} {primary.tls_port} 1"
    lines = papers.options(f"tls-port {port}", "tls-auth-clients yes", "tls-replication yes", watch)
    sentinel = LocalSentinel(tls_binary, tmp_path, options=lines)
    sentinel.start()
    try:
        head = "[topology]\nkind = 'sentinel'\n[sentinel]\nmasters = 'first'\n"
        over_tls = f"{head}sentinels = '{sentinel.host}:{port}'\ntls = true\n"
        with Wire(serve(config=configured(papers, own=papers.client, head=over_tls)).address) as client:
            assert client.ask("SET", "k", 1) == OK
        plainly = f"{head}sentinels = '{sentinel.host}:{port}'\n"
        proxy = serve(config=configured(papers, own=papers.client, head=plainly), ready=False)
        assert eventually(lambda: "without a word: if it speaks TLS at this port, tls = true is missing" in proxy.log)
    finally:
        sentinel.kill()
