"""Child processes that can not outlive this process, however it ends, even if it is killed with SIGKILL.

::

    this process ── a pipe ──> guard (leader of a process group of its own)
         └── spawn() ────────> servers, in the guard's process group

The guard reads its pipe until the end, which comes when this process ends, and then kills its whole group and removes
the directories it was told about. Unlike ``PR_SET_PDEATHSIG`` this needs no code between fork and exec (unsafe with
threads), does not depend on the thread that started the child, and works on every POSIX system. A process group of
their own also keeps the terminal's Ctrl-C from the children, so that their starter decides in which order they stop.

This file is both sides: imported it is the parent's side, run by its path it is the guard, so it imports nothing of
this package.
"""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_KEEP, _FORGET, _END, _READY = b"+", b"-", b"\0", b"."


class ProcessGuard:
    """The parent's side. One guard for a process is enough: :func:`process_guard`."""

    def __init__(self) -> None:
        # -I -S: without site-packages and search path the guard starts fast and does not depend on the caller's.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # The pipe is not inheritable, so no child holds it open: it ends with this process (or with a process that this
        # one forks without exec, which counts as this process still running).
        self._pipe = self._process.stdin
        with self._process.stdout as ready:
            if ready.read(1) != _READY:
                self.close()
                raise RuntimeError("the guard of child processes did not start")

    def __repr__(self) -> str:
        return f"<ProcessGuard pid={self._process.pid} alive={self.alive}>"

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def spawn(
        self, args: Sequence[str | Path], *, cwd: Path, output: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a child in the guard's group; its standard output and error are appended to the file ``output``.

        Raises OSError if it can not be executed.
        """
        with output.open("ab") as log:
            return subprocess.Popen(
                args,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                process_group=self._process.pid,
            )

    def keep(self, directory: Path) -> None:
        """Have the guard remove ``directory`` if this process ends before it calls :meth:`forget`."""
        self._pipe.write(_KEEP + os.fsencode(directory) + _END)

    def forget(self, directory: Path) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(_FORGET + os.fsencode(directory) + _END)

    def close(self) -> None:
        """Kill all processes that are left in the group, the guard included."""
        self._pipe.close()
        self._process.wait()


_guard: ProcessGuard | None = None
_lock = threading.Lock()


def process_guard() -> ProcessGuard:
    """The guard of this process, which is started at the first call and closed at exit."""
    global _guard
    with _lock:
        if _guard is None or not _guard.alive:
            _guard = ProcessGuard()
            atexit.register(_guard.close)
        return _guard


def _main() -> None:
    # Only the end of the pipe ends the guard. SIGHUP may come: the kernel sends it to a group with a stopped process in
    # it (LocalServer.pause) as soon as the parent ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, _READY)
    os.close(1)
    directories: dict[bytes, None] = {}
    for message in sys.stdin.buffer.read().split(_END):
        kind, directory = message[:1], message[1:]
        if kind == _KEEP:
            directories[directory] = None
        elif kind == _FORGET:
            directories.pop(directory, None)
    group = os.getpgrp()
    if os.fork() == 0:
        os.setsid()
        # This kills the guard too. While it lives, no other group can get its number, and once it is dead, a child that
        # was forked at the last moment can not join the group any more and so never starts.
        os.killpg(group, signal.SIGKILL)
        for directory in directories:
            _remove(directory)
        os._exit(0)
    signal.pause()


def _remove(directory: bytes, attempts: int = 50) -> None:
    """Remove a directory in which a process that is just ending may still create a file."""
    for _ in range(attempts):
        shutil.rmtree(directory, ignore_errors=True)
        if not os.path.exists(directory):
            return
        time.sleep(0.02)


if __name__ == "__main__":
    _main()
