"""The JSON Schema of the configuration file: what is right passes, and mistakes that editors can see do not."""

import tomllib
from pathlib import Path

import jsonschema
import pytest

from proxy.commandline.schema import schema
from proxy.commandline.starting_file import starting_file

ROOT = Path(__file__).parents[3]
VALIDATOR = jsonschema.Draft202012Validator(schema())
SHARD = '[[shards]]\nprimary = "127.0.0.1:7001"\n'


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize(
    "text",
    [
        (ROOT / "config" / "slotgate.toml").read_text(),
        starting_file({}),
        'admin = ""\nworkers = "auto"\nlisten = "unix:/run/s.sock"\n' + SHARD,
        f'{SHARD}slots = "0-99, 7000"\n[limits]\nmemory = "2GB"\nmax_byte_rate_per_user = "0b"\n',
        '[[users]]\nname = "a"\npassword_sha256 = "00"\nmax_clients = 5\n[topology]\nremap = { "a:1" = "b:1" }\n',
        '[[listeners]]\naddress = "[::1]:0"\n[listeners.tls]\ncert_file = "a"\nkey_file = "b"\n',
    ],
)
def test_what_is_right(text: str) -> None:
    VALIDATOR.validate(tomllib.loads(text))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('read_form = "any"', []),
        ('read_from = "replicas"', ["read_from"]),
        ("drain_timeout = 20", ["drain_timeout"]),
        ('drain_timeout = "20"', ["drain_timeout"]),
        ("measure = 1", ["measure"]),
        ('workers = "many"', ["workers"]),
        ("listen = 5", ["listen"]),
        ('[[shards]]\nname = "a"', ["shards", 0]),
        ('[[shards]]\nprimary = "127.0.0.1"', ["shards", 0, "primary"]),
        ("[limits]\nmax_clients = 0", ["limits", "max_clients"]),
        ('[limits]\nmax_clients = "5"', ["limits", "max_clients"]),
        ("[limits]\nmax_bulk = 5", ["limits", "max_bulk"]),
        ("[backend]\nconnections_per_node = 2000", ["backend", "connections_per_node"]),
        ('[backend]\ndedicated_share = "lots"', ["backend", "dedicated_share"]),
        ('[[listeners]]\naddress = "a:1"\n[listeners.tls]\ncert_file = "a"', ["listeners", 0, "tls"]),
    ],
)
def test_what_is_wrong(text: str, where: list[str | int]) -> None:
    [error] = VALIDATOR.iter_errors(tomllib.loads(text))
    assert list(error.absolute_path) == where


def test_every_key_is_described() -> None:
    found = schema()["properties"]
    assert found["drain_timeout"]["default"] == "20s"
    assert all("description" in each for each in found.values())
