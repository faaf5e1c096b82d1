"""What a client can be in the middle of that its session's plain state does not cover: a transaction, a block, a
subscription. Made when a client first needs it; most never do.
"""

from collections.abc import Sequence
from typing import Protocol

from proxy.backends.routes import Routes
from proxy.backends.single_request import SingleRequest
from proxy.features.host import Host, KeyTracking
from proxy.features.subscriptions import Subscriptions
from proxy.features.watch import Watch
from proxy.planning.exec_block import Queue
from proxy.pubsub.beginnings import PublisherWait
from proxy.session.session import ClientMode


class Blocked(Protocol):
    """What a client is blocked in."""

    def unblock(self, error: bool) -> None:
        """End it as if its time were over, or by an ``error``."""

    def leave(self) -> None:
        """End it without an answer, unless there is one."""

    def cancel(self) -> None:
        """The client is gone."""


class Modes:
    """The modes of one client."""

    __slots__ = ("awaited", "block", "client", "queue", "sent", "subscriptions", "tracker", "waited", "watch")

    def __init__(self, client: Host) -> None:
        self.client = client
        self.awaited: PublisherWait | None = None
        """The subscriptions of others that what it publishes next waits for."""
        self.block: Blocked | None = None
        """The blocking command that it waits in."""
        self.sent: SingleRequest | None = None
        """What SLOTGATE SEND sent last."""
        self.queue: Queue | None = None
        """The transaction that it has begun."""
        self.waited = 0
        """The shards that its last WAIT asked, as ``Client.wrote`` has them."""
        self.watch: Watch | None = None
        """The keys that it watches."""
        self.subscriptions: Subscriptions | None = None
        self.tracker: KeyTracking | None = None
        """What hears which of the keys that it read are changed."""

    @property
    def plain(self) -> bool:
        """Whether the fast path may work for it all the same."""
        if self.tracker is not None and self.tracker.tracking.caching:
            return False
        subscriptions = self.subscriptions
        return self.queue is None and (subscriptions is None or not (subscriptions.restricted or subscriptions.begins))

    @property
    def mode(self) -> int:
        """What that means to the own fast path."""
        if self.tracker is not None or self.block is not None:
            return ClientMode.LONG
        if self.subscriptions is not None:
            if self.subscriptions.begins:
                return ClientMode.LONG
            if self.subscriptions.restricted:
                return ClientMode.LISTENS if self.queue is None else ClientMode.LONG
        if self.queue is None:
            return ClientMode.OWN
        return ClientMode.SPOILED if self.queue.spoiled else ClientMode.QUEUES

    @property
    def blocked(self) -> bool:
        """Whether it waits in a blocking command."""
        return self.block is not None

    def routes(self, routes: Routes) -> Routes:
        """Which connections its commands go over, in place of ``routes``."""
        if self.tracker is not None:
            return self.client.service.upstream.own_routes(self.client.number)
        # What is read to be written back in a transaction must be what is watched.
        return routes if self.watch is None else self.client.service.upstream.at_primaries(routes)

    def read_untracked(self) -> None:
        """It has read over a connection that is not its own for good: nobody will tell it of those keys."""
        if self.tracker is not None:
            self.tracker.missed()

    def adopted(self) -> None:
        """The session's state may have changed."""
        if self.subscriptions is not None:
            self.subscriptions.adopted()
        if self.tracker is not None:
            self.tracker.follow()

    def behind(self) -> None:
        """It reads more slowly than it is answered, from now on."""
        if self.subscriptions is not None:
            self.subscriptions.behind()

    def told_at_exec(self, name: str, args: Sequence[bytes]) -> bytes:
        """The confirmations of the command ``name``, which begins or ends subscriptions, when EXEC is answered."""
        subscriptions = self.listening()
        subscriptions.adopted()  # HELLO may have stood before it
        return subscriptions.told_at_exec(name, args)

    def forget_expected(self) -> None:
        """Nothing is expected of its subscriptions any more."""
        if self.subscriptions is not None:
            self.subscriptions.forget()

    def listening(self) -> Subscriptions:
        """The client's subscriptions, from now on."""
        if self.subscriptions is None:
            self.subscriptions = Subscriptions(self.client)
        return self.subscriptions

    def leave(self) -> None:
        """The client is to be closed when what it sent is answered: nothing may take for ever."""
        if self.block is not None:
            self.block.leave()
