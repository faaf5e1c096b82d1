"""The versions, modules and settings of the servers, for answers about all of them."""

import logging
from collections.abc import Callable, Mapping, Sequence, Set

from proxy.resp import encode
from proxy.sharding.topology import NOBODY, Node, Topology

log = logging.getLogger(__name__)

Module = tuple[tuple[bytes, bytes | int | tuple[bytes, ...]], ...]
"""A module as in MODULE LIST: pairs of a name and a value."""


class ServerFacts:
    """The facts about the servers of ``topology``; implements ``merge_context.ShardPrimaries``."""

    def __init__(self, topology: Callable[[], Topology]) -> None:
        self._topology = topology
        self._versions: Mapping[Node, tuple[int, ...]] = {}
        self._told: dict[str, Sequence[tuple[str, str]]] = {}
        """The differing values of each setting that were logged last."""

    def learn(self, versions: Mapping[Node, str | None]) -> None:
        """Set the versions of the servers that could be asked."""
        self._versions = {
            node: tuple(map(int, version.split("."))) for node, version in versions.items() if version is not None
        }

    def oldest(self) -> Set[int]:
        """The shards whose primaries have the lowest version; empty if all have the same version."""
        known = {
            index: self._versions[shard.primary]
            for index, shard in enumerate(self._topology().shards)
            if shard.primary in self._versions
        }
        lowest = min(known.values(), default=())
        found = {index for index, version in known.items() if version == lowest}
        return found if len(found) < len(known) else frozenset()

    def name(self, shard: int) -> str:
        """The name of a shard."""
        shards = self._topology().shards
        return shards[shard].name if shard < len(shards) else ""

    def differ(self, setting: str, values: Sequence[tuple[str, str]]) -> None:
        """Log that shards have different ``values`` of a setting: once, and again when the values have changed."""
        if self._told.get(setting) != values:
            self._told[setting] = values
            named = " ".join(f"{shard}={value!r}" for shard, value in values)
            log.warning("the shards' servers have different settings setting=%s %s", setting, named)


def common(lists: Sequence[Sequence[Module]]) -> tuple[Module, ...]:
    """The modules that all servers have, as the first server describes them."""
    if not lists:
        return ()
    shared = frozenset.intersection(*(frozenset(map(name_of, modules)) for modules in lists))
    return tuple(module for module in lists[0] if name_of(module) in shared)


def name_of(module: Module) -> object:
    """The name of a module."""
    return dict(module).get(b"name")


def listed(modules: Sequence[Module], protocol: int) -> bytes:
    """The reply to MODULE LIST. Source: https://redis.io/docs/latest/commands/module-list/"""
    return encode.array(
        encode.mapping({encode.bulk(name): _encoded(value) for name, value in module}, protocol) for module in modules
    )


def _encoded(value: bytes | int | tuple[bytes, ...]) -> bytes:
    if isinstance(value, int):
        return encode.integer(value)
    return encode.bulk(value) if isinstance(value, bytes) else encode.array(map(encode.bulk, value))


class LineBreaks:
    """The servers that may pass on the errors of scripts with line breaks, so that one reply looks like several."""

    def __init__(self) -> None:
        self.known = False
        """Whether a primary is known to pass line breaks on."""
        self.unasked: frozenset[Node] = frozenset()
        """The primaries that were not asked yet, and so may pass line breaks on."""
        self.at_replicas = False
        """Whether a replica that is read from passes line breaks on, or was not asked yet."""

    def may_come(self, topology: Topology, shard: int | None = None, read: bool = False) -> bool:
        """Whether line breaks may come from the primary of ``shard``, or from any primary without ``shard``; with
        ``read``, also from a replica that is read from."""
        if read and self.at_replicas:
            return True
        if self.known or not self.unasked:
            return self.known
        return shard is None or (shard != NOBODY and topology.shards[shard].primary in self.unasked)
