"""Decides from a command's facts what the proxy does with it; an override takes precedence over the facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from proxy.commands.facts import Fact, Handling, Override
from proxy.commands.legacy import legacy_range
from proxy.commands.overrides import FOR_ADMINS, OVERRIDES, PRIMARY_ONLY, PRIVILEGED, REFUSED_BECAUSE, WRITES

MERGE_OF_POLICY = {
    "agg_sum": "sum",
    "agg_min": "min",
    "agg_max": "max",
    "agg_logical_and": "logical_and",
    "agg_logical_or": "logical_or",
    "all_succeeded": "all_ok",
    "one_succeeded": "one_ok",
}
"""The names of the merges by Redis's response_policy tip
(https://redis.io/docs/latest/develop/reference/command-tips/)."""

_ADMIN = "it administers a server, and no fact says that it may go to several"
_CONNECTION = "it would change the state of a connection that others share"

FAN_OUT = {"all_shards": Handling.ALL_SHARDS, "all_nodes": Handling.ALL_NODES}


def decide(fact: Fact, overrides: Mapping[str, Override] = OVERRIDES) -> Fact:
    """Return ``fact`` with its handling, merge and reason; its subcommands are decided too."""
    subcommands = {name: decide(sub, overrides) for name, sub in fact.subcommands.items()}
    container = fact.name.partition("|")[0]
    fact = replace(
        fact,
        subcommands=subcommands,
        flags=fact.flags | {"write"} if container in WRITES else fact.flags,
        primary_only=fact.name in PRIMARY_ONLY or container in PRIMARY_ONLY,
        privileged=container in PRIVILEGED or fact.name in PRIVILEGED,
    )
    if other := FOR_ADMINS.get(fact.name) or FOR_ADMINS.get(container):
        fact = replace(fact, for_admins=replace(fact, handling=other.handling, merge=other.merge, reason=other.reason))
    override = _override(fact.name, overrides)
    if override is None:
        handling, merge = _derive(fact)
        reason = _why(fact) if handling is Handling.REFUSED else ""
        return replace(fact, handling=handling, merge=merge, reason=reason, getkeys=None)
    return replace(
        fact,
        handling=override.handling,
        merge=override.merge,
        reason=override.reason,
        getkeys=override.getkeys,
        key_specs=fact.key_specs if override.keys is None else override.keys,
    )


def _override(name: str, overrides: Mapping[str, Override]) -> Override | None:
    """Return the first override that exists: of the command itself, of its subcommand's name in any container, of its
    container, or of its module."""
    container, bar, subcommand = name.partition("|")
    found = overrides.get(name)
    if found is None and bar:
        found = overrides.get(f"*|{subcommand}") or overrides.get(container)
    if found is None and "." in container:
        found = overrides.get(container.partition(".")[0] + ".*")
    return found


def _why(fact: Fact) -> str:
    """Return the reason why the command is refused by its facts."""
    known = REFUSED_BECAUSE.get(fact.name) or REFUSED_BECAUSE.get(fact.name.partition("|")[0])
    if known is not None:
        return known
    if fact.subcommands:
        return "only its subcommands are known"
    return _ADMIN if "admin" in fact.flags else _CONNECTION


def _derive(fact: Fact) -> tuple[Handling, str | None]:
    """Return the handling and the merge by the facts. Refusals come first: neither a key nor a tip makes an
    administrator's command forwardable."""
    if fact.subcommands or "admin" in fact.flags:
        return Handling.REFUSED, None
    if "pubsub" in fact.flags:
        return Handling.REFUSED, None
    if fact.keyed:
        return _derive_keyed(fact)
    if fact.blocking:
        return Handling.UNCOVERED, None
    if "no_auth" in fact.flags or "connection" in fact.categories:  # would change a shared connection
        return Handling.REFUSED, None
    handling = FAN_OUT.get(fact.request_policy or "")
    response = fact.response_policy
    if handling is None or (response is not None and response not in MERGE_OF_POLICY):
        return Handling.UNCOVERED, None
    return handling, MERGE_OF_POLICY[response] if response else "concat"


def _derive_keyed(fact: Fact) -> tuple[Handling, str | None]:
    if not _specs_tell_all(fact):
        return Handling.UNCOVERED, None
    response = fact.response_policy
    splittable = fact.key_range is not None and fact.key_range[:2] == (1, -1)  # all arguments are keys and values
    if fact.request_policy == "multi_shard" and splittable and (response is None or response in MERGE_OF_POLICY):
        return Handling.MULTI_SHARD, MERGE_OF_POLICY[response] if response else "mget"
    return Handling.KEYED, None


def _specs_tell_all(fact: Fact) -> bool:
    """Whether the key specs find every key. Movable keys are accepted if a spec itself explains the movement."""
    _, whole = legacy_range(fact.key_specs)
    return all(spec.complete for spec in fact.key_specs) and not (fact.movable_keys and whole)
