"""One of the proxy's own commands, as a row of their table says it (``proxy.features.commands``)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from proxy.session.session import Command, Session


class InMulti(Enum):
    """What becomes of a command between MULTI and EXEC."""

    ANSWERED = "answered"
    """It is queued, and the proxy answers it when EXEC is answered."""
    SENT = "sent"
    """It is queued, and sent to a server with the others."""
    AT_ONCE = "at once"
    """It is not queued, as it is about the transaction or ends it."""
    REFUSED = "refused"
    """It may not stand in a transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCommand:
    """One of the proxy's own commands. The subclass says who answers it."""

    while_subscribed: bool = False
    """Whether a client in RESP2 may send it while it is subscribed."""
    in_multi: InMulti = InMulti.ANSWERED


@dataclass(frozen=True, slots=True)
class SessionCommand(OwnCommand):
    """A command whose reply follows from the client's session and the arguments."""

    answer: Command

    def run(self, session: Session, args: Sequence[bytes], now: float) -> bytes:
        """The reply."""
        return self.answer(session, args)


@dataclass(frozen=True, slots=True)
class TimedCommand(OwnCommand):
    """A command whose reply depends on the time as well: the last argument is the loop's clock, in seconds."""

    answer: Callable[[Session, Sequence[bytes], float], bytes]

    def run(self, session: Session, args: Sequence[bytes], now: float) -> bytes:
        """The reply."""
        return self.answer(session, args, now)
