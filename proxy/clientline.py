"""A client as CLIENT LIST and CLIENT INFO show it. Pure.

Source: https://redis.io/docs/latest/commands/client-list/
"""

from collections import Counter
from collections.abc import Sequence

from proxy.session import Load, Session

_NAMES = (
    "id addr laddr fd name age idle flags db sub psub ssub multi watch qbuf qbuf-free argv-mem multi-mem rbs rbp obl "
    "oll omem tot-mem events cmd user redir resp lib-name lib-ver"
)
FIELDS = tuple(_NAMES.split())
"""Where no server has said which ones it has."""
_READ_AT_ONCE = 16 * 1024
"""A query buffer's bytes as Redis makes it while it is used."""
_REPLY_LEAST, _REPLY_MOST = 1024, 16 * 1024
"""A reply buffer's bytes in Redis; what does not fit is a list of blocks of this size."""
_ITSELF = 2048
"""About what a client takes that does nothing, in bytes."""
_COMMAND = 16
"""Bytes of an argument beside its own."""


def line(session: Session, now: float, asking: Sequence[bytes] = ()) -> str:
    """The line of a client, with the fields that the servers' own lines have (``World.client_fields``). ``asking``: the
    arguments of the command that it is executing, if it is the one that asks."""
    values = {**_said(session, now), **_sizes(session.world.directory.load(session), asking)}
    return " ".join([f"{name}={values.get(name, 0)}" for name in session.world.client_fields or FIELDS])


def _said(session: Session, now: float) -> dict[str, object]:
    channels, patterns, shard_channels = session.listening
    flags = (
        "P" * any(session.listening)
        + "x" * (session.queued >= 0)
        + "b" * session.blocked
        + _tracking_flags(session)
        + "e" * session.no_evict
    ) or "N"
    return {
        "id": session.id,
        "addr": session.address,
        "laddr": session.local_address,
        "fd": -1,
        "name": session.name,
        "age": int(now - session.created),
        "idle": int(now - session.last_active),
        "flags": flags,
        "db": session.db,
        "sub": channels,
        "psub": patterns,
        "ssub": shard_channels,
        "multi": session.queued,
        "watch": session.watched,
        "cmd": session.last_command,
        "user": session.user,
        "redir": -1 if session.tracking is None else session.tracking.redirect,
        "resp": session.protocol,
        "lib-name": session.lib_name,
        "lib-ver": session.lib_ver,
        "capa": "",
    }


def _tracking_flags(session: Session) -> str:
    tracking = session.tracking
    return "" if tracking is None else "t" + "R" * tracking.broken + "B" * tracking.bcast


def _sizes(load: Load, asking: Sequence[bytes]) -> dict[str, object]:
    """What waits in the proxy for the client, as Redis divides it among its buffers."""
    arguments = sum(map(len, asking))
    query = load.kept + (_framed(asking) if asking else 0)
    free = max(_READ_AT_ONCE - query, 0) if query else 0
    waiting = load.unread + load.parked
    buffer = min(max(_REPLY_LEAST, 1 << max(waiting - 1, 0).bit_length()), _REPLY_MOST)
    first = min(waiting, buffer)
    rest = waiting - first
    return {
        "qbuf": query,
        "qbuf-free": free,
        "argv-mem": arguments,
        "multi-mem": load.queued,
        "rbs": buffer,
        "rbp": first,
        "obl": first,
        "oll": -(-rest // _REPLY_MOST),
        "omem": rest,
        "tot-mem": _ITSELF + query + free + arguments + _COMMAND * len(asking) + load.queued + buffer + rest,
        "events": "r",
        "tot-net-out": load.written,
        "tot-cmds": load.commands,
    }


def _framed(args: Sequence[bytes]) -> int:
    """The bytes of a request."""
    sizes = Counter(map(len, args))
    return sum((size + len(str(size)) + 5) * count for size, count in sizes.items()) + len(str(len(args))) + 3
