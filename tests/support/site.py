"""The servers of most tests: three shards behind a running proxy, and a plain server of the same version."""

from dataclasses import dataclass

from proxy.devservers.servers import LocalServer, LocalShards
from proxy.sharding.slots import key_slot
from tests.support.proxy_process import ProxyProcess
from tests.support.wire import Wire, pipeline

SLOTS = 16384


@dataclass(frozen=True, slots=True)
class Site:
    """A proxy in front of ``shards``, and ``plain``, the reference."""

    shards: LocalShards
    plain: LocalServer
    proxy: ProxyProcess

    @property
    def servers(self) -> tuple[LocalServer, ...]:
        """All servers, the plain one last."""
        return (*self.shards.servers, self.plain)

    def client(self, protocol: int = 2) -> Wire:
        """A new connection to the proxy."""
        return Wire(self.proxy.address, protocol=protocol)

    def direct(self, protocol: int = 2) -> Wire:
        """A new connection to the plain server."""
        return Wire(self.plain.address, protocol=protocol)

    def tags(self) -> list[str]:
        """A hash tag for each shard, in the order of the shards."""
        return shard_tags(len(self.shards.primaries))

    def clean(self) -> None:
        """Empty all servers: keys, scripts (the proxy's too), functions, statistics."""
        with self.client() as client:
            assert client.ask("SCRIPT", "FLUSH") == b"+OK\r\n"
        for server in self.servers:
            clean(server)


def clean(server: LocalServer) -> None:
    """Empty a server: keys, scripts, functions, statistics."""
    commands = [("FLUSHALL",), ("SCRIPT", "FLUSH"), ("SLOWLOG", "RESET"), ("CONFIG", "RESETSTAT")]
    if server.binary.kind == "valkey" or server.binary.version_info >= (7,):
        commands.append(("FUNCTION", "FLUSH"))
    with Wire(server.address) as wire:
        wire.send(pipeline(*commands))
        assert set(wire.replies(len(commands))) == {b"+OK\r\n"}


def shard_of(key: str | bytes, shards: int = 3) -> int:
    """The index of the shard that has the key, among ``shards`` shards of equal size."""
    slot = key_slot(key.encode() if isinstance(key, str) else key)
    return slot * shards // SLOTS


def shard_tags(shards: int = 3) -> list[str]:
    """A hash tag for each of ``shards`` shards of equal size."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < shards:
        found.setdefault(shard_of(f"t{number}", shards), f"t{number}")
        number += 1
    return [found[shard] for shard in range(shards)]


def commands_seen(server: LocalServer) -> dict[str, int]:
    """The number of times that each command (lower case, "config|get") was carried out since the statistics were reset.

    A command that was sent and refused is included, with 0.
    """
    columns = {
        name.removeprefix("cmdstat_"): dict(column.split("=") for column in value.split(","))
        for name, value in server.info("commandstats").items()
    }
    return {name: int(column["calls"]) for name, column in columns.items()}
