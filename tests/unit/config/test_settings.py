"""The configuration as SLOTGATE CONFIG shows it."""

from proxy.config import load
from proxy.config.settings import settings

FILE = {
    "listen": ["127.0.0.1:6380", "unix:/run/x"],
    "shards": [{"primary": "a:1", "replicas": ["b:2", "c:3"], "slots": "0-16383"}],
    "backend": {"username": "me", "password": "verysecret"},
    "users": [{"name": "u", "password": "alsosecret", "admin": True}],
    "topology": {"remap": {"10.0.0.5:6379": "203.0.113.5:7000"}},
}


def test_names_and_values() -> None:
    found = dict(settings(load(None, FILE, {})))
    assert found["listen"] == "127.0.0.1:6380,unix:/run/x"
    assert found["shards[0].primary"] == "a:1"
    assert found["shards[0].replicas"] == "b:2,c:3"
    assert found["shards[0].slots"] == "0-16383"
    assert found["backend.connect_timeout"] == "1.0"
    assert found["backend.username"] == "me"
    assert found["topology.remap"] == "10.0.0.5:6379=203.0.113.5:7000"
    assert found["users[0].admin"] == "true"
    assert found["backend.tls_ca_file"] == ""
    assert found["limits.max_inline"] == "65536"


def test_no_secret_is_shown() -> None:
    pairs = list(settings(load(None, FILE, {})))
    assert not any("secret" in value for _, value in pairs)
    assert not any(name.endswith((".password", "password_sha256")) for name, _ in pairs)
    assert any(name == "backend.password_env" for name, _ in pairs)
