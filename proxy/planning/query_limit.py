"""The limit on the bytes of requests that a server keeps for a connection (``client-query-buffer-limit``). No I/O.

A server that is busy, or whose clients are paused, goes on reading. So the limit applies to all requests that were sent
over a connection and are not answered yet; beyond it the server would close a connection that all clients share.

Source: https://redis.io/docs/latest/develop/reference/clients/ (query buffer hard limit), and networking.c of Redis and
Valkey. A server keeps the bytes of an argument until all of it has come, and the arguments of a transaction until EXEC.
The buffer keeps the size of the last large argument, up to a quarter more, and one read may fill it. So the bytes that
count for a request depend on earlier requests, and only a request not larger than the limit is always safe.
"""

from collections.abc import Sequence

DEFAULT = 1 << 30
"""Redis's default limit, in bytes."""
_ONE_ARGUMENT = 0.75
"""A request larger than the limit is sent if no argument is larger than this part of the limit."""
_LARGE_PART = 8
_LARGE_MOST = 16 << 20
"""The most bytes that other requests should wait behind: sending them takes some 15 ms at 10 Gbit/s."""
FAST_FROM = 1 << 20
"""Requests of fewer bytes may take the fast path without a check of their size."""


class QueryLimit:
    """The lowest limit of all servers, and the limits derived from it, in bytes.

    Requests of ``large`` bytes and more go over a connection that only such requests use. ``unanswered`` is the most
    bytes of unanswered requests on a shared connection.
    """

    __slots__ = ("large", "limit", "unanswered")

    def __init__(self) -> None:
        self.set(DEFAULT)

    def __repr__(self) -> str:
        return f"QueryLimit({self.limit})"

    def set(self, limit: int) -> None:
        """Set the lowest limit of all servers, in bytes."""
        self.limit = limit
        self.large = min(limit // _LARGE_PART, _LARGE_MOST)
        # Half of the limit leaves room for one large request.
        self.unanswered = limit // 2

    def refuses(self, frame: bytes, args: Sequence[bytes]) -> bool:
        """Whether a server may close a connection that carries this request alone."""
        return len(frame) > self.limit and max(map(len, args)) > self.limit * _ONE_ARGUMENT
