"""Servers that take the address of another: as a reused container address, or somebody with bad intent, has it."""

from collections.abc import Mapping
from pathlib import Path

from proxy.devservers.cluster import ClusterNode
from proxy.devservers.sentinel import LocalSentinel
from proxy.devservers.servers import LocalServer, ServerBinary
from proxy.sharding.slots import SLOTS


class ClusterStranger(ClusterNode):
    """A node of a cluster of its own, at the address of ``place``, which must not run; ``same_bus``: at its bus too."""

    def __init__(self, binary: ServerBinary, directory: Path, place: ClusterNode, *, same_bus: bool = False) -> None:
        super().__init__(binary, directory)
        self.port, self._may_pick_port = place.port, False
        self.bus_port = place.bus_port if same_bus else self._free_bus(directory)

    def _free_bus(self, directory: Path) -> int:
        probe = ClusterNode(self.binary, directory)
        probe._pick_port()
        return probe.bus_port

    def take_id(self, identity: str) -> None:
        """Have the id of another node, as one that was reset (CLUSTER RESET) keeps its own; it must not run yet."""
        line = f"{identity} :0@0 myself,master - 0 0 0 connected\nvars currentEpoch 0 lastVoteEpoch 0\n"
        (self.directory / f"{self.port}.nodes.conf").write_text(line)

    def own_all(self, epoch: int) -> None:
        """Have all slots, with a config epoch."""
        self.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for first in range(0, SLOTS, 4096):
            self.ask("CLUSTER", "ADDSLOTS", *range(first, first + 4096))


class Stranger(LocalServer):
    """A plain server at the address of ``place``, which must not run."""

    def __init__(self, binary: ServerBinary, directory: Path, place: LocalServer) -> None:
        super().__init__(binary, directory)
        self.port, self._may_pick_port = place.port, False


class SentinelStranger(LocalSentinel):
    """A sentinel that watches other servers under the same names, at the address of ``place``, which must not run."""

    def __init__(self, directory: Path, place: LocalSentinel, watched: Mapping[str, LocalServer]) -> None:
        watch = [f"sentinel monitor {name} {server.host} {server.port} 1" for name, server in watched.items()]
        # Nobody may tell it anything. Else ours do, at this address, and take its word for its epoch in return.
        super().__init__(place.binary, directory, options=[*watch, "user default on nopass ~* &* +@all -publish"])
        self.port, self._may_pick_port = place.port, False
