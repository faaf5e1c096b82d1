"""The settings of servers that could shut the proxy out. No I/O.

CONFIG SET goes to every server at once, over open connections. The servers would carry it out, and then refuse every
new connection of the proxy, so that nobody could take the setting back through the proxy.
Source: the redis.conf of Redis 6.2 to 8.2 and the valkey.conf of Valkey 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

_PASSWORD = (
    "A server that has a password takes a second one (SLOTGATE SEND <node> ACL SETUSER <user> ><new>): add it at each "
    "server, restart the proxy with the new one as backend.password, then remove the old one at each (ACL SETUSER "
    '<user> <<old>). Before servers get a first password, restart the proxy with it and backend.username = "default"'
)
_REPLICATION = (
    "A replica that can not log in at its primary stops replicating. Set it at one replica after the other "
    "(SLOTGATE SEND <node> CONFIG SET ...), and check its link before the next"
)
_ADDRESS = (
    "Set it at one server after the other (SLOTGATE SEND <node> CONFIG SET ...), and before the next server change the "
    "proxy's configuration and restart it, so that it can reach the changed one"
)
_CLIENTS = (
    "Set it at each server by itself (SLOTGATE SEND <node> CONFIG SET ...), and leave room for the proxy's "
    "connections: docs/operations.md has the numbers. limits.max_clients is how many clients the proxy takes"
)

_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "requirepass": _PASSWORD,
        **dict.fromkeys(("masteruser", "masterauth", "primaryuser", "primaryauth"), _REPLICATION),
        **dict.fromkeys(("port", "bind", "protected-mode"), _ADDRESS),
        "maxclients": _CLIENTS,
    }
)
_BEGINNINGS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(
        ("tls-", "rdma-", "unixsocket", "cluster-announce-", "replica-announce-", "slave-announce-"), _ADDRESS
    )
)
"""The prefixes of such settings: certificates, ports, and the address that a server announces, which differs for each.
"""
_BEGIN = tuple(_BEGINNINGS)


def shuts_out(args: Sequence[bytes]) -> tuple[str, str] | None:
    """The first setting of a CONFIG SET name value [name value ...] that could shut the proxy out, and the right way to
    change it; None if there is no such setting."""
    for arg in args[2::2]:
        name = arg.decode("utf-8", "replace").lower()
        if name in _NAMES:
            return name, _NAMES[name]
        if name.startswith(_BEGIN):
            return name, next(way for begin, way in _BEGINNINGS.items() if name.startswith(begin))
    return None
