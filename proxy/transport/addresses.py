"""The addresses behind a server's name: asked for anew at each connect, and tried one after the other."""

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
    can be no name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def first_that_serves(node: Node, seconds: float, attempt: Callable[[str, float], Awaitable[T]]) -> T:
    """What the first successful ``attempt`` gives, which is called with an address of ``node`` and how many seconds it
    may take.

    All addresses but the last share ``seconds``, so that dead ones delay a living one by no more than that. Of several
    failures the one is raised that a server caused by what it said. Raises what ``attempt`` and ``look_up`` raise.
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
    """Whether it is an address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
