"""The reports of sentinels: the commands that they are asked, the facts in their replies, and their events. No I/O.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/, replies of Redis 7.0 and Valkey 9.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from proxy.discovery.odd import Odd
from proxy.planning.refusals import remapped
from proxy.sharding.topology import Node

UNDECIDED = frozenset({"select_slave", "send_slaveof_noone", "wait_promotion"})
"""The steps of a failover in which a replica may be promoted at any moment; the sentinel names the old primary."""
_DOWN = frozenset({"s_down", "o_down", "disconnected"})
_NUMBER = re.compile("[0-9]{1,20}")
_QUESTIONS = 4
"""The number of questions about each master, behind the one for the sentinel's id."""


class NoSentinel(Exception):
    """The server that answered is not a sentinel, or refuses the proxy; the reason is in words."""


@dataclass(frozen=True, slots=True)
class Follower:
    """A replica, as one sentinel sees it. ``down`` says that it does not answer, ``known`` that it told its role."""

    node: Node
    down: bool
    known: bool


@dataclass(frozen=True, slots=True)
class Master:
    """A master, as one sentinel sees it.

    ``epoch`` is that of its last failover (config-epoch), ``step`` the step of the failover that this sentinel leads
    now, "" if it leads none. ``peers`` are the other sentinels of the master, by id. ``run_id`` is that of the server
    at ``node``, "" if the sentinel has not asked it yet.
    """

    node: Node
    epoch: int
    step: str
    followers: tuple[Follower, ...]
    peers: Mapping[str, Node]
    run_id: str = field(default="", compare=False)

    @property
    def servers(self) -> set[Node]:
        """The primary and all its replicas, usable or not."""
        return {self.node, *(follower.node for follower in self.followers)}


@dataclass(frozen=True, slots=True)
class SentinelReport:
    """The report of one sentinel. ``id`` is its own, which stays the same over restarts and at any address; ``masters``
    has only the masters that it knows. ``odd`` describes the skipped parts of its replies in words."""

    id: str
    masters: Mapping[str, Master]
    odd: tuple[str, ...] = field(default=(), compare=False)


