"""How much of what one connection sends a server keeps before it closes it (its ``client-query-buffer-limit``). Pure.

A server that is busy, or whose clients are paused, goes on reading: so what counts is not one request, but all that was
sent over a connection and is not answered yet. And the connection that it closes is one that all clients share.

Source: https://redis.io/docs/latest/develop/reference/clients/ (query buffer hard limit), and networking.c of Redis and
Valkey: an argument is kept whole until it is there, and of a transaction all arguments are until EXEC. The buffer is as
large as the last large argument made it, up to a quarter more than that, and is filled by one read: so how much is kept
of a request depends on those before it, and only what is no larger than the limit in all is never too much.
"""

from collections.abc import Sequence

DEFAULT = 1 << 30
"""Redis's own."""
_ONE_ARGUMENT = 0.75
"""A request that is larger than the limit in all is taken if no argument makes so much of the limit."""
_LARGE_PART = 8
_LARGE_MOST = 16 << 20
"""Sending so many bytes takes some 15 ms at 10 Gbit/s: others should not wait behind more."""
FAST_FROM = 1 << 20
"""Requests of fewer bytes may come by the fast path without being looked at."""


class QueryLimit:
    """The lowest limit of all servers, in bytes, and what follows from it.

    ``large``: requests of so many bytes and more go over a connection that only such requests use.
    ``unanswered``: the most bytes that are sent over a connection that all share and are not answered.
    """

    __slots__ = ("large", "limit", "unanswered")

    def __init__(self) -> None:
        self.set(DEFAULT)

    def __repr__(self) -> str:
        return f"QueryLimit({self.limit})"

    def set(self, limit: int) -> None:
        """The servers' limit is known."""
        self.limit = limit
        self.large = min(limit // _LARGE_PART, _LARGE_MOST)
        # Half: with a large request beside it nothing comes near the limit.
        self.unanswered = limit // 2

    def refuses(self, frame: bytes, args: Sequence[bytes]) -> bool:
        """Whether a server may close the connection over which the request comes, though nothing else does."""
        return len(frame) > self.limit and max(map(len, args)) > self.limit * _ONE_ARGUMENT
