"""systemd's protocol for services, for the process that systemd has started: it tells its state, and takes over the
sockets that systemd has opened.

Sources: sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3). Without systemd nothing is done.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

_FIRST = 3
"""The descriptor of the first socket that systemd passes on."""


class ServiceManager:
    """The service manager that ``environ`` names, if there is one. ``watchdog`` is the number of seconds within which
    it wants to hear from this process; 0 if it does not."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        usual = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        seconds = environ.get("WATCHDOG_USEC", "")
        self.watchdog = int(seconds) / 1e6 if self._address and usual and seconds.isdigit() else 0.0

    def __repr__(self) -> str:
        return f"ServiceManager({self._address})"

    def ready(self, status: str) -> None:
        """Tell that clients are served; ``status`` is a line for people."""
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Tell that the configuration is being read again; ``ready`` tells the end of that."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """Tell that the process is about to end."""
        self._tell(f"STOPPING=1\nSTATUS={status}")

    def alive(self) -> None:
        """Tell that the process works."""
        self._tell("WATCHDOG=1")

    def _tell(self, words: str) -> None:
        if not self._address:
            return
        # An address that begins with @ is no file: it is in Linux's abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            manager.sendto(words.encode(), address)


def inherited(environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening sockets that systemd has opened for this process."""
    if environ.get("LISTEN_PID") != str(os.getpid()) or not environ.get("LISTEN_FDS", "").isdigit():
        return []
    found = []
    for descriptor in range(_FIRST, _FIRST + int(environ["LISTEN_FDS"])):
        each = socket.socket(fileno=os.dup(descriptor))
        each.setblocking(False)
        found.append(each)
    return found
