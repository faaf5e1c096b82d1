"""Settings of TCP sockets, for connections of clients and connections to servers; and whether a socket is readable."""

import asyncio
import select
import socket

_SERVER_IDLE = 30
"""Seconds of silence after which keepalive probes are sent to a server."""
_PROBES = 3
MOST_ACCEPTS = 1024
"""How many times connections are accepted, a few each time, from a listening socket that is about to be closed."""


def keep_alive(link: socket.socket, idle: int = _SERVER_IDLE) -> None:
    """Have the system detect that the other side of a TCP connection has vanished, on which a blocked client, for
    example, would wait for ever. After ``idle`` seconds of silence three probes are sent, at intervals of a third of
    that, as Redis does (``tcp-keepalive``).

    Connections accepted from a listening socket inherit its settings (tcp(7)).
    """
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    settings = ("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", max(idle // _PROBES, 1)), ("TCP_KEEPCNT", _PROBES)
    for name, value in settings:
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_readable(transport: asyncio.BaseTransport | socket.socket) -> bool:
    """Whether the other side has sent anything that is not read yet, or its end."""
    link = transport if isinstance(transport, socket.socket) else transport.get_extra_info("socket", transport)
    try:
        poll = select.poll()
        poll.register(link, select.POLLIN)
    except (TypeError, ValueError):  # the transport has no socket, or none any more
        return False
    return bool(poll.poll(0))
