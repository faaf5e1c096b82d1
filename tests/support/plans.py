"""Plans of command lines, on topologies of one shard and of three."""

from proxy.commands.facts import Fact
from proxy.commands.table import CommandTable
from proxy.planning.planner import CrossSlot, Plan, Planner
from proxy.resp import encode
from proxy.sharding.topology import Node, Shard, Topology

TABLE = CommandTable.builtin()


def topology(shards: int) -> Topology:
    """A topology with evenly divided slots: with three shards `b`, `bar` and `hello` are in the first, `c` in the
    second, `a` and `foo` in the third."""
    return Topology.static([Shard(f"s{number}", Node("127.0.0.1", 7000 + number)) for number in range(shards)])


ONE = topology(1)
THREE = topology(3)


def request(line: str | list[bytes]) -> tuple[Fact, list[bytes], bytes]:
    """The fact, the arguments and the frame of a command line; `""` is an empty argument."""
    args = [b"" if word == '""' else word.encode() for word in line.split()] if isinstance(line, str) else line
    fact = TABLE.resolve(args)
    assert fact is not None
    assert fact.accepts(len(args))
    return fact, args, encode.request(args)


def plan(line: str | list[bytes], on: Topology = THREE, cross_slot: CrossSlot = "split") -> Plan:
    return Planner(on, cross_slot).plan(*request(line))
