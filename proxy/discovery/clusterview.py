"""What one node of a Redis Cluster says of it, as plain facts: what it is asked, and its replies. Pure.

CLUSTER NODES says who has which slots, and with which config epoch; CLUSTER SHARDS, or CLUSTER SLOTS of an older
server, says where clients reach the nodes. Sources: https://redis.io/docs/latest/commands/cluster-nodes/,
cluster-shards, cluster-slots, and the replies of Redis 6.2, 7.0 and Valkey 9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from proxy.refusals import remapped
from proxy.slots import SLOTS
from proxy.topology import Node

SHARDS = ("CLUSTER", "SHARDS")
OLDER = ("CLUSTER", "SLOTS")
NODES = ("CLUSTER", "NODES")

Segment = tuple[int, int, str, int]
"""Slots ``first`` to ``last``, the id of their owner ("": nobody), and the owner's config epoch (nobody's: -1)."""
Chart = tuple[Segment, ...]
"""All 16,384 slots in order; neighbours differ in more than their slots."""

NO_EPOCH = -1
_DOWN = frozenset({"fail", "fail?"})
NOTHING: Chart = ((0, SLOTS - 1, "", NO_EPOCH),)


class NoView(Exception):
    """A node can not say how the cluster is; the reason in words. ``lone``: it is no node of a cluster at all."""

    def __init__(self, reason: str, lone: bool = False) -> None:
        super().__init__(reason)
        self.lone = lone


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster, as another sees it.

    ``node``: where it is reached, None where nobody says. ``announced``: its ip, host name and port, "" where not
    known. ``primary``: the id of its primary, "" if it is one. ``epoch``: its config epoch, or its primary's.
    ``failed``: the others agree that it is down. ``suspect``: at least one of them takes it for that. ``online``: it
    has its primary's data, as far as is told.
    """

    id: str
    node: Node | None
    announced: tuple[str, str, int]
    primary: str
    epoch: int
    failed: bool = False
    suspect: bool = False
    online: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """What one node says: ``me`` is its own id; ``members`` are by their ids."""

    asked: Node
    me: str
    members: Mapping[str, Member]
    chart: Chart


