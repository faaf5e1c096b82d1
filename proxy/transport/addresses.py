"""The IP addresses of a server's name: resolved anew at each connect, and tried one after the other."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from proxy.errors import BackendError
from proxy.sharding.topology import Node
from proxy.transport.clock import timeout

T = TypeVar("T")


async def look_up(host: str, port: int) -> Sequence[str]:
    """The numeric addresses of ``host``, in the resolver's order. Raises ``OSError``, or ``ValueError`` for a host that
    is not a valid name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def first_that_serves(node: Node, seconds: float, attempt: Callable[[str, float], Awaitable[T]]) -> T:
    """The result of the first successful ``attempt``, which is called with an address of ``node`` and the number of
    seconds that it may take.

    All addresses but the last share ``seconds``, so that unreachable ones delay a reachable one by no more than that.
    Raises what ``attempt`` and ``look_up`` raise; of several failures, the one that a server's answer caused.
    """
    if node.port == 0 or is_numeric(node.host):
        return await attempt(node.host, seconds)
    async with timeout(seconds):
        found = await look_up(node.host, node.port)
    failure: Exception = OSError(f"{node.host} has no address")
    for number, address in enumerate(found, start=1):
        try:
            return await attempt(address, seconds if number == len(found) else seconds / len(found))
        except (OSError, TimeoutError, BackendError) as error:
            if number == 1 or isinstance(error, BackendError) or not isinstance(failure, BackendError):
                failure = error
    raise failure


def is_numeric(host: str) -> bool:
    """Whether ``host`` is a numeric address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
