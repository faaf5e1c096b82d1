"""Merges INFO and CONFIG GET of several servers into the reply that one server with all keys would give.

Sources: https://redis.io/docs/latest/commands/info/ and https://redis.io/docs/latest/commands/config-get/
"""

from collections.abc import Callable, Mapping, Sequence, Set
from itertools import chain

from proxy import errors
from proxy.engine.jobs import MORE, Job, at_once
from proxy.planning.merge_context import Context
from proxy.planning.scatter import Scatter, Uncounted
from proxy.resp import encode
from proxy.resp.info import Section, parse, parsing, write
from proxy.resp.replies import element_steps, string_of

_STEP = 16
"""The number of fields or settings after which a job may be interrupted."""
_LINES = 100
"""The number of lines that are written in one step."""
_FEW = 4
"""The number of lines of numbers after which a job may be interrupted."""
_ERROR = ord("-")
_DOWN = (b"-SHARDDOWN", b"-TIMEOUT", b"-UNCERTAIN", b"-LOADING", b"-CLUSTERDOWN")
"""The beginnings of the errors of shards that can not be asked now."""

_SUMMED_SECTIONS = frozenset({"Stats", "Memory", "Clients", "CPU", "Persistence"})
_NOT_SUMMED = frozenset(
    {
        "aof_enabled",
        "async_loading",
        "maxclients",
        "number_of_cached_scripts",
        "number_of_functions",
        "number_of_libraries",
        "total_system_memory",
        "mem_fragmentation_ratio",
        "pubsub_channels",
        "pubsub_patterns",
        "pubsubshard_channels",
        "rdb_last_save_time",
        "tracking_clients",
        "tracking_total_prefixes",
    }
)
"""Fields of which the largest value is given: settings, facts about the machine, states, points in time, and numbers
that are the same on every shard, such as tracking clients, which have a connection to each."""
_FIXED = {
    "redis_mode": "standalone",
    "server_mode": "standalone",
    "role": "master",
    "cluster_enabled": "0",
}
"""Fields that describe the proxy, whatever its backends are."""
_LOWEST = frozenset({"redis_version", "valkey_version", "uptime_in_seconds", "uptime_in_days", "connected_slaves"})
_HIGHEST = frozenset({"loading"})
_REPLICATION_KEPT = frozenset(
    {"role", "connected_slaves", "master_failover_state", "master_replid", "master_repl_offset"}
)
_LOADING = "LOADING"
"""The beginning of the error of a server that loads its data from disk."""
_WHOLE = ("default", "all", "everything")
_TABLES = frozenset({"Keyspace", "Commandstats", "Errorstats", "Latencystats"})
_SECRETS = frozenset({b"requirepass", b"masterauth", b"primaryauth", b"tls-key-file-pass", b"tls-client-key-file-pass"})
_OF_EACH = frozenset(
    (
        *(b"port", b"tls-port", b"bind", b"bind-source-addr", b"unixsocket", b"maxclients", b"cluster-config-file"),
        *(b"dir", b"dbfilename", b"appendfilename", b"appenddirname", b"logfile", b"pidfile", b"aclfile"),
        *(b"replicaof", b"slaveof", b"syslog-ident", b"oom-score-adj-values", b"primaryuser", b"masteruser"),
        *(b"tls-cert-file", b"tls-key-file", b"tls-client-cert-file", b"tls-client-key-file"),
    )
)
"""Settings that may differ between servers."""
_ANNOUNCED = (b"cluster-announce-", b"replica-announce-", b"slave-announce-")
_EVENTS = b"notify-keyspace-events"
_EVENT_CLASSES = "g$lshzxetdn"
_ALL_EVENTS = frozenset("g$lshzxetd")
_EVENT_PLACES = "KEm"

Settings = Mapping[bytes, bytes]
"""The settings of one server, from CONFIG GET."""