def questions(names: Sequence[str], replicas: str = "REPLICAS") -> list[tuple[str, ...]]:
    """The commands to send to a sentinel, together; ``replicas`` is its word for replicas: SLAVES before Redis 5.

    The epoch is asked before the address. If a failover comes in between, a new address with an old epoch does no harm,
    since the known address with the same epoch is kept.
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
    """Whether the sentinel knows replicas by their old name, SLAVES, only."""
    return any(isinstance(reply, Exception) and "subcommand" in str(reply).lower() for reply in replies[3::_QUESTIONS])


def read(asked: Node, names: Sequence[str], replies: Sequence[object], remap: Mapping[str, str]) -> SentinelReport:
    """The report in the replies to ``questions(names)`` of the sentinel at ``asked``.

    Addresses are mapped by ``remap``. Raises ``NoSentinel``.
    """
    for reply in replies:
        if isinstance(reply, Exception):
            _refuse(str(reply))
    # MYID exists since Redis 6.2; before that the address stands for the id.
    identity = _text(replies[0]) or asked.address
    odd = Odd()
    masters = {}
    for index, name in enumerate(names):
        start = 1 + index * _QUESTIONS
        seen = _master(name, replies[start : start + _QUESTIONS], remap, odd)
        if seen is not None:
            masters[name] = seen
    return SentinelReport(identity, masters, odd.words)


def _refuse(words: str) -> None:
    code = words.partition(" ")[0]
    if code == "NOAUTH":
        raise NoSentinel("the sentinel asks for a password: set sentinel.password")
    if code == "NOPERM":
        raise NoSentinel(f"the proxy's user at the sentinel may not ask it: {words}")
    if "unknown command" in words.lower():
        raise NoSentinel("it is a server, not a sentinel: name the sentinels' own ports (26379 by default)")


def _master(name: str, replies: Sequence[object], remap: Mapping[str, str], odd: Odd) -> Master | None:
    about, address, followers, peers = replies
    fields = _fields(about)
    own = _node(fields, remap)
    # The sentinel that leads a failover names the new primary in this reply first.
    node = _node(dict(zip(("ip", "port"), map(_text, _list(address)), strict=False)), remap)
    if node is None and address is not None:
        odd.note(f"SENTINEL GET-MASTER-ADDR-BY-NAME {name}", "it is no address")
        node = own
    epoch = fields.get("config-epoch", "")
    if node is None or not _NUMBER.fullmatch(epoch):
        if fields and address is not None:
            odd.note(f"SENTINEL MASTER {name}", "it has no address, or no config-epoch")
        return None
    return Master(
        node,
        int(epoch),
        fields.get("failover-state", "") if "failover_in_progress" in fields.get("flags", "").split(",") else "",
        tuple(_followers(name, _list(followers), remap, odd)),
        _peers(name, _list(peers), remap, odd),
        fields.get("runid", "") if node == own else "",
    )


def _followers(name: str, entries: Sequence[object], remap: Mapping[str, str], odd: Odd) -> Iterator[Follower]:
    for entry in entries:
        fields = _fields(entry)
        node = _node(fields, remap)
        if node is None:
            odd.note(f"SENTINEL REPLICAS {name}", "a replica has no address")
            continue
        # A sentinel lists a new replica before it has asked it: such a replica has no master. A demoted primary goes on
        # taking writes until it is reconfigured, up to 10 s later, and reports the role of a master until then.
        known = fields.get("role-reported") == "slave" and fields.get("master-host", "?") not in ("?", "")
        yield Follower(node, not _DOWN.isdisjoint(fields.get("flags", "").split(",")), known)


def _peers(name: str, entries: Sequence[object], remap: Mapping[str, str], odd: Odd) -> dict[str, Node]:
    found = {}
    for entry in entries:
        fields = _fields(entry)
        node = _node(fields, remap)
        if node is None:
            odd.note(f"SENTINEL SENTINELS {name}", "a sentinel has no address")
        elif fields.get("runid"):
            found[fields["runid"]] = node
    return found


def _fields(reply: object) -> dict[str, str]:
    """A flat list of names and values as a dict."""
    items = [_text(item) for item in _list(reply)]
    return dict(zip(items[::2], items[1::2], strict=False))


def _list(reply: object) -> list[object]:
    return reply if isinstance(reply, list) else []


def _text(item: object) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else ""


def _node(fields: Mapping[str, str], remap: Mapping[str, str]) -> Node | None:
    host, port = fields.get("ip", ""), fields.get("port", "")
    if not host or not _NUMBER.fullmatch(port) or not 0 < int(port) < 65536:
        return None
    return remapped(Node(host.lower(), int(port)), remap)


@dataclass(frozen=True, slots=True)
class SentinelEvent:
    """An event that a sentinel published. ``what`` is its channel ("+switch-master"), ``master`` the name of the
    master, "" if the event names none."""

    what: str
    master: str

    @property
    def begins(self) -> bool:
        """Whether a replica is promoted in about a tenth of a second, or has been."""
        return self.what in _BEGIN

    @property
    def aborts(self) -> bool:
        """Whether the failover was aborted before a replica was promoted."""
        return self.what.startswith("-failover-abort")


_BEGIN = frozenset({"+selected-slave", "+failover-state-send-slaveof-noone", "+failover-state-wait-promotion"})


def read_event(channel: bytes, payload: bytes) -> SentinelEvent:
    """The event in a message ``<type> <name> <ip> <port> [@ <master> <ip> <port>]``; for +switch-master the message is
    ``<master> <old ip> <old port> <new ip> <new port>``."""
    what = channel.decode("utf-8", "replace")
    words = payload.decode("utf-8", "replace").split()
    if what == "+switch-master" or "@" in words[:-1]:
        at = words.index("@") + 1 if "@" in words[:-1] else 0
        return SentinelEvent(what, words[at] if words else "")
    return SentinelEvent(what, words[1] if len(words) > 1 and words[0] == "master" else "")
