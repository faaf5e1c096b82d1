"""What servers have said of themselves, for the answers that are about all of them."""

import logging
from collections.abc import Callable, Mapping, Sequence, Set

from proxy.resp import encode
from proxy.sharding.topology import NOBODY, Node, Topology

log = logging.getLogger(__name__)

Module = tuple[tuple[bytes, bytes | int | tuple[bytes, ...]], ...]
"""A module as MODULE LIST has it: names and values."""


class ServerFacts:
    """Of the servers of ``topology``; the ``merge.Servers`` of this worker."""

    def __init__(self, topology: Callable[[], Topology]) -> None:
        self._topology = topology
        self._versions: Mapping[Node, tuple[int, ...]] = {}
        self._told: dict[str, Sequence[tuple[str, str]]] = {}
        """What was said of each setting that differs."""

    def learn(self, versions: Mapping[Node, str | None]) -> None:
        """These are the versions of those that could be asked."""
        self._versions = {
            node: tuple(map(int, version.split("."))) for node, version in versions.items() if version is not None
        }

    def oldest(self) -> Set[int]:
        """The shards whose primaries have the lowest version; none where all have the same one."""
        known = {
            index: self._versions[shard.primary]
            for index, shard in enumerate(self._topology().shards)
            if shard.primary in self._versions
        }
        lowest = min(known.values(), default=())
        found = {index for index, version in known.items() if version == lowest}
        return found if len(found) < len(known) else frozenset()

    def name(self, shard: int) -> str:
        """What the shard is called."""
        shards = self._topology().shards
        return shards[shard].name if shard < len(shards) else ""

    def differ(self, setting: str, values: Sequence[tuple[str, str]]) -> None:
        """Shards have other values of a setting: that is said once, and again when it has changed."""
        if self._told.get(setting) != values:
            self._told[setting] = values
            named = " ".join(f"{shard}={value!r}" for shard, value in values)
            log.warning("the shards' servers have different settings setting=%s %s", setting, named)


def common(lists: Sequence[Sequence[Module]]) -> tuple[Module, ...]:
    """The modules that all servers have, as the first one describes them."""
    if not lists:
        return ()
    shared = frozenset.intersection(*(frozenset(map(name_of, modules)) for modules in lists))
    return tuple(module for module in lists[0] if name_of(module) in shared)


def name_of(module: Module) -> object:
    """What a module is called."""
    return dict(module).get(b"name")


def listed(modules: Sequence[Module], protocol: int) -> bytes:
    """MODULE LIST: https://redis.io/docs/latest/commands/module-list/"""
    return encode.array(
        encode.mapping({encode.bulk(name): _encoded(value) for name, value in module}, protocol) for module in modules
    )


def _encoded(value: bytes | int | tuple[bytes, ...]) -> bytes:
    if isinstance(value, int):
        return encode.integer(value)
    return encode.bulk(value) if isinstance(value, bytes) else encode.array(map(encode.bulk, value))


class LineBreaks:
    """Which servers may pass on what scripts raise with its line breaks, so that one reply looks as several."""

    def __init__(self) -> None:
        self.known = False
        """Whether a primary is known to do so."""
        self.unasked: frozenset[Node] = frozenset()
        """The primaries that may do so, as they have not been asked yet."""
        self.at_replicas = False
        """Whether a replica that is read from does so, or may, as it has not been asked yet."""

    def may_come(self, topology: Topology, shard: int | None = None, read: bool = False) -> bool:
        """Whether they may come from the primary of ``shard``, or of any; ``read``: or from a replica that is read
        from."""
        if read and self.at_replicas:
            return True
        if self.known or not self.unasked:
            return self.known
        return shard is None or (shard != NOBODY and topology.shards[shard].primary in self.unasked)
