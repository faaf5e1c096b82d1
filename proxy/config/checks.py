"""Rules between several keys. Each check reads a Config with valid keys, and yields problems: (key path, words)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import combinations, groupby

from pydantic import SecretStr

from proxy.config.certificates import TLS_FILES, check_own, client_context
from proxy.config.key_checks import Problem, check_colocate, check_undeclared, repeated
from proxy.config.listener_checks import (
    asked,
    canonical,
    check_listeners,
    check_listeners_tls,
    check_listeners_users,
    check_proxied,
    servers,
)
from proxy.config.model import Config
from proxy.config.secret import PASSWORD_KEYS, Problems
from proxy.config.users import default_user
from proxy.config.values import format_range
from proxy.sharding.slots import SLOTS

_RATES = ("max_command_rate_per_user", "max_byte_rate_per_user")
LEAST_MEMORY = 96 << 20
"""The least memory of a worker, in bytes: it takes about half of it without any client."""
_TLS_KEYS = (*TLS_FILES, "tls_server_name", "tls_verify")


def check_kind(config: Config) -> Iterator[Problem]:
    """Check that the keys that the kind of topology needs are set, and that the keys it does not use are not set."""
    kind = config.topology.kind
    for path, named, its in (
        ("cluster.seeds", config.cluster.seeds, "cluster"),
        ("sentinel.sentinels", config.sentinel.sentinels, "sentinel"),
        ("sentinel.masters", config.sentinel.masters, "sentinel"),
        ("shards", config.shards, "static"),
    ):
        if named and kind != its:
            yield path, f'are named, but topology.kind is "{kind}": leave them out, or make it "{its}"'
    if kind == "cluster" and not config.cluster.seeds:
        yield "cluster.seeds", "are missing: name two or three nodes of the cluster, or use --cluster"
    if kind == "sentinel":
        if not config.sentinel.sentinels:
            yield "sentinel.sentinels", "are missing: name the sentinels, or use --sentinel"
        if not config.sentinel.masters:
            yield "sentinel.masters", "are missing: name the masters that are the shards, or use --masters"
    if kind != "static" and config.topology.discover_replicas:
        yield "topology.discover_replicas", f'is for "static" only: a {kind} topology always discovers them'
    if not config.topology.check_roles and (kind != "static" or config.topology.discover_replicas):
        yield "topology.check_roles", "is off, but where roles are discovered they are always checked: leave it out"


def check_asked(config: Config) -> Iterator[Problem]:
    """Check that the nodes and sentinels that are asked for the servers have network addresses, as the servers have."""
    for path, address in asked(config):
        if address.unix:
            yield path, f'{address} is a unix socket: write "host:port", which says where the other servers are too'


def check_masters(config: Config) -> Iterator[Problem]:
    """Check that each master is named once, by a name that sentinels allow."""
    for first, second, name in repeated(config.sentinel.masters):
        yield f"sentinel.masters[{second}]", f'"{name}" is sentinel.masters[{first}] too: name each master once'
    for index, name in enumerate(config.sentinel.masters):
        if not name or any(char.isspace() for char in name):
            yield f"sentinel.masters[{index}]", "is not a name of a master: sentinels take letters, digits and . - _"


def check_shards(config: Config) -> Iterator[Problem]:
    """Check that a static topology has shards."""
    others = config.cluster.seeds or config.sentinel.sentinels or config.sentinel.masters
    if config.topology.kind == "static" and not config.shards and not others:
        yield "shards", "there are none: name at least one primary under [[shards]], or with --static"


def check_backoff(config: Config) -> Iterator[Problem]:
    """Check that the first wait is not longer than the longest."""
    if config.backend.backoff_min > config.backend.backoff_max:
        yield "backend.backoff_min", "is longer than backoff_max: make it shorter, or backoff_max longer"


def check_output(config: Config) -> Iterator[Problem]:
    """Check that reading from a client stops before the client is closed."""
    if config.limits.output_soft > config.limits.output_hard:
        yield "limits.output_soft", "is larger than output_hard: make it smaller, or output_hard larger"


def check_pubsub_output(config: Config) -> Iterator[Problem]:
    """Check that the soft limit of subscribers' output is not above the hard limit."""
    if config.limits.pubsub_output_soft > config.limits.pubsub_output_hard:
        path = "limits.pubsub_output_soft"
        yield path, "is larger than pubsub_output_hard: make it smaller, or pubsub_output_hard larger"


