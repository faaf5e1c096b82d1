"""``[admin]``: its short form, what keys replace each other, what is wrong with them."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from proxy.config import Address, Config, load
from proxy.config.settings import settings
from proxy.errors import ConfigError
from tests.support.certificates import Authority

SHARD = '[[shards]]\nprimary = "127.0.0.1:7001"\n'


def loaded(folder: Path, table: str, environ: Mapping[str, str] | None = None, **flags: object) -> Config:
    path = folder / "slotgate.toml"
    path.write_text(f"{table}\n{SHARD}")
    return load(path, flags, environ or {})


def problems(folder: Path, table: str, environ: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, table, environ)
    return list(caught.value.problems)


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_short_form_is_the_address(tmp_path: Path) -> None:
    for config in (
        loaded(tmp_path, 'admin = "[::1]:9"'),
        loaded(tmp_path, "", {"SLOTGATE_ADMIN": "[::1]:9"}),
        loaded(tmp_path, "", admin="[::1]:9"),
        loaded(tmp_path, '[admin]\naddress = "[::1]:9"'),
        loaded(tmp_path, "", {"SLOTGATE_ADMIN__ADDRESS": "[::1]:9"}),
        loaded(tmp_path, "", {"SLOTGATE_ADMIN": '{"address": "[::1]:9"}'}),
    ):
        assert config.admin.address == Address("::1", 9)
        assert str(config.admin) == "[::1]:9"
    for config in loaded(tmp_path, 'admin = ""'), loaded(tmp_path, '[admin]\naddress = ""'):
        assert config.admin.address is None
        assert str(config.admin) == "off"


def test_an_address_from_outside_leaves_the_rest_of_the_table(tmp_path: Path) -> None:
    """Else it would open what the file closes."""
    table = '[admin]\naddress = "127.0.0.1:1"\ntoken = "x"'
    for config in (
        loaded(tmp_path, table, {"SLOTGATE_ADMIN": "127.0.0.1:2"}),
        loaded(tmp_path, table, admin="127.0.0.1:2"),
        loaded(tmp_path, 'admin = "127.0.0.1:1"', {"SLOTGATE_ADMIN__TOKEN": "x"}, admin="127.0.0.1:2"),
        loaded(tmp_path, "", {"SLOTGATE_ADMIN__TOKEN": "x", "SLOTGATE_ADMIN": "127.0.0.1:2"}),
    ):
        assert config.admin.address == Address("127.0.0.1", 2)
        assert [secret.get_secret_value() for secret in config.admin.token_sha256] == [hashed("x")]


def test_secrets_are_read_and_only_their_hashes_kept(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    table = '[admin]\ntoken_file = "token"\nusername = "me"\npassword_env = "SLOTGATE_PW"\nhosts = ["A.b.", "c"]'
    config = loaded(tmp_path, table, {"SLOTGATE_PW": "from-env"})
    assert [secret.get_secret_value() for secret in config.admin.token_sha256] == [hashed("from-file")]
    assert [secret.get_secret_value() for secret in config.admin.password_sha256] == [hashed("from-env")]
    assert config.admin.hosts == ("a.b", "c")
    assert str(config.admin) == "127.0.0.1:9121 (token, password)"
    shown = repr(config) + str(list(settings(config)))
    assert not any(secret in shown for secret in ("from-file", "from-env", hashed("from-file"), hashed("from-env")))
    assert b"from-" not in pickle.dumps(config)
    assert ("admin.username", "me") in list(settings(config))


def test_one_key_of_a_token_replaces_another(tmp_path: Path) -> None:
    config = loaded(
        tmp_path, '[admin]\ntoken_file = "gone"', {"SLOTGATE_ADMIN__TOKEN_ENV": "SLOTGATE_T", "SLOTGATE_T": "y"}
    )
    assert [secret.get_secret_value() for secret in config.admin.token_sha256] == [hashed("y")]


@pytest.mark.parametrize(
    ("keys", "where", "words"),
    [
        ('token = "a"\ntoken_env = "B"', "token_env", "is one token key too many beside token: keep one of them"),
        ('token = ""', "token", "is empty: leave it out, or set it"),
        ('token_env = "B"', "token_env", "names the environment variable B, which is not set: set it"),
        ('token_sha256 = "x"', "token_sha256[0]", "is not a SHA-256"),
        ('username = "x"', "username", "needs a password"),
        ('password = "x"', "username", "is missing: a password is good for a name only"),
        ('username = "a:b"\npassword = "x"', "username", "is not a good name"),
        ('mode = "660"', "mode", "is for a unix socket only"),
        ('address = "unix:/x"\nmode = 660', "mode", "is not the mode of a socket: write it in quotes"),
        ('address = "unix:/x"\nmode = "9"', "mode", "is not the mode of a socket"),
        ('hosts = "a:1"', "hosts[0]", "is not a host name: write it without a port"),
        ("max_connections = 0", "max_connections", "is too small: at least 1"),
        ('timeout = "0s"', "timeout", "must be more than 0"),
        ('tls_cert_file = "x"', "tls_cert_file", "which can not be read"),
        ('adress = "x"', "adress", 'is not a key; did you mean "address"?'),
        ('address = "x"', "address", "is not an address"),
    ],
)
def test_what_is_wrong(tmp_path: Path, keys: str, where: str, words: str) -> None:
    found = problems(tmp_path, f"[admin]\n{keys}")
    assert f"admin.{where}" in [path for path, _ in found]
    assert any(words in said for _, said in found), found


def test_the_certificate_is_looked_at(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.sign("one")
    authority.sign("two")
    table = "[admin]\ntls_cert_file = 'one.crt'\ntls_key_file = '{}.key'"
    assert loaded(tmp_path, table.format("one")).admin.tls_cert_file == str(tmp_path / "one.crt")
    ((path, words),) = problems(tmp_path, table.format("two"))
    assert (path, "is not the key of the certificate" in words) == ("admin.tls_key_file", True)
    ((path, words),) = problems(tmp_path, "[admin]\ntls_key_file = 'one.key'")
    assert (path, "needs its certificate" in words) == ("admin.tls_key_file", True)
