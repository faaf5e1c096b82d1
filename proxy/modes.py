"""What a client can be in the middle of that its session's plain state does not cover: a transaction, a block, a
subscription. Made when a client first needs it; most never do.

A command that belongs here has the handling ``MODE``; ``COMMANDS`` says who carries it out.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from proxy import aside, publishing, slotgatecmds, spectators, subscriptions, tracking, transactions, waiting
from proxy.blocking import Blocked
from proxy.channels import END
from proxy.commands.facts import Fact
from proxy.errand import Errand
from proxy.routes import Routes
from proxy.session import Manner
from proxy.subscriptions import Subscriptions
from proxy.tracking import Tracker
from proxy.transaction import Queue
from proxy.watching import Watch

if TYPE_CHECKING:
    from proxy.conversation import Conversation

Command = Callable[["Modes", Fact, list[bytes], bytes, float], bool]
"""Carries out a command: (modes, fact, args, frame, now). False if it must wait (nothing was done)."""


class Modes:
    """The modes of one client."""

    __slots__ = ("block", "client", "errand", "queue", "subscriptions", "tracker", "waited", "watch")

    def __init__(self, client: "Conversation") -> None:
        self.client = client
        self.block: Blocked | None = None
        """The blocking command that it waits in."""
        self.errand: Errand | None = None
        """What SLOTGATE SEND sent last."""
        self.queue: Queue | None = None
        """The transaction that it has begun."""
        self.waited = 0
        """The shards that its last WAIT asked, as ``Conversation.wrote`` has them."""
        self.watch: Watch | None = None
        """The keys that it watches."""
        self.subscriptions: Subscriptions | None = None
        self.tracker: Tracker | None = None
        """What hears which of the keys that it read are changed."""

    @property
    def plain(self) -> bool:
        """Whether the fast lane may work for it all the same."""
        if self.tracker is not None and self.tracker.tracking.caching:
            return False
        return self.queue is None and (self.subscriptions is None or not self.subscriptions.restricted)

    @property
    def manner(self) -> int:
        """What that means to the own lane."""
        if self.tracker is not None or self.block is not None:
            return Manner.LONG
        if self.subscriptions is not None and self.subscriptions.restricted:
            return Manner.LISTENS if self.queue is None else Manner.LONG
        if self.queue is None:
            return Manner.OWN
        return Manner.SPOILED if self.queue.spoiled else Manner.QUEUES

    @property
    def blocked(self) -> bool:
        """Whether it waits in a blocking command."""
        return self.block is not None

    def routes(self, routes: Routes) -> Routes:
        """Which connections its commands go over, in place of ``routes``."""
        if self.tracker is not None:
            session = self.client.session
            return self.client.service.own_routes(session.protocol, session.db, self.client.number)
        # What is read to be written back in a transaction must be what is watched.
        return routes if self.watch is None else self.client.service.at_primaries(routes)

    def take(self, fact: Fact, args: list[bytes], frame: bytes, now: float) -> bool | None:
        """A command of its, whose arity is right and which it may call: whether it was carried out (False: it must
        wait), or None if it is not for a mode."""
        if self.subscriptions is not None and self.subscriptions.answers(fact, args):
            return True
        if self.queue is not None and fact.name not in transactions.AT_ONCE:
            transactions.enqueue(self, fact, args, frame)
            return True
        if fact.name == "reset" and self.subscriptions is not None and self.subscriptions.leaves():
            return False
        if barred := spectators.bars(self, fact):
            self.client.refuse(fact, barred)
            return True
        if self.tracker is not None:
            self.tracker.taken(fact)
        command = COMMANDS.get(fact.name)
        if command is None:
            return None
        done = command(self, fact, args, frame, now)
        if done and self.tracker is not None and fact.name not in _KEEP_CACHING:
            self.tracker.passed()
        return done

    def spoil(self, fact: Fact | None) -> None:
        """A command of its was refused before it could be looked at."""
        transactions.spoil(self, fact)

    def gone(self) -> None:
        """The client is gone, or starts over (RESET): let go of everything."""
        if self.block is not None:
            self.block.cancel()
        if self.errand is not None:
            self.errand.cancel()
        self.client.service.spectators.remove(self.client)
        tracking.stop(self)
        transactions.discard(self)
        if self.subscriptions is not None:
            self.subscriptions.gone()

    def read_aside(self) -> None:
        """It has read over a connection that is not its own for good: nobody will tell it of those keys."""
        if self.tracker is not None:
            self.tracker.missed()

    def adopted(self) -> None:
        """The session's state may have changed."""
        if self.subscriptions is not None:
            self.subscriptions.adopted()

    def behind(self) -> None:
        """It reads more slowly than it is answered, from now on."""
        if self.subscriptions is not None:
            self.subscriptions.behind()

    def in_transaction(self, fact: Fact, args: list[bytes]) -> bytes | None:
        """The reply to one of the proxy's own commands when EXEC carries it out, if it belongs to a mode."""
        if self.subscriptions is None and fact.name not in END:
            return None
        subscriptions = self.listening()
        subscriptions.adopted()  # HELLO may have stood before it
        return subscriptions.in_transaction(fact, args)

    def listening(self) -> Subscriptions:
        """The client's subscriptions, from now on."""
        if self.subscriptions is None:
            self.subscriptions = Subscriptions(self.client)
        return self.subscriptions

    def leave(self) -> None:
        """The client is to be closed when what it sent is answered: nothing may take for ever."""
        if self.block is not None:
            self.block.leave()


_KEEP_CACHING = frozenset(("client|caching", "client|tracking", "multi"))
"""Behind these CLIENT CACHING is still for what follows."""
COMMANDS: Mapping[str, Command] = {
    **slotgatecmds.COMMANDS,
    **spectators.COMMANDS,
    **transactions.COMMANDS,
    **aside.COMMANDS,
    **subscriptions.COMMANDS,
    **tracking.COMMANDS,
    **publishing.COMMANDS,
    **waiting.COMMANDS,
}
"""By the fact's name."""
