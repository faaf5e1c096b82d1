"""The part of ``overrides`` about modules: facts that modules give wrongly, or that do not fit a proxy.

Most modules give COMMAND a first key, a last key and a step, whatever arguments their commands take. The overrides are
right for Redis Stack 7.4 and Redis 8 (JSON, search, time series, Bloom), for vector sets and for FalkorDB.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from proxy.commands.facts import (
    BeginIndex,
    Fact,
    FindRange,
    Handling,
    KeySpec,
    Override,
    same,
)
from proxy.commands.getkeys import merged_keys, no_keys

_SEARCH = "ft."
_WITNESS = "ft.search"

_TWO_KEYS = (KeySpec(BeginIndex(1), FindRange(1, 1, 0)),)
_ALL_BUT_LAST = (KeySpec(BeginIndex(1), FindRange(-2, 1, 0)),)

_KEYS = {
    "json.mget": Override(
        Handling.MULTI_SHARD, "mget", "COMMAND gives one key; all arguments but the path are keys", keys=_ALL_BUT_LAST
    ),
    "json.mset": Override(Handling.MULTI_SHARD, "all_ok", "no policy; split like MSET"),
    "ts.madd": Override(Handling.MULTI_SHARD, "mget", "no policy; each sample has a reply of its own"),
    **{
        name: Override(Handling.KEYED, None, "COMMAND does not give the second key", keys=_TWO_KEYS)
        for name in ("ts.createrule", "ts.deleterule")
    },
    **{
        name: Override(Handling.KEYED, None, "COMMAND does not give the keys of the sources", merged_keys)
        for name in ("cms.merge", "tdigest.merge")
    },
    **same(Handling.KEYED, "a suggestion dictionary is a key", "ft.sugadd", "ft.sugget", "ft.sugdel", "ft.suglen"),
}

_SERIES = "no policy; the series of all shards, each once, since a cluster's servers may answer for each other"

_INDEX = (
    "an index has the keys of its own server only, and there are several shards: search needs one shard, or a Redis "
    "Cluster of Redis 8, whose servers search together"
)
_LIBRARIES = "each server has libraries of its own, and there are several shards"
_GRAPH = "it concerns the queries of one server, and there are several shards"

_ALL = {
    "ft.*": Override(Handling.SINGLE_SHARD, None, _INDEX, no_keys),
    **{
        name: Override(Handling.SPECIAL, "series", _SERIES)
        for name in ("ts.mget", "ts.mrange", "ts.mrevrange", "ts.queryindex")
    },
    "graph.list": Override(Handling.ALL_SHARDS, "concat", "no policy; the graphs of all shards"),
    "graph.udf": Override(Handling.ALL_SHARDS, "all_ok", "no policy; libraries are loaded on all shards"),
    "graph.info": Override(Handling.SINGLE_SHARD, None, _GRAPH, no_keys),
    "graph.config": Override(Handling.SINGLE_SHARD, None, _GRAPH),
    **same(Handling.SINGLE_SHARD, _LIBRARIES, "tfunction", "tconfig_get", "tconfig_set"),
}

_BETWEEN = "servers send it to each other"
_DEVELOPERS = "it is for developers of the module"

_REFUSED = {
    **same(Handling.REFUSED, _BETWEEN, "_ft.*", "search.*", "timeseries.*", "redisgears_2.*", "_rg_internals.*"),
    **same(Handling.REFUSED, "a primary sends it to its replicas", "graph.effect", "graph.restore"),
    **same(Handling.REFUSED, "it would change the password of the proxy's own user", "graph.password"),
    **same(Handling.REFUSED, _DEVELOPERS, "ft.debug", "graph.debug"),
}

OVERRIDES: Mapping[str, Override] = {**_KEYS, **_ALL, **_REFUSED}

_SETTINGS = "the module's settings, on all servers, replicas included"

FOR_ADMINS: Mapping[str, Override] = {
    "ft.config": Override(Handling.ALL_NODES, "all_ok", _SETTINGS),
    "graph.config": Override(Handling.ALL_NODES, "all_ok", _SETTINGS),
}

_OWN_CURSOR = "a cursor is valid on one server only"
_OWN = "each server's answer differs"

PRIMARY_ONLY: Mapping[str, str] = {
    **dict.fromkeys(("ft.aggregate", "ft.cursor", "bf.scandump", "cf.scandump"), _OWN_CURSOR),
    **dict.fromkeys(("ft.info", "ft.profile", "graph.slowlog"), _OWN),
    **dict.fromkeys(("json.debug", "graph.memory"), "each server allocates memory in its own way"),
    "vlinks": "each server links its vectors in its own way",
}

_FLAGGED = "it changes data, though it is flagged readonly"

WRITES: Mapping[str, str] = dict.fromkeys(
    (
        *("ft.aliasadd", "ft.aliasdel", "ft.aliasupdate", "ft._aliasaddifnx", "ft._aliasdelifx"),
        *("ft.dictadd", "ft.dictdel", "ft.config", "graph.config", "cf.compact"),
    ),
    _FLAGGED,
)


def coordinate(facts: Collection[Fact]) -> list[Fact]:
    """The decided ``facts``, completed by what the servers of a cluster do for each other.

    With its coordinator, a part of Redis 8, the search module gives no key for FT.SEARCH: any node asks the others.
    Without the coordinator the module gives the index as a key, and searches that key's node only.
    """
    witness = next((fact for fact in facts if fact.name == _WITNESS), None)
    together = witness is not None and not any(spec.is_key for spec in witness.key_specs)
    return [_coordinated(fact, together) if fact.name.startswith(_SEARCH) else fact for fact in facts]


def _coordinated(fact: Fact, together: bool) -> Fact:
    subcommands = {name: _coordinated(sub, together) for name, sub in fact.subcommands.items()}
    return replace(fact, subcommands=subcommands, coordinated=together and fact.handling is Handling.SINGLE_SHARD)


def index_of(args: Sequence[bytes]) -> bytes:
    """The name of the index, which chooses the node that is asked, so that a cursor is read where it was opened."""
    at = 2 if args[0].lower() == b"ft.cursor" else 1
    return args[at] if at < len(args) else b""


def groups(args: Sequence[bytes]) -> bool:
    """Whether a TS.MRANGE or TS.MREVRANGE groups series (GROUPBY, behind FILTER)."""
    words = [arg.lower() for arg in args]
    return b"filter" in words and b"groupby" in words[words.index(b"filter") :]
