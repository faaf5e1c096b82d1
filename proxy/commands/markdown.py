"""The text of docs/commands.md, which ``slotgate commands --markdown`` prints: how the proxy handles each command."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.commands.facts import Fact, Handling
from proxy.commands.listing import callable_facts
from proxy.commands.table import CommandTable

_HEAD = """\
# How each command is handled

This page is made by `slotgate commands --markdown` from the table that the proxy uses: the facts in the `COMMAND`
replies of Redis and Valkey, and a few reviewed exceptions, whose reasons are given here. The proxy learns the commands
of modules, and commands newer than this list, from the servers when it starts, and handles them by their facts. The
list has the modules of Redis Stack 7.4, vector sets and FalkorDB; the exceptions hold for newer versions of them too.

A command that is not split is refused with `-CROSSSLOT` if its keys are in several slots. Commands inside MULTI are not
split: all keys of a transaction must be in one slot, and commands for every primary are refused. "May be read from a
replica" applies if `read_from` allows it. With one shard (and no Redis Cluster) no command is ever cross-slot.
Other differences from one Redis server are described in [differences.md](differences.md).

"""

_GROUPS = (
    ("Keys", "keyspace"),
    ("Strings", "string"),
    ("Bitmaps", "bitmap"),
    ("Hashes", "hash"),
    ("Lists", "list"),
    ("Sets", "set"),
    ("Sorted sets", "sortedset"),
    ("Streams", "stream"),
    ("Geo", "geo"),
    ("HyperLogLog", "hyperloglog"),
    ("Transactions", "transaction"),
    ("Scripts and functions", "scripting"),
    ("Publish and subscribe", "pubsub"),
    ("Connection", "connection"),
)
"""The sections by ACL category; a command is in the first section that fits."""
_MODULES = (
    ("JSON", ("json.",)),
    ("Search", ("ft.",)),
    ("Time series", ("ts.",)),
    ("Bloom filters and sketches", ("bf.", "cf.", "cms.", "topk.", "tdigest.")),
    ("Vector sets", ("v",)),
    ("Graphs", ("graph.",)),
)
"""The sections of the commands of modules, by the prefix of their names."""
_OF_MODULES = "Functions of modules, and commands between their servers"
_CLUSTER = "Cluster"
_OF_CLUSTER = frozenset({"asking", "cluster", "clusterscan", "readonly", "readwrite"})
_REST = "Server and the rest"
_TITLES = (*(title for title, _ in _GROUPS), _CLUSTER, _REST, *(title for title, _ in _MODULES), _OF_MODULES)

WAY_WORDS: Mapping[Handling, str] = {
    Handling.KEYED: "to its keys' shard",
    Handling.MULTI_SHARD: "split by its keys, and sent to their shards at the same time",
    Handling.ALL_SHARDS: "to every primary",
    Handling.ALL_NODES: "to every primary and replica",
    Handling.ANY_SHARD: "to one primary, always the same",
    Handling.SESSION: "answered by the proxy",
    Handling.SPECIAL: "to every primary",
    Handling.MODE: "carried out by the proxy",
    Handling.SLOT: "to the slot's shard",
    Handling.REFUSED: "refused with an error",
    Handling.SINGLE_SHARD: "to the shard if there is only one; refused with several",
    Handling.UNCOVERED: "to the shard if there is only one; refused with several, as no fact decides where it goes",
}

MERGE_WORDS: Mapping[str, str] = {
    "sum": "the replies are added up",
    "min": "the lowest reply",
    "max": "the highest reply",
    "all_ok": "OK if all succeed",
    "one_ok": "the first successful reply",
    "logical_and": "each element is true if it is true in all replies",
    "logical_or": "each element is true if it is true in one reply",
    "concat": "the replies are concatenated",
    "mget": "the values in the order of the keys",
    "running": "the reply of a shard that runs a script",
    "scan": "one shard at a time, which the cursor names",
    "randomkey": "a key of one of the shards",
    "info": "one document of all servers that answer, which names the missing ones",
    "config_get": "the settings of the first server, without passwords; the keyspace events that all servers send",
    "slowlog": "newest first",
    "latency_latest": "one row for each event",
    "latency_history": "in order of time",
    "latency_histogram": "the counts are added up",
    "text": "the texts, one below the other",
    "pubsub_channels": "each channel once",
    "pubsub_numsub": "for each channel, the proxy's own subscribers and the servers' other subscribers",
    "pubsub_numpat": "the patterns of the proxy's clients and of the servers' other clients",
    "memory_stats": "bytes and counts are added up",
    "series": "each series once, by name",
}


def render(table: CommandTable) -> str:
    """The whole document."""
    sections: dict[str, list[str]] = {title: [] for title in _TITLES}
    for top in table:
        for fact in callable_facts(top):
            sections[_section(top)].append(_row(fact))
    parts = (
        f"## {title}\n\n| command | what happens | why |\n|---|---|---|\n{''.join(rows)}"
        for title, rows in sections.items()
    )
    return _HEAD + "\n".join(parts)


def _section(top: Fact) -> str:
    if top.name in _OF_CLUSTER:
        return _CLUSTER
    if "module" in top.flags:
        return next((title for title, beginnings in _MODULES if top.name.startswith(beginnings)), _OF_MODULES)
    found = top.categories | {category for sub in top.subcommands.values() for category in sub.categories}
    return next((title for title, category in _GROUPS if category in found and not top.privileged), _REST)


def _row(fact: Fact) -> str:
    return f"| `{fact.name.replace('|', ' ').upper()}` | {_what(fact)} | {_cell(fact.reason)} |\n"


def _what(fact: Fact) -> str:
    words = _way(fact)
    if fact.handling in (Handling.KEYED, Handling.MULTI_SHARD) and fact.replica_ok:
        words += "; may be read from a replica"
    if fact.blocking and fact.handling is Handling.KEYED:
        words += "; a blocking call goes to the primary, over a dedicated connection"
    if fact.primary_only:
        words += "; read from the primary only"
    if fact.privileged:
        words += "; for users with `admin = true` only"
    if fact.for_admins is not None:
        words += f"; for users with `admin = true`: {_way(fact.for_admins)}"
    return words


def _way(fact: Fact) -> str:
    merge = MERGE_WORDS.get(fact.merge or "", "")
    return WAY_WORDS[fact.handling] + (f": {merge}" if merge else "")


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
