"""Settings of the servers that decide who gets in, and so could leave the proxy outside. Pure.

CONFIG SET goes to every server at once, over connections that stand: the servers carry it out, and from then on refuse
the proxy whenever it connects anew. Nobody could take it back through the proxy.
Source: the redis.conf of Redis 6.2 to 8.2 and the valkey.conf of Valkey 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

_PASSWORD = (
    "A server that has a password takes another beside it (SLOTGATE SEND <node> ACL SETUSER <user> ><new>): do that at "
    "each, restart the proxy with the new one as backend.password, then drop the old one at each (ACL SETUSER <user> "
    '<<old>). Before servers get their first one, restart the proxy with it and backend.username = "default"'
)
_REPLICATION = (
    "A replica that can not log in at its primary is none any more. Set it at one replica after the other "
    "(SLOTGATE SEND <node> CONFIG SET ...), and look at its link before the next"
)
_ADDRESS = (
    "Set it at one server after the other (SLOTGATE SEND <node> CONFIG SET ...), and have the proxy know how to reach "
    "that server, by its configuration and a restart, before the next"
)
_CLIENTS = (
    "Set it at each server by itself (SLOTGATE SEND <node> CONFIG SET ...), and leave room for what the proxy needs: "
    "docs/operations.md has the numbers. How many clients the proxy takes is limits.max_clients"
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
"""By how names begin: certificates and ports; what each server says of its own address, which is no other's."""
_BEGIN = tuple(_BEGINNINGS)


def shuts_out(args: Sequence[bytes]) -> tuple[str, str] | None:
    """Of CONFIG SET name value [name value ...] the first setting that could shut the proxy out, and how it is done
    rightly; None if there is none."""
    for arg in args[2::2]:
        name = arg.decode("utf-8", "replace").lower()
        if name in _NAMES:
            return name, _NAMES[name]
        if name.startswith(_BEGIN):
            return name, next(way for begin, way in _BEGINNINGS.items() if name.startswith(begin))
    return None
