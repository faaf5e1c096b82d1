"""MONITOR: clients that see every command of this worker's clients, in Redis's format.

Source: https://redis.io/docs/latest/commands/monitor/ and the output of Redis 7. While a client monitors, no client
uses the fast path, as that does not parse commands.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from proxy import errors
from proxy.commands.facts import Fact
from proxy.features.host import Host
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.resp import encode
from proxy.session.session import Session

_REDACTED = b"(redacted)"
_ESCAPES = {ord(char): f"\\{name}" for char, name in zip('\\"\n\r\t\a\b', '\\"nrtab', strict=True)}
_SHOWN = range(32, 127)


class MonitoringClients:
    """The clients that have called MONITOR; ``on_change`` is called when the first is added, and when the last is
    removed."""

    def __init__(self, on_change: Callable[[], None], clock: Callable[[], float] = time.time) -> None:
        self._on_change = on_change
        self._clock = clock
        self._clients: dict[int, Host] = {}
        self.watching = False
        """Whether any client has called MONITOR."""

    def add(self, client: Host) -> None:
        """Show all commands to ``client`` from now on."""
        self._clients[client.number] = client
        self._tell()

    def remove(self, client: Host) -> None:
        """Show no more commands to ``client``, if it has called MONITOR."""
        self._clients.pop(client.number, None)
        self._tell()

    def __contains__(self, client: Host) -> bool:
        return client.number in self._clients

    def show(self, session: Session, fact: Fact, args: Sequence[bytes]) -> None:
        """Show a command that a client has run. Commands of administrators are not shown, and secrets are redacted."""
        if "admin" in fact.flags:
            return
        words = " ".join(map(quoted, _redacted(fact.name, args)))
        line = encode.simple(f"{self._clock():.6f} [{session.db} {session.address}] {words}")
        for client in list(self._clients.values()):
            client.window.push(line)

    def _tell(self) -> None:
        if self.watching is not bool(self._clients):
            self.watching = bool(self._clients)
            self._on_change()


def quoted(arg: bytes) -> str:
    """An argument as Redis quotes it."""
    return '"' + "".join(map(_char, arg)) + '"'


def _char(code: int) -> str:
    return _ESCAPES.get(code) or (chr(code) if code in _SHOWN else f"\\x{code:02x}")


def _redacted(name: str, args: Sequence[bytes]) -> Sequence[bytes]:
    """The arguments without passwords."""
    if name == "auth":
        return [args[0], *(_REDACTED for _ in args[1:])]
    if name == "hello":
        return list(_hello(args))
    return args


def _hello(args: Sequence[bytes]) -> Iterator[bytes]:
    """The arguments of HELLO; two are redacted behind each AUTH that may be its option, also if the command is
    wrong."""
    hidden = named = 0
    for arg in args:
        yield _REDACTED if hidden else arg
        option = b"" if hidden or named else arg.lower()
        hidden = 2 if option == b"auth" else max(hidden - 1, 0)
        named = option == b"setname"


# ---- as commands


def monitor(modes: Modes, request: Request) -> bool:
    """Carry out MONITOR. A client that has called MONITOR already gets no reply, as in Redis."""
    client = modes.client
    monitoring = client.service.clients.monitoring
    known = client in monitoring
    client.say(request.fact, b"" if known else encode.OK)
    if not known:
        monitoring.add(client)
    return True


def bars(modes: Modes, fact: Fact) -> str | None:
    """The error for ``fact`` if the client has called MONITOR and may not run it; else None."""
    keyspace = fact.write or fact.readonly or "may_replicate" in fact.flags
    return errors.LOOKING_ON if keyspace and modes.client in modes.client.service.clients.monitoring else None
