"""Starting what is compared, in front of the same shards, and stopping it."""

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.peers import DIRECT, PROXIES, Proxy, Target, connect
from proxy.devservers.process_guard import process_guard
from proxy.devservers.servers import LOOPBACK, LocalShards, free_port
from proxy.errors import SlotgateError

_START_TIMEOUT: Final = 15.0
_STOP_TIMEOUT: Final = 5.0
_POLL: Final = 0.02
# free_port() only says what is free now.
_PORT_ATTEMPTS: Final = 3


@contextlib.contextmanager
def running(names: Sequence[str], shards: LocalShards) -> Iterator[tuple[list[Target], dict[str, str]]]:
    """Starts those named; gives what runs, in order, and why the others do not. All are stopped afterwards.

    Raises SlotgateError when one that is installed does not start.
    """
    targets: list[Target] = []
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            if name == DIRECT:
                targets.append(direct(shards))
                continue
            each = PROXIES[name]
            command = each.find()
            if command is None:
                left_out[name] = each.absent
            else:
                targets.append(stack.enter_context(started(each, command, shards)))
        yield targets, left_out


def direct(shards: LocalShards) -> Target:
    """A shard itself."""
    server, binary = shards.primaries[0], shards.binary
    version = f"{binary.kind} {binary.version}, one of the {len(shards.primaries)} shards"
    return Target(DIRECT, version, server.host, server.port, server.pid, lambda: server.running)


@contextlib.contextmanager
def started(each: Proxy, command: tuple[str, ...], shards: LocalShards) -> Iterator[Target]:
    """Starts one with the ``command`` that it was found by, and stops it afterwards. Raises SlotgateError."""
    version = each.version(command)
    log = shards.directory / f"{each.name}.out"
    for _ in range(_PORT_ATTEMPTS):
        port = free_port()
        arguments = each.arguments(port, shards.primaries, shards.directory)
        process = process_guard().spawn(
            [*command, *arguments], cwd=shards.directory, output=log, env=each.environment()
        )
        try:
            if _answers(process, port, each.tls):
                yield _target(each, version, port, process)
                return
        finally:
            _stop(process)
    words = " / ".join(log.read_text(errors="replace").splitlines()[-3:]) or "it wrote nothing"
    raise SlotgateError(f"{each.name} does not start: {words}")


def _target(each: Proxy, version: str, port: int, process: subprocess.Popen[bytes]) -> Target:
    return Target(each.name, version, LOOPBACK, port, process.pid, lambda: process.poll() is None, each.tls)


def _answers(process: subprocess.Popen[bytes], port: int, tls: bool) -> bool:
    """Whether it answers PING in time, if only by asking for a password."""
    deadline = time.monotonic() + _START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), connect(LOOPBACK, port, 1.0, tls) as connection:
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            if connection.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                return True
        time.sleep(_POLL)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_TIMEOUT)
    process.kill()
    process.wait()
