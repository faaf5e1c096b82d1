"""The reviewed table of corrections to Redis's facts that are missing or do not fit a proxy, each with its reason.

All other decisions come from the facts (``derive``). A name is a command ("sort"), a subcommand ("config|get"), a
subcommand of any container ("*|help"), or a container, which covers its subcommands without an entry and newer ones
that backends have. "ft.*" covers the commands of that module without an entry. The entries about modules are in
``modules``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from proxy.commands import modules
from proxy.commands.facts import Handling, Override, same
from proxy.commands.getkeys import georadius_keys, migrate_keys, sort_keys, sort_ro_keys, xread_keys

_KEYS = {
    "sort": Override(Handling.KEYED, None, "STORE's key spec is unknown; BY and GET take patterns", sort_keys),
    "sort_ro": Override(Handling.KEYED, None, "the spec of BY and GET is unknown; they take patterns", sort_ro_keys),
    "georadius": Override(Handling.KEYED, None, "the last of STORE and STOREDIST counts", georadius_keys),
    "georadiusbymember": Override(Handling.KEYED, None, "the last of STORE and STOREDIST counts", georadius_keys),
    "xread": Override(Handling.KEYED, None, "it blocks with BLOCK only", xread_keys),
    "xreadgroup": Override(
        Handling.KEYED, None, "it blocks with BLOCK only; GROUP's arguments may be named STREAMS", xread_keys
    ),
    "msetnx": Override(Handling.KEYED, None, "it sets all keys or none, which several shards can not guarantee"),
    "migrate": Override(Handling.REFUSED, None, "it moves keys without a change of the slot map", migrate_keys),
}

_SESSION = {
    **same(Handling.SESSION, "the client connection's state", "auth", "hello", "select", "reset", "quit", "client"),
    **same(Handling.SESSION, "it tests the connection to the proxy", "ping", "echo"),
    **same(Handling.SESSION, "the proxy presents itself as a primary", "role"),
    **same(Handling.SESSION, "the modules that every primary has, as in HELLO", "module|list"),
    **same(Handling.SESSION, "it allows reads from replicas for this client", "readonly", "readwrite"),
    **same(Handling.SESSION, "it lists the clients of all workers", "slotgate|clients"),
    **same(Handling.SESSION, "the proxy follows redirections itself", "asking"),
    **same(Handling.SESSION, "users are those of the proxy", "acl|whoami"),
    **same(
        Handling.SESSION,
        "the proxy's own users, in all workers",
        *(
            f"acl|{name}"
            for name in ("deluser", "dryrun", "getuser", "list", "load", "log", "save", "setuser", "users")
        ),
    ),
    **same(Handling.SESSION, "a random text", "acl|genpass"),
    **same(
        Handling.SESSION,
        "the proxy presents itself as one server, or as the owner of all slots",
        *(f"cluster|{name}" for name in ("info", "slots", "shards", "nodes", "links", "myid", "myshardid", "keyslot")),
        *(f"cluster|{name}" for name in ("count-failure-reports", "slot-stats", "replicas", "slaves")),
    ),
    **same(Handling.SLOT, "the slot's node knows the keys of the slot", "cluster|countkeysinslot"),
    **same(Handling.SLOT, "the slot's node knows the keys of the slot", "cluster|getkeysinslot"),
}

_OWN = {
    **same(Handling.MODE, "the proxy's own command, about itself and its servers", "slotgate", "slotgate|help"),
    **same(Handling.MODE, "the client gets dedicated connections to the primaries", "client|tracking"),
    **same(Handling.MODE, "sent in front of the client's next command, on the same connection", "client|caching"),
    **same(Handling.MODE, "it shows the commands of this worker's clients, without those in scripts", "monitor"),
}

_ONE_FOR_ALL = "a worker subscribes at the servers once for all its clients"

_MODE = {
    **same(Handling.MODE, "the proxy queues commands and sends them as one block", "multi", "exec", "discard"),
    **same(Handling.MODE, "the keys are watched over a dedicated connection", "watch", "unwatch"),
    **same(Handling.MODE, _ONE_FOR_ALL, "subscribe", "psubscribe", "ssubscribe"),
    **same(Handling.MODE, _ONE_FOR_ALL, "unsubscribe", "punsubscribe", "sunsubscribe"),
    **same(Handling.MODE, "sent to one primary, chosen by the channel; all subscribers are counted", "publish"),
    **same(Handling.MODE, "sent to the primary of the channel's slot; all subscribers are counted", "spublish"),
    **same(Handling.MODE, "sent to every shard that this client wrote to", "wait", "waitaof"),
}

_REFUSED = {
    **same(Handling.REFUSED, "it would swap databases for all clients that share a connection", "swapdb"),
    **same(Handling.REFUSED, "only servers send it; it skips the check of slots", "restore-asking"),
    **same(Handling.REFUSED, "only KeyDB servers send it; it carries writes, though it is flagged readonly", "rreplay"),
    **same(Handling.REFUSED, "it is HTTP, not Redis; Redis 6 and KeyDB close the connection", "post", "host:"),
    **same(Handling.REFUSED, "it takes over its connection", "script|debug"),
    **same(Handling.REFUSED, "its cursor names slots of one cluster; SCAN covers all shards", "clusterscan"),
    **same(Handling.REFUSED, "it would change the cluster, which the proxy only follows", "cluster"),
    **same(Handling.REFUSED, "the users of the backends are not those of the proxy", "acl"),
}

_ANY_SHARD = {
    **same(Handling.ANY_SHARD, "the text is the same on every server", "*|help", "acl|cat"),
    **same(Handling.ANY_SHARD, "the facts of one server, in that server's words", "command"),
    **same(Handling.ANY_SHARD, "any server can answer it", "lolwut", "time"),
    **same(Handling.ANY_SHARD, "libraries are loaded on all shards", "function|list", "function|dump"),
}

_AROUND = "a server that runs a script reads nothing from the shared connections"

_MERGED = {
    "script|kill": Override(Handling.MODE, "one_ok", _AROUND),
    "function|kill": Override(Handling.MODE, "one_ok", _AROUND),
    "function|stats": Override(Handling.MODE, "running", _AROUND),
    "lastsave": Override(Handling.ALL_SHARDS, "min", "no policy; the time up to which all shards are saved"),
    "script|show": Override(Handling.ALL_SHARDS, "one_ok", "no policy; EVAL stores a script on one shard only"),
    "scan": Override(Handling.SPECIAL, "scan", "policy special: the cursor names the shard"),
    "randomkey": Override(Handling.SPECIAL, "randomkey", "one key, or null if no shard has a key"),
    "info": Override(Handling.SPECIAL, "info", "policy special: one document of all shards"),
    "config|get": Override(Handling.SPECIAL, "config_get", "no policy; it only reads"),
    "pubsub|channels": Override(Handling.SPECIAL, "pubsub_channels", "no policy; the channels of all shards"),
    "pubsub|shardchannels": Override(Handling.SPECIAL, "pubsub_channels", "no policy; the channels of all shards"),
    "pubsub|numsub": Override(Handling.SPECIAL, "pubsub_numsub", "no policy; each client of the proxy counts"),
    "pubsub|shardnumsub": Override(Handling.SPECIAL, "pubsub_numsub", "no policy; each client of the proxy counts"),
    "pubsub|numpat": Override(Handling.SPECIAL, "pubsub_numpat", "no policy; each pattern once"),
    "slowlog|get": Override(Handling.SPECIAL, "slowlog", "the newest entries of all shards, as many as asked for"),
    "commandlog|get": Override(Handling.SPECIAL, "slowlog", "the newest entries of all shards, as many as asked for"),
    "slowlog|len": Override(Handling.ALL_NODES, "sum", "flagged admin, but it only reads statistics"),
    "commandlog|len": Override(Handling.ALL_NODES, "sum", "flagged admin, but it only reads statistics"),
    "slowlog|reset": Override(Handling.ALL_NODES, "all_ok", "flagged admin, but it only clears statistics"),
    "commandlog|reset": Override(Handling.ALL_NODES, "all_ok", "flagged admin, but it only clears statistics"),
    "latency|reset": Override(Handling.ALL_NODES, "sum", "flagged admin, but it only clears statistics"),
    "latency|latest": Override(Handling.SPECIAL, "latency_latest", "policy special: one row for each event"),
    "latency|history": Override(Handling.SPECIAL, "latency_history", "policy special: in order of time"),
    "latency|histogram": Override(Handling.SPECIAL, "latency_histogram", "policy special: counts are summed"),
    "latency|doctor": Override(Handling.SPECIAL, "text", "policy special: a text from each shard"),
    "latency|graph": Override(Handling.SPECIAL, "text", "policy special: a text from each shard"),
    "memory|doctor": Override(Handling.SPECIAL, "text", "policy special: a text from each shard"),
    "memory|malloc-stats": Override(Handling.SPECIAL, "text", "policy special: a text from each shard"),
    "memory|stats": Override(Handling.SPECIAL, "memory_stats", "policy special: bytes and counts are summed"),
}

OVERRIDES: Mapping[str, Override] = MappingProxyType(
    {**_KEYS, **_SESSION, **_OWN, **_MODE, **_REFUSED, **_ANY_SHARD, **_MERGED, **modules.OVERRIDES}
)

_OF_ONE_SERVER = "it changes the role of one server, which the proxy only follows"
_BETWEEN_SERVERS = "servers send it to each other"
_FOR_ALL = "it is for administrators of the servers, who may send it to all servers as a user with admin = true"

REFUSED_BECAUSE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("replicaof", "slaveof", "failover"), _OF_ONE_SERVER),
        **dict.fromkeys(("psync", "sync", "replconf"), _BETWEEN_SERVERS),
        **dict.fromkeys(("config", "debug", "bgsave", "bgrewriteaof", "save"), _FOR_ALL),
        "module": "modules are loaded on each server by itself",
        "shutdown": "it would stop a server that other clients use",
        **dict.fromkeys(("pfdebug", "pfselftest"), "it is for developers of the server"),
    }
)
"""The reasons for commands that are refused by their facts; a container stands for its subcommands."""

_SETTINGS = "the settings of all servers, replicas included"

FOR_ADMINS: Mapping[str, Override] = MappingProxyType(
    {
        "config|set": Override(Handling.ALL_NODES, "all_ok", _SETTINGS),
        "config|rewrite": Override(Handling.ALL_NODES, "all_ok", _SETTINGS),
        "config|resetstat": Override(Handling.ALL_NODES, "all_ok", "the statistics of all servers"),
        "bgsave": Override(Handling.ALL_SHARDS, "all_ok", "no policy; the data of every shard"),
        "bgrewriteaof": Override(Handling.ALL_SHARDS, "all_ok", "no policy; the data of every shard"),
        "save": Override(Handling.ALL_SHARDS, "all_ok", "no policy; the data of every shard"),
        "swapdb": Override(Handling.ALL_SHARDS, "all_ok", "no policy; the databases of every shard"),
        "pfselftest": Override(Handling.ALL_SHARDS, "all_ok", "no policy; every shard tests itself"),
        "pfdebug": Override(Handling.KEYED, None, "flagged admin, but it only reads its key"),
        "debug": Override(Handling.ALL_SHARDS, "one_ok", "no policy; DEBUG OBJECT succeeds on the key's shard"),
        **modules.FOR_ADMINS,
    }
)
"""The handling of refused commands for users with ``admin = true``; other users get the refusal."""

PRIVILEGED = frozenset({"monitor", "slotgate", "acl|setuser", "acl|deluser", "acl|load", "acl|save", "acl|log"})
"""Commands, and containers with their subcommands, that only users with ``admin = true`` may run."""

_METADATA = "each server keeps the age and use of a value for itself"
_CURSOR = "hash seeds differ between servers, so a cursor is valid on one server only"

PRIMARY_ONLY: Mapping[str, str] = MappingProxyType(
    {
        "touch": _METADATA,
        "object|encoding": "each server encodes a value in its own way",
        "object|freq": _METADATA,
        "object|idletime": _METADATA,
        "object|refcount": "each server shares values in its own way",
        "memory|usage": "each server allocates memory in its own way",
        "scan": _CURSOR,
        "hscan": _CURSOR,
        "sscan": _CURSOR,
        "zscan": _CURSOR,
        **modules.PRIMARY_ONLY,
    }
)
"""Readonly commands, and containers with their subcommands, that do not go to a replica, because each server answers
them differently (PRODUCT.md, section 3)."""

WRITES: Mapping[str, str] = MappingProxyType(
    {"keydb.nhset": "it writes, though KeyDB flags it readonly", **modules.WRITES},
)
"""Commands, and containers with their subcommands, that change data though they are flagged readonly."""

_STATE = "it reads the server's own state; Redis flags such commands neither readonly nor write"

READS_ONLY: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("lastsave", "script|exists", "script|show", "slowlog|len", "commandlog|len"), _STATE)
)
"""Commands for all shards that change nothing, though not flagged readonly. Commands with special merges are such
too."""
