"""What sentinels say, as plain facts: what they are asked, their replies, and the events that they publish. Pure.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/, and replies of Redis 7.0 and Valkey 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.refusals import remapped
from proxy.topology import Node

UNDECIDED = frozenset({"select_slave", "send_slaveof_noone", "wait_promotion"})
"""Steps of a failover in which a replica may be promoted at any moment; the sentinel still names the old primary."""
_DOWN = frozenset({"s_down", "o_down", "disconnected"})
_QUESTIONS = 4
"""Asked about each master, beside who the sentinel is."""


class NoSentinel(Exception):
    """What answered is no sentinel, or not one that may be asked; the reason in words."""


@dataclass(frozen=True, slots=True)
class Follower:
    """A replica, as one sentinel sees it. ``down``: it does not answer. ``known``: it said that it is a replica."""

    node: Node
    down: bool
    known: bool


@dataclass(frozen=True, slots=True)
class Master:
    """A master, as one sentinel sees it.

    ``epoch`` is that of its last failover (config-epoch), ``step`` that of a failover that this sentinel leads now, ""
    if it leads none. ``peers``: the other sentinels that watch it, by their ids.
    """

    node: Node
    epoch: int
    step: str
    followers: tuple[Follower, ...]
    peers: Mapping[str, Node]


@dataclass(frozen=True, slots=True)
class Report:
    """What one sentinel says. ``id`` is its own, over restarts and at whatever address; a master that it does not know
    is not in ``masters``."""

    id: str
    masters: Mapping[str, Master]


def questions(names: Sequence[str], replicas: str = "REPLICAS") -> list[tuple[str, ...]]:
    """What to ask a sentinel, in one go; ``replicas`` is the word for them: SLAVES before Redis 5.

    The epoch is asked before the address: should a failover come in between, a new address with an old epoch does no
    harm, as a known address with the same epoch is kept.
    """
    asked: list[tuple[str, ...]] = [("SENTINEL", "MYID")]
    for name in names:
        asked += [
            ("SENTINEL", "MASTER", name),
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name),
            ("SENTINEL", replicas, name),
            ("SENTINEL", "SENTINELS", name),
        ]
    return asked


def is_old(replies: Sequence[object]) -> bool:
    """Whether the sentinel knows replicas by their old name only."""
    return any(isinstance(reply, Exception) and "subcommand" in str(reply).lower() for reply in replies[3::_QUESTIONS])


def read(asked: Node, names: Sequence[str], replies: Sequence[object], remap: Mapping[str, str]) -> Report:
    """The replies to ``questions(names)`` of the sentinel at ``asked``.

    Addresses are those at which the proxy reaches servers, by ``remap``. Raises ``NoSentinel``.
    """
    for reply in replies:
        if isinstance(reply, Exception):
            _refuse(str(reply))
    # MYID is new in Redis 6.2; an address does in its place.
    identity = replies[0].decode() if isinstance(replies[0], bytes) else asked.address
    masters = {}
    for index, name in enumerate(names):
        start = 1 + index * _QUESTIONS
        seen = _master(replies[start : start + _QUESTIONS], remap)
        if seen is not None:
            masters[name] = seen
    return Report(identity, masters)


def _refuse(words: str) -> None:
    code = words.partition(" ")[0]
    if code == "NOAUTH":
        raise NoSentinel("the sentinel asks for a password: set sentinel.password")
    if code == "NOPERM":
        raise NoSentinel(f"the sentinel's user of the proxy may not ask it: {words}")
    if "unknown command" in words.lower():
        raise NoSentinel("it is a server, and no sentinel: name the sentinels' own ports (26379, if none was chosen)")


def _master(replies: Sequence[object], remap: Mapping[str, str]) -> Master | None:
    about, address, followers, peers = replies
    fields = _fields(about)
    if not isinstance(address, list) or len(address) != 2:
        return None
    node = _node(_text(address[0]), _text(address[1]), remap)
    if node is None or not fields.get("config-epoch", "").isdigit():
        return None
    found = (_follower(_fields(each), remap) for each in _list(followers))
    return Master(
        node,
        int(fields["config-epoch"]),
        fields.get("failover-state", "") if "failover_in_progress" in fields.get("flags", "").split(",") else "",
        tuple(each for each in found if each is not None),
        _peers(_list(peers), remap),
    )


def _follower(fields: Mapping[str, str], remap: Mapping[str, str]) -> Follower | None:
    node = _node(fields.get("ip", ""), fields.get("port", ""), remap)
    if node is None:
        return None
    # A replica that was just added is said to be one before it was asked: then it has no master. A demoted primary
    # goes on taking writes until it is told, up to 10 s later, and reports itself as a master.
    known = fields.get("role-reported") == "slave" and fields.get("master-host", "?") not in ("?", "")
    return Follower(node, not _DOWN.isdisjoint(fields.get("flags", "").split(",")), known)


def _peers(entries: Sequence[object], remap: Mapping[str, str]) -> dict[str, Node]:
    found = {}
    for entry in entries:
        fields = _fields(entry)
        node = _node(fields.get("ip", ""), fields.get("port", ""), remap)
        if node is not None and fields.get("runid"):
            found[fields["runid"]] = node
    return found


def _fields(reply: object) -> dict[str, str]:
    """A flat list of names and values."""
    items = [_text(item) for item in _list(reply)]
    return dict(zip(items[::2], items[1::2], strict=False))


def _list(reply: object) -> list[object]:
    return reply if isinstance(reply, list) else []


def _text(item: object) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else ""


def _node(host: str, port: str, remap: Mapping[str, str]) -> Node | None:
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        return None
    return remapped(Node(host.lower(), int(port)), remap)


@dataclass(frozen=True, slots=True)
class Event:
    """What a sentinel published: the channel says what ("+switch-master"); ``master`` is "" if it is about none."""

    what: str
    master: str

    @property
    def begins(self) -> bool:
        """Whether a replica is about to be promoted: in about a tenth of a second, or it has been."""
        return self.what in _BEGIN

    @property
    def aborts(self) -> bool:
        """Whether the failover was given up before a replica was promoted."""
        return self.what.startswith("-failover-abort")


_BEGIN = frozenset({"+selected-slave", "+failover-state-send-slaveof-noone", "+failover-state-wait-promotion"})


def read_event(channel: bytes, payload: bytes) -> Event:
    """``<type> <name> <ip> <port> [@ <master> <ip> <port>]``; +switch-master: ``<master> <old> <old> <new> <new>``."""
    what = channel.decode("utf-8", "replace")
    words = payload.decode("utf-8", "replace").split()
    if what == "+switch-master" or "@" in words[:-1]:
        at = words.index("@") + 1 if "@" in words[:-1] else 0
        return Event(what, words[at] if words else "")
    return Event(what, words[1] if len(words) > 1 and words[0] == "master" else "")
