"""docs/commands.md: for every command what happens, as ``slotgate commands --markdown`` prints it."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.commands.facts import Fact, Handling
from proxy.commands.listing import callable_facts
from proxy.commands.table import CommandTable

_HEAD = """\
# What each command gets

Made by `slotgate commands --markdown`, from the table that the proxy itself goes by: the facts that Redis's and
Valkey's own `COMMAND` gives, and a few reviewed exceptions, which carry their reason here. Commands of modules, and
ones that are newer than this list, are learned from the servers when the proxy starts, and treated as their facts say.
Of modules this list has what Redis Stack 7.4, vector sets and FalkorDB give; the exceptions hold for newer ones too.

Keys in several slots are refused with `-CROSSSLOT` where a command is not split. Inside of MULTI nothing is split: all
keys of a transaction are in one slot, and what goes to every primary is refused. "May be read from a replica" holds
where `read_from` allows it. With one shard (and no Redis Cluster) all keys are together: nothing is ever cross-slot.
What else differs from one Redis server is in [differences.md](differences.md).

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
"""Sections by the ACL category; a command is in the first that fits."""
_MODULES = (
    ("JSON", ("json.",)),
    ("Search", ("ft.",)),
    ("Time series", ("ts.",)),
    ("Bloom filters and sketches", ("bf.", "cf.", "cms.", "topk.", "tdigest.")),
    ("Vector sets", ("v",)),
    ("Graphs", ("graph.",)),
)
"""Sections of what modules add, by how the names begin."""
_OF_MODULES = "Modules' functions, and what they say among themselves"
_CLUSTER = "Cluster"
_OF_CLUSTER = frozenset({"asking", "cluster", "clusterscan", "readonly", "readwrite"})
_REST = "Server and the rest"
_TITLES = (*(title for title, _ in _GROUPS), _CLUSTER, _REST, *(title for title, _ in _MODULES), _OF_MODULES)

WAY_WORDS: Mapping[Handling, str] = {
    Handling.KEYED: "to its keys' shard",
    Handling.MULTI_SHARD: "split by its keys, sent to their shards at once",
    Handling.ALL_SHARDS: "to every primary",
    Handling.ALL_NODES: "to every primary and replica",
    Handling.ANY_SHARD: "to one primary, always the same",
    Handling.SESSION: "answered by the proxy",
    Handling.SPECIAL: "to every primary",
    Handling.MODE: "carried out by the proxy",
    Handling.SLOT: "to the slot's shard",
    Handling.REFUSED: "refused with an error",
    Handling.SINGLE_SHARD: "to the shard if there is one only; with several, refused",
    Handling.UNCOVERED: "to the shard if there is one only; with several, refused: no fact says where it goes",
}

MERGE_WORDS: Mapping[str, str] = {
    "sum": "the answers added up",
    "min": "the lowest answer",
    "max": "the highest answer",
    "all_ok": "OK when all succeed",
    "one_ok": "what the first to succeed answers",
    "logical_and": "true where all say so",
    "logical_or": "true where one says so",
    "concat": "the answers joined",
    "mget": "values in the order asked",
    "running": "that of a shard that runs something",
    "scan": "one shard at a time, which the cursor names",
    "randomkey": "a key of one of them",
    "info": "one document of all that answer, with what is missing",
    "config_get": "the first one's settings, passwords left out; of keyspace events what all of them send",
    "slowlog": "newest first",
    "latency_latest": "one row an event",
    "latency_history": "in order of time",
    "latency_histogram": "counts added up",
    "text": "one text below the other",
    "pubsub_channels": "each channel once",
    "pubsub_numsub": "by channel: subscribers that this proxy has, and others at the servers",
    "pubsub_numpat": "patterns, of this proxy and of others at the servers",
    "memory_stats": "bytes and counts added up",
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
        words += "; while it blocks, over a connection that its client has for itself, from the primary"
    if fact.primary_only:
        words += "; read from the primary only"
    if fact.privileged:
        words += "; for users with `admin = true` only"
    if fact.for_admins is not None:
        words += f"; of users with `admin = true`: {_way(fact.for_admins)}"
    return words


def _way(fact: Fact) -> str:
    merge = MERGE_WORDS.get(fact.merge or "", "")
    return WAY_WORDS[fact.handling] + (f": {merge}" if merge else "")


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
