"""The keys of TLS to the servers: what ``check`` says of the files, and what a context made of them asks for."""

import ssl
from pathlib import Path

import pytest

from proxy.config import Config, load
from proxy.config.certificates import client_context
from proxy.config.secret import Problems
from proxy.errors import ConfigError
from proxy.transport.tls import backend_tls, sentinel_tls
from tests.support.certificates import Authority, openssl

SHARD = '[[shards]]\nprimary = "127.0.0.1:7001"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what keys can name."""
    path = tmp_path_factory.mktemp("certificates")
    authority = Authority(path)
    own, _ = authority.sign("own"), authority.sign("other")
    (path / "both.pem").write_bytes(own.certificate.read_bytes() + own.key.read_bytes())
    openssl("ec", "-in", own.key, "-aes128", "-passout", "pass:secret", "-out", path / "locked.key")
    (path / "text").write_text("no certificate")
    (path / "empty").write_text("")
    return path


def loaded(folder: Path, *keys: str, environ: dict[str, str] | None = None, head: str = SHARD) -> Config:
    path = folder / "slotgate.toml"
    path.write_text(head + "[backend]\n" + "\n".join(keys) + "\n")
    return load(path, {}, environ or {})


def problems(folder: Path, *keys: str, environ: dict[str, str] | None = None) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, *keys, environ=environ)
    return list(caught.value.problems)


