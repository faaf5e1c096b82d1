"""One of the proxy's own commands, as a row of their table (``proxy.features.commands``)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from proxy.session.session import Command, Session


class InMulti(Enum):
    """The ways to handle a command between MULTI and EXEC."""

    ANSWERED = "answered"
    """The command is queued, and the proxy answers it when EXEC is answered."""
    SENT = "sent"
    """The command is queued, and sent to a server with the other commands."""
    AT_ONCE = "at once"
    """The command is not queued, as it concerns the transaction or ends it."""
    REFUSED = "refused"
    """The command is not allowed in a transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCommand:
    """One of the proxy's own commands. The subclass has the handler."""

    while_subscribed: bool = False
    """Whether a client in RESP2 may send the command while it is subscribed."""
    in_multi: InMulti = InMulti.ANSWERED


@dataclass(frozen=True, slots=True)
class SessionCommand(OwnCommand):
    """A command whose reply depends on the client's session and the arguments only."""

    answer: Command

    def run(self, session: Session, args: Sequence[bytes], now: float) -> bytes:
        """Return the reply."""
        return self.answer(session, args)


@dataclass(frozen=True, slots=True)
class TimedCommand(OwnCommand):
    """A command whose reply depends on the time too: the handler's last argument is the loop's clock, in seconds."""

    answer: Callable[[Session, Sequence[bytes], float], bytes]

    def run(self, session: Session, args: Sequence[bytes], now: float) -> bytes:
        """Return the reply."""
        return self.answer(session, args, now)
