"""The cluster that the proxy presents to clients of ``present_as = "cluster"``: its own addresses as the owners of all
slots.

No I/O.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import NOBODY, Ranges, Topology, even_ranges

Address = tuple[str, int]
"""Host and port."""
_MAPPED = "::ffff:"
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class AdvertisedNode:
    """A node as clients see it; ``id`` is 40 hex digits, the same for one address wherever the proxy runs."""

    host: str
    port: int
    slots: Ranges
    """The slots of the node; empty if it does not answer."""

    @property
    def address(self) -> Address:
        """Host and port."""
        return self.host, self.port

    @property
    def id(self) -> str:
        """The node's id."""
        return _digest(f"node {self.host} {self.port}")

    @property
    def shard_id(self) -> str:
        """The id of the node's shard."""
        return _digest(f"shard {self.host} {self.port}")


@dataclass(frozen=True, slots=True)
class Presented:
    """The presented cluster. ``advertised`` has hosts and ports; if it is empty, each client sees the address that it
    connected to.

    The slots are divided among several addresses, so that clients divide their load over them: evenly over those that
    answer, in the order of their ids, so that every proxy presents the same. ``listening``: the addresses of this
    proxy.
    """

    advertised: Sequence[Address]
    listening: Sequence[Address]
    topology: Callable[[], Topology]
    silent: set[Address] = field(default_factory=set)
    """The advertised addresses that do not answer (``proxy.worker.server``)."""
    found: dict[Address, Address] = field(default_factory=dict)
    """The IP address and port of each advertised address, as resolved."""

    def members(self, local: str) -> list[AdvertisedNode]:
        """The nodes for a client that connected to ``local`` (in the format of ``Session.local_address``). A node that
        does not answer has no slots, except the one that the client is connected to."""
        if not self.advertised:
            return [AdvertisedNode(*(_address(local) or self._near), even_ranges(1)[0])]
        me = self._me(local)
        shown = sorted((AdvertisedNode(host, port, ()) for host, port in self.advertised), key=lambda member: member.id)
        up = [member for member in shown if member.address == me or member.address not in self.silent] or shown
        spans = dict(zip(up, even_ranges(len(up)), strict=True))
        return [replace(member, slots=spans.get(member, ())) for member in shown]

    def myself(self, local: str) -> AdvertisedNode:
        """The node of a client that connected to ``local``."""
        members = self.members(local)
        me = self._me(local)
        return next((member for member in members if member.address == me), members[0])

    def share(self, local: str) -> frozenset[int] | None:
        """The shards whose keys are counted by the node that a client is connected to: each of several nodes counts the
        shards whose first slot it presents as its own. None means all shards: there is no other node, or it is unknown
        which one this is."""
        if len(self.advertised) < 2 or self._advertised_at(_address(local)) is None:
            return None
        topology = self.topology()
        firsts = dict.fromkeys(range(len(topology.shards)), 0)
        firsts |= {shard: topology.slot_shard.index(shard) for shard in set(topology.slot_shard) - {NOBODY}}
        spans = self.myself(local).slots
        return frozenset(shard for shard, slot in firsts.items() if any(low <= slot <= high for low, high in spans))

    def _me(self, local: str) -> Address | None:
        """The advertised address of this proxy for a client that connected to ``local``; None if it is unknown."""
        if not self.advertised:
            return None
        here = [place for place in (_address(local), *self.listening) if place is not None]
        exact = next((address for address in map(self._advertised_at, here) if address is not None), None)
        if exact is not None:
            return exact
        ports = {port for _, port in here}
        alike = [address for address in self.advertised if address[1] in ports]
        return alike[0] if len(alike) == 1 else None

    def _advertised_at(self, place: Address | None) -> Address | None:
        """The advertised address that leads to ``place``, or None."""
        return next((address for address in self.advertised if place in (address, self.found.get(address, ""))), None)

    @property
    def _near(self) -> Address:
        """The address of this proxy on its own machine."""
        host, port = self.listening[0]
        return _LOOPBACK.get(host, host), port

    def served(self) -> int:
        """The number of slots that a shard serves."""
        return SLOTS - self.topology().slot_shard.count(NOBODY)


def _address(local: str) -> Address | None:
    """The host and port in ``ip:port`` or ``[v6]:port``; None for a unix socket."""
    if local.startswith("/"):
        return None
    host, _, port = local.rpartition(":")
    host = host.strip("[]")
    return host.removeprefix(_MAPPED) if "." in host else host, int(port)


def _digest(text: str) -> str:
    return hashlib.sha1(f"slotgate {text}".encode(), usedforsecurity=False).hexdigest()
