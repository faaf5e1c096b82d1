"""The audit log's file: each line once, also at the end, and no reopening lost."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.commands.categories import CommandSet
from proxy.commands.table import CommandTable
from proxy.config.audit import AuditSection
from proxy.session.acl_users import Users
from proxy.session.audit_rules import AuditRules
from proxy.worker.audit_log import AuditLog


@contextmanager
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Hold the next write until the second event is set; the first one is set when the write has begun."""
    begun, go_on = threading.Event(), threading.Event()
    write = os.write

    def slow(file: int, batch: bytes) -> int:
        begun.set()
        assert go_on.wait(5)
        return write(file, batch)

    with monkeypatch.context() as patched:
        patched.setattr("proxy.worker.audit_log.os.write", slow)
        yield begun, go_on
        go_on.set()


def log_to(path: Path) -> AuditLog:
    section = AuditSection(path=str(path))
    return AuditLog(section, AuditRules([]), Users(CommandSet(CommandTable.builtin())), lambda key: "", 0)


async def test_lines_that_come_while_the_last_batch_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is written once, and nothing is written after the end."""
    path = tmp_path / "audit"
    audit = log_to(path)
    with slow_disk(monkeypatch) as (begun, go_on):
        audit.write(b"one\n")
        await asyncio.to_thread(begun.wait, 5)
        audit.write(b"two\n")
        closing = asyncio.create_task(audit.close())
        await asyncio.sleep(0.01)
        go_on.set()
        await closing
    audit.write(b"late\n")
    await asyncio.sleep(0.1)
    assert path.read_bytes() == b"one\ntwo\n"
    assert audit.dropped == 1


async def test_the_file_is_moved_while_a_batch_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, moved = tmp_path / "audit", tmp_path / "moved"
    audit = log_to(path)
    with slow_disk(monkeypatch) as (begun, go_on):
        audit.write(b"one\n")
        await asyncio.to_thread(begun.wait, 5)
        path.rename(moved)
        audit.reopen()
        go_on.set()
        audit.write(b"two\n")
        await audit.close()
    assert moved.read_bytes() == b"one\n"
    assert path.read_bytes() == b"two\n"


async def test_the_file_is_moved_again_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second reopening comes when the thread acts on the first one."""
    path = tmp_path / "audit"
    audit = log_to(path)
    audit.write(b"one\n")
    await asyncio.sleep(0.1)
    opened = os.open
    at_open, go_on = threading.Event(), threading.Event()

    def slow(name: str, flags: int, mode: int = 0o777) -> int:
        file = opened(name, flags, mode)
        at_open.set()
        assert go_on.wait(5)
        return file

    with monkeypatch.context() as patched:
        patched.setattr("proxy.worker.audit_log.os.open", slow)
        path.rename(tmp_path / "first")
        audit.reopen()
        await asyncio.to_thread(at_open.wait, 5)
        path.rename(tmp_path / "second")
        audit.reopen()
        go_on.set()
        await asyncio.sleep(0.1)
    audit.write(b"two\n")
    await audit.close()
    assert path.read_bytes() == b"two\n"
