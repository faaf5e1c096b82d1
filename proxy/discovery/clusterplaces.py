"""The addresses at which clients reach the nodes of a Redis Cluster, from CLUSTER SHARDS and CLUSTER SLOTS. No I/O.

An entry that can not be read is skipped and noted; the others are used. Sources:
https://redis.io/docs/latest/commands/cluster-shards/, cluster-slots, and the replies of Redis 6.2 to 8 and Valkey 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.discovery.odd import Odd
from proxy.sharding.topology import Node


@dataclass(frozen=True, slots=True)
class AnnouncedAddress:
    """The address of a node as the cluster announces it to clients. ``port`` is 0 if the node has no known address.
    ``online`` says that the node has its primary's data, as far as is known."""

    endpoint: str
    ip: str
    hostname: str
    port: int
    online: bool = True

    def host(self, asked: Node) -> str:
        """The host of the endpoint; without one, the host of the node ``asked``. An endpoint "?" is a node without the
        host name that the cluster prefers, so its IP is used."""
        return (self.ip if self.endpoint == "?" else self.endpoint) or asked.host


@dataclass(frozen=True, slots=True)
class Places:
    """The addresses by the nodes' ids. ``all_online`` says that the reply lists all usable nodes, so that a node that
    is missing is not ready: CLUSTER SLOTS leaves those out. It is false if an entry could not be read."""

    known: Mapping[str, AnnouncedAddress]
    all_online: bool = False


def places(reply: object, tls: bool, odd: Odd) -> Places:
    """The addresses in ``reply``, none for an error. The entries of CLUSTER SLOTS begin with numbers, those of CLUSTER
    SHARDS with names.

    Servers before Redis 4 give no ids, so CLUSTER NODES is used alone there. ``tls`` says that the nodes are reached
    over TLS.
    """
    if isinstance(reply, Exception):
        return Places({})
    if not isinstance(reply, list):
        odd.note("CLUSTER SHARDS", "it is no list")
        return Places({})
    known: dict[str, AnnouncedAddress] = {}
    of_slots = False
    for entry in reply:
        if isinstance(entry, list) and entry and isinstance(entry[0], bytes):
            known |= _of_shard(entry, tls, odd)
        elif isinstance(entry, list) and len(entry) > 2 and isinstance(entry[0], int):
            of_slots = True
            known |= _of_slots(entry, odd)
        else:
            odd.note("CLUSTER SHARDS", "an entry is no shard")
    return Places(known, all_online=of_slots and bool(known) and not odd)


def _of_shard(shard: list[object], tls: bool, odd: Odd) -> dict[str, AnnouncedAddress]:
    nodes = _pairs(shard).get("nodes")
    if not isinstance(nodes, list):
        odd.note("CLUSTER SHARDS", "a shard does not list its nodes")
        return {}
    entries = [_pairs(entry) for entry in nodes if isinstance(entry, list) and len(entry) % 2 == 0]
    if len(entries) < len(nodes):
        odd.note("CLUSTER SHARDS", "a node is no list of names and values")
    furthest = max((_offset(entry) for entry in entries), default=0)
    found = {}
    for entry in entries:
        identity = _text(entry.get("id"))
        if not identity:
            odd.note("CLUSTER SHARDS", "a node has no id")
            continue
        port = _port(entry, tls)
        if port is None:
            odd.note(f"CLUSTER SHARDS, node {identity[:40]}", "its port is no port")
            continue
        # A replica of a primary that was never written to has all its data, though its health is "loading".
        online = entry.get("health", b"online") == b"online" or _offset(entry) == furthest == 0
        endpoint, ip, hostname = (_text(entry.get(name)) for name in ("endpoint", "ip", "hostname"))
        found[identity] = AnnouncedAddress(endpoint, ip, hostname, port, online)
    return found


def _port(entry: Mapping[str, object], tls: bool) -> int | None:
    """The port with or without TLS as ``tls`` asks, the other one if there is only one, and 0 if there is none."""
    for name in ("tls-port", "port") if tls else ("port", "tls-port"):
        if port := entry.get(name):
            return port if _is_port(port) and isinstance(port, int) else None
    return 0


def _is_port(value: object) -> bool:
    return isinstance(value, int) and 0 < value < 65536


def _offset(entry: Mapping[str, object]) -> int:
    offset = entry.get("replication-offset")
    return offset if isinstance(offset, int) else 0


def _of_slots(row: list[object], odd: Odd) -> dict[str, AnnouncedAddress]:
    found = {}
    for entry in row[2:]:
        match entry:
            case [bytes() | None as endpoint, int(port), bytes(identity), *more] if _is_port(port):
                about = _pairs(more[0]) if more and isinstance(more[0], list) and len(more[0]) % 2 == 0 else {}
                # Redis 7 and later give more fields, and "?"; before that, the endpoint is the IP.
                ip = _text(about.get("ip", endpoint))
                found[_text(identity)] = AnnouncedAddress(_text(endpoint), ip, _text(about.get("hostname")), port)
            case [bytes() | None, int(port)] if _is_port(port):
                pass
            case [bytes() | None, 0, *_]:
                pass  # the node lost its address
            case _:
                odd.note("CLUSTER SLOTS", "a node is no address with an id")
    return found


def _pairs(fields: Sequence[object]) -> dict[str, object]:
    """A map that RESP2 sends as a list."""
    return {_text(name): value for name, value in zip(fields[::2], fields[1::2], strict=False)}


def _text(value: object) -> str:
    """``value`` as text; "" if it is not bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
