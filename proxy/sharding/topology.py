"""The topology: an immutable snapshot of shards, servers and slots, made by discovery or from the configuration.

Slots are those of Redis Cluster, 0 to 16383: ``CRC16(key) mod 16384``. Source:
https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

from proxy.sharding.slots import SLOTS

Ranges = Sequence[tuple[int, int]]
"""Slot ranges as (first, last), both ends included."""

NOBODY = -1
"""The owner of a slot that no shard serves."""


@dataclass(frozen=True, slots=True)
class Node:
    """The address of one server. A unix socket has its path as ``host`` and port 0."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """``host:port``, ``[v6]:port`` or ``unix:/path``, as the configuration writes it."""
        if self.port == 0:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True, slots=True)
class Shard:
    """One primary and its replicas: the servers that hold the same slots."""

    name: str
    primary: Node
    replicas: tuple[Node, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The primary, then the replicas."""
        return (self.primary, *self.replicas)


@dataclass(frozen=True, slots=True, repr=False)
class Topology:
    """All shards and the owner of every slot.

    ``slot_shard`` has 16384 entries: ``slot_shard[slot]`` is the index in ``shards`` of the slot's owner, or
    ``NOBODY``. ``epoch`` grows with each snapshot. ``cluster`` says that the servers are a Redis Cluster, which checks
    the slots of a command itself and redirects. ``fixed`` says that no other snapshot will follow. Raises ValueError
    for a snapshot that is not consistent: a wrong number of slots, an unknown shard, a name or an address used twice.
    """

    epoch: int
    shards: tuple[Shard, ...]
    slot_shard: tuple[int, ...]
    cluster: bool = False
    fixed: bool = True

    def __post_init__(self) -> None:
        if len(self.slot_shard) != SLOTS:
            raise ValueError(f"slot_shard has {len(self.slot_shard)} entries, not {SLOTS}")
        if min(self.slot_shard) < NOBODY or max(self.slot_shard) >= len(self.shards):
            raise ValueError("slot_shard names a shard that does not exist")
        _refuse_duplicates("shard name", (shard.name for shard in self.shards))
        _refuse_duplicates("address", (node.address for shard in self.shards for node in shard.nodes))

    @classmethod
    def static(cls, shards: Iterable[Shard], slots: Sequence[Ranges] | None = None, *, epoch: int = 1) -> Topology:
        """A fixed topology: ``slots[i]`` are the ranges of ``shards[i]``; None divides the slots evenly.

        Raises ValueError when there is no shard, or when a slot has no shard or two.
        """
        members = tuple(shards)
        if not members:
            raise ValueError("a static topology needs a shard")
        owners = _owners(even_ranges(len(members)) if slots is None else slots, len(members))
        if NOBODY in owners:
            raise ValueError(f"slot {owners.index(NOBODY)} has no shard")
        return cls(epoch, members, owners)

    @classmethod
    def found(
        cls, shards: Iterable[Shard], slots: Sequence[Ranges], *, cluster: bool = False, epoch: int = 1
    ) -> Topology:
        """The topology that discovery found: like ``static``, but slots may have no owner, and others may follow."""
        members = tuple(shards)
        return cls(epoch, members, _owners(slots, len(members)), cluster, fixed=False)

    @classmethod
    def unknown(cls, *, cluster: bool = False) -> Topology:
        """The topology before discovery has found one: no shards, and no slot has an owner."""
        return cls(0, (), (NOBODY,) * SLOTS, cluster, fixed=False)

    @property
    def single(self) -> bool:
        """Whether there is one shard only and no request is ever cross-slot."""
        return len(self.shards) == 1 and not self.cluster

    def primary(self, name: str) -> Node | None:
        """The primary of the shard called ``name``; None if there is no such shard."""
        return next((shard.primary for shard in self.shards if shard.name == name), None)

    @property
    def whole(self) -> bool:
        """Whether every slot has an owner."""
        return NOBODY not in self.slot_shard

    def called(self, primary: Node) -> str:
        """The name of the shard whose primary is ``primary``; the address of ``primary`` if there is no such shard."""
        return next((shard.name for shard in self.shards if shard.primary == primary), primary.address)

    def index(self, name: str) -> int:
        """The index of the shard called ``name``, or ``NOBODY``."""
        return next((index for index, shard in enumerate(self.shards) if shard.name == name), NOBODY)

    def left_by(self, before: Topology) -> frozenset[Node]:
        """The primaries in ``before`` that do not serve all of their slots any more."""
        primaries = [*(shard.primary for shard in self.shards), None]
        pairs = set(zip(before.slot_shard, self.slot_shard, strict=True))
        return frozenset(
            before.shards[old].primary
            for old, new in pairs
            if old != NOBODY and before.shards[old].primary != primaries[new]
        )

    def ranges(self, shard_index: int) -> list[tuple[int, int]]:
        """The slots of a shard (or of ``NOBODY``) as ascending (first, last) pairs, neighbours joined."""
        return list(_all_ranges(self.slot_shard).get(shard_index, ()))

    def __repr__(self) -> str:
        shards = "; ".join(
            f"{shard.name} {format_ranges(self.ranges(index))} at {', '.join(map(str, shard.nodes))}"
            for index, shard in enumerate(self.shards)
        )
        return f"<Topology epoch={self.epoch}: {shards}>"