GOOD = {
    "alone": ("tls = true",),
    "authority": ("tls = true", "tls_ca_file = 'authority.crt'"),
    "server's own": ("tls = true", "tls_ca_file = 'own.crt'"),
    "client": ("tls = true", "tls_cert_file = 'own.crt'", "tls_key_file = 'own.key'"),
    "one file": ("tls = true", "tls_cert_file = 'both.pem'", "tls_key_file = 'both.pem'"),
    "all": ("tls = true", "tls_ca_file = 'authority.crt'", "tls_server_name = 'redis.test'", "tls_verify = true"),
    "off": ("tls = false",),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(folder: Path, name: str) -> None:
    config = loaded(folder, *GOOD[name])
    tls = backend_tls(config)
    assert (tls is not None) is config.backend.tls
    if tls is not None:
        assert tls.context.verify_mode is ssl.CERT_REQUIRED
        assert tls.context.check_hostname
        assert tls.context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert tls.name("10.0.0.1") == (config.backend.tls_server_name or "10.0.0.1")
    if config.backend.tls_ca_file:
        assert Path(config.backend.tls_ca_file).parent == folder


NO_CERTIFICATE = "which holds no certificate: it is PEM, and begins with -----BEGIN CERTIFICATE-----"
NO_EFFECT = "has no effect without TLS: set tls = true beside it, or leave it out"
BAD = {
    "no such file": (
        ("tls = true", "tls_ca_file = 'nowhere'"),
        [("tls_ca_file", "names {folder}/nowhere, which can not be read: No such file or directory")],
    ),
    "a directory, and no name at all": (
        ("tls = true", "tls_ca_file = ''", 'tls_cert_file = "a\\u0000"', "tls_key_file = 'own.key'"),
        [
            ("tls_ca_file", "names {folder}, which can not be read: Is a directory"),
            ("tls_cert_file", "names no file: embedded null byte"),
        ],
    ),
    "no authority": (
        ("tls = true", "tls_ca_file = 'text'"),
        [("tls_ca_file", "names {folder}/text, " + NO_CERTIFICATE)],
    ),
    "an empty file": (
        ("tls = true", "tls_ca_file = 'empty'"),
        [("tls_ca_file", "names {folder}/empty, " + NO_CERTIFICATE)],
    ),
    "no key": (
        ("tls = true", "tls_cert_file = 'own.crt'"),
        [("tls_cert_file", "needs its key: set tls_key_file beside it (to the same file, if that holds both)")],
    ),
    "no certificate": (
        ("tls = true", "tls_key_file = 'own.key'"),
        [("tls_key_file", "needs its certificate: set tls_cert_file too (to the same file, if that holds both)")],
    ),
    "both are wrong": (
        ("tls = true", "tls_ca_file = 'text'", "tls_cert_file = 'own.key'", "tls_key_file = 'own.crt'"),
        [
            ("tls_ca_file", "names {folder}/text, " + NO_CERTIFICATE),
            ("tls_cert_file", "names {folder}/own.key, " + NO_CERTIFICATE),
        ],
    ),
    "a certificate for a key": (
        ("tls = true", "tls_cert_file = 'own.crt'", "tls_key_file = 'own.crt'"),
        [
            (
                "tls_key_file",
                "names {folder}/own.crt, which holds no key: it is PEM, and begins with -----BEGIN PRIVATE KEY-----",
            )
        ],
    ),
    "somebody else's key": (
        ("tls = true", "tls_cert_file = 'own.crt'", "tls_key_file = 'other.key'"),
        [("tls_key_file", "names {folder}/other.key, which is not the key of the certificate in {folder}/own.crt")],
    ),
    "an encrypted key": (
        ("tls = true", "tls_cert_file = 'own.crt'", "tls_key_file = 'locked.key'"),
        [
            (
                "tls_key_file",
                "names {folder}/locked.key, which is encrypted: nobody is there to type a passphrase, decrypt it",
            )
        ],
    ),
    "all for nothing": (
        (
            "tls_ca_file = 'nowhere'",
            "tls_cert_file = 'own.crt'",
            "tls_key_file = 'own.key'",
            "tls_server_name = 'redis.test'",
            "tls_verify = false",
        ),
        [
            ("tls_ca_file", NO_EFFECT),
            ("tls_cert_file", NO_EFFECT),
            ("tls_key_file", NO_EFFECT),
            ("tls_server_name", NO_EFFECT),
            ("tls_verify", NO_EFFECT),
        ],
    ),
    "no name": (
        ("tls = true", "tls_server_name = ''"),
        [("tls_server_name", "is not a good name: it has no spaces and is not empty")],
    ),
    "no truth": (("tls = 'perhaps'",), [("tls", "is not true or false: write one of them, without quotes")]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad(folder: Path, name: str) -> None:
    keys, wanted = BAD[name]
    assert problems(folder, *keys) == [(f"backend.{key}", words.format(folder=folder)) for key, words in wanted]


def test_from_the_environment(folder: Path) -> None:
    environ = {"SLOTGATE_BACKEND__TLS": "true", "SLOTGATE_BACKEND__TLS_CA_FILE": "authority.crt"}
    config = loaded(folder, environ=environ)
    assert config.backend.tls
    assert config.backend.tls_ca_file == str(folder / "authority.crt")
    environ["SLOTGATE_BACKEND__TLS_CA_FILE"] = "text"
    ((where, words),) = problems(folder, environ=environ)
    assert where == "backend.tls_ca_file"
    assert words.endswith("(from SLOTGATE_BACKEND__TLS_CA_FILE)")


def test_sentinels_have_a_switch_of_their_own(folder: Path) -> None:
    head = "[topology]\nkind = 'sentinel'\n[sentinel]\nsentinels = '127.0.0.1:26379'\nmasters = 'a'\ntls = {}\n"
    keys = ("tls_ca_file = 'authority.crt'", "tls_server_name = 'redis.test'")
    config = loaded(folder, *keys, head=head.format("true"))
    assert backend_tls(config) is None
    tls = sentinel_tls(config)
    assert tls is not None
    assert tls.name("10.0.0.1") == "redis.test"
    assert sentinel_tls(loaded(folder, "tls = true", *keys, head=head.format("false"))) is None


def test_whoever_does_not_verify_is_warned(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tls = backend_tls(loaded(folder, "tls = true", "tls_verify = false"))
    assert tls is not None
    assert tls.context.verify_mode is ssl.CERT_NONE
    assert not tls.context.check_hostname
    assert "backend.tls is on, but backend.tls_verify is off" in caplog.text


def test_a_file_that_goes_bad_after_the_check(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "authority.crt"
    file.write_bytes((folder / "authority.crt").read_bytes())
    config = loaded(folder, "tls = true", f"tls_ca_file = '{file}'")
    file.unlink()
    with pytest.raises(ConfigError) as caught:
        backend_tls(config)
    assert caught.value.problems == (
        ("backend.tls_ca_file", f"names {file}, which can not be read: No such file or directory"),
    )


def test_a_context_of_bad_files_is_no_context(folder: Path) -> None:
    config = loaded(folder, "tls = true")
    broken = config.backend.model_copy(update={"tls_cert_file": str(folder / "own.crt")})
    with pytest.raises(Problems, match="needs its key"):
        client_context(broken)