def contradictions(config: Config) -> Iterator[str]:
    """Yield limits that ``limits.memory`` does not allow to be reached, in words: warnings, as the proxy works."""
    limits, share = config.limits, config.memory_share
    of_share = f"one worker's share of limits.memory ({share // 2**20} MB)"
    for key, size, so in (
        ("max_request_size", limits.max_request_size, "the client of a larger request than fits is closed"),
        ("output_hard", limits.output_hard, "a client for which so much waits is closed before"),
        ("output_memory", limits.output_memory, "clients are not read from, or closed, before"),
        ("max_reply", limits.max_reply, "the client of a larger reply than fits is closed"),
        ("script_memory", limits.script_memory, "scripts may take all of it"),
    ):
        if size > share:
            yield f"limits.{key} ({size // 2**20} MB) is more than {of_share}: {so}"


def check_memory(config: Config) -> Iterator[Problem]:
    """Check that each worker has memory to start with."""
    if config.limits.memory != "auto" and config.memory_share < LEAST_MEMORY:
        yield "limits.memory", f"is too small: each worker needs {LEAST_MEMORY // 2**20} MB"


def check_bulk(config: Config) -> Iterator[Problem]:
    """Check that one argument of the largest size fits into a request."""
    if config.limits.max_bulk > config.limits.max_request_size:
        yield "limits.max_bulk", "is larger than max_request_size, so it is never reached: make it smaller"


def check_logins(config: Config) -> Iterator[Problem]:
    """Check that each username for servers has a password, because Redis's AUTH takes no username without a
    password."""
    for name, section in ("backend", config.backend), ("sentinel", config.sentinel):
        if section.username is not None and section.password is None:
            yield f"{name}.username", "needs a password: set password, password_env or password_file beside it"


def check_tls(config: Config) -> Iterator[Problem]:
    """Check that the TLS files can be used, and that no TLS key is set while TLS is off."""
    backend = config.backend
    if not backend.tls and not config.sentinel.tls:
        for key in _TLS_KEYS:
            if getattr(backend, key) != type(backend).model_fields[key].default:
                yield f"backend.{key}", "has no effect without TLS: set tls = true beside it, or leave it out"
        return
    try:
        client_context(backend)
    except Problems as error:
        yield from ((f"backend.{key}", words) for key, words in error.problems)


def check_admin(config: Config) -> Iterator[Problem]:
    """Check that the certificate of the admin port can be used."""
    try:
        check_own(config.admin)
    except Problems as error:
        yield from ((f"admin.{key}", words) for key, words in error.problems)


def check_audit(config: Config) -> Iterator[Problem]:
    """Check that the audit log can be written, and that there are rules for it."""
    path, rules = config.audit.path, config.audit.rules
    if path is None:
        if rules:
            yield "audit.path", "is missing: name the file that what the rules record is written to"
        return
    if not rules:
        yield "audit.rules", "are missing, so nothing would be recorded: one of {} records everything"
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        yield "audit.path", f"is in the folder {folder}, which does not exist: make it, for the user of the proxy"
    elif os.path.isdir(path):
        yield "audit.path", f"{path} is a folder: name a file in it"
    elif not os.access(path if os.path.exists(path) else folder, os.W_OK):
        yield "audit.path", f"{path} can not be written by this user: change the rights of the file or its folder"


