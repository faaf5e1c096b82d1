"""The cluster that the proxy passes for, to clients that want one: its own addresses as the owners of all slots.

Pure: no I/O. With ``present_as = "cluster"`` only.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.slots import SLOTS
from proxy.topology import NOBODY, Ranges, Topology, even_ranges

_MAPPED = "::ffff:"


@dataclass(frozen=True, slots=True)
class Member:
    """A node as clients see it; ``id`` is 40 hex digits, the same for one address wherever the proxy runs."""

    host: str
    port: int
    slots: Ranges

    @property
    def id(self) -> str:
        """The node's id."""
        return _digest(f"node {self.host} {self.port}")

    @property
    def shard_id(self) -> str:
        """The id of its shard."""
        return _digest(f"shard {self.host} {self.port}")


@dataclass(frozen=True, slots=True)
class Presented:
    """What is shown. ``advertised`` has hosts and ports; nothing: each client sees the address that it connected to.

    Several addresses divide the slots, so that clients divide their load over them. ``elsewhere`` is shown to a client
    that came over a unix socket.
    """

    advertised: Sequence[tuple[str, int]]
    elsewhere: tuple[str, int]
    topology: Callable[[], Topology]

    def members(self, local: str) -> list[Member]:
        """The nodes, for a client that connected to ``local`` (as ``Session.local_address`` has it)."""
        addresses = self.advertised or (_address(local) or self.elsewhere,)
        return [
            Member(host, port, slots)
            for (host, port), slots in zip(addresses, even_ranges(len(addresses)), strict=True)
        ]

    def myself(self, local: str) -> Member:
        """The node that a client talks to which connected to ``local``."""
        members = self.members(local)
        return next((member for member in members if (member.host, member.port) == _address(local)), members[0])

    def served(self) -> int:
        """How many slots have a shard."""
        return SLOTS - self.topology().slot_shard.count(NOBODY)


def _address(local: str) -> tuple[str, int] | None:
    """Host and port of ``ip:port`` or ``[v6]:port``; None of a unix socket's."""
    if local.startswith("/"):
        return None
    host, _, port = local.rpartition(":")
    host = host.strip("[]")
    return host.removeprefix(_MAPPED) if "." in host else host, int(port)


def _digest(text: str) -> str:
    return hashlib.sha1(f"slotgate {text}".encode(), usedforsecurity=False).hexdigest()
