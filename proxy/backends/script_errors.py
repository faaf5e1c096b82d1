"""What a server's error refuses: believed where the server worded it; else what would prove it
(``proxy.planning.proof``)."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from proxy.backends.shared import Backend
from proxy.commands.keys import KeysError, key_indexes
from proxy.planning import exec_block, proof
from proxy.planning.inspector import Inspector
from proxy.planning.proof import Doubt
from proxy.planning.refusals import NOSCRIPT, Refusal, refusal
from proxy.session.script_cache import NOT_FOUND, Scripts, calls_by_digest
from proxy.sharding.topology import Node, Topology


class Judged(Protocol):
    """The servers whose errors are judged, and what is known of them."""

    @property
    def topology(self) -> Topology:
        """The snapshot in use."""

    @property
    def pool(self) -> Iterable[Backend]:
        """The shared connections."""

    @property
    def inspector(self) -> Inspector:
        """Looks at requests."""

    @property
    def scripts(self) -> Scripts:
        """The scripts that clients have sent."""

    def member(self, node: Node) -> Node | None:
        """Where the server is reached that a redirection calls ``node``; None if nobody who is believed knows it."""

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept here, or may be by another worker."""

    def missing_script(self, error: bytes, frame: bytes) -> Refusal | None:
        """What the error refuses that a server sent for want of a script; None if nobody else has it."""


class ErrorJudge:
    """Judges the errors that servers send to a worker. ``remap``: see ``proxy.planning.refusals.remapped``."""

    def __init__(self, servers: Judged, remap: Mapping[str, str]) -> None:
        self._servers = servers
        self._remap = remap

    def refusal(self, error: bytes, asked: Node, frame: bytes) -> Refusal | Doubt | None:
        """What an error frame refuses that ``asked`` sent to the request in ``frame``; None if it is the client's
        business. Of a transaction's block only what stands in place of +QUEUED, or of EXEC's array, comes here: the
        errors of what was executed lie inside that array."""
        if error in NOT_FOUND:
            return self._missing(error, frame)
        found = self._worded(error, asked)
        if found is None or not frame or exec_block.is_block(frame):
            return found
        doubt = self._doubted(found.kind, error, frame)
        if doubt is None:
            return found
        return doubt if doubt.plausible(found) else None

    def doubt(self, frame: bytes) -> Doubt | None:
        """What shows whether a server refuses the request in ``frame``, if that request's own words do not."""
        return None if exec_block.is_block(frame) else self._doubted("", b"", frame)

    def _doubted(self, kind: str, error: bytes, frame: bytes) -> Doubt | None:
        fact, args = self._servers.inspector.resolve(frame)
        if not proof.runs_code(fact):
            return None
        try:
            keys = [] if fact is None else [args[index] for index in key_indexes(fact, args)]
        except KeysError:
            keys = []
        writing = proof.checked_for_writes(fact, args, self._servers.scripts.body)
        twin = proof.twin(kind, fact, keys, writing)
        judge = self._replica if twin == proof.ROLE else self._refused
        slots = tuple(self._servers.inspector.slot_of(key) for key in keys)
        return Doubt(kind, error, twin, judge, slots, writing)

    def _worded(self, error: bytes, asked: Node) -> Refusal | None:
        """What a server's own words refuse."""
        servers = self._servers
        found = refusal(error, asked, servers.topology.cluster, self._remap)
        if found is None or found.node is None:
            return found
        # It goes to nobody whom no member has named; but its cluster is asked, and may name it.
        named = servers.member(found.node)
        if named is None and any(found.node in shard.nodes for shard in servers.topology.shards):
            named = found.node
        return replace(found, node=named, witness=asked)

    def _missing(self, error: bytes, frame: bytes) -> Doubt | None:
        """A call by its digest is answered as if the script were not there, and it could be loaded."""
        calls = calls_by_digest(frame)
        if not calls or not self._servers.may_have([args[1].lower() for _, args in calls]):
            return None

        def judge(reply: bytes, asked: Node) -> Refusal | None:
            if not proof.missing(reply):
                return None
            servers = self._servers
            scripts = servers.scripts
            scripts.forget(asked)
            there = [backend for backend in servers.pool if backend.place.node == asked]
            return scripts.refusal(error, frame, there) or servers.missing_script(error, frame)

        return Doubt(NOSCRIPT, error, proof.exists(calls[0][1][1]), judge)

    def _refused(self, reply: bytes, asked: Node) -> Refusal | None:
        return self._worded(reply, asked) if reply[:1] == b"-" else None

    def _replica(self, reply: bytes, asked: Node) -> Refusal | None:
        words = b"-READONLY the server is a replica\r\n"
        return Refusal("READONLY", words) if proof.replicates(reply) else None
