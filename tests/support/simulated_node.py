"""A node of a simulated Redis Cluster: its view of the cluster, and its replies by Redis's own rules.

The rules are those of getNodeByQuery in Redis's cluster.c (7.0), the replies those of CLUSTER SHARDS, SLOTS, NODES and
INFO (https://redis.io/docs/latest/commands/cluster-shards/ and its neighbours).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from random import Random

from proxy.resp import encode
from proxy.sharding.slots import SLOTS, key_slot
from proxy.sharding.topology import Ranges
from tests.support.memory_wire import MemoryWire, Pace
from tests.support.simulated_server import Database, ServerConnection, SimulatedServer

_DOWN = encode.error("CLUSTERDOWN The cluster is down")
_UNSERVED = encode.error("CLUSTERDOWN Hash slot not served")
_AGAIN = encode.error("TRYAGAIN Multiple keys request during rehashing of slot")
_CROSS = encode.error("CROSSSLOT Keys in request don't hash to the same slot")
_READS = frozenset({b"GET", b"MGET", b"EXISTS"})

_KEYS: dict[bytes, Callable[[list[bytes]], list[bytes]]] = {
    b"GET": lambda args: args[1:2],
    b"SET": lambda args: args[1:2],
    b"APPEND": lambda args: args[1:2],
    b"INCR": lambda args: args[1:2],
    b"MGET": lambda args: args[1:],
    b"DEL": lambda args: args[1:],
    b"EXISTS": lambda args: args[1:],
    b"MSET": lambda args: args[1::2],
    b"WATCH": lambda args: args[1:],
}
_OWN = frozenset({b"ASKING", b"READONLY", b"READWRITE", b"CLUSTER", b"ROLE"})


class Group:
    """The real state of a shard: its nodes, the one data set that all of them share, and its slots that are moving."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.nodes: list[ClusterNode] = []
        self.primary: ClusterNode
        self.leaving: dict[int, Group] = {}
        """The slots that this shard's primary knows as migrating, with the targets."""
        self.coming: dict[int, Group] = {}
        """The slots that this shard's primary knows as importing, with the sources."""
        self.told = True
        """Whether the shard's replicas know of these too: Valkey's do from 8 on, Redis's do not."""

    def __repr__(self) -> str:
        return f"Group({self.number} at {self.primary})"

    @property
    def data(self) -> Database:
        """The keys and values of the shard."""
        return self.primary.databases[0]


class View:
    """The view of one node: the owner of each slot, and the primary of each shard. The higher epoch wins."""

    def __init__(self, owners: list[Group | None], primaries: dict[Group, ClusterNode]) -> None:
        self.owners = list(owners)
        self.slot_epochs = [0] * SLOTS
        self.primaries = dict(primaries)
        self.primary_epochs = dict.fromkeys(primaries, 0)
        """The epoch of the election of each shard's primary."""
        self.epochs = dict.fromkeys(primaries, 0)
        """The configuration epoch of each shard's primary: that of its election, or of the last slot that it got."""
        self._ranges: dict[Group | None, list[tuple[int, int]]] | None = None

    def give(self, slot: int, owner: Group, epoch: int) -> None:
        """Make ``owner`` the owner of ``slot``, as of ``epoch``."""
        if epoch > self.slot_epochs[slot]:
            self.owners[slot] = owner
            self.slot_epochs[slot] = epoch
            self.epochs[owner] = max(epoch, self.epochs[owner])
            self._ranges = None

    def promote(self, node: ClusterNode, epoch: int) -> None:
        """Make ``node`` the primary of its shard, as of ``epoch``."""
        if epoch > self.primary_epochs[node.group]:
            self.primaries[node.group] = node
            self.primary_epochs[node.group] = epoch
            self.epochs[node.group] = max(epoch, self.epochs[node.group])
            self._ranges = None

    def ranges(self, group: Group) -> Ranges:
        """The slots of ``group``, as ascending pairs (first, last)."""
        if self._ranges is None:
            self._ranges = {}
            for owner, run in groupby(range(SLOTS), self.owners.__getitem__):
                slots = list(run)
                self._ranges.setdefault(owner, []).append((slots[0], slots[-1]))
        return self._ranges.get(group, [])


