"""Decides whether a client that connects may come in: protected mode, and how many clients an address may have.

Source of protected mode: Redis 7.0's networking.c, ``clientAcceptHandler``.
"""

from collections.abc import Callable
from typing import Protocol

from proxy import errors
from proxy.metrics import Counters


class Peer(Protocol):
    """A client's connection, as far as it says who is at its other end."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """The address of the other end for "peername"."""


def host_of(peer: Peer) -> str:
    """The IP address of a client; "" if it is connected over a unix socket."""
    address = peer.get_extra_info("peername")
    return str(address[0]) if isinstance(address, tuple) else ""


def is_loopback(host: str) -> bool:
    """Whether a client at the IP address ``host`` is on this machine, over loopback or (``""``) a unix socket."""
    return not host or host == "::1" or host.removeprefix("::ffff:").startswith("127.")


class Admission:
    """Knows who may come in; ``open_to_all`` says whether clients need no password."""

    def __init__(self, protected: bool, open_to_all: Callable[[], bool], counters: Counters) -> None:
        self._protected = protected
        self._open_to_all = open_to_all
        self._counters = counters

    def __repr__(self) -> str:
        return f"Admission(protected={self._protected})"

    def refusal(self, peer: Peer) -> str:
        """Why ``peer`` may not come in, as an error's text, and count it; "" if it may."""
        if self._protected and self._open_to_all() and not is_loopback(host_of(peer)):
            self._counters.reject("protected mode")
            return errors.PROTECTED
        return ""
