"""The memory that one client holds in this process: requests, replies, a transaction, and the names of subscriptions.

Nothing is counted while a request is carried out, with one exception: requests that came in large pieces
(``count_sent``). All else is read from the buffers when somebody asks.
"""

from proxy.client.client import Client
from proxy.client.kept_input import KeptInput, SentBytes
from proxy.client.large_request import Landing
from proxy.client.memory_budget import Holding

_NAME = 1200
"""The bytes of a subscription to one channel with the worker's topic, as measured with 100,000 channels."""


class HoldingClient(Client):
    """A client that can say what it holds. ``ClientConnection`` is the only subclass, and fills the buffers."""

    __slots__ = ("_kept", "_landing", "_sent")

    def hold_nothing(self) -> None:
        """Set the attributes of this class."""
        self._kept: KeptInput | None = None
        """The bytes that are not carried out yet."""
        self._landing: Landing | None = None
        """The large request that is being read."""
        self._sent: SentBytes | None = None
        """The bytes that were carried out in large pieces; None if no piece was large."""

    def holding(self) -> Holding:
        """The bytes that the client holds."""
        window, modes = self.window, self.modes
        queue = None if modes is None else modes.queue
        subscriptions = None if modes is None else modes.subscriptions
        return Holding(
            self.unprocessed(),
            self.sent(),
            self.flow.unread(),
            window.parked_bytes + window.keeping(),
            0 if queue is None else queue.size,
            0 if subscriptions is None else _NAME * sum(map(len, subscriptions.names.values())),
        )

    def between_requests(self) -> bool:
        """Whether the client, which has no request in flight, has begun none either, and is in no state that it would
        lose with its connection: a transaction, a watch, a blocking command or a subscription."""
        if self._kept is not None or self._landing is not None or self.held:
            return False
        modes = self.modes
        if modes is None:
            return True
        if modes.queue is not None or modes.watch is not None or modes.block is not None:
            return False
        return modes.subscriptions is None or not (modes.subscriptions.begins or any(self.session.listening))

    def count_sent(self, size: int) -> None:
        """Count ``size`` bytes of requests that were carried out and may be unanswered."""
        if self._sent is None:
            self._sent = SentBytes()
        self._sent.add(size, self.window)

    def sent(self) -> int:
        """The bytes of requests that came in large pieces and may be unanswered."""
        return 0 if self._sent is None else self._sent.size(self.window)

    def missing(self) -> int:
        """The bytes that have not come yet of a large request that is being read."""
        return 0 if self._landing is None else self._landing.left

    def unprocessed(self) -> int:
        """The bytes of requests that are not carried out yet."""
        size = 0 if self._kept is None else self._kept.size()
        return size if self._landing is None else size + self._landing.size

    def waiting(self) -> int:
        """The bytes that wait in this process until the client reads its replies: replies, the expected replies to its
        requests in flight (as large as its last ones, but no larger than what streams), and requests behind them."""
        window = self.window
        coming = 0 if self.pacing is None else self.pacing.expected(window.pending)
        return self.flow.unread() + window.parked_bytes + coming + self.unprocessed()

    def arriving(self) -> int:
        """A number that changes as more comes of a request that has begun; 0 while none has, or it is not read."""
        if self.flow.stopped or self.flow.withheld:
            return 0
        return self.unprocessed() if self._landing is None else self._landing.left

    def coming(self) -> int:
        """The bytes of replies to the requests that the client may send before the next check, in addition to those
        that wait."""
        return 0 if self.pacing is None else self.pacing.expected(max(self.most - self.window.pending, 0))
