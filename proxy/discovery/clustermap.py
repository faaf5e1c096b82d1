"""Decides which node of a Redis Cluster owns which slots, from the views of several nodes over time. No I/O.

A node that takes over slots gets a higher config epoch than the previous owner, unless its own is the highest already.
So the epochs tell new claims from old ones, and where they do not, several nodes are asked. A claim on slots is better
than that of the known owner if the claimant itself does not deny it, and if

- no owner is known,
- the known owner says itself that it gave the slots up, or
- the claim's epoch is higher, and it comes from a node that is not behind: from the claimant itself, if it knows any
  other known owner, or from a node that knows the latest epoch of the known owner. (A node that was reset keeps its id,
  knows nobody, and can be made a cluster of its own with any epoch.)

A claimant is asked before another node's word about it is believed: a node that does not know yet that slots moved from
A to B can know a new epoch of A. Any other differing claim needs more than half of several nodes. Such claims come from
a node that lags or was reset, or from a cluster that was set up anew; that no node has the slots is such a claim too.
They do not prevail over an owner that confirms its slots and is known to those nodes, since many nodes can be behind at
the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from proxy.discovery.clustermembers import members_of
from proxy.discovery.clusterview import NO_EPOCH, NOTHING, UNREAD, ClusterMember, Segment, SlotOwners, View, joined
from proxy.planning.refusals import remapped
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import Node, Shard, Topology

_NAME = "shard-"


@dataclass(frozen=True, slots=True)
class ClusterMap:
    """The believed state of the cluster. ``members`` has all nodes by id, ``names`` the shards' names by owner's id."""

    chart: SlotOwners = NOTHING
    members: Mapping[str, ClusterMember] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> set[Node]:
        """The addresses of all members that can be asked."""
        return {member.node for member in self.members.values() if member.node is not None}

    @property
    def blank(self) -> bool:
        """Whether no owner of a slot is known, so that the map does not tell which nodes belong to the cluster."""
        return not self.names

    def replicas(self, owner: str) -> list[ClusterMember]:
        """The nodes that follow ``owner``."""
        return [member for member in self.members.values() if member.primary == owner]

    def addresses(self, remap: Mapping[str, str]) -> dict[Node, Node]:
        """The address of each node, by all names that a redirection can give it: the address, the IP, the host name."""
        found = {node: node for node in self.nodes}
        for member in self.members.values():
            ip, hostname, port = member.announced
            if member.node is not None and port:
                for host in filter(None, (ip, hostname)):
                    found.setdefault(remapped(Node(host, port), remap), member.node)
        return found


def _owners(chart: SlotOwners) -> list[str]:
    """The ids of all owners, by their lowest slots."""
    return list(dict.fromkeys(segment[2] for segment in chart if segment[2]))


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of judging views: the new map, the views that were not fully believed, and the ``witnesses``, the old
    and new owners that have not been asked. ``strangers`` are the views that do not count, since no known member knows
    the nodes that gave them."""

    map: ClusterMap
    doubted: tuple[View, ...] = ()
    witnesses: tuple[Node, ...] = ()
    strangers: tuple[View, ...] = ()


def judge(known: ClusterMap, views: Sequence[View]) -> Judgement:
    """The judgement of ``views``, at least one, against the map ``known``; the first view's node was asked first."""
    counted = list(views) if known.blank else members_of(known.members, views)
    strangers = tuple(view for view in views if not any(view is other for other in counted))
    if not counted:
        return Judgement(known, strangers=strangers)
    return replace(_judge(known, counted), strangers=strangers)


