"""Settings of TCP sockets, for connections of clients and connections to servers."""

import socket

_SERVER_IDLE = 30
"""Seconds of silence after which keepalive probes are sent to a server."""
_PROBES = 3


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
