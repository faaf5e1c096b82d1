"""``slotgate demo`` as a newcomer runs it: a process that is started, used and stopped."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from proxy.devservers.servers import LOOPBACK, free_port
from tests.support.processes import children, eventually, runs

pytestmark = pytest.mark.live


@dataclass
class Demo:
    process: subprocess.Popen[str]
    port: int
    said: str  # standard output up to the line about Ctrl-C
    temporary: Path  # where its temporary directory is made

    @property
    def everything(self) -> list[int]:
        """Every process of the demo but itself."""
        return children(self.process.pid)

    def first_primary(self) -> str:
        """The address of shard-1's primary, as /topology has it."""
        (url,) = re.findall(r"http://\S+/topology", self.said)
        with urllib.request.urlopen(url, timeout=5) as answer:
            nodes = json.load(answer)["shards"][0]["nodes"]
        (address,) = [node["address"] for node in nodes if node["role"] == "primary"]
        return str(address)

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "proxy", "demo", *arguments]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with started(tmp_path, "--shards", "2", "--replicas", "1") as running:
        yield running


@contextlib.contextmanager
def started(tmp_path: Path, *arguments: str) -> Iterator[Demo]:
    port = free_port()
    with subprocess.Popen(
        command("--listen", f"{LOOPBACK}:{port}", *arguments),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        try:
            yield Demo(process, port, said, tmp_path)
        finally:
            process.kill()


def test_works_and_leaves_nothing_behind(demo: Demo) -> None:
    with redis.Redis(port=demo.port) as client:
        assert client.mset({f"key:{number}": number for number in range(100)})
        assert client.dbsize() == 100
        assert client.mget("key:7", "key:99", "none") == [b"7", b"99", None]
    pids = demo.everything
    assert len(pids) == 2 * 2 + 1 + 1  # the servers, the proxy and the guard
    assert demo.stop(signal.SIGINT) == 0
    assert demo.process.stdout is not None
    assert "Stopping" in demo.process.stdout.read()
    assert not any(runs(pid) for pid in pids)
    assert list(demo.temporary.iterdir()) == []


def test_says_what_there_is_and_how_to_use_it(demo: Demo) -> None:
    assert f"127.0.0.1:{demo.port}" in demo.said
    assert re.search(r"shard-1 +slots 0-8191 +primary 127\.0\.0\.1:\d+ +replica 127\.0\.0\.1:\d+", demo.said)
    assert re.search(r"shard-2 +slots 8192-16383 ", demo.said)
    assert f"-cli -p {demo.port}" in demo.said
    (ready,) = re.findall(r"http://\S+/readyz", demo.said)
    with urllib.request.urlopen(ready, timeout=5) as answer:
        assert answer.status == 200
    (line,) = re.findall(r'python -c "(.+)"', demo.said)
    answered = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, timeout=20, check=True)
    assert answered.stdout == "b'hello'\n"


@pytest.mark.parametrize(("topology", "others"), [("cluster", 0), ("sentinel", 3)])
def test_follows_a_failover_of_its_servers(topology: str, others: int, tmp_path: Path) -> None:
    with started(tmp_path, "--topology", topology) as demo:
        pids = demo.everything
        assert len(pids) == 3 * 2 + others + 1 + 1  # the servers, sentinels, the proxy and the guard
        ((port, replica),) = re.findall(r"shard-1 +slots 0-5460 +primary \S+:(\d+) +replica \S+:(\d+)", demo.said)
        with redis.Redis(port=demo.port) as client:
            keys = {f"key:{number}": str(number) for number in range(100)}
            assert client.mset(keys)
            (line,) = re.findall(r"^  \w+-cli -p (\d+ (?:sentinel|cluster) failover.*?) +#", demo.said, re.MULTILINE)
            told, *words = line.split()
            with redis.Redis(port=int(told)) as server:
                assert server.execute_command(*words)
            with redis.Redis(port=int(replica)) as promoted:
                assert eventually(lambda: promoted.info("replication")["role"] == "master")
            assert client.mget(keys) == [value.encode() for value in keys.values()]
            assert client.mset(keys)
        assert port != replica
        assert eventually(lambda: demo.first_primary() == f"{LOOPBACK}:{replica}")
        assert demo.stop(signal.SIGINT) == 0
        assert not any(runs(pid) for pid in pids)
        assert list(demo.temporary.iterdir()) == []


@pytest.mark.parametrize("topology", ["cluster", "sentinel"])
@pytest.mark.drill
def test_one_shard_without_replicas_has_nothing_to_fail_over(topology: str, tmp_path: Path) -> None:
    with started(tmp_path, "--topology", topology, "--shards", "1", "--replicas", "0") as demo:
        assert "failover" not in demo.said
        with redis.Redis(port=demo.port) as client:
            assert client.set("key", "value")
        assert demo.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_too(demo: Demo, number: signal.Signals) -> None:
    pids = demo.everything
    assert demo.stop(number) == 0
    assert not any(runs(pid) for pid in pids)
    assert list(demo.temporary.iterdir()) == []


def test_a_killed_demo_leaves_nothing_behind(demo: Demo) -> None:
    pids = demo.everything
    demo.stop(signal.SIGKILL)
    assert eventually(lambda: not any(runs(pid) for pid in pids))
    assert eventually(lambda: list(demo.temporary.iterdir()) == [])


def test_says_so_when_the_proxy_dies(demo: Demo) -> None:
    pids = demo.everything
    (proxy,) = [pid for pid in pids if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    os.kill(proxy, signal.SIGKILL)
    assert demo.process.wait(20) == 1
    assert not any(runs(pid) for pid in pids)
    assert list(demo.temporary.iterdir()) == []


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        ended = subprocess.run(
            command("--listen", address),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert f"{address} is taken" in ended.stderr
    assert "--listen" in ended.stderr
    assert list(tmp_path.iterdir()) == []