def check_users(config: Config) -> Iterator[Problem]:
    """Check that each user is named once."""
    for first, second, name in repeated(user.name for user in config.users):
        yield f"users[{second}].name", f'"{name}" is the name of users[{first}] too: name each user once'
    known: dict[str, tuple[int, SecretStr]] = {}
    for index, user in enumerate(config.users):
        if user.backend_user is not None and user.backend_password is not None:
            first, password = known.setdefault(user.backend_user, (index, user.backend_password))
            if password != user.backend_password:
                words = f'"{user.backend_user}" has another password in users[{first}]: give it one'
                yield f"users[{index}].backend_user", words
    if config.aclfile is not None and config.users != default_user(()):
        yield "aclfile", "is named beside [[users]]: have all users in one place"


def check_user_limits(config: Config) -> Iterator[Problem]:
    """Check that the limits of users can be reached, and have an effect."""
    limits = config.limits
    bounds = [("limits.max_clients_per_user", limits.max_clients_per_user)]
    bounds += [(f"users[{index}].max_clients", user.max_clients or 0) for index, user in enumerate(config.users)]
    for path, most in bounds:
        if most > limits.max_clients:
            yield path, "is larger than limits.max_clients, so it is never reached: make it smaller"
    for index, user in enumerate(config.users):
        rates = (
            limits.max_command_rate_per_user if user.max_command_rate is None else user.max_command_rate,
            limits.max_byte_rate_per_user if user.max_byte_rate is None else user.max_byte_rate,
        )
        if user.on_limit is not None and not any(rates):
            yield f"users[{index}].on_limit", "has no effect: set max_command_rate or max_byte_rate beside it"


def check_advertised(config: Config) -> Iterator[Problem]:
    """Check that the advertised addresses have an effect, and that cluster clients can connect to them."""
    if config.advertise and not config.presents_cluster:
        yield "advertise", 'has no effect: it is for present_as = "cluster", so set that beside it, or leave it out'
    for index, address in enumerate(config.advertise):
        if address.unix:
            yield (
                f"advertise[{index}]",
                f'{address} is a unix socket: write "host:port", as cluster clients connect to it',
            )
    for first, second, name in repeated(map(str, config.advertise)):
        yield f"advertise[{second}]", f"{name} is advertise[{first}] too: name each address once"
    if config.presents_cluster and not config.advertise and all(each.address.unix for each in config.listening):
        yield "advertise", 'is missing: with unix sockets only, cluster clients need a "host:port" to connect to'


def check_shard_names(config: Config) -> Iterator[Problem]:
    """Check that each shard has a name of its own."""
    for first, second, name in repeated(shard.name for shard in config.shards):
        yield f"shards[{second}].name", f'"{name}" is the name of shards[{first}] too: choose another'


def check_servers(config: Config) -> Iterator[Problem]:
    """Check that each server is named once, as primary or replica of one shard."""
    seen: dict[str, str] = {}
    for path, address in servers(config):
        key = str(canonical(address))
        if key in seen:
            yield path, f"{address} is {seen[key]} too: name each server once"
        else:
            seen[key] = path


def check_slots(config: Config) -> Iterator[Problem]:
    """Check that every slot belongs to exactly one shard."""
    named = [(index, shard.slots) for index, shard in enumerate(config.shards) if shard.slots is not None]
    if not named:
        if len(config.shards) > SLOTS:
            yield "shards", f"there are {len(config.shards)}, more than the {SLOTS} slots"
        return
    for index, shard in enumerate(config.shards):
        if shard.slots is None:
            yield (
                f"shards[{index}].slots",
                f'is missing on "{shard.name}": name the slots of every shard, or of none to divide them evenly',
            )
    owners: list[list[int]] = [[] for _ in range(SLOTS)]
    for index, ranges in named:
        for first, last in ranges:
            for slot in range(first, last + 1):
                owners[slot].append(index)
    yield from _overlaps(config, owners)
    if len(named) == len(config.shards):
        yield from _gaps(owners)


