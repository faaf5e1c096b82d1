"""Listening sockets. They are bound by the only process, or by the supervisor for its workers.

On Linux each worker gets a socket of its own for every TCP address (SO_REUSEPORT): the kernel distributes connections,
and one that was assigned to a dead worker waits in that socket's backlog for the successor. On other systems, and for
unix sockets, all workers accept from one socket.

SO_REUSEPORT would also let a second Slotgate of the same user share the port unnoticed. So the first socket of an
address is bound and listens without it, which fails if another process listens there; then the option is set for the
other sockets.

A socket that the service manager has opened at one of the addresses is used as it is, by all workers, and outlives the
process.
"""

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from proxy.config import Address
from proxy.errors import SlotgateError
from proxy.transport.sockets import keep_alive

BACKLOG = 4096
"""How many connections may wait in each socket to be accepted."""

_DEALT_OUT = sys.platform == "linux"


class Listeners:
    """The sockets of all addresses. ``addresses`` holds the ones in use, with the port that the system chose for 0.

    ``idle`` is the number of seconds of silence after which keepalive probes are sent to a client; 0 sends none.
    ``given`` are the sockets that listen already.
    """

    def __init__(self, workers: int = 1, idle: int = 0, given: Sequence[socket.socket] = ()) -> None:
        self._given = list(given)
        self._not_ours: list[str] = []
        """The paths of unix sockets that were given."""
        self._groups: list[tuple[int, list[socket.socket]]] = []
        self._workers = workers
        self._idle = idle
        self.addresses: list[Address] = []

    def __repr__(self) -> str:
        return f"Listeners({', '.join(map(str, self.addresses))}: {self._groups})"

    def of(self, worker: int) -> list[tuple[int, socket.socket]]:
        """The sockets from which the worker of this index accepts, each with the position of its address in
        ``addresses``."""
        return [(position, group[worker % len(group)]) for position, group in self._groups]

    def listen(self, address: Address) -> None:
        """Listen on one more address, on each IP address of its host. Raises OSError."""
        position = len(self.addresses)
        if address.unix:
            if (given := self._take(address.host)) is None:
                _remove_stale_socket(address.host)
                given = _bound(socket.AF_UNIX, address.host, 0)
            else:
                self._not_ours.append(address.host)
            self._groups.append((position, [given]))
            self.addresses.append(address)
            return
        infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        port = address.port
        missing: OSError | None = None
        for family, where in dict.fromkeys((info[0], info[4]) for info in infos):
            if (given := self._take(where[:2])) is not None:
                if self._idle:
                    keep_alive(given, self._idle)
                self._groups.append((position, [given]))
                missing = None
                continue
            try:
                first = _bound(family, (where[0], port, *where[2:]), self._idle)
            except OSError as error:
                # A name may have an address of a protocol that is switched off on this machine.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
                continue
            group = [first]
            self._groups.append((position, group))
            port = first.getsockname()[1]
            if _DEALT_OUT and self._workers > 1:
                first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                while len(group) < self._workers:
                    group.append(_bound(family, first.getsockname(), self._idle, shared=True))
            missing = None
        if missing is not None:
            raise missing
        self.addresses.append(Address(address.host, port))

    def _take(self, where: object) -> socket.socket | None:
        """The given socket that listens at ``where``, a path or a host and port, if there is one."""
        for each in self._given:
            name = each.getsockname()
            if (name[:2] if isinstance(name, tuple) else name) == where:
                self._given.remove(each)
                return each
        return None

    def check_given(self) -> None:
        """Raise SlotgateError if a socket was given at an address that is none of those that were asked for."""
        for each in self._given:
            name = each.getsockname()
            where = name if isinstance(name, str) else f"{name[0]}:{name[1]}"
            raise SlotgateError(
                f"the service manager has opened a socket at {where}, where nothing is to listen. "
                "Name the same address in its socket unit and in listen or [[listeners]]"
            )

    def close(self) -> None:
        """Close the sockets, and remove the files of unix sockets that were not given."""
        for _, group in self._groups:
            for each in group:
                each.close()
        for address in self.addresses:
            if address.unix and address.host not in self._not_ours:
                Path(address.host).unlink(missing_ok=True)
        for each in self._given:
            each.close()
        self._given.clear()
        self._groups.clear()
        self.addresses.clear()


def listen(
    addresses: Sequence[Address], workers: int = 1, idle: int = 0, given: Sequence[socket.socket] = ()
) -> Listeners:
    """Listen on all ``addresses`` for ``workers`` processes; keepalive probes are sent to clients after ``idle``
    seconds of silence. ``given`` are sockets that listen at some of the addresses already. Raises SlotgateError if one
    of the addresses can not be listened on, or a given socket is at none of them."""
    listeners = Listeners(workers, idle, given)
    try:
        for address in addresses:
            try:
                listeners.listen(address)
            except OSError as error:
                raise SlotgateError(
                    f"can not listen on {address}: {error.strerror or error}. "
                    "Stop what uses it, or choose another address (listen, listeners, admin)"
                ) from error
        listeners.check_given()
    except SlotgateError:
        listeners.close()
        raise
    return listeners


def _bound(family: int, where: object, idle: int, *, shared: bool = False) -> socket.socket:
    """A socket that listens at ``where``, with keepalive probes after ``idle`` seconds. Raises OSError."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            # Connections of an earlier run in TIME_WAIT do not hold the port.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if idle:
                keep_alive(bound, idle)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(where)  # type: ignore[arg-type]  # what getaddrinfo gave, or a path
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _remove_stale_socket(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