def _judge(known: ClusterMap, views: Sequence[View]) -> Judgement:
    chart = known.chart
    doubted: list[View] = []
    concerned: dict[str, None] = {}
    if any(view.chart != chart for view in views):
        alone = max(len(known.members), *(len(view.members) for view in views)) == 1
        quorum = max(len(views) // 2 + 1, 1 if alone else 2)
        segments = []
        lone = frozenset(view.me for view in views if is_reset(known, view))
        for first, last, owner, epoch, claims in _pieces(chart, views):
            decided = _decide(owner, epoch, claims, quorum, lone)
            segments.append((first, last, *decided))
            for view, claimant, _ in claims:
                if claimant != decided[0] and view not in doubted:
                    doubted.append(view)
                if owner and claimant != owner:
                    concerned |= {owner: None, claimant: None} if claimant != decided[0] else {claimant: None}
        decisions = tuple(joined(segments))
        chart = chart if decisions == chart else decisions
    believed = [view for view in views if view not in doubted]
    owners = list(known.names) if chart is known.chart else _owners(chart)
    members = _members(known, owners, views, believed)
    if chart is known.chart:
        following = known if members == known.members else replace(known, members=members)
    else:
        following = ClusterMap(chart, members, _names(known, owners, members))
    heard = {view.me for view in views}
    places = {**known.members, **views[0].members}
    asked = [places[identity].node for identity in concerned if identity in places and identity not in heard]
    witnesses = tuple(node for node in asked if node is not None)
    return Judgement(following, tuple(doubted), witnesses)


_Claim = tuple[View, str, int]
"""A view, the owner of some slots in it ("" for none), and the owner's epoch."""


def _pieces(chart: SlotOwners, views: Sequence[View]) -> Iterator[tuple[int, int, str, int, list[_Claim]]]:
    """The slots, cut at the borders of all charts: (first slot, last slot, known owner, its epoch, the claims)."""
    charts = [chart, *(view.chart for view in views)]
    at = [0] * len(charts)
    starts = sorted({segment[0] for each in charts for segment in each})
    for first, following in zip(starts, [*starts[1:], SLOTS], strict=True):
        found: list[Segment] = []
        for index, each in enumerate(charts):
            if each[at[index]][1] < first:
                at[index] += 1
            found.append(each[at[index]])
        _, _, owner, epoch = found[0]
        claims = [(view, *claim[2:]) for view, claim in zip(views, found[1:], strict=True) if claim[2] != UNREAD]
        yield first, following - 1, owner, epoch, claims


def is_reset(known: ClusterMap, view: View) -> bool:
    """Whether the node of ``view`` knows none of the other owners of slots: it was reset, or these were taken away."""
    others = known.names.keys() - {view.me}
    return bool(others) and others.isdisjoint(view.members.keys() | view.unread)


def _decide(owner: str, epoch: int, claims: Sequence[_Claim], quorum: int, lone: Collection[str]) -> tuple[str, int]:
    """The present owner of slots whose known owner is ``owner``, and its epoch. ``lone``: the nodes that were reset."""
    confirmed = max((at for _, claimant, at in claims if claimant == owner), default=NO_EPOCH)
    if all(claimant == owner for _, claimant, _ in claims):
        return owner, max(epoch, confirmed)
    denied = {claimant for _, claimant, _ in claims} & {view.me for view, claimant, _ in claims if claimant != view.me}
    better = [claim for claim in claims if claim[1] not in denied and _better(claim, owner, epoch, lone)]
    if better:
        _, claimant, at = max(better, key=lambda claim: claim[2])
        return claimant, at
    says = next((claimant == owner for view, claimant, _ in claims if view.me == owner), None)
    votes = Counter(claim[1] for claim in claims if claim[1] != owner and _counts(claim[0], owner, epoch, says))
    claimant, most = votes.most_common(1)[0] if votes else (owner, 0)
    if most >= quorum:
        return claimant, max(at for _, other, at in claims if other == claimant)
    return owner, max(epoch, confirmed)


def _counts(view: View, owner: str, epoch: int, says: bool | None) -> bool:
    """Whether a view counts against ``owner``, which ``says`` whether it is still the owner; None if it was not asked:
    then a view that is behind does not count. A view that does not know the owner counts."""
    heard = view.members.get(owner)
    return heard is None or says is False or (says is None and heard.epoch >= epoch)


def _better(claim: _Claim, owner: str, epoch: int, lone: Collection[str]) -> bool:
    """Whether a claim is certainly newer than that of ``owner``, which had the slots at ``epoch``."""
    view, claimant, at = claim
    if claimant in (owner, ""):
        return False
    heard = view.members.get(owner)
    if not owner or view.me == claimant:
        return at > epoch and not (owner and claimant in lone)
    current = heard is None or heard.epoch >= epoch
    return current and (at > epoch or view.me == owner)


def _members(
    known: ClusterMap, owners: Sequence[str], views: Sequence[View], believed: Sequence[View]
) -> dict[str, ClusterMember]:
    """All members, by id: a believed view knows all of them. Owners that it does not list as primaries are taken from
    the newest view of them, together with their replicas. A member whose line could not be read stays as it was."""
    base, teller = (believed[0].members, believed[0].me) if believed else (known.members, "")
    members = {identity: _settled(known, member, teller) for identity, member in base.items()}
    if believed:
        members |= {identity: known.members[identity] for identity in believed[0].unread if identity in known.members}
    for owner in owners:
        if owner in members and not members[owner].primary:
            continue
        told = [view for view in views if owner in view.members]
        if not told:
            followers = {member.id: member for member in known.replicas(owner) if member.id not in members}
            members |= {**followers, owner: known.members[owner]}
            continue
        source = max(told, key=lambda view: (not view.members[owner].primary, view.members[owner].epoch))
        members |= {
            identity: _settled(known, member, source.me)
            for identity, member in source.members.items()
            if owner in (identity, member.primary)
        }
    return members


def _settled(known: ClusterMap, member: ClusterMember, teller: str) -> ClusterMember:
    """``member`` as the node ``teller`` describes it, with its known address unless it announces a new one: one node
    may give its IP, another its host name. That a replica does not have its primary's data is believed only from the
    replica or the primary, since other nodes may not know yet that it has them."""
    before = known.members.get(member.id)
    if before is None or before.node is None:
        return member
    if before == member:
        return before
    if before.online and before.primary == member.primary and teller not in (member.id, member.primary):
        member = replace(member, online=True)
    (ip, hostname, port), (old_ip, old_hostname, old_port) = member.announced, before.announced
    same = port == old_port and _agree(ip, old_ip) and _agree(hostname, old_hostname)
    if member.node is None or same:
        return replace(member, node=before.node, announced=(ip or old_ip, hostname or old_hostname, port or old_port))
    return member


def _agree(one: str, other: str) -> bool:
    """Whether two values may be the same; "" is an unknown value."""
    return one == other or not one or not other


def _names(known: ClusterMap, owners: Sequence[str], members: Mapping[str, ClusterMember]) -> dict[str, str]:
    """The shards' names by their owners' ids. A shard keeps its name when one of its nodes takes over from another; a
    new shard gets the lowest free number."""
    names: dict[str, str] = {}
    for owner in owners:
        if owner not in known.names:
            left = (old for old, name in known.names.items() if name not in names.values())
            heir_of = next((old for old in left if _takes_over(known, owners, members, old, owner)), None)
            if heir_of is not None:
                names[owner] = known.names[heir_of]
    for owner in owners:
        if owner in known.names and known.names[owner] not in names.values():
            names[owner] = known.names[owner]
    numbers = (number for number in count(1) if f"{_NAME}{number}" not in names.values())
    for owner in owners:
        if owner not in names:
            names[owner] = f"{_NAME}{next(numbers)}"
    return names


def _takes_over(
    known: ClusterMap, owners: Sequence[str], members: Mapping[str, ClusterMember], old: str, new: str
) -> bool:
    """Whether ``new`` belongs to the shard whose owner was ``old``: one follows the other, or has its address.

    A failed primary can stay the owner of a few slots, in the views of nodes to which these were being migrated.
    """
    member = members.get(old)
    if old in owners and not (member is not None and member.failed):
        return False
    before = known.members.get(new)
    if (before is not None and before.primary == old) or (member is not None and member.primary == new):
        return True
    return known.members[old].node == members[new].node


@dataclass(frozen=True, slots=True)
class ClusterShard:
    """A shard with its slots as ascending ranges. ``owner`` is the id of its primary. ``failing`` says that the primary
    may be down and a replica about to take over, ``lacking`` that replicas of it can not be read from yet."""

    shard: Shard
    owner: str
    ranges: tuple[tuple[int, int], ...]
    failing: bool = False
    lacking: bool = False


def seats(known: ClusterMap) -> tuple[ClusterShard, ...]:
    """The shards in the order of the numbers in their names, without owners whose address is unknown.

    If two nodes are said to have the same address, only one is taken: owners and nodes that are not down come first.
    """
    spans: dict[str, list[tuple[int, int]]] = {}
    for first, last, owner, _ in joined([(*segment[:3], 0) for segment in known.chart]):
        spans.setdefault(owner, []).append((first, last))
    taken: set[Node] = set()
    heads: list[ClusterMember] = []
    for head in sorted(
        (known.members[owner] for owner in known.names), key=lambda member: (member.failed, -member.epoch)
    ):
        if head.node is not None and head.node not in taken:
            taken.add(head.node)
            heads.append(head)
    found: list[ClusterShard] = []
    for head in sorted(heads, key=lambda member: int(known.names[member.id].removeprefix(_NAME))):
        assert head.node is not None
        following = [member for member in known.replicas(head.id) if member.node not in taken]
        usable = {member.node for member in following if member.online and not member.failed and member.node}
        taken |= usable
        replicas = tuple(sorted(usable, key=lambda node: (node.host, node.port)))
        shard = Shard(known.names[head.id], head.node, replicas)
        lacking = len(replicas) < len(following)
        found.append(ClusterShard(shard, head.id, tuple(spans[head.id]), head.suspect and bool(following), lacking))
    return tuple(found)


def gaps(seated: Sequence[ClusterShard]) -> list[tuple[int, int]]:
    """The slots that no shard has, as ascending ranges."""
    found = []
    at = 0
    for first, last in sorted(span for seat in seated for span in seat.ranges):
        if first > at:
            found.append((at, first - 1))
        at = last + 1
    if at < SLOTS:
        found.append((at, SLOTS - 1))
    return found


def topology(seated: Sequence[ClusterShard], epoch: int) -> Topology:
    """The snapshot of the shards."""
    return Topology.found([seat.shard for seat in seated], [seat.ranges for seat in seated], cluster=True, epoch=epoch)
