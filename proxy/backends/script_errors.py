"""Decides what a server's error means: an error that the server worded is taken as it is; one that a script may have
worded must be proven first (``proxy.planning.proof``)."""

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
    """The servers whose errors are judged, and the facts that are known about them."""

    @property
    def topology(self) -> Topology:
        """The snapshot in use."""

    @property
    def pool(self) -> Iterable[Backend]:
        """The shared connections."""

    @property
    def inspector(self) -> Inspector:
        """Finds the command and the slots of requests."""

    @property
    def scripts(self) -> Scripts:
        """The scripts that clients have sent."""

    def member(self, node: Node) -> Node | None:
        """The known node that a redirection calls ``node``; None if no trusted server knows it."""

    def may_have(self, digests: Iterable[bytes]) -> bool:
        """Whether one of these scripts is kept by this worker, or may be by another."""

    def missing_script(self, error: bytes, frame: bytes) -> Refusal | None:
        """The refusal of a request whose script the server does not have; None if nobody else has the script."""


class ErrorJudge:
    """Judges the errors that servers send to a worker. ``remap``: see ``proxy.planning.refusals.remapped``."""

    def __init__(self, servers: Judged, remap: Mapping[str, str]) -> None:
        self._servers = servers
        self._remap = remap

    def refusal(self, error: bytes, asked: Node, frame: bytes) -> Refusal | Doubt | None:
        """The refusal in an error frame with which ``asked`` answered the request in ``frame``; None if the error is
        for the client. Of a transaction's block only errors in place of +QUEUED or of EXEC's array come here: the
        errors of executed commands are inside that array."""
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
        """The doubt about the request in ``frame`` whose twin shows whether a server refuses it; None if the error
        alone shows that."""
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
        return Doubt(kind, error, twin, judge, slots, writing, proof.allowed_twin(fact, keys))

    def _worded(self, error: bytes, asked: Node) -> Refusal | None:
        """The refusal that a server itself worded, or None."""
        servers = self._servers
        found = refusal(error, asked, servers.topology.cluster, self._remap)
        if found is None or found.node is None:
            return found
        # Requests go only to nodes that a member has named; the cluster is asked about others, and may name them.
        named = servers.member(found.node)
        if named is None and any(found.node in shard.nodes for shard in servers.topology.shards):
            named = found.node
        return replace(found, node=named, witness=asked)

    def _missing(self, error: bytes, frame: bytes) -> Doubt | None:
        """The doubt about a call by digest that was answered with NOSCRIPT, if the script can be loaded."""
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
