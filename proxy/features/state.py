"""The state of a client's features: a transaction, a block, a subscription. The object is made when a client first uses
a feature, which most clients never do."""

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
    """The blocking command of a client."""

    def unblock(self, error: bool) -> None:
        """End the command as if its time were over, or with an ``error``."""

    def leave(self) -> None:
        """End the command without a reply, unless one has arrived."""

    def cancel(self) -> None:
        """End the command, as the client is gone."""


class Modes:
    """The state of one client's features."""

    __slots__ = ("awaited", "block", "client", "queue", "sent", "subscriptions", "tracker", "waited", "watch")

    def __init__(self, client: Host) -> None:
        self.client = client
        self.awaited: PublisherWait | None = None
        """The subscriptions of other clients that the client's next PUBLISH waits for."""
        self.block: Blocked | None = None
        """The blocking command in which the client waits."""
        self.sent: SingleRequest | None = None
        """The last request of SLOTGATE SEND."""
        self.queue: Queue | None = None
        """The client's transaction."""
        self.waited = 0
        """The shards of the client's last WAIT, as bits like those of ``Client.wrote``."""
        self.watch: Watch | None = None
        """The keys that the client watches."""
        self.subscriptions: Subscriptions | None = None
        self.tracker: KeyTracking | None = None
        """The client's tracking."""

    @property
    def plain(self) -> bool:
        """Whether the client may use the fast path."""
        if self.tracker is not None and self.tracker.tracking.caching:
            return False
        subscriptions = self.subscriptions
        return self.queue is None and (subscriptions is None or not (subscriptions.restricted or subscriptions.begins))

    @property
    def mode(self) -> int:
        """The mode of the client for the own fast path."""
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
        """Whether the client waits in a blocking command."""
        return self.block is not None

    def routes(self, routes: Routes) -> Routes:
        """The connections that the client uses in place of ``routes``."""
        if self.tracker is not None:
            return self.client.service.upstream.own_routes(self.client.number, routes.key.user)
        # A value that is read to be written in a transaction must come from the server that watches the key.
        return routes if self.watch is None else self.client.service.upstream.at_primaries(routes)

    def read_untracked(self) -> None:
        """Take notice that the client has read over a connection on which nothing is tracked."""
        if self.tracker is not None:
            self.tracker.missed()

    def adopted(self) -> None:
        """Take notice that the session's state may have changed."""
        if self.subscriptions is not None:
            self.subscriptions.adopted()
        if self.tracker is not None:
            self.tracker.follow()

    def behind(self) -> None:
        """Take notice that the client reads its replies too slowly."""
        if self.subscriptions is not None:
            self.subscriptions.behind()

    def told_at_exec(self, name: str, args: Sequence[bytes]) -> bytes:
        """Return the confirmations of the command ``name``, which begins or ends subscriptions, when EXEC is
        answered."""
        subscriptions = self.listening()
        subscriptions.adopted()  # HELLO may have been queued before it
        return subscriptions.told_at_exec(name, args)

    def forget_expected(self) -> None:
        """Forget which subscriptions queued commands will begin or end."""
        if self.subscriptions is not None:
            self.subscriptions.forget()

    def listening(self) -> Subscriptions:
        """The client's subscriptions, which are made when they are first needed."""
        if self.subscriptions is None:
            self.subscriptions = Subscriptions(self.client)
        return self.subscriptions

    def leave(self) -> None:
        """End a command that may block without limit, as the client is to be closed when its requests are answered."""
        if self.block is not None:
            self.block.leave()
