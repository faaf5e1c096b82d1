"""The audit log: what is recorded of whom, that nothing secret is, and what happens when it can not be written."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.devservers.servers import LocalShards, ServerBinary, start_many
from tests.support.fixtures import Serve
from tests.support.processes import eventually
from tests.support.proxy_process import metric
from tests.support.wire import Wire, pipeline

pytestmark = pytest.mark.live

SECRET = "s3cr3t-planted"
USERS = f"""
[[users]]
name = "default"
nopass = true
[[users]]
name = "boss"
password = "{SECRET}"
admin = true
[[users]]
name = "reader"
password = "{SECRET}"
rules = "+@read +@connection ~app:*"
"""


@pytest.fixture(scope="module")
def shards(binary: ServerBinary) -> Iterator[LocalShards]:
    with start_many(3, 0, binary=binary) as started:
        yield started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def config(path: Path, rules: str, more: str = "") -> str:
    return f'{USERS}[audit]\npath = "{path}"\n{more}\n{rules}'


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def commands(path: Path) -> list[tuple[str, str, str]]:
    return [(line["user"], line["command"], line["outcome"]) for line in lines(path)]


WRITES = '[[audit.rules]]\ncommands = ["@write"]\n'
ALL = "[[audit.rules]]\n"


@pytest.mark.parametrize("workers", ["1", "2"])
class TestWhatIsRecorded:
    def test_writes(self, shards: LocalShards, serve: Serve, path: Path, workers: str) -> None:
        proxy = serve("--static", shards.static, "--workers", workers, config=config(path, WRITES))
        clients = [Wire(proxy.address) for _ in range(8)]
        try:
            for number, client in enumerate(clients):
                client.send(
                    pipeline(*(("SET", f"k{number}:{each}", SECRET) for each in range(20)))
                    + pipeline(*(("GET", f"k{number}:{each}") for each in range(20)))
                    + pipeline(("MULTI",), ("INCR", "{a}n"), ("GET", "{a}n"), ("EXEC",), ("MSET", "a", 1, "b", 2))
                )
                assert b"-" not in {reply[:1] for reply in client.replies(45)}
        finally:
            for client in clients:
                client.close()
        assert eventually(lambda: len(lines(path)) == 8 * 22, 15)
        found = lines(path)
        assert {line["command"] for line in found} == {"set", "incr", "mset"}
        assert {line["worker"] for line in found} <= set(range(int(workers)))
        sets = [line for line in found if line["command"] == "set"]
        assert sorted(line["keys"][0] for line in sets) == sorted(f"k{n}:{e}" for n in range(8) for e in range(20))
        assert {line["shard"] for line in sets} == {"shard-1", "shard-2", "shard-3"}
        assert {line["address"].rpartition(":")[0] for line in found} == {"127.0.0.1"}
        assert all(line.get("transaction", False) is (line["command"] == "incr") for line in found)
        assert next(line["keys"] for line in found if line["command"] == "mset") == ["a", "b"]
        assert SECRET not in path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600

    def test_opened_again_on_sighup(self, shards: LocalShards, serve: Serve, path: Path, workers: str) -> None:
        proxy = serve("--static", shards.static, "--workers", workers, config=config(path, WRITES))
        moved = path.with_suffix(".1")
        with Wire(proxy.address) as client:
            client.ask("SET", "before", 1)
            assert eventually(lambda: len(lines(path)) == 1, 15)
            path.rename(moved)
            proxy.signal(signal.SIGHUP)
            assert eventually(path.exists, 15)
            client.ask("SET", "after", 1)
            assert eventually(lambda: [line["keys"] for line in lines(path)] == [["after"]], 15)
        assert [line["keys"] for line in lines(moved)] == [["before"]]
        assert "SIGHUP: the audit log is opened again" in proxy.log
        assert "SIGHUP ignored" not in proxy.log


class TestRules:
    def test_by_user_outcome_and_key(self, shards: LocalShards, serve: Serve, path: Path) -> None:
        rules = (
            '[[audit.rules]]\nusers = ["bo*"]\noutcome = "allowed"\ncommands = ["get", "config|get"]\n'
            '[[audit.rules]]\noutcome = "denied"\n[[audit.rules]]\nkeys = ["secret:*"]\n'
        )
        proxy = serve("--static", shards.static, config=config(path, rules))
        with Wire(proxy.address) as client:
            client.ask("GET", "plain")
            client.ask("SET", "secret:1", 1)
            client.ask("MGET", "plain", "secret:2")
            client.ask("SLOTGATE", "NODES")
        with Wire(proxy.address) as reader:
            assert reader.ask("AUTH", "reader", SECRET) == b"+OK\r\n"
            assert reader.ask("AUTH", "reader", f"wrong-{SECRET}")[:10] == b"-WRONGPASS"
            reader.ask("GET", "app:1")
            reader.ask("GET", "other")
            reader.ask("SET", "app:1", SECRET)
        with Wire(proxy.address) as boss:
            boss.ask("AUTH", "boss", SECRET)
            boss.ask("GET", "plain")
            boss.ask("SET", "plain", 1)
            boss.ask("CONFIG", "GET", "maxmemory")
        wanted = [
            ("default", "set", "allowed"),
            ("default", "mget", "allowed"),
            ("default", "slotgate|nodes", "denied"),
            ("reader", "auth", "denied"),
            ("reader", "get", "denied"),
            ("reader", "set", "denied"),
            ("boss", "get", "allowed"),
            ("boss", "config|get", "allowed"),
        ]
        assert eventually(lambda: len(lines(path)) >= len(wanted), 15)
        assert commands(path) == wanted
        assert [line.get("reason") for line in lines(path)][2:6] == ["admin", "wrong password", "key", "command"]
        assert SECRET not in path.read_text()

    @pytest.mark.parametrize("outcome", ["any", "denied"])
    def test_what_the_proxy_refuses_is_no_allowed_command(
        self, shards: LocalShards, serve: Serve, path: Path, outcome: str
    ) -> None:
        """Also while clients are paused, in a transaction, and for a user whose other commands no rule records."""
        proxy = serve("--static", shards.static, config=config(path, f'[[audit.rules]]\noutcome = "{outcome}"'))
        one, other = "{a}k", "{b}k"
        with Wire(proxy.address) as boss, Wire(proxy.address) as client:
            boss.ask("AUTH", "boss", SECRET)
            for asker in boss, client:
                assert asker.ask("RENAME", one, other).startswith(b"-CROSSSLOT")
                assert asker.ask("MIGRATE", "127.0.0.1", 1, one, 0, 1).startswith(b"-ERR")
                assert asker.ask("MULTI") == b"+OK\r\n"
                assert asker.ask("RENAME", one, other).startswith(b"-CROSSSLOT")
                assert asker.ask("EXEC").startswith(b"-EXECABORT")
            boss.ask("CLIENT", "PAUSE", 200, "ALL")
            assert client.ask("RENAME", one, other).startswith(b"-CROSSSLOT")
            client.ask("GET", one)
        refused = [("rename", False), ("migrate", False), ("rename", True)]
        wanted = [("boss", *each) for each in refused] + [("default", *each) for each in (*refused, ("rename", False))]

        def found() -> list[tuple[str, str, bool]]:
            return [
                (line["user"], line["command"], line.get("transaction", False))
                for line in lines(path)
                if line["outcome"] == "denied" and line["reason"] == "refused"
            ]

        assert eventually(lambda: found() == wanted, 15), found()

        def allowed() -> list[str]:
            return [name for _, name, done in commands(path) if done == "allowed"]

        assert outcome == "denied" or eventually(lambda: "get" in allowed())
        assert not {"rename", "migrate", *(["get"] if outcome == "denied" else [])} & set(allowed())

    def test_clients_that_have_not_logged_in(self, shards: LocalShards, serve: Serve, path: Path) -> None:
        users = USERS.replace("nopass = true", f'password = "{SECRET}"') + "max_clients = 1\n"
        written = users + f'[audit]\npath = "{path}"\n{ALL}'
        proxy = serve("--static", shards.static, config=written)
        with Wire(proxy.address) as client, Wire(proxy.address) as second:
            assert client.ask("GET", "k").startswith(b"-NOAUTH ")
            assert client.ask("AUTH", "reader", SECRET) == b"+OK\r\n"
            client.ask("CONFIG", "SET", "maxmemory", 1)
            assert second.ask("AUTH", "reader", SECRET).startswith(b"-ERR max number of clients")
            second.ask("QUIT")
        wanted = [
            ("", "get", "denied", "not logged in", 2),
            ("reader", "auth", "allowed", None, None),
            ("reader", "config|set", "denied", "command", 4),
            ("reader", "auth", "denied", "too many clients", None),
            ("", "quit", "allowed", None, 1),
        ]

        def found() -> list[tuple[object, ...]]:
            shown = "user", "command", "outcome", "reason", "count"
            return [tuple(line.get(field) for field in shown) for line in lines(path)]

        assert eventually(lambda: found()[: len(wanted)] == wanted, 15), found()

    def test_no_password_of_any_command(self, shards: LocalShards, serve: Serve, path: Path) -> None:
        proxy = serve("--static", shards.static, config=config(path, ALL, 'arguments = "all"'))
        asked: list[tuple[str | int, ...]] = [
            ("HELLO", 3, "AUTH", "boss", SECRET),
            ("AUTH", "boss", SECRET),
            ("AUTH", SECRET),
            ("ACL", "SETUSER", "new", "on", f">{SECRET}"),
            ("CONFIG", "SET", "requirepass", SECRET),
            ("CONFIG", "SET", "masterauth", SECRET),
            ("MIGRATE", "127.0.0.1", 1, "k", 0, 1, "AUTH", SECRET),
            ("MIGRATE", "127.0.0.1", 1, "", 0, 1, "AUTH2", "u", SECRET, "KEYS", "k"),
            ("SLOTGATE", "SEND", "shard-1", "CONFIG", "SET", "masterauth", ""),
            ("ACL", "DRYRUN", "boss", "AUTH", SECRET),
            ("CLIENT", "SETNAME", SECRET),
        ]
        with Wire(proxy.address) as client:
            for each in asked:
                client.ask(*each)
            client.ask("SET", "k", "x" * 100)
            client.send(pipeline(("MULTI",), *(("PING",),) * 3, ("EXEC",)))
            client.replies(5)
        assert eventually(lambda: ("boss", "exec", "allowed") in commands(path), 15)
        assert SECRET not in path.read_text()
        assert SECRET not in proxy.log
        assert [name for _, name, _ in commands(path)].count("ping") == 3
        (line,) = [line for line in lines(path) if line["command"] == "set"]
        assert line["arguments"] == ["k", "x" * 64 + "..."]


class TestWhenItCanNotBeWritten:
    @pytest.mark.parametrize("on_full", ["drop", "refuse"])
    def test_the_queue_is_bounded(self, shards: LocalShards, serve: Serve, path: Path, on_full: str) -> None:
        """The file's place is a device that is full."""
        path.symlink_to("/dev/full")
        more = f'queue = "8kb"\non_full = "{on_full}"'
        proxy = serve("--static", shards.static, config=config(path, WRITES, more))
        with Wire(proxy.address) as client:
            client.send(pipeline(*(("SET", f"k{number}", 1) for number in range(200)), ("GET", "k1")))
            replies = client.replies(201)
            refused = [reply for reply in replies if reply.startswith(b"-ERR the audit log is full")]
            assert len(refused) == (0 if on_full == "drop" else 200 - replies.count(b"+OK\r\n"))
            assert 20 < replies.count(b"+OK\r\n") < (201 if on_full == "drop" else 100)
            assert replies[-1] == b"$1\r\n1\r\n"
            assert eventually(lambda: "the audit log can not be written" in proxy.log, 15)
            if on_full == "drop":
                assert metric(proxy, "slotgate_audit_dropped_total") > 100
            assert 0 < metric(proxy, "slotgate_audit_waiting_bytes", worker="0") < 10_000
            path.unlink()
            proxy.signal(signal.SIGHUP)
            assert eventually(lambda: len(lines(path)) > 20, 15)
            assert eventually(lambda: client.ask("SET", "k", 1) == b"+OK\r\n", 15)
        assert proxy.log.count("the audit log can not be written") < 4
        assert "the audit log is written again" in proxy.log

    def test_a_folder_that_vanishes(self, shards: LocalShards, serve: Serve, tmp_path: Path) -> None:
        folder = tmp_path / "logs"
        folder.mkdir()
        path = folder / "audit.jsonl"
        proxy = serve("--static", shards.static, config=config(path, WRITES))
        with Wire(proxy.address) as client:
            client.ask("SET", "a", 1)
            assert eventually(lambda: len(lines(path)) == 1, 15)
            path.unlink()
            folder.rmdir()
            proxy.signal(signal.SIGHUP)
            client.ask("SET", "b", 1)
            assert eventually(lambda: "reason='No such file or directory'" in proxy.log, 15)
            folder.mkdir()
            assert eventually(lambda: [line["keys"] for line in lines(path)] == [["b"]], 15)

    def test_lines_that_wait_are_written_at_the_end(self, shards: LocalShards, serve: Serve, path: Path) -> None:
        proxy = serve("--static", shards.static, config=config(path, WRITES))
        with Wire(proxy.address) as client:
            client.send(pipeline(*(("SET", f"k{number}", 1) for number in range(100))))
            client.replies(100)
        proxy.stop()
        assert len(lines(path)) == 100
