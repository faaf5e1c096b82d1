"""The table of a listener's TLS: what is wrong in it is said in words, and what is right makes contexts."""

import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from proxy.config.certificates import dns_names, expires_at, server_context
from proxy.config.listener_tls import ListenerTls
from proxy.config.secret import LoadContext, Problems
from tests.support.certificates import SERVER_NAME, Authority, openssl


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what keys can name."""
    path = tmp_path_factory.mktemp("certificates")
    authority = Authority(path)
    own = authority.sign("own")
    authority.sign("other", names="DNS:other.test,DNS:*.wild.test")
    authority.sign("nameless", names="")
    Authority(path, "stranger")
    openssl("ec", "-in", own.key, "-aes128", "-passout", "pass:secret", "-out", path / "locked.key")
    (path / "text").write_text("no certificate")
    return path


def table(folder: Path, **keys: Any) -> ListenerTls:
    return ListenerTls.model_validate(
        {"cert_file": "own.crt", "key_file": "own.key"} | keys, context=LoadContext({}, folder)
    )


def problems(folder: Path, **keys: Any) -> dict[str, str]:
    """What is wrong, by the key: said by the table itself, or by the files."""
    try:
        section = table(folder, **keys)
    except ValidationError as error:
        cause = [each["ctx"]["error"] for each in error.errors() if "error" in each.get("ctx", {})]
        if cause and isinstance(cause[0], Problems):
            return dict(cause[0].problems)
        return {".".join(map(str, each["loc"])): each["msg"] for each in error.errors()}
    with pytest.raises(Problems) as caught:
        server_context(section)
    return dict(caught.value.problems)


GOOD: list[dict[str, Any]] = [
    {},
    {"min_version": "1.3"},
    {"ciphers": "ECDHE+AESGCM"},
    {"client_certs": "optional", "ca_file": "authority.crt"},
    {"client_certs": "required", "ca_file": "authority.crt", "auth": "certificate", "user_from": "san"},
    {"certificates": [{"cert_file": "other.crt", "key_file": "other.key"}]},
    {"certificates": [{"cert_file": "nameless.crt", "key_file": "nameless.key", "server_names": "a.test"}]},
]


@pytest.mark.parametrize("keys", GOOD)
def test_good(folder: Path, keys: dict[str, Any]) -> None:
    section = table(folder, **keys)
    context, others = server_context(section)
    assert context.minimum_version is (ssl.TLSVersion.TLSv1_3 if "min_version" in keys else ssl.TLSVersion.TLSv1_2)
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    wanted = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
    assert context.verify_mode is wanted[section.client_certs]
    assert bool(others) is bool(section.certificates)
    assert all(Path(name).is_absolute() for name in section.files)


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"cert_file": "nowhere"}, "cert_file", "which can not be read: No such file"),
    ({"cert_file": "text"}, "cert_file", "which holds no certificate"),
    ({"key_file": "own.crt"}, "key_file", "which holds no key"),
    ({"key_file": "other.key"}, "key_file", "which is not the key of the certificate"),
    ({"key_file": "locked.key"}, "key_file", "which is encrypted"),
    ({"ca_file": "text", "client_certs": "required"}, "ca_file", "which holds no certificate"),
    ({"ca_file": "nowhere", "client_certs": "required"}, "ca_file", "which can not be read"),
    ({"client_certs": "required"}, "ca_file", 'is missing: client_certs = "required" needs whom to trust'),
    ({"ca_file": "authority.crt"}, "ca_file", "is not used"),
    ({"auth": "certificate"}, "auth", "clients are not asked for one"),
    ({"user_from": "san"}, "user_from", 'is not used: set auth = "certificate"'),
    ({"ciphers": "NONE-OF-THEM"}, "ciphers", "names no cipher"),
    ({"min_version": "1.1"}, "min_version", "1.2"),
    ({"certificates": [{"cert_file": "text", "key_file": "own.key"}]}, "certificates[0].cert_file", "no certificate"),
    (
        {"certificates": [{"cert_file": "nameless.crt", "key_file": "nameless.key"}]},
        "certificates[0].server_names",
        "has no DNS names either",
    ),
    (
        {"certificates": [{"cert_file": "other.crt", "key_file": "other.key"}] * 2},
        "certificates[1].server_names",
        "is that of another certificate too",
    ),
    (
        {"certificates": [{"cert_file": "own.crt", "key_file": "own.key", "server_names": "a.test:6380"}]},
        "certificates.0.server_names.0",
        "is not a host name",
    ),
]


@pytest.mark.parametrize(("keys", "key", "words"), BAD)
def test_bad(folder: Path, keys: dict[str, Any], key: str, words: str) -> None:
    found = problems(folder, **keys)
    assert words in found[key], found


def test_what_a_certificate_says(folder: Path) -> None:
    assert dns_names(str(folder / "own.crt")) == (SERVER_NAME,)
    assert dns_names(str(folder / "nameless.crt")) == ()
    assert expires_at(str(folder / "own.crt")) > 1_700_000_000
    with pytest.raises(OSError, match="PEM"):
        expires_at(str(folder / "text"))


@pytest.mark.parametrize(
    ("asked", "subject"),
    [
        ("other.test", "other"),
        ("OTHER.test", "other"),
        ("a.wild.test", "other"),
        ("a.b.wild.test", "own"),
        ("wild.test", "own"),
        ("elsewhere.test", "own"),
        (None, "own"),
    ],
)
def test_the_name_asked_for_chooses_the_certificate(folder: Path, asked: str | None, subject: str) -> None:
    context, _ = server_context(table(folder, certificates=[{"cert_file": "other.crt", "key_file": "other.key"}]))
    assert dict(part for (part,) in shown(context, trusting(folder, ""), asked)["subject"]) == {"commonName": subject}


def shown(server: ssl.SSLContext, client: ssl.SSLContext, asked: str | None) -> Any:
    """The certificate that the server shows to a client that asks for a name."""
    return ends_of(server, client, asked)[0].getpeercert()


def ends_of(server: ssl.SSLContext, client: ssl.SSLContext, asked: str | None) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """The client's and the server's end after the handshake. Raises SSLError if it fails."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there, server_hostname=asked), server.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends


