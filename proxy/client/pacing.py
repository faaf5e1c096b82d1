"""The number of a client's requests that may be in flight, by the size of its last replies.

Replies wait in this process until the client reads them. So a client with large replies has few requests in flight, and
one with small replies soon has as many as ``limits.max_in_flight``.

A ``Pacing`` is made when a client first has many requests in flight or reads too slowly. Most clients have none: then
``AT_FIRST`` requests may be in flight, and no reply is expected to be large.
"""

from proxy.engine.reply_reader import STREAM_FROM
from proxy.engine.window import ReplyWindow
from proxy.transport.flow_control import ClientLimits

AT_FIRST = 512
"""Requests that may be in flight before the size of the replies is known: ten thousand large ones would fill the
memory, and the requests of other clients would wait behind them."""
_AT_LEAST = 16
"""Requests that may be in flight however large the replies are: fewer would not keep the servers busy."""
_STREAM_FROM = STREAM_FROM


class Pacing:
    """The size of a client's last replies, measured each time as many were answered as may be in flight."""

    __slots__ = ("_head_before", "_written_before", "reply_size")

    def __init__(self) -> None:
        self.reply_size = 0
        """The average bytes of a reply."""
        self._head_before = 0
        self._written_before = 0

    def __repr__(self) -> str:
        return f"Pacing({self.reply_size} bytes a reply)"

    def fit(self, window: ReplyWindow, limits: ClientLimits, most: int) -> int:
        """The number of requests that may be in flight from now on; ``most`` was the number before.

        The number doubles once ``most`` requests were answered, as far as ``output_soft`` has room for replies of their
        size. The answered replies must all be written.
        """
        answered = window.head - self._head_before
        if answered <= 0:
            return most
        size = self.reply_size = (window.written - self._written_before) // answered
        if answered >= most:
            most *= 2
            self._head_before = window.head
            self._written_before = window.written
        return min(most, max(limits.output_soft // max(size, 1), _AT_LEAST), limits.max_in_flight)

    @property
    def streams(self) -> bool:
        """Whether the replies are so large that they are passed on while they arrive."""
        return self.reply_size > _STREAM_FROM

    def expected(self, replies: int) -> int:
        """The bytes of so many ``replies`` that are about to arrive, each no larger than what is passed on while it
        arrives."""
        return replies * min(self.reply_size, _STREAM_FROM)