class ClusterNode(SimulatedServer):
    """One node. ``paused``: as a primary it lets its replica catch up. ``unsure``: it takes the cluster for down."""

    def __init__(self, host: str, port: int, rng: Random, pace: Pace, group: Group) -> None:
        super().__init__(host, port, rng, pace)
        self.group = group
        self.name = f"{rng.getrandbits(160):040x}"
        self.paused = False
        self.unsure = False
        self.view: View
        self.refused: dict[str, int] = {}
        """The number of replies MOVED, ASK and so on."""

    def __repr__(self) -> str:
        return f"ClusterNode({self.address[0]})"

    @property
    def stalled(self) -> bool:
        """Whether the node executes nothing."""
        return self._stalled or self.paused

    @property
    def frozen(self) -> bool:
        """Whether the node does not even read and send (SIGSTOP)."""
        return self._stalled

    @property
    def well(self) -> bool:
        """Whether the node can be reached, and answers."""
        return not (self._stalled or self.refusing or self.deaf or self.loading)

    @property
    def leads(self) -> bool:
        """Whether the node takes itself for its shard's primary."""
        return self.view.primaries[self.group] is self

    def accept(self, wire: MemoryWire) -> None:
        """Accept a connection."""
        ClusterConnection(self, wire)

    def unpause(self) -> None:
        """Go on in the node's present role."""
        self.paused = False
        for connection in list(self.connections):
            if not self._stalled:
                connection.wire.outgoing.unblock("stalled")
            connection.arm()

    def demote(self) -> None:
        """Take notice that the node is a replica: waiting requests are refused."""
        for connection in list(self.connections):
            if not self._stalled:
                connection.hurry()

    def refusal(self, name: bytes, keys: list[bytes], asking: bool, readonly: bool) -> bytes | None:
        """The error that is answered instead of executing ``name`` on ``keys``; None if the command is executed."""
        slot = key_slot(keys[0])
        if any(key_slot(key) != slot for key in keys):
            return _CROSS
        owner = self.view.owners[slot]
        if owner is None:
            return self._refuse(_UNSERVED)
        if self.unsure:
            return self._refuse(_DOWN)
        here = [key for key in keys if key in self.databases[0]]
        missing = len(here) < len(keys)
        mine = owner is self.group and self.leads
        reads = readonly and not self.leads and owner is self.group and name in _READS
        if (mine or (reads and self.group.told)) and slot in self.group.leaving and missing:
            return self._refuse(_AGAIN if here else self._redirect("ASK", slot, self.group.leaving[slot]))
        if self.leads and slot in self.group.coming and asking:
            return self._refuse(_AGAIN) if len(keys) > 1 and missing else None
        return None if mine or reads else self._refuse(self._redirect("MOVED", slot, owner))

    def _redirect(self, word: str, slot: int, group: Group) -> bytes:
        host, port = self.view.primaries[group].address
        return encode.error(f"{word} {slot} {host}:{port}")

    def _refuse(self, error: bytes) -> bytes:
        word = error[1:].partition(b" ")[0].decode()
        self.refused[word] = self.refused.get(word, 0) + 1
        return error

    # ---- replies about the cluster

    def groups(self) -> list[Group]:
        """The shards that the node knows."""
        return list(self.view.primaries)

    def shards(self) -> bytes:
        """The reply to CLUSTER SHARDS, in RESP2."""
        return encode.array(self._shard(group) for group in self.groups())

    def _shard(self, group: Group) -> bytes:
        bounds = [bound for pair in self.view.ranges(group) for bound in pair]
        nodes = []
        for node in group.nodes:
            host, port = node.address
            role = "master" if self.view.primaries[group] is node else "slave"
            fields = ("id", node.name, "port", port, "ip", host, "endpoint", host, "role", role)
            nodes.append(_flat(*fields, "replication-offset", 1, "health", "online" if node.well else "fail"))
        return encode.array(
            (encode.bulk("slots"), encode.array(map(encode.integer, bounds)), encode.bulk("nodes"), encode.array(nodes))
        )

    def slots(self) -> bytes:
        """The reply to CLUSTER SLOTS."""
        rows = []
        for group in self.groups():
            primary = self.view.primaries[group]
            ordered = (primary, *(node for node in group.nodes if node is not primary))
            entries = [
                encode.array((_item(node.address[0]), _item(node.address[1]), _item(node.name), encode.EMPTY_ARRAY))
                for node in ordered
            ]
            for first, last in self.view.ranges(group):
                rows.append(encode.array((encode.integer(first), encode.integer(last), *entries)))
        return encode.array(rows)

    def nodes(self) -> bytes:
        """The reply to CLUSTER NODES."""
        return encode.bulk("".join(self._line(node) + "\n" for group in self.groups() for node in group.nodes))

    def _line(self, node: ClusterNode) -> str:
        group = node.group
        primary = self.view.primaries[group]
        host, port = node.address
        flags = ["myself"] * (node is self) + ["master" if node is primary else "slave"]
        if not node.well and node is not self:
            flags.append("fail")
        words = [node.name, f"{host}:{port}@{port + 10000}", ",".join(flags), "-" if node is primary else primary.name]
        words += ["0", "0", str(self.view.epochs[group]), "connected" if node.well else "disconnected"]
        if node is primary:
            words += [str(first) if first == last else f"{first}-{last}" for first, last in self.view.ranges(group)]
        if node is self and self.leads:
            words += [f"[{slot}->-{other.primary.name}]" for slot, other in group.leaving.items()]
            words += [f"[{slot}-<-{other.primary.name}]" for slot, other in group.coming.items()]
        return " ".join(words)

    def info(self) -> bytes:
        """The reply to CLUSTER INFO."""
        assigned = sum(owner is not None for owner in self.view.owners)
        known = sum(len(group.nodes) for group in self.groups())
        size = sum(bool(self.view.ranges(group)) for group in self.groups())
        fields = {
            "cluster_enabled": "1",
            "cluster_state": "fail" if self.unsure or assigned < SLOTS else "ok",
            "cluster_slots_assigned": str(assigned),
            "cluster_slots_ok": str(assigned),
            "cluster_known_nodes": str(known),
            "cluster_size": str(size),
            "cluster_current_epoch": str(max(self.view.epochs.values())),
            "cluster_my_epoch": str(self.view.epochs[self.group]),
        }
        return encode.bulk("".join(f"{name}:{value}\r\n" for name, value in fields.items()))


