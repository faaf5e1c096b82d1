"""A process of the proxy's own beside this one: a new Python, which is given its end of a control channel.

It is no fork, as a running event loop can not be forked. Nothing secret is in its arguments or its environment: what it
has to know it asks for over the channel, and it ends when the channel does.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# -P: a folder called "proxy" where the command was given is not this package. The package is found where this one was,
# and everything else as ever.
_COMMAND = (
    "import sys; sys.path.insert(0, sys.argv[1]); import proxy; del sys.path[0]; "
    "from importlib import import_module; sys.exit(import_module(sys.argv[2]).main(int(sys.argv[3])))"
)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start(module: str, name: str, channel: int, others: Sequence[int]) -> subprocess.Popen[bytes]:
    """A process that calls ``main`` of ``module`` with the descriptor ``channel``; it inherits ``others`` too.

    ``name`` is for people who look at ``ps``. ``main`` has to unblock the signals that reach the whole group (SIGTERM,
    SIGINT, SIGHUP) when it has handlers for them. Raises OSError.
    """
    command = [sys.executable, "-P", "-c", _COMMAND, str(Path(__file__).parents[2]), module, str(channel), name]
    # Signals wait in the child until it says otherwise: before it can answer them they would kill it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[channel, *others])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
