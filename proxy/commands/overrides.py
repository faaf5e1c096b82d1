"""The one reviewed table of what Redis's facts do not say, or say unfit for a proxy; each entry with its reason.

Everything else comes from the facts (``derive``). A name is a command ("sort"), a subcommand ("config|get"), any
container's subcommand of a name ("*|help"), or a container, which covers those of its subcommands that have no entry
and newer ones of the backends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from proxy.commands.facts import GetKeys, Handling
from proxy.commands.getkeys import georadius_keys, migrate_keys, sort_keys, sort_ro_keys, xread_keys


@dataclass(frozen=True, slots=True)
class Override:
    handling: Handling
    merge: str | None
    reason: str
    getkeys: GetKeys | None = None


def _same(handling: Handling, reason: str, *names: str) -> dict[str, Override]:
    return {name: Override(handling, None, reason) for name in names}


_KEYS = {
    "sort": Override(Handling.KEYED, None, "STORE's key spec is unknown; BY and GET are patterns", sort_keys),
    "sort_ro": Override(Handling.KEYED, None, "the spec of BY and GET is unknown: they are patterns", sort_ro_keys),
    "georadius": Override(Handling.KEYED, None, "of STORE and STOREDIST the last one counts", georadius_keys),
    "georadiusbymember": Override(Handling.KEYED, None, "of STORE and STOREDIST the last one counts", georadius_keys),
    "xread": Override(Handling.KEYED, None, "blocks with BLOCK only", xread_keys),
    "xreadgroup": Override(
        Handling.KEYED, None, "blocks with BLOCK only; GROUP's arguments may be named STREAMS", xread_keys
    ),
    "msetnx": Override(Handling.KEYED, None, "all keys or none: parts on several shards can not hold that"),
    "migrate": Override(Handling.REFUSED, None, "moves keys behind the slot map's back", migrate_keys),
}

_SESSION = {
    **_same(Handling.SESSION, "the connection's own state", "auth", "hello", "select", "reset", "quit", "client"),
    **_same(Handling.SESSION, "answered by the proxy, as it is the proxy that is alive", "ping", "echo"),
    **_same(Handling.SESSION, "the proxy shows itself as a primary", "role"),
    **_same(Handling.SESSION, "chooses replicas for this client", "readonly", "readwrite"),
    **_same(Handling.SESSION, "the clients of all workers", "slotgate|clients"),
    **_same(Handling.SESSION, "redirections are the proxy's work", "asking"),
    **_same(Handling.SESSION, "the proxy's own user", "acl|whoami"),
    **_same(
        Handling.SESSION,
        "the proxy shows itself as one server, or as owner of all slots",
        *(f"cluster|{name}" for name in ("info", "slots", "shards", "nodes", "links", "myid", "myshardid", "keyslot")),
        *(f"cluster|{name}" for name in ("count-failure-reports", "slot-stats", "replicas", "slaves")),
    ),
    **_same(Handling.SLOT, "a cluster's node knows the keys of a slot", "cluster|countkeysinslot"),
    **_same(Handling.SLOT, "a cluster's node knows the keys of a slot", "cluster|getkeysinslot"),
}

_OWN = {
    **_same(Handling.MODE, "the proxy's own: about itself and its servers", "slotgate", "slotgate|help"),
    **_same(Handling.MODE, "over connections to the primaries of its own", "client|tracking"),
    **_same(Handling.MODE, "goes ahead of the next command on its connection", "client|caching"),
    **_same(Handling.MODE, "shows what this worker's clients run; not what scripts run", "monitor"),
}

_ONE_FOR_ALL = "subscribed at the servers once for all clients of a worker"

_MODE = {
    **_same(Handling.MODE, "queued by the proxy until EXEC, then sent as one block", "multi", "exec", "discard"),
    **_same(Handling.MODE, "its keys are watched over a connection of its own", "watch", "unwatch"),
    **_same(Handling.MODE, _ONE_FOR_ALL, "subscribe", "psubscribe", "ssubscribe"),
    **_same(Handling.MODE, _ONE_FOR_ALL, "unsubscribe", "punsubscribe", "sunsubscribe"),
    **_same(Handling.MODE, "sent to one primary, that of its channel; all subscribers are counted", "publish"),
    **_same(Handling.MODE, "sent to the primary of its channel's slot; all subscribers are counted", "spublish"),
    **_same(Handling.MODE, "asks every shard that this client wrote to", "wait", "waitaof"),
}

_REFUSED = {
    **_same(Handling.REFUSED, "would swap databases under connections that clients share", "swapdb"),
    **_same(Handling.REFUSED, "sent between servers only: skips the check of slots", "restore-asking"),
    **_same(Handling.REFUSED, "sent between KeyDB servers only: carries writes, flagged readonly", "rreplay"),
    **_same(Handling.REFUSED, "HTTP, not Redis; Redis 6 and KeyDB close the connection on it", "post", "host:"),
    **_same(Handling.REFUSED, "takes over its connection", "script|debug"),
    **_same(Handling.REFUSED, "its cursor names slots of one cluster; SCAN goes over all shards", "clusterscan"),
    **_same(Handling.REFUSED, "would change the cluster behind the slot map's back", "cluster"),
    **_same(Handling.REFUSED, "the backends' users are not the proxy's", "acl"),
}

_ANY_SHARD = {
    **_same(Handling.ANY_SHARD, "a text that is the same on every server", "*|help", "acl|cat"),
    **_same(Handling.ANY_SHARD, "a server's own facts, as that server words them", "command"),
    **_same(Handling.ANY_SHARD, "only reads: what needs a module needs it on all shards", "module|list"),
    **_same(Handling.ANY_SHARD, "made by whoever is asked", "acl|genpass", "lolwut", "time"),
    **_same(Handling.ANY_SHARD, "libraries are loaded on all shards", "function|list", "function|dump"),
}

_AROUND = "a server that is busy with a script reads nothing from the connection that all share"

_MERGED = {
    "script|kill": Override(Handling.MODE, "one_ok", _AROUND),
    "function|kill": Override(Handling.MODE, "one_ok", _AROUND),
    "function|stats": Override(Handling.MODE, "running", _AROUND),
    "lastsave": Override(Handling.ALL_SHARDS, "min", "no policy; the time up to which every shard is saved"),
    "script|show": Override(Handling.ALL_SHARDS, "one_ok", "no policy; EVAL leaves a script on its own shard only"),
    "scan": Override(Handling.SPECIAL, "scan", "policy special: the cursor names the shard"),
    "randomkey": Override(Handling.SPECIAL, "randomkey", "one key, and null only if no shard has one"),
    "info": Override(Handling.SPECIAL, "info", "policy special: one document of all shards"),
    "config|get": Override(Handling.SPECIAL, "config_get", "no policy; only reads"),
    "pubsub|channels": Override(Handling.SPECIAL, "pubsub_channels", "no policy; those of all shards, each once"),
    "pubsub|shardchannels": Override(Handling.SPECIAL, "pubsub_channels", "no policy; those of all shards, each once"),
    "pubsub|numsub": Override(Handling.SPECIAL, "pubsub_numsub", "no policy; the proxy's own clients count each"),
    "pubsub|shardnumsub": Override(Handling.SPECIAL, "pubsub_numsub", "no policy; the proxy's own clients count each"),
    "pubsub|numpat": Override(Handling.SPECIAL, "pubsub_numpat", "no policy; each pattern once"),
    "slowlog|get": Override(Handling.SPECIAL, "slowlog", "newest first over all shards, no more than asked for"),
    "commandlog|get": Override(Handling.SPECIAL, "slowlog", "newest first over all shards, no more than asked for"),
    "slowlog|len": Override(Handling.ALL_NODES, "sum", "flagged admin, but only reads statistics"),
    "commandlog|len": Override(Handling.ALL_NODES, "sum", "flagged admin, but only reads statistics"),
    "slowlog|reset": Override(Handling.ALL_NODES, "all_ok", "flagged admin, but only clears statistics"),
    "commandlog|reset": Override(Handling.ALL_NODES, "all_ok", "flagged admin, but only clears statistics"),
    "latency|reset": Override(Handling.ALL_NODES, "sum", "flagged admin, but only clears statistics and counts them"),
    "latency|latest": Override(Handling.SPECIAL, "latency_latest", "policy special: one row an event"),
    "latency|history": Override(Handling.SPECIAL, "latency_history", "policy special: in order of time"),
    "latency|histogram": Override(Handling.SPECIAL, "latency_histogram", "policy special: counts are summed"),
    "latency|doctor": Override(Handling.SPECIAL, "text", "policy special: a text from each shard"),
    "latency|graph": Override(Handling.SPECIAL, "text", "policy special: a text from each shard"),
    "memory|doctor": Override(Handling.SPECIAL, "text", "policy special: a text from each shard"),
    "memory|malloc-stats": Override(Handling.SPECIAL, "text", "policy special: a text from each shard"),
    "memory|stats": Override(Handling.SPECIAL, "memory_stats", "policy special: bytes and counts are summed"),
}

OVERRIDES: Mapping[str, Override] = MappingProxyType(
    {**_KEYS, **_SESSION, **_OWN, **_MODE, **_REFUSED, **_ANY_SHARD, **_MERGED}
)

_OF_ONE_SERVER = "it changes what one server is to the others, which the proxy only follows"
_BETWEEN_SERVERS = "servers say it to each other"
_FOR_ALL = "it is for the servers' administrators, who reach all of them as a user with admin = true"

REFUSED_BECAUSE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("replicaof", "slaveof", "failover"), _OF_ONE_SERVER),
        **dict.fromkeys(("psync", "sync", "replconf"), _BETWEEN_SERVERS),
        **dict.fromkeys(("config", "debug", "bgsave", "bgrewriteaof", "save"), _FOR_ALL),
        "module": "what a server has loaded is its own affair",
        "shutdown": "it would stop a server that others use",
        **dict.fromkeys(("pfdebug", "pfselftest"), "for those who develop the server"),
    }
)
"""Why, of what the facts refuse; a container stands for its subcommands."""

_SETTINGS = "the servers' settings: all of them, replicas too"

FOR_ADMINS: Mapping[str, Override] = MappingProxyType(
    {
        "config|set": Override(Handling.ALL_NODES, "all_ok", _SETTINGS),
        "config|rewrite": Override(Handling.ALL_NODES, "all_ok", _SETTINGS),
        "config|resetstat": Override(Handling.ALL_NODES, "all_ok", "the servers' statistics: all of them"),
        "bgsave": Override(Handling.ALL_SHARDS, "all_ok", "no policy; every shard's data"),
        "bgrewriteaof": Override(Handling.ALL_SHARDS, "all_ok", "no policy; every shard's data"),
        "save": Override(Handling.ALL_SHARDS, "all_ok", "no policy; every shard's data"),
        "swapdb": Override(Handling.ALL_SHARDS, "all_ok", "no policy; the databases of every shard"),
        "module|list": Override(Handling.ANY_SHARD, None, "loaded on all servers, or commands fail on some"),
        "pfselftest": Override(Handling.ALL_SHARDS, "all_ok", "no policy; every shard tests itself"),
        "pfdebug": Override(Handling.KEYED, None, "flagged admin, but only looks at its key"),
        "debug": Override(Handling.ALL_SHARDS, "one_ok", "no policy; DEBUG OBJECT succeeds where its key is"),
    }
)
"""Commands that are refused, but for users with ``admin = true``: what becomes of them then."""

PRIVILEGED = frozenset({"monitor", "slotgate"})
"""Commands, and containers with their subcommands, that only users with ``admin = true`` may run at all."""

_METADATA = "the age and use of a key's value are kept by each server for itself"
_CURSOR = "hash seeds differ between servers: a cursor is good on one only"

PRIMARY_ONLY: Mapping[str, str] = MappingProxyType(
    {
        "touch": _METADATA,
        "object|encoding": "each server encodes a value for itself",
        "object|freq": _METADATA,
        "object|idletime": _METADATA,
        "object|refcount": "each server shares values for itself",
        "memory|usage": "each server allocates for itself",
        "scan": _CURSOR,
        "hscan": _CURSOR,
        "sscan": _CURSOR,
        "zscan": _CURSOR,
        "keydb.nhset": "writes, though KeyDB flags it readonly",
    }
)
"""Readonly commands that do not go to a replica, as their answer is the server's own (PRODUCT.md, section 3)."""

_STATE = "reads the server's own state; Redis flags such commands neither readonly nor write"

READS_ONLY: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("lastsave", "script|exists", "script|show", "slowlog|len", "commandlog|len"), _STATE)
)
"""Commands for all shards that change nothing though not flagged readonly. Special merges are all of that kind."""
