"""The meaning of a configuration in a few lines, as ``slotgate check`` prints it if there is no problem."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.config import Config, User
from proxy.config.colocate import ColocateSection
from proxy.config.listeners import ListenerSection
from proxy.config.machine import cores
from proxy.sharding.topology import build_topology, even_ranges, format_ranges


def summary(config: Config, users: Sequence[str]) -> list[tuple[str, str]]:
    """Return the meaning of ``config`` as headings and texts; ``users`` are the names of the enabled users."""
    topology = build_topology(config)
    lines = [
        ("listen", ", ".join(map(_listener_words, config.listening))),
        ("admin", str(config.admin)),
        ("workers", "1" if config.workers == 1 else f"{config.workers} ({cores()} cores here)"),
        ("read_from", config.read_from),
        ("users", ", ".join(users if config.aclfile else map(_user_words, config.users))),
    ]
    if config.limits.memory != "auto":
        lines.append(("memory", f"{config.memory_share // 2**20} MB for each worker"))
    if config.presents_cluster:
        lines.append(("present_as", config.present_as))
    if config.topology.kind == "cluster":
        lines.append(("cluster", f"asked of {', '.join(map(str, config.cluster.seeds))}"))
    if config.topology.kind == "sentinel":
        lines.append(("sentinel", f"asked of {', '.join(map(str, config.sentinel.sentinels))}"))
        for name, ranges in zip(config.sentinel.masters, even_ranges(len(config.sentinel.masters)), strict=True):
            lines.append(("shard", f"{name}: slots {format_ranges(ranges)}"))
    for index, shard in enumerate(topology.shards):
        replicas = f", replicas {', '.join(map(str, shard.replicas))}" if shard.replicas else ""
        slots = format_ranges(topology.ranges(index))
        lines.append(("shard", f"{shard.name}: slots {slots}, primary {shard.primary}{replicas}"))
    lines.extend(("colocate", _rule_words(rule)) for rule in config.colocate)
    if config.audit.path is not None:
        lines.append(("audit", f"{config.audit.path}, {len(config.audit.rules)} rules, on_full {config.audit.on_full}"))
    if config.keyless_shard is not None:
        lines.append(("scripts", f"those that declare no key run on {config.keyless_shard}"))
    return lines


def _listener_words(listener: ListenerSection) -> str:
    words = []
    for key in type(listener).model_fields:
        value = getattr(listener, key)
        if key != "address" and key in listener.model_fields_set:
            words.append(f"{key} {', '.join(value) if isinstance(value, tuple) else value}")
    return f"{listener.address} ({'; '.join(words)})" if words else str(listener.address)


def _user_words(user: User) -> str:
    return f"{user.name} (no password)" if user.open else user.name


def _rule_words(rule: ColocateSection) -> str:
    tags = "" if rule.hash_tags else "; hash tags do not count"
    if rule.name is not None:
        return f"keys that begin with {', '.join(map(repr, rule.prefixes))}: all in the slot of {rule.name!r}{tags}"
    return f"keys that begin with {rule.prefix!r}: hashed up to field {rule.upto}, divided by {rule.separator!r}{tags}"
