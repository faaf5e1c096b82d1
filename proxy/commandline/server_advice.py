"""Judges the facts that servers report: what keeps the proxy from working, and what will surprise. No I/O."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from proxy.commandline.findings import Finding, Severity
from proxy.commandline.machine_advice import EXPIRES_SOON, expiry_words
from proxy.commandline.server_facts import ReportedFacts
from proxy.config import Config
from proxy.sharding.slots import SLOTS

OLDEST = (6, 2)
"""The oldest version that is tested."""


def judge_all(servers: Sequence[ReportedFacts], config: Config) -> Iterator[Finding]:
    """Judge each server, and compare them. A server that could not be asked is one finding."""
    for facts in servers:
        if facts.failure:
            yield _finding("error", facts, facts.failure)
        else:
            yield from _role(facts, servers, config)
            yield from _cluster_mode(facts, config)
            yield from _version(facts)
            yield from _settings(facts, config)
            yield from _state(facts)
    reached = [facts for facts in servers if not facts.failure]
    yield from _same_server(reached)
    for name, words in _ALIKE:
        yield from _differing(reached, name, words)
    yield from _modules(reached)


def row(facts: ReportedFacts, findings: Sequence[Finding]) -> dict[str, str]:
    """Return the row of a server in the table."""
    own = Counter(each.severity for each in findings if each.where.startswith(f"{facts.place.node} "))
    counts = ((own["error"], "error"), (own["warning"], "warning"))
    state = ", ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in counts if count)
    connected, most = facts.info.get("connected_clients", ""), facts.settings.get("maxclients", "")
    return {
        "server": str(facts.place.node),
        "shard": facts.place.shard,
        "role": facts.role,
        "version": facts.version,
        "clients": f"{connected} of {most}" if connected and most else connected,
        "eviction": facts.settings.get("maxmemory-policy", ""),
        "state": state or "ok",
    }


def _finding(severity: Severity, facts: ReportedFacts, words: str) -> Finding:
    return Finding(severity, f"{facts.place.node} ({facts.place.shard})", words)


def _role(facts: ReportedFacts, servers: Sequence[ReportedFacts], config: Config) -> Iterator[Finding]:
    expected, fixed = facts.place.expected, config.topology.kind == "static" and not config.topology.discover_replicas
    if facts.role == "sentinel":
        yield _finding(
            "error", facts, "is a sentinel, and holds no keys: name it in sentinel.sentinels, with --sentinel"
        )
    elif expected == "primary" and facts.role == "replica":
        yield _finding(
            "error" if fixed and config.topology.check_roles else "warning",
            facts,
            f"is a replica of {facts.follows or 'another server'}, and is named as primary: name the primary in its "
            "place, or set topology.discover_replicas = true",
        )
    elif expected == "replica" and facts.role == "primary":
        yield _finding(
            "warning",
            facts,
            "is a primary, and is named as replica: nothing is read from it. Make it a replica (REPLICAOF), or leave "
            "it out",
        )
    elif facts.role == "replica":
        others = {str(each.place.node): each.place.shard for each in servers if each.place.expected == "primary"}
        shard = others.get(facts.follows)
        if shard is not None and shard != facts.place.shard:
            yield _finding(
                "error",
                facts,
                f"follows {facts.follows}, the primary of {shard}: its reads would be those of another shard. Name it "
                "there",
            )
        if not facts.linked:
            yield _finding(
                "warning", facts, f"has no link to its primary {facts.follows}: nothing is read from it until it has"
            )
    alone = expected == "primary" and facts.info.get("connected_slaves") == "0"
    if alone and not fixed and "replica" in config.read_policies:
        yield _finding(
            "warning", facts, 'has no replica, and with read_from = "replica" every read of it is an error: add one'
        )


def _cluster_mode(facts: ReportedFacts, config: Config) -> Iterator[Finding]:
    if config.topology.kind == "cluster":
        if not facts.clustered:
            yield _finding(
                "error", facts, 'is not in cluster mode: set cluster-enabled yes, or topology.kind = "static"'
            )
    elif facts.clustered and facts.place.expected == "primary" and facts.slots != SLOTS:
        served = "some" if facts.slots is None else str(facts.slots)
        yield _finding(
            "error",
            facts,
            f"is a node of a Redis Cluster and serves {served} of the {SLOTS} slots: use --cluster {facts.place.node}, "
            'or topology.kind = "cluster" with cluster.seeds, in place of the shards',
        )


def _version(facts: ReportedFacts) -> Iterator[Finding]:
    numbers = re.findall("[0-9]+", facts.info.get("redis_version", ""))
    if numbers and tuple(map(int, numbers[:2])) < OLDEST:
        yield _finding(
            "warning",
            facts,
            f"is version {facts.version}, and Slotgate is tested from 6.2 on: upgrade it, or try your clients first",
        )


def _settings(facts: ReportedFacts, config: Config) -> Iterator[Finding]:
    backend, most = config.backend, facts.number("maxclients")
    shared = config.worker_count * (backend.connections_per_node * 4 + 4)
    wanted = shared + config.worker_count * backend.dedicated_connections
    if most is not None and wanted > most:
        room = max((most - shared) // config.worker_count, 1)
        yield _finding(
            "warning",
            facts,
            f"takes {most} clients (maxclients), and this proxy alone may have {wanted} connections: raise maxclients, "
            f"or lower backend.dedicated_connections to {room}",
        )
    elif most is not None and (facts.number("connected_clients") or 0) + shared > most:
        yield _finding(
            "error", facts, f"has no room: {facts.info['connected_clients']} of {most} clients are connected"
        )
    if timeout := facts.number("timeout"):
        yield _finding(
            "warning",
            facts,
            f"closes connections that are idle for {timeout} s (timeout): the proxy's own are closed too, in quiet "
            "hours all at once. Set timeout 0 there",
        )
    if facts.settings.get("maxmemory-policy", "").startswith("allkeys"):
        yield _finding(
            "note",
            facts,
            f"evicts any key when its memory is full ({facts.settings['maxmemory-policy']}), as a cache should: "
            "queues, locks and sessions need noeviction",
        )
    if facts.denied:
        yield _finding(
            "note", facts, f"does not allow the proxy's user {', '.join(facts.denied)}: what they tell is not checked"
        )


def _state(facts: ReportedFacts) -> Iterator[Finding]:
    if facts.info.get("loading") == "1":
        yield _finding("warning", facts, "loads its data, and refuses commands until it has")
    if facts.info.get("rdb_last_bgsave_status") == "err":
        yield _finding(
            "warning",
            facts,
            "failed to save its data, and may refuse writes (MISCONF): look at its log and its disk",
        )
    if facts.expires is not None and (left := facts.expires - time.time()) < EXPIRES_SOON:
        yield _finding("warning", facts, f"speaks TLS, {expiry_words(left)}")


def _same_server(servers: Sequence[ReportedFacts]) -> Iterator[Finding]:
    """Find servers that are named by two addresses: keys of both shards would be in one keyspace."""
    seen: dict[str, ReportedFacts] = {}
    for facts in servers:
        identity = facts.info.get("run_id", "")
        if identity and identity in seen:
            yield _finding("error", facts, f"is the same server as {seen[identity].place.node}: name each server once")
        seen.setdefault(identity, facts)


_ALIKE = (
    ("maxmemory-policy", "what happens to keys when memory is full depends on the shard. Set one policy on all"),
    (
        "notify-keyspace-events",
        "subscribers to key events hear those of some shards only, and after a failover others. Set it alike on all",
    ),
    ("databases", "SELECT works up to the lowest number only. Set it alike on all"),
    ("redis_version", "commands that only some know fail for some keys. Upgrade them all"),
)


def _differing(servers: Sequence[ReportedFacts], name: str, words: str) -> Iterator[Finding]:
    said = [(facts, facts.settings.get(name, facts.info.get(name))) for facts in servers]
    counts = Counter(value for _, value in said if value is not None)
    if len(counts) < 2:
        return
    usual = counts.most_common(1)[0][0]
    for facts, value in said:
        if value not in (None, usual):
            yield _finding("warning", facts, f'has {name} "{value}", but most servers have "{usual}": {words}')


def _modules(servers: Sequence[ReportedFacts]) -> Iterator[Finding]:
    known = [facts for facts in servers if facts.modules is not None]
    every = frozenset[str]().union(*(facts.modules or () for facts in known))
    for facts in known:
        if missing := sorted(every - (facts.modules or frozenset())):
            yield _finding(
                "warning",
                facts,
                f"lacks the module {', '.join(missing)}, which other servers have: its commands fail for some keys. "
                "Load it everywhere",
            )
