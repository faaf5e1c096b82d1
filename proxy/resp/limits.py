"""Limits on the size of a request. The defaults are Redis's own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of one request, sizes in bytes. A request beyond one is answered with Redis's protocol error, and its
    connection is closed."""

    arguments: int = 2**31 - 1
    bulk: int = 512 * 1024 * 1024
    inline: int = 64 * 1024
    request: int = 1024 * 1024 * 1024


UNAUTHENTICATED = RequestLimits(arguments=10, bulk=16384)
"""The limits of a client that has not authenticated yet (Redis's networking.c, processMultibulkBuffer)."""