@dataclass(frozen=True, slots=True)
class _Place:
    """Where clients reach a node, as CLUSTER SHARDS or SLOTS says."""

    endpoint: str
    ip: str
    hostname: str
    port: int
    online: bool = True

    def host(self, asked: Node) -> str:
        """Without an endpoint it is that of the node asked. "?" is a node without a host name, where those are wanted:
        its ip has to do."""
        return (self.ip if self.endpoint == "?" else self.endpoint) or asked.host


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of CLUSTER NODES."""

    id: str
    ip: str
    port: int
    hostname: str
    flags: frozenset[str]
    primary: str
    epoch: int
    slots: str


def read(asked: Node, places: object, nodes: object, remap: Mapping[str, str], tls: bool = False) -> View:
    """The view of the node ``asked``: ``places`` is its reply to CLUSTER SHARDS or CLUSTER SLOTS, ``nodes`` to NODES.

    ``remap``: see ``proxy.refusals.remapped``. ``tls``: the nodes are spoken to with TLS, at another port of theirs.
    Raises NoView.
    """
    if isinstance(nodes, Exception):
        raise _why(nodes)
    try:
        lines = [_line(text) for text in _text(nodes).splitlines() if text]
        # The id of a node that is being met is not its own yet.
        lines = [line for line in lines if "handshake" not in line.flags]
        known = {} if isinstance(places, Exception) else dict(_places(places, tls))
        (me,) = [line.id for line in lines if "myself" in line.flags]
        chart = _chart(tuple(sorted((line.id, line.epoch, line.slots) for line in lines)))
    except (ValueError, TypeError, LookupError) as error:
        raise NoView(f"it answers CLUSTER NODES or SHARDS in a form that is not known: {error}") from error
    members = {}
    for line in lines:
        # CLUSTER SLOTS leaves out the replicas that are not ready.
        online = not known or line.id in known or not line.primary
        place = known.get(line.id) or _Place(line.ip, line.ip, line.hostname, line.port, online)
        members[line.id] = _member(line, place, asked, remap)
    return View(asked, me, members, chart)


def _why(error: Exception) -> NoView:
    words = str(error)
    if "cluster support disabled" in words:
        return NoView("it is not in cluster mode", lone=True)
    if words.startswith("NOAUTH"):
        return NoView("it asks for a password: set backend.password")
    if words.startswith("NOPERM"):
        return NoView(
            f"the proxy's user may not ask it, grant +cluster|nodes, +cluster|shards, +cluster|slots: {words}"
        )
    return NoView(f"it answers CLUSTER NODES with: {words}")


def _member(line: _Line, place: _Place, asked: Node, remap: Mapping[str, str]) -> Member:
    lost = "noaddr" in line.flags or not place.port
    return Member(
        line.id,
        None if lost else remapped(Node(place.host(asked), place.port), remap),
        (line.ip or place.ip, line.hostname or place.hostname, place.port),
        line.primary,
        line.epoch,
        "fail" in line.flags,
        not line.flags.isdisjoint(_DOWN),
        place.online,
    )


# ---- CLUSTER NODES


def _line(text: str) -> _Line:
    identity, address, flags, primary, _pinged, _ponged, epoch, _link, *slots = text.split(None, 8)
    address, *names = address.split(",")
    ip, _, port = address.partition("@")[0].rpartition(":")
    hostname = names[0] if names and "=" not in names[0] else ""
    if primary == "-" or slots:
        primary = ""
    return _Line(
        identity, ip.strip("[]"), int(port), hostname, frozenset(flags.split(",")), primary, int(epoch), *slots or [""]
    )


def _spans(slots: str) -> Iterator[tuple[int, int]]:
    """Slots on the move, in brackets, are where they come from, until they have moved."""
    for text in slots.split():
        if not text.startswith("["):
            first, _, last = text.partition("-")
            yield int(first), int(last or first)


@lru_cache(maxsize=16)
def _chart(lines: Sequence[tuple[str, int, str]]) -> Chart:
    """Who has which slots, by lines of id, epoch and slots. Raises NoView where two have the same.

    Remembered, as most looks at a cluster find nothing new.
    """
    claims = sorted((*span, identity, epoch) for identity, epoch, slots in lines for span in _spans(slots))
    chart: list[Segment] = []
    at = 0
    for claim in claims:
        first, last = claim[0], claim[1]
        if not at <= first <= last < SLOTS:
            raise NoView(f"it says that two nodes have slot {first}" if first < at else f"{first}-{last} are no slots")
        if first > at:
            chart.append((at, first - 1, "", NO_EPOCH))
        chart.append(claim)
        at = last + 1
    if at < SLOTS:
        chart.append((at, SLOTS - 1, "", NO_EPOCH))
    return tuple(joined(chart))


def joined(segments: Sequence[Segment]) -> Iterator[Segment]:
    """``segments`` with neighbours joined that have all but their slots in common."""
    waiting: Segment | None = None
    for segment in segments:
        if waiting is not None and waiting[2:] == segment[2:]:
            waiting = (waiting[0], segment[1], *segment[2:])
            continue
        if waiting is not None:
            yield waiting
        waiting = segment
    if waiting is not None:
        yield waiting


# ---- CLUSTER SHARDS and CLUSTER SLOTS


def _places(reply: Any, tls: bool) -> Iterator[tuple[str, _Place]]:
    """By the node's id, which servers before Redis 4 do not say: CLUSTER NODES has to do there.

    CLUSTER SLOTS has numbers where CLUSTER SHARDS has names.
    """
    if reply and reply[0][0] == b"slots":
        for shard in map(_pairs, reply):
            nodes = [_pairs(fields) for fields in shard["nodes"]]
            furthest = max((node["replication-offset"] for node in nodes), default=0)
            for node in nodes:
                # A replica of a primary that was never written to has all its data, though it is said to be loading.
                online = node["health"] == b"online" or node["replication-offset"] == furthest == 0
                yield _text(node["id"]), _place(node, tls, online)
        return
    for _first, _last, *entries in reply:
        for endpoint, port, *more in entries:
            if more:
                about = _pairs(more[1]) if len(more) > 1 else {}
                # Only Redis 7 and later say more, and "?"; before, the endpoint is the ip.
                ip = _text(about.get("ip", endpoint))
                yield _text(more[0]), _Place(_text(endpoint), ip, _text(about.get("hostname")), int(port))


def _place(node: Mapping[str, Any], tls: bool, online: bool) -> _Place:
    """Of a node in CLUSTER SHARDS, which has the ports that the node listens at."""
    port: int = node.get("tls-port" if tls else "port") or node.get("port") or node["tls-port"]
    endpoint, ip, hostname = (_text(node.get(name)) for name in ("endpoint", "ip", "hostname"))
    return _Place(endpoint, ip, hostname, port, online)


def _pairs(fields: Sequence[object]) -> dict[str, Any]:
    """A map, which RESP2 sends as a list."""
    return {_text(name): value for name, value in zip(fields[::2], fields[1::2], strict=True)}


def _text(value: object) -> str:
    """Nothing for what is not there."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