@pytest.mark.parametrize("how", ["optional", "required"])
@pytest.mark.parametrize("asked", [SERVER_NAME, "other.test", "x.wild.test", "unknown.test"])
def test_every_certificate_asks_for_the_clients(folder: Path, how: str, asked: str) -> None:
    """Whichever certificate is chosen by the name, the client's own is verified by ``ca_file``."""
    others = [{"cert_file": "other.crt", "key_file": "other.key"}]
    server, _ = server_context(table(folder, client_certs=how, ca_file="authority.crt", certificates=others))
    for pair, accepted in ("own", True), ("stranger", False), ("", how == "optional"):
        client = trusting(folder, pair)
        with contextlib.nullcontext() if accepted else pytest.raises(ssl.SSLError):
            known = ends_of(server, client, asked)[1].getpeercert()
            assert bool(known) is bool(pair)


def test_every_certificate_has_the_ciphers(folder: Path) -> None:
    others = [{"cert_file": "other.crt", "key_file": "other.key"}]
    server, _ = server_context(table(folder, ciphers="ECDHE+CHACHA20", certificates=others))
    client = trusting(folder, "")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    for asked in SERVER_NAME, "other.test":
        cipher = ends_of(server, client, asked)[0].cipher()
        assert cipher is not None
        assert "CHACHA20" in cipher[0]


def trusting(folder: Path, pair: str) -> ssl.SSLContext:
    """The context of a client with the certificate ``pair``, or without one."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(folder / "authority.crt")
    if pair:
        client.load_cert_chain(folder / f"{pair}.crt", folder / f"{pair}.key")
    return client
