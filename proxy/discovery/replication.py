"""Which server of a shard is its primary and which are its replicas, by what each says of its role. Pure.

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
    """What a server says of itself.

    ``id``: the same at whatever address it is asked, "" if it may not be told. A primary says how much it has written
    (``offset``) and which replicas follow it (``lists``), a replica whom it ``follows``. ``odd``: what was passed
    over in its replies, in words.
    """

    id: str
    primary: bool
    offset: int = 0
    lists: tuple[Node, ...] = ()
    follows: Node | None = None
    odd: tuple[str, ...] = field(default=(), compare=False)


def read(replies: Sequence[object], remap: Mapping[str, str]) -> Answer | str:
    """The replies to ``QUESTIONS``; addresses as the proxy reaches them. Words: why nothing can be told from them."""
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
    """The servers of one shard, over time; ``configured`` are its candidates for ever, the primary first.

    The primary stays one as long as it says so and nobody else is followed in its place. When it is gone, or says that
    it is a replica, the one that it follows takes over, or a server that was promoted since: of several the one that
    most others follow, then the one that has written most.

    What a server says of itself must be confirmed by the others. A replica that is not configured is one if the primary
    lists it and it says that it follows that primary. Who takes over is configured, or was a replica; and it is the
    server that it was (which its run id tells), or a server is that follows it.
    """

    def __init__(self, name: str, configured: Sequence[Node]) -> None:
        self.name = name
        self._configured = tuple(configured)
        self.primary = configured[0]
        self.replicas: tuple[Node, ...] = tuple(configured[1:])
        self.passed_over: tuple[Node, ...] = ()
        """Servers that say they are primaries and were so beside the one that is gone now."""
        self._refused: Node | None = None
        self._strays: set[Node] = set()
        """Servers that said they were primaries while the primary was there: nobody was promoted in its place."""
        self._ids: set[str] = set()
        """Those of the servers that were of this shard when they were asked: so they are known, until a restart."""

    @property
    def members(self) -> tuple[Node, ...]:
        """Whom to ask."""
        return tuple(dict.fromkeys((self.primary, *self._configured, *self.replicas)))

    @property
    def shard(self) -> Shard:
        """As it is now."""
        return Shard(self.name, self.primary, self.replicas)

    def mentioned(self, answers: Mapping[Node, Answer]) -> set[Node]:
        """Servers that were named by those that answered, and are to be asked too."""
        found: set[Node] = set()
        for answer in answers.values():
            found.update(answer.lists)
            if answer.follows is not None:
                found.add(answer.follows)
        return found

    def take(self, answers: Mapping[Node, Answer], taken: Collection[Node] = ()) -> None:
        """Reconsider, by what each server said that answers. ``taken``: the primaries of the other shards."""
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
                log.error("shard=%s follows %s, the primary of another shard: it stays as it was", self.name, primary)
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
        """One address for each server, whatever addresses it has: the one that is configured, or used now."""
        first: dict[str, Node] = {}
        known = [node for node in (*self._configured, *self.members) if node in answers]
        for node in (*known, *sorted(answers, key=str)):
            first.setdefault(answers[node].id or str(node), node)
        return {node: first[answer.id or str(node)] for node, answer in answers.items()}

    def _elect(self, said: Mapping[Node, Answer], leaders: Mapping[Node, Node], known: Collection[Node]) -> Node:
        members = self.members
        # Who is known to nobody follows whom it likes.
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
        """Whom the primary follows in the end; itself if nobody."""
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
        """The replicas of the primary, those of its replicas too. One that is configured and does not answer stays."""
        head = said.get(self.primary)
        lists = {names.get(node, node) for node in head.lists} if head is not None else set()
        may = {node for node in leaders if node in self._configured or node in lists or node in known}
        # Of one that is configured and listed, whom it follows may be the primary's other address.
        found = {node for node in lists if node in self._configured and node in leaders}
        found |= {node for node in self._configured if node not in names}
        if head is None:
            # It may be known to its replicas by a name that nobody can tell now.
            found |= {node for node in self.replicas if node in leaders and node in known}
        grows = True
        while grows:
            more = {node for node in may if leaders[node] in found or leaders[node] == self.primary} - found
            found |= more
            grows = bool(more)
        found.discard(self.primary)
        listed = [node for node in self._configured if node in found]
        return (*listed, *sorted(found.difference(listed), key=lambda node: (node.host, node.port)))
