"""Rules between several keys. Each check reads a Config with valid keys, and yields problems: (key path, words)."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator
from itertools import combinations, groupby

from proxy.config.certificates import TLS_FILES, check_own, client_context, server_context
from proxy.config.key_checks import Problem, check_colocate, check_undeclared, repeated
from proxy.config.model import Config
from proxy.config.secret import PASSWORD_KEYS, Problems
from proxy.config.users import default_user
from proxy.config.values import Address, format_range
from proxy.sharding.slots import SLOTS

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
    for path, address in _asked(config):
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
    if config.aclfile is not None and config.users != default_user(()):
        yield "aclfile", "is named beside [[users]]: have all users in one place"


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
    for path, address in _servers(config):
        key = str(_canonical(address))
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


def check_listeners(config: Config) -> Iterator[Problem]:
    """Check that no listener uses another listener's address, or a server's: the proxy would connect to itself."""
    short = len(config.listening) - len(config.listeners)
    listeners = [
        (f"listen[{index}]" if index < short else f"listeners[{index - short}].address", each.address)
        for index, each in enumerate(config.listening)
    ]
    if not listeners:
        yield "listen", 'names no address: write at least one, as in ["127.0.0.1:6380"]'
    if config.admin.address is not None:
        listeners.append(("admin", config.admin.address))
    for (first, one), (second, other) in combinations(listeners, 2):
        if not one.chosen_by_system and _same_place(one, other):
            yield second, f"{other} is taken by {first}: choose another port"
    for path, server in _servers(config):
        for name, listener in listeners:
            if _same_place(listener, server):
                yield path, f"{server} is the proxy itself ({name}): name the server's own address"


def check_listeners_tls(config: Config) -> Iterator[Problem]:
    """Check that the certificates of the listeners can be used, and that TLS is not asked for on a unix socket."""
    for index, each in enumerate(config.listeners):
        if each.tls is None:
            continue
        if each.address.unix:
            yield f"listeners[{index}].tls", "has no use on a unix socket, which nobody can listen in on: leave it out"
        try:
            server_context(each.tls)
        except Problems as error:
            yield from ((f"listeners[{index}].tls.{key}", words) for key, words in error.problems)


def check_listeners_users(config: Config) -> Iterator[Problem]:
    """Check that the users of a listener exist, and that its limit of clients has an effect."""
    known = {user.name for user in config.users}
    for index, each in enumerate(config.listeners):
        if each.users is not None and not each.users:
            yield f"listeners[{index}].users", "is empty, so that nobody could log in: name users, or leave it out"
        if config.aclfile is None:
            for name in each.users or ():
                if name not in known:
                    yield f"listeners[{index}].users", f'names "{name}", which is no user: add it under [[users]]'
        if each.max_clients is not None and each.max_clients > config.limits.max_clients:
            yield (
                f"listeners[{index}].max_clients",
                f"has no effect: all listeners together have limits.max_clients = {config.limits.max_clients}",
            )


def check_proxied(config: Config) -> Iterator[Problem]:
    """Check that the balancers of listeners with the PROXY protocol are named, and that no setting of it is in vain."""
    if config.trusted_proxies and not any(each.proxy_protocol for each in config.listeners):
        yield "trusted_proxies", "has no effect: no listener has proxy_protocol = true, so set that, or leave it out"
    for index, each in enumerate(config.listeners):
        if each.proxy_protocol and not config.trusted_proxies:
            yield (
                f"listeners[{index}].proxy_protocol",
                "lets nobody in: name the balancers' networks in trusted_proxies",
            )
        elif each.proxy_protocol and each.address.unix and "unix" not in config.trusted_proxies:
            yield f"listeners[{index}].proxy_protocol", 'lets nobody in: name "unix" in trusted_proxies'


def _asked(config: Config) -> Iterator[tuple[str, Address]]:
    for table, key, addresses in (
        ("cluster", "seeds", config.cluster.seeds),
        ("sentinel", "sentinels", config.sentinel.sentinels),
    ):
        for index, address in enumerate(addresses):
            yield f"{table}.{key}[{index}]", address


def _servers(config: Config) -> Iterator[tuple[str, Address]]:
    yield from _asked(config)
    for index, shard in enumerate(config.shards):
        yield f"shards[{index}].primary", shard.primary
        for position, replica in enumerate(shard.replicas):
            yield f"shards[{index}].replicas[{position}]", replica


def _canonical(address: Address) -> Address:
    return Address("127.0.0.1", address.port) if address.host == "localhost" else address


def _same_place(listener: Address, other: Address) -> bool:
    """Whether ``listener`` is reached at ``other``, as far as this can be decided without a name server."""
    if listener.unix or other.unix:
        return listener == other
    if listener.port != other.port:
        return False
    one, two = _canonical(listener).host, _canonical(other).host
    return one == two or (one in _ANY and _is_local(two)) or (two in _ANY and _is_local(one))


_ANY = ("0.0.0.0", "::")


def _is_local(host: str) -> bool:
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return False
    return parsed.is_loopback or parsed.is_unspecified


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
    (check_bulk, (("limits", "max_bulk"), ("limits", "max_request_size"))),
    (check_audit, (("audit", "path"), ("audit", "rules"))),
    (check_users, (("users",), ("aclfile",))),
    (check_advertised, (("advertise",), ("present_as",), ("listen",), ("listeners",))),
    (check_listeners_tls, (("listeners",),)),
    (check_proxied, (("listeners",), ("trusted_proxies",))),
    (check_listeners_users, (("listeners",), ("users",), ("aclfile",), ("limits", "max_clients"))),
)
"""The checks, each with the keys that it reads: a check is skipped if one of its keys is invalid."""
