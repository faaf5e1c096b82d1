"""Who may ask at the admin port, what they may cost, and what becomes of it when a process is stuck or gone."""

import base64
import contextlib
import gzip
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.certificates import SERVER_NAME, Authority
from tests.support.processes import children, eventually, runs
from tests.support.proxy_process import ProxyProcess

pytestmark = pytest.mark.live

TOKEN = "t0ken-of-the-scraper"
PASSWORD = "pa:ss wörd"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
NOWHERE = ("--static", "unix:/nowhere/1")
"""A shard that is down: the admin port answers all the same."""


def basic(name: str, password: str) -> dict[str, str]:
    """The header of basic authentication."""
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


class GuardedProxy(ProxyProcess):
    """A proxy whose admin port is asked with ``headers``, over TLS if there is a ``context``."""

    headers: Mapping[str, str] = {}
    context: ssl.SSLContext | None = None

    def connect(self, timeout: float = 8) -> http.client.HTTPConnection:
        """A connection to the admin port."""
        host, _, port = self.admin.rpartition(":")
        if self.context is not None:
            return http.client.HTTPSConnection(host, int(port), timeout=timeout, context=self.context)
        return http.client.HTTPConnection(host, int(port), timeout=timeout)

    def ask(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body."""
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, headers=dict(self.headers if headers is None else headers))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def http(self, path: str, *, method: str = "GET", accept: str = "") -> tuple[int, str]:
        """As anybody's, with the credentials."""
        status, _, body = self.ask(path, {**self.headers, "Accept": accept}, method)
        return status, body.decode()

    def admin_pid(self) -> int:
        """The process of the admin port; 0 if there is none."""
        for pid in children(self.pid):
            with contextlib.suppress(OSError):  # it may have ended
                if b"slotgate-admin" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return 0


def is_alive(proxy: GuardedProxy) -> bool:
    """Whether it says so; not, if it takes no more connections while it answers as many as it may."""
    with contextlib.suppress(OSError):
        return proxy.ask("/healthz")[0] == 200
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the proxies of this module have their files."""
    return tmp_path_factory.mktemp("admin")


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[GuardedProxy]:
    """A proxy with TLS, a token, and a user with a password; it is asked with the token."""
    authority = Authority(folder)
    authority.sign("admin")
    (folder / "token").write_text(f"{TOKEN}\n")
    config = """
        [admin]
        token_file = "token"
        username = "scraper"
        password_env = "ADMIN_PASSWORD"
        hosts = "Proxy.Example"
        tls_cert_file = "admin.crt"
        tls_key_file = "admin.key"
    """
    proxy = GuardedProxy(folder, *NOWHERE, config=config, environment={"ADMIN_PASSWORD": PASSWORD})
    proxy.headers = BEARER
    proxy.context = ssl.create_default_context(cafile=str(authority.pair.certificate))
    proxy.context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    with proxy.serving(ready=False):
        yield proxy


@pytest.fixture(scope="module")
def bounded(folder: Path) -> Iterator[GuardedProxy]:
    """A proxy that lets few ask at a time, and not for long; two workers."""
    config = 'workers = 2\n[admin]\nmax_connections = 4\ntimeout = "1500ms"\n'
    proxy = GuardedProxy(folder, *NOWHERE, config=config)
    with proxy.serving(ready=False):
        yield proxy


@pytest.fixture
def single(tmp_path: Path) -> Iterator[GuardedProxy]:
    """A proxy as it is without any [admin]."""
    proxy = GuardedProxy(tmp_path, *NOWHERE)
    try:
        proxy.start(ready=False)
        yield proxy
        if proxy.running:
            proxy.stop()
    finally:
        proxy.kill()


class TestCredentials:
    @pytest.mark.parametrize("headers", [BEARER, basic("scraper", PASSWORD)], ids=["bearer", "basic"])
    def test_good(self, guarded: GuardedProxy, headers: Mapping[str, str]) -> None:
        for path in "/metrics", "/topology":
            assert guarded.ask(path, headers)[0] == 200
        assert guarded.ask("/readyz", headers)[2] == b"no reachable primary in: shard-1\n"
        assert guarded.ask("/nothing", headers)[0] == 404

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": TOKEN},
            {"Authorization": "Bearer"},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": "Basic ////"},
            basic("scraper", TOKEN),
            basic("other", PASSWORD),
            basic("", ""),
        ],
    )
    def test_bad(self, guarded: GuardedProxy, headers: Mapping[str, str]) -> None:
        status, answered, body = guarded.ask("/metrics", headers)
        assert (status, body) == (401, b"say who you are\n")
        assert answered.get_all("WWW-Authenticate") == [
            'Bearer realm="slotgate"',
            'Basic realm="slotgate", charset="UTF-8"',
        ]

    def test_probes_have_none_and_learn_no_reasons(self, guarded: GuardedProxy) -> None:
        assert guarded.ask("/healthz", {})[::2] == (200, b"alive\n")
        assert guarded.ask("/readyz", {})[::2] == (503, b"not ready\n")

    def test_who_is_wrong_waits_and_is_named(self, guarded: GuardedProxy) -> None:
        began = time.monotonic()
        assert guarded.ask("/healthz", {"Authorization": "Bearer guess-1"})[0] == 401
        assert time.monotonic() - began >= 0.5
        assert re.search(r" WARNING wrong credentials at the admin port addr=127\.0\.0\.1:\d+ unsaid=0\n", guarded.log)

    def test_no_secret_is_shown(self, guarded: GuardedProxy) -> None:
        shown = guarded.log + guarded.http("/topology")[1] + guarded.http("/metrics")[1]
        for pid in guarded.pid, guarded.admin_pid():
            shown += Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
        assert TOKEN not in shown
        assert "guess-1" not in shown


class TestTls:
    def test_plain_http_gets_nothing(self, guarded: GuardedProxy) -> None:
        with socket.create_connection(("127.0.0.1", int(guarded.admin.rpartition(":")[2])), timeout=5) as plain:
            plain.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in plain.recv(1000)

    def test_old_versions_are_refused(self, guarded: GuardedProxy) -> None:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            http.client.HTTPSConnection("127.0.0.1", int(guarded.admin.rpartition(":")[2]), context=old).connect()

    def test_curl(self, guarded: GuardedProxy, folder: Path) -> None:
        if shutil.which("curl") is None:
            pytest.skip("no curl on PATH")
        said = subprocess.run(
            [
                *("curl", "-sS", "--noproxy", "*", "--compressed", "--cacert", str(folder / "authority.crt")),
                *("--user", f"scraper:{PASSWORD}", "-i", f"https://{guarded.admin}/metrics"),
            ],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        assert said.stdout.startswith("HTTP/1.1 200 OK")
        assert "slotgate_build_info{" in said.stdout

    def test_renewed_files_are_used(self, guarded: GuardedProxy, folder: Path) -> None:
        def presented() -> bytes:
            with contextlib.closing(guarded.connect()) as connection:
                connection.connect()
                assert isinstance(connection.sock, ssl.SSLSocket)
                certificate = connection.sock.getpeercert(binary_form=True)
                assert isinstance(certificate, bytes)
                return certificate

        before, good = presented(), (folder / "admin.key").read_bytes()
        (folder / "admin.key").write_text("no key")
        assert presented() == before
        assert "the admin port keeps its certificate" in guarded.log
        (folder / "admin.key").write_bytes(good)
        other = Authority(folder / "renewed").sign(SERVER_NAME)
        for name, source in ("admin.crt", other.certificate), ("admin.key", other.key):
            os.replace(shutil.copy(source, folder / f"{name}.new"), folder / name)
        assert guarded.context is not None
        guarded.context.load_verify_locations(other.certificate.parent / "authority.crt")
        assert presented() != before
        assert guarded.ask("/healthz")[0] == 200


class TestHost:
    @pytest.mark.parametrize(
        "host",
        [
            *("127.0.0.1", "127.0.0.1:9121", "[::1]:9121", "10.1.2.3:80"),
            *("localhost", "LocalHost.:1", "x.localhost", "proxy.example", "PROXY.example:9121"),
        ],
    )
    def test_expected(self, guarded: GuardedProxy, host: str) -> None:
        assert guarded.ask("/healthz", {"Host": host})[0] == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "127.0.0.1.evil.example:9121", "localhost.evil", "proxy", "", "["]
    )
    def test_unexpected(self, guarded: GuardedProxy, host: str) -> None:
        status, _, body = guarded.ask("/metrics", {"Host": host, **BEARER})
        assert status == 421
        assert b"admin.hosts" in body

    def test_the_target_goes_before_it(self, guarded: GuardedProxy) -> None:
        assert guarded.ask("http://evil.example/healthz", {"Host": "localhost"})[0] == 421
        assert guarded.ask("http://localhost/healthz", {"Host": "evil.example"})[0] == 200


class TestHttp:
    def test_gzip(self, guarded: GuardedProxy) -> None:
        plain = guarded.ask("/metrics", {**BEARER, "Accept-Encoding": "identity"})
        packed = guarded.ask("/metrics", {**BEARER, "Accept-Encoding": "deflate, gzip;q=0.8"})
        assert plain[1]["Content-Encoding"] is None
        assert packed[1]["Content-Encoding"] == "gzip"
        assert int(packed[1]["Content-Length"]) == len(packed[2]) < len(plain[2]) / 3
        names = {line.split("{")[0].split(" ")[0] for line in gzip.decompress(packed[2]).decode().splitlines()}
        assert names == {line.split("{")[0].split(" ")[0] for line in plain[2].decode().splitlines()}
        assert guarded.ask("/topology", {**BEARER, "Accept-Encoding": "gzip"})[1]["Content-Encoding"] is None

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
    def test_other_methods(self, guarded: GuardedProxy, method: str) -> None:
        status, headers, _ = guarded.ask("/metrics", method=method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")

    @pytest.mark.parametrize("path", ["/metrics", "/healthz", "/topology", "/nothing"])
    def test_head_is_get_without_the_body(self, guarded: GuardedProxy, path: str) -> None:
        status, headers, body = guarded.ask(path)
        head = guarded.ask(path, method="HEAD")
        assert (head[0], head[2]) == (status, b"")
        assert head[1]["Content-Type"] == headers["Content-Type"]
        assert abs(int(head[1]["Content-Length"]) - len(body)) < 100  # a counter may have one more digit


class TestBounds:
    def test_slow_headers(self, bounded: GuardedProxy) -> None:
        with socket.create_connection(("127.0.0.1", int(bounded.admin.rpartition(":")[2]))) as slow:
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
                slow.settimeout(0.1)
                while time.monotonic() - began < 10:
                    slow.sendall(b"x-y: z\r\n")
                    with contextlib.suppress(TimeoutError):
                        assert slow.recv(1) == b""
                        break
            assert 1 < time.monotonic() - began < 6

    def test_who_reads_nothing(self, bounded: GuardedProxy) -> None:
        address = ("127.0.0.1", int(bounded.admin.rpartition(":")[2]))
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                lazy = stack.enter_context(socket.socket())
                lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                lazy.connect(address)
                lazy.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert eventually(lambda: is_alive(bounded))

    def test_silent_connections_keep_nobody_out(self, bounded: GuardedProxy) -> None:
        address = ("127.0.0.1", int(bounded.admin.rpartition(":")[2]))
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(300)]
            began = time.monotonic()
            assert bounded.ask("/healthz")[0] == 200
            assert bounded.ask("/metrics")[0] == 200
            open_files = len(list(Path(f"/proc/{bounded.admin_pid()}/fd").iterdir()))
            assert open_files < 40
            # The first ones were let go of at once, and not when their time was over.
            assert crowd[0].recv(1) == b""
            assert time.monotonic() - began < 5

    def test_a_large_head_is_not_kept(self, bounded: GuardedProxy) -> None:
        status, _, _ = bounded.ask("/healthz", {"X": "y" * 20_000})
        assert status == 200
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            bounded.ask("/healthz", {"X": "y" * 60_000})


def test_a_unix_socket_has_its_mode(folder: Path) -> None:
    path = folder / "admin.sock"
    command = f'[admin]\naddress = "unix:{path}"\nmode = "620"\n'
    proxy = GuardedProxy(folder, *NOWHERE, config=command)
    proxy.admin = f"unix:{path}"

    def ask(target: str, host: str) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(8)
            client.connect(str(path))
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b""))

    proxy.http = lambda path, **_: (200, ask(path, "localhost").decode())  # type: ignore[method-assign]
    try:
        proxy.start(ready=False)
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        assert ask("/healthz", "whatever").endswith(b"alive\n")
        proxy.stop()
        assert not path.exists()
    finally:
        proxy.kill()


class TestProcesses:
    def test_a_stuck_loop_is_not_alive(self, single: GuardedProxy) -> None:
        assert single.ask("/healthz")[0] == 200
        single.signal(signal.SIGSTOP)
        try:
            assert single.ask("/healthz")[::2] == (503, b"the event loop has not answered for 3 s\n")
        finally:
            single.signal(signal.SIGCONT)
        assert eventually(lambda: single.ask("/healthz")[::2] == (200, b"alive\n"))

    def test_workers_are_alive_as_long_as_one_is(self, bounded: GuardedProxy) -> None:
        assert eventually(lambda: "slotgate_workers 2.0" in bounded.http("/metrics")[1])
        pids = [pid for pid in children(bounded.pid) if b"slotgate-worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        try:
            os.kill(pids[0], signal.SIGSTOP)
            assert bounded.ask("/healthz")[::2] == (200, b"alive\n")
            os.kill(pids[1], signal.SIGSTOP)
            assert bounded.ask("/healthz")[::2] == (503, b"none of 2 workers answers\n")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert eventually(lambda: bounded.ask("/healthz")[0] == 200)

    def test_a_dead_one_is_replaced(self, single: GuardedProxy) -> None:
        first = single.admin_pid()
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: single.admin_pid() not in (0, first))
        assert single.ask("/healthz")[::2] == (200, b"alive\n")
        assert re.search(rf" ERROR the admin port's process ended pid={first} exit=-9 ", single.log)

    def test_it_leaves_signals_to_the_other(self, single: GuardedProxy) -> None:
        pid = single.admin_pid()
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            os.kill(pid, number)
        assert single.ask("/healthz")[0] == 200
        single.stop()
        assert eventually(lambda: not runs(pid))
        assert "ended" not in single.log

    def test_it_ends_with_the_other(self, single: GuardedProxy) -> None:
        pid = single.admin_pid()
        single.kill()
        assert eventually(lambda: not runs(pid))


def test_no_traceback_at_the_end_with_tls(folder: Path) -> None:
    """Connections that have not begun the handshake, are in it, or have sent half a request."""
    authority = Authority(folder)
    authority.sign("end")
    config = '[admin]\ntls_cert_file = "end.crt"\ntls_key_file = "end.key"\n'
    proxy = GuardedProxy(folder, *NOWHERE, config=config)
    proxy.context = ssl.create_default_context(cafile=str(authority.pair.certificate))
    proxy.context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    with contextlib.ExitStack() as stack, proxy.serving(ready=False):
        host, _, port = proxy.admin.rpartition(":")
        for number in range(30):
            link = stack.enter_context(socket.create_connection((host, int(port)), 5))
            if number % 3 == 1:
                link.sendall(b"\x16\x03\x01\x02\x00\x01")
            elif number % 3 == 2:
                tls = stack.enter_context(proxy.context.wrap_socket(link, server_hostname="127.0.0.1"))
                tls.sendall(b"GET /metrics HTTP/1.1\r\nHos")