def info(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
    """The merged INFO of the shards that answer; one field says why the others do not."""
    failed = [reply for reply in replies if reply[0] == _ERROR]
    answered = [at for at, reply in enumerate(replies) if reply[0] != _ERROR]
    sections = {option.decode("latin-1").lower() for option in plan.options}
    if not answered and not all(reply.startswith(_DOWN) for reply in failed):
        return failed[0]
    documents = [string_of(replies[at]).decode("utf-8", "replace") for at in answered]
    for number, at in enumerate(answered):
        if isinstance(plan.parts[at], Uncounted):
            documents[number] = without_keys(documents[number])
    why = [*(errors.text(reply[1:-2]) for reply in failed), context.unserved()]
    missing = "; ".join(words.removesuffix(". The command was not executed") for words in why if words)
    if not documents:
        documents = [only(bare(context.version()), sections)]
    of_lowest = context.servers.oldest() if context.servers is not None else frozenset()
    oldest = {number for number, at in enumerate(answered) if plan.parts[at].shard in of_lowest}
    merged = yield from merging(documents, context.overlay(plan.way.cluster), sections, oldest=oldest, missing=missing)
    return encode.verbatim(merged, 3 if answered and replies[answered[0]][:1] == b"=" else 2)


def config_get(plan: Scatter, replies: Sequence[bytes], context: Context) -> Job[bytes]:
    """The settings of the first shard that answers, those that only other shards have, and the keyspace events that all
    of them send. Settings that differ are logged. ``maxclients`` is the proxy's own."""
    answered = [at for at, reply in enumerate(replies) if reply[0] != _ERROR]
    if not answered:
        return replies[0]
    found: list[dict[bytes, bytes]] = []
    for at in answered:
        settings: dict[bytes, bytes] = {}
        for some in element_steps(replies[at], 2 * _STEP):
            texts = list(map(string_of, some))
            settings.update(zip(texts[::2], texts[1::2], strict=True))
            yield MORE
        found.append(settings)
    merged, differing = yield from common_settings(found)
    if context.servers is not None:
        for name in differing:
            values = [
                (context.servers.name(plan.parts[at].shard), errors.text(settings[name]))
                for at, settings in zip(answered, found, strict=True)
                if name in settings
            ]
            context.servers.differ(errors.text(name), values)
    if b"maxclients" in merged:
        merged[b"maxclients"] = context.overlay(plan.way.cluster)["Clients"]["maxclients"].encode()
    pairs = {encode.bulk(name): encode.bulk(value) for name, value in merged.items()}
    return encode.mapping(pairs, 3 if replies[answered[0]][:1] == b"%" else 2)


def merge(
    documents: Sequence[str],
    overlay: Mapping[str, Mapping[str, str]],
    asked: Set[str],
    *,
    oldest: Set[int] = frozenset(),
    missing: str = "",
) -> str:
    """The result of ``merging``, without a pause."""
    return at_once(merging(documents, overlay, asked, oldest=oldest, missing=missing))


def merging(
    documents: Sequence[str],
    overlay: Mapping[str, Mapping[str, str]],
    asked: Set[str],
    *,
    oldest: Set[int] = frozenset(),
    missing: str = "",
) -> Job[str]:
    """One document from the ``documents`` of several shards; fields in ``overlay`` replace those of their sections.

    A section of the overlay that no document has is added if it is in ``asked`` (lower case; empty means all).
    ``oldest`` are the indexes of the documents whose fields are used; empty means all documents. ``missing`` says why
    other documents are missing, and is always added.
    """
    parsed: list[dict[str, Section]] = []
    for document in documents:
        parsed.append({})
        for _ in parsing(document, parsed[-1]):
            yield MORE
    merged: dict[str, Section] = {}
    for name in dict.fromkeys(name for sections in parsed for name in sections):
        merged[name] = yield from _section(
            name,
            [sections[name] for sections in parsed if name in sections],
            [parsed[at][name] for at in oldest if at < len(parsed) and name in parsed[at]],
        )
        yield MORE
    for name, fields in overlay.items():
        if name in merged:
            merged[name].update(fields)
        elif not asked or asked & {name.lower(), *_WHOLE}:
            merged[name] = dict(fields)
    server = merged.get("Server", {})
    if "server_mode" in server and "redis_mode" in server:
        server["server_mode"] = server["redis_mode"]  # server_mode is Valkey's name of the field
    if missing:
        if _LOADING in missing and "Persistence" in merged:
            merged["Persistence"]["loading"] = "1"
        merged.setdefault("Slotgate", {})["slotgate_missing"] = missing
    return (yield from _writing(merged))


def _writing(document: Mapping[str, Section]) -> Job[str]:
    """The text of ``document``, as ``write`` makes it."""
    texts: list[str] = []
    for name, fields in document.items():
        names = list(fields)
        for at in range(0, max(len(names), 1), _LINES):
            some = {field: fields[field] for field in names[at : at + _LINES]}
            text = write({name: some})
            texts.append(text if at == 0 else text[len(name) + 4 :])
            yield MORE
        texts.append("\r\n")
    return "".join(texts[:-1])


def without_keys(document: str) -> str:
    """The document of a shard with no keys."""
    sections = parse(document)
    if "Keyspace" in sections:
        sections["Keyspace"] = {}
    return write(sections)


def bare(version: str) -> str:
    """The document of a server of which only the version is known, for when no shard can be reached."""
    return write(
        {
            "Server": {"redis_version": version, "redis_mode": "standalone", "arch_bits": "64"},
            "Clients": {},
            "Persistence": {"loading": "0"},
            "Replication": {"role": "master", "connected_slaves": "0"},
            "Cluster": {},
            "Keyspace": {},
        }
    )


def only(document: str, asked: Set[str]) -> str:
    """The ``asked`` sections of a document (lower case; empty means all)."""
    if not asked or asked & {*_WHOLE}:
        return document
    return write({name: fields for name, fields in parse(document).items() if name.lower() in asked})


def _section(name: str, parts: Sequence[Section], oldest: Sequence[Section]) -> Job[Section]:
    if name in _TABLES:
        return (yield from _table(name, parts))
    fields: Section = {}
    for at, field in enumerate(dict.fromkeys(chain(*(oldest or parts)))):
        values = [part[field] for part in parts if field in part]
        if not at % _STEP:
            yield MORE
        if name == "Replication" and field not in _REPLICATION_KEPT:
            continue
        fields[field] = _FIXED[field] if field in _FIXED else _value(name, field, values)
    for at, field in enumerate(fields):
        if not at % (8 * _STEP):
            yield MORE
        if field.endswith("_human") and field[:-6] in fields and fields[field[:-6]].isdigit():
            fields[field] = human(int(fields[field[:-6]]))
    return fields


def _value(section: str, field: str, values: Sequence[str]) -> str:
    if field in _LOWEST:
        return min(values, key=_version)
    if field in _HIGHEST:
        return max(values, key=_version)
    if section not in _SUMMED_SECTIONS:
        return values[0]
    numbers = [_number(value) for value in values]
    if None in numbers:
        return values[0]
    known = [number for number in numbers if number is not None]
    highest = field in _NOT_SUMMED or field.endswith(("_ratio", "_perc")) or min(known) < 0
    total = max(known) if highest else sum(known)
    if isinstance(total, int):
        return str(total)
    return f"{total:.{len(values[0].partition('.')[2])}f}"


def _table(name: str, parts: Sequence[Section]) -> Job[Section]:
    """Adds up lines of the form ``db0:keys=1,expires=0,avg_ttl=0``, column by column."""
    if name == "Latencystats":
        # Percentiles can not be added up: for a command that several shards have run, the first shard's are given.
        return {field: value for part in reversed(parts) for field, value in part.items()}
    lines: dict[str, list[dict[str, float]]] = {}
    for part in parts:
        for at, (field, value) in enumerate(part.items()):
            pairs = (item.partition("=") for item in value.split(","))
            lines.setdefault(field, []).append({key: float(number) for key, _, number in pairs})
            if not at % _FEW:
                yield MORE
    table: Section = {}
    for at, field in enumerate(sorted(lines)):
        table[field] = _row(lines[field])
        if not at % _FEW:
            yield MORE
    return table


def _row(rows: Sequence[Mapping[str, float]]) -> str:
    columns = {column: sum(row.get(column, 0) for row in rows) for column in rows[0]}
    if "avg_ttl" in columns:
        expires = columns.get("expires", 0)
        weighted = sum(row["avg_ttl"] * row.get("expires", 0) for row in rows if "avg_ttl" in row)
        columns["avg_ttl"] = int(weighted / expires) if expires else 0
    if "usec_per_call" in columns and columns.get("calls"):
        columns["usec_per_call"] = columns["usec"] / columns["calls"]
    return ",".join(
        f"{column}={value:.2f}" if column == "usec_per_call" else f"{column}={int(value)}"
        for column, value in columns.items()
    )


def _number(value: str) -> int | float | None:
    for kind in (int, float):
        converter: Callable[[str], int | float] = kind
        try:
            return converter(value)
        except ValueError:
            continue
    return None


def _version(value: str) -> tuple[int, ...]:
    return tuple(int(part) for part in value.split(".") if part.isdigit())


def human(size: int) -> str:
    """A size in bytes as Redis writes it for people, such as ``1.02M``."""
    value = float(size)
    for unit in "BKMGTP":
        if value < 1024 or unit == "P":
            break
        value /= 1024
    return f"{size}B" if unit == "B" else f"{value:.2f}{unit}"


def common_settings(servers: Sequence[Settings]) -> Job[tuple[dict[bytes, bytes], list[bytes]]]:
    """The settings of the first of ``servers``, then those that only others have, with empty passwords; and the names
    of the settings that differ though they should be the same."""
    merged: dict[bytes, bytes] = {}
    differing = []
    for server in reversed(servers):
        merged |= server
    merged = {name: merged[name] for name in chain(*servers)}
    for at, name in enumerate(merged):
        if not at % _STEP:
            yield MORE
        key = name.lower()
        values = {server[name] for server in servers if name in server}
        if key in _SECRETS:
            merged[name] = b""
        elif len(values) > 1 and key not in _OF_EACH and not key.startswith(_ANNOUNCED):
            differing.append(name)
            if key == _EVENTS:
                merged[name] = common_events([value.decode("latin-1") for value in values]).encode()
    return merged, differing


def common_events(settings: Sequence[str]) -> str:
    """The keyspace events that all servers send, as Redis writes the setting:
    https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/"""
    sets = [set(setting.replace("A", "".join(sorted(_ALL_EVENTS)))) for setting in settings]
    shared = set.intersection(*sets) if sets else set()
    every = shared >= _ALL_EVENTS
    classes = "A" if every else "".join(letter for letter in _EVENT_CLASSES if letter in shared)
    # Redis itself leaves the class n out if it writes A (keyspaceEventsFlagsToString).
    return classes + "".join(letter for letter in _EVENT_PLACES if letter in shared)
