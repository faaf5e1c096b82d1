"""A client as CLIENT LIST and CLIENT INFO show it. Pure.

Source: https://redis.io/docs/latest/commands/client-list/
"""

from collections.abc import Sequence

from proxy.session.session import Load, Session

_NAMES = (
    "id addr laddr fd name age idle flags db sub psub ssub multi watch qbuf qbuf-free argv-mem multi-mem rbs rbp obl "
    "oll omem tot-mem events cmd user redir resp lib-name lib-ver"
)
FIELDS = tuple(_NAMES.split())
"""Where no server has said which ones it has."""
_KNOWN = (*FIELDS, "capa", "tot-net-out", "tot-cmds")
"""What ``_values`` returns, in its order; behind them comes what is said of a field that is not known."""
_READ_AT_ONCE = 16 * 1024
"""A query buffer's bytes as Redis makes it while it is used."""
_REPLY_LEAST, _REPLY_MOST = 1024, 16 * 1024
"""A reply buffer's bytes in Redis; what does not fit is a list of blocks of this size."""
_ITSELF = 2048
"""About what a client takes that does nothing, in bytes."""
_COMMAND = 16
"""Bytes of an argument beside its own."""
_SMALL_END = 1024
_SMALL = [str(number) for number in range(_SMALL_END)]


class Plan:
    """How a line is put together: what stands before each value, and which of ``_values`` that is."""

    __slots__ = ("_parts", "_places", "fields")

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = fields
        places = {name: at for at, name in enumerate(_KNOWN)}
        self._parts: list[str] = []
        """A line with a gap behind each text."""
        for name in fields:
            self._parts += (f" {name}=" if self._parts else f"{name}=", "")
        self._places = bytes(places.get(name, len(_KNOWN)) for name in fields)

    def line(self, values: list[str]) -> str:
        """The line with these values."""
        parts = self._parts[:]
        at = 1
        for place in self._places:
            parts[at] = values[place]
            at += 2
        return "".join(parts)


_plan = Plan(FIELDS)
"""That of the last line; all have the same fields until the servers are others."""


def line(session: Session, now: float, asking: Sequence[bytes] = ()) -> str:
    """The line of a client, with the fields that the servers' own lines have (``World.client_fields``). ``asking``: the
    arguments of the command that it is executing, if it is the one that asks."""
    global _plan
    world = session.world
    fields = world.client_fields or FIELDS
    if _plan.fields is not fields:
        _plan = Plan(fields)
    return _plan.line(_values(session, now, world.directory.load(session), asking))


def _values(session: Session, now: float, load: Load, asking: Sequence[bytes]) -> list[str]:
    """The values of all fields that are known, in ``_KNOWN``'s order, and "0". What waits in the proxy for the client
    is divided as Redis divides it among its buffers."""
    channels, patterns, shard_channels = session.listening
    tracking = session.tracking
    arguments = framed = count = 0
    for arg in asking:
        size = len(arg)
        arguments += size
        framed += size + _digits(size) + 5
        count += 1
    if count:
        framed += _digits(count) + 3
    query = load.kept + framed
    free = max(_READ_AT_ONCE - query, 0) if query else 0
    waiting = load.unread + load.parked
    buffer = _REPLY_LEAST
    while buffer < waiting and buffer < _REPLY_MOST:
        buffer *= 2
    first = min(waiting, buffer)
    rest = waiting - first
    blocks = (rest + _REPLY_MOST - 1) // _REPLY_MOST
    total = _ITSELF + query + free + arguments + _COMMAND * count + load.queued + buffer + rest
    age = int(now - session.created)
    idle = 0 if count else int(now - session.last_active)  # who asks is not idle
    used = _number(first)
    return [
        _number(session.id),
        session.address,
        session.local_address,
        "-1",
        session.name,
        _number(age),
        _number(idle),
        _flags(session),
        _number(session.db),
        _number(channels),
        _number(patterns),
        _number(shard_channels),
        _number(session.queued),
        _number(session.watched),
        _number(query),
        _number(free),
        _number(arguments),
        _number(load.queued),
        _number(buffer),
        used,
        used,
        _number(blocks),
        _number(rest),
        _number(total),
        "r",
        session.last_command,
        session.user,
        "-1" if tracking is None else _number(tracking.redirect),
        _number(session.protocol),
        session.lib_name,
        session.lib_ver,
        "",
        _number(load.written),
        _number(load.commands),
        "0",
    ]


def _number(value: int) -> str:
    """How a number is written; most of a line's are small."""
    return _SMALL[value] if 0 <= value < _SMALL_END else f"{value}"


def _digits(number: int) -> int:
    """How many a number has that is not negative."""
    found = 1
    while number >= 10:
        number //= 10
        found += 1
    return found


def _flags(session: Session) -> str:
    channels, patterns, shard_channels = session.listening
    tracking = session.tracking
    flags = ""
    if channels or patterns or shard_channels:
        flags += "P"
    if session.queued >= 0:
        flags += "x"
    if session.blocked:
        flags += "b"
    if tracking is not None:
        flags += "t" + "R" * tracking.broken + "B" * tracking.bcast
    if session.no_evict:
        flags += "e"
    return flags or "N"


def shown_address(name: object, listener: object) -> str:
    """An address as Redis shows it: ``ip:port``, ``[v6]:port``, ``/path:0`` for a unix socket."""
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = name or listener
    return f"{path.decode() if isinstance(path, bytes) else path}:0"