@lru_cache(maxsize=2)
def _all_ranges(slot_shard: tuple[int, ...]) -> dict[int, list[tuple[int, int]]]:
    """The slot ranges of each owner. They are cached, since callers ask for one shard at a time, and repeatedly."""
    found: dict[int, list[tuple[int, int]]] = {}
    first = 0
    for slot in range(1, SLOTS + 1):
        if slot == SLOTS or slot_shard[slot] != slot_shard[first]:
            found.setdefault(slot_shard[first], []).append((first, slot - 1))
            first = slot
    return found


def _owners(named: Sequence[Ranges], count: int) -> tuple[int, ...]:
    """``slot_shard`` from the ranges of each of ``count`` shards. Raises ValueError for ranges that do not fit."""
    if len(named) != count:
        raise ValueError(f"{count} shards, but slots of {len(named)}")
    owners = [NOBODY] * SLOTS
    for index, ranges in enumerate(named):
        for first, last in ranges:
            if not 0 <= first <= last < SLOTS:
                raise ValueError(f"{first}-{last} is not a slot range")
            for slot in range(first, last + 1):
                if owners[slot] >= 0:
                    raise ValueError(f"slot {slot} has two shards")
                owners[slot] = index
    return tuple(owners)


def even_ranges(count: int) -> list[list[tuple[int, int]]]:
    """The slots divided evenly over ``count`` shards, rounded as ``redis-cli --cluster create`` rounds.

    Three shards get 0-5460, 5461-10922, 10923-16383. Raises ValueError unless 1 <= count <= 16384.
    """
    if not 1 <= count <= SLOTS:
        raise ValueError(f"{count} shards can not share {SLOTS} slots")
    # The first slot of shard n is lround(n * 16384 / count), computed in whole numbers.
    starts = [(2 * n * SLOTS + count) // (2 * count) for n in range(count + 1)]
    return [[(first, following - 1)] for first, following in pairwise(starts)]


def format_ranges(ranges: Iterable[tuple[int, int]]) -> str:
    """``[(0, 5460), (7000, 7000)]`` as ``0-5460,7000``, the form that the configuration takes."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


class AddressLike(Protocol):
    """The attributes of a configured address."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class ShardLike(Protocol):
    """The attributes of a configured shard."""

    @property
    def name(self) -> str: ...
    @property
    def primary(self) -> AddressLike: ...
    @property
    def replicas(self) -> Sequence[AddressLike]: ...
    @property
    def slots(self) -> Ranges | None: ...


class KindLike(Protocol):
    """The attributes of a configured kind of topology."""

    @property
    def kind(self) -> str: ...


class ConfigLike(Protocol):
    """The attributes of a configuration: a protocol, so that this module and ``config`` do not import each other."""

    @property
    def topology(self) -> KindLike: ...
    @property
    def shards(self) -> Sequence[ShardLike]: ...


def build_topology(config: ConfigLike, *, epoch: int = 1) -> Topology:
    """The topology of a checked configuration: the whole of a static one, else an unknown one."""
    if config.topology.kind != "static":
        return Topology.unknown(cluster=config.topology.kind == "cluster")
    shards = [
        Shard(shard.name, _node(shard.primary), tuple(_node(replica) for replica in shard.replicas))
        for shard in config.shards
    ]
    named = [shard.slots for shard in config.shards if shard.slots is not None]
    return Topology.static(shards, named or None, epoch=epoch)


def _node(address: AddressLike) -> Node:
    return Node(address.host, address.port)


def _refuse_duplicates(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"two shards share the {what} {value}")
        seen.add(value)
