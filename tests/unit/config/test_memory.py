"""``limits.memory``: its values, its default, and the limits that contradict it."""

import os
from pathlib import Path

import pytest

from proxy.config import Config, load, machine
from proxy.config.checks import contradictions
from proxy.config.values import parse_memory
from proxy.errors import ConfigError

STATIC = {"shards": [{"primary": "127.0.0.1:7001"}]}


def configured(memory: str, workers: int = 1, **limits: str) -> Config:
    return load(None, {**STATIC, "workers": workers, "limits": {"memory": memory, **limits}}, {})


def test_values() -> None:
    assert parse_memory("auto") == "auto"
    assert parse_memory("512mb") == 512 << 20
    with pytest.raises(ValueError, match="has no unit"):
        parse_memory(512)


def test_workers_share_it() -> None:
    assert configured("1gb", 4).memory_share == 256 << 20
    assert configured("auto", 2).memory_share == machine.memory() * 3 // 4 // 2


def test_each_worker_needs_some() -> None:
    with pytest.raises(ConfigError, match=r"limits\.memory: is too small: each worker needs 96 MB"):
        configured("300mb", 4)


def test_limits_that_can_not_be_reached() -> None:
    words = list(contradictions(configured("600mb")))
    assert [each.partition(" ")[0] for each in words] == [
        "limits.max_request_size",
        "limits.output_hard",
        "limits.max_reply",
    ]
    assert words[0] == (
        "limits.max_request_size (1024 MB) is more than one worker's share of limits.memory (600 MB): the client of a "
        "larger request than fits is closed"
    )
    assert not list(contradictions(configured("4gb")))


def test_the_limit_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest limit of all control groups that the process is in counts."""
    for files, wanted in (
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "max\n"}, None),
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/memory.max": "1048576\n"}, 1 << 20),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "2097152\n"}, 2 << 20),
        (
            {
                "/proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/x\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": "4194304\n",
                "/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "9223372036854771712\n",
            },
            4 << 20,
        ),
        ({}, None),
    ):

        def read_text(path: Path, files: dict[str, str] = files) -> str:
            if str(path) not in files:
                raise FileNotFoundError(path)
            return files[str(path)]

        monkeypatch.setattr(Path, "read_text", read_text)
        found = machine.memory()
        monkeypatch.undo()
        assert found == wanted if wanted is not None else found > 64 << 20


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "400000 100000\n"}, 4),
        (
            {
                "/proc/self/cgroup": "7:memory:/x\n3:cpu,cpuacct:/kubepods/pod1\n",
                "/sys/fs/cgroup/cpu/kubepods/pod1/cpu.cfs_quota_us": "150000\n",
                "/sys/fs/cgroup/cpu/kubepods/pod1/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                "/proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            64,
        ),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "nonsense\n"}, 64),
        ({}, 64),
    ],
)
def test_the_cores_of_a_container(files: dict[str, str], wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU quota counts like cores, rounded up: of a machine with 64."""

    def read_text(path: Path) -> str:
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(Path, "read_text", read_text)
    assert machine.cores() == wanted
