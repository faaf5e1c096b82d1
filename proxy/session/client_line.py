"""Formats a client as a line of CLIENT LIST and CLIENT INFO. No I/O.

Source: https://redis.io/docs/latest/commands/client-list/
"""

from collections.abc import Sequence

from proxy.session.session import Load, Session

_NAMES = (
    "id addr laddr fd name age idle flags db sub psub ssub multi watch qbuf qbuf-free argv-mem multi-mem rbs rbp obl "
    "oll omem tot-mem events cmd user redir resp lib-name lib-ver"
)
FIELDS = tuple(_NAMES.split())
"""The fields of a line as long as no server has reported its own."""
_KNOWN = (*FIELDS, "capa", "tot-net-out", "tot-cmds")
"""The fields of ``_values``, in its order; the last of its values is for unknown fields."""
_READ_AT_ONCE = 16 * 1024
"""The bytes of a query buffer in Redis while it is used."""
_REPLY_LEAST, _REPLY_MOST = 1024, 16 * 1024
"""The bytes of a reply buffer in Redis; further replies are kept in a list of blocks of the larger size."""
_ITSELF = 2048
"""The approximate bytes of memory of an idle client."""
_COMMAND = 16
"""The bytes of an argument in addition to its content."""
_SMALL_END = 1024
_SMALL = [str(number) for number in range(_SMALL_END)]


class Plan:
    """The format of a line: the text ahead of each value, and the index of that value in ``_values``."""

    __slots__ = ("_parts", "_places", "fields")

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = fields
        places = {name: at for at, name in enumerate(_KNOWN)}
        self._parts: list[str] = []
        """The texts, each followed by an empty place for its value."""
        for name in fields:
            self._parts += (f" {name}=" if self._parts else f"{name}=", "")
        self._places = bytes(places.get(name, len(_KNOWN)) for name in fields)

    def line(self, values: list[str]) -> str:
        """The line with ``values``."""
        parts = self._parts[:]
        at = 1
        for place in self._places:
            parts[at] = values[place]
            at += 2
        return "".join(parts)


_plan = Plan(FIELDS)
"""The plan of the last line; all lines have the same fields until the servers change."""


def line(session: Session, now: float, asking: Sequence[bytes] = ()) -> str:
    """The line of a client, with the fields of the servers' own lines (``World.client_fields``). ``asking``: the
    arguments of the command that is being executed, if the client has sent it."""
    global _plan
    world = session.world
    fields = world.client_fields or FIELDS
    if _plan.fields is not fields:
        _plan = Plan(fields)
    return _plan.line(_values(session, now, world.directory.load(session), asking))


def _values(session: Session, now: float, load: Load, asking: Sequence[bytes]) -> list[str]:
    """The values of all known fields, in the order of ``_KNOWN``, and "0". The bytes that wait in the proxy for the
    client are divided as Redis divides them among its buffers."""
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
    idle = 0 if count else int(now - session.last_active)  # a client with a running command is not idle
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
    """The decimal form of a number; most numbers of a line are small."""
    return _SMALL[value] if 0 <= value < _SMALL_END else f"{value}"


def _digits(number: int) -> int:
    """The number of digits of a number that is not negative."""
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
    """An address as Redis formats it: ``ip:port``, ``[v6]:port``, ``/path:0`` for a unix socket."""
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = name or listener
    return f"{path.decode() if isinstance(path, bytes) else path}:0"
