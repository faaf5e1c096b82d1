"""Settings of TCP sockets, for connections that clients make as for those to servers."""

import socket

_SERVER_IDLE = 30
"""Seconds without a word after which a server is asked whether it is there."""
_PROBES = 3


def keep_alive(link: socket.socket, idle: int = _SERVER_IDLE) -> None:
    """Have the system find out when the other side of a TCP connection is gone without a word: whoever waits on it for
    as long as it takes, as blocked clients do, would wait for ever. After ``idle`` seconds of silence it is asked three
    times, at intervals of a third of that, as Redis does (``tcp-keepalive``).

    What is accepted from a listening socket has the socket's settings (tcp(7)).
    """
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    settings = ("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", max(idle // _PROBES, 1)), ("TCP_KEEPCNT", _PROBES)
    for name, value in settings:
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