class ClusterConnection(ServerConnection):
    """The far end of a connection to a node of a cluster."""

    server: ClusterNode

    def __init__(self, server: ClusterNode, wire: MemoryWire) -> None:
        super().__init__(server, wire)
        self._asking = False
        self._ending = False
        self._readonly = False
        if not server.frozen:
            wire.outgoing.unblock("stalled")

    def _refusal(self, name: bytes, args: list[bytes]) -> bytes | None:
        asking = self._asking
        if self._queue is None and not self._ending:
            self._asking = name == b"ASKING"
        if name in _OWN and not self.server.loading:
            return None
        refusal = super()._refusal(name, args)
        if refusal is None and name in _KEYS:
            refusal = self.server.refusal(name, _KEYS[name](args), asking, self._readonly)
        return refusal

    def _end(self, queue: list[list[bytes]]) -> bytes:
        self._ending = True
        try:
            return super()._end(queue)
        finally:
            self._ending = self._asking = False

    def _refuse_end(self, refusal: bytes) -> bytes:
        return refusal if not self.server.loading else super()._refuse_end(refusal)

    def _run(self, name: bytes, args: list[bytes]) -> bytes:
        match name:
            case b"ASKING":
                return encode.OK
            case b"READONLY" | b"READWRITE":
                self._readonly = name == b"READONLY"
                return encode.OK
            case b"CLUSTER":
                return self._cluster(args[1].upper())
            case b"ROLE":
                return self._role(args)
            case b"SELECT" if args[1] != b"0":
                return encode.error("ERR SELECT is not allowed in cluster mode")
        return super()._run(name, args)

    def _role(self, args: list[bytes]) -> bytes:
        node = self.server
        if node.leads:
            return encode.array((encode.bulk("master"), encode.integer(1), encode.EMPTY_ARRAY))
        host, port = node.view.primaries[node.group].address
        words = (encode.bulk("slave"), encode.bulk(host), encode.integer(port), encode.bulk("connected"))
        return encode.array((*words, encode.integer(1)))

    def _cluster(self, what: bytes) -> bytes:
        node = self.server
        match what:
            case b"SHARDS":
                return node.shards()
            case b"SLOTS":
                return node.slots()
            case b"NODES":
                return node.nodes()
            case b"INFO":
                return node.info()
            case b"MYID":
                return encode.bulk(node.name)
        return encode.error(f"ERR unknown subcommand '{what.decode()}'. Try CLUSTER HELP.")


def _item(value: str | int) -> bytes:
    return encode.integer(value) if isinstance(value, int) else encode.bulk(value)


def _flat(*words: str | int) -> bytes:
    return encode.array(map(_item, words))
