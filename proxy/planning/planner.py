"""Decides once how a command is carried out. The plan is carried out elsewhere, without another look at the command.

No I/O. Commands of the session (``Handling.SESSION``) are answered before the planner is called.
"""

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Literal

from proxy import errors, server_errors
from proxy.commands.access import shuts_out
from proxy.commands.facts import Fact, Handling
from proxy.commands.keys import KeysError, blocks
from proxy.commands.modules import groups, index_of
from proxy.commands.overrides import READS_ONLY
from proxy.planning.channels import BEGIN, END
from proxy.planning.key_slots import Examined, denied, slots_of
from proxy.planning.scan_cursor import Cursors
from proxy.planning.scatter import IN_PART, Part, Scatter, Uncounted, Way
from proxy.planning.split import array_header, by_key, cut, skip_bulks
from proxy.planning.undeclared_keys import UndeclaredKeys
from proxy.resp import encode
from proxy.resp.numbers import parse_integer
from proxy.sharding.colocation import Colocation, pattern_slot_of, slot_of
from proxy.sharding.slots import SLOTS, key_slot
from proxy.sharding.topology import NOBODY, Topology

FIRST_SHARD = 0
"""The shard of keyless commands that any shard can answer, so that the same server always answers them."""
_QUEUED = frozenset({"unwatch", "publish", "spublish", *BEGIN, *END})
"""The commands with ``Handling.MODE`` that may be queued in a transaction."""
_ALWAYS_MERGED = frozenset({"info", "config_get", "pubsub_numsub"})
"""The merges that a single shard's reply goes through too, because it describes the proxy or may contain secrets."""
OF_KEYSPACE: Mapping[str, bytes] = {
    "dbsize": encode.ZERO,
    "keys": encode.EMPTY_ARRAY,
    "scan": encode.array((encode.bulk("0"), encode.EMPTY_ARRAY)),
    "info": b"",
}
"""The commands that cluster clients send to every node and merge, with the reply of a node that counts no keys."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request unchanged to one shard; ``read`` says that a replica may answer it."""

    shard: int
    read: bool


