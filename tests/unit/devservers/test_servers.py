"""Server child processes: they answer, follow, stop, and never outlive us. Runs real servers."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest

from proxy.devservers import servers as localservers
from proxy.devservers.servers import LocalServer, ServerBinary, find_server, free_port, inspect_server, start_many
from proxy.errors import SlotgateError
from tests.support.processes import eventually, runs


def _binaries() -> list[ServerBinary]:
    paths = [find_server().path, localservers.wheel_server()]
    return [inspect_server(path) for path in dict.fromkeys(paths) if path is not None]


@pytest.fixture(params=_binaries(), ids=lambda binary: f"{binary.kind}-{binary.version}")
def binary(request: pytest.FixtureRequest) -> ServerBinary:
    found: ServerBinary = request.param
    return found


@pytest.fixture
def server(binary: ServerBinary, tmp_path: Path) -> Iterator[LocalServer]:
    server = LocalServer(binary, tmp_path)
    server.start()
    yield server
    server.kill()


def fake_server(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


class TestBinary:
    @pytest.fixture(autouse=True)
    def path(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))

    def test_path_comes_first(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        fake = fake_server(tmp_path, "valkey-server", "echo 'Valkey server v=8.1.4 sha=00000000:0 malloc=libc bits=64'")
        monkeypatch.setattr(localservers, "wheel_server", lambda: Path("/never/asked"))
        found = find_server()
        assert found == ServerBinary(fake, "valkey", "8.1.4")
        assert found.version_info == (8, 1, 4)

    def test_a_server_that_does_not_run_is_passed_over(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, binary: ServerBinary
    ) -> None:
        fake_server(tmp_path, "redis-server", "exit 127")
        monkeypatch.setattr(localservers, "wheel_server", lambda: binary.path)
        assert find_server() == binary

    def test_none_at_all_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(localservers, "wheel_server", lambda: None)
        with pytest.raises(SlotgateError, match=r"no redis-server or valkey-server on PATH.*slotgate\[demo\]"):
            find_server()

    @pytest.mark.parametrize("path", ["/bin/echo", "/nonexistent/redis-server"])
    def test_what_is_no_server_is_refused(self, path: str) -> None:
        with pytest.raises(SlotgateError, match=path):
            inspect_server(Path(path))


class TestServer:
    def test_answers_and_stops(self, server: LocalServer) -> None:
        assert server.ask("PING") == b"PONG"
        assert server.info("server")["tcp_port"] == str(server.port)
        pid = server.pid
        server.stop()
        assert not server.running
        assert not runs(pid)
        with pytest.raises(SlotgateError, match="does not run"):
            server.pause()
        server.stop()

    def test_an_error_reply_is_raised(self, server: LocalServer) -> None:
        server.ask("LPUSH", "list", 1, 2)
        with pytest.raises(hiredis.ReplyError, match="WRONGTYPE"):
            server.ask("GET", "list")

    def test_restarts_on_its_port(self, server: LocalServer) -> None:
        port = server.port
        server.kill()
        server.start()
        assert server.port == port
        with pytest.raises(SlotgateError, match="runs already"):
            server.start()

    def test_a_paused_one_is_silent_and_can_be_stopped(self, server: LocalServer) -> None:
        server.pause()
        with pytest.raises(TimeoutError):
            server.ask("PING", timeout=0.2)
        server.resume()
        assert server.ask("PING") == b"PONG"
        server.pause()
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < localservers.STOP_TIMEOUT
        assert not server.running

    def test_takes_options_and_a_password(self, binary: ServerBinary, tmp_path: Path) -> None:
        options = ("maxmemory 12mb", "user bob on >secret ~* +@read")
        server = LocalServer(binary, tmp_path, password='a "b\\', options=options)
        server.start()
        try:
            assert server.ask("CONFIG", "GET", "maxmemory") == [b"maxmemory", str(12 << 20).encode()]
            assert "user bob on" in str(server.ask("ACL", "LIST"))
            server.password = ""
            with pytest.raises(hiredis.ReplyError, match="NOAUTH"):
                server.ask("PING")
        finally:
            server.stop()

    def test_a_bad_option_is_told_with_the_servers_words(self, binary: ServerBinary, tmp_path: Path) -> None:
        server = LocalServer(binary, tmp_path, options=("no-such-option yes",))
        with pytest.raises(SlotgateError, match="no-such-option"):
            server.start()
        assert not server.running

    def test_a_fixed_port_in_use_fails(self, binary: ServerBinary, tmp_path: Path, server: LocalServer) -> None:
        folder = tmp_path / "second"
        folder.mkdir()
        with pytest.raises(SlotgateError, match="did not start"):
            LocalServer(binary, folder, port=server.port).start()
        assert server.ask("PING") == b"PONG"

    def test_a_lost_race_for_a_port_is_tried_again(
        self, binary: ServerBinary, tmp_path: Path, server: LocalServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ports = iter([server.port, server.port, free_port()])
        monkeypatch.setattr(localservers, "free_port", lambda host: next(ports))
        folder = tmp_path / "second"
        folder.mkdir()
        second = LocalServer(binary, folder)
        second.start()
        try:
            assert second.port != server.port
        finally:
            second.stop()

    def test_is_in_another_process_group(self, server: LocalServer) -> None:
        assert os.getpgid(server.pid) != os.getpgrp()

    def test_lives_on_after_the_thread_that_started_it(self, binary: ServerBinary, tmp_path: Path) -> None:
        server = LocalServer(binary, tmp_path)
        thread = threading.Thread(target=server.start)
        thread.start()
        thread.join()
        time.sleep(0.1)
        try:
            assert server.ask("PING") == b"PONG"
        finally:
            server.stop()


class TestShards:
    def test_replicas_follow_and_all_is_gone_after(self, binary: ServerBinary) -> None:
        with start_many(2, 2, binary=binary, password="secret") as shards:
            assert [len(group) for group in shards.replicas] == [2, 2]
            assert len({server.port for server in shards.servers}) == 6
            assert shards.static.count(",") == 1
            assert shards.static.count("/") == 4
            primary, replica = shards.primaries[1], shards.replicas[1][0]
            primary.ask("SET", "key", "value")
            assert eventually(lambda: replica.ask("GET", "key") == b"value")
            pids = [server.pid for server in shards.servers]
            primary.pause()
        assert not shards.directory.exists()
        assert not any(runs(pid) for pid in pids)

    def test_all_is_gone_after_an_error_inside(self, binary: ServerBinary) -> None:
        pids: list[int] = []

        def fail() -> None:
            with start_many(1, 1, binary=binary) as shards:
                pids.extend(server.pid for server in shards.servers)
                raise ZeroDivisionError(shards.directory)

        with pytest.raises(ZeroDivisionError) as error:
            fail()
        assert not Path(*error.value.args).exists()
        assert len(pids) == 2
        assert not any(runs(pid) for pid in pids)

    def test_all_is_gone_when_one_does_not_start(
        self, binary: ServerBinary, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with (
            pytest.raises(SlotgateError, match="no-such-option"),
            start_many(1, 0, binary=binary, options=("no-such-option yes",)),
        ):
            pass
        assert list(tmp_path.iterdir()) == []


def test_servers_do_not_outlive_a_killed_parent(binary: ServerBinary) -> None:
    script = f"""
        import sys
        from pathlib import Path
        from proxy.devservers.servers import ServerBinary, start_many
        binary = ServerBinary(Path({str(binary.path)!r}), {binary.kind!r}, {binary.version!r})
        with start_many(1, 1, binary=binary) as shards:
            shards.primaries[0].pause()
            print(shards.directory, *(server.pid for server in shards.servers), flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        directory, *pids = parent.stdout.readline().split()
        assert all(runs(int(pid)) for pid in pids)
        parent.send_signal(signal.SIGKILL)
    assert eventually(lambda: not any(runs(int(pid)) for pid in pids))
    assert eventually(lambda: not Path(directory).exists())


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as listener:
        listener.bind((localservers.LOOPBACK, free_port()))
