"""How much a request may hold before it is refused. Defaults are Redis's own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds of one request; sizes in bytes. A request past one gets Redis's protocol error and a close."""

    arguments: int = 2**31 - 1
    bulk: int = 512 * 1024 * 1024
    inline: int = 64 * 1024
    request: int = 1024 * 1024 * 1024


UNAUTHENTICATED = RequestLimits(arguments=10, bulk=16384)
"""What Redis allows a client before it has authenticated (networking.c, processMultibulkBuffer)."""
