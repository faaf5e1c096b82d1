"""One node's view of its Redis Cluster: the commands that the node is asked, and the facts in its replies. No I/O.

CLUSTER NODES gives the owners of the slots and their config epochs; CLUSTER SHARDS, or CLUSTER SLOTS on older servers,
gives the addresses for clients. Parts that can not be read are skipped and noted; the rest is used.
Sources: https://redis.io/docs/latest/commands/cluster-nodes/, and the replies of Redis 6.2 to 8 and Valkey 9.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from proxy.discovery.clusterplaces import AnnouncedAddress, places
from proxy.discovery.odd import Odd
from proxy.planning.refusals import remapped
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import Node

SHARDS = ("CLUSTER", "SHARDS")
OLDER = ("CLUSTER", "SLOTS")
NODES = ("CLUSTER", "NODES")
MYID = ("CLUSTER", "MYID")

Segment = tuple[int, int, str, int]
"""The first and the last slot, the id of their owner ("" for none), and the owner's config epoch (-1 for none). In one
node's view the owner can be ``UNREAD``."""
SlotOwners = tuple[Segment, ...]
"""All 16,384 slots in order, as segments; neighbours differ in their owner or its epoch."""

NO_EPOCH = -1
UNREAD = "?"
"""The owner of slots for which a node's answer does not decide it: two nodes have the slots, or none has and a part of
the answer could not be read."""
_DOWN = frozenset({"fail", "fail?"})
_FIELDS = 8
"""The number of fields in a line of CLUSTER NODES in front of the slots."""
_HIGHEST_PORT = 65535
_ID = re.compile(r"[0-9a-f]{40}")
_PORT = re.compile(r"[0-9]{1,5}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_SLOTS = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?")
NOTHING: SlotOwners = ((0, SLOTS - 1, "", NO_EPOCH),)


