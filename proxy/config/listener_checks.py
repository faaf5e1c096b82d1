"""Rules between the keys of listeners, and between listeners and servers. Each check yields problems: (key path,
words)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import combinations

from proxy.config.certificates import server_context
from proxy.config.key_checks import Problem
from proxy.config.model import Config
from proxy.config.secret import Problems
from proxy.config.values import Address


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
    for path, server in servers(config):
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
        if each.proxy_auth == "certificate" and not each.proxy_protocol:
            yield f"listeners[{index}].proxy_auth", "has no effect: set proxy_protocol = true beside it"
        elif each.proxy_auth == "certificate" and each.tls is not None:
            yield (
                f"listeners[{index}].proxy_auth",
                "is for a balancer where the clients' TLS ends: with tls here, set auth under [listeners.tls]",
            )
        if each.proxy_protocol and not config.trusted_proxies:
            yield (
                f"listeners[{index}].proxy_protocol",
                "lets nobody in: name the balancers' networks in trusted_proxies",
            )
        elif each.proxy_protocol and each.address.unix and "unix" not in config.trusted_proxies:
            yield f"listeners[{index}].proxy_protocol", 'lets nobody in: name "unix" in trusted_proxies'


def asked(config: Config) -> Iterator[tuple[str, Address]]:
    """Yield the nodes and sentinels that are asked for the servers, each with its key."""
    for table, key, addresses in (
        ("cluster", "seeds", config.cluster.seeds),
        ("sentinel", "sentinels", config.sentinel.sentinels),
    ):
        for index, address in enumerate(addresses):
            yield f"{table}.{key}[{index}]", address


def servers(config: Config) -> Iterator[tuple[str, Address]]:
    """Yield all servers that the configuration names, each with its key."""
    yield from asked(config)
    for index, shard in enumerate(config.shards):
        yield f"shards[{index}].primary", shard.primary
        for position, replica in enumerate(shard.replicas):
            yield f"shards[{index}].replicas[{position}]", replica


def canonical(address: Address) -> Address:
    """Return the address under which two spellings of it are equal."""
    return Address("127.0.0.1", address.port) if address.host == "localhost" else address


def _same_place(listener: Address, other: Address) -> bool:
    """Whether ``listener`` is reached at ``other``, as far as this can be decided without a name server."""
    if listener.unix or other.unix:
        return listener == other
    if listener.port != other.port:
        return False
    one, two = canonical(listener).host, canonical(other).host
    return one == two or (one in _ANY and _is_local(two)) or (two in _ANY and _is_local(one))


_ANY = ("0.0.0.0", "::")


def _is_local(host: str) -> bool:
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return False
    return parsed.is_loopback or parsed.is_unspecified
