"""Asks every server for its facts: its version, commands, modules and limits, which requests and replies depend on."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from proxy import errors
from proxy.backends.upstream import reads_replicas
from proxy.discovery.discovery import Discovery
from proxy.discovery.learn import (
    Learned,
    absent,
    all_select,
    complete,
    fewest_databases,
    learn_all,
    learn_limits,
    lowest,
    most_arguments,
    slots_served,
    smallest_bulk,
    smallest_query,
    some_raise,
)
from proxy.planning.server_facts import common, listed
from proxy.sharding.topology import Node
from proxy.transport.job_runner import apart
from proxy.worker.configured_users import learn_users
from proxy.worker.service import Service

log = logging.getLogger(__name__)

_LEARN_AGAIN = 1.0
"""Seconds until servers that did not answer are asked again."""
_CLOSES = (
    "a long reply makes a server close a connection that clients share, and their writes are uncertain address=%s "
    "limit=%d: have client-output-buffer-limit normal 0 0 0 there, as it is by default"
)
_RAISES = "the server passes on the line breaks of their errors, which a later release of it does not"


async def keep_learning(service: Service) -> None:
    """Ask every server for its facts: at the start, and again after each reconnection."""
    known: dict[Node, Learned] = {}
    read_from: dict[Node, Learned] = {}
    discovery = service.discovery
    while True:
        primaries = [shard.primary for shard in service.topology.shards]
        _note_replicas(service, read_from)
        known = {node: answer for node, answer in known.items() if node in primaries}
        missing = [node for node in primaries if node not in known]
        service.upstream.line_breaks.unasked = frozenset(missing)
        service.upstream.line_breaks.known = some_raise(list(known.values()))
        if missing:
            answers = await learn_all(missing, discovery.credentials, discovery.stranger)
            known |= answers
            if service.config.topology.kind == "static":
                await _look_for_clusters(discovery, answers)
            if answers:
                discovery.facts.learn({node: answer.version for node, answer in known.items()})
                await _adopt(service, list(known.values()), list(read_from.values()))
            _tell(answers)
            service.upstream.line_breaks.unasked = frozenset(missing) - answers.keys()
            service.upstream.line_breaks.known = some_raise(list(known.values()))
            if len(answers) < len(missing):
                await asyncio.sleep(_LEARN_AGAIN)
                continue
            service.lack(await apart(True, absent, service.inspector.table, list(known.values())))
        if primaries:
            discovery.learned.set()
        if reads_replicas(service.config) and known:
            read_from = await _replicas_limits(discovery, read_from)
            _limit(service, [*known.values(), *read_from.values()])
            _note_replicas(service, read_from)
        await discovery.changed.wait()
        discovery.changed.clear()
        for backend in [backend for backend in discovery.restarted if backend.ready]:
            discovery.restarted.discard(backend)
            known.pop(backend.place.node, None)
            read_from.pop(backend.place.node, None)


def _note_replicas(service: Service, answers: Mapping[Node, Learned]) -> None:
    """Take note whether a replica that is read from passes line breaks of script errors on, or was not asked yet."""
    shards = service.topology.shards if reads_replicas(service.config) else ()
    replicas = {node for shard in shards for node in shard.replicas}
    service.upstream.line_breaks.at_replicas = any(node not in answers or answers[node].raises for node in replicas)


def _tell(answers: Mapping[Node, Learned]) -> None:
    """Warn about servers whose settings make the proxy work around them."""
    for node, answer in answers.items():
        if answer.raises:
            log.warning("scripts go over connections of their own address=%s reason=%r", node.address, _RAISES)
        if answer.max_output is not None:
            log.warning(_CLOSES, node.address, answer.max_output)


async def _replicas_limits(discovery: Discovery, known: dict[Node, Learned]) -> dict[Node, Learned]:
    """Return the limits of the replicas. Those in ``known`` are not asked again unless they were primaries since."""
    replicas = {node for shard in discovery.topology.shards for node in shard.replicas}
    known = {node: answer for node, answer in known.items() if node in replicas}
    missing = [node for node in replicas if node not in known]
    answers = await asyncio.gather(*(learn_limits(node, discovery.credentials) for node in missing))
    found = {node: answer for node, answer in zip(missing, answers, strict=True) if answer is not None}
    _tell(found)
    return known | found


async def _look_for_clusters(discovery: Discovery, answers: Mapping[Node, Learned]) -> None:
    """Look for static shards that are part of a Redis Cluster, which is not allowed."""
    for node, answer in answers.items():
        discovery.roles.learned(node, await slots_served(node, discovery.credentials) if answer.clustered else None)


async def _adopt(service: Service, answers: Sequence[Learned], replicas: Sequence[Learned]) -> None:
    service.learn(await apart(True, complete, service.inspector.table, answers))
    if oldest := lowest(answers):
        service.world.server_version = oldest.version or service.world.server_version
        service.world.client_fields = oldest.client_fields
        service.scripts.missing = errors.NOSCRIPT_OF_VALKEY if oldest.valkey else errors.NOSCRIPT
    service.slices.run(learn_users(service.world, service.inspector.table))
    service.upstream.pool.keep_connections(answer.version for answer in answers)
    service.world.databases = fewest_databases(answers) or service.world.databases
    service.world.selects = all_select(answers)
    modules = common([answer.modules for answer in answers if answer.modules is not None])
    service.world.modules = {protocol: listed(modules, protocol) for protocol in (2, 3)}
    _limit(service, [*answers, *replicas])


def _limit(service: Service, answers: Sequence[Learned]) -> None:
    service.limit_requests(smallest_bulk(answers), smallest_query(answers), most_arguments(answers))