class NoView(Exception):
    """A node can not give a view of the cluster, for a reason in words. ``lone``: it is not in cluster mode."""

    def __init__(self, reason: str, lone: bool = False) -> None:
        super().__init__(reason)
        self.lone = lone


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """A node of the cluster, as another node sees it.

    ``node`` is its address, None if unknown. ``announced`` has its IP, host name and port, "" if unknown. ``primary``
    is the id of its primary, "" for a primary. ``epoch`` is its config epoch, or its primary's. ``failed`` says that
    the other nodes agree that it is down, ``suspect`` that at least one of them thinks so. ``online`` says that it has
    its primary's data, as far as is known.
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
    """The view of one node: ``me`` is its own id; ``members`` are by id. ``odd`` describes the skipped parts in words;
    ``unread`` has the ids of members in the skipped parts, as far as they could be read."""

    asked: Node
    me: str
    members: Mapping[str, ClusterMember]
    chart: SlotOwners
    odd: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()


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
    spans: tuple[tuple[int, int], ...]


def read(
    asked: Node, found: object, nodes: object, remap: Mapping[str, str], tls: bool = False, myid: object = None
) -> View:
    """The view of the node ``asked``: ``found`` is its reply to CLUSTER SHARDS or CLUSTER SLOTS, ``nodes`` that to
    CLUSTER NODES, ``myid`` that to CLUSTER MYID, which not every server knows.

    For ``remap`` see ``proxy.planning.refusals.remapped``. ``tls`` says that the nodes are reached over TLS, at another
    port. Raises NoView if the replies can not be used.
    """
    if isinstance(nodes, Exception):
        raise _why(nodes)
    odd = Odd()
    lines, unread = _lines(_text(nodes), odd)
    me = _text(myid) or _me(lines, unread)
    if not lines or me is None:
        told = odd.words[0] if odd else "it does not tell which of the nodes it is"
        raise NoView(f"it answers CLUSTER NODES in an unknown form: {told}")
    if any(line.id != me and "myself" in line.flags for line in lines):
        odd.note("CLUSTER NODES", "it lists itself under an id that it does not have")
        lines = [line for line in lines if line.id == me or "myself" not in line.flags]
    if me not in unread and all(line.id != me for line in lines):
        odd.note("CLUSTER NODES", "it does not list itself")
        unread[me] = ""
    where = places(found, tls, odd)
    claims = tuple(sorted((line.id, line.epoch, line.spans) for line in lines))
    chart, doubled = _chart(claims, bool(unread))
    for first in doubled:
        odd.note("CLUSTER NODES", f"two nodes have slot {first}")
    members = {}
    for line in lines:
        online = not where.all_online or line.id in where.known or not line.primary
        place = where.known.get(line.id) or AnnouncedAddress(line.ip, line.ip, line.hostname, line.port, online)
        members[line.id] = _member(line, place, asked, remap)
    return View(asked, me, members, chart, odd.words, frozenset(unread))


def _me(lines: Sequence[_Line], unread: Mapping[str, str]) -> str | None:
    """The id of the node that gave the replies; None if it is unknown."""
    own = [line.id for line in lines if "myself" in line.flags]
    own += [identity for identity, text in unread.items() if identity and "myself" in text]
    return own[0] if len(own) == 1 else None


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


def _member(line: _Line, place: AnnouncedAddress, asked: Node, remap: Mapping[str, str]) -> ClusterMember:
    lost = "noaddr" in line.flags or not place.port
    return ClusterMember(
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


def _lines(text: str, odd: Odd) -> tuple[list[_Line], dict[str, str]]:
    """The lines that can be read, and the other lines by the ids in them ("" for a line without an id)."""
    lines: dict[str, _Line] = {}
    unread: dict[str, str] = {}
    for words in map(str.split, text.splitlines()):
        if not words:
            continue
        identity = words[0]
        line = _line(words)
        if isinstance(line, str) or identity in lines:
            odd.note(f"CLUSTER NODES, node {identity[:40]!r}", line if isinstance(line, str) else "it has two lines")
            unread[identity if _ID.fullmatch(identity) else ""] = " ".join(words)
            continue
        if not line.port and "noaddr" not in line.flags and not words[1].startswith(":0"):
            odd.note(f"CLUSTER NODES, node {identity[:40]!r}", "its address has no port")
        for word in words[_FIELDS:]:
            if not _is_slots(word):
                odd.note(f"CLUSTER NODES, node {identity[:40]!r}", f"{word[:40]!r} are no slots")
                unread.setdefault("", "")
        # During the handshake a node has a temporary id.
        if "handshake" not in line.flags:
            lines[identity] = line
    return list(lines.values()), unread


def _line(words: Sequence[str]) -> _Line | str:
    """The line with these words, or what is wrong with it."""
    if len(words) < _FIELDS:
        return f"its line has {len(words)} fields"
    identity, address, flags, primary, pinged, ponged, epoch, link, *slots = words
    if not all(map(_NUMBER.fullmatch, (pinged, ponged, epoch))) or not link.isalpha():
        return "its line has unknown fields"
    address, *names = address.split(",")
    ip, colon, text = address.partition("@")[0].rpartition(":")
    port = int(text) if colon and _PORT.fullmatch(text) and int(text) <= _HIGHEST_PORT else 0
    hostname = names[0] if names and "=" not in names[0] else ""
    spans = tuple(_span(word) for word in slots if word[0] != "[" and _is_slots(word))
    if primary == "-" or spans:
        primary = ""
    return _Line(identity, ip.strip("[]"), port, hostname, frozenset(flags.split(",")), primary, int(epoch), spans)


def _is_slots(word: str) -> bool:
    """Whether ``word`` is a slot or a range of slots. Migrating slots, in brackets, belong to the old owner until the
    migration ends."""
    if word[0] == "[":
        return True
    if not _SLOTS.fullmatch(word):
        return False
    first, last = _span(word)
    return first <= last < SLOTS


def _span(word: str) -> tuple[int, int]:
    first, _, last = word.partition("-")
    return int(first), int(last or first)


@lru_cache(maxsize=16)
def _chart(
    claims: Iterable[tuple[str, int, Sequence[tuple[int, int]]]], partial: bool
) -> tuple[SlotOwners, tuple[int, ...]]:
    """The owners of all slots from the nodes' ids, epochs and slots; and the first slots of ranges that two nodes have.
    Such ranges are ``UNREAD``, since a slot has one owner only. With ``partial``, slots without an owner are so too.

    The result is cached, since most looks at a cluster find no change.
    """
    borders: dict[int, Counter[str]] = {0: Counter(), SLOTS: Counter()}
    epochs: dict[str, int] = {}
    for identity, epoch, spans in claims:
        epochs[identity] = epoch
        for first, last in spans:
            borders.setdefault(first, Counter())[identity] += 1
            borders.setdefault(last + 1, Counter())[identity] -= 1
    nobody = UNREAD if partial else ""
    having: Counter[str] = Counter()
    chart: list[Segment] = []
    doubled = []
    starts = sorted(borders)
    for first, following in pairwise(starts):
        for identity, change in borders[first].items():
            having[identity] += change
            if not having[identity]:
                del having[identity]
        if len(having) == 1:
            (owner,) = having
            chart.append((first, following - 1, owner, epochs[owner]))
        else:
            chart.append((first, following - 1, UNREAD if having else nobody, NO_EPOCH))
            doubled += [first] if having else []
    return tuple(joined(chart)), tuple(doubled)


def joined(segments: Sequence[Segment]) -> Iterator[Segment]:
    """``segments`` with neighbours joined if they have the same owner and epoch."""
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


def _text(value: object) -> str:
    """``value`` as text; "" if it is not bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
