"""A static topology whose servers change their roles: each server is asked for its role regularly."""

import asyncio
import logging
from collections.abc import Iterable

from proxy.backends.connection import reason
from proxy.backends.handshake import Credentials
from proxy.backends.query import ask
from proxy.config import Config
from proxy.discovery.odd import Told
from proxy.discovery.replication import QUESTIONS, Answer, Group, read
from proxy.discovery.source import Adopt, Pace, Unlisted
from proxy.errors import BackendError
from proxy.metrics import Counters
from proxy.sharding.topology import Node, Shard, Topology, build_topology

log = logging.getLogger(__name__)

_ROUNDS = 3
"""Rounds of questions: a demoted primary names its successor, the successor its replicas, and these theirs."""


class RolesSource(Unlisted):
    """Follows the roles of the servers of ``config.shards``; the slots of the shards do not change."""

    def __init__(self, config: Config, credentials: Credentials, counters: Counters) -> None:
        self._credentials = credentials
        self._counters = counters
        self._patience = config.backend.connect_timeout
        self._remap = config.topology.remap
        self._pace = Pace(config.topology.refresh)
        self._topology = build_topology(config)
        self._groups = [Group(shard.name, shard.nodes) for shard in self._topology.shards]
        self._passed_over: dict[str, tuple[Node, ...]] = {}
        self._asked: set[Node] = set()
        """The servers that the latest look has asked."""
        self._silent: dict[Node, str] = {}
        """The servers that can not be asked, each with the reason."""
        self._oddities = Told(log)

    def hint(self, node: Node | None = None) -> None:
        """Ask the servers soon, since the roles may have changed."""
        self._pace.hint(node)

    async def run(self, adopt: Adopt) -> None:
        """Follow the roles; never returns."""
        while True:
            await self._pace.wait()
            try:
                await self._look(adopt)
            except Exception:
                # A bug in one look must not end the discovery.
                log.exception("the servers' answers about their roles can not be used")

    async def _look(self, adopt: Adopt) -> None:
        self._asked.clear()
        answers = await asyncio.gather(*(self._gather(group) for group in self._groups))
        self._silent = {node: why for node, why in self._silent.items() if node in self._asked}
        if not any(answers):
            self._counters.refresh("failed")
            return
        for group, said in zip(self._groups, answers, strict=True):
            group.take(said, [other.primary for other in self._groups if other is not group])
            if group.passed_over and group.passed_over != self._passed_over.get(group.name):
                log.error(
                    "shard=%s has lost its primary %s, and %s does not replace it, since it was a primary at the same "
                    "time or was restarted: its data may be old. If its data is good, make a replica follow it, or "
                    "restart the proxy with it as the primary",
                    group.name,
                    group.primary,
                    ",".join(map(str, group.passed_over)),
                )
            self._passed_over[group.name] = group.passed_over
        shards = _distinct(group.shard for group in self._groups)
        if shards == self._topology.shards:
            self._counters.refresh("same")
            return
        self._counters.refresh("changed")
        for old, new in zip(self._topology.shards, shards, strict=True):
            _tell(old, new)
        self._topology = Topology(self._topology.epoch + 1, shards, self._topology.slot_shard)
        adopt(self._topology)

    async def _gather(self, group: Group) -> dict[Node, Answer]:
        """The answers of the members of ``group``, and of the servers that they name."""
        answers: dict[Node, Answer] = {}
        asked: set[Node] = set()
        wanted = set(group.members)
        for _ in range(_ROUNDS):
            asked |= wanted
            said = await asyncio.gather(*(self._ask(node) for node in wanted))
            answers |= {node: answer for node, answer in zip(wanted, said, strict=True) if answer is not None}
            wanted = group.mentioned(answers) - asked
            if not wanted:
                break
        return answers

    async def _ask(self, node: Node) -> Answer | None:
        self._asked.add(node)
        try:
            answer = read(await ask(node, self._credentials, QUESTIONS, self._patience), self._remap)
        except (OSError, TimeoutError, ValueError, BackendError) as error:
            answer = reason(error, self._patience)
        if isinstance(answer, Answer):
            self._oddities.tell(node, answer.odd)
            if self._silent.pop(node, None) is not None:
                log.info("server tells its role again address=%s", node)
            return answer
        if node not in self._silent:
            log.warning("server can not be asked for its role address=%s reason=%r (see topology.remap)", node, answer)
        self._silent[node] = answer
        return None


def _distinct(shards: Iterable[Shard]) -> tuple[Shard, ...]:
    """``shards`` with each server once: a server of one shard is left out of the replicas of others."""
    found = tuple(shards)
    taken = {shard.primary for shard in found}
    distinct = []
    for shard in found:
        replicas = tuple(node for node in shard.replicas if node not in taken)
        taken.update(replicas)
        distinct.append(Shard(shard.name, shard.primary, replicas))
    return tuple(distinct)


def _tell(old: Shard, new: Shard) -> None:
    replicas = ",".join(map(str, new.replicas)) or "none"
    if old.primary != new.primary:
        log.warning("failover shard=%s primary=%s was=%s replicas=%s", new.name, new.primary, old.primary, replicas)
    elif old.replicas != new.replicas:
        log.info("replicas changed shard=%s replicas=%s", new.name, replicas)
