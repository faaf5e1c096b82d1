"""Rules between the keys that say where the keys of clients are: ``[[colocate]]``, and scripts without keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.config.model import Config

Problem = tuple[str, str]
"""The path of a key, and what is wrong with it."""


def check_colocate(config: Config) -> Iterator[Problem]:
    """Check that the servers do not check slots themselves if there are rules, and that each prefix and name is used
    once."""
    if config.colocate and config.topology.kind == "cluster":
        yield (
            "colocate",
            "has no effect in front of a Redis Cluster: its servers compute the slots of keys themselves, and refuse "
            'other keys. Use hash tags in the keys, or topology.kind "static" or "sentinel"',
        )
    for first, second, name in repeated(rule.name or f"#{index}" for index, rule in enumerate(config.colocate)):
        yield (
            f"colocate[{second}].name",
            f'"{name}" is the name of colocate[{first}] too: put the prefixes into one rule',
        )
    seen: dict[str, str] = {}
    for index, rule in enumerate(config.colocate):
        for key, prefix in rule.named_prefixes():
            path = f"colocate[{index}].{key}"
            if prefix in seen:
                yield path, f'"{prefix}" is {seen[prefix]} too: name each prefix once'
                continue
            seen[prefix] = path
            shorter = next((other for other in rule.prefixes if other != prefix and prefix.startswith(other)), None)
            if shorter is not None:
                yield path, f'"{prefix}" begins with "{shorter}" of the same rule, which covers it: leave it out'


def check_undeclared(config: Config) -> Iterator[Problem]:
    """Check that scripts without declared keys have a shard, if they are allowed and there are several shards."""
    kind, name = config.topology.kind, config.keyless_shard
    if kind == "cluster":
        if name is not None:
            yield (
                "keyless_shard",
                "has no effect in front of a Redis Cluster: its servers refuse keys of other servers to scripts "
                "themselves. Leave it out",
            )
        return
    names = config.sentinel.masters if kind == "sentinel" else tuple(shard.name for shard in config.shards)
    if config.undeclared_keys == "refuse":
        if name is not None:
            yield "keyless_shard", 'goes with undeclared_keys = "allow" only: without it, such scripts are refused'
    elif name is None:
        if len(names) > 1:
            yield (
                "keyless_shard",
                f"is missing: name the shard on which scripts without declared keys run ({', '.join(names)})",
            )
    elif name not in names:
        yield "keyless_shard", f'"{name}" is the name of no shard: there are {", ".join(names) or "none"}'


def repeated(names: Iterable[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the repeated names: (index of the first one, index of the repetition, name)."""
    seen: dict[str, int] = {}
    for position, name in enumerate(names):
        if seen.setdefault(name, position) != position:
            yield seen[name], position, name
