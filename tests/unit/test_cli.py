"""The command: what it calls, what it prints, its exit codes."""

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy import __version__, cli
from proxy.cli import main, parse_static
from proxy.compiled import engine
from proxy.config import Config
from proxy.config.environment import ENGINE
from proxy.config.machine import cores

GOOD = """
listen = ["127.0.0.1:6390", "unix:/run/slotgate.sock"]
read_from = "any"
[[shards]]
name = "a"
primary = "127.0.0.1:7001"
replicas = ["127.0.0.1:7002", "127.0.0.1:7003"]
[[shards]]
primary = "127.0.0.1:7004"
"""

Output = pytest.CaptureFixture[str]


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    return str(path)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """What the server was told to serve; it returns at once with 0."""
    configs: list[Config] = []

    def run(config: Config, _file: str) -> int:
        configs.append(config)
        return 0

    _stand_in(monkeypatch, "proxy.worker.server", run)
    return configs


def _stand_in(monkeypatch: pytest.MonkeyPatch, name: str, run: Callable[..., int]) -> None:
    module = types.ModuleType(name)
    module.run = run  # type: ignore[attr-defined]  # a module made here has no declared names
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("SLOTGATE_") and name != ENGINE]:
        monkeypatch.delenv(name)


def usage_error(argv: list[str], output: Output) -> str:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    out, err = output.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.rstrip("\n")


class TestServe:
    def test_a_file(self, good: str, served: list[Config]) -> None:
        assert main(["serve", "-c", good]) == 0
        [config] = served
        assert [shard.name for shard in config.shards] == ["a", "shard-2"]

    def test_flags_alone(self, served: list[Config]) -> None:
        argv = ["serve", "--listen", "127.0.0.1:1", "--static", "a:1/b:1/c:1,a:2", "--read-from", "prefer_replica"]
        assert main([*argv, "--workers", "1", "--admin", ""]) == 0
        [config] = served
        assert [str(address) for address in config.listen] == ["127.0.0.1:1"]
        assert [(str(shard.primary), [str(replica) for replica in shard.replicas]) for shard in config.shards] == [
            ("a:1", ["b:1", "c:1"]),
            ("a:2", []),
        ]
        assert config.read_from == "prefer_replica"
        assert config.admin.address is None

    @pytest.mark.parametrize(("text", "workers"), [("3", 3), ("auto", "auto")])
    def test_workers(self, text: str, workers: object, served: list[Config]) -> None:
        assert main(["serve", "--static", "a:1", "--workers", text]) == 0
        assert served[0].workers == workers
        assert served[0].worker_count == (workers if workers == 3 else cores())

    def test_flags_win_over_environment_and_file(
        self, good: str, served: list[Config], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLOTGATE_READ_FROM", "replica")
        monkeypatch.setenv("SLOTGATE_LISTEN", "127.0.0.1:2")
        argv = ["serve", "-c", good, "--static", "x:1", "--listen", "127.0.0.1:3", "--listen", "127.0.0.1:4"]
        assert main(argv) == 0
        [config] = served
        assert config.read_from == "replica"
        assert [str(address) for address in config.listen] == ["127.0.0.1:3", "127.0.0.1:4"]
        assert [str(shard.primary) for shard in config.shards] == ["x:1"]

    def test_the_environment_alone(self, served: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SLOTGATE_SHARDS", '[{"primary": "a:1"}]')
        assert main(["serve"]) == 0
        assert len(served) == 1

    def test_a_cluster_instead_of_the_shards_of_the_file(self, good: str, served: list[Config]) -> None:
        assert main(["serve", "-c", good, "--cluster", "a:1,b:2"]) == 0
        [config] = served
        assert config.topology.kind == "cluster"
        assert [str(seed) for seed in config.cluster.seeds] == ["a:1", "b:2"]
        assert config.shards == ()

    def test_sentinels_instead_of_the_cluster_of_the_environment(
        self, served: list[Config], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLOTGATE_TOPOLOGY__KIND", "cluster")
        monkeypatch.setenv("SLOTGATE_CLUSTER__SEEDS", "a:1")
        assert main(["serve", "--sentinel", "s:1,t:1", "--masters", "x,y"]) == 0
        assert main(["serve"]) == 0
        assert [config.topology.kind for config in served] == ["sentinel", "cluster"]
        assert [str(sentinel) for sentinel in served[0].sentinel.sentinels] == ["s:1", "t:1"]
        assert served[0].sentinel.masters == ("x", "y")
        assert (served[0].cluster.seeds, served[1].sentinel.masters) == ((), ())

    def test_problems_go_to_stderr_one_a_line(self, served: list[Config], capsys: Output) -> None:
        assert main(["serve", "--static", "a:1,a:1,b", "--admin", "x"]) == 1
        assert capsys.readouterr() == (
            "",
            'slotgate: admin: "x" is not an address: write "host:port", "[::1]:port" or "unix:/path" '
            "(from the command line)\n"
            'slotgate: shards[2].primary: "b" is not an address: write "host:port", "[::1]:port" or "unix:/path" '
            "(from the command line)\n",
        )
        assert served == []

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["-c", "/not-there.toml"], "/not-there.toml: can not be read: No such file or directory"),
            (
                ["--cluster", "a:1,b"],
                'cluster.seeds[1]: "b" is not an address: write "host:port", "[::1]:port" or "unix:/path" '
                "(from the command line)",
            ),
            (
                ["--sentinel", "a:1", "--masters", "x,x"],
                'sentinel.masters[1]: "x" is sentinel.masters[0] too: name each master once (from the command line)',
            ),
        ],
    )
    def test_what_can_not_be_served(self, argv: list[str], words: str, served: list[Config], capsys: Output) -> None:
        assert main(["serve", *argv]) == 1
        assert capsys.readouterr() == ("", f"slotgate: {words}\n")
        assert served == []

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            ([], "no shards are named: give -c FILE, --static, --cluster, --sentinel, or set SLOTGATE_SHARDS"),
            (
                ["--listen", "127.0.0.1:1"],
                "no shards are named: give -c FILE, --static, --cluster, --sentinel, or set SLOTGATE_SHARDS",
            ),
            (["--sentinel", "a:1"], "--sentinel and --masters need each other"),
            (["--static", "a:1", "--masters", "x"], "--sentinel and --masters need each other"),
            (["--static", "a:1", "--cluster", "b:1"], "argument --cluster: not allowed with argument --static"),
            (
                ["--static", "a:1", "--workers", "none"],
                'argument --workers: "none" is not a number of workers: write one, as in 4, or "auto"',
            ),
        ],
    )
    def test_wrong_usage(self, argv: list[str], words: str, served: list[Config], capsys: Output) -> None:
        assert usage_error(["serve", *argv], capsys) == f"slotgate serve: {words} (see slotgate serve --help)"
        assert served == []

    def test_options_are_not_abbreviated(self, served: list[Config], capsys: Output) -> None:
        assert "unrecognized arguments: --stat" in usage_error(["serve", "--stat", "a:1"], capsys)