def _overlaps(config: Config, owners: list[list[int]]) -> Iterator[Problem]:
    shared: dict[tuple[int, int], list[int]] = {}
    for slot, indexes in enumerate(owners):
        for pair in combinations(indexes, 2):
            shared.setdefault(pair, []).append(slot)
    for (first, second), slots in sorted(shared.items()):
        other = f'shards[{first}] ("{config.shards[first].name}")'
        yield f"shards[{second}].slots", f"overlaps {other} in {_ranges(slots)}: each slot belongs to one shard"


def _gaps(owners: list[list[int]]) -> Iterator[Problem]:
    unowned = [slot for slot, indexes in enumerate(owners) if not indexes]
    if unowned:
        yield "shards", f"no shard has the slots {_ranges(unowned)}: add them to one"


def _ranges(slots: list[int]) -> str:
    """Return ascending slots as ranges. Within a range, slot minus position is constant."""
    runs = [[slot for _, slot in run] for _, run in groupby(enumerate(slots), lambda item: item[1] - item[0])]
    return ",".join(format_range(run[0], run[-1]) for run in runs)


Check = Callable[[Config], Iterator[Problem]]

CHECKS: tuple[tuple[Check, tuple[tuple[str, ...], ...]], ...] = (
    (
        check_kind,
        (("topology",), ("cluster", "seeds"), ("sentinel", "sentinels"), ("sentinel", "masters"), ("shards",)),
    ),
    (check_asked, (("cluster", "seeds"), ("sentinel", "sentinels"))),
    (check_masters, (("sentinel", "masters"),)),
    (
        check_shards,
        (("shards",), ("topology", "kind"), ("cluster", "seeds"), ("sentinel", "sentinels"), ("sentinel", "masters")),
    ),
    (
        check_listeners,
        (
            ("listen",),
            ("listeners",),
            ("admin",),
            ("shards", "primary"),
            ("shards", "replicas"),
            ("cluster", "seeds"),
            ("sentinel", "sentinels"),
        ),
    ),
    (check_shard_names, (("shards", "name"),)),
    (
        check_servers,
        (("shards", "primary"), ("shards", "replicas"), ("cluster", "seeds"), ("sentinel", "sentinels")),
    ),
    (check_slots, (("shards", "slots"),)),
    (check_colocate, (("colocate",), ("topology", "kind"))),
    (
        check_undeclared,
        (
            ("undeclared_keys",),
            ("keyless_shard",),
            ("topology", "kind"),
            ("sentinel", "masters"),
            ("shards", "name"),
        ),
    ),
    (check_backoff, (("backend", "backoff_min"), ("backend", "backoff_max"))),
    (
        check_logins,
        tuple((table, key) for table in ("backend", "sentinel") for key in ("username", *PASSWORD_KEYS)),
    ),
    (check_tls, (("sentinel", "tls"), *(("backend", key) for key in ("tls", *_TLS_KEYS)))),
    (check_admin, (("admin", "tls_cert_file"), ("admin", "tls_key_file"))),
    (check_output, (("limits", "output_soft"), ("limits", "output_hard"))),
    (check_pubsub_output, (("limits", "pubsub_output_soft"), ("limits", "pubsub_output_hard"))),
    (check_memory, (("limits", "memory"), ("workers",))),
    (check_bulk, (("limits", "max_bulk"), ("limits", "max_request_size"))),
    (check_audit, (("audit", "path"), ("audit", "rules"))),
    (check_users, (("users",), ("aclfile",))),
    (
        check_user_limits,
        (("users",), *(("limits", key) for key in ("max_clients", "max_clients_per_user", *_RATES))),
    ),
    (check_advertised, (("advertise",), ("present_as",), ("listen",), ("listeners",))),
    (check_listeners_tls, (("listeners",),)),
    (check_proxied, (("listeners",), ("trusted_proxies",))),
    (check_listeners_users, (("listeners",), ("users",), ("aclfile",), ("limits", "max_clients"))),
)
"""The checks, each with the keys that it reads: a check is skipped if one of its keys is invalid."""