@dataclass(frozen=True, slots=True)
class Pin:
    """Send the request unchanged to the primary of one shard, over a dedicated connection."""

    shard: int


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer the request with an error; nothing is executed."""

    text: str


Plan = Forward | Pin | Scatter | Reject
CrossSlot = Literal["split", "reject"]


class Planner:
    """Makes the plans for one topology.

    ``rules`` choose the part of a key that is hashed. ``before`` has the cursors of the previous topology. ``examined``
    has the result of ``examining`` for the request to plan. ``undeclared`` decides about scripts that declare no key;
    without it, they run on the first shard. ``as_cluster`` is the planner for clients to which the proxy presents
    itself as a cluster, which they ask about slots.
    """

    def __init__(
        self,
        topology: Topology,
        cross_slot: CrossSlot,
        rules: Colocation | None = None,
        before: Cursors | None = None,
        examined: Examined | None = None,
        undeclared: UndeclaredKeys | None = None,
    ) -> None:
        self.examined = examined or Examined()
        self._presents_cluster = False
        self._topology = topology
        self._rules = rules
        self._slot_of = slot_of(rules)
        self.pattern_slot = pattern_slot_of(rules)
        self._cross_slot = cross_slot
        self._undeclared = undeclared
        self._keyless_slot = NOBODY if undeclared is None else undeclared.slot(topology)
        """A slot of the shard for scripts that declare no key, which stands for the keys of such a script."""
        self._single = topology.single
        self.cursors = Cursors(topology, before)
        self._nobody = "" if topology.whole else server_errors.incomplete(topology.shards, topology.cluster)
        """The error for commands to all shards if some slots have no shard; else empty."""
        self.as_cluster = copy(self)
        self.as_cluster._presents_cluster = True

    def renewed(self, topology: Topology) -> "Planner":
        """The planner for the topology that follows."""
        return Planner(topology, self._cross_slot, self._rules, self.cursors, self.examined, self._undeclared)

    def shown(self, as_cluster: bool) -> "Planner":
        """The planner for clients to which the proxy presents itself as a cluster, or as one server."""
        return self.as_cluster if as_cluster else self

    def plan(self, fact: Fact, args: Sequence[bytes], frame: bytes) -> Plan:
        """The plan for a known command of the right arity; ``frame`` is the request unchanged, for forwarding."""
        match fact.handling:
            case Handling.REFUSED if self.without_cluster(fact):
                return Reject(errors.NO_CLUSTER)
            case Handling.REFUSED | Handling.SESSION | Handling.MODE:
                return Reject(errors.refused(fact.name, fact.reason))
            case Handling.UNCOVERED if not self._single:
                return Reject(errors.uncovered(fact.name))
            case Handling.ANY_SHARD | Handling.UNCOVERED:
                return self._first(blocking=fact.blocking)
            case Handling.SINGLE_SHARD:
                return self._single_shard(fact, args)
            case Handling.SLOT:
                return self._slot(fact, args)
            case Handling.KEYED:
                return self._keyed(fact, args)
            case Handling.MULTI_SHARD:
                return self._multi_shard(fact, args, frame)
            case Handling.ALL_SHARDS | Handling.ALL_NODES | Handling.SPECIAL:
                return self._everywhere(fact, args, frame)

    def divided(self, plan: Plan, fact: Fact, args: Sequence[bytes], share: Collection[int]) -> Plan | bytes:
        """The ``plan`` of a command of ``OF_KEYSPACE``, restricted to the keys of the shards in ``share``; the reply
        itself if ``share`` is empty."""
        if isinstance(plan, Reject | Pin):
            return plan
        if isinstance(plan, Forward):
            return plan if plan.shard in share else OF_KEYSPACE[fact.name]
        if fact.name == "info":
            every = [part if part.shard in share else Uncounted(part.shard, part.frame) for part in plan.parts]
            return Scatter(plan.way, every, plan.options)
        if fact.name != "scan":
            parts = [part for part in plan.parts if part.shard in share]
            return Scatter(plan.way, parts, plan.options) if parts else OF_KEYSPACE[fact.name]
        shard, _, slots = self.cursors.read(args[1]) or self.cursors.start
        mine = next((other for other in sorted(share) if other >= shard), None)
        if mine is None:
            return OF_KEYSPACE[fact.name]
        frame = plan.parts[0].frame
        if mine != shard:
            frame = encode.request((args[0], b"0", *args[2:]))
        return Scatter(plan.way, (Part(mine, frame),), self.cursors.marks(mine, slots, share))

    def by_key(self, fact: Fact, args: Sequence[bytes], frame: bytes) -> Scatter | None:
        """The plan that sends a request in one part for each key; None if the request can not be split so."""
        splits = fact.handling is Handling.MULTI_SHARD and self._cross_slot == "split"
        if not splits or fact.key_range is None or fact.key_range[0] != 1:
            return None
        way = split_way(fact, len(self._topology.shards))
        keys, rest = divmod(len(args) - 1 - way.tail, fact.key_range[2])
        if rest or keys < 2:
            return None
        owners = [
            self._topology.slot_shard[self._slot_of(key)] for key in args[1 : len(args) - way.tail : fact.key_range[2]]
        ]
        parts = by_key(Part(FIRST_SHARD, frame, list(range(keys))), way.tail)
        placed = [Part(owner, part.frame, part.positions) for owner, part in zip(owners, parts, strict=True)]
        return Scatter(way, placed)

    def member(self, fact: Fact, args: Sequence[bytes], frame: bytes) -> frozenset[int] | Scatter | Reject:
        """The slots of the keys of a command inside a transaction, if it is sent unchanged; else the plan with the part
        to send and the merge of its reply."""
        match fact.handling:
            case Handling.REFUSED | Handling.ALL_SHARDS if "no_multi" in fact.flags:
                return Reject(errors.NOT_IN_MULTI)
            case Handling.MODE if fact.blocking:
                return frozenset()  # WAIT does not block inside a transaction
            case Handling.MODE if fact.name == "spublish" and self._topology.cluster:
                return frozenset((key_slot(args[1]),))
            case Handling.MODE if fact.name not in _QUEUED:
                return Reject(errors.not_in_transaction(fact.name))
            case Handling.SESSION | Handling.MODE:
                return frozenset()
            case Handling.ALL_SHARDS | Handling.ALL_NODES | Handling.SPECIAL:
                if len(self._topology.shards) > 1:
                    return Reject(errors.for_all_shards(fact.name))
                part = self._everywhere(fact, args, frame)
                return frozenset() if isinstance(part, Forward) else part
            case Handling.KEYED | Handling.MULTI_SHARD:
                return self.slots(fact, args)
            case _:
                plan = self.plan(fact, args, frame)
                if isinstance(plan, Reject):
                    return plan
                return frozenset((int(args[2]),) if fact.handling is Handling.SLOT else ())

    def together(self, slots: Collection[int]) -> Forward | Reject:
        """The plan of a transaction whose keys are in ``slots``."""
        if not slots or self._single:
            place = self._first()
            assert not isinstance(place, Pin)
            return place
        owners = self._topology.slot_shard
        if len(slots) > 1:
            if len(slots) > 2 or self._keyless_slot not in slots:
                return Reject(errors.CROSSSLOT)
            if len({owners[slot] for slot in slots}) > 1:
                return Reject(errors.KEYLESS_ELSEWHERE)
        return Forward(owners[next(iter(slots))], read=False)

    def watched(self, fact: Fact, args: Sequence[bytes], held: frozenset[int]) -> frozenset[int] | Reject:
        """The slots of the keys to watch, if those in ``held`` are watched already: all must be the same slot."""
        slots = self.slots(fact, args)
        if isinstance(slots, Reject):
            return slots
        place = self.together(slots | held)
        return place if isinstance(place, Reject) else slots

    def slots(self, fact: Fact, args: Sequence[bytes]) -> frozenset[int] | Reject:
        """The slot of a command's keys, empty without keys; all their slots if there is one shard only."""
        try:
            slots = slots_of(fact, args, self._slot_of, self.examined)
        except KeysError:
            return frozenset()
        if self._single:
            return slots
        if len(slots) > 1:
            return Reject(errors.CROSSSLOT)
        if not slots and (place := self._without_keys(fact, args)) is not None:
            return place if isinstance(place, Reject) else frozenset((self._keyless_slot,))
        if option := denied(fact, args, slots, self.pattern_slot, self.examined):
            return Reject(server_errors.sort_denied(option))
        return slots

    def without_cluster(self, fact: Fact) -> bool:
        """Whether ``fact`` is about a cluster, and neither the servers nor the proxy are a cluster for the clients."""
        return fact.name.startswith(("cluster|", "clusterscan")) and not (
            self._topology.cluster or self._presents_cluster
        )

    def _first(self, read: bool = False, blocking: bool = False) -> Forward | Pin | Reject:
        """The plan of a command that any shard can answer."""
        if not self._topology.shards:
            return Reject(self._nobody)
        return Pin(FIRST_SHARD) if blocking else Forward(FIRST_SHARD, read)

    def _without_keys(self, fact: Fact, args: Sequence[bytes]) -> int | Reject | None:
        """The shard for a command that names no key, or the reason why it is refused; None if any shard will do."""
        place = None if self._undeclared is None else self._undeclared.place(fact, args, self._topology)
        return Reject(place) if isinstance(place, str) else place

    def _single_shard(self, fact: Fact, args: Sequence[bytes]) -> Plan:
        """The plan of a command about what one server has, or about what all nodes of a cluster answer together."""
        if self._single:
            return self._first(fact.replica_ok, blocks(fact, args))
        if not (self._topology.cluster and fact.coordinated):
            return Reject(errors.for_one_server(fact.name, fact.reason))
        shard = self._topology.slot_shard[key_slot(index_of(args))]
        return self._first() if shard == NOBODY else Forward(shard, read=False)

    def _keyed(self, fact: Fact, args: Sequence[bytes]) -> Plan:
        blocking = blocks(fact, args)
        if self._single:
            return self._first(fact.replica_ok, blocking)
        try:
            slots = slots_of(fact, args, self._slot_of, self.examined)
        except KeysError:
            # The server answers with its own error for the arguments, and executes nothing.
            return self._first(blocking=blocking)
        if not slots:
            place = self._without_keys(fact, args)
            if place is None:
                return self._first(fact.replica_ok, blocking)
            return place if isinstance(place, Reject) else Forward(place, fact.replica_ok)
        if len(slots) > 1:
            return Reject(errors.CROSSSLOT)
        if option := denied(fact, args, slots, self.pattern_slot, self.examined):
            return Reject(server_errors.sort_denied(option))
        (slot,) = slots
        shard = self._topology.slot_shard[slot]
        return Pin(shard) if blocking else Forward(shard, fact.replica_ok)

    def _slot(self, fact: Fact, args: Sequence[bytes]) -> Plan:
        """The plan of CLUSTER COUNTKEYSINSLOT slot and CLUSTER GETKEYSINSLOT slot count."""
        if not self._presents_cluster:
            return Reject(errors.NO_CLUSTER)
        if not self._topology.cluster:
            return Reject(errors.no_slots(fact.name))
        numbers = [parse_integer(arg) for arg in args[2:]]
        if None in numbers:
            return Reject(errors.NOT_AN_INTEGER)
        slot, *count = [number for number in numbers if number is not None]
        if not 0 <= slot < SLOTS or (count and count[0] < 0):
            return Reject(errors.BAD_SLOT_OR_COUNT if count else errors.BAD_SLOT)
        return Forward(self._topology.slot_shard[slot], read=False)

    def _multi_shard(self, fact: Fact, args: Sequence[bytes], frame: bytes) -> Plan:
        if self._single or fact.key_range is None or fact.key_range[0] != 1:
            return self._keyed(fact, args)
        way = split_way(fact, len(self._topology.shards))
        step = fact.key_range[2]
        count, odd = divmod(len(args) - 1 - way.tail, step)
        if odd or count < 1:
            return self._first()
        if self._cross_slot == "reject" and len(set(map(self._slot_of, args[1 : 1 + count * step : step]))) > 1:
            return Reject(errors.CROSSSLOT)
        name = frame.index(b"\n") + 1
        found = cut(
            frame,
            name,
            skip_bulks(frame, name, 1),
            count,
            step,
            self._topology.slot_shard,
            way.shards,
            self._topology.cluster,
            self._rules,
            way.tail,
        )
        if found is None:
            raise AssertionError("a parsed request can not be cut")
        if len(found.parts) == 1:
            return Forward(found.parts[0].shard, fact.replica_ok)
        return Scatter(way, found.parts)

    def _everywhere(self, fact: Fact, args: Sequence[bytes], frame: bytes) -> Forward | Scatter | Reject:
        merge = fact.merge or "concat"
        if self._nobody and not (merge in IN_PART and self._topology.shards):
            return Reject(self._nobody)
        shards = len(self._topology.shards)
        if merge == "scan":
            return self._scan(fact, args, frame)
        if fact.name == "config|set" and (setting := shuts_out(args)) is not None:
            return Reject(errors.shuts_out(*setting))
        if merge == "series" and not self._single and groups(args):
            return Reject(errors.GROUPED_SERIES)
        if self._single and merge not in _ALWAYS_MERGED and fact.handling is not Handling.ALL_NODES:
            return Forward(FIRST_SHARD, read=False)
        parts = tuple(Part(shard, frame) for shard in range(shards))
        way = Way(
            fact.name,
            merge,
            shards,
            changes=not (fact.readonly or fact.handling is Handling.SPECIAL or fact.name in READS_ONLY),
            replicas=fact.handling is Handling.ALL_NODES,
            cluster=self._presents_cluster,
        )
        return Scatter(way, parts, tuple(args[1:]) if fact.handling is Handling.SPECIAL else ())

    def _scan(self, fact: Fact, args: Sequence[bytes], frame: bytes) -> Forward | Scatter | Reject:
        if self._single and self._topology.fixed:
            return Forward(FIRST_SHARD, read=False)
        place = self.cursors.read(args[1])
        if place is None:
            # A server decides whether the cursor is valid: older servers take "" for 0.
            own, (shard, _, slots) = args[1], self.cursors.start
        else:
            shard, cursor, slots = place
            own = b"%d" % cursor
        way = Way(fact.name, "scan", len(self._topology.shards))
        options = frame[skip_bulks(frame, frame.index(b"\n") + 1, 2) :]  # there may be very many
        asked = b"".join((array_header(len(args)), encode.bulk(args[0]), encode.bulk(own), options))
        return Scatter(way, (Part(shard, asked),), self.cursors.marks(shard, slots))


def split_way(fact: Fact, shards: int) -> Way:
    """The way of a command that is split by its keys."""
    last = fact.key_range[1] if fact.key_range is not None else -1
    return Way(
        fact.name,
        fact.merge or "concat",
        shards,
        read=fact.replica_ok,
        changes=not fact.readonly,
        tail=-1 - last,
    )
