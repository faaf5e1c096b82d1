"""The certificates of a listener follow their files, and what became of handshakes is counted and logged."""

import asyncio
import contextlib
import logging
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.config.listener_tls import ListenerTls
from proxy.errors import ConfigError
from proxy.transport import tls_listener
from proxy.transport.clock import running_clock
from proxy.transport.tls_listener import TlsListener, TlsListeners, reason_of
from tests.support.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def section(authority: Authority, tmp_path: Path) -> ListenerTls:
    pair = authority.sign("first")
    shutil.copy(pair.certificate, tmp_path / "live.crt")
    shutil.copy(pair.key, tmp_path / "live.key")
    return ListenerTls(cert_file=str(tmp_path / "live.crt"), key_file=str(tmp_path / "live.key"))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def listener_of(loop: asyncio.AbstractEventLoop, section: ListenerTls) -> TlsListener:
    async def make() -> TlsListener:
        return TlsListeners(running_clock(), 0.0).add(0, "here", section)

    return loop.run_until_complete(make())


def shown(listener: TlsListener, client: ssl.SSLContext | None = None) -> tuple[Any, ssl.SSLObject]:
    """The certificate that a client sees, and the server's end of the connection."""
    if client is None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there), listener.wrap(there, back)
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0].getpeercert(binary_form=True), ends[1]


def test_changed_files_are_used(
    loop: asyncio.AbstractEventLoop, section: ListenerTls, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    listener = listener_of(loop, section)
    before, _ = shown(listener)
    expiry = listener.expiry[section.cert_file]
    listener.look()
    assert not listener.reloads
    pair = authority.sign("second", days=20)
    shutil.copy(pair.certificate, section.cert_file)
    listener.look()  # the key is not its key yet
    assert listener.reloads == {"failed": 1}
    assert "keeps its certificates" in caplog.text
    assert "not the key of the certificate" in caplog.text
    assert shown(listener)[0] == before
    assert listener.expiry[section.cert_file] == expiry
    listener.look()
    assert listener.reloads == {"failed": 1}  # said once for each change
    shutil.copy(pair.key, section.key_file)
    listener.look()
    assert listener.reloads == {"failed": 1, "ok": 1}
    assert shown(listener)[0] != before
    assert listener.expiry[section.cert_file] > expiry + 10 * 86400
    Path(section.key_file).unlink()
    listener.look()
    assert listener.reloads == {"failed": 2, "ok": 1}


def test_wrong_files_at_the_start(loop: asyncio.AbstractEventLoop, section: ListenerTls) -> None:
    Path(section.cert_file).write_text("nonsense")
    with pytest.raises(ConfigError, match="cert_file"):
        listener_of(loop, section)


def test_files_are_looked_at_again_and_again(
    loop: asyncio.AbstractEventLoop, section: ListenerTls, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_listener, "LOOK_EVERY", 0.01)

    async def run() -> None:
        listeners = TlsListeners(running_clock(), 0.0)
        listener = listeners.add(0, "here", section)
        watching = asyncio.ensure_future(listeners.watch())
        pair = authority.sign("third")
        shutil.copy(pair.certificate, section.cert_file)
        shutil.copy(pair.key, section.key_file)
        async with asyncio.timeout(10):
            while not listener.reloads["ok"]:  # noqa: ASYNC110 - a thread counts it
                await asyncio.sleep(0.01)
        watching.cancel()
        listeners.close()

    loop.run_until_complete(run())


@pytest.mark.parametrize(
    ("auth", "user_from", "names"),
    [
        ("certificate", "cn", ["alice"]),
        ("certificate", "san", ["a.test", "spiffe://x/alice", "alice@a.test"]),
        ("password", "cn", None),
    ],
)
def test_names_in_a_certificate(
    loop: asyncio.AbstractEventLoop,
    section: ListenerTls,
    authority: Authority,
    auth: str,
    user_from: str,
    names: list[str] | None,
) -> None:
    pair = authority.sign("alice", names="DNS:a.test,URI:spiffe://x/alice,email:alice@a.test,IP:127.0.0.1")
    keys = {"client_certs": "optional", "ca_file": str(authority.pair.certificate), "auth": auth}
    if auth == "certificate":
        keys["user_from"] = user_from
    listener = listener_of(loop, ListenerTls.model_validate(section.model_dump(exclude_unset=True) | keys))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    _, connection = shown(listener, client)
    assert listener.names_of(connection) is None  # without a certificate
    client.load_cert_chain(pair.certificate, pair.key)
    _, connection = shown(listener, client)
    assert listener.names_of(connection) == names


class Peer:
    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 5) if name == "peername" else default


def test_failures_are_counted_and_few_are_logged(
    loop: asyncio.AbstractEventLoop, section: ListenerTls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    listener = listener_of(loop, section)
    peer = cast(asyncio.Transport, Peer())
    for _ in range(20):
        listener.failed(peer, TimeoutError("it was not complete within 2 s"))
    listener.failed(peer, ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "closed"))
    assert listener.outcomes == {"timeout": 20, "closed": 1}
    assert caplog.text.count("TLS handshake failed") == 5
    assert "address=127.0.0.1:5 reason='timeout: it was not complete within 2 s'" in caplog.text


def test_a_failure_that_is_not_openssls_own_is_logged(
    loop: asyncio.AbstractEventLoop, section: ListenerTls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    listener = listener_of(loop, section)
    listener.failed(cast(asyncio.Transport, Peer()), ssl.SSLError(ssl.SSL_ERROR_SSL, "too much"))
    assert listener.outcomes == {"other": 1}
    assert "reason='other: too much'" in caplog.text


def test_reasons() -> None:
    def error(reason: str) -> ssl.SSLError:
        found = ssl.SSLError(ssl.SSL_ERROR_SSL, reason)
        found.reason = reason
        return found

    for reason, name in {
        "HTTP_REQUEST": "no TLS",
        "WRONG_VERSION_NUMBER": "no TLS",
        "UNSUPPORTED_PROTOCOL": "version",
        "NO_SHARED_CIPHER": "cipher",
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no certificate",
        "TLSV1_ALERT_UNKNOWN_CA": "refused by client",
        "LENGTH_MISMATCH": "other",
    }.items():
        assert reason_of(error(reason)) == name
    assert reason_of(ssl.SSLCertVerificationError("bad")) == "bad certificate"
    assert reason_of(ConnectionAbortedError("too many")) == "busy"
    assert reason_of(ValueError()) == "other"


def test_a_client_without_a_descriptor_gets_no_plain_text(
    loop: asyncio.AbstractEventLoop, section: ListenerTls
) -> None:
    counted: list[int] = []

    def turn_away() -> bytes:
        counted.append(1)
        return b"-ERR max number of clients reached\r\n"

    assert listener_of(loop, section).without_words(turn_away)() == b""
    assert counted == [1]
