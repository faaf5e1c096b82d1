"""How one of the proxy's own commands is answered, for EXEC and the slow path.

The table of these commands is in ``proxy.features.commands``. This module defines the rows for features, and collects
the parts of all workers for a command about all clients.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from proxy.engine.jobs import Job
from proxy.features.host import Host
from proxy.features.request import Request
from proxy.features.state import Modes
from proxy.resp import encode
from proxy.session.cross_worker import CrossWorkerCommand
from proxy.session.own_command import InMulti, OwnCommand, SessionCommand, TimedCommand

_ABOUT_ONE_CLIENT = (SessionCommand, TimedCommand)


@dataclass(frozen=True, slots=True)
class FeatureCommand(OwnCommand):
    """A command that a feature carries out."""

    carry_out: Callable[[Modes, Request], bool]
    """Carries out a request outside of a transaction. Returns False if the request must wait (nothing was done)."""
    at_exec: Callable[[Host, str, Sequence[bytes]], bytes] | None = None
    """Makes the reply when EXEC is answered, if ``in_multi`` is ``InMulti.ANSWERED``; gets the command's name."""
    in_multi: InMulti = field(default=InMulti.REFUSED, kw_only=True)


def reply_of_one(client: Host, row: OwnCommand, name: str, args: Sequence[bytes], now: float) -> bytes:
    """Carry out the command ``name`` of a transaction, which no server gets and which is not about the clients of all
    workers. Return the reply."""
    if isinstance(row, FeatureCommand):
        assert row.at_exec is not None, f"{name} was queued"
        return row.at_exec(client, name, args)
    assert isinstance(row, _ABOUT_ONE_CLIENT)
    return row.run(client.session, args, now)


def reply_of_all(
    client: Host, row: CrossWorkerCommand, name: str, args: Sequence[bytes], now: float, later: Callable[[bytes], None]
) -> Job[bytes | None]:
    """Carry out the command ``name`` about the clients of all workers, and return the reply. If other workers have to
    do their parts, return None, and call ``later`` with the reply when all parts are done."""
    session = client.session
    wrong = yield from row.check(session.world, args)
    if wrong is not None:
        return encode.error(wrong)
    told = row.args(session, args)
    part = yield from row.part(session.world, session.id, told, now)
    siblings = client.service.siblings
    if siblings is None:
        return row.reply((part,), args, session.protocol)
    siblings.ask(name, told, session.id, lambda others: later(row.reply((part, *others), args, session.protocol)))
    return None