def test_a_unix_socket_in_static_is_one_primary() -> None:
    assert parse_static("unix:/run/a.sock,b:1/unix:x") == [
        {"primary": "unix:/run/a.sock", "replicas": []},
        {"primary": "b:1", "replicas": ["unix:x"]},
    ]


class TestCheck:
    def test_a_good_file(self, good: str, capsys: Output) -> None:
        assert main(["check", "-c", good]) == 0
        assert capsys.readouterr().out == (
            "listen     127.0.0.1:6390, unix:/run/slotgate.sock\n"
            "admin      127.0.0.1:9121\n"
            "workers    1\n"
            "read_from  any\n"
            "users      default (no password)\n"
            "shard      a: slots 0-8191, primary 127.0.0.1:7001, replicas 127.0.0.1:7002, 127.0.0.1:7003\n"
            "shard      shard-2: slots 8192-16383, primary 127.0.0.1:7004\n"
        )

    def test_a_cluster_is_not_asked(self, capsys: Output) -> None:
        assert main(["check", "--cluster", "no-such-host:1,127.0.0.1:2"]) == 0
        assert capsys.readouterr().out.splitlines()[-2:] == [
            "users      default (no password)",
            "cluster    asked of no-such-host:1, 127.0.0.1:2",
        ]

    def test_sentinels_are_not_asked(self, capsys: Output) -> None:
        assert main(["check", "--sentinel", "no-such-host:1", "--masters", "x,y"]) == 0
        assert capsys.readouterr().out.splitlines()[-3:] == [
            "sentinel   asked of no-such-host:1",
            "shard      x: slots 0-8191",
            "shard      y: slots 8192-16383",
        ]

    def test_what_it_passes_for_and_which_keys_go_together(self, tmp_path: Path, capsys: Output) -> None:
        path = tmp_path / "slotgate.toml"
        path.write_text(
            'present_as = "cluster"\n[[shards]]\nprimary = "127.0.0.1:7001"\n'
            '[[colocate]]\nname = "celery"\nprefixes = ["celery", "unacked"]\n'
            '[[colocate]]\nprefix = "bull:"\nupto = 2\n[[colocate]]\nprefix = "{"\nupto = 1\nhash_tags = false\n'
        )
        assert main(["check", "-c", str(path)]) == 0
        assert capsys.readouterr().out.splitlines()[-5:] == [
            "present_as cluster",
            "shard      shard-1: slots 0-16383, primary 127.0.0.1:7001",
            "colocate   keys that begin with 'celery', 'unacked': all in the slot of 'celery'",
            "colocate   keys that begin with 'bull:': hashed up to field 2, divided by ':'",
            "colocate   keys that begin with '{': hashed up to field 1, divided by ':'; hash tags do not count",
        ]

    def test_workers_beside_the_cores_there_are(self, good: str, capsys: Output) -> None:
        assert main(["check", "-c", good, "--workers", "auto"]) == 0
        assert f"\nworkers    auto ({cores()} cores here)\n" in capsys.readouterr().out

    def test_every_problem_is_a_line(self, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "bad.toml"
        path.write_text('[[shards]]\nprimary = "a:1"\nslots = "0-99"\n[backend]\nrequest_timeout = 5\n')
        monkeypatch.setenv("SLOTGATE_READ_FROM", "nobody")
        assert main(["check", "-c", str(path)]) == 1
        assert capsys.readouterr() == (
            'read_from: "nobody" is not one of primary, prefer_replica, replica, any, nearest'
            " (from SLOTGATE_READ_FROM)\n"
            'backend.request_timeout: 5 has no unit: write "5s" or "5ms"\n'
            "shards: no shard has the slots 100-16383: add them to one\n",
            "",
        )

    def test_no_configuration_at_all(self, capsys: Output) -> None:
        assert usage_error(["check"], capsys).startswith("slotgate check: no shards are named")


class TestDemo:
    def test_defaults_and_options(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[dict[str, Any]] = []

        def run(**options: Any) -> int:
            calls.append(options)
            return 0

        _stand_in(monkeypatch, "proxy.devservers.demo", run)
        assert main(["demo"]) == 0
        assert main(["demo", "--shards", "1", "--replicas", "0", "--listen", "127.0.0.1:0"]) == 0
        assert calls == [
            {"shards": 3, "replicas": 1, "listen": "127.0.0.1:6380", "topology": "static"},
            {"shards": 1, "replicas": 0, "listen": "127.0.0.1:0", "topology": "static"},
        ]

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["--shards", "0"], "argument --shards: '0' is not a whole number from 1 on"),
            (["--replicas", "-1"], "argument --replicas: '-1' is not a whole number from 0 on"),
            (["--listen", "x:y"], 'argument --listen: "x:y" has no good port: it is a number from 0 to 65535'),
        ],
    )
    def test_wrong_usage(self, argv: list[str], words: str, capsys: Output) -> None:
        assert usage_error(["demo", *argv], capsys) == f"slotgate demo: {words} (see slotgate demo --help)"


def test_commands_prints_the_table(capsys: Output) -> None:
    assert main(["commands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("get ") for line in lines)
    assert lines[-1].strip()


def test_no_command(capsys: Output) -> None:
    assert usage_error([], capsys) == "slotgate: the following arguments are required: COMMAND (see slotgate --help)"


def test_version(capsys: Output) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"slotgate {__version__} (engine: {engine()})\n"


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, good: str) -> None:
    def run(_config: Config, _file: str) -> int:
        raise KeyboardInterrupt

    _stand_in(monkeypatch, "proxy.worker.server", run)
    assert main(["serve", "-c", good]) == 130


def test_python_m_proxy_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "proxy", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"slotgate {__version__} (engine: {engine()})\n"


def test_a_closed_pipe_is_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "commands"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == b""
    assert process.returncode == cli.EXIT_PIPE
