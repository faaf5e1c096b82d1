"""The configuration that ``slotgate init`` writes: it loads, and every key is in it."""

import re
import tomllib
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.commandline.starting_file import starting_file
from proxy.config import load
from proxy.config.words import LISTS, TABLES


def test_without_anything(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(starting_file({}))
    config = load(path, {}, {})
    assert config == load(None, {"shards": [{"primary": "127.0.0.1:7001", "replicas": []}]}, {})


def test_every_key_is_there() -> None:
    found = tomllib.loads(re.sub(r"(?m)^#(?=[a-z_\[])", "", starting_file({})))
    for name, model in TABLES.items():
        tables = found[name] if name in LISTS else [found[name] if name else found]
        keys = {key for table in tables for key in table}
        expected = {key for key in model.model_fields if not (name == "listeners" and key == "tls")}
        assert expected <= keys | {"replicas", "name", "slots"}, name


@pytest.mark.parametrize(
    ("argv", "kind", "servers"),
    [
        (["--static", "a:1/b:1,a:2"], "static", ["a:1", "a:2"]),
        (["--cluster", "a:1,b:2"], "cluster", ["a:1", "b:2"]),
        (["--sentinel", "s:1", "--masters", "x,y"], "sentinel", ["s:1"]),
        (["--static", "a:1", "--listen", "0.0.0.0:1", "--admin", "", "--workers", "auto"], "static", ["a:1"]),
    ],
)
def test_the_command(
    tmp_path: Path, argv: list[str], kind: str, servers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.toml"
    assert main(["init", *argv, "-o", str(path)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {path}: ")
    assert path.stat().st_mode & 0o007 == 0
    config = load(path, {}, {})
    assert config.topology.kind == kind
    named = (*config.cluster.seeds, *config.sentinel.sentinels, *(each.primary for each in config.shards))
    assert list(map(str, named)) == servers
    if "--listen" in argv:
        assert [str(config.listen[0]), config.admin.address, config.workers] == ["0.0.0.0:1", None, "auto"]
    assert main(["init", *argv, "-o", str(path)]) == 1
    assert f"{path} exists already" in capsys.readouterr().err
    assert main(["init", *argv]) == 0
    assert capsys.readouterr().out == path.read_text()
