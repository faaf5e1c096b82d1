"""The cluster that the proxy passes for, to clients that want one: its own addresses as the owners of all slots.

Pure: no I/O. With ``present_as = "cluster"`` only.
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
    """None: it does not answer."""

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
        """The id of its shard."""
        return _digest(f"shard {self.host} {self.port}")


@dataclass(frozen=True, slots=True)
class Presented:
    """What is shown. ``advertised`` has hosts and ports; nothing: each client sees the address that it connected to.

    Several addresses divide the slots, so that clients divide their load over them: evenly over those that answer, in
    the order of their ids, so that every proxy shows the same. ``listening``: where this one itself does.
    """

    advertised: Sequence[Address]
    listening: Sequence[Address]
    topology: Callable[[], Topology]
    silent: set[Address] = field(default_factory=set)
    """Those of the advertised that do not answer (``proxy.worker.server``)."""
    found: dict[Address, Address] = field(default_factory=dict)
    """Where each of them was found: the IP that its name leads to."""

    def members(self, local: str) -> list[AdvertisedNode]:
        """The nodes, for a client that connected to ``local`` (as ``Session.local_address`` has it). Who does not
        answer has no slots; but the one that is asked does."""
        if not self.advertised:
            return [AdvertisedNode(*(_address(local) or self._near), even_ranges(1)[0])]
        me = self._me(local)
        shown = sorted((AdvertisedNode(host, port, ()) for host, port in self.advertised), key=lambda member: member.id)
        up = [member for member in shown if member.address == me or member.address not in self.silent] or shown
        spans = dict(zip(up, even_ranges(len(up)), strict=True))
        return [replace(member, slots=spans.get(member, ())) for member in shown]

    def myself(self, local: str) -> AdvertisedNode:
        """The node that a client talks to which connected to ``local``."""
        members = self.members(local)
        me = self._me(local)
        return next((member for member in members if member.address == me), members[0])

    def share(self, local: str) -> frozenset[int] | None:
        """The shards whose keys are counted by the node that a client talks to: of several each counts those whose
        first slot it shows as its own. None: all, as there is no other, or it is not known which one it is."""
        if len(self.advertised) < 2 or self._advertised_at(_address(local)) is None:
            return None
        topology = self.topology()
        firsts = dict.fromkeys(range(len(topology.shards)), 0)
        firsts |= {shard: topology.slot_shard.index(shard) for shard in set(topology.slot_shard) - {NOBODY}}
        spans = self.myself(local).slots
        return frozenset(shard for shard, slot in firsts.items() if any(low <= slot <= high for low, high in spans))

    def _me(self, local: str) -> Address | None:
        """Which of the advertised addresses this proxy is, for a client that connected to ``local``."""
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
        """The advertised address that leads to ``place``."""
        return next((address for address in self.advertised if place in (address, self.found.get(address, ""))), None)

    @property
    def _near(self) -> Address:
        """Where this proxy is reached from its own machine."""
        host, port = self.listening[0]
        return _LOOPBACK.get(host, host), port

    def served(self) -> int:
        """How many slots have a shard."""
        return SLOTS - self.topology().slot_shard.count(NOBODY)


def _address(local: str) -> Address | None:
    """Host and port of ``ip:port`` or ``[v6]:port``; None of a unix socket's."""
    if local.startswith("/"):
        return None
    host, _, port = local.rpartition(":")
    host = host.strip("[]")
    return host.removeprefix(_MAPPED) if "." in host else host, int(port)


def _digest(text: str) -> str:
    return hashlib.sha1(f"slotgate {text}".encode(), usedforsecurity=False).hexdigest()
