"""Starts a child process: a new Python, which inherits its end of a control channel.

The child is not a fork, because a running event loop can not be forked. Its arguments and environment contain no
secrets: the child asks for its settings over the channel, and ends when the channel is closed.
"""

import asyncio
import pickle
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from proxy.config import Config
from proxy.session.acl_users import Users
from proxy.worker.control_channel import Channel
from proxy.worker.report import Report

# With -P, a folder called "proxy" in the working directory is not imported instead of this package. The package is
# found where this process found it, and all other modules as usual.
_COMMAND = (
    "import sys; sys.path.insert(0, sys.argv[1]); import proxy; del sys.path[0]; "
    "from importlib import import_module; sys.exit(import_module(sys.argv[2]).main(int(sys.argv[3])))"
)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start(module: str, name: str, channel: int, others: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start a process that calls ``main`` of ``module`` with the descriptor ``channel``; the process inherits
    ``others`` too.

    ``name`` is for people who look at ``ps``. ``main`` has to unblock the signals that reach the whole group (SIGTERM,
    SIGINT, SIGHUP) once it has handlers for them. Raises OSError.
    """
    command = [sys.executable, "-P", "-c", _COMMAND, str(Path(__file__).parents[2]), module, str(channel), name]
    # The signals are blocked in the child until it has handlers; until then they would kill the child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[channel, *others])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WorkerProcess:
    """The process of one worker, from its start to its end."""

    def __init__(self, index: int, process: subprocess.Popen[bytes], config: Config) -> None:
        self.index = index
        self.process = process
        self.config = config
        """The configuration that the worker was told last."""
        self.channel: Channel
        self.report: Report | None = None
        """The latest report; None until the worker serves."""
        self.serving = asyncio.Event()
        """Set when the first report has come."""
        self.silent = False
        """Whether the worker did not answer the last question."""

    def __repr__(self) -> str:
        return f"WorkerProcess({self.index} pid={self.process.pid} up={self.report is not None})"

    def configure(self, config: Config, users: Users | None) -> None:
        """Have the worker, which serves already, use another configuration, and its users unless they are None."""
        self.config = config
        told = config, None if users is None else list(users)
        self.channel.tell("configure", b64encode(pickle.dumps(told)).decode())
