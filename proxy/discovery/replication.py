"""Decides from the roles that servers report which one is the primary of a shard, and which are its replicas. No I/O.

Source: https://redis.io/docs/latest/commands/role/
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from proxy.discovery.odd import Odd
from proxy.planning.refusals import remapped
from proxy.resp.info import fields
from proxy.resp.role import RoleReply
from proxy.sharding.topology import Node, Shard

log = logging.getLogger(__name__)

QUESTIONS = (("ROLE",), ("INFO", "server"))


@dataclass(frozen=True, slots=True)
class Answer:
    """The role that a server reports.

    ``id`` is its run id, the same at every address of the server, "" if the server does not tell it. A primary reports
    its replication ``offset`` in bytes and its replicas (``lists``), a replica the server that it ``follows``. ``odd``
    describes the skipped parts of its replies in words.
    """

    id: str
    primary: bool
    offset: int = 0
    lists: tuple[Node, ...] = ()
    follows: Node | None = None
    odd: tuple[str, ...] = field(default=(), compare=False)


def read(replies: Sequence[object], remap: Mapping[str, str]) -> Answer | str:
    """The answer in the replies to ``QUESTIONS``, with addresses mapped by ``remap``; or the reason, in words, why the
    replies can not be used."""
    role, info = replies
    if isinstance(role, Exception):
        return f"it answers ROLE with: {role}"
    identity = _id(info)
    odd = Odd()
    said = RoleReply.read(role)
    if said is None or said.sentinel:
        return "it is neither a primary nor a replica"
    if said.primary:
        if said.replicas is None:
            odd.note("ROLE", "a primary does not list its replicas")
        found = [_replica(each, remap, odd) for each in said.replicas or ()]
        lists = tuple(node for node in found if node is not None)
        return Answer(identity, True, said.offset or 0, lists, odd=odd.words)
    host, port = (*said.source, None, None)[:2]
    follows = _node(host, port, remap)
    if follows is None:
        odd.note("ROLE", "a replica does not say whom it follows")
    return Answer(identity, False, follows=follows, odd=odd.words)


def _replica(entry: object, remap: Mapping[str, str], odd: Odd) -> Node | None:
    node = _node(entry[0], entry[1], remap) if isinstance(entry, list) and len(entry) > 1 else None
    if node is None:
        odd.note("ROLE", "a replica is no address")
    return node


def _id(info: object) -> str:
    said = fields(info.decode("utf-8", "replace")) if isinstance(info, bytes) else ()
    return next((value for name, value in said if name == "run_id"), "")


def _node(host: object, port: object, remap: Mapping[str, str]) -> Node | None:
    text = port if isinstance(port, bytes) else str(port).encode()
    if not isinstance(host, bytes) or not host or not text.isdigit() or not 0 < int(text) < 65536:
        return None
    return remapped(Node(host.decode("utf-8", "replace").lower(), int(text)), remap)


class Group:
    """The servers of one shard over time; the ``configured`` ones, the primary first, always remain candidates.

    A primary stays the primary as long as it reports that role and no other server is followed in its place. When it is
    down, or reports that it is a replica, the server that it follows takes over, or a server that was promoted since:
    the one that most others follow, then the one with the highest offset.

    A server's own report must be confirmed by others. A replica that is not configured is accepted if the primary lists
    it and it reports that it follows that primary. A new primary must be configured or have been a replica; and its run
    id must be a known one, or a server with a known run id must follow it.
    """

    def __init__(self, name: str, configured: Sequence[Node]) -> None:
        self.name = name
        self._configured = tuple(configured)
        self.primary = configured[0]
        self.replicas: tuple[Node, ...] = tuple(configured[1:])
        self.passed_over: tuple[Node, ...] = ()
        """Servers that report that they are primaries, and did so before the present primary was lost."""
        self._refused: Node | None = None
        self._strays: set[Node] = set()
        """Servers that reported that they were primaries while the primary was up, so were not promoted since."""
        self._ids: set[str] = set()
        """The run ids of the servers that belonged to this shard when they were asked; a restart changes a run id."""

    @property
    def members(self) -> tuple[Node, ...]:
        """The servers to ask."""
        return tuple(dict.fromkeys((self.primary, *self._configured, *self.replicas)))

    @property
    def shard(self) -> Shard:
        """The present shard."""
        return Shard(self.name, self.primary, self.replicas)

    def mentioned(self, answers: Mapping[Node, Answer]) -> set[Node]:
        """The servers that the answers name, which are asked too."""
        found: set[Node] = set()
        for answer in answers.values():
            found.update(answer.lists)
            if answer.follows is not None:
                found.add(answer.follows)
        return found

    def take(self, answers: Mapping[Node, Answer], taken: Collection[Node] = ()) -> None:
        """Decide anew, from the answers of the servers. ``taken`` are the primaries of the other shards."""
        names = self._names(answers)
        said = {names.get(node, node): answer for node, answer in answers.items()}
        leaders = {
            node: names.get(answer.follows, answer.follows)
            for node, answer in said.items()
            if answer.follows is not None
        }
        known = {node for node, answer in said.items() if not self._ids or answer.id in self._ids}
        primary = self._elect(said, leaders, known)
        refused = primary if primary != self.primary and primary in taken else None
        if refused is not None:
            if refused != self._refused:
                log.error("shard=%s follows %s, the primary of another shard: its primary stays", self.name, primary)
            primary = self.primary
        self._refused = refused
        self.primary = primary
        self._strays -= {primary, *leaders}
        gone = primary not in said or not said[primary].primary
        self.passed_over = tuple(node for node in self.members if node in self._strays & said.keys()) if gone else ()
        self.replicas = self._follow(said, leaders, names, known)
        own = (primary, *self.replicas)
        self._ids |= {said[node].id for node in own if node in said and said[node].primary is (node == primary)}

    def _names(self, answers: Mapping[Node, Answer]) -> dict[Node, Node]:
        """The address to use for each other address of a server: the configured one, or the one in use."""
        first: dict[str, Node] = {}
        known = [node for node in (*self._configured, *self.members) if node in answers]
        for node in (*known, *sorted(answers, key=str)):
            first.setdefault(answers[node].id or str(node), node)
        return {node: first[answer.id or str(node)] for node, answer in answers.items()}

    def _elect(self, said: Mapping[Node, Answer], leaders: Mapping[Node, Node], known: Collection[Node]) -> Node:
        members = self.members
        # A server whose run id is unknown does not count as a follower.
        followers = Counter(leader for node, leader in leaders.items() if node in known)
        primaries = [node for node in members if node in said and said[node].primary]
        if self.primary in primaries:
            rivals = [node for node in primaries if node != self.primary]
            followed = [node for node in rivals if followers[node]]
            if followers[self.primary] or not followed:
                self._strays.update(rivals)
                return self.primary
            primaries = followed
        else:
            leader = self._leader(leaders)
            confirmed = followers[leader] or leader in self._configured or (leader in members and leader in known)
            if leader in said and said[leader].primary and confirmed:
                return leader
            self._strays.update(node for node in primaries if node not in known)
            primaries = [node for node in primaries if node not in self._strays or followers[node]]
        return max(primaries, key=lambda node: (followers[node], said[node].offset, str(node)), default=self.primary)

    def _leader(self, leaders: Mapping[Node, Node]) -> Node:
        """The server at the end of the chain that the primary follows; the primary itself if it follows none."""
        node = self.primary
        for _ in leaders:
            node = leaders.get(node, node)
        return node

    def _follow(
        self,
        said: Mapping[Node, Answer],
        leaders: Mapping[Node, Node],
        names: Mapping[Node, Node],
        known: Collection[Node],
    ) -> tuple[Node, ...]:
        """The replicas of the primary, and replicas of these. A configured replica that does not answer stays."""
        head = said.get(self.primary)
        lists = {names.get(node, node) for node in head.lists} if head is not None else set()
        may = {node for node in leaders if node in self._configured or node in lists or node in known}
        # A configured replica that the primary lists may follow it at another address of the primary.
        found = {node for node in lists if node in self._configured and node in leaders}
        found |= {node for node in self._configured if node not in names}
        if head is None:
            # Its replicas may know the primary by another name, which can not be resolved now.
            found |= {node for node in self.replicas if node in leaders and node in known}
        grows = True
        while grows:
            more = {node for node in may if leaders[node] in found or leaders[node] == self.primary} - found
            found |= more
            grows = bool(more)
        found.discard(self.primary)
        listed = [node for node in self._configured if node in found]
        return (*listed, *sorted(found.difference(listed), key=lambda node: (node.host, node.port)))
